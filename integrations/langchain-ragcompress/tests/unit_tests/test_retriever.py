"""The retriever around a retriever."""

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_ragcompress import RagCompressor, RagCompressRetriever

import ragcompress as rc

both = pytest.mark.parametrize("mode", ["sync", "async"])


class Asked(BaseRetriever):
    """Writes down the k that it was asked for."""

    asked: list = []  # noqa: RUF012 (pydantic copies it)

    def _get_relevant_documents(self, query, *, run_manager, k=9):
        self.asked.append(k)
        return [Document(f"Bridge {index}.", id=str(index)) for index in range(k)]


class AskedAsync(Asked):
    """The same with a native asynchronous method (langchain-core's own passes no other arguments on)."""

    async def _aget_relevant_documents(self, query, *, run_manager, k=9):
        return self._get_relevant_documents(query, run_manager=run_manager, k=k)


class Unasked(BaseRetriever):
    """Returns nine, whatever one asks for."""

    def _get_relevant_documents(self, query, *, run_manager):
        return [Document(f"Bridge {index}.", id=str(index)) for index in range(9)]


class Strict(Unasked):
    """Takes other arguments, but not k."""

    def _get_relevant_documents(self, query, *, run_manager, where=None):
        return super()._get_relevant_documents(query, run_manager=run_manager)


async def run(retriever, query, mode, **kwargs):
    return retriever.invoke(query, **kwargs) if mode == "sync" else await retriever.ainvoke(query, **kwargs)


@pytest.fixture
def compressor(fakes):
    return RagCompressor(compressor=fakes.Keywords())


@both
@pytest.mark.parametrize("wrap", [lambda inner: inner, lambda inner: inner.with_config(tags=["x"]).with_retry()])
async def test_a_retriever_that_understands_k_is_asked(compressor, mode, wrap):
    inner = AskedAsync()
    retriever = RagCompressRetriever(retriever=wrap(inner), compressor=compressor, k=3)
    assert len(await run(retriever, "bridge", mode)) == 3
    assert len(await run(retriever, "bridge", mode, k=20)) == 20
    assert len(await run(RagCompressRetriever(retriever=inner, compressor=compressor), "bridge", mode)) == 9
    assert inner.asked == [3, 20, 9]


@both
async def test_vector_stores_are_asked(compressor, mode):
    store = InMemoryVectorStore(DeterministicFakeEmbedding(size=8))
    store.add_texts([f"Bridge {index}." for index in range(9)])
    retriever = RagCompressRetriever(retriever=store.as_retriever(), compressor=compressor)
    assert len(await run(retriever, "bridge", mode)) == 4
    assert len(await run(retriever, "bridge", mode, k=7)) == 7


@both
@pytest.mark.parametrize("inner", [Asked(), Unasked(), Strict(), RunnableLambda(Unasked().invoke)])
async def test_others_are_cut(fakes, mode, inner):
    compressor = fakes.Keywords()
    retriever = RagCompressRetriever(retriever=inner, compressor=RagCompressor(compressor=compressor), k=2)
    out = await run(retriever, "bridge", mode)
    assert [document.id for document in out] == ["0", "1"]
    assert len(compressor.seen[0]) == 2
    assert len(await run(retriever, "bridge", mode, k=5)) == 5


@both
async def test_nothing_found(compressor, mode):
    retriever = RagCompressRetriever(retriever=RunnableLambda(lambda _: []), compressor=compressor)
    assert await run(retriever, "bridge", mode) == []


@both
async def test_wrong_k(compressor, mode):
    retriever = RagCompressRetriever(retriever=Unasked(), compressor=compressor)
    for k in (0, -1, "3", True):
        with pytest.raises(rc.OptionError, match="k must be a whole number"):
            RagCompressRetriever(retriever=Unasked(), compressor=compressor, k=k)
        with pytest.raises(rc.OptionError, match="k must be a whole number"):
            await run(retriever, "bridge", mode, k=k)
        with pytest.raises(rc.OptionError, match="k must be a whole number"):
            retriever.k = k
