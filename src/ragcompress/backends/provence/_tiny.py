"""Tiny random models in the three families, for tests without a download."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from ragcompress.backends.provence.model import ProvenceModel

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_WORDS = (
    "the of and in to a is was for on as by with at from it that filler number says little how long who built which"
    " river bridge stone ship moon harbour lighthouse island metres water year city king war first not"
)
# Random states give keep probabilities near one half and scores near zero: these spread both, and drop more than they
# keep.
_SPREAD, _BIAS = 12.0, -6.0


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Build a SentencePiece-like tokenizer over single characters and a few words.

    Returns:
        A fast tokenizer in the manner of DeBERTa-v3.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    characters = [chr(code) for code in range(33, 127)]
    words = [f"▁{form}" for word in _WORDS.split() for form in (word, word.capitalize()) if len(form) > 1]
    vocabulary = [(piece, 0.0) for piece in _SPECIAL]
    vocabulary += [("▁", -4.0), *((character, -6.0) for character in characters), *((word, -8.0) for word in words)]
    engine = Tokenizer(models.Unigram(vocabulary, unk_id=1))
    engine.normalizer = normalizers.Replace(Regex(r"\s+"), " ")
    engine.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    engine.decoder = decoders.Metaspace(prepend_scheme="always")
    names = {f"{token[1:-1].lower()}_token": token for token in _SPECIAL}
    return PreTrainedTokenizerFast(tokenizer_object=engine, model_max_length=512, **names)  # type: ignore[no-untyped-call]  # transformers leaves it without types


def tiny_model(
    n_tokens: int, *, layout: str = "provence", n_outputs: int = 1, seed: int = 0, **options: Any
) -> ProvenceModel:
    """Build a model with random weights; equal arguments give equal weights.

    Args:
        n_tokens: size of the vocabulary.
        layout: ``"provence"``, ``"xprovence"`` or ``"open-provence"``.
        n_outputs: rows of the ranking head's last layer.
        seed: of the weights; the global random state is left alone.
        **options: of the encoder's configuration.

    Returns:
        A model that reads 512 tokens.
    """
    import torch

    from ragcompress.backends.provence._checkpoint import LAYOUTS
    from ragcompress.backends.provence.model import build_config, build_model

    family = LAYOUTS[layout].family
    values: dict[str, Any] = {
        "vocab_size": n_tokens,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 514 if family == "xlm-roberta" else 512,
        "pad_token_id": 0,
        "initializer_range": 0.2,
    }
    if family == "deberta-v2":  # as the released one
        values |= {
            "relative_attention": True,
            "position_buckets": 32,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
            "type_vocab_size": 0,
            "pooler_hidden_size": 32,
            "layer_norm_eps": 1e-7,
        }
    elif family == "modernbert":
        values |= {"bos_token_id": 2, "cls_token_id": 2, "eos_token_id": 3, "sep_token_id": 3}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_model(build_config(family, values | options), n_outputs=n_outputs, layout=layout)
        with torch.no_grad():
            model.ranking_head.output.weight.mul_(_SPREAD)
            model.token_head.weight.mul_(_SPREAD)
            model.token_head.bias.copy_(torch.tensor([0.0, _BIAS]))
    return model
