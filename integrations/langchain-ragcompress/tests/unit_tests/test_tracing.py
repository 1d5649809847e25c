"""One run named ragcompress, below its caller, wherever the compressor stands."""

import json

import pytest
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_classic.retrievers.document_compressors import DocumentCompressorPipeline
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langchain_ragcompress import RagCompressor, RagCompressRetriever

QUERY = "Who built the bridge?"
both = pytest.mark.parametrize("mode", ["sync", "async"])


class Listed(BaseRetriever):
    documents: list

    def _get_relevant_documents(self, query, *, run_manager):
        return list(self.documents)


async def run(runnable, given, mode, recorder):
    config = {"callbacks": [recorder]}
    return runnable.invoke(given, config) if mode == "sync" else await runnable.ainvoke(given, config)


def check(recorder, parent, out):
    run = recorder.only()
    assert recorder.parent_name(run) == parent
    assert run["metadata"]["ragcompress_backend"] == "keywords"
    assert run["inputs"]["query"] == QUERY
    assert [document.id for document in run["outputs"]] == [document.id for document in out] == ["a", "blank", "c"]
    ((name, event),) = run["events"]
    assert name == "ragcompress"
    json.dumps(event)
    assert event == {
        "backend": "keywords",
        "n_documents_in": 4,
        "n_documents_out": 3,
        "n_tokens": 27,
        "n_slots": 18,
        "counter": "spaces",
        "truncated": False,
        "timings": {},
    }


@both
async def test_contextual_compression_retriever(fakes, documents, mode):
    recorder = fakes.Recorder()
    retriever = ContextualCompressionRetriever(
        base_compressor=RagCompressor(compressor=fakes.Keywords()), base_retriever=Listed(documents=documents)
    )
    out = await run(retriever, QUERY, mode, recorder)
    check(recorder, "ContextualCompressionRetriever", out)
    assert recorder.parent_name(recorder.only("Listed")) == "ContextualCompressionRetriever"


@both
async def test_compressor_pipeline(fakes, documents, mode):
    recorder = fakes.Recorder()
    compressor = RagCompressor(compressor=fakes.Keywords())
    retriever = ContextualCompressionRetriever(
        base_compressor=DocumentCompressorPipeline(transformers=[compressor, compressor]),
        base_retriever=Listed(documents=documents),
    )
    await run(retriever, QUERY, mode, recorder)
    runs = recorder.named("ragcompress")
    assert [recorder.parent_name(each) for each in runs] == ["ContextualCompressionRetriever"] * 2


@both
async def test_own_retriever(fakes, documents, mode):
    recorder = fakes.Recorder()
    retriever = RagCompressRetriever(
        retriever=Listed(documents=documents), compressor=RagCompressor(compressor=fakes.Keywords())
    )
    out = await run(retriever, QUERY, mode, recorder)
    check(recorder, "RagCompressRetriever", out)
    assert recorder.parent_name(recorder.only("Listed")) == "RagCompressRetriever"


@both
async def test_chain(fakes, documents, mode):
    recorder = fakes.Recorder()
    step = RagCompressor(compressor=fakes.Keywords()).as_runnable()
    chain = {"documents": Listed(documents=documents), "query": RunnablePassthrough()} | step
    out = await run(chain, QUERY, mode, recorder)
    check(recorder, "RunnableSequence", out)


@both
async def test_called_inside_a_lambda_without_callbacks(fakes, documents, mode):
    recorder = fakes.Recorder()
    compressor = RagCompressor(compressor=fakes.Keywords())

    async def acall(query):
        return await compressor.acompress_documents(documents, query)

    step = RunnableLambda(lambda query: compressor.compress_documents(documents, query), acall, name="outer")
    out = await run(step, QUERY, mode, recorder)
    check(recorder, "outer", out)


async def test_asynchronous_handlers(fakes, documents):
    recorder = fakes.AsyncRecorder()
    retriever = ContextualCompressionRetriever(
        base_compressor=RagCompressor(compressor=fakes.Keywords()), base_retriever=Listed(documents=documents)
    )
    out = await run(retriever, QUERY, "async", recorder)
    check(recorder.sync, "ContextualCompressionRetriever", out)


async def test_synchronous_call_with_an_asynchronous_manager(fakes, documents):
    recorder = fakes.Recorder()
    compressor = RagCompressor(compressor=fakes.Keywords())

    class Careless(Listed):
        async def _aget_relevant_documents(self, query, *, run_manager):
            return compressor.compress_documents(self.documents, query, callbacks=run_manager.get_child())

    out = await run(Careless(documents=documents), QUERY, "async", recorder)
    check(recorder, "Careless", out)


@both
@pytest.mark.parametrize(
    ("settings", "given", "reason"),
    [({}, "", "no query"), ({"min_chars": 9999}, QUERY, "fewer than min_chars=9999 characters")],
)
async def test_reason_for_skipping(fakes, documents, mode, settings, given, reason):
    recorder = fakes.Recorder()
    step = RagCompressor(compressor=fakes.Keywords(), **settings).as_runnable()
    await run(step, {"documents": documents, "query": given}, mode, recorder)
    ((_, event),) = recorder.only()["events"]
    assert event == {"backend": "keywords", "n_documents_in": 4, "n_documents_out": 4, "skipped": reason}


@both
async def test_errors_are_seen(fakes, documents, mode):
    recorder = fakes.Recorder()
    step = RagCompressor(compressor=fakes.Failing()).as_runnable()
    with pytest.raises(RuntimeError):
        await run(step, {"documents": documents, "query": QUERY}, mode, recorder)
    assert "out of memory" in str(recorder.only()["error"])


async def test_astream_events_show_tokens(fakes, documents):
    step = RagCompressor(compressor=fakes.Keywords()).as_runnable()
    events = [each async for each in step.astream_events({"documents": documents, "query": QUERY}, version="v2")]
    (custom,) = [each for each in events if each["event"] == "on_custom_event"]
    assert (custom["name"], custom["data"]["n_tokens"]) == ("ragcompress", 27)
