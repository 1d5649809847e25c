"""Compressors that find documents by their memories: query in, context out, without another retriever."""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ragcompress.compressor import OfflineCompressor
from ragcompress.errors import InputError, InputTypeError, SpaceMismatchError
from ragcompress.memories import known
from ragcompress.types import CompressedContext

if TYPE_CHECKING:
    from torch import Tensor

    from ragcompress.stores.index import Hit, MemoryIndex


class SearchingCompressor(OfflineCompressor):
    """An offline compressor that turns questions into vectors which documents' memories can be compared with."""

    @abstractmethod
    def check_searchable(self) -> None:
        """Refuse checkpoints that cannot search.

        Raises:
            OptionError: this one cannot; says which can.
        """

    @abstractmethod
    def encode_queries(self, queries: Sequence[str]) -> list[Tensor]:
        """Turn questions into vectors.

        Args:
            queries: (n_queries,).

        Returns:
            (n_queries,) tensors (n_slots, width), on the CPU.

        Raises:
            OptionError: the checkpoint cannot search.
        """

    @abstractmethod
    def context_of(self, query: str, hits: Sequence[Hit]) -> CompressedContext:
        """Build the context of one question from what was found.

        Args:
            query: the question.
            hits: best first.

        Returns:
            The context; its documents are those of the hits, in their order.
        """

    def retrieve(
        self,
        query: str,
        index: MemoryIndex,
        k: int = 5,
        *,
        where: Mapping[str, object] | None = None,
        exact: bool | None = None,
        n_candidates: int | None = None,
    ) -> CompressedContext:
        """Find the documents that answer a question; their memories are the context.

        Args:
            query: the question.
            index: that this compressor's memories were added to, by ``ragcompress.index``.
            k: how many documents; more than there are gives all.
            where: see ``MemoryIndex.search``, as are ``exact`` and ``n_candidates``.
            exact: compare everything.
            n_candidates: chunks that are compared in full otherwise.

        Returns:
            The context, best document first; ``documents`` are those that were found. Memories that this compressor's
            store does not have are put there, so that handles lead somewhere.

        Raises:
            InputError: the query is empty, or the index cannot be read.
            InputTypeError: the query is no string.
            OptionError: the checkpoint cannot search, or ``k`` is below 1.
            SpaceMismatchError: the index holds memories of another checkpoint, rate or number format.
        """
        return self.retrieve_batch([query], index, k, where=where, exact=exact, n_candidates=n_candidates)[0]

    def retrieve_batch(
        self,
        queries: Sequence[str],
        index: MemoryIndex,
        k: int = 5,
        *,
        where: Mapping[str, object] | None = None,
        exact: bool | None = None,
        n_candidates: int | None = None,
    ) -> list[CompressedContext]:
        """Find documents for several questions, which are encoded together; see ``retrieve``."""
        queries = _checked(queries)
        self.check_searchable()
        _check_index(index, self)
        if not queries:
            return []
        begin = time.perf_counter()
        vectors = self.encode_queries(queries)
        encoded = time.perf_counter()
        found = [index.search(each, k, where=where, exact=exact, n_candidates=n_candidates) for each in vectors]
        searched = time.perf_counter()
        self._share([hit for hits in found for hit in hits])
        contexts = [self.context_of(query, hits) for query, hits in zip(queries, found, strict=True)]
        steps = {
            "encode_ms": encoded - begin, "search_ms": searched - encoded, "select_ms": time.perf_counter() - searched
        }  # fmt: skip
        timings = {name: seconds * 1000 / len(queries) for name, seconds in steps.items()}
        return [replace(context, timings=timings) for context in contexts]

    async def aretrieve(
        self,
        query: str,
        index: MemoryIndex,
        k: int = 5,
        *,
        where: Mapping[str, object] | None = None,
        exact: bool | None = None,
        n_candidates: int | None = None,
    ) -> CompressedContext:
        """Do the same as ``retrieve`` in a thread, so that the event loop goes on."""
        return await asyncio.to_thread(
            self.retrieve, query, index, k, where=where, exact=exact, n_candidates=n_candidates
        )

    def _share(self, hits: Sequence[Hit]) -> None:
        """Put memories where readers look handles up."""
        if self.store is None:
            return
        memories = {hit.key: hit.memory for hit in hits}
        there = known(self.store, list(memories))
        missing = {key: memory for key, memory in memories.items() if key not in there}
        if missing:
            self.store.put(missing)


def _checked(queries: object) -> list[str]:
    if isinstance(queries, (str, bytes)) or not isinstance(queries, Iterable):
        raise InputTypeError(f"queries must be a list of strings, got {type(queries).__name__}.")
    checked = list(queries)
    for index, query in enumerate(checked):
        place = "query" if len(checked) == 1 else f"queries[{index}]"
        if not isinstance(query, str):
            raise InputTypeError(f"{place} must be a string, got {type(query).__name__}.")
        if not query.strip():
            raise InputError(f"{place} is empty ({query!r}); documents are found by it.")
    return checked


def _check_index(index: object, compressor: OfflineCompressor) -> None:
    from ragcompress.stores.index import MemoryIndex

    if not isinstance(index, MemoryIndex):
        raise InputTypeError(
            f"index must be a ragcompress.MemoryIndex, got {type(index).__name__}.",
            hint="ragcompress.open_index(compressor, 'lancedb://FOLDER') opens one.",
        )
    if index.space != compressor.memory_space:
        raise SpaceMismatchError(
            f"the index at {index.location} holds memories of {index.space!r}; this compressor's are of "
            f"{compressor.memory_space!r}.",
            hint="Use the checkpoint, rate and dtype that built it, or build another: ragcompress index SOURCE "
            f"--backend {compressor.name} --checkpoint CHECKPOINT --store STORE",
        )
    index.check_settings(compressor.memory_settings)
