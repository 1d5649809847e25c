"""Query in, context out: CLaRa's own memory tokens find the documents that it answers from."""

import asyncio
import pickle
import shutil
import threading

import pytest
import torch

import ragcompress as rc
from ragcompress import searcher
from ragcompress.adapter import Adapter
from ragcompress.backends.clara import Clara
from ragcompress.latent.tiny import tiny_clara
from ragcompress.stores import opening
from ragcompress.testing import tiny

pytest.importorskip("lancedb", reason="needs ragcompress[store]")
pytestmark = pytest.mark.filterwarnings("ignore::ragcompress.HandleWarning")

QUESTION = "which of these speaks of harbours and ships?"


def documents(n=12):
    return [
        rc.Document(
            f"Document {i} speaks of subject {i * 5 % 7}, of the sea, of ships and of harbours in the north. " * (1 + 3 * (i == 4)),
            id=f"d{i}",
            title=f"Title {i}",
            metadata={"even": i % 2 == 0},
        )
        for i in range(n)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clara")
    clara = tiny("clara")
    clara.save_pretrained(folder / "checkpoint")
    rc.index(clara, documents(), folder / "index")
    return folder


@pytest.fixture(scope="module")
def clara(place):
    return rc.load("clara", place / "checkpoint", device="cpu")


@pytest.fixture(scope="module")
def index(clara, place):
    return rc.open_index(clara, place / "index")


def test_what_is_retrieved_is_what_ranking_all_documents_keeps(clara, index):
    for k in (1, 3, 5):
        found = clara.retrieve(QUESTION, index, k)
        ranked = clara.with_options(top_k=k).compress(QUESTION, documents())
        assert [ranked.documents[i.sources[0].document] for i in ranked.segments] == [
            found.documents[i.sources[0].document] for i in found.segments
        ]
        for one, other in zip(found.segments, ranked.segments, strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-6)
            assert (one.handle, one.sources[0].start) == (other.handle, other.sources[0].start)
            torch.testing.assert_close(one.vectors, other.vectors)  # of other batches
        assert found.n_slots == ranked.n_slots


def test_the_context_holds_the_documents_that_were_found_best_first(clara, index):
    context = clara.retrieve(QUESTION, index, 4)
    assert context.query == QUESTION
    assert [document in documents() for document in context.documents] == [True] * 4
    best = [max(s.score for s in context.segments if s.sources[0].document == i) for i in range(4)]
    assert best == sorted(best, reverse=True)
    assert all(type(segment.score) is float for segment in context.segments)
    assert sorted(context.timings) == ["encode_ms", "search_ms", "select_ms"]
    assert context.n_tokens == clara.compress(QUESTION, context.documents).n_tokens


def test_readers_find_the_vectors_of_what_was_found(clara, index):
    clara.store.delete(list(clara.store._memories))
    context = clara.retrieve(QUESTION, index, 2)
    reader = clara.reader(max_new_tokens=3)
    prompt = f"{context.text}\n{QUESTION}"
    assert reader.complete(prompt)
    assert reader.answer([context])


def test_a_folder_with_an_index_is_a_store_for_readers(clara, index, place):
    context = clara.retrieve(QUESTION, index, 2)
    elsewhere = rc.load("clara", place / "checkpoint", device="cpu", store=f"lancedb://{place / 'index'}")
    reader = elsewhere.reader(max_new_tokens=3)
    assert reader.complete(context.text) == clara.reader(max_new_tokens=3).complete(context.text)


def test_questions_are_encoded_together_with_equal_results(clara, index):
    questions = [QUESTION, "what lies in the north, and how far is it from here?", "subject 3"]
    for one, question in zip(clara.retrieve_batch(questions, index, 3), questions, strict=True):
        alone = clara.retrieve(question, index, 3)
        assert one.documents == alone.documents
        assert [s.score for s in one.segments] == pytest.approx([s.score for s in alone.segments], abs=1e-5)
    assert clara.retrieve_batch([], index) == []


def test_metadata_narrow_what_is_found_and_k_may_be_larger_than_the_corpus(clara, index):
    context = clara.retrieve(QUESTION, index, 100, where={"even": True})
    assert len(context.documents) == 6
    assert {document.metadata["even"] for document in context.documents} == {True}
    assert len(clara.retrieve(QUESTION, index, 100).documents) == 12


def test_an_empty_corpus_gives_an_empty_context(clara, tmp_path):
    empty = rc.open_index(clara, tmp_path / "index", create=True)
    context = clara.retrieve(QUESTION, empty)
    assert (context.documents, context.segments, context.n_slots) == ((), (), 0)
    assert clara.reader(max_new_tokens=2).answer([context])


def test_two_stages_find_the_same(clara, index):
    exact = clara.retrieve(QUESTION, index, 3)
    assert clara.retrieve(QUESTION, index, 3, exact=False, n_candidates=50).documents == exact.documents


def test_it_runs_off_the_event_loop(clara, index):
    async def both():
        return await asyncio.gather(clara.aretrieve(QUESTION, index, 2), clara.aretrieve("subject 3", index, 2))

    first, second = asyncio.run(both())
    assert first.documents == clara.retrieve(QUESTION, index, 2).documents
    assert second.query == "subject 3"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("", 5), rc.InputError, "empty"),
        (("  ", 5), rc.InputError, "empty"),
        ((5, 5), rc.InputTypeError, "must be a string"),
        ((QUESTION, 0), rc.OptionError, "k"),
        ((QUESTION, 2.5), rc.OptionError, "k"),
    ],
)
def test_questions_and_numbers_that_cannot_be_are_refused(clara, index, arguments, error, message):
    query, k = arguments
    with pytest.raises(error, match=message):
        clara.retrieve(query, index, k)


def test_an_address_is_no_index(clara, place):
    with pytest.raises(rc.InputTypeError, match="open_index"):
        clara.retrieve(QUESTION, str(place / "index"))


def test_a_checkpoint_without_a_query_reasoner_says_which_have_one(index):
    instruct = Clara(tiny_clara(query_reasoner=False))
    with pytest.raises(rc.OptionError, match=r"query reasoner.*E2E"):
        instruct.retrieve(QUESTION, index)


def test_an_index_of_other_vectors_is_refused(clara, tmp_path):
    other = rc.MemoryIndex(tmp_path / "index", space="other@1")
    with pytest.raises(rc.SpaceMismatchError, match=r"other@1.*clara-v1-tiny"):
        clara.retrieve(QUESTION, other)
    with pytest.raises(rc.SpaceMismatchError, match=r"other@1.*clara-v1-tiny"):
        rc.open_index(clara, tmp_path / "index")
    rc.index(clara, documents(2), tmp_path / "mine")
    with pytest.raises(rc.SpaceMismatchError, match="titles: 'prefix' there, 'ignore' asked for"):
        rc.open_index(clara.with_options(titles="ignore"), tmp_path / "mine")
    with pytest.raises(rc.SpaceMismatchError, match="titles"):
        clara.with_options(titles="ignore").retrieve(QUESTION, rc.open_index(clara, tmp_path / "mine"))


def test_an_index_that_is_not_there_is_not_made_by_looking(clara, tmp_path):
    with pytest.raises(rc.InputError, match="ragcompress index SOURCE --backend clara"):
        rc.open_index(clara, tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []


def test_a_table_in_object_storage_is_not_made_by_looking(clara, tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "local_folder", lambda *place: None)  # there is no folder to look at
    rc.LanceDBStore(tmp_path / "corpus")
    with pytest.raises(rc.InputError, match="there is no index at"):
        rc.open_index(clara, tmp_path / "corpus")
    assert [each.name for each in (tmp_path / "corpus").iterdir()] == ["memories.lance"]
    made = rc.open_index(clara, tmp_path / "corpus", create=True)
    assert rc.open_index(clara, tmp_path / "corpus") is made


def test_a_folder_whose_index_was_never_finished_has_none(clara, tmp_path):
    (tmp_path / "index.lance" / "data").mkdir(parents=True)
    with pytest.raises(rc.InputError, match="there is no index at"):
        rc.open_index(clara, tmp_path)


def test_an_index_that_was_deleted_is_made_anew(place, tmp_path):
    made = rc.Searcher(Adapter("clara", str(place / "checkpoint")), tmp_path / "index")
    made.add(documents(2))
    assert len(made.search(QUESTION, 5).documents) == 2
    shutil.rmtree(tmp_path / "index")
    with pytest.raises(rc.InputError, match="there is no index at"):
        made.search(QUESTION, 5)
    made.add(documents(3))
    assert len(made.search(QUESTION, 5).documents) == 3


def test_components_share_an_open_index(clara, place, index):
    assert rc.open_index(clara, str(place / "index")) is index


# As framework components hold it.


def test_a_searcher_is_configuration_until_it_is_used(place):
    made = rc.Searcher(Adapter("clara", str(place / "checkpoint"), {"handles": "expected"}), place / "index")
    copied = pickle.loads(pickle.dumps(made))
    assert copied._adapter._loaded is None
    context = copied.search(QUESTION, 3)
    assert context.documents == made.search(QUESTION, 3).documents
    assert asyncio.run(made.asearch(QUESTION, 2, {"even": False})).documents[0].metadata == {"even": False}


def test_a_searcher_adds_and_makes_the_index(place, tmp_path):
    made = rc.Searcher(Adapter("clara", str(place / "checkpoint")), tmp_path / "new")
    with pytest.raises(rc.InputError, match="no index"):
        made.search(QUESTION, 3)
    assert made.add(documents(3)).n_added == 3
    assert len(made.search(QUESTION, 5).documents) == 3
    assert made.location == str(tmp_path / "new")


def test_a_searcher_refuses_what_cannot_search(tmp_path):
    with pytest.raises(rc.OptionError, match=r"'recomp-extractive'.*clara"):
        rc.Searcher(Adapter("recomp-extractive"), tmp_path)
    with pytest.raises(rc.OptionError, match="ftp"):
        rc.Searcher(Adapter("clara"), "ftp://x")
    with pytest.raises(rc.OptionError, match="MemoryIndex"):
        rc.Searcher(Adapter("clara"), 5)


@pytest.mark.parametrize("on_error", ["raise", "pass_through"])
def test_a_search_that_takes_too_long_is_an_error(clara, index, monkeypatch, on_error):
    adapter = Adapter(compressor=clara, timeout=0.05, on_error=on_error)
    done = threading.Event()
    retrieve = Clara.retrieve
    monkeypatch.setattr(Clara, "retrieve", lambda *given, **more: done.wait(30) and retrieve(*given, **more))
    slow = rc.Searcher(adapter, index)
    for search in (lambda: slow.search(QUESTION, 2), lambda: asyncio.run(slow.asearch(QUESTION, 2))):
        with pytest.raises(rc.CompressionTimeoutError, match=r"timeout=0\.05"):
            search()
    done.set()
    patient = rc.Searcher(Adapter(compressor=clara, timeout=60), index)
    assert len(patient.search(QUESTION, 2).documents) == 2
    with pytest.raises(rc.InputError, match="empty"):
        patient.search(" ", 2)


def test_every_searching_backend_is_named():
    assert searcher.searching_backends() == ["clara"]


def test_an_adapter_changes_options_for_one_call(place):
    adapter = Adapter("clara", str(place / "checkpoint"), {"handles": "expected"})
    assert len(adapter.compress(QUESTION, documents(), {"top_k": 3}).context.segments) == 3
    assert len({s.sources[0].document for s in adapter.compress(QUESTION, documents()).context.segments}) == 12
    assert len(asyncio.run(adapter.acompress(QUESTION, documents(), {"top_k": 2})).context.segments) == 2


def test_scores_of_float16_memories_of_any_length():
    """A length above 65,504 is infinite in float16: every cosine would be 0."""
    clara = tiny("clara")
    vectors = torch.full((4, 64), 6000.0, dtype=torch.float16)
    memory = rc.Memory(vectors, n_tokens=4, space=clara.space)
    assert clara.score(vectors, [memory]) == [[pytest.approx(1.0, abs=1e-3)]]
