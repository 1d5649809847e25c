"""What every framework's retriever needs, written once: a compressor that searches, and the index that it searches."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragcompress.adapter import Adapter
from ragcompress.compressor import OfflineCompressor
from ragcompress.errors import CompressionTimeoutError, InputError, OptionError
from ragcompress.options import check_range
from ragcompress.registry import available, find
from ragcompress.searching import SearchingCompressor
from ragcompress.stores import index_rows
from ragcompress.types import CompressedContext, Document

if TYPE_CHECKING:
    from ragcompress.indexing.summary import IndexSummary
    from ragcompress.stores.index import MemoryIndex

# Weak: an index that nobody uses any more is closed. Shared, because a small one is held in main memory as a whole.
_INDEXES: weakref.WeakValueDictionary[tuple[str, str, str], MemoryIndex] = weakref.WeakValueDictionary()
_INDEXES_LOCK = threading.Lock()


def open_index(
    compressor: OfflineCompressor,
    location: str | Path,
    *,
    dtype: str | None = None,
    table: str = index_rows.TABLE,
    create: bool = False,
) -> MemoryIndex:
    """Open the index of a compressor's memories.

    Args:
        compressor: says which space and settings the index must have.
        location: a folder, ``"lancedb://FOLDER"``, or the address of object storage.
        dtype: what vectors are stored in; None: as the index was made, and in a new one as they come.
        table: name of the table.
        create: make an empty one where there is none.

    Returns:
        The index, of which there is one for each place while it is in use.

    Raises:
        InputError: there is none, or it is damaged.
        SpaceMismatchError: another checkpoint, rate or configuration built it.
        OptionError: the location or an option is impossible.
        MissingExtraError: lancedb is not installed.
    """
    from ragcompress.stores.index import MemoryIndex
    from ragcompress.stores.opening import check_location, check_table_name, local_folder
    from ragcompress.stores.tables import LanceTable

    place, name = check_location(location), check_table_name(table)
    folder = local_folder(place, name)
    with _INDEXES_LOCK:
        used = (place, name, repr(sorted(compressor.memory_settings.items())) + compressor.memory_space)
        # What has been deleted since is gone, or is made anew.
        index = _INDEXES.get(used) if folder is None or folder.is_dir() else None
        if index is not None and dtype in (None, index.dtype):
            return index
        if not create and LanceTable.existing(place, name, "MemoryIndex") is None:
            raise InputError(
                f"there is no index at {place}.",
                hint=f"Make one: ragcompress index SOURCE --backend {compressor.name} --checkpoint CHECKPOINT --store "
                f"{location}, or ragcompress.index(compressor, documents, {str(location)!r}).",
            )
        index = _INDEXES[used] = MemoryIndex(
            place,
            space=compressor.memory_space,
            dtype=dtype,
            table=name,
            settings=compressor.memory_settings or None,
        )
        return index


class Searcher:
    """An adapter and an index as a framework's retriever holds them.

    It is made from plain configuration; model and index are opened on the first call. Pickling keeps the configuration.
    """

    def __init__(self, adapter: Adapter, index: str | Path | MemoryIndex) -> None:
        """Check the configuration; nothing is loaded.

        Args:
            adapter: around a compressor that searches.
            index: where its memories are: a folder, an address, or an index that is open.

        Raises:
            OptionError: the backend cannot search, or there is no such kind of address.
        """
        from ragcompress.stores.index import MemoryIndex
        from ragcompress.stores.opening import check_location

        if not searches(adapter):
            raise OptionError(
                f"backend {adapter.backend!r} compresses documents that another retriever found; it cannot find any.",
                hint=f"These find documents by themselves: {', '.join(searching_backends()) or 'none'}.",
            )
        if not isinstance(index, (str, Path, MemoryIndex)):
            raise OptionError(f"index must be an address or a MemoryIndex, got {type(index).__name__}.")
        if not isinstance(index, MemoryIndex):
            check_location(index)
        self._adapter = adapter
        self._given = index
        self._opened: MemoryIndex | None = None

    @property
    def compressor(self) -> SearchingCompressor:
        """The compressor, loaded now if it is not yet."""
        compressor = self._adapter.compressor
        assert isinstance(compressor, SearchingCompressor)  # its class was checked
        return compressor

    @property
    def location(self) -> str:
        """Where the index is, in words that can be written down."""
        return self._given if isinstance(self._given, str) else str(getattr(self._given, "location", self._given))

    def index(self, *, create: bool = False) -> MemoryIndex:
        """Open the index.

        Args:
            create: make an empty one where there is none.

        Returns:
            The index.

        Raises:
            InputError: there is none.
            SpaceMismatchError: another checkpoint, rate or configuration built it.
        """
        from ragcompress.stores.index import MemoryIndex

        if isinstance(self._given, MemoryIndex):
            return self._given
        # Held, so that it stays open; looked up, because it may have been deleted since.
        self._opened = open_index(self.compressor, self._given, create=create)
        return self._opened

    def search(self, query: str, k: int, where: Mapping[str, object] | None = None) -> CompressedContext:
        """Find documents; see ``SearchingCompressor.retrieve``.

        Of the adapter's settings ``timeout`` counts; ``on_error`` does not, since there is nothing to hand on.

        Raises:
            CompressionTimeoutError: it took longer; the work itself runs on in its thread.
        """
        check_range("k", k, at_least=1, whole=True)
        timeout = self._adapter.timeout

        def found() -> CompressedContext:
            return self.compressor.retrieve(query, self.index(), k, where=where)

        if timeout is None:
            return found()
        pool = ThreadPoolExecutor(1, thread_name_prefix="ragcompress")
        future = pool.submit(found)
        pool.shutdown(wait=False)
        if not wait([future], timeout).done:
            raise CompressionTimeoutError(
                f"the search took longer than timeout={timeout} seconds.",
                hint="Raise the timeout; the first search includes loading.",
            )
        return future.result()

    async def asearch(self, query: str, k: int, where: Mapping[str, object] | None = None) -> CompressedContext:
        """Do the same off the event loop; model and index are loaded there, too."""
        return await asyncio.to_thread(self.search, query, k, where)

    def add(self, documents: Iterable[Document]) -> IndexSummary:
        """Encode documents and add them; the index is made if there is none; see ``ragcompress.index``."""
        from ragcompress.indexing import index

        return index(self.compressor, documents, self.index(create=True))

    def __getstate__(self) -> dict[str, Any]:
        """Configuration, and an index that was handed over, which knows how to open itself again."""
        return {**self.__dict__, "_opened": None}


def searches(adapter: Adapter) -> bool:
    """Whether a component's backend finds documents by itself; its ``top_k`` then ranks those that others found.

    Args:
        adapter: nothing is loaded.

    Returns:
        True for backends like ``clara``.
    """
    return issubclass(adapter.backend_class, SearchingCompressor)


def searching_backends() -> list[str]:
    """Names of the installed backends that find documents by themselves."""
    found = []
    for name in available():
        try:
            if issubclass(find(name), SearchingCompressor):
                found.append(name)
        except Exception:  # noqa: S112 (a broken package of somebody else's must not hide the others)
            continue
    return found
