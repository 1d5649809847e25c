"""ragcompress as a LangChain document compressor and as a runnable."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from langchain_core.callbacks import Callbacks, adispatch_custom_event, dispatch_custom_event
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from pydantic import ConfigDict, Field, PrivateAttr, SerializationInfo, SerializerFunctionWrapHandler, model_serializer

import ragcompress as rc
from langchain_ragcompress.configured import Configured
from langchain_ragcompress.documents import carried_along, from_outcome, summary, to_core

# Name of the run and of the event in traces.
RUN_NAME = "ragcompress"


class RagCompressor(Configured, BaseDocumentCompressor):
    """Compresses retrieved documents with any ragcompress backend.

    It is made from plain configuration and loads the backend on the first call. It can be pickled, and be written as
    JSON and read back; it may be called from several threads at once.

    >>> compressor = RagCompressor("recomp-extractive", top_k=6, on_error="pass_through")
    >>> RagCompressor.model_validate_json(compressor.model_dump_json()) == compressor
    True
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", frozen=True)

    backend: str = "recomp-extractive"
    """Name in the registry of ragcompress."""
    checkpoint: str | None = None
    """Path or hub id; None: the backend's default."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of ``ragcompress.load``."""
    on_error: Literal["raise", "pass_through"] = "raise"
    """``"pass_through"``: warn and hand the documents on as they are."""
    timeout: float | None = None
    """Seconds after which a call counts as failed."""
    min_chars: int = 0
    """Documents with fewer characters than this together are handed on as they are."""
    title_key: str = "title"
    """Where in the metadata a document's title is."""
    replace_score: bool = False
    """Whether the compressor's score replaces a ``relevance_score`` that is already there."""
    keep_original: bool = False
    """Whether the original text is kept in the metadata, under ``ragcompress.ORIGINAL_KEY``."""

    _adapter: rc.Adapter = PrivateAttr()
    _by_hand: bool = PrivateAttr(default=False)

    def __init__(
        self,
        backend: str | Sequence[Mapping[str, Any]] = "recomp-extractive",
        *,
        checkpoint: str | Path | None = None,
        compressor: rc.Compressor | None = None,
        options: Mapping[str, Any] | None = None,
        on_error: Literal["raise", "pass_through"] = "raise",
        timeout: float | None = None,
        min_chars: int = 0,
        title_key: str = "title",
        replace_score: bool = False,
        keep_original: bool = False,
        **more_options: Any,
    ) -> None:
        """Check the configuration; nothing is loaded.

        Args:
            backend: name in the registry, as ``ragcompress.available`` lists it; or the stages of a pipeline, each a
                dictionary with ``backend`` and options.
            checkpoint: path or hub id; None: the backend's default.
            compressor: an object to use instead of loading one.
            options: keyword arguments of ``ragcompress.load``.
            on_error: ``"raise"``, or ``"pass_through"``: warn and hand the documents on as they are.
            timeout: seconds after which a call counts as failed; None: no limit.
            min_chars: documents with fewer characters than this together are handed on as they are.
            title_key: where in the metadata a document's title is.
            replace_score: whether the compressor's score replaces a ``relevance_score`` that is already there.
            keep_original: whether the original text is kept in the metadata.
            **more_options: further ``options``, e.g. ``top_k=6`` or ``store="memory://docs"``; they win.

        Raises:
            OptionError: a value is out of range, or both a compressor and options came.
            UnknownBackendError: no such backend; lists those there are, closest first.
        """
        adapter = rc.Adapter(
            backend,
            None if checkpoint is None else str(checkpoint),
            {**(options or {}), **more_options},
            compressor=compressor,
            on_error=on_error,
            timeout=timeout,
            min_chars=min_chars,
        )
        fields: dict[str, Any] = {
            "backend": adapter.backend,
            "checkpoint": adapter.checkpoint,
            "options": adapter.options,
            "on_error": on_error,
            "timeout": timeout,
            "min_chars": min_chars,
            "title_key": title_key,
            "replace_score": replace_score,
            "keep_original": keep_original,
        }
        super().__init__(**fields)
        self._adapter = adapter
        self._by_hand = compressor is not None and compressor.spec is None

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """Compress documents; in traces this is a run of its own.

        Args:
            documents: stay as they are.
            query: empty: a backend that needs a query hands the documents on as they are.
            callbacks: of the calling run; None: those of the surrounding runnable, if there is one.

        Returns:
            Copies with the text that was kept, without those of which nothing was; see the README for the metadata.

        Raises:
            RagCompressError: compression failed and ``on_error`` is ``"raise"``.
        """
        return self.as_runnable().invoke({"documents": documents, "query": query}, {"callbacks": callbacks})

    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """Do the same off the event loop; see ``compress_documents``."""
        return await self.as_runnable().ainvoke({"documents": documents, "query": query}, {"callbacks": callbacks})

    def as_runnable(
        self, documents_key: str = "documents", query_key: str = "query"
    ) -> Runnable[dict[str, Any], list[Document]]:
        """Make a step for a chain: a dictionary with documents and a query in, documents out.

        Args:
            documents_key: of the documents in the dictionary.
            query_key: of the query in the dictionary.

        Returns:
            A runnable with ``invoke``, ``ainvoke``, ``batch`` and ``abatch``, named ``"ragcompress"`` in traces.
        """
        return self._runnable(documents_key, query_key)

    def _runnable(
        self,
        documents_key: str = "documents",
        query_key: str = "query",
        *,
        limit: int | None = None,
        ranked: bool = False,
    ) -> Runnable[dict[str, Any], list[Document]]:
        """Make the step; ``limit``: how many documents go on, the backend's best if it is asked to rank them."""
        changes = {"top_k": limit} if ranked else None

        def read(inputs: dict[str, Any]) -> tuple[list[Document], str]:
            if not isinstance(inputs, dict) or documents_key not in inputs or query_key not in inputs:
                came = f"the keys {list(inputs)}" if isinstance(inputs, dict) else type(inputs).__name__
                raise rc.InputTypeError(f"expected a dict with {documents_key!r} and {query_key!r}, got {came}.")
            query = inputs[query_key]
            if query is not None and not isinstance(query, str):
                raise rc.InputTypeError(f"the query must be a string, got {type(query).__name__}.")
            return list(inputs[documents_key]), query or ""

        def compress(inputs: dict[str, Any], config: RunnableConfig) -> list[Document]:
            documents, query = read(inputs)
            carried, converted = self._read(documents)
            outcome = self._adapter.compress(query, converted, changes)
            result = self._written(outcome, documents, carried, limit, ranked)
            event = summary(outcome, self.backend, len(documents), len(result))
            dispatch_custom_event(RUN_NAME, event, config=config)
            return result

        async def acompress(inputs: dict[str, Any], config: RunnableConfig) -> list[Document]:
            documents, query = read(inputs)
            carried, converted = self._read(documents)
            outcome = await self._adapter.acompress(query, converted, changes)
            result = self._written(outcome, documents, carried, limit, ranked)
            event = summary(outcome, self.backend, len(documents), len(result))
            await adispatch_custom_event(RUN_NAME, event, config=config)
            return result

        runnable = RunnableLambda(compress, acompress, name=RUN_NAME)
        return runnable.with_config(metadata={"ragcompress_backend": self.backend})

    def remember(self, documents: Sequence[Document]) -> int:
        """Compute ahead of time what does not depend on the query, e.g. at ingestion; name a ``store`` to share it.

        Args:
            documents: any number.

        Returns:
            How many different memories the documents have; 0 if the backend keeps none.
        """
        return self._adapter.remember(self._read(documents)[1])

    async def aremember(self, documents: Sequence[Document]) -> int:
        """Do the same off the event loop; see ``remember``."""
        return await asyncio.to_thread(self.remember, documents)

    def _arguments(self, changed: Collection[str]) -> dict[str, Any]:
        values = super()._arguments(changed)
        configuration = {"backend", "checkpoint", "options"}
        if not self._by_hand or configuration & set(changed):
            return values
        return {"compressor": self._adapter.compressor} | {
            name: value for name, value in values.items() if name not in configuration
        }

    def _compared(self) -> dict[str, Any]:
        return dict(self) | {"compressor": id(self._adapter.compressor) if self._by_hand else None}

    @model_serializer(mode="wrap")
    def _serialize(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        if info.mode_is_json() or self._by_hand:
            self._adapter.configuration()  # raises if it has no written form
        written: dict[str, Any] = handler(self)
        return written

    def _read(self, documents: Sequence[Document]) -> tuple[set[int], list[rc.Document]]:
        """Which documents are handles already, and the others as the core reads them."""
        carried = carried_along(documents)
        converted = to_core(documents, self.title_key)
        return carried, [document for index, document in enumerate(converted) if index not in carried]

    def _written(
        self,
        outcome: rc.Outcome,
        documents: Sequence[Document],
        carried: set[int],
        limit: int | None,
        ranked: bool,
    ) -> list[Document]:
        return from_outcome(
            outcome,
            documents,
            carried,
            backend=self.backend,
            # The order of the documents must be that of their scores.
            replace_score=self.replace_score or ranked,
            keep_original=self.keep_original,
            keep_blank=not ranked,
            limit=limit,
        )
