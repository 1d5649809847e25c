"""Options, titles, ranking, long sentences, loading, and bad input of ``provence``."""

import json
import pickle
import subprocess
import sys
import warnings

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import ragcompress as rc
from ragcompress.backends.provence import KeptSentence, Provence, ProvenceConfig
from ragcompress.backends.provence._tiny import tiny_model, tiny_tokenizer
from ragcompress.backends.provence.rounding import keep_units
from ragcompress.testing import DOCUMENTS, QUERIES, same_context, tiny

PRUNER = Provence.tiny()


def build(layout="provence", **options):
    tokenizer = tiny_tokenizer()
    return Provence(tiny_model(len(tokenizer), layout=layout), tokenizer, ProvenceConfig(**options))


@pytest.fixture
def saved(tmp_path):
    Provence.tiny().save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


def change_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def change_json(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def everything(compressor, documents, **options):
    """All sentences of all documents, whatever the model thinks of them."""
    return compressor.with_options(threshold=0.0, **options).compress(QUERIES[0], documents)


# --- what is kept ---------------------------------------------------------------------------------------------------


def test_a_higher_threshold_keeps_less():
    compressor = Provence.tiny()
    kept = [
        {segment.sources for segment in compressor.with_options(threshold=t).compress(QUERIES[0], DOCUMENTS).segments}
        for t in (0.0, 0.05, 0.1, 1.0)
    ]
    assert kept[0] > kept[1] > kept[2] > kept[3] == set()
    assert len(kept[0]) == 14


def test_scores_are_those_of_the_documents_and_sentences_have_their_own():
    context = everything(Provence.tiny(), DOCUMENTS)
    for part in context.by_document():
        assert len({segment.score for segment in part.segments}) == 1
        assert part.score == part.segments[0].score
    assert len({segment.score for segment in context.segments}) == len(DOCUMENTS)
    assert all(isinstance(segment, KeptSentence) and 0 < segment.keep_probability < 1 for segment in context.segments)
    assert len({segment.keep_probability for segment in context.segments}) > 5
    assert pickle.loads(pickle.dumps(context)) == context


def test_ranking():
    compressor = Provence.tiny()
    scores = [part.score for part in everything(compressor, DOCUMENTS).by_document()]
    best = sorted(range(len(scores)), key=lambda index: -scores[index])
    assert best[:3] != sorted(best[:3])

    def order(**options):
        return [part.documents[0] for part in everything(compressor, DOCUMENTS, **options).by_document()]

    assert order() == [0, 1, 2, 3, 4]
    assert order(reorder=True) == best
    assert order(reorder=True, top_k=3) == best[:3]
    assert order(top_k=3) == sorted(best[:3])
    assert order(top_k=99) == [0, 1, 2, 3, 4]


def test_blank_documents_take_no_place_in_the_ranking():
    context = everything(Provence.tiny(), ["", DOCUMENTS[0], "  \n", DOCUMENTS[2]], top_k=2, reorder=True)
    assert {part.documents[0] for part in context.by_document()} == {1, 3}


def test_min_sentences_keeps_the_best_of_every_document():
    compressor = Provence.tiny().with_options(threshold=1.0, min_sentences=1, rounding="probability-mean")
    context = compressor.compress(QUERIES[0], DOCUMENTS)
    probabilities = {}
    for segment in everything(compressor, DOCUMENTS, min_sentences=0).segments:
        probabilities.setdefault(segment.sources[0].document, []).append((segment.keep_probability, segment.sources))
    assert [segment.sources for segment in context.segments] == [max(own)[1] for own in probabilities.values()]
    assert len(compressor.with_options(min_sentences=3).compress(QUERIES[0], DOCUMENTS[:1]).segments) == 3
    assert compressor.compress(QUERIES[0], ["", " "]).segments == ()


def test_a_title_that_is_given_is_read_but_is_no_span():
    with_title, without = (rc.Document(DOCUMENTS[0].text, title=title) for title in ("The moon", None))
    compressor = Provence.tiny()
    read, plain = (everything(compressor, [document]) for document in (with_title, without))
    assert read.segments[0].score != plain.segments[0].score
    assert [segment.sources for segment in read.segments] == [segment.sources for segment in plain.segments]
    assert read.text == f"The moon\n{DOCUMENTS[0].text}"
    ignoring = everything(compressor, [with_title], titles="ignore")
    assert [segment.score for segment in ignoring.segments] == [segment.score for segment in plain.segments]


def test_a_title_is_written_only_with_something_that_was_kept():
    compressor = Provence.tiny().with_options(threshold=1.0)
    assert compressor.compress(QUERIES[0], DOCUMENTS).text == ""


def test_titles_in_front_of_each_sentence_never_make_a_result_longer():
    document = rc.Document("It is far. It is old. It is big.", title="The moon of the river king")
    compressor = Provence.tiny().with_options(layout={"title": "each"})
    whole = everything(compressor, [document])
    assert len(whole.segments) == 3
    assert whole.text == f"{document.title}\n{document.text}"
    assert compressor.token_counter(whole.text) == whole.n_slots <= whole.n_tokens
    long = rc.Document(DOCUMENTS[0].text, title="A")
    values = sorted({segment.keep_probability for segment in everything(compressor, [long]).segments})
    few = compressor.with_options(rounding="probability-mean", threshold=values[-3]).compress(QUERIES[0], [long])
    assert few.text.count("A\n") == len(few.segments) == 2


def test_what_would_take_more_tokens_than_its_document_is_no_part_of_it(monkeypatch):
    """Unknown characters side by side are one token of this vocabulary, and two with a space between."""
    monkeypatch.setattr(
        "ragcompress.backends.provence.writing.keep_units",
        lambda values, *_a, **_k: [n % 2 == 0 for n in range(len(values))],
    )
    context = Provence.tiny().compress(QUERIES[0], ["好。好。a"])
    assert context.n_slots == context.n_tokens
    assert [(each.text, each.sources) for each in context.segments] == [("好。好。a", (rc.Source(0, 0, 5),))]
    assert isinstance(context.segments[0].score, float)


texts = st.lists(st.sampled_from(["a", " ", "\n", "好。", "é! ", "The river. "]), max_size=8).map("".join)


@settings(max_examples=100)
@given(
    st.lists(st.builds(rc.Document, texts, title=st.none() | texts), min_size=1, max_size=2),
    st.randoms(use_true_random=False),
    st.sampled_from(["original", "decoded"]),
    st.sampled_from(["document", "first_sentence"]),
    st.sampled_from([rc.Layout(), rc.Layout("each"), rc.Layout("never", segment_separator=" * ")]),
)
def test_no_result_is_longer_than_its_documents(documents, random, text_mode, titles, layout):
    compressor = PRUNER.with_options(text_mode=text_mode, titles=titles, layout=layout)

    def any_of_them(values, *_options, **_more):
        return [random.random() < 0.5 for _ in values]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ragcompress.backends.provence.writing.keep_units", any_of_them)
        context = compressor.compress(QUERIES[0], documents)
    assert compressor.token_counter(context.text) == context.n_slots <= context.n_tokens
    assert sum(len(segment.text) for segment in context.segments) <= sum(len(each.text) for each in documents)


def test_the_first_sentence_as_title_is_kept_with_any_other():
    text = " ".join(document.text for document in DOCUMENTS)
    compressor = Provence.tiny().with_options(titles="first_sentence", threshold=0.14)
    plain = compressor.compress(QUERIES[0], [text])
    titled = compressor.with_options(always_keep_title=True).compress(QUERIES[0], [text])
    starts = [segment.sources[0].start for segment in plain.segments]
    assert starts
    assert 0 not in starts
    assert [segment.sources[0].start for segment in titled.segments] == [0, *starts]
    none = compressor.with_options(always_keep_title=True, threshold=1.0)
    assert none.compress(QUERIES[0], [text]).segments == ()


def test_without_a_title_the_first_sentence_is_none():
    compressor = Provence.tiny().with_options(threshold=0.14, always_keep_title=True)
    text = " ".join(document.text for document in DOCUMENTS)
    assert 0 not in [segment.sources[0].start for segment in compressor.compress(QUERIES[0], [text]).segments]


def test_a_decoded_title_is_written_once():
    document = rc.Document("The moon is far.", title="Moon")
    compressor = Provence.tiny().with_options(text_mode="decoded", threshold=0.0)
    assert compressor.compress("moon", [document]).text == "Moon\nThe moon is far."
    spaced = rc.Document("The  moon   is    far.", title="Moon")
    bare = compressor.with_options(layout={"title": "never"})
    assert bare.compress("moon", [spaced]).text == "The moon is far."
    # A later stage writes titles by its own layout.
    later = rc.Pipeline([bare, tiny("recomp-extractive")])
    assert later.compress("moon", [spaced]).text == "Moon\nThe moon is far."


def test_decoding_never_makes_a_text_longer():
    tokenizer = tiny_tokenizer()
    from tokenizers import normalizers

    tokenizer.backend_tokenizer.normalizer = normalizers.NFKC()
    compressor = Provence(tiny_model(len(tokenizer)), tokenizer, ProvenceConfig(text_mode="decoded", threshold=0.0))
    assert compressor._text.decode(compressor._text.ids(["a…"])[0]) == "a..."
    assert compressor.compress("moon", ["a…"]).text == "a…"


# --- long sentences and windows -------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["moon " * 1300, "x" * 1500, "moon\t é " * 400])
def test_pieces_of_a_long_sentence_cover_it(text):
    compressor = build(splitter=lambda given: [(0, len(given))])
    context = everything(compressor, [text])
    assert len(context.segments) > 1
    assert "".join("".join(segment.text.split()) for segment in context.segments) == "".join(text.split())
    previous = 0
    for segment in context.segments:
        (source,) = segment.sources
        assert previous <= source.start < source.end
        previous = source.end


def test_pieces_may_begin_inside_of_a_character():
    from tokenizers import normalizers

    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.NFKC()
    config = ProvenceConfig(splitter="lines", max_length=64, threshold=0.0)
    compressor = Provence(tiny_model(len(tokenizer)), tokenizer, config)
    text = "…" * 100  # three tokens each
    context = compressor.compress("moon", [text])
    assert len(context.segments) > 3
    assert "".join(segment.text for segment in context.segments) == text


def test_a_long_sentence_is_kept_whole_if_one_of_its_pieces_is():
    text = " ".join(["moon"] * 600 + ["the stone bridge over water"] * 100)
    compressor = build(splitter="lines", threshold=0.0, rounding="probability-mean")
    pieces = compressor.compress("moon", [text]).segments
    *_, second, best = sorted(segment.keep_probability for segment in pieces)
    between = compressor.with_options(threshold=(second + best) / 2)
    (kept,) = between.compress("moon", [text]).segments
    assert kept.keep_probability == pytest.approx(best, abs=1e-5)
    whole = between.with_options(long_sentences="whole").compress("moon", [text])
    assert len(whole.segments) == len(pieces) > 1
    assert whole.text == text


def test_saved_pieces_and_titles_in_the_rules():
    units = {"values": [0.0, 0.9, 0.0, 0.2], "sentences": [0, 1, 1, 2], "windows": [0, 0, 1, 1], "limit": 0.5}
    assert keep_units(**units) == [False, True, False, False]
    assert keep_units(**units, whole=True) == [False, True, True, False]
    assert keep_units(**units, least=2) == [False, True, False, True]
    assert keep_units(**units, least=2, whole=True, title="any") == [True] * 4
    apart = [False, True, True, True]  # a title that stands in no text saves nothing and counts for nothing
    assert keep_units([0.9, 0.0, 0.0, 0.0], [0, 1, 1, 2], [0] * 4, 0.5, least=1, written=apart)[1:] != [False] * 3


def test_the_length_of_a_window_is_an_option():
    document = " ".join(DOCUMENTS[index].text for index in (0, 2, 3))
    seen = []
    compressor = build(max_length=64)
    compressor.model.register_forward_pre_hook(lambda module, args: seen.extend(args[1].sum(dim=1).tolist()))
    assert everything(compressor, [document]).segments
    assert len(seen) > 3
    assert max(seen) <= 64


def test_equal_documents_are_read_once():
    seen = []
    compressor = Provence.tiny()
    compressor.model.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    compressor.compress_batch(QUERIES[:2], [[DOCUMENTS[0]] * 5, [DOCUMENTS[0], rc.Document(DOCUMENTS[0].text)]])
    assert sum(seen) == 3


def test_special_tokens_in_documents_are_plain_text():
    seen = []
    compressor = Provence.tiny()
    compressor.model.register_forward_pre_hook(lambda module, args: seen.extend(args[0].tolist()))
    compressor.compress("is [SEP] it", ["The moon [SEP] is [CLS] far. [PAD] And [MASK] so."])
    (row,) = seen
    assert (row.count(compressor._text.sep_id), row.count(compressor._text.cls_id)) == (2, 1)
    assert compressor._text.pad_id not in row
    text = [token for token in row if token not in (compressor._text.sep_id, compressor._text.cls_id)]
    assert compressor._text.decode(text) == "is sep it The moon [SEP] is [CLS] far. [PAD] And [MASK] so."


def test_plain_text_has_the_ids_of_the_published_tokenizer():
    compressor = Provence.tiny()
    for text in [QUERIES[0], *(document.text for document in DOCUMENTS), "Ƒ [ ] [UNK]", " "]:
        (found,) = compressor._text.ids([text])
        assert found == compressor.tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids


# --- questions that leave no room -----------------------------------------------------------------------------------


def test_a_question_that_fills_the_window_lets_the_documents_pass():
    compressor = Provence.tiny().with_options(top_k=1, reorder=True, threshold=1.0)
    documents = [*DOCUMENTS, "  padded \n"]
    with pytest.warns(rc.PassThroughWarning, match=r"300 tokens, and at most 255 leave room"):
        context = compressor.compress("moon " * 300, documents)
    assert [segment.text for segment in context.segments] == [d.text for d in DOCUMENTS] + ["padded"]
    assert {segment.score for segment in context.segments} == {None}
    assert context.n_slots <= context.n_tokens
    assert context.truncated
    assert context.truncated_documents == tuple(range(6))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compressor.compress("moon " * 255, []).segments == ()
        assert not compressor.compress("moon " * 255, documents).truncated


def test_a_question_of_punctuation_alone():
    compressor = Provence.tiny()
    with pytest.warns(rc.PassThroughWarning, match="'\\?!' holds nothing that the model reads"):
        context = compressor.compress("?!", DOCUMENTS)
    assert context.text == "\n\n".join(f"{d.title}\n{d.text}" if d.title else d.text for d in DOCUMENTS)
    assert not context.truncated
    assert compressor.with_options(normalize_query=False).compress("?!", DOCUMENTS).segments[0].score is not None


def test_every_segment_has_a_keep_probability_or_none():
    compressor = Provence.tiny().with_options(threshold=0.0)
    with pytest.warns(rc.PassThroughWarning):
        passed = compressor.compress("?!", DOCUMENTS)
    decoded = compressor.with_options(text_mode="decoded").compress("moon", DOCUMENTS)
    for context in (passed, decoded):
        assert [segment.keep_probability for segment in context.segments] == [None] * len(DOCUMENTS)
        assert all(isinstance(segment, KeptSentence) for segment in context.segments)


def test_one_bad_question_does_not_touch_the_others():
    compressor = Provence.tiny()
    with pytest.warns(rc.PassThroughWarning):
        bad, good = compressor.compress_batch(["?", QUERIES[0]], [DOCUMENTS, DOCUMENTS])
    assert bad.segments[0].score is None
    assert same_context(good, compressor.compress(QUERIES[0], DOCUMENTS))


# --- loading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["provence", "xprovence", "open-provence"])
def test_every_layout_comes_back(tmp_path, layout):
    compressor = build(layout, threshold=0.05, titles="ignore")
    compressor.save_pretrained(tmp_path / "saved")
    loaded = rc.load("provence", tmp_path / "saved", device="cpu")
    assert loaded.config == compressor.config
    assert loaded.max_length == 512
    for query in QUERIES:
        assert same_context(loaded.compress(query, DOCUMENTS), compressor.compress(query, DOCUMENTS))
    again = rc.load("provence", tmp_path / "saved", device="cpu", top_k=2)
    assert again.spec.options == {"device": "cpu", "top_k": 2}
    assert (again.config.top_k, again.config.threshold) == (2, 0.05)


@pytest.mark.parametrize(
    ("layout", "options"),
    [
        ("provence", {}),
        ("xprovence", {"threshold": 0.3}),
        ("open-provence", {"rounding": "probability-mean", "score_window": "best", "normalize_query": False}),
    ],
)
def test_without_options_of_ours_a_checkpoint_is_read_as_it_was_published(tmp_path, layout, options):
    build(layout, threshold=0.7).save_pretrained(tmp_path / "saved")
    (tmp_path / "saved" / "ragcompress.json").unlink()
    assert rc.load("provence", tmp_path / "saved", device="cpu").config == ProvenceConfig(**options)


def test_the_published_configuration_is_read_as_it_is(saved):
    """With the fields that point at code, without those that newer versions add."""
    declared = json.loads((saved / "config.json").read_text())
    assert (declared["model_type"], declared["architectures"]) == ("Provence", ["Provence"])
    known = (
        "architectures", "model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
        "max_position_embeddings", "position_buckets", "relative_attention", "share_att_key", "pos_att_type",
        "norm_rel_ebd", "position_biased_input", "type_vocab_size", "vocab_size", "layer_norm_eps", "pooler_hidden_size",
    )  # fmt: skip
    published = {name: declared[name] for name in known} | {
        "auto_map": {"AutoModel": "modeling_provence.Provence"},
        "torch_dtype": "float32",
        "id2label": {"0": "LABEL_0"},
        "pooler_hidden_act": "gelu",
    }
    (saved / "config.json").write_text(json.dumps(published))
    (saved / "modeling_provence.py").write_text("raise SystemExit('code of a checkpoint was run')\n")
    loaded = rc.load("provence", saved, device="cpu")
    assert same_context(loaded.compress(QUERIES[0], DOCUMENTS), Provence.tiny().compress(QUERIES[0], DOCUMENTS))


@pytest.mark.parametrize("layout", ["provence", "xprovence", "open-provence"])
@pytest.mark.parametrize(
    "asked",
    [
        {"attn_implementation": "owner/kernel"},
        {"_attn_implementation": "owner/kernel"},
        {"_attn_implementation_internal": "owner/kernel"},
        {"experts_implementation": "owner/kernel"},
        {"_experts_implementation": "owner/kernel"},
        {"attn_implementation": "flash_attention_2"},
        {"quantization_config": {"quant_method": "gptq", "bits": 4}},
        {"return_dict": False},
        {"use_return_dict": False},
        {"output_attentions": True},
        {"output_hidden_states": True},
        {"is_decoder": True, "add_cross_attention": True},
        {"chunk_size_feed_forward": 7},
        {"auto_map": {"AutoModel": "owner/code--modeling.Model"}},
    ],
)
def test_fields_that_say_how_to_load_or_run_are_ignored(tmp_path, monkeypatch, layout, asked):
    import transformers

    from ragcompress.backends.provence._checkpoint import LAYOUTS
    from ragcompress.backends.provence.model import FAMILIES

    compressor = build(layout, threshold=0.05)
    compressor.save_pretrained(tmp_path / "saved")
    path = tmp_path / "saved" / "config.json"
    declared = json.loads(path.read_text()) | asked
    if LAYOUTS[layout].nested is not None:
        declared[LAYOUTS[layout].nested] |= asked
    path.write_text(json.dumps(declared))
    seen = []
    config_class = getattr(transformers, FAMILIES[LAYOUTS[layout].family].config_class)
    monkeypatch.setattr(
        transformers, config_class.__name__, lambda **fields: seen.append(fields) or config_class(**fields)
    )
    loaded = rc.load("provence", tmp_path / "saved", device="cpu")
    (fields,) = seen
    assert fields
    assert not asked.keys() & fields.keys()
    assert same_context(loaded.compress(QUERIES[0], DOCUMENTS), compressor.compress(QUERIES[0], DOCUMENTS))


@pytest.mark.parametrize(
    ("layout", "changed"),
    [
        ("provence", {"position_buckets": 16}),
        ("provence", {"hidden_act": "relu", "layer_norm_eps": 0.5, "share_att_key": False}),
        ("xprovence", {"hidden_act": "relu", "layer_norm_eps": 0.5}),
        ("open-provence", {"classifier_pooling": "mean", "norm_eps": 0.5, "local_attention": 4}),
    ],
)
def test_fields_that_say_what_the_encoder_is_are_read(tmp_path, layout, changed):
    tokenizer = tiny_tokenizer()
    compressor = Provence(tiny_model(len(tokenizer), layout=layout, **changed), tokenizer)
    compressor.save_pretrained(tmp_path / "saved")
    config = rc.load("provence", tmp_path / "saved", device="cpu").model.backbone.config
    of_loading = dict.fromkeys(("dtype", "_name_or_path"))
    assert config.to_dict() | of_loading == compressor.model.backbone.config.to_dict() | of_loading
    assert {name: getattr(config, name) for name in changed} == changed


def test_pickled_and_sharded_weights(saved):
    expected = Provence.tiny().compress(QUERIES[0], DOCUMENTS)
    weights = load_file(saved / "model.safetensors")
    (saved / "model.safetensors").unlink()
    torch.save(weights, saved / "pytorch_model.bin")
    assert same_context(rc.load("provence", saved, device="cpu").compress(QUERIES[0], DOCUMENTS), expected)
    (saved / "pytorch_model.bin").unlink()
    names = sorted(weights)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, own in shards.items():
        save_file({name: weights[name] for name in own}, saved / file)
    index = {"weight_map": {name: file for file, own in shards.items() for name in own}}
    (saved / "model.safetensors.index.json").write_text(json.dumps(index))
    assert same_context(rc.load("provence", saved, device="cpu").compress(QUERIES[0], DOCUMENTS), expected)


def test_a_pickle_with_code_is_not_run(saved):
    class Code:
        def __reduce__(self):
            return (exec, ("raise SystemExit('code of a checkpoint was run')",))

    (saved / "model.safetensors").unlink()
    (saved / "pytorch_model.bin").write_bytes(pickle.dumps(Code()))
    with pytest.raises(rc.CheckpointError, match=r"pytorch_model\.bin cannot be read"):
        rc.load("provence", saved, device="cpu")


def test_buffers_of_older_versions_are_no_surplus(saved):
    change_weights(saved, lambda weights: weights.update({"deberta.embeddings.position_ids": torch.arange(512)}))
    assert rc.load("provence", saved, device="cpu").compress(QUERIES[0], DOCUMENTS).segments


def test_the_tokenizer_is_read_exactly_as_it_was_published(saved):
    """AutoTokenizer builds DeBERTa's pipeline anew; the file's own one is what the weights were trained with."""
    change_json(saved / "tokenizer_config.json", tokenizer_class="DebertaV2Tokenizer")
    loaded = rc.load("provence", saved, device="cpu")
    assert loaded.tokenizer.backend_tokenizer.to_str() == tiny_tokenizer().backend_tokenizer.to_str()


def test_special_tokens_as_older_files_name_them(saved):
    declared = json.loads((saved / "tokenizer_config.json").read_text())
    rest = {name: value for name, value in declared.items() if not name.endswith("_token")}
    (saved / "tokenizer_config.json").write_text(json.dumps(rest))
    named = {name: {"content": value, "lstrip": False} for name, value in declared.items() if name.endswith("_token")}
    (saved / "special_tokens_map.json").write_text(json.dumps(named))
    loaded = rc.load("provence", saved, device="cpu")
    assert (loaded._text.cls_id, loaded._text.sep_id, loaded._text.pad_id) == (2, 3, 0)


def test_the_window_that_the_files_ask_for(saved):
    change_json(saved / "tokenizer_config.json", model_max_length=100)
    assert rc.load("provence", saved, device="cpu").max_length == 100
    assert rc.load("provence", saved, device="cpu", preset="upstream").max_length == 100
    assert rc.load("provence", saved, device="cpu", max_length=200).max_length == 200
    change_json(saved / "tokenizer_config.json", model_max_length=10**30)
    assert rc.load("provence", saved, device="cpu").max_length == 512


def test_half_precision(saved):
    loaded = rc.load("provence", saved, device="cpu", dtype="bfloat16")
    assert loaded.model.token_head.weight.dtype == torch.bfloat16
    (full, half) = (everything(each, DOCUMENTS) for each in (Provence.tiny(), loaded))
    for ours, other in zip(full.segments, half.segments, strict=True):
        assert ours.keep_probability == pytest.approx(other.keep_probability, abs=0.1)


def test_presets_leave_nothing_of_what_was_before(saved):
    for preset in ProvenceConfig.PRESETS:
        fresh = rc.load("provence", saved, device="cpu", preset=preset)
        changed = rc.load("provence", saved, device="cpu", top_k=3, threshold=0.4).with_options(preset=preset)
        assert changed.config == fresh.config
        assert changed.spec == fresh.spec


@pytest.mark.parametrize(
    ("layout", "preset", "options"),
    [
        ("xprovence", "prob-mean", {"threshold": 0.3, "rounding": "probability-mean"}),
        ("xprovence", "upstream", {"threshold": 0.3, "rounding": "binary-mean", "text_mode": "decoded"}),
        ("open-provence", "prob-mean", {"score_window": "best", "normalize_query": False}),
        ("open-provence", "upstream", {"score_window": "best", "normalize_query": False, "splitter": "punkt-plain"}),
    ],
)
def test_presets_lie_over_what_the_family_was_published_with(tmp_path, layout, preset, options):
    build(layout, threshold=0.7, top_k=3).save_pretrained(tmp_path / "saved")
    loaded = rc.load("provence", tmp_path / "saved", device="cpu", preset=preset, min_sentences=1)
    changed = rc.load("provence", tmp_path / "saved", device="cpu").with_options(preset=preset, min_sentences=1)
    assert loaded.config == changed.config
    assert loaded.spec == changed.spec
    expected = options | {"top_k": None, "min_sentences": 1}
    assert {name: getattr(loaded.config, name) for name in expected} == expected
    assert changed.with_options(preset=preset, threshold=0.2).config.threshold == 0.2
    assert changed.with_options(preset=preset, max_length=64).max_length == 64


def test_importing_the_backend_does_not_import_torch():
    code = (
        "import sys, ragcompress as rc; rc.find('provence').check_options(preset='upstream');"
        "sys.exit(', '.join({'torch', 'transformers', 'tokenizers', 'numpy'} & set(sys.modules)) or None)"
    )
    run = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("removed", "words"),
    [
        ("token_classifier", ["token head", "token_classifier.bias", "token_classifier.weight"]),
        ("classifier", ["ranking head", "classifier.bias", "pooler.dense.weight"]),
    ],
)
def test_a_checkpoint_without_one_of_the_heads(saved, removed, words):
    heads = ("pooler.", "classifier.") if removed == "classifier" else ("token_classifier.",)

    def remove(weights):
        for name in [name for name in weights if name.startswith(heads)]:
            del weights[name]

    change_weights(saved, remove)
    with pytest.raises(rc.CheckpointError) as error:
        rc.load("provence", saved, device="cpu")
    for word in [*words, str(saved)]:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: w.pop("deberta.encoder.layer.1.attention.self.key_proj.weight"), ["lack", "layer.1.attention.self"]),
        (lambda w: w.pop("token_classifier.bias"), ["lack", "token_classifier.bias"]),
        (lambda w: w.update({"deberta.pooler.weight": torch.zeros(2)}), ["beyond", "deberta.pooler.weight"]),
        (lambda w: w.update({"pooler.dense.bias": torch.zeros(7)}), ["shapes", "pooler.dense.bias", "(7,)", "(32,)"]),
        (lambda w: w.update({"token_classifier.weight": torch.zeros(3, 32)}), ["token_classifier.weight", "(3, 32)"]),
    ],
)
def test_missing_surplus_and_misshapen_weights(saved, change, words):
    change_weights(saved, change)
    with pytest.raises(rc.CheckpointError) as error:
        rc.load("provence", saved, device="cpu")
    for word in words:
        assert word in str(error.value)


def test_a_language_model_is_no_provence(tmp_path):
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=99, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "llama")
    tiny_tokenizer().save_pretrained(tmp_path / "llama")
    with pytest.raises(rc.CheckpointError, match=r"no Provence: the model is LlamaForCausalLM.*two heads"):
        rc.load("provence", tmp_path / "llama", device="cpu")


def test_a_cross_encoder_has_no_token_head(tmp_path):
    from transformers import XLMRobertaConfig, XLMRobertaForSequenceClassification

    config = XLMRobertaConfig(
        vocab_size=99, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, num_labels=1
    )
    XLMRobertaForSequenceClassification(config).save_pretrained(tmp_path / "reranker")
    tiny_tokenizer().save_pretrained(tmp_path / "reranker")
    with pytest.raises(rc.CheckpointError, match=r"no token head.*token_classifier\.weight"):
        rc.load("provence", tmp_path / "reranker", device="cpu")


def test_no_default_checkpoint():
    with pytest.raises(rc.CheckpointError, match="non-commercial"):
        rc.load("provence")


@pytest.mark.parametrize(
    ("file", "content", "word"),
    [
        ("config.json", "[]", "list"),
        ("config.json", "{", "JSON"),
        ("config.json", '{"model_type": "Provence", "hidden_size": "wide"}', "deberta-v2"),
        ("tokenizer.json", "{}", "tokenizer.json"),
        ("special_tokens_map.json", "[1]", "special_tokens_map.json holds list"),
        ("tokenizer_config.json", "7", "tokenizer_config.json holds int"),
        ("model.safetensors.index.json", '{"weight_map": {"a": ["x"]}}', r"\['x'\] as a file"),
        ("model.safetensors.index.json", '{"weight_map": {"a": 5, "b": "x"}}', "5 as a file"),
        ("ragcompress.json", '{"config": {"threshold": 7}}', "ragcompress.json"),
        ("ragcompress.json", "[]", "ragcompress.json"),
        ("model.safetensors", "nothing", "model.safetensors"),
        ("model.safetensors.index.json", "{}", "which file holds"),
        ("model.safetensors.index.json", '{"weight_map": {"a": "../missing.safetensors"}}', "missing.safetensors"),
    ],
)
def test_broken_files(saved, file, content, word):
    (saved / file).write_text(content)
    with pytest.raises(rc.CheckpointError, match=word):
        rc.load("provence", saved, device="cpu")


@pytest.mark.parametrize("length", [0, -5, 4, 15, 20.5, float("inf"), float("nan"), "512", True, [512]])
@pytest.mark.parametrize(
    ("file", "name"), [("config.json", "max_length"), ("tokenizer_config.json", "model_max_length")]
)
def test_lengths_that_no_window_has(tmp_path, file, name, length):
    build("open-provence").save_pretrained(tmp_path / "saved")
    change_json(tmp_path / "saved" / file, **{name: length})
    with pytest.raises(rc.CheckpointError, match=rf"{file} has {name} .*at least 16") as error:
        rc.load("provence", tmp_path / "saved", device="cpu")
    assert repr(length) in str(error.value)


def test_an_encoder_with_too_few_positions(tmp_path):
    tokenizer = tiny_tokenizer()
    Provence(tiny_model(len(tokenizer), max_position_embeddings=16), tokenizer).save_pretrained(tmp_path / "least")
    assert rc.load("provence", tmp_path / "least", device="cpu").max_length == 16
    change_json(tmp_path / "least" / "config.json", max_position_embeddings=15)
    with pytest.raises(rc.CheckpointError, match=r"max_position_embeddings.* 15; expected.*at least 16"):
        rc.load("provence", tmp_path / "least", device="cpu")


@pytest.mark.parametrize(
    ("token", "words"),
    [
        ({"a": 1}, ["{'a': 1}", "'content'"]),
        ({"content": 3}, ["{'content': 3}"]),
        (["x"], ["['x']", "a string"]),
        (7, ["7", "a string"]),
        ("[NOPE]", ["'[NOPE]'", "the encoder embeds"]),
    ],
)
@pytest.mark.parametrize("name", ["cls_token", "sep_token", "pad_token"])
def test_special_tokens_that_are_none(saved, name, token, words):
    change_json(saved / "tokenizer_config.json", **{name: token})
    with pytest.raises(rc.CheckpointError) as error:
        rc.load("provence", saved, device="cpu")
    for word in [name, str(saved), *words]:
        assert word in str(error.value)


def test_a_tokenizer_with_more_pieces_than_the_encoder_embeds(tmp_path):
    tokenizer = tiny_tokenizer()
    n_pieces = len(tokenizer)
    Provence(tiny_model(n_pieces - 1), tokenizer).save_pretrained(tmp_path / "saved")
    with pytest.raises(rc.CheckpointError, match=f"{n_pieces} pieces, but the encoder embeds {n_pieces - 1}"):
        rc.load("provence", tmp_path / "saved", device="cpu")


@pytest.mark.parametrize("queries", [None, 5, "ab", rc.Document("x")])
def test_queries_that_are_no_list(queries):
    with pytest.raises(rc.InputTypeError, match="expects a list of queries"):
        Provence.tiny().compress_batch(queries, [[], []])


def test_open_provence_without_its_encoders_configuration(tmp_path):
    build("open-provence").save_pretrained(tmp_path / "saved")
    (tmp_path / "saved" / "config.json").write_text('{"model_type": "open_provence"}')
    with pytest.raises(rc.CheckpointError, match="base_model_config"):
        rc.load("provence", tmp_path / "saved", device="cpu")


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json"])
def test_missing_files(saved, file):
    (saved / file).unlink()
    with pytest.raises(rc.CheckpointError, match=file.replace(".", r"\.")):
        rc.load("provence", saved, device="cpu")


def test_a_slow_tokenizer():
    class Slow:
        cls_token_id, sep_token_id, pad_token_id = 2, 3, 0

    with pytest.raises(rc.OptionError, match="Slow is not a fast tokenizer"):
        Provence(tiny_model(99), Slow())


def test_a_tokenizer_without_separators():
    tokenizer = tiny_tokenizer()
    tokenizer.sep_token = tokenizer.pad_token = None
    with pytest.raises(rc.OptionError, match="no sep and no pad token"):
        Provence(tiny_model(len(tokenizer)), tokenizer)


def test_a_model_of_the_wrong_kind():
    with pytest.raises(rc.OptionError, match=r"ProvenceModel, got int.*ragcompress\.load"):
        Provence(3, tiny_tokenizer())


def test_an_encoder_of_another_family():
    from transformers import BertConfig

    from ragcompress.backends.provence.model import build_model

    with pytest.raises(rc.OptionError, match="not on 'bert'"):
        build_model(BertConfig(), n_outputs=1, layout="provence")


@pytest.mark.parametrize("part", ["score", "keep"])
def test_numbers_that_are_not_finite(part):
    compressor = Provence.tiny()
    head = compressor.model.ranking_head.output if part == "score" else compressor.model.token_head
    with torch.no_grad():
        head.bias.fill_(float("inf"))
    with pytest.raises(rc.InputError, match=r"not finite.*float32"):
        compressor.compress("moon", DOCUMENTS)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"threshold": 1.5}, ["threshold", "at most 1", "1.5"]),
        ({"threshold": -0.1}, ["threshold", "at least 0"]),
        ({"threshold": float("nan")}, ["threshold", "nan"]),
        ({"threshold": None}, ["threshold", "None"]),
        ({"threshold": "0.1"}, ["threshold", "'0.1'"]),
        ({"top_k": 0}, ["top_k", "at least 1"]),
        ({"top_k": 2.5}, ["top_k", "whole number"]),
        ({"min_sentences": -1}, ["min_sentences"]),
        ({"rounding": "mean"}, ["'mean'", "'binary-mean'"]),
        ({"titles": "prefix"}, ["'prefix'", "'first_sentence'"]),
        ({"title_window": "last"}, ["title_window", "'last'"]),
        ({"score_window": "last"}, ["score_window", "'last'"]),
        ({"long_sentences": "cut"}, ["long_sentences", "'cut'"]),
        ({"text_mode": "raw"}, ["text_mode", "'raw'"]),
        ({"reorder": "yes"}, ["reorder", "'yes'"]),
        ({"always_keep_title": 1}, ["always_keep_title"]),
        ({"normalize_query": None}, ["normalize_query"]),
        ({"max_length": 5}, ["max_length", "at least 16"]),
        ({"max_length": 513}, ["max_length=513", "512"]),
        ({"splitter": "punk"}, ["'punk'", "'punkt'"]),
        ({"token_counter": "wrods"}, ["'wrods'", "'words'"]),
        ({"layout": 5}, ["layout", "int"]),
        ({"preset": "upstreem"}, ["'upstreem'", "'upstream'"]),
        ({"treshold": 0.1}, ["'treshold'", "closest first: 'threshold'"]),
        ({"batch_tokens": 0}, ["batch_tokens"]),
        ({"dtype": "float33"}, ["dtype", "'float33'"]),
        ({"device": "gpu"}, ["device", "'gpu'"]),
    ],
)
def test_bad_options(saved, options, words):
    with pytest.raises(rc.OptionError) as error:
        rc.load("provence", saved, **({"device": "cpu"} | options))
    for word in words:
        assert word in str(error.value)


def test_options_go_through_json_and_numpy(saved, tmp_path):
    config = ProvenceConfig(threshold=numpy.float32(0.5), top_k=numpy.int64(2))
    assert json.loads(json.dumps(config.as_json()))["top_k"] == 2
    assert ProvenceConfig(**config.as_json()) == config
    with pytest.raises(rc.OptionError, match="splitter is an object"):
        build(splitter=lambda text: [(0, len(text))]).save_pretrained(tmp_path / "other")
    assert not (tmp_path / "other").exists()
