"""Whole LlamaIndex pipelines with the real sentence encoder and a scripted reader."""

import pytest
from llama_index.core import Document, VectorStoreIndex
from llama_index.core.evaluation import RetrieverEvaluator
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.query_engine import CitationQueryEngine, RetrieverQueryEngine
from llama_index.core.response_synthesizers import ResponseMode
from llama_index.core.tools import RetrieverTool
from llama_index.postprocessor.ragcompress import RagCompressPostprocessor
from llama_index_fakes import MiniLMEmbedding, ScriptedLLM

import ragcompress as rc

QUERY = "How long is the stone bridge over the river?"
KEPT = "The stone bridge over the river is 412 metres long."
DROPPED = "Pigeons nest under its arches."
DOCUMENTS = [
    Document(
        text=f"{KEPT} It was built in 1357. {DROPPED}",
        metadata={"title": "Stone bridge", "file": "b.txt"},
        doc_id="bridge",
    ),
    Document(text="The moon is far away. Nothing grows there. Nobody lives on it.", doc_id="moon"),
    Document(text="Bread needs flour, water, salt and time. Bakers rise early.", doc_id="bread"),
]
MODES = pytest.mark.parametrize(
    "mode", [ResponseMode.COMPACT, ResponseMode.REFINE, ResponseMode.TREE_SUMMARIZE, ResponseMode.SIMPLE_SUMMARIZE]
)


@pytest.fixture(scope="module")
def index(minilm):
    embedding = MiniLMEmbedding(minilm.encoder)
    return VectorStoreIndex.from_documents(DOCUMENTS, embed_model=embedding, transformations=[SentenceSplitter()])


@pytest.fixture
def llm():
    return ScriptedLLM()


@pytest.fixture
def postprocessor(minilm):
    return RagCompressPostprocessor(compressor=minilm, keep_original=True)


def check(response, llm):
    assert str(response) == "scripted answer"
    assert llm.prompts
    for prompt in llm.prompts:
        assert KEPT in prompt
        assert DROPPED not in prompt
        assert "moon" not in prompt
        assert "ragcompress" not in prompt
        assert "file: b.txt" in prompt
    (source,) = response.source_nodes
    assert source.node.ref_doc_id == "bridge"
    assert rc.read_note(source.metadata)["n_slots"] < rc.read_note(source.metadata)["context_n_tokens"]


@MODES
def test_sync(index, llm, postprocessor, mode):
    engine = index.as_query_engine(llm=llm, node_postprocessors=[postprocessor], response_mode=mode, similarity_top_k=3)
    check(engine.query(QUERY), llm)


@MODES
async def test_async(index, llm, postprocessor, mode):
    engine = index.as_query_engine(llm=llm, node_postprocessors=[postprocessor], response_mode=mode, similarity_top_k=3)
    check(await engine.aquery(QUERY), llm)


def test_from_settings_alone(index, llm):
    postprocessor = RagCompressPostprocessor.from_json(RagCompressPostprocessor(top_k=1, device="cpu").to_json())
    engine = RetrieverQueryEngine.from_args(
        index.as_retriever(similarity_top_k=3), llm=llm, node_postprocessors=[postprocessor]
    )
    check(engine.query(QUERY), llm)


def test_the_index_is_untouched(index, llm, postprocessor):
    engine = index.as_query_engine(llm=llm, node_postprocessors=[postprocessor], similarity_top_k=3)
    engine.query(QUERY)
    texts = sorted(node.text for node in index.docstore.docs.values())
    assert texts == sorted(document.text for document in DOCUMENTS)


def test_nothing_kept(index, llm, minilm):
    strict = RagCompressPostprocessor(compressor=minilm.with_options(threshold=1e6))
    engine = index.as_query_engine(llm=llm, node_postprocessors=[strict], similarity_top_k=3)
    assert str(engine.query(QUERY)) == "Empty Response"
    assert llm.prompts == []


def test_citations(index, llm, postprocessor):
    engine = CitationQueryEngine.from_args(index, llm=llm, similarity_top_k=3, node_postprocessors=[postprocessor])
    response = engine.query(QUERY)
    (prompt,) = llm.prompts
    assert f"Source 1:\n{KEPT}\n" in prompt
    assert DROPPED not in prompt
    assert len(response.source_nodes) == 1


def test_retriever_tool(index, postprocessor):
    tool = RetrieverTool.from_defaults(index.as_retriever(similarity_top_k=3), node_postprocessors=[postprocessor])
    content = tool(QUERY).content
    assert KEPT in content
    assert DROPPED not in content
    assert "ragcompress" not in content


async def test_retriever_evaluator(index, postprocessor):
    wanted = next(node.node_id for node in index.docstore.docs.values() if KEPT in node.text)
    evaluator = RetrieverEvaluator.from_metric_names(
        ["hit_rate", "mrr"],
        retriever=index.as_retriever(similarity_top_k=3),
        node_postprocessors=[postprocessor],
    )
    result = await evaluator.aevaluate(query=QUERY, expected_ids=[wanted])
    assert result.retrieved_ids == [wanted]
    assert result.metric_vals_dict == {"hit_rate": 1.0, "mrr": 1.0}
