"""Small parts for tests without a download: a tokenizer whose vocabulary is made up here."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_WORDS = (
    "the of and in to a is was for on as by with at from it that an be are this which or were also first one has"
    " river bridge city year named born built won team film king war bank water moon engine ship music island"
)


def tiny_tokenizer(max_length: int = 512) -> PreTrainedTokenizerFast:
    """Build a WordPiece tokenizer over single characters and a few words.

    Args:
        max_length: its length limit, in tokens.

    Returns:
        A fast tokenizer in the manner of BERT: lower case, [CLS] text [SEP].
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    characters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *characters,
        *(f"##{character}" for character in characters),
    ]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys([*pieces, *_WORDS.split()]))}
    engine = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    engine.normalizer = normalizers.BertNormalizer(lowercase=True)
    engine.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    engine.decoder = decoders.WordPiece()
    engine.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers leaves it without types
        tokenizer_object=engine,
        model_max_length=max_length,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )
