"""Vector store -> compressor -> prompt -> chat model, with real sentence vectors."""

import asyncio
import concurrent.futures
import multiprocessing
from pathlib import Path

import pytest
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_classic.retrievers.document_compressors import DocumentCompressorPipeline
from langchain_core.documents import BaseDocumentTransformer, Document
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.load import dumps
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough
from langchain_core.tools import create_retriever_tool
from langchain_ragcompress import RagCompressor, RagCompressRetriever

import ragcompress as rc

QUERY = "When was the bridge over the river built?"
ANSWER = "It was built by monks in 1357."
both = pytest.mark.parametrize("mode", ["sync", "async"])


class RecordingChat(FakeListChatModel):
    prompts: list = []  # noqa: RUF012 (pydantic copies it)

    def _call(self, messages, *args, **kwargs):
        self.prompts.append(messages[-1].content)
        return super()._call(messages, *args, **kwargs)


def joined(documents: list[Document]) -> str:
    return "\n\n".join(document.page_content for document in documents)


@pytest.fixture
def compressor(minilm) -> RagCompressor:
    return RagCompressor(compressor=minilm)


@both
async def test_chain(store, compressor, mode):
    model = RecordingChat(responses=["1357"])
    chain = (
        {"documents": store.as_retriever(), "query": RunnablePassthrough()}
        | RunnablePassthrough.assign(context=compressor.as_runnable() | joined)
        | ChatPromptTemplate.from_template("Context:\n{context}\n\nQuestion: {query}")
        | model
        | StrOutputParser()
    )
    assert (chain.invoke(QUERY) if mode == "sync" else await chain.ainvoke(QUERY)) == "1357"
    (prompt,) = model.prompts
    assert ANSWER in prompt
    assert prompt.endswith(f"Question: {QUERY}")
    assert "Pigeons" not in prompt
    assert "salt" not in prompt


@both
async def test_contextual_compression_retriever(store, compressor, mode):
    retriever = ContextualCompressionRetriever(base_compressor=compressor, base_retriever=store.as_retriever())
    out = retriever.invoke(QUERY) if mode == "sync" else await retriever.ainvoke(QUERY)
    (bridge,) = [document for document in out if document.id == "bridge"]
    assert ANSWER in bridge.page_content
    assert bridge.metadata["title"] == "Bridge"
    assert type(bridge.metadata["relevance_score"]) is float
    assert rc.read_note(bridge.metadata)["context_n_tokens"] > rc.read_note(bridge.metadata)["context_n_slots"]
    assert "not_implemented" not in dumps(out)
    assert "ragcompress" not in store.get_by_ids(["bridge"])[0].metadata


class FirstTwo(BaseDocumentTransformer):
    def transform_documents(self, documents, **kwargs):
        return documents[:2]


@both
async def test_compressor_pipeline(store, compressor, mode):
    pipeline = DocumentCompressorPipeline(transformers=[FirstTwo(), compressor])
    documents = store.similarity_search(QUERY, k=4)
    if mode == "sync":
        out = pipeline.compress_documents(documents, QUERY)
    else:
        out = await pipeline.acompress_documents(documents, QUERY)
    assert ANSWER in joined(out)
    assert {document.id for document in out} <= {document.id for document in documents[:2]}


def test_retriever_tool(store, compressor):
    retriever = RagCompressRetriever(retriever=store.as_retriever(), compressor=compressor, k=3)
    tool = create_retriever_tool(retriever, "facts", "Facts.", response_format="content_and_artifact")
    call = {"type": "tool_call", "id": "1", "name": "facts", "args": {"query": QUERY}}
    message = tool.invoke(call)
    assert ANSWER in message.content
    assert "bridge" in [document.id for document in message.artifact]


async def test_many_at_once_give_the_same(store, compressor):
    queries = [QUERY, "Which ship sank?", "What does bread need?", "When did astronauts walk on the moon?"] * 2
    inputs = [{"documents": store.similarity_search(query), "query": query} for query in queries]
    expected = [compressor.compress_documents(**each) for each in inputs]
    step = compressor.as_runnable()
    assert step.batch(inputs, {"max_concurrency": 4}) == expected
    assert await step.abatch(inputs) == expected
    assert await asyncio.gather(*(compressor.acompress_documents(**each) for each in inputs)) == expected


def test_another_process_loads_from_configuration(store):
    compressor = RagCompressor(top_k=2)
    documents = store.similarity_search(QUERY)
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
        there = pool.submit(compressor.compress_documents, documents, QUERY).result()
    assert there == compressor.compress_documents(documents, QUERY)
    assert ANSWER in joined(there)


def test_json_of_a_loaded_compressor_gives_the_same(store, minilm, compressor):
    restored = RagCompressor.model_validate_json(compressor.model_dump_json())
    assert (restored.backend, restored.options) == ("recomp-extractive", {"top_k": 2})
    documents = store.similarity_search(QUERY)
    found, wanted = (each.compress_documents(documents, QUERY) for each in (restored, compressor))
    assert [(each.id, each.page_content) for each in found] == [(each.id, each.page_content) for each in wanted]
    # Two encoders differ in the last bits of their scores, by how threads share the work.
    scores = [[each.metadata["relevance_score"] for each in own] for own in (found, wanted)]
    assert scores[0] == pytest.approx(scores[1], rel=1e-5)


async def test_remember_fills_a_named_store(store):
    documents = store.similarity_search(QUERY)
    compressor = RagCompressor(top_k=2, store="memory://langchain-test")
    assert compressor.remember(documents) == len(documents)
    assert len(rc.open_store("memory://langchain-test")) == len(documents)
    await compressor.acompress_documents(documents, QUERY)
    assert len(rc.open_store("memory://langchain-test")) == len(documents)


def test_unknown_option_is_refused_closest_first(store):
    with pytest.raises(rc.OptionError, match="unknown option 'topk'; known, closest first: 'top_k'"):
        RagCompressor(topk=2).compress_documents(store.similarity_search(QUERY), QUERY)


def test_readme(minilm, tiny_checkpoint, tmp_path):
    pytest.importorskip("lancedb")
    pytest.importorskip("langchain")
    readme = Path(__file__).parents[2] / "README.md"
    blocks = readme.read_text(encoding="utf-8").split("```python\n")[1:]
    names = {}
    for block in blocks:
        # The published models have seven billion parameters.
        code = block.split("```")[0].replace("naver/oscar-mistral-7B", str(tiny_checkpoint("oscar")))
        code = code.replace("apple/CLaRa-7B-E2E/compression-16", str(tiny_checkpoint("clara")))
        code = code.replace("lancedb://corpus", f"lancedb://{tmp_path}/corpus")
        if "await " in code:
            code = "async def main():\n" + "".join(f"    {line}\n" for line in code.splitlines())
            code += "import asyncio\nasyncio.run(main())\n"
        exec(compile(code, str(readme), "exec"), names)
    assert names["documents"][0].page_content == "The bridge was built in 1357."
    assert names["messages"][2].content == "The bridge was built in 1357."
    assert names["answer"].response_metadata["prompt_mode"] == "native"
    assert names["answer"].response_metadata["model_name"] == str(tiny_checkpoint("clara"))
    assert [type(document.metadata["relevance_score"]) for document in names["best"]] == [float, float]
