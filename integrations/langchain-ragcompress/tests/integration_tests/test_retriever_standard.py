"""LangChain's own tests for retrievers, unmodified."""

import pytest
from langchain_core.documents import Document
from langchain_ragcompress import RagCompressor, RagCompressRetriever
from langchain_tests.integration_tests import RetrieversIntegrationTests


class TestRagCompressRetriever(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def _base(self, store, minilm):
        # pool="document": every document keeps a sentence, so that k documents come back.
        self.base = store.as_retriever()
        self.compressor = RagCompressor(compressor=minilm.with_options(pool="document", top_k=1))

    @property
    def retriever_constructor(self):
        return RagCompressRetriever

    @property
    def retriever_constructor_params(self):
        return {"retriever": self.base, "compressor": self.compressor}

    @property
    def retriever_query_example(self):
        return "Who built the bridge over the river?"


DOCUMENTS = [
    Document(f"The bridge of the {place} was built by monks, and pigeons nest under its arches.", id=place)
    for place in ("river", "harbour", "island", "city", "valley", "moor")
]


class TestSearchingAnIndex(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def _index(self, latent, tmp_path):
        pytest.importorskip("lancedb")
        self.parameters = {"index": f"lancedb://{tmp_path}/corpus", "compressor": latent("clara")[0]}
        RagCompressRetriever(**self.parameters).add_documents(DOCUMENTS)

    @property
    def retriever_constructor(self):
        return RagCompressRetriever

    @property
    def retriever_constructor_params(self):
        return self.parameters

    @property
    def retriever_query_example(self):
        return "Who built the bridge over the river?"


class TestRanking(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def _base(self, latent, store):
        self.parameters = {"retriever": store.as_retriever(), "compressor": latent("clara")[0], "n_candidates": 5}

    @property
    def retriever_constructor(self):
        return RagCompressRetriever

    @property
    def retriever_constructor_params(self):
        return self.parameters

    @property
    def retriever_query_example(self):
        return "Who built the bridge over the river?"
