"""Another retriever's documents: the best by CLaRa's cosine, or those that are left of more candidates."""

import copy
import warnings

import pytest
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_ragcompress import RagCompressor, RagCompressRetriever

import ragcompress as rc

QUERY = "Who built the bridge?"
FOUND = [
    Document(
        f"The {word} of the river was built by monks in 1{number:02}7, and pigeons nest under it.",
        id=str(number),
        metadata={"title": word.title(), "relevance_score": 1 - number / 100},
    )
    for number, word in enumerate(["bridge", "gate", "tower", "mill", "wall"] * 4)
]
both = pytest.mark.parametrize("mode", ["sync", "async"])


class Twenty(BaseRetriever):
    """Returns as many of twenty documents as it is asked for."""

    documents: list
    asked: list

    def _get_relevant_documents(self, query, *, run_manager, k=20):
        self.asked.append(k)
        return self.documents[:k]

    async def _aget_relevant_documents(self, query, *, run_manager, k=20):
        return self._get_relevant_documents(query, run_manager=run_manager, k=k)


async def run(retriever, mode, config=None, **kwargs):
    if mode == "sync":
        return retriever.invoke(QUERY, config, **kwargs)
    return await retriever.ainvoke(QUERY, config, **kwargs)


@pytest.fixture
def ranking(latent):
    def make(documents=FOUND, options=None, **settings):
        inner = Twenty(documents=documents, asked=[])
        compressor = latent("clara", options=options)[0]
        return inner, RagCompressRetriever(retriever=inner, compressor=compressor, **settings)

    return make


def best(retriever, documents, k):
    """Numbers and scores of the best, by the core."""
    core = [rc.Document(each.page_content, title=each.metadata.get("title")) for each in documents]
    context = retriever.compressor._adapter.compressor.with_options(top_k=k).compress(QUERY, core)
    return [(part.documents[0], part.score) for part in context.by_document()]


@both
async def test_the_best_five_of_twenty(ranking, mode):
    inner, retriever = ranking(k=5, n_candidates=20)
    before = copy.deepcopy(FOUND)
    found = await run(retriever, mode)
    expected = best(retriever, FOUND, 5)
    assert [document.id for document in found] == [str(number) for number, _ in expected]
    assert [document.id for document in found] != [str(number) for number in range(5)], "the premise of this test"
    scores = [document.metadata["relevance_score"] for document in found]
    assert scores == pytest.approx([score for _, score in expected], abs=1e-6)
    assert scores == sorted(scores, reverse=True)
    assert {type(score) for score in scores} == {float}
    assert [document.metadata["title"] for document in found] == [
        FOUND[number].metadata["title"] for number, _ in expected
    ]
    assert inner.asked == [20]
    assert before == FOUND


@both
async def test_how_many_candidates(ranking, mode):
    inner, retriever = ranking(k=5, n_candidates=8)
    assert [document.id for document in await run(retriever, mode)] == [
        str(number) for number, _ in best(retriever, FOUND[:8], 5)
    ]
    assert len(await run(retriever, mode, k=2)) == 2
    assert len(await run(retriever, mode, k=12)) == 12
    assert inner.asked == [8, 8, 12]
    inner, retriever = ranking(k=3)
    assert [document.id for document in await run(retriever, mode)] == [
        str(number) for number, _ in best(retriever, FOUND, 3)
    ]
    assert len(await run(retriever, mode, k=99)) == 20
    assert inner.asked == [20, 20]


@both
async def test_without_k_the_compressor_decides(ranking, mode):
    _, retriever = ranking()
    assert [document.id for document in await run(retriever, mode)] == [document.id for document in FOUND]
    inner, retriever = ranking(options={"top_k": 4}, n_candidates=10)
    found = await run(retriever, mode)
    assert [document.id for document in found] == [str(number) for number, _ in best(retriever, FOUND[:10], 4)]
    assert inner.asked == [10]
    assert len(await run(retriever, mode, k=6)) == 6


@both
async def test_blank_documents_take_no_place(ranking, mode):
    blank = Document(" ", id="blank")
    _, retriever = ranking(documents=[blank, *FOUND[:6], blank], k=4)
    found = await run(retriever, mode)
    assert [document.id for document in found] == [str(number) for number, _ in best(retriever, FOUND[:6], 4)]
    _, retriever = ranking(documents=[blank], k=4)
    assert [document.page_content for document in await run(retriever, mode)] == [" "]
    _, retriever = ranking(documents=[], k=4)
    assert await run(retriever, mode) == []


@both
async def test_a_chat_model_answers_from_the_best(ranking, latent, mode):
    _, retriever = ranking(k=5)
    chat = latent("clara")[1]
    found = await run(retriever, mode)
    message = chat.invoke("\n\n".join(document.page_content for document in found))
    assert message.response_metadata["prompt_mode"] == "native"
    core = [rc.Document(each.page_content, title=each.metadata["title"]) for each in FOUND]
    context = retriever.compressor._adapter.compressor.with_options(top_k=5).compress(QUERY, core)
    assert message.text == chat._adapter.reader.answer([context], max_new_tokens=12)[0]


@both
async def test_traces_are_as_ever(fakes, ranking, mode):
    recorder = fakes.Recorder()
    _, retriever = ranking(k=5, n_candidates=20)
    found = await run(retriever, mode, {"callbacks": [recorder]})
    step = recorder.only()
    assert recorder.parent_name(step) == "RagCompressRetriever"
    assert step["metadata"]["ragcompress_backend"] == "clara"
    assert step["inputs"] == {"documents": FOUND, "query": QUERY}
    assert step["outputs"] == found
    ((_, event),) = step["events"]
    assert (event["n_documents_in"], event["n_documents_out"]) == (20, 5)


def test_the_compressor_stays_as_it_is(ranking):
    _, retriever = ranking(k=5)
    retriever.invoke(QUERY)
    assert "top_k" not in retriever.compressor.options
    assert len(retriever.compressor.compress_documents(FOUND, QUERY)) == 20


@both
async def test_what_fails_goes_on_cut(ranking, monkeypatch, mode):
    inner, retriever = ranking(k=5)
    with pytest.warns(rc.HandleWarning):
        compressor = retriever.compressor.model_copy(update={"on_error": "pass_through", "checkpoint": "/nowhere"})
    failing = RagCompressRetriever(retriever=inner, compressor=compressor, k=5)
    with pytest.warns(rc.PassThroughWarning):
        found = await run(failing, mode)
    assert [document.page_content for document in found] == [document.page_content for document in FOUND[:5]]


@both
async def test_a_checkpoint_without_a_query_reasoner_does_not_rank(mode):
    tiny = pytest.importorskip("ragcompress.latent.tiny")
    clara = rc.find("clara")(tiny.tiny_clara(query_reasoner=False))
    clara.store = rc.InMemoryStore()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rc.HandleWarning)
        compressor = RagCompressor(compressor=clara)
    inner = Twenty(documents=FOUND, asked=[])
    with pytest.raises(rc.OptionError, match="top_k=5 needs a query reasoner"):
        await run(RagCompressRetriever(retriever=inner, compressor=compressor, k=5), mode)
    found = await run(RagCompressRetriever(retriever=inner, compressor=compressor, n_candidates=5), mode)
    assert [document.id for document in found] == ["0", "1", "2", "3", "4"]


# Backends that do not rank.


@both
async def test_others_cut_what_is_left_of_the_candidates(fakes, mode):
    keywords = fakes.Keywords()
    documents = [Document("Nothing of it here.", id="nothing"), *FOUND]
    inner = Twenty(documents=documents, asked=[])
    compressor = RagCompressor(compressor=keywords)
    retriever = RagCompressRetriever(retriever=inner, compressor=compressor, k=2, n_candidates=7)
    assert [document.id for document in await run(retriever, mode)] == ["0", "1"]
    assert len(keywords.seen[0]) == 7
    assert len(await run(retriever, mode, k=9)) == 8
    assert len(await run(RagCompressRetriever(retriever=inner, compressor=compressor, n_candidates=7), mode)) == 6
    assert inner.asked == [7, 9, 7]


@both
async def test_the_question_belongs_to_what_is_left(latent, mode):
    compressor, chat = latent("pisco")
    inner = Twenty(documents=FOUND, asked=[])
    found = await run(RagCompressRetriever(retriever=inner, compressor=compressor, k=2, n_candidates=6), mode)
    message = chat.invoke("\n\n".join(document.page_content for document in found))
    assert message.response_metadata["prompt_mode"] == "native"
