"""LangChain's own tests for retrievers, unmodified."""

import pytest
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
