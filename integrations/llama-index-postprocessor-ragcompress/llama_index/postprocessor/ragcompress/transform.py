"""The ingestion step: what does not depend on the query is computed before the first one."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llama_index.core.schema import BaseNode, TransformComponent
from llama_index.postprocessor.ragcompress.config import OnError, RagCompressComponent
from llama_index.postprocessor.ragcompress.events import dispatcher
from llama_index.postprocessor.ragcompress.nodes import to_document

from ragcompress import Compressor, OptionError, PassThroughWarning, Pipeline, available, find


class RagCompressTransform(RagCompressComponent, TransformComponent):
    """Fills the store of a compressor with the nodes that pass by, which stay as they are.

    Put it last among the transformations, behind the node parser: a memory belongs to the very text and title that a
    query will retrieve. Name the same store here and in the postprocessor, or give both the same compressor.

    >>> transform = RagCompressTransform(store="memory://docs")
    >>> postprocessor = RagCompressPostprocessor(store="memory://docs")  # doctest: +SKIP

    A ``memory://`` store lives in one process. With ``num_workers > 1`` each worker of an ``IngestionPipeline`` fills
    one of its own, which ends with it; and nodes that the pipeline finds in its cache do not come here. Nothing
    breaks: a query encodes what it misses.
    """

    def __init__(
        self,
        backend: str | Sequence[Mapping[str, Any]] = "recomp-extractive",
        *,
        checkpoint: str | Path | None = None,
        compressor: Compressor | None = None,
        options: Mapping[str, Any] | None = None,
        on_error: OnError = "raise",
        timeout: float | None = None,
        min_chars: int = 0,
        title_key: str = "title",
        **more_options: Any,
    ) -> None:
        """Check the settings; the compressor is loaded on the first call.

        Args:
            backend: name of the compressor, as ``ragcompress.available`` lists it; or the stages of a pipeline, each a
                dictionary with ``backend`` and options.
            checkpoint: path or hub id; None: the backend's default.
            compressor: an object to use instead of loading one.
            options: keyword arguments of ``ragcompress.load``.
            on_error: ``"raise"``, or ``"pass_through"``: warn and leave the encoding to the first query.
            timeout: of a query; without effect here, so that one set of arguments serves both components.
            min_chars: as ``timeout``.
            title_key: metadata key of a node's title.
            **more_options: more of ``options``, e.g. ``store="memory://docs"``.

        Raises:
            OptionError: a value is out of range, or both a compressor and options came.
            UnknownBackendError: no such backend.
        """
        named = isinstance(backend, str) and backend in available()
        kind = find(str(backend)).info.kind if compressor is None and named else None
        if isinstance(compressor, Compressor):
            kind = compressor.info.kind
        # This step writes no handles. What a pipeline makes is known by its stages alone.
        if kind == "vectors" or (compressor is None and (not named or backend == Pipeline.name)):
            more_options = {"handles": "expected", **more_options}
        super().__init__(
            backend=backend,
            checkpoint=checkpoint,
            compressor=compressor,
            options=options,
            more_options=more_options,
            on_error=on_error,
            timeout=timeout,
            min_chars=min_chars,
            title_key=title_key,
        )
        if compressor is None and self.options.get("store") is None:
            warnings.warn(
                "no query will read what this step stores: name a store, store='memory://NAME', here and in "
                "the postprocessor, or give both the same compressor.",
                stacklevel=2,
            )

    @classmethod
    def class_name(cls) -> str:
        """Name of the component."""
        return "RagCompressTransform"

    @dispatcher.span
    def __call__(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:
        """Fill the store.

        Args:
            nodes: any number.
            **kwargs: as in the base class; ignored.

        Returns:
            The same nodes.

        Raises:
            RagCompressError: encoding failed and ``on_error`` is ``"raise"``.
        """
        self._remember(nodes)
        return nodes

    @dispatcher.span
    async def acall(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:
        """Do the same off the event loop; see ``__call__``."""
        await asyncio.to_thread(self._remember, nodes)
        return nodes

    def _remember(self, nodes: Sequence[BaseNode]) -> None:
        documents = [document for node in nodes if (document := to_document(node, self.title_key)) is not None]
        try:
            n_memories = self._adapter.remember(documents)
        except Exception as error:  # fail open, if that was asked for: memories only save time
            if self.on_error == "raise" or isinstance(error, OptionError):  # as the Adapter does
                raise
            warnings.warn(
                f"nodes were not encoded ahead of time: {type(error).__name__}: {error}",
                PassThroughWarning,
                stacklevel=3,
            )
            return
        if documents and not n_memories:
            warnings.warn(f"{self.backend} encodes nothing ahead of time: this step does nothing.", stacklevel=3)
