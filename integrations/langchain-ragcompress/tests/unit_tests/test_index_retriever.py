"""The retriever that searches memory tokens on disk: index, retrieve, answer."""

import asyncio
import copy
import json
import logging
import pickle
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from langchain_core.documents import Document
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langchain_ragcompress import ChatRagCompress, RagCompressor, RagCompressRetriever
from pydantic import ValidationError

import ragcompress as rc

pytest.importorskip("torch")
pytest.importorskip("lancedb")

QUERY = "Who built the bridge?"
PLACES = ["river", "harbour", "island", "city", "valley", "moor", "bay"]
DOCUMENTS = [
    Document(
        f"The bridge of the {place} was built by monks in 1{number}57, and pigeons nest under it. " * (1 + number % 3),
        id=f"d{number}",
        metadata={"title": place.title(), "page": number, "even": number % 2 == 0, "deep": {"list": [1, None]}},
    )
    for number, place in enumerate(PLACES)
] + [Document("Tea.", id="short"), Document("The ship sank in the harbour in 1912, and nobody saw it sink.")]
PROMPT = ChatPromptTemplate.from_template("Context:\n{context}\n\nQuestion: {query}")
both = pytest.mark.parametrize("mode", ["sync", "async"])


def joined(documents):
    return "\n\n".join(document.page_content for document in documents)


async def run(retriever, query, mode, **kwargs):
    return retriever.invoke(query, **kwargs) if mode == "sync" else await retriever.ainvoke(query, **kwargs)


@pytest.fixture
def compressor(latent):
    return latent("clara")[0]


@pytest.fixture(scope="module")
def filled(tmp_path_factory, tiny_checkpoint):
    """The address of an index with the documents in it."""
    address = f"lancedb://{tmp_path_factory.mktemp('corpus')}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rc.HandleWarning)
        compressor = RagCompressor("clara", checkpoint=tiny_checkpoint("clara"), device="cpu")
    summary = RagCompressRetriever(index=address, compressor=compressor).add_documents(DOCUMENTS)
    assert (summary.n_added, summary.n_rejected) == (len(DOCUMENTS), 0)
    return address


@pytest.fixture
def retriever(filled, compressor):
    return RagCompressRetriever(index=filled, compressor=compressor)


def exact(compressor, documents=DOCUMENTS, query=QUERY):
    """Numbers and cosines of the documents, best first, computed without an index."""
    import torch

    clara = compressor._adapter.compressor
    (asked,) = clara.encode_queries([query])
    slots = len(asked)
    scores = {}
    core = [rc.Document(each.page_content, title=each.metadata.get("title")) for each in documents]
    for number, memory in enumerate(clara.encode(core)):
        chunks = memory.vectors.float().reshape(-1, slots * asked.shape[1])
        scores[number] = float(torch.cosine_similarity(chunks, asked.float().flatten()[None]).max())
    return sorted(scores.items(), key=lambda entry: -entry[1])


# Retrieving.


@both
async def test_order_and_scores_are_those_of_the_exact_cosine(retriever, compressor, mode):
    found = await run(retriever, QUERY, mode, k=99)
    expected = exact(compressor)
    assert [document.id for document in found] == [DOCUMENTS[number].id for number, _ in expected]
    scores = [document.metadata["relevance_score"] for document in found]
    assert {type(score) for score in scores} == {float}
    assert scores == pytest.approx([score for _, score in expected], abs=1e-5)
    json.dumps([document.metadata for document in found])


@both
async def test_white_space_around_a_question_does_not_count(monkeypatch, retriever, mode):
    asked = []
    search = rc.SearchingCompressor.retrieve

    def noted(self, query, *args, **kwargs):
        asked.append(query)
        return search(self, query, *args, **kwargs)

    monkeypatch.setattr(rc.SearchingCompressor, "retrieve", noted)
    await run(retriever, f" {QUERY}\n", mode)
    assert asked == [QUERY]


@both
async def test_the_compressors_number_without_another(filled, latent, mode):
    three = RagCompressRetriever(index=filled, compressor=latent("clara", options={"top_k": 3})[0])
    assert len(await run(three, QUERY, mode)) == 3
    assert len(await run(three, QUERY, mode, k=4)) == 4


@both
async def test_k(filled, compressor, retriever, mode):
    everything = [document.id for document in retriever.invoke(QUERY, k=99)]
    assert len(everything) == len(DOCUMENTS)
    assert [document.id for document in await run(retriever, QUERY, mode)] == everything[:5]
    assert [document.id for document in await run(retriever, QUERY, mode, k=3)] == everything[:3]
    two = RagCompressRetriever(index=filled, compressor=compressor, k=2)
    assert [document.id for document in await run(two, QUERY, mode)] == everything[:2]
    assert len(await run(two, QUERY, mode, k=4)) == 4
    two.k = 1
    assert [document.id for document in await run(two, QUERY, mode)] == everything[:1]
    for k in (0, -1, "3", True, 2.0):
        with pytest.raises(rc.OptionError, match="k must be a whole number"):
            await run(retriever, QUERY, mode, k=k)
        with pytest.raises(rc.OptionError, match="k must be a whole number"):
            RagCompressRetriever(index=filled, compressor=compressor, k=k)
        with pytest.raises(rc.OptionError, match="k must be a whole number"):
            two.k = k
    assert two.k == 1


def test_ids_titles_and_metadata_survive(retriever):
    before = copy.deepcopy(DOCUMENTS)
    found = {document.id: document for document in retriever.invoke(QUERY, k=99)}
    for given in DOCUMENTS:
        metadata = dict(found[given.id].metadata)
        note = rc.read_note({rc.NOTE_KEY: metadata.pop(rc.NOTE_KEY)})
        assert note["backend"] == "clara"
        assert note["scores"]
        assert max(note["scores"]) == metadata.pop("relevance_score")
        assert metadata == given.metadata
        assert rc.carries_handles(found[given.id].page_content, found[given.id].metadata) == (given.id != "short")
    found["d0"].metadata["deep"]["list"].append("changed")
    assert retriever.invoke(QUERY, k=99)[0].metadata["deep"] == {"list": [1, None]}
    assert before == DOCUMENTS


def test_what_was_short_stays_text(retriever):
    (short,) = [document for document in retriever.invoke(QUERY, k=99) if document.id == "short"]
    assert short.page_content == "Tea."


def test_the_question_stands_beside_the_handles_once(retriever):
    found = retriever.invoke(QUERY)
    assert [document.page_content.count("<|rc:ask=") for document in found] == [1, 0, 0, 0, 0]


def test_original_text_is_kept_if_wished(filled, compressor):
    with pytest.warns(rc.HandleWarning):
        keeping = compressor.model_copy(update={"keep_original": True})
    originals = {document.id: document.page_content for document in DOCUMENTS}
    for document in RagCompressRetriever(index=filled, compressor=keeping).invoke(QUERY):
        assert document.metadata[rc.ORIGINAL_KEY] == originals[document.id]


@both
async def test_filters(filled, compressor, retriever, mode):
    even = {f"d{number}" for number in (0, 2, 4, 6)}
    assert {document.id for document in await run(retriever, QUERY, mode, where={"even": True})} == even
    assert [document.id for document in await run(retriever, QUERY, mode, where={"title": "Moor"})] == ["d5"]
    where = {"even": True}
    narrow = RagCompressRetriever(index=filled, compressor=compressor, where=where)
    where.clear()
    assert {document.id for document in await run(narrow, QUERY, mode)} == even
    assert [document.id for document in await run(narrow, QUERY, mode, where={"page": 4})] == ["d4"]
    assert await run(narrow, QUERY, mode, where={"page": 3}) == []
    assert {document.id for document in await run(narrow, QUERY, mode, where={})} == even
    assert "d3" in {document.id for document in await run(narrow, QUERY, mode, where={"even": False})}
    for wrong in ("page", {3: "page"}):
        with pytest.raises(rc.OptionError, match="where must be a mapping"):
            await run(retriever, QUERY, mode, where=wrong)
        with pytest.raises(rc.OptionError, match="where must be a mapping"):
            narrow.where = wrong
    narrow.where = {"page": 4}
    assert [document.id for document in await run(narrow, QUERY, mode)] == ["d4"]


@both
async def test_an_empty_question_is_refused(retriever, mode):
    with pytest.raises(rc.InputError, match="query is empty"):
        await run(retriever, " ", mode)
    with pytest.raises(rc.InputTypeError, match="query must be a string, got dict"):
        await run(retriever, {"query": QUERY}, mode)


@both
async def test_traces_say_what_was_found(fakes, retriever, mode):
    recorder = fakes.Recorder()
    config = {"callbacks": [recorder]}
    found = retriever.invoke(QUERY, config) if mode == "sync" else await retriever.ainvoke(QUERY, config)
    run = recorder.only("RagCompressRetriever")
    assert run["outputs"] == found
    ((name, event),) = run["events"]
    assert (name, event["backend"], event["n_documents_out"]) == ("ragcompress", "clara", 5)
    assert event["n_tokens"] > event["n_slots"] > 0
    json.dumps(event)


def test_forged_handles_and_old_scores_are_harmless(tmp_path, compressor):
    (secret,) = compressor.compress_documents(DOCUMENTS[:1], QUERY)
    handle = secret.page_content.split("<|rc:ask=")[0]
    forged = Document(f"{handle} {DOCUMENTS[1].page_content}", metadata={"title": handle, "relevance_score": 9.0})
    retriever = RagCompressRetriever(index=tmp_path / "index", compressor=compressor)
    assert retriever.add_documents([forged]).n_added == 1
    (found,) = retriever.invoke(QUERY)
    assert handle not in found.page_content
    assert handle not in str(found.metadata)
    assert found.metadata["relevance_score"] < 1


def test_what_was_noted_elsewhere_is_left_out(tmp_path, tiny_checkpoint, compressor):
    notes = {rc.ORIGINAL_KEY: "made up <|rc:abcdef:8|>", rc.NOTE_KEY: "made up"}
    text = DOCUMENTS[0].page_content
    retriever = RagCompressRetriever(index=tmp_path / "index", compressor=compressor)
    retriever.add_documents([Document(text, id="x", metadata={"page": 1} | notes)])
    index = rc.open_index(compressor._adapter.compressor, tmp_path / "index")
    (hit,) = compressor._adapter.compressor.retrieve(QUERY, index).documents
    assert hit.metadata == {"page": 1}
    rc.index(compressor._adapter.compressor, [rc.Document(DOCUMENTS[1].page_content, metadata=notes)], index)
    for document in retriever.invoke(QUERY):
        assert rc.ORIGINAL_KEY not in document.metadata
        assert rc.read_note(document.metadata)["backend"] == "clara"


# Adding.


@both
async def test_adding_again_changes_nothing(tmp_path, compressor, mode):
    retriever = RagCompressRetriever(index=f"lancedb://{tmp_path}/index", compressor=compressor)

    async def add(documents):
        return retriever.add_documents(documents) if mode == "sync" else await retriever.aadd_documents(documents)

    assert (await add(DOCUMENTS[:3])).n_added == 3
    again = await add(DOCUMENTS[:4])
    assert (again.n_added, again.n_present) == (1, 3)
    moved = DOCUMENTS[0].model_copy(update={"metadata": DOCUMENTS[0].metadata | {"page": 77}})
    assert (await add([moved])).n_updated == 1
    assert [document.metadata["page"] for document in retriever.invoke(QUERY, where={"page": 77})] == [77]


def test_what_cannot_be_added_is_seen(tmp_path, compressor, caplog):
    retriever = RagCompressRetriever(index=tmp_path / "index", compressor=compressor)
    bad = [Document("A set is no JSON.", id="set", metadata={"tags": {1}}), Document(" ", id="blank")]
    with caplog.at_level(logging.WARNING, "ragcompress"):
        summary = retriever.add_documents([DOCUMENTS[0], *bad])
    assert (summary.n_added, summary.n_rejected) == (1, 2)
    reasons = {each.place: each.reason for each in summary.rejected}
    assert "'tags' cannot be kept" in reasons["set"]
    assert reasons["blank"] == "the text is empty"
    assert "left out: set" in caplog.text
    assert [document.id for document in retriever.invoke(QUERY)] == ["d0"]


def test_documents_that_are_none_or_hold_handles_are_refused(tmp_path, compressor):
    retriever = RagCompressRetriever(index=tmp_path / "index", compressor=compressor)
    with pytest.raises(rc.InputTypeError, match=r"documents\[1\] is str; expected a langchain_core Document"):
        retriever.add_documents([DOCUMENTS[0], "text"])
    compressed = compressor.compress_documents(DOCUMENTS[:2], QUERY)
    with pytest.raises(rc.InputError, match=r"documents\[1\] holds handles"):
        retriever.add_documents([DOCUMENTS[2], *compressed])
    assert not (tmp_path / "index").exists(), "everything is checked before anything is made"


def test_what_the_core_has_indexed_is_found(tmp_path, tiny_checkpoint, compressor):
    clara = rc.load("clara", tiny_checkpoint("clara"), device="cpu")
    text = DOCUMENTS[0].page_content
    rc.index(clara, [rc.Document(text, id="x", title="River", metadata={"page": 4})], tmp_path / "index")
    with pytest.warns(rc.HandleWarning):
        other_key = compressor.model_copy(update={"title_key": "headline"})
    for each, key in ((compressor, "title"), (other_key, "headline")):
        (found,) = RagCompressRetriever(index=tmp_path / "index", compressor=each).invoke(QUERY)
        del found.metadata[rc.NOTE_KEY], found.metadata["relevance_score"]
        assert (found.id, found.metadata) == ("x", {"page": 4, key: "River"})


def test_an_empty_index_gives_nothing(tmp_path, compressor):
    retriever = RagCompressRetriever(index=tmp_path / "index", compressor=compressor)
    assert retriever.add_documents([]).n_documents == 0
    assert retriever.invoke(QUERY) == []
    assert asyncio.run(retriever.ainvoke(QUERY)) == []


# Answering.


def chain_of(retriever, chat):
    return {"context": retriever | joined, "query": RunnablePassthrough()} | PROMPT | chat


@both
async def test_a_chain_answers_from_what_was_found(latent, retriever, mode):
    chat = latent("clara")[1]
    chain = chain_of(retriever, chat)
    message = chain.invoke(QUERY) if mode == "sync" else await chain.ainvoke(QUERY)
    assert message.response_metadata["prompt_mode"] == "native"
    clara = retriever.compressor._adapter.compressor
    context = clara.retrieve(QUERY, rc.open_index(clara, retriever.index), 5)
    assert message.text == chat._adapter.reader.answer([context], max_new_tokens=12)[0]


def test_a_chat_model_reads_the_vectors_out_of_the_index(latent, retriever, tiny_checkpoint):
    chat = latent("clara")[1]
    elsewhere = ChatRagCompress(
        "clara", checkpoint=tiny_checkpoint("clara"), device="cpu", store=retriever.index, max_tokens=12
    )
    assert chain_of(retriever, elsewhere).invoke(QUERY).text == chain_of(retriever, chat).invoke(QUERY).text


# Configuration.


def test_nothing_is_loaded_or_made_before_the_first_call(monkeypatch, tmp_path, compressor):
    def never(*args, **kwargs):
        raise AssertionError("something was loaded")

    monkeypatch.setattr("ragcompress.adapter.load", never)
    monkeypatch.setattr("ragcompress.searcher.open_index", never)
    RagCompressRetriever(index=tmp_path / "index", compressor=compressor)
    assert not (tmp_path / "index").exists()


def test_exactly_one_of_retriever_and_index(tmp_path, compressor):
    inner = RunnableLambda(lambda query: [])
    with pytest.raises(rc.OptionError, match="expected a retriever or an index, got neither"):
        RagCompressRetriever(compressor=compressor)
    with pytest.raises(rc.OptionError, match="expected a retriever or an index, got both"):
        RagCompressRetriever(retriever=inner, index=tmp_path, compressor=compressor)
    with pytest.raises(rc.OptionError, match="n_candidates=9 came with an index"):
        RagCompressRetriever(index=tmp_path, compressor=compressor, n_candidates=9)
    wrapping = RagCompressRetriever(retriever=inner, compressor=compressor)
    for build in (
        lambda: RagCompressRetriever(retriever=inner, compressor=compressor, where={"page": 3}),
        lambda: wrapping.invoke(QUERY, where={"page": 3}),
        lambda: asyncio.run(wrapping.ainvoke(QUERY, where={"page": 3})),
    ):
        with pytest.raises(rc.OptionError, match=r"where=\{'page': 3\} filters an index"):
            build()
    with pytest.raises(rc.OptionError, match="searches no index"):
        wrapping.add_documents(DOCUMENTS)


def test_what_is_set_later_must_fit_as_well(filled, compressor):
    searching = RagCompressRetriever(index=filled, compressor=compressor)
    wrapping = RagCompressRetriever(retriever=RunnableLambda(lambda query: []), compressor=compressor)
    for retriever, name, value in (
        (searching, "retriever", wrapping),
        (searching, "n_candidates", 9),
        (wrapping, "retriever", None),
        (wrapping, "n_candidates", 0),
        (wrapping, "where", {"page": 3}),
    ):
        with pytest.raises(rc.OptionError):
            setattr(retriever, name, value)
    wrapping.n_candidates = 9
    searching.tags = ["x"]
    assert (wrapping.n_candidates, searching.tags) == (9, ["x"])


@pytest.mark.parametrize(
    "wrong", [{"k": 0}, {"k": "many"}, {"where": "page"}, {"wher": {}}, {"index": 3}, {"compressor": "clara"}]
)
def test_wrong_values_are_refused(tmp_path, compressor, wrong):
    with pytest.raises((ValidationError, rc.OptionError), match=next(iter(wrong))):
        RagCompressRetriever(**({"index": tmp_path, "compressor": compressor} | wrong))


def test_backends_that_cannot_search_are_refused(tmp_path, fakes, latent):
    for compressor, name in (
        (RagCompressor(), "recomp-extractive"),
        (RagCompressor(compressor=fakes.Keywords()), "keywords"),
        (latent("pisco")[0], "pisco"),
    ):
        with pytest.raises(rc.OptionError, match=f"backend '{name}' compresses.*by themselves: clara"):
            RagCompressRetriever(index=tmp_path, compressor=compressor)
    with pytest.raises(rc.OptionError, match="no store has the address 'ftp://corpus'"):
        RagCompressRetriever(index="ftp://corpus", compressor=latent("clara")[0])


@both
async def test_a_missing_index(tmp_path, compressor, mode):
    retriever = RagCompressRetriever(index=f"lancedb://{tmp_path}/none", compressor=compressor)
    with pytest.raises(rc.InputError, match=r"there is no index at .*none.*ragcompress index SOURCE"):
        await run(retriever, QUERY, mode)
    assert not (tmp_path / "none").exists()


@pytest.fixture(scope="module")
def other_checkpoint(tmp_path_factory):
    from ragcompress.latent.tiny import tiny_clara

    folder = tmp_path_factory.mktemp("checkpoints") / "other"
    rc.find("clara")(replace(tiny_clara(), fingerprint="other")).save_pretrained(folder)
    return folder


@both
@pytest.mark.parametrize("what", ["checkpoint", "settings"])
async def test_an_index_of_something_else(filled, tiny_checkpoint, other_checkpoint, what, mode):
    checkpoint = other_checkpoint if what == "checkpoint" else tiny_checkpoint("clara")
    options = {"titles": "ignore"} if what == "settings" else {}
    with pytest.warns(rc.HandleWarning):
        other = RagCompressor("clara", checkpoint=checkpoint, device="cpu", options=options)
    retriever = RagCompressRetriever(index=filled, compressor=other)
    with pytest.raises(rc.SpaceMismatchError):
        await run(retriever, QUERY, mode)
    with pytest.raises(rc.SpaceMismatchError):
        retriever.add_documents(DOCUMENTS)


def test_a_checkpoint_without_a_query_reasoner(tmp_path):
    from ragcompress.latent.tiny import tiny_clara

    clara = rc.find("clara")(tiny_clara(query_reasoner=False))
    clara.store = rc.InMemoryStore()
    with pytest.warns(rc.HandleWarning):
        retriever = RagCompressRetriever(index=tmp_path / "index", compressor=RagCompressor(compressor=clara))
    with pytest.raises(rc.OptionError, match="needs a query reasoner"):
        retriever.add_documents(DOCUMENTS)
    assert not (tmp_path / "index").exists()


def test_an_index_that_is_open(filled, compressor, retriever):
    index = rc.open_index(compressor._adapter.compressor, filled)
    opened = RagCompressRetriever(index=index, compressor=compressor)
    expected = retriever.invoke(QUERY)
    assert opened.index is index
    assert opened.invoke(QUERY) == expected
    assert pickle.loads(pickle.dumps(opened)).invoke(QUERY) == expected
    with pytest.warns(rc.HandleWarning):
        restored = RagCompressRetriever.model_validate_json(opened.model_dump_json())
    assert restored.index == index.location
    assert restored.invoke(QUERY) == expected


def test_an_open_index_of_another_name_has_no_address(tmp_path, compressor):
    index = rc.open_index(compressor._adapter.compressor, tmp_path / "index", table="other", create=True)
    with pytest.raises(ValueError, match="an address means the table 'index', not 'other'"):
        RagCompressRetriever(index=index, compressor=compressor).model_dump_json()


def test_json_round_trip(filled, compressor):
    retriever = RagCompressRetriever(index=filled, compressor=compressor, k=3, where={"even": True}, tags=["x"])
    with pytest.warns(rc.HandleWarning):
        restored = RagCompressRetriever.model_validate_json(retriever.model_dump_json())
    assert restored == retriever
    assert restored != RagCompressRetriever(index=filled, compressor=compressor, k=3)
    assert (restored.k, restored.where, restored.tags) == (3, {"even": True}, ["x"])
    assert restored.invoke(QUERY) == retriever.invoke(QUERY)


def test_folders_are_written_as_text(tmp_path, compressor):
    assert RagCompressRetriever(index=tmp_path / "index", compressor=compressor).index == str(tmp_path / "index")


def test_pickling_and_copying(retriever):
    expected = retriever.invoke(QUERY)
    for other in (pickle.loads(pickle.dumps(retriever)), copy.deepcopy(retriever), retriever.model_copy()):
        assert other == retriever
        assert other.invoke(QUERY) == expected


def test_copies_follow_their_configuration(tmp_path, retriever):
    changed = retriever.model_copy(update={"index": str(tmp_path / "none"), "k": 2})
    assert (changed.k, changed.index) == (2, str(tmp_path / "none"))
    with pytest.raises(rc.InputError, match="no index"):
        changed.invoke(QUERY)
    with pytest.raises(ValidationError, match="frozen"):
        retriever.index = "elsewhere"


# Threads and the event loop.


async def test_async_searches_off_the_event_loop(monkeypatch, tmp_path, filled, compressor):
    threads = set()
    search, add = rc.Searcher.search, rc.Searcher.add

    def noted(method):
        def call(*args):
            threads.add(threading.get_ident())
            return method(*args)

        return call

    monkeypatch.setattr(rc.Searcher, "search", noted(search))
    monkeypatch.setattr(rc.Searcher, "add", noted(add))
    retriever = RagCompressRetriever(index=filled, compressor=compressor)
    expected, *others = await asyncio.gather(*(retriever.ainvoke(QUERY) for _ in range(4)))
    assert others == [expected] * 3
    await RagCompressRetriever(index=tmp_path / "index", compressor=compressor).aadd_documents(DOCUMENTS[:1])
    assert threads
    assert threading.get_ident() not in threads


def test_many_threads(filled, compressor):
    retriever = RagCompressRetriever(index=filled, compressor=compressor)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(retriever.invoke, [QUERY] * 8))
    assert found == [found[0]] * 8
    assert [len(each) for each in retriever.batch([QUERY, "Tea?"])] == [5, 5]
