"""Where memories go: a searchable index, which keeps the documents with them, or a store."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ragcompress.compressor import OfflineCompressor
from ragcompress.errors import InputError, InputTypeError, OptionError, SpaceMismatchError
from ragcompress.memories import MemoryStore, check_memory, known, open_store
from ragcompress.searching import SearchingCompressor
from ragcompress.stores import index_rows, rows
from ragcompress.stores.opening import check_location, refuse_folder_of_something_else
from ragcompress.types import Document, Memory

if TYPE_CHECKING:
    from ragcompress.stores.index import MemoryIndex

Entries = Mapping[str, tuple[Document, Memory]]


class Target(Protocol):
    """What indexing writes to; pickled targets open themselves again in other processes."""

    @property
    def words(self) -> str:
        """What and where it is."""

    @property
    def lasting(self) -> bool:
        """Whether other processes see what is written."""

    def known(self, keys: Iterable[str]) -> set[str]:
        """Which of these keys are there."""

    def check_document(self, document: Document) -> None:
        """Raise what ``write`` would raise for this document, whatever its memory is."""

    def stale(self, documents: Mapping[str, Document]) -> list[str]:
        """Which of these documents, all known just now, have another id or other metadata, or are gone again."""

    def refresh(self, documents: Mapping[str, Document]) -> tuple[dict[str, InputError], list[str]]:
        """Write ids and metadata anew, with the vectors that are there.

        Returns:
            What cannot be written, and why; and keys of which nothing is there any more.
        """

    def check(self, key: str, document: Document, memory: Memory) -> None:
        """Raise what ``write`` would raise for this entry."""

    def write(self, entries: Entries) -> None:
        """Write documents and memories."""


class IndexTarget:
    """A ``MemoryIndex``."""

    def __init__(self, index: MemoryIndex) -> None:
        """Take an index that is open.

        Args:
            index: of the compressor's space.
        """
        self.index = index

    @property
    def words(self) -> str:
        """What and where it is."""
        return f"index {self.index.location}"

    @property
    def lasting(self) -> bool:
        """Always."""
        return True

    def known(self, keys: Iterable[str]) -> set[str]:
        """Which of these keys are there."""
        return self.index.known(list(keys))

    def check_document(self, document: Document) -> None:
        """Refuse metadata that cannot be kept, before anything is encoded for it."""
        if not isinstance(document.metadata, Mapping):
            raise InputError(f"the metadata must be a mapping, got {type(document.metadata).__name__}.")
        for name, value in document.metadata.items():
            if not isinstance(name, str):
                raise InputError(f"the metadata has a name that is no string: {name!r}.")
            try:
                index_rows.tag(name, value)
            except RecursionError as error:
                raise InputError(f"the metadata {name!r} cannot be kept: it nests too deeply.") from error

    def stale(self, documents: Mapping[str, Document]) -> list[str]:
        """Which of these documents, all known just now, have another id or other metadata, or are gone again."""
        there = self.index.documents(list(documents))
        return [
            key for key, document in documents.items() if key not in there or _about(document) != _about(there[key])
        ]

    def refresh(self, documents: Mapping[str, Document]) -> tuple[dict[str, InputError], list[str]]:
        """Write ids and metadata anew, with the vectors that are there; see ``Target.refresh``."""
        if not documents:
            return {}, []
        refused: dict[str, InputError] = {}
        missing: list[str] = []
        entries: dict[str, tuple[Document, Memory]] = {}
        memories = self.index.get(list(documents), space=self.index.space)
        for (key, document), memory in zip(documents.items(), memories, strict=True):
            if memory is None:  # another process has deleted it
                missing.append(key)
                continue
            try:
                self.check(key, document, memory)
            except InputError as error:
                refused[key] = error
            else:
                entries[key] = (document, memory)
        self.write(entries)
        return refused, missing

    def check(self, key: str, document: Document, memory: Memory) -> None:
        """Raise what ``write`` would raise for this entry."""
        self.index.check(key, document, memory)

    def write(self, entries: Entries) -> None:
        """Write documents and memories."""
        self.index.add(entries)


class StoreTarget:
    """A ``MemoryStore``: it keeps no documents, only their memories."""

    def __init__(self, store: MemoryStore) -> None:
        """Take a store that is open.

        Args:
            store: any.
        """
        self.store = store

    @property
    def words(self) -> str:
        """What and where it is."""
        return f"store {getattr(self.store, 'location', None) or repr(self.store)}"

    @property
    def lasting(self) -> bool:
        """Whether it is somewhere."""
        return getattr(self.store, "location", None) is not None

    def known(self, keys: Iterable[str]) -> set[str]:
        """Which of these keys are there."""
        return known(self.store, list(keys))

    def check_document(self, document: Document) -> None:
        """Documents are not kept."""

    def stale(self, documents: Mapping[str, Document]) -> list[str]:
        """None: nothing is kept that could be."""
        return []

    def refresh(self, documents: Mapping[str, Document]) -> tuple[dict[str, InputError], list[str]]:
        """Nothing is kept that could be old."""
        return {}, []

    def check(self, key: str, document: Document, memory: Memory) -> None:
        """Raise what ``write`` would raise for this entry."""
        check_memory(key, memory)

    def write(self, entries: Entries) -> None:
        """Write memories."""
        self.store.put({key: memory for key, (_, memory) in entries.items()})


def open_target(
    compressor: OfflineCompressor, store: MemoryStore | MemoryIndex | str | Path, dtype: str | None = None
) -> Target:
    """Open what is to be written to.

    Args:
        compressor: whose memories they are.
        store: a store, an index, an address as of ``open_store``, or a folder. An address becomes an index where the
            compressor can search, and else a store.
        dtype: what vectors are stored in, if an address was given; None: as they come.

    Returns:
        The target.

    Raises:
        OptionError: there is no such place, or a number format was named for a store that is open.
        SpaceMismatchError: an index of another checkpoint, rate or number format is there.
        InputError: what is there cannot be read.
        MissingExtraError: lancedb is not installed.
    """
    if isinstance(store, Path):
        store = str(store)
    if not isinstance(store, str):
        return _opened(compressor, store, dtype)
    if not store:
        raise OptionError("the store's address is empty.", hint="E.g. lancedb://FOLDER")
    if store.startswith("memory://"):
        return _opened(compressor, open_store(store), dtype)
    if cannot_search(compressor) is None:
        from ragcompress.searcher import open_index

        return IndexTarget(open_index(compressor, store, dtype=dtype, create=True))
    from ragcompress.stores.lancedb import LanceDBStore

    return StoreTarget(LanceDBStore(store, dtype=dtype))


def _opened(compressor: OfflineCompressor, store: object, dtype: str | None) -> Target:
    if dtype is not None:
        raise OptionError(f"dtype={dtype!r} came with a store that is open.", hint="Name it when the store is made.")
    from ragcompress.stores.index import MemoryIndex

    if isinstance(store, MemoryIndex):
        if store.space != compressor.memory_space:
            raise SpaceMismatchError(
                f"the index at {store.location} holds memories of {store.space!r}; this compressor's are of "
                f"{compressor.memory_space!r}.",
                hint="Name another folder.",
            )
        store.check_settings(compressor.memory_settings)
        if not isinstance(compressor, SearchingCompressor):
            raise OptionError(
                f"an index is there to be searched, and {compressor.name} cannot do that.",
                hint="Give an address or a LanceDBStore: it keeps memories for documents that another retriever finds.",
            )
        compressor.check_searchable()
        return IndexTarget(store)
    if isinstance(store, MemoryStore):
        return StoreTarget(store)
    raise InputTypeError(f"store must be a MemoryStore, a MemoryIndex or an address, got {type(store).__name__}.")


def cannot_search(compressor: OfflineCompressor) -> str | None:
    """Why a compressor's memories are kept in a store, which nobody can search.

    Args:
        compressor: any.

    Returns:
        The reason; None: they are kept in an index.
    """
    if not isinstance(compressor, SearchingCompressor):
        return f"{compressor.name} does not search."
    try:
        compressor.check_searchable()
    except OptionError as error:
        return str(error)
    return None


def check_place(store: str, dtype: str | None = None) -> None:
    """Find out what is wrong with an address whatever the compressor is; nothing is opened or made.

    Args:
        store: the address.
        dtype: what vectors are to be stored in.

    Raises:
        OptionError: it ends with this process, is no address or a folder of something else, or no such number format.
    """
    if store.startswith("memory://"):
        raise OptionError(f"the store {store} would end with this process.", hint="E.g. lancedb://FOLDER")
    rows.check_dtype(dtype)
    refuse_folder_of_something_else(check_location(store), index_rows.TABLE, "store")


def _about(document: Document) -> tuple[str | None, str]:
    """What may change without a new vector, as an index writes it."""
    return document.id, json.dumps(dict(document.metadata), sort_keys=True)
