"""The retriever: documents are found by their own memory tokens, without an embedding model or a vector store."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.callbacks import CallbackManager
from llama_index.core.schema import BaseNode, IndexNode, NodeWithScore, QueryBundle
from llama_index.core.vector_stores.types import MetadataFilters
from llama_index.postprocessor.ragcompress.base import RagCompressPostprocessor
from llama_index.postprocessor.ragcompress.config import merged_options
from llama_index.postprocessor.ragcompress.events import dispatcher
from llama_index.postprocessor.ragcompress.filters import to_where
from llama_index.postprocessor.ragcompress.indexed import from_indexed, to_indexed

from ragcompress import CompressedContext, Compressor, OptionError, Outcome, Searcher, searches

if TYPE_CHECKING:
    from ragcompress import IndexSummary, MemoryIndex

# As published: the best five.
_TOP_K = 5


class RagCompressRetriever(BaseRetriever):
    """Finds documents by the cosine between a question's memory tokens and theirs, and hands out the memory tokens.

    With ``RagCompressLLM`` it is a whole pipeline. The nodes hold handles in the place of text, the score is the
    cosine, best first.

    >>> retriever = RagCompressRetriever("clara", checkpoint=..., index="lancedb://corpus")  # doctest: +SKIP
    >>> engine = RetrieverQueryEngine.from_args(retriever, llm=RagCompressLLM("clara", ...))  # doctest: +SKIP

    With ``retriever=`` in the place of ``index=``, another retriever finds candidates, which are compressed; a backend
    that searches keeps the best ``similarity_top_k`` of them.

    Nothing is loaded in the constructor. Several threads may use one retriever. It can be pickled: its configuration,
    the index's address, and an object that was handed over and cannot be loaded again.
    """

    def __init__(
        self,
        backend: str = "clara",
        *,
        index: str | Path | MemoryIndex | None = None,
        retriever: BaseRetriever | None = None,
        checkpoint: str | Path | None = None,
        compressor: Compressor | None = None,
        options: Mapping[str, Any] | None = None,
        similarity_top_k: int | None = None,
        where: Mapping[str, object] | None = None,
        filters: MetadataFilters | None = None,
        title_key: str = "title",
        keep_original: bool = False,
        callback_manager: CallbackManager | None = None,
        object_map: Mapping[str, Any] | None = None,
        objects: Sequence[IndexNode] | None = None,
        verbose: bool = False,
        **more_options: Any,
    ) -> None:
        """Check the settings; model and index are opened on the first call.

        Args:
            backend: name of the compressor, as ``ragcompress.available`` lists it.
            index: of memories: a folder, ``"lancedb://FOLDER"``, the address of object storage, or one that is open.
            retriever: that finds candidates, instead of an index.
            checkpoint: path or hub id.
            compressor: an object to use instead of loading one.
            options: keyword arguments of ``ragcompress.load``.
            similarity_top_k: how many nodes; None: 5, and for a backend that does not search, all candidates.
            where: metadata that documents of the index must have, by name, equal values. No boundary between tenants:
                documents of equal text and title are one, with the metadata of whoever added it last. Give each
                tenant an index of its own.
            filters: the same as LlamaIndex writes it, with ``==`` and AND alone; no boundary either.
            title_key: metadata key of a node's title.
            keep_original: keep the text under ``ragcompress.ORIGINAL_KEY`` in the metadata.
            callback_manager: LlamaIndex's.
            object_map: LlamaIndex's: what ``IndexNode`` stand for, by ``index_id``.
            objects: LlamaIndex's: ``IndexNode`` with what they stand for.
            verbose: LlamaIndex's: print when the retriever goes on into such an object.
            **more_options: more of ``options``, e.g. ``device="cuda"`` or ``store="memory://docs"``.

        Raises:
            OptionError: a value is out of range, not exactly one of ``index`` and ``retriever`` came, or the backend
                cannot do what is asked for.
            UnknownBackendError: no such backend.
        """
        super().__init__(
            callback_manager=callback_manager,
            object_map=dict(object_map) if object_map is not None else None,
            objects=list(objects) if objects is not None else None,
            verbose=verbose,
        )
        _check_source(index, retriever)
        options = merged_options(options, more_options)
        # Holds settings and compressor, and writes the nodes in both ways of finding them.
        self._postprocessor = RagCompressPostprocessor(
            backend,
            checkpoint=checkpoint,
            compressor=compressor,
            options=options,
            title_key=title_key,
            replace_score=True,
            keep_original=keep_original,
        )
        self._ranks = searches(self._postprocessor._adapter)
        if self._ranks and "top_k" in options:
            raise OptionError(
                f"top_k={options['top_k']!r} came; a retriever's name for it is similarity_top_k.",
                hint=f"similarity_top_k={options['top_k']!r}",
            )
        self._retriever = retriever
        self._searcher = None if index is None else Searcher(self._postprocessor._adapter, index)
        self._where = to_where(where, filters)
        if self._searcher is None and self._where is not None:
            raise OptionError(
                "where and filters belong to an index; here another retriever finds the nodes.",
                hint="Give the filter to that retriever.",
            )
        self.similarity_top_k = _TOP_K if similarity_top_k is None and self._ranks else similarity_top_k

    @property
    def similarity_top_k(self) -> int | None:
        """How many nodes are returned; may be set between calls. None: all candidates, compressed."""
        return self._top_k

    @similarity_top_k.setter
    def similarity_top_k(self, value: int | None) -> None:
        if not self._ranks and value is not None:
            raise OptionError(
                f"similarity_top_k={value!r} came, but {self._postprocessor.backend!r} does not rank nodes.",
                hint="Ask the inner retriever for as many nodes as you want.",
            )
        if self._ranks and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise OptionError(f"similarity_top_k must be a whole number and at least 1, got {value!r}.")
        self._top_k = value

    def add_nodes(self, nodes: Sequence[BaseNode]) -> IndexSummary:
        """Encode nodes and add them to the index, which is made if there is none.

        Ids, metadata, relationships, excluded keys and plain templates come back with the node, pictures by their
        address on the web, but no paths: a file could have written them. What is there already is not encoded again.
        Nodes of equal text and title are one document of the index: the first of a call, and the latest call.

        Args:
            nodes: as a node parser makes them; they stay as they are.

        Returns:
            What was added, and what was left out: nodes without text, for one.

        Raises:
            OptionError: there is no index, since another retriever finds the nodes; or the checkpoint cannot search.
            InputTypeError: something is no node.
            InputError: a node holds handles in the place of text, or metadata that JSON cannot hold; nothing was added.
            SpaceMismatchError: another checkpoint, rate or configuration built the index.
        """
        if self._searcher is None:
            raise OptionError(
                "this retriever has no index that nodes could be added to; another retriever finds its nodes.",
                hint="RagCompressRetriever(index='lancedb://FOLDER', ...) has one.",
            )
        documents = to_indexed(nodes, self._postprocessor.title_key)
        # An index that nobody can search would only be noticed at the first question.
        self._searcher.compressor.check_searchable()
        return self._searcher.add(documents)

    async def aadd_nodes(self, nodes: Sequence[BaseNode]) -> IndexSummary:
        """Do the same off the event loop; see ``add_nodes``."""
        return await asyncio.to_thread(self.add_nodes, nodes)

    @dispatcher.span
    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        """Find and compress."""
        top_k = self._top_k
        if self._searcher is not None:
            assert top_k is not None  # checked when it was set
            return self._found(self._searcher.search(_question(query_bundle), top_k, self._where))
        assert self._retriever is not None
        candidates = self._retriever.retrieve(query_bundle)
        return self._postprocessor._compress(candidates, QueryBundle(_question(query_bundle)), _changes(top_k))

    @dispatcher.span
    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        """Find and compress off the event loop."""
        top_k = self._top_k
        if self._searcher is not None:
            assert top_k is not None
            return self._found(await self._searcher.asearch(_question(query_bundle), top_k, self._where))
        assert self._retriever is not None
        candidates = await self._retriever.aretrieve(query_bundle)
        return await self._postprocessor._acompress(candidates, QueryBundle(_question(query_bundle)), _changes(top_k))

    def _found(self, context: CompressedContext) -> list[NodeWithScore]:
        nodes = [NodeWithScore(node=node) for node in from_indexed(context.documents, self._postprocessor.title_key)]
        return self._postprocessor._assembly(nodes, context.documents).build(Outcome(context), context.query)

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the callback handlers, which belong to the process."""
        return {name: value for name, value in self.__dict__.items() if name != "callback_manager"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore; weights and index are opened on the next call."""
        self.__dict__.update(state)
        self.callback_manager = CallbackManager()


def _check_source(index: object, retriever: object) -> None:
    if (index is None) == (retriever is None):
        came = "both index and retriever came" if index is not None else "neither index nor retriever came"
        raise OptionError(
            f"{came}; expected one of them.",
            hint="index='lancedb://FOLDER' searches a corpus of memories; retriever=... compresses what another "
            "retriever finds.",
        )
    if retriever is not None and not isinstance(retriever, BaseRetriever):
        raise OptionError(
            f"retriever must be a LlamaIndex BaseRetriever, got {type(retriever).__name__}.",
            hint="VectorStoreIndex(...).as_retriever(similarity_top_k=20), say.",
        )


def _question(query_bundle: QueryBundle) -> str:
    """What was asked: tools put a line end behind it, which would become other memory tokens."""
    return query_bundle.query_str.strip()


def _changes(top_k: int | None) -> dict[str, Any] | None:
    return None if top_k is None else {"top_k": top_k}
