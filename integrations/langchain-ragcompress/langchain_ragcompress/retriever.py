"""A retriever that compresses what another one returns; needs nothing but langchain-core."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever, RetrieverLike
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.vectorstores import VectorStoreRetriever
from pydantic import Field

import ragcompress as rc
from langchain_ragcompress.compressor import RagCompressor


class RagCompressRetriever(BaseRetriever):
    """Retrieves with any retriever, then compresses.

    ```python
    retriever = RagCompressRetriever(retriever=store.as_retriever(), compressor=RagCompressor(top_k=6), k=10)
    documents = retriever.invoke("Who built the lighthouse?")
    ```
    """

    retriever: RetrieverLike
    """Any runnable that turns a query into documents."""
    compressor: RagCompressor
    """What the documents go through."""
    k: int | None = Field(default=None, ge=1)
    """How many documents are retrieved; fewer come back where nothing of a document is kept. None: as many as the
    retriever returns."""

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        k = self._checked(k)
        config: RunnableConfig = {"callbacks": run_manager.get_child()}
        documents = self.retriever.invoke(query, config, **self._arguments(k, "_get_relevant_documents"))[:k]
        return self.compressor.compress_documents(documents, query, callbacks=run_manager.get_child())[:k]

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        k = self._checked(k)
        config: RunnableConfig = {"callbacks": run_manager.get_child()}
        # Langchain-core's own asynchronous method passes no arguments on to the synchronous one.
        arguments = self._arguments(k, "_aget_relevant_documents")
        documents = (await self.retriever.ainvoke(query, config, **arguments))[:k]
        return (await self.compressor.acompress_documents(documents, query, callbacks=run_manager.get_child()))[:k]

    def _checked(self, k: int | None) -> int | None:
        if k is not None and (not isinstance(k, int) or k < 1):
            raise rc.OptionError(f"k must be a whole number, at least 1, got {k!r}.")
        return self.k if k is None else k

    def _arguments(self, k: int | None, method: str) -> dict[str, Any]:
        return {"k": k} if k is not None and _understands_k(self.retriever, method) else {}


def _understands_k(retriever: RetrieverLike, method: str) -> bool:
    """Whether a retriever can be asked for a number of documents.

    One that merely takes any keyword may hand them to a service that knows no ``k``; the result is cut instead.
    """
    inner: object = retriever
    while isinstance(inner, RunnableBindingBase):  # what with_config and with_retry make
        inner = inner.bound
    if not isinstance(inner, BaseRetriever):
        return False
    return isinstance(inner, VectorStoreRetriever) or "k" in _signature(getattr(inner, method)).parameters


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    """From Python 3.14 on, annotations that only a type checker can resolve would be evaluated, and fail."""
    if sys.version_info >= (3, 14):
        from annotationlib import Format

        return inspect.signature(function, annotation_format=Format.FORWARDREF)
    return inspect.signature(function)
