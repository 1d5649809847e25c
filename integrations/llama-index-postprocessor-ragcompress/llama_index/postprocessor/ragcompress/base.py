"""The node postprocessor: from retrieved nodes to shorter ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llama_index.core.bridge.pydantic import Field
from llama_index.core.callbacks import CallbackManager
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import NodeWithScore, QueryBundle
from llama_index.postprocessor.ragcompress.config import OnError, RagCompressComponent
from llama_index.postprocessor.ragcompress.events import CompressionEndEvent, CompressionStartEvent, dispatcher
from llama_index.postprocessor.ragcompress.nodes import Assembly

from ragcompress import Compressor, Document, Outcome


class RagCompressPostprocessor(RagCompressComponent, BaseNodePostprocessor):
    """Compresses the text of retrieved nodes with any compressor of ragcompress.

    The nodes that come out are new ones. Ids, metadata and relationships are kept; what was done to a node stands in
    its metadata (``ragcompress.read_note(node.metadata)``), where neither the prompt nor an embedding sees it. Nodes
    of which nothing was kept are left out; nodes without text, a picture, say, pass through.

    Compressors that make vectors (``pisco``, ``oscar``) put handles in the place of text, which ``RagCompressLLM``
    reads. Nodes that hold such handles already pass through, so postprocessors may follow each other.

    >>> postprocessor = RagCompressPostprocessor(top_k=6)
    >>> engine = index.as_query_engine(node_postprocessors=[postprocessor])  # doctest: +SKIP
    """

    replace_score: bool = Field(
        default=False, frozen=True, description="Whether the compressor's score replaces the retriever's."
    )
    keep_original: bool = Field(default=False, frozen=True, description="Whether the metadata keep the original text.")

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
        replace_score: bool = False,
        keep_original: bool = False,
        callback_manager: CallbackManager | None = None,
        **more_options: Any,
    ) -> None:
        """Check the settings; the compressor is loaded on the first call.

        Args:
            backend: name of the compressor, as ``ragcompress.available`` lists it; or the stages of a pipeline, each a
                dictionary with ``backend`` and options.
            checkpoint: path or hub id; None: the backend's default.
            compressor: an object to use instead of loading one.
            options: keyword arguments of ``ragcompress.load``.
            on_error: ``"raise"``, or ``"pass_through"``: warn and hand the nodes on uncompressed.
            timeout: seconds after which a call counts as failed; None: no limit.
            min_chars: nodes with fewer characters than this together are handed on uncompressed.
            title_key: metadata key of a node's title, which backends read together with the text.
            replace_score: put the compressor's best score in the place of the retriever's.
            keep_original: keep the text that came in under ``ragcompress.ORIGINAL_KEY`` in the metadata.
            callback_manager: LlamaIndex's.
            **more_options: more of ``options``, e.g. ``top_k=6`` or ``store="memory://docs"``.

        Raises:
            OptionError: a value is out of range, or both a compressor and options came.
            UnknownBackendError: no such backend.
        """
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
            replace_score=replace_score,
            keep_original=keep_original,
            callback_manager=callback_manager or CallbackManager(),
        )

    @classmethod
    def class_name(cls) -> str:
        """Name of the component."""
        return "RagCompressPostprocessor"

    @dispatcher.span
    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        """Compress."""
        return self._compress(nodes, query_bundle)

    @dispatcher.span
    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        """Compress off the event loop."""
        return await self._acompress(nodes, query_bundle)

    def _compress(
        self,
        nodes: Sequence[NodeWithScore],
        query_bundle: QueryBundle | None,
        changes: Mapping[str, Any] | None = None,
    ) -> list[NodeWithScore]:
        """Compress, with other options of the backend for this call if ``changes`` names some."""
        assembly, query = self._begin(nodes, query_bundle)
        return self._end(assembly, query, self._adapter.compress(query, assembly.documents, changes))

    async def _acompress(
        self,
        nodes: Sequence[NodeWithScore],
        query_bundle: QueryBundle | None,
        changes: Mapping[str, Any] | None = None,
    ) -> list[NodeWithScore]:
        """Do the same off the event loop."""
        assembly, query = self._begin(nodes, query_bundle)
        return self._end(assembly, query, await self._adapter.acompress(query, assembly.documents, changes))

    def _begin(self, nodes: Sequence[NodeWithScore], query_bundle: QueryBundle | None) -> tuple[Assembly, str | None]:
        query = query_bundle.query_str if query_bundle is not None else None
        nodes = list(nodes)
        assembly = self._assembly(nodes)
        node_ids = [item.node.node_id for item in nodes]
        dispatcher.event(CompressionStartEvent(backend=self.backend, query=query, node_ids=node_ids))
        return assembly, query

    def _assembly(self, nodes: Sequence[NodeWithScore], documents: Sequence[Document] | None = None) -> Assembly:
        return Assembly(
            nodes,
            backend=self.backend,
            title_key=self.title_key,
            replace_score=self.replace_score,
            keep_original=self.keep_original,
            documents=documents,
        )

    def _end(self, assembly: Assembly, query: str | None, outcome: Outcome) -> list[NodeWithScore]:
        built = assembly.build(outcome, query)
        event = CompressionEndEvent(
            backend=self.backend, node_ids=[item.node.node_id for item in built], skipped=outcome.reason
        )
        if (context := outcome.context) is not None:
            event.n_tokens, event.n_slots, event.counter = context.n_tokens, context.n_slots, context.counter
            event.truncated = context.truncated
        dispatcher.event(event)
        return built

    def __setstate__(self, state: dict[Any, Any]) -> None:
        """Restore, without the callback handlers of the other process."""
        super().__setstate__(state)
        self.callback_manager = CallbackManager()
