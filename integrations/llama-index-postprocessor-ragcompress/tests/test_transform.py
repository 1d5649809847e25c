"""The ingestion step, with the real model: what is stored is what a query looks up."""

import warnings

import pytest
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import Document, ImageNode, NodeWithScore, TextNode
from llama_index.postprocessor.ragcompress import RagCompressPostprocessor, RagCompressTransform
from llama_index_fakes import KeepMatching

import ragcompress as rc

DOCUMENTS = [
    Document(
        text="The stone bridge is 412 metres long. Pigeons nest under its arches. Tickets are not needed.",
        metadata={"title": "Stone bridge", "page": 1},
        doc_id="bridge",
    ),
    Document(text="The ferry leaves at noon. It carries forty cars.", doc_id="ferry"),
]
QUERY = "How long is the bridge?"


@pytest.fixture
def encoded(monkeypatch):
    """The documents that any compressor encodes, in order."""
    seen = []
    encode = rc.find("recomp-extractive").encode

    def counted(self, documents):
        seen.extend(documents)
        return encode(self, documents)

    monkeypatch.setattr(rc.find("recomp-extractive"), "encode", counted)
    return seen


def ingest(transform):
    pipeline = IngestionPipeline(transformations=[SentenceSplitter(chunk_size=64, chunk_overlap=0), transform])
    return pipeline.run(documents=DOCUMENTS)


def scored(nodes):
    return [NodeWithScore(node=node, score=0.5) for node in nodes]


def test_nodes_stay_as_they_are(minilm):
    transform = RagCompressTransform(compressor=minilm)
    nodes = [TextNode(text="A bridge.", id_="a"), ImageNode(image_url="http://example.org/a.png"), TextNode(text=" ")]
    before = [node.model_dump() for node in nodes]
    assert transform(nodes) is nodes
    assert [node.model_dump() for node in nodes] == before


def test_a_query_after_ingestion_encodes_no_document(minilm, encoded):
    """With two components made from settings alone, which share a store by its name."""
    settings = {"top_k": 1, "device": "cpu", "store": "memory://llama-index-shared"}
    nodes = ingest(RagCompressTransform(**settings))
    assert [document.title for document in encoded] == ["Stone bridge", None]
    encoded.clear()
    (item,) = RagCompressPostprocessor(**settings).postprocess_nodes(scored(nodes), query_str=QUERY)
    assert item.text == "The stone bridge is 412 metres long."
    assert encoded == []


def test_the_same_compressor_in_both(minilm, encoded):
    compressor = rc.find("recomp-extractive")(minilm.encoder, minilm.config, store=rc.InMemoryStore())
    nodes = ingest(RagCompressTransform(compressor=compressor))
    assert len(compressor.store) == len(nodes) == len(encoded) == 2
    encoded.clear()
    RagCompressPostprocessor(compressor=compressor).postprocess_nodes(scored(nodes), query_str=QUERY)
    assert encoded == []


async def test_async(minilm, encoded):
    compressor = rc.find("recomp-extractive")(minilm.encoder, minilm.config, store=rc.InMemoryStore())
    transform = RagCompressTransform(compressor=compressor)
    pipeline = IngestionPipeline(transformations=[SentenceSplitter(chunk_size=64, chunk_overlap=0), transform])
    nodes = await pipeline.arun(documents=DOCUMENTS)
    assert len(compressor.store) == len(nodes) == 2
    encoded.clear()
    out = await RagCompressPostprocessor(compressor=compressor).apostprocess_nodes(scored(nodes), query_str=QUERY)
    assert [item.text for item in out] == ["The stone bridge is 412 metres long."]
    assert encoded == []


def test_the_title_key_is_the_same_for_both(minilm, encoded):
    compressor = rc.find("recomp-extractive")(minilm.encoder, minilm.config, store=rc.InMemoryStore())
    nodes = ingest(RagCompressTransform(compressor=compressor, title_key="page"))
    encoded.clear()
    RagCompressPostprocessor(compressor=compressor).postprocess_nodes(scored(nodes), query_str=QUERY)
    assert [document.title for document in encoded] == ["Stone bridge"]


def test_the_pipeline_caches_it(minilm, encoded):
    compressor = rc.find("recomp-extractive")(minilm.encoder, minilm.config, store=rc.InMemoryStore())
    pipeline = IngestionPipeline(transformations=[RagCompressTransform(compressor=compressor)])
    nodes = pipeline.run(documents=DOCUMENTS)
    again = pipeline.run(documents=DOCUMENTS)
    assert [node.model_dump() for node in again] == [node.model_dump() for node in nodes]
    assert len(encoded) == 2


def test_worker_processes(minilm):
    """Each fills a store of its own; here it is enough that nothing fails and the nodes come back."""
    transform = RagCompressTransform(top_k=1, device="cpu", store="memory://workers")
    # Without a SentenceSplitter, which hangs in worker processes by itself (llama-index-core 0.14.25).
    nodes = IngestionPipeline(transformations=[transform]).run(documents=DOCUMENTS, num_workers=2)
    assert [node.model_dump() for node in nodes] == [document.model_dump() for document in DOCUMENTS]
    (item,) = RagCompressPostprocessor(compressor=minilm).postprocess_nodes(scored(nodes), query_str=QUERY)
    assert item.get_content() == "The stone bridge is 412 metres long."


def test_a_compressor_without_memories_says_so():
    with pytest.warns(UserWarning, match="keep-matching encodes nothing ahead of time"):
        RagCompressTransform(compressor=KeepMatching())([TextNode(text="A.")])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        RagCompressTransform(compressor=KeepMatching())([])


def test_failures(minilm):
    settings = {"checkpoint": "/nowhere/at/all", "store": "memory://x"}
    nodes = [TextNode(text="A bridge.")]
    with pytest.raises(rc.CheckpointError):
        RagCompressTransform(**settings)(nodes)
    with pytest.warns(rc.PassThroughWarning, match="not encoded ahead of time: CheckpointError"):
        assert RagCompressTransform(**settings, on_error="pass_through")(nodes) is nodes
    with pytest.raises(rc.OptionError, match="unknown option 'topk'"):
        RagCompressTransform(topk=1, store="memory://x", on_error="pass_through")(nodes)
