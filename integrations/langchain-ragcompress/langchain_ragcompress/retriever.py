"""A retriever that searches compressed documents, or compresses those that another one returns."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from langchain_core.callbacks import (
    AsyncCallbackManagerForRetrieverRun,
    CallbackManagerForRetrieverRun,
    adispatch_custom_event,
    dispatch_custom_event,
)
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever, RetrieverLike
from langchain_core.runnables import Runnable, RunnableConfig
from pydantic import ConfigDict, Field, PrivateAttr, field_serializer

import ragcompress as rc
from langchain_ragcompress.candidates import asked_for
from langchain_ragcompress.compressor import RUN_NAME, RagCompressor
from langchain_ragcompress.configured import Configured
from langchain_ragcompress.documents import for_index, from_index, summary

_K = 5
# An address means the table of this name.
_TABLE = "index"
# Arguments that have to fit each other, in the order of ``_check_arguments``.
_CHECKED = ("retriever", "index", "k", "n_candidates", "where")


class RagCompressRetriever(Configured, BaseRetriever):
    """Finds documents by their memory tokens in an index, or compresses what another retriever finds.

    ```python
    retriever = RagCompressRetriever(index="lancedb://corpus", compressor=RagCompressor("clara", checkpoint=C), k=5)
    retriever = RagCompressRetriever(retriever=store.as_retriever(), compressor=RagCompressor(top_k=6), k=10)
    documents = retriever.invoke("Who built the lighthouse?")
    ```

    It is made from plain configuration and loads nothing before the first call; it may be called from several threads
    at once.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    retriever: RetrieverLike | None = None
    """Any runnable that turns a query into documents."""
    index: str | rc.MemoryIndex | None = Field(default=None, frozen=True)
    """The corpus to search instead: an address, a folder, or an index that is open."""
    compressor: RagCompressor = Field(frozen=True)
    """What the documents go through; with an index: whose memories are in it."""
    k: int | None = None
    """How many documents come back; see the constructor."""
    n_candidates: int | None = None
    """How many documents the other retriever is asked for."""
    where: dict[str, Any] | None = None
    """Metadata that documents of the index must have."""

    _searcher: rc.Searcher | None = PrivateAttr(default=None)

    def __init__(
        self,
        *,
        compressor: RagCompressor,
        retriever: RetrieverLike | None = None,
        index: str | Path | rc.MemoryIndex | None = None,
        k: int | None = None,
        n_candidates: int | None = None,
        where: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> None:
        """Check the configuration; nothing is loaded.

        Args:
            compressor: what the documents go through. Its backend must be one that searches (``clara``) if there is an
                index.
            retriever: any runnable that turns a query into documents.
            index: instead of a retriever: ``"lancedb://FOLDER"``, a folder, the address of object storage, or a
                ``ragcompress.MemoryIndex``.
            k: how many documents come back. With an index: the best, None: as the compressor's ``top_k`` says, or 5.
                With a retriever, and a backend that ranks (``clara``): the best of those it returns, None: as the
                compressor's ``top_k`` says. With any other backend: how many are retrieved, fewer come back where
                nothing of a document is kept, None: as many as the retriever returns.
            n_candidates: how many documents the retriever is asked for, never fewer than ``k``; None: as many as it
                returns, or ``k`` where the backend does not rank.
            where: metadata that documents of the index must have, by name, equal values. No boundary between tenants:
                documents of equal text and title are one, with the metadata of whoever added it last. Give each
                tenant an index of its own.
            **more: fields of every LangChain retriever: ``name``, ``tags``, ``metadata``.

        Raises:
            OptionError: both a retriever and an index came, or neither; an argument is for the other of them, or out of
                range; or the backend cannot search. The same holds for what is set later, and in a call.
            ValidationError: a value is of a wrong type.
        """
        _check_arguments(retriever, index, k, n_candidates, where)
        fields: dict[str, Any] = {
            "compressor": compressor,
            "retriever": retriever,
            "index": str(index) if isinstance(index, Path) else index,
            "k": k,
            "n_candidates": n_candidates,
            "where": None if where is None else rc.copied_metadata(where),
        }
        given = {name: value for name, value in fields.items() if value is not None}
        super().__init__(**given, **more)
        if self.index is not None:
            self._searcher = rc.Searcher(self.compressor._adapter, self.index)

    def __setattr__(self, name: str, value: Any) -> None:  # noqa: ANN401 (as of pydantic)
        """Refuse what the constructor would refuse."""
        if name in _CHECKED:
            _check_arguments(*(value if each == name else getattr(self, each) for each in _CHECKED))
        super().__setattr__(name, value)

    def add_documents(self, documents: Sequence[Document]) -> rc.IndexSummary:
        """Encode documents and add them to the index, which is made if there is none; loads the compressor.

        What is there already is not encoded again; what cannot be used is left out, with a warning in the log.

        Args:
            documents: any number; metadata must be JSON. Documents of equal text and title are one.

        Returns:
            How many were added, and which were left out, and why (``rejected``).

        Raises:
            OptionError: this retriever has no index, or the checkpoint cannot search.
            InputTypeError: something else is among the documents.
            InputError: a document holds handles instead of text, or the index cannot be written.
            SpaceMismatchError: another checkpoint, rate or number format built the index.
        """
        if self._searcher is None:
            raise rc.OptionError(
                "this retriever searches no index that documents could be added to.",
                hint="Make it with index='lancedb://FOLDER' in the place of retriever=.",
            )
        converted = for_index(documents, self.compressor.title_key)
        # An index that nobody can search would only be noticed at the first question.
        self._searcher.compressor.check_searchable()
        return self._searcher.add(converted)

    async def aadd_documents(self, documents: Sequence[Document]) -> rc.IndexSummary:
        """Do the same off the event loop; see ``add_documents``."""
        return await asyncio.to_thread(self.add_documents, documents)

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,
        k: int | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> list[Document]:
        k, query = self._number(k), _question(query)
        config: RunnableConfig = {"callbacks": run_manager.get_child()}
        if self._searcher is not None:
            context = self._searcher.search(query, self._best(k), self._filter(where))
            documents, event = self._found(context)
            dispatch_custom_event(RUN_NAME, event, config=config)
            return documents
        retriever, n_asked = self._asked(k, where)
        arguments = asked_for(retriever, n_asked, "_get_relevant_documents")
        found = retriever.invoke(query, config, **arguments)[:n_asked]
        step = self._cutting(k)
        if step is None:
            return self.compressor.compress_documents(found, query, callbacks=run_manager.get_child())[:k]
        return step.invoke({"documents": found, "query": query}, config)

    async def _aget_relevant_documents(
        self,
        query: str,
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun,
        k: int | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> list[Document]:
        k, query = self._number(k), _question(query)
        config: RunnableConfig = {"callbacks": run_manager.get_child()}
        if self._searcher is not None:
            context = await self._searcher.asearch(query, self._best(k), self._filter(where))
            documents, event = self._found(context)
            await adispatch_custom_event(RUN_NAME, event, config=config)
            return documents
        retriever, n_asked = self._asked(k, where)
        # Langchain-core's own asynchronous method passes no arguments on to the synchronous one.
        arguments = asked_for(retriever, n_asked, "_aget_relevant_documents")
        found = (await retriever.ainvoke(query, config, **arguments))[:n_asked]
        step = self._cutting(k)
        if step is None:
            return (await self.compressor.acompress_documents(found, query, callbacks=run_manager.get_child()))[:k]
        return await step.ainvoke({"documents": found, "query": query}, config)

    def _number(self, k: int | None) -> int | None:
        _check_number("k", k)
        return self.k if k is None else k

    def _best(self, k: int | None) -> int:
        """How many are looked for in an index."""
        return self.compressor.options.get("top_k") or _K if k is None else k

    def _filter(self, where: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        """A call narrows the search down further."""
        _check_where(where)
        return self.where if where is None else {**(self.where or {}), **where}

    def _found(self, context: rc.CompressedContext) -> tuple[list[Document], dict[str, Any]]:
        """Documents, and the entry for traces, where the search is a run of its own already."""
        compressor = self.compressor
        documents = from_index(
            context,
            backend=compressor.backend,
            title_key=compressor.title_key,
            keep_original=compressor.keep_original,
        )
        n_found = len(context.documents)
        return documents, summary(rc.Outcome(context), compressor.backend, n_found, len(documents))

    def _asked(self, k: int | None, where: Mapping[str, Any] | None) -> tuple[RetrieverLike, int | None]:
        """The other retriever, and how many documents it is asked for."""
        if where is not None:
            raise _no_filter(where)
        assert self.retriever is not None
        n_asked = self.n_candidates if self._ranks or self.n_candidates is not None else k
        return self.retriever, n_asked if n_asked is None or k is None else max(n_asked, k)

    @property
    def _ranks(self) -> bool:
        """Whether the backend itself says which documents are the best."""
        return rc.searches(self.compressor._adapter)

    def _cutting(self, k: int | None) -> Runnable[dict[str, Any], list[Document]] | None:
        """Compression that keeps k documents of more; None: all that were retrieved are kept."""
        if k is None or not (self._ranks or self.n_candidates is not None):
            return None
        return self.compressor._runnable(limit=k, ranked=self._ranks)

    @field_serializer("index", when_used="json")
    def _write_index(self, index: str | rc.MemoryIndex | None) -> str | None:
        if not isinstance(index, rc.MemoryIndex):
            return index
        if index.table != _TABLE:
            raise rc.OptionError(
                f"{index!r} cannot be written as JSON: an address means the table {_TABLE!r}, not {index.table!r}.",
                hint="Pickle keeps an index that is open.",
            )
        return index.location


def _question(query: str) -> str:
    """What was asked: tools put a line end behind it, which would become other memory tokens."""
    return query.strip() if isinstance(query, str) else query


def _check_arguments(retriever: object, index: object, k: object, n_candidates: object, where: object) -> None:
    if (retriever is None) == (index is None):
        came = "neither" if index is None else "both"
        raise rc.OptionError(
            f"expected a retriever or an index, got {came}.",
            hint="index='lancedb://FOLDER' is searched by memory tokens; retriever= is any other retriever, whose "
            "documents are then compressed.",
        )
    _check_number("k", k)
    _check_number("n_candidates", n_candidates)
    _check_where(where)
    if index is not None and n_candidates is not None:
        raise rc.OptionError(
            f"n_candidates={n_candidates} came with an index, where every document is a candidate.",
            hint="It is how many documents retriever= is asked for; k is how many come back.",
        )
    if index is None and where is not None:
        raise _no_filter(where)


def _check_number(name: str, value: object) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise rc.OptionError(f"{name} must be a whole number and at least 1, got {value!r}.")


def _check_where(where: object) -> None:
    if where is not None and not (isinstance(where, Mapping) and all(isinstance(name, str) for name in where)):
        raise rc.OptionError(f"where must be a mapping from names of metadata to values, got {where!r}.")


def _no_filter(where: object) -> rc.OptionError:
    return rc.OptionError(
        f"where={where!r} filters an index, and this retriever has none.",
        hint="Filter in the retriever that finds the documents, or pass index= in its place.",
    )
