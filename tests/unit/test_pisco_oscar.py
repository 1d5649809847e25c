"""PISCO and OSCAR as compressors: chunks and spans, what is kept, what the store saves, presets."""

import itertools

import pytest
import torch

import ragcompress as rc
from ragcompress.adapter import SHARED_STORE, Adapter
from ragcompress.backends.oscar import Oscar, OscarConfig
from ragcompress.backends.pisco import Pisco, PiscoConfig
from ragcompress.latent.memory_rows import chunk_bounds, chunk_vectors
from ragcompress.latent.tiny import tiny_oscar
from ragcompress.prompts import PISCO
from ragcompress.reader_adapter import ReaderAdapter
from ragcompress.testing import DOCUMENTS, QUERIES, tiny
from tests.parity.latent import GOLDENS, tensors, texts

LONG = " ".join(f"Sentence {index} tells of a bridge over the river." for index in range(40))


@pytest.fixture
def pisco():
    compressor = tiny("pisco")
    compressor.store = rc.InMemoryStore()
    return compressor


class Counted:
    """Counts what goes through the encoder."""

    def __init__(self, compressor, monkeypatch):
        self.rows = 0
        encode = compressor.model.encoder.encode

        def counting(rows, **more):
            self.rows += len(rows)
            return encode(rows, **more)

        monkeypatch.setattr(compressor.model.encoder, "encode", counting)


# --- chunks ---


def test_a_long_document_becomes_chunks_with_their_spans(pisco):
    context = pisco.compress("Why?", [rc.Document(LONG, title="Bridges")])
    assert len(context.segments) > 2
    assert not context.truncated
    places = [(segment.sources[0].start, segment.sources[0].end) for segment in context.segments]
    assert places == sorted(places)
    assert (places[0][0], places[-1][1]) == (0, len(LONG))
    for (_, end), (start, _) in itertools.pairwise(places):
        assert LONG[end:start] == " "
        assert LONG[end - 1] == "."
    key = pisco.memory_key(rc.Document(LONG, title="Bridges"))
    assert [segment.key for segment in context.segments] == [f"{key}.{index}" for index in range(len(places))]
    # Each handle leads to its own chunk's vectors.
    (memory,) = pisco.store.get([key], space=pisco.space)
    assert len(chunk_bounds(memory)) == len(places)
    for index, segment in enumerate(context.segments):
        assert torch.equal(chunk_vectors(memory, index), segment.vectors)
    handles = "".join(segment.handle for segment in context.segments)
    assert pisco.reader().complete(handles, max_new_tokens=3)


def test_each_chunk_is_what_its_text_alone_gives(pisco):
    context = pisco.compress("Why?", [LONG])
    for segment in context.segments:
        start, end = segment.sources[0].start, segment.sources[0].end
        alone = pisco.compress("Why?", [LONG[start:end]])
        assert torch.allclose(alone.segments[0].vectors, segment.vectors, atol=1e-5)


def test_truncating_reads_the_first_chunk_and_says_so(pisco):
    context = pisco.with_options(on_long="truncate").compress("Why?", [LONG, DOCUMENTS[0]])
    assert len(context.segments) == 2
    assert context.truncated
    assert not pisco.compress("Why?", [LONG]).truncated


def test_what_a_chunk_could_not_read_is_read_by_the_next(pisco, monkeypatch):
    """Sentences that are longer together than one by one: nothing may be lost."""
    from ragcompress.latent import chunks

    monkeypatch.setattr(chunks, "chunk_spans", lambda text, *_: [(0, len(text))])
    context = pisco.compress("Why?", [LONG])
    assert not context.truncated
    assert len(context.segments) > 2
    assert context.segments[-1].sources[0].end == len(LONG)


def test_titles(pisco):
    untitled, titled = rc.Document(DOCUMENTS[0].text), rc.Document(DOCUMENTS[0].text, title="A city")
    first, second = (pisco.compress("Why?", [each]).segments[0].vectors for each in (untitled, titled))
    assert not torch.allclose(first, second)
    ignoring = pisco.with_options(titles="ignore")
    first, second = (ignoring.compress("Why?", [each]).segments[0].vectors for each in (untitled, titled))
    assert torch.equal(first, second)
    joined = ignoring.compress("Why?", [f"A city\n{DOCUMENTS[0].text}"]).segments[0].vectors
    assert torch.allclose(joined, pisco.compress("Why?", [titled]).segments[0].vectors, atol=1e-5)
    endless = pisco.compress("Why?", [rc.Document(LONG, title="bridge " * 300)])
    assert endless.segments  # a title that fills the window leaves the text to be read all the same
    assert endless.segments[-1].sources[0].end == len(LONG) or endless.truncated


def test_short_and_blank_documents(pisco):
    documents = ["the moon", " \n", DOCUMENTS[0]]
    context = pisco.compress("Why?", documents)
    kinds = [type(segment) for segment in context.segments]
    assert kinds == [rc.TextSegment, rc.MemorySegment]
    assert context.segments[0].text == "the moon"
    published = pisco.with_options(short_documents="memory").compress("Why?", documents)
    assert [segment.n_slots for segment in published.segments] == [8, 8, 8]
    assert published.segments[1].sources == (rc.Source(1, 0, 2),)


def test_an_empty_document_as_published(pisco):
    context = pisco.with_options(preset="upstream").compress("Why?", [""])
    assert context.segments[0].sources == (rc.Source(0),)
    assert context.segments[0].n_slots == 8


# --- what is kept ---


def test_pisco_keeps_all_or_the_first_documents(pisco):
    assert {segment.sources[0].document for segment in pisco.compress("Why?", DOCUMENTS).segments} == {0, 1, 2, 3, 4}
    context = pisco.with_options(top_k=2).compress("Why?", DOCUMENTS)
    assert {segment.sources[0].document for segment in context.segments} == {0, 1}
    assert len(context.document_tokens) == 5
    assert all(segment.score is None for segment in context.segments)


def test_pisco_does_not_look_at_the_question(pisco):
    first, second = (pisco.compress(query, DOCUMENTS) for query in ("Why?", ""))
    assert first.segments == second.segments


def test_oscar_looks_at_the_question_and_scores():
    oscar = tiny("oscar")
    first, second = (oscar.compress(query, DOCUMENTS) for query in QUERIES[:2])
    assert first.segments != second.segments
    scores = [segment.score for segment in first.segments]
    assert len(set(scores)) == len(scores)
    best = sorted(range(5), key=lambda index: -scores[index])
    ranked = oscar.with_options(top_k=2, order="score").compress(QUERIES[0], DOCUMENTS)
    assert [segment.sources[0].document for segment in ranked.segments] == best[:2]
    in_order = oscar.with_options(top_k=2).compress(QUERIES[0], DOCUMENTS)
    assert [segment.sources[0].document for segment in in_order.segments] == sorted(best[:2])


def test_a_document_is_as_relevant_as_its_best_chunk():
    oscar = tiny("oscar")
    documents = [LONG, *(document.text for document in DOCUMENTS)]
    whole = oscar.compress("Why?", documents)
    best = {}
    for segment in whole.segments:
        index = segment.sources[0].document
        best[index] = max(best.get(index, -1e9), segment.score)
    winner = max(best, key=best.get)
    kept = oscar.with_options(top_k=1).compress("Why?", documents)
    assert {segment.sources[0].document for segment in kept.segments} == {winner}
    assert [part.score for part in kept.by_document()] == [best[winner]]


def test_oscar_reads_all_pairs_of_a_batch_together(monkeypatch):
    oscar = tiny("oscar")
    calls = []
    encode = oscar.model.encoder.encode
    monkeypatch.setattr(
        oscar.model.encoder, "encode", lambda rows, **more: calls.append(len(rows)) or encode(rows, **more)
    )
    oscar.compress_batch(list(QUERIES), [DOCUMENTS] * 4)
    assert calls == [20]


def test_without_a_reranking_head_there_is_nothing_to_rank_by():
    plain = Oscar(tiny_oscar(score_head=False))
    assert all(segment.score is None for segment in plain.compress("Why?", DOCUMENTS).segments)
    for options, wish in (({"top_k": 2}, "top_k=2"), ({"order": "score"}, "order='score'")):
        with pytest.raises(rc.OptionError, match=f"{wish} needs scores, but this checkpoint has no reranking head"):
            plain.with_options(**options)
        with pytest.raises(rc.OptionError, match="no reranking head"):
            rc.load("oscar", GOLDENS / "oscar-v1-tiny", device="cpu", **options)


def test_a_question_that_is_too_long_is_named():
    with pytest.raises(rc.InputError, match="leaves no room for a document"):
        tiny("oscar").compress("why " * 300, DOCUMENTS)


# --- the store ---


def test_documents_are_encoded_once(pisco, monkeypatch):
    counted = Counted(pisco, monkeypatch)
    pisco.compress("Why?", DOCUMENTS)
    assert counted.rows == 5
    pisco.compress("Other question?", [*DOCUMENTS[::-1], DOCUMENTS[0]])
    assert counted.rows == 5
    pisco.with_options(top_k=1, question="spaced").compress("Why?", DOCUMENTS)  # changes no vector
    assert counted.rows == 5
    pisco.with_options(titles="ignore").compress("Why?", DOCUMENTS)
    assert counted.rows == 10


@pytest.mark.parametrize("options", [
    {"titles": "ignore"}, {"on_long": "truncate"}, {"max_length": 64}, {"short_documents": "memory"}, {"splitter": "lines"},
])  # fmt: skip
def test_everything_that_changes_a_vector_changes_the_key(pisco, options):
    other = pisco.with_options(**options)
    assert other.memory_key(DOCUMENTS[0]) != pisco.memory_key(DOCUMENTS[0])
    assert other.space == pisco.space


def test_another_number_format_is_another_key_of_the_same_space():
    whole, half = (
        rc.load("pisco", GOLDENS / "pisco-v1-tiny", device="cpu", dtype=dtype) for dtype in ("float32", "bfloat16")
    )
    assert whole.space == half.space
    assert whole.memory_key(DOCUMENTS[0]) != half.memory_key(DOCUMENTS[0])
    context = half.compress("Why?", DOCUMENTS)
    assert whole.reader().answer([context], max_new_tokens=2)  # the reader takes either


def test_a_store_of_another_checkpoint_is_refused(pisco):
    store = rc.InMemoryStore()
    key = pisco.memory_key(DOCUMENTS[0])
    store.put({key: rc.Memory(torch.zeros(8, 32), 3, "other@1")})
    pisco.store = store
    with pytest.raises(rc.SpaceMismatchError, match=r"other@1.*pisco-v1-tiny@"):
        pisco.compress("Why?", DOCUMENTS)


def test_vectors_that_are_not_finite_never_reach_the_store(pisco, monkeypatch):
    encode = pisco.model.encoder.encode

    def broken(rows, **more):
        found = encode(rows, **more)
        found.memories[0][0, 0] = float("nan")
        return found

    monkeypatch.setattr(pisco.model.encoder, "encode", broken)
    with pytest.raises(rc.InputError, match="NaN"):
        pisco.compress("Why?", DOCUMENTS)
    assert len(pisco.store) == 0


def test_a_persistent_store_serves_another_process_s_reader(tmp_path, pisco):
    pisco.store = rc.LanceDBStore(tmp_path / "memories")
    context = pisco.compress("Why?", [LONG, *DOCUMENTS])
    handles = "\n".join(part.text for part in context.by_document() if "<|rc:" in part.text)
    reopened = tiny("pisco").reader(store=rc.LanceDBStore(tmp_path / "memories"))
    assert reopened.complete(handles, max_new_tokens=6) == pisco.reader().complete(handles, max_new_tokens=6)


def test_the_first_answer_is_what_every_later_one_is(tmp_path, pisco):
    """A store that rounds: the vectors of the first call come back from it, too."""
    pisco.store = rc.LanceDBStore(tmp_path / "memories", dtype="int8")
    first, second = (pisco.compress("Why?", DOCUMENTS) for _ in range(2))
    assert first == second
    exact = tiny("pisco").compress("Why?", DOCUMENTS)
    assert any(not torch.equal(a.vectors, b.vectors) for a, b in zip(first.segments, exact.segments, strict=True))


def test_a_store_that_had_to_forget_says_so(pisco, caplog):
    pisco.store = rc.InMemoryStore(max_bytes=4000)
    context = pisco.compress("Why?", DOCUMENTS)
    assert "a memory store is full (4,000 bytes)" in caplog.text
    with pytest.raises(rc.MemoryNotFoundError, match=r"forgot \d+ memories for want of room: raise max_bytes"):
        pisco.reader().complete(context.text)


def test_a_long_ingestion_is_put_piece_by_piece(pisco, monkeypatch):
    from ragcompress import compressor

    monkeypatch.setattr(compressor, "_MAX_DOCUMENTS_AT_ONCE", 2)
    kept = []
    put = pisco.store.put
    monkeypatch.setattr(pisco.store, "put", lambda memories: kept.append(len(memories)) or put(memories))
    pisco.remember(DOCUMENTS)
    assert kept == [2, 2, 1]


def test_oscar_leaves_its_vectors_where_its_reader_finds_them():
    oscar = tiny("oscar")
    oscar.store = rc.InMemoryStore()
    context = oscar.with_options(top_k=2).compress("Why?", [LONG, *DOCUMENTS])
    assert len(oscar.store) == sum(isinstance(segment, rc.MemorySegment) for segment in context.segments)
    prompt = "\n".join(rc.attach_question("Why?", [part.text for part in context.by_document()]))
    assert oscar.reader().complete(prompt, max_new_tokens=6) == oscar.reader().answer([context], max_new_tokens=6)[0]
    other = oscar.compress("Who?", DOCUMENTS)
    assert {segment.key for segment in other.segments}.isdisjoint({segment.key for segment in context.segments})
    assert rc.load("oscar", GOLDENS / "oscar-v1-tiny", device="cpu").store is not None


# --- presets and options ---


def test_presets():
    golden = texts("pisco-v1-tiny")
    published = rc.load("pisco", GOLDENS / "pisco-v1-tiny", device="cpu", preset="upstream")
    context = published.compress(golden["questions"][0], golden["documents"])
    vectors = torch.stack([segment.vectors for segment in context.segments])
    assert (vectors - tensors("pisco-v1-tiny")["memory"]).abs().max() < 1e-4
    assert published.reader().prompt is PISCO
    assert published.reader().defaults["repetition_penalty"] == "base"
    bergen = published.with_options(preset="bergen")
    assert "Question: {question}" in bergen.reader().prompt.user
    assert bergen.reader().prompt.user_without_documents == "Question: {question}"
    assert "Question:{question}" in PISCO.user
    # 192 + 3 ids for the question with its document.
    oscar = rc.load("oscar", GOLDENS / "oscar-v1-tiny", device="cpu", preset="bergen")
    (row,) = oscar._pairs.rows(oscar.model.encoder_text, ["word " * 400], ["Why?"])
    assert len(row.ids) == 195 + 8


def test_the_published_space_is_kept_by_other_layouts():
    """Only PISCO and OSCAR of 2025 know two spellings of the prompt."""
    compressor = rc.load("pisco", GOLDENS / "pisco-v2-tiny", device="cpu", question="spaced")
    assert compressor.reader().prompt is compressor.model.prompt


@pytest.mark.parametrize(("backend", "options"), [
    ("pisco", {"titles": "maybe"}), ("pisco", {"on_long": "cut"}), ("pisco", {"max_length": 3}), ("pisco", {"top_k": 0}),
    ("pisco", {"memory_side": "top"}), ("pisco", {"splitter": "none"}), ("pisco", {"preset": "bergem"}), ("pisco", {"tok_k": 3}),
    ("oscar", {"order": "best"}), ("oscar", {"repetition_penalty": "bases"}), ("oscar", {"batch_tokens": 0}), ("oscar", {"question": ""}),
    ("pisco", {"quantization": "int9"}), ("pisco", {"dtype": "float8"}),
])  # fmt: skip
def test_bad_options_are_named(backend, options):
    with pytest.raises(rc.OptionError, match=next(iter(options))):
        rc.load(backend, GOLDENS / f"{backend}-v1-tiny", device="cpu", **options)


def test_the_spaced_question_without_separators():
    from ragcompress.prompts import PISCO_WITHOUT_SEPARATOR, spaced

    assert spaced(PISCO_WITHOUT_SEPARATOR).user == "Background:\n{documents}\n\nQuestion: {question}"


def test_short_documents_with_long_titles(pisco):
    documents = [rc.Document("Yes.", title="bridge " * 100), rc.Document("No.", title="b")]
    context = pisco.compress("Why?", documents)
    assert [type(segment) for segment in context.segments] == [rc.MemorySegment, rc.TextSegment]
    assert "b\nNo." in context.text
    assert pisco.with_options(titles="ignore").compress("Why?", documents[1:]).text == "No."


def test_a_limit_below_the_memory_tokens_is_refused(pisco):
    with pytest.raises(rc.OptionError, match="max_length"):
        pisco.with_options(max_length=7)


def test_options_are_saved_with_the_checkpoint(pisco, tmp_path):
    pisco.with_options(titles="ignore", top_k=3, max_length=64).save_pretrained(tmp_path / "saved")
    loaded = rc.load("pisco", tmp_path / "saved", device="cpu", top_k=2)
    assert (loaded.config.titles, loaded.config.top_k, loaded.config.max_length) == ("ignore", 2, 64)
    # Another backend's options are not its own.
    assert rc.load("oscar", tmp_path / "saved", device="cpu").config == OscarConfig()
    with pytest.raises(rc.OptionError, match="splitter is an object"):
        pisco.with_options(splitter=lambda text: [(0, len(text))]).save_pretrained(tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_built_by_hand():
    from ragcompress.latent.tiny import tiny_pisco

    compressor = Pisco(tiny_pisco(), PiscoConfig(top_k=1))
    assert compressor.store is None
    assert len(compressor.compress("Why?", DOCUMENTS).segments) == 1


# --- adapters ---


def test_compressor_and_reader_of_equal_configuration_share_weights_and_store():
    folder = str(GOLDENS / "pisco-v1-tiny")
    with pytest.warns(rc.HandleWarning, match="writes handles"):
        adapter = Adapter("pisco", folder, {"device": "cpu"})
    holder = ReaderAdapter("pisco", folder, {"device": "cpu"}, generation={"max_new_tokens": 4})
    assert adapter.options["store"] == holder.options["store"] == SHARED_STORE
    context = adapter.compress("Why?", list(DOCUMENTS)).context
    assert holder.reader.model is adapter.compressor.model
    prompt = "".join(part.text for part in context.by_document() if "<|rc:" in part.text)
    assert holder.reader.complete(prompt, max_new_tokens=4)
    assert holder.configuration()["checkpoint"] == folder


def test_a_compressor_whose_handles_nobody_could_read_is_refused():
    with pytest.warns(rc.HandleWarning), pytest.raises(rc.OptionError, match="has no store"):
        Adapter(compressor=tiny("pisco"))


def test_a_compressor_that_is_pickled_meets_its_reader_in_the_shared_store():
    import pickle

    with pytest.warns(rc.HandleWarning):
        adapter = Adapter(compressor=rc.load("pisco", GOLDENS / "pisco-v1-tiny", device="cpu"))
    again = pickle.loads(pickle.dumps(adapter))
    assert again.compressor.store is rc.open_store(SHARED_STORE)
    assert again.options["store"] == SHARED_STORE


def test_readers_by_hand_and_bad_ones(pisco):
    import pickle

    holder = ReaderAdapter(reader=pisco)
    assert holder.reader.store is pisco.store
    with pytest.raises(rc.OptionError, match="built by hand"):
        holder.configuration()
    again = pickle.loads(pickle.dumps(ReaderAdapter("pisco", str(GOLDENS / "pisco-v1-tiny"), {"device": "cpu"})))
    assert again.reader.name == "pisco-v1-tiny-mistral"
    loaded = rc.load("pisco", GOLDENS / "pisco-v1-tiny", device="cpu", store="memory://test")
    assert ReaderAdapter(reader=loaded).configuration()["options"]["store"] == "memory://test"
    assert ReaderAdapter(reader=pisco, generation={"max_new_tokens": 1}).reader.defaults["max_new_tokens"] == 1
    for arguments, match in (
        ({"backend": "recomp-extractive"}, "makes text, which any LLM reads"),
        ({"backend": "pisko"}, "pisko"),
        ({"reader": 3}, "must be a ragcompress.Reader"),
        ({"reader": tiny("recomp-extractive")}, "makes text"),
        ({"reader": pisco, "options": {"device": "cpu"}}, "give either"),
        ({"generation": {"beams": 2}}, "beams"),
        ({"options": {"topk": 2}}, "topk"),
    ):
        with pytest.raises(rc.OptionError, match=match):
            ReaderAdapter(**arguments)


def test_whoever_expects_handles_is_not_warned(recwarn):
    folder = str(GOLDENS / "pisco-v1-tiny")
    adapter = Adapter("pisco", folder, {"device": "cpu", "handles": "expected"})
    assert adapter.compress("Why?", list(DOCUMENTS)).context is not None
    assert not recwarn.list
    assert Adapter(**adapter.configuration()).options["handles"] == "expected"
    assert not recwarn.list
    with pytest.raises(rc.OptionError, match="handles"):
        Adapter("pisco", folder, {"handles": "maybe"})


def test_oscar_has_nothing_to_remember():
    with pytest.raises(rc.OptionError, match="nothing to compute ahead of time"):
        tiny("oscar").remember(DOCUMENTS)


def test_a_question_that_leaves_hardly_any_room_is_refused():
    oscar = tiny("oscar")
    words = "bridge " * 100
    assert oscar.compress(words, DOCUMENTS).segments  # 131 positions: some thirty are left
    with pytest.raises(rc.InputError, match=r"leaves \d+ of the 131 tokens .* below 16 nothing would be compressed"):
        oscar.compress(words + "river " * 16, DOCUMENTS)
