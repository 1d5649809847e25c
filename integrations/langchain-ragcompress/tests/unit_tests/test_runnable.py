"""The compressor as a step of a chain."""

import asyncio

import pytest
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langchain_ragcompress import RagCompressor

import ragcompress as rc

WORDS = ("bridge", "tea", "flour", "pigeons")


def texts(documents):
    return [document.page_content for document in documents if document.page_content.strip()]


async def test_invoke(fakes, documents):
    compressor = RagCompressor(compressor=fakes.Keywords())
    runnable = compressor.as_runnable("docs", "question")
    inputs = {"docs": documents, "question": "flour", "more": 1}
    assert texts(runnable.invoke(inputs)) == texts(await runnable.ainvoke(inputs)) == ["Bread needs flour."]
    assert runnable.invoke(inputs) == compressor.compress_documents(documents, "flour")


async def test_in_a_chain(fakes, documents):
    step = RagCompressor(compressor=fakes.Keywords()).as_runnable()
    retrieve = RunnableLambda(lambda _: documents)
    chain = {"documents": retrieve, "query": RunnablePassthrough()} | step | texts
    assert chain.invoke("flour") == await chain.ainvoke("flour") == ["Bread needs flour."]
    assert [piece async for piece in chain.astream("flour")] == list(chain.stream("flour")) == [["Bread needs flour."]]


async def test_batches_run_at_once(fakes, documents):
    compressor = RagCompressor(compressor=fakes.Keywords())
    runnable = compressor.as_runnable()
    inputs = [{"documents": documents, "query": WORDS[index % 4]} for index in range(40)]
    expected = [compressor.compress_documents(**each) for each in inputs]
    assert runnable.batch(inputs, {"max_concurrency": 8}) == expected
    assert await runnable.abatch(inputs) == expected
    calls = (compressor.acompress_documents(**each) for each in inputs)
    assert await asyncio.gather(*calls) == expected


@pytest.mark.parametrize("inputs", [{"documents": []}, {"query": "a"}, "a", [Document("a")]])
def test_wrong_inputs_are_refused(fakes, inputs):
    with pytest.raises(rc.InputTypeError, match="expected a dict with 'documents' and 'query'"):
        RagCompressor(compressor=fakes.Keywords()).as_runnable().invoke(inputs)


def test_fallbacks_and_config_compose(fakes, documents):
    failing = RagCompressor(compressor=fakes.Failing()).as_runnable()
    step = failing.with_fallbacks([RagCompressor(compressor=fakes.Keywords()).as_runnable()])
    assert texts(step.invoke({"documents": documents, "query": "flour"})) == ["Bread needs flour."]
