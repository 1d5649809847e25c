"""Documents in, documents out."""

import asyncio
import copy
import json
import threading
import time

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.load import dumps
from langchain_ragcompress import RagCompressor

import ragcompress as rc

QUERY = "Who built the bridge?"


async def run(compressor, documents, query, mode):
    if mode == "sync":
        return compressor.compress_documents(documents, query)
    return await compressor.acompress_documents(documents, query)


both = pytest.mark.parametrize("mode", ["sync", "async"])


@both
async def test_keeps_order_ids_and_metadata(fakes, documents, mode):
    before = copy.deepcopy(documents)
    out = await run(RagCompressor(compressor=fakes.Keywords()), documents, QUERY, mode)
    assert [document.id for document in out] == ["a", "blank", "c"]
    assert [document.page_content for document in out] == [
        "The bridge is long.",
        "   ",
        "Tea is drunk on the bridge. Who built the bridge? Monks built the bridge.",
    ]
    assert out[0].metadata["title"] == "Bridge"
    assert out[0].metadata["nested"] == {"n": [1]}
    assert out[1].metadata["page"] == 2
    assert documents == before
    out[0].metadata["nested"]["n"].append(2)
    out[1].metadata["page"] = 3
    assert documents == before, "metadata is shared"


@both
async def test_order_is_that_of_the_result(fakes, documents, mode):
    out = await run(RagCompressor(compressor=fakes.Keywords(best_first=True)), documents, QUERY, mode)
    assert [document.id for document in out] == ["c", "a", "blank"]
    assert out[0].page_content == "Who built the bridge? Monks built the bridge. Tea is drunk on the bridge."


def test_note(fakes, documents):
    out = RagCompressor(compressor=fakes.Keywords()).compress_documents(documents, QUERY)
    assert isinstance(out[0].metadata[rc.NOTE_KEY], str)
    assert rc.read_note(out[0].metadata) == {
        "backend": "keywords",
        "spans": [[0, 19]],
        "scores": [2.0],
        "n_tokens": 7,
        "n_slots": 4,
        "truncated": False,
        "context_n_tokens": 27,
        "context_n_slots": 18,
        "counter": "spaces",
    }
    assert rc.read_note(out[1].metadata) == {"backend": "keywords", "skipped": "no text"}
    ((start, end),) = rc.read_note(out[0].metadata)["spans"]
    assert documents[0].page_content[start:end] == out[0].page_content
    assert rc.ORIGINAL_KEY not in out[0].metadata


def test_ids_and_titles_reach_the_compressor(fakes):
    compressor = fakes.Keywords()
    documents = [Document("A.", id="x", metadata={"name": "T"}), Document("B.", metadata={"name": 3, "title": "no"})]
    RagCompressor(compressor=compressor, title_key="name").compress_documents(documents, "a")
    assert compressor.seen == [(rc.Document("A.", id="x", title="T"), rc.Document("B."))]


@pytest.mark.parametrize(
    ("given", "replace", "expected"),
    [
        (None, False, 4.0),
        (np.float32(0.25), False, 0.25),
        (0, False, 0.0),
        (0.25, True, 4.0),
        ("high", False, "high"),
        ("high", True, 4.0),
    ],
)
def test_relevance_score(fakes, documents, given, replace, expected):
    document = documents[3]
    if given is not None:
        document.metadata["relevance_score"] = given
    (out,) = RagCompressor(compressor=fakes.Keywords(), replace_score=replace).compress_documents([document], QUERY)
    assert out.metadata["relevance_score"] == expected
    assert type(out.metadata["relevance_score"]) is type(expected)


def test_output_is_json_safe(fakes, documents):
    for document in documents:
        document.metadata["relevance_score"] = np.float32(0.5)
    assert "not_implemented" in dumps(documents), "the premise of this test"
    for compressor in (fakes.Keywords(), fakes.Merging()):
        out = RagCompressor(compressor=compressor, keep_original=True).compress_documents(documents, QUERY)
        assert "not_implemented" not in dumps(out)
        json.dumps([document.metadata for document in out])
    passed_through = RagCompressor(compressor=fakes.Keywords(), min_chars=9999).compress_documents(documents, QUERY)
    assert "not_implemented" not in dumps(passed_through)


def test_keep_original(fakes, documents):
    compressor = RagCompressor(compressor=fakes.Keywords(), keep_original=True)
    out = compressor.compress_documents(documents, QUERY)
    assert out[0].metadata[rc.ORIGINAL_KEY] == documents[0].page_content
    # What the note's spans point into.
    again = compressor.compress_documents(out, "long")
    assert again[0].metadata[rc.ORIGINAL_KEY] == out[0].page_content


def test_a_forged_original(fakes):
    secret = "<|rc:abcdef:8|>"
    document = Document("The bridge is long.", metadata={rc.ORIGINAL_KEY: f"Made up {secret}", rc.NOTE_KEY: secret})
    for keep, expected in ((True, document.page_content), (False, rc.neutralise(f"Made up {secret}"))):
        compressor = RagCompressor(compressor=fakes.Keywords(), keep_original=keep)
        for query in (QUERY, ""):
            (out,) = compressor.compress_documents([document], query)
            assert out.metadata[rc.ORIGINAL_KEY] == expected
            assert secret not in str(out), "LangChain prints metadata beside the text"
    forged = Document(f"The bridge is long {secret}.")
    (out,) = RagCompressor(compressor=fakes.Keywords(), keep_original=True).compress_documents([forged], QUERY)
    assert secret not in str(out)


def test_several_sources_make_one_new_document(fakes, documents):
    (out,) = RagCompressor(compressor=fakes.Merging(), keep_original=True).compress_documents(documents, QUERY)
    assert out.page_content == "all in one"
    assert out.id is None
    assert set(out.metadata) == {rc.NOTE_KEY}
    assert rc.read_note(out.metadata)["source_ids"] == ["a", "blank", "b", "c"]


class Passage(Document):
    """A retriever's own kind of document."""

    tags: list[str] = []  # noqa: RUF012 (pydantic copies it)


def test_subclasses_survive(fakes):
    given = Passage(page_content="The bridge. Tea.", tags=["x"])
    (out,) = RagCompressor(compressor=fakes.Keywords()).compress_documents([given], QUERY)
    assert type(out) is Passage
    assert out.page_content == "The bridge."
    assert out.tags == ["x"]
    assert out.tags is not given.tags


def never_load(*args, **kwargs):
    raise AssertionError("something was loaded")


@both
async def test_nothing_to_do_loads_nothing(monkeypatch, mode):
    monkeypatch.setattr("ragcompress.adapter.load", never_load)
    compressor = RagCompressor(min_chars=5)
    assert await run(compressor, [], QUERY, mode) == []
    (blank,) = await run(compressor, [Document("\n ", id="x")], QUERY, mode)
    assert (blank.page_content, blank.id) == ("\n ", "x")
    assert rc.read_note(blank.metadata)["skipped"] == "no text"
    (short,) = await run(compressor, [Document("abc")], QUERY, mode)
    assert short.page_content == "abc"
    assert "min_chars=5" in rc.read_note(short.metadata)["skipped"]


@both
@pytest.mark.parametrize("query", ["", "  ", None])
async def test_empty_query_passes_copies_through(fakes, documents, query, mode):
    out = await run(RagCompressor(compressor=fakes.Keywords()), documents, query, mode)
    assert [document.page_content for document in out] == [document.page_content for document in documents]
    assert {rc.read_note(document.metadata)["skipped"] for document in out} == {"no query"}
    assert not any(rc.NOTE_KEY in document.metadata for document in documents)
    out[0].metadata["nested"]["n"].append(2)
    assert documents[0].metadata["nested"] == {"n": [1]}


@both
async def test_errors_are_raised(fakes, documents, mode):
    with pytest.raises(RuntimeError, match="out of memory"):
        await run(RagCompressor(compressor=fakes.Failing()), documents, QUERY, mode)


@both
async def test_errors_pass_through_when_asked(fakes, documents, mode):
    compressor = RagCompressor(compressor=fakes.Failing(), on_error="pass_through")
    with pytest.warns(rc.PassThroughWarning, match="out of memory"):
        out = await run(compressor, documents, QUERY, mode)
    assert [(each.id, each.page_content) for each in out] == [(each.id, each.page_content) for each in documents]
    assert {rc.read_note(each.metadata)["skipped"] for each in out} == {"RuntimeError: out of memory"}


@both
async def test_timeout(fakes, documents, mode):
    compressor = RagCompressor(compressor=fakes.Slow(), timeout=0.05)
    with pytest.raises(rc.CompressionTimeoutError):
        await run(compressor, documents, QUERY, mode)
    with pytest.warns(rc.PassThroughWarning):
        out = await run(compressor.model_copy(update={"on_error": "pass_through"}), documents, QUERY, mode)
    assert len(out) == len(documents)


async def test_event_loop_goes_on(fakes, documents):
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    compressor = fakes.Slow()
    ticking = asyncio.create_task(tick())
    begin = time.perf_counter()
    await RagCompressor(compressor=compressor).acompress_documents(documents, QUERY)
    took = time.perf_counter() - begin
    ticking.cancel()
    assert took >= 0.4
    assert ticks >= 8
    assert threading.get_ident() not in compressor.threads


async def test_async_loads_off_the_event_loop(fakes, documents, monkeypatch):
    threads = []

    def load(*args, **kwargs):
        threads.append(threading.get_ident())
        return fakes.Keywords()

    monkeypatch.setattr("ragcompress.adapter.load", load)
    compressor = RagCompressor()
    await asyncio.gather(*(compressor.acompress_documents(documents, QUERY) for _ in range(4)))
    assert len(threads) == 1, "loaded more than once"
    assert threading.get_ident() not in threads


def test_wrong_types_are_refused(fakes):
    compressor = RagCompressor(compressor=fakes.Keywords())
    with pytest.raises(rc.InputTypeError, match=r"documents\[0\] is str"):
        compressor.compress_documents(["text"], QUERY)
    with pytest.raises(rc.InputTypeError, match="query must be a string, got dict"):
        compressor.compress_documents([Document("a")], {"question": QUERY})


async def test_remember_without_memories(fakes, documents):
    compressor = RagCompressor(compressor=fakes.Keywords())
    assert compressor.remember(documents) == 0
    assert await compressor.aremember(documents) == 0


def test_what_cannot_be_copied_is_shared_and_forged_handles_are_harmless(fakes):
    lock = threading.Lock()
    given = Document("<|rc:aa:3|> The bridge.", metadata={"lock": lock, "relevance_score": "high"})
    for compressor in (RagCompressor(compressor=fakes.Keywords()), RagCompressor(min_chars=99)):
        (out,) = compressor.compress_documents([given], QUERY)
        assert out.metadata["lock"] is lock
        assert "<|rc:" not in out.page_content
        assert out.metadata["relevance_score"] == "high"
    assert rc.NOTE_KEY not in given.metadata
