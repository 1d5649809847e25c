"""RECOMP abstractive against transformers itself: input string, tokens, greedy ids, the reader's prompt."""

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
    T5Tokenizer,
)

import ragcompress as rc
from ragcompress.backends.recomp_abstractive import RecompAbstractive, RecompAbstractiveConfig
from ragcompress.backends.recomp_abstractive.model import Summarizer
from ragcompress.backends.recomp_abstractive.reading import SourceBuilder
from ragcompress.sentences import get_splitter
from ragcompress.tokens import private_tokenizer

TEXTS = [
    "The stone bridge over the river is 412 metres long. It was built in 1357.",
    "A ship called Aurora sank in the harbour in 1912. Dr. J. Smith saw it sink. What is it?",
    "Question: Document: Summary: who built the first lighthouse on the island, and when?",
]


def t5_vocabulary():
    """Unigram pieces in the manner of T5: <pad> 0, </s> 1, <unk> 2, the lone space 3."""
    engine = Tokenizer(models.Unigram())
    engine.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=200, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    engine.train_from_iterator(TEXTS * 20, trainer)
    pieces = sorted(engine.get_vocab(), key=engine.get_vocab().get)
    rest = [piece for piece in pieces if piece not in ("<pad>", "</s>", "<unk>", "\u2581")]
    scored = [(piece, -2.0 - 0.01 * place) for place, piece in enumerate(rest)]
    return [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -12.0), *scored]


@pytest.fixture(scope="module")
def tokenizer():
    return T5Tokenizer(vocab=t5_vocabulary(), extra_ids=0)


def old_tokenizer():
    """As an older ``tokenizer.json`` of T5 writes it: no right-strip, so a space at the end is a token of its own."""
    engine = Tokenizer(models.Unigram(t5_vocabulary(), unk_id=2))
    engine.normalizer = normalizers.Sequence([normalizers.Replace("\n", " "), normalizers.Replace("  ", " ")])
    engine.pre_tokenizer = pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="always")
    engine.decoder = decoders.Metaspace()
    engine.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=engine, eos_token="</s>", pad_token="<pad>", unk_token="<unk>")


def t5(tokenizer, seed=0):
    torch.manual_seed(seed)
    config = T5Config(
        vocab_size=len(tokenizer), d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, initializer_factor=1.0,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip
    config.decoder_start_token_id = 0
    config.tie_word_embeddings = False
    # What the published files carry, and what a pipeline would obey.
    config.task_specific_params = {"summarization": {"num_beams": 4, "min_length": 30, "prefix": "summarize: "}}
    return T5ForConditionalGeneration(config).eval()


def builder(tokenizer, **options):
    config = RecompAbstractiveConfig(**options)
    return SourceBuilder(Summarizer(t5(tokenizer), tokenizer).engine, config, get_splitter("punkt"))


def test_a3_line_end_and_space_are_the_same_ids(tokenizer):
    query, document = "who built it?", TEXTS[0]
    ids = tokenizer(f"Question: {query}\n Document: {document}\n Summary: ").input_ids
    assert tokenizer(f"Question: {query} Document: {document} Summary: ").input_ids == ids
    (source,) = builder(tokenizer).build(query, [rc.Document(document)])
    assert source.ids == ids
    assert source.ids[-1] == 1
    # Documents joined by BERGEN's space or FlashRAG's line end: the same again.
    joined = tokenizer(f"Question: {query}\n Document: {TEXTS[0]} {TEXTS[1]}\n Summary: ").input_ids
    (source,) = builder(tokenizer).build(query, [rc.Document(TEXTS[0]), rc.Document(TEXTS[1])])
    assert source.ids == joined


def test_a4_a_space_at_the_end_is_no_token_unless_the_file_says_so(tokenizer):
    text = "Question: a?\n Document: b\n Summary: "
    assert tokenizer(text).input_ids == tokenizer(text.rstrip()).input_ids
    # The one-token difference of older files is theirs to make: we follow the checkpoint's own tokenizer.
    old = old_tokenizer()
    assert old(text).input_ids[-2:] == [3, 1]
    assert old(text.rstrip()).input_ids == [*old(text).input_ids[:-2], 1]
    (source,) = builder(old).build("a?", [rc.Document("b")])
    assert source.ids == old(text).input_ids


def test_a5_the_empty_target_is_the_end_token(tokenizer):
    assert tokenizer("").input_ids == [1]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("batch_tokens", [1, 4096])
def test_a6_greedy_ids_are_those_of_generate(tokenizer, seed, batch_tokens):
    model = t5(tokenizer, seed)
    # An end in reach: some rows end early, others run into the limit.
    with torch.no_grad():
        model.lm_head.weight[1] *= 1.6
    summarizer = Summarizer(model, tokenizer, batch_tokens=batch_tokens)
    rows = [tokenizer(f"Question: who?\n Document: {' '.join(TEXTS[:n])}\n Summary: ").input_ids for n in (3, 1, 2)]
    rows += [tokenizer(text).input_ids for text in TEXTS]
    written = summarizer.write(rows, [23] * len(rows))
    for row, (ids, ended) in zip(rows, written, strict=True):
        expected = model.generate(torch.tensor([row]), num_beams=1, do_sample=False, max_length=24)[0].tolist()
        assert [0, *ids, *([1] if ended else [])] == expected
    streamed = ["".join(summarizer.stream(row, 23)) for row in rows]
    assert streamed == [summarizer.decode(each.ids) for each in written]


def test_other_encoder_decoders_are_read_the_same_way(tokenizer):
    torch.manual_seed(0)
    config = BartConfig(
        vocab_size=len(tokenizer), d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64, max_position_embeddings=128, init_std=0.5,
        pad_token_id=0, eos_token_id=1, bos_token_id=2, decoder_start_token_id=1, forced_eos_token_id=None,
    )  # fmt: skip
    model = BartForConditionalGeneration(config).eval()
    model.generation_config.forced_bos_token_id = 7
    summarizer = Summarizer(model, tokenizer)
    rows = [tokenizer(text).input_ids for text in TEXTS]
    for row, (ids, ended) in zip(rows, summarizer.write(rows, [15] * 3), strict=True):
        expected = model.generate(torch.tensor([row]), num_beams=1, do_sample=False, max_length=16)[0].tolist()
        assert [1, *ids, *([1] if ended else [])] == expected
        assert expected[1] == 7


def test_nothing_of_the_checkpoints_own_generation_gets_in(tokenizer):
    model = t5(tokenizer)
    rows = [tokenizer(text).input_ids for text in TEXTS]
    plain = Summarizer(model, tokenizer).write(rows, [11] * 3)
    model.generation_config.min_length = 30
    model.generation_config.num_beams = 4
    model.generation_config.no_repeat_ngram_size = 1
    assert Summarizer(model, tokenizer).write(rows, [11] * 3) == plain


def test_a10_an_empty_summary_leaves_nothing_for_a_prompt(tokenizer):
    model = t5(tokenizer)
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.lm_head.weight[1] = 0  # every logit is equal ...
    summarizer = Summarizer(model, tokenizer)
    summarizer.end_ids = frozenset({0})  # ... and the first one ends
    compressor = RecompAbstractive(summarizer)
    context = compressor.compress("who built it?", TEXTS)
    assert (context.segments, context.text, context.n_slots) == ((), "", 0)
    assert context.n_tokens > 0
    assert context.by_document() == ()
    assert "".join(compressor.stream("who built it?", TEXTS)) == ""


def test_a_source_beyond_the_limit(tokenizer):
    """The published script cuts the end off with the cue in it; ours cuts the document."""
    query, limit = "who built it?", 48
    documents = [rc.Document(text) for text in TEXTS]
    whole = f"Question: {query}\n Document: {' '.join(TEXTS)}\n Summary: "
    expected = tokenizer(whole, truncation=True, max_length=limit).input_ids
    (published,) = builder(tokenizer, keep_cue=False, max_source_tokens=limit).build(query, documents)
    assert published.ids == expected
    assert len(published.ids) == limit
    (ours,) = builder(tokenizer, max_source_tokens=limit).build(query, documents)
    cue = tokenizer(" Summary: ").input_ids
    assert len(ours.ids) <= limit
    assert ours.ids[-len(cue) :] == cue
    head = ours.ids[: -len(cue) - 1]
    assert head == tokenizer(whole).input_ids[: len(head)]
    for source in (published, ours):
        assert [part.document for part in source.parts] == [0, 1][: len(source.parts)]
        assert source.unread[-1] == 2


@pytest.mark.parametrize("make", [lambda: T5Tokenizer(vocab=t5_vocabulary(), extra_ids=0), old_tokenizer])
def test_special_tokens_written_in_a_document_are_text(make):
    """SentencePiece lists them among its pieces, so that their text would be the token itself."""
    tokenizer = make()
    assert 1 in tokenizer("</s> end").input_ids[:-1]
    plain = private_tokenizer(tokenizer)
    for text in ("</s> end", "a</s>", "<pad>", "</s> is out of reach"):
        ids = plain.encode(text).ids
        assert ids[-1] == 1
        assert not {0, 1} & set(ids[:-1])
    for text in TEXTS:
        assert plain.encode(text).ids == tokenizer(text).input_ids
    (source,) = builder(tokenizer).build("who </s>?", [rc.Document("<pad> built </s> it")])
    assert source.ids.count(1) == 1
    assert 0 not in source.ids
