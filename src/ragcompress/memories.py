"""Memories: what does not depend on the query, computed once and kept under a content address.

A key is a hash over the document and everything that changes its vectors, so a store never has to be invalidated:
another model, splitter or limit simply asks for other keys.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ragcompress.errors import InputError, InputTypeError, MemoryNotFoundError, OptionError, SpaceMismatchError
from ragcompress.options import check_range
from ragcompress.types import Document, Memory

if TYPE_CHECKING:
    from ragcompress.stores.lancedb import LanceDBStore

logger = logging.getLogger("ragcompress")

FORMAT_VERSION = 1
# Handles lead to vectors that nothing else holds: room for 60 000 chunks of a 7B model.
VECTOR_STORE_BYTES = 4 * 1024**3
# 32 hexadecimal digits: short enough for a prompt, and no two of 10^15 documents meet (chance about 10^-9).
_KEY_DIGITS = 32


def memory_key(document: Document, settings: Mapping[str, str | int | float | bool | None]) -> str:
    """Content address of one document's memory.

    Args:
        document: its text and title count; its id and metadata do not, since they change no vector.
        settings: everything else that changes the vectors: fingerprint of the model, dtype, pooling, limits.

    Returns:
        32 hexadecimal digits of a SHA-256.
    """
    # JSON escapes lone surrogates, which a plain UTF-8 encoding would refuse.
    content = json.dumps(
        [FORMAT_VERSION, document.text, document.title, sorted(settings.items())], separators=(",", ":")
    )
    return hashlib.sha256(content.encode("ascii")).hexdigest()[:_KEY_DIGITS]


@runtime_checkable
class MemoryStore(Protocol):
    """Keeps memories under their keys; safe to call from several threads."""

    def get(self, keys: Sequence[str], *, space: str) -> list[Memory | None]:
        """Fetch several memories.

        Args:
            keys: any number, repeats allowed.
            space: the embedding space that the caller can use.

        Returns:
            One entry a key, None where nothing is kept.

        Raises:
            SpaceMismatchError: a memory under one of the keys belongs to another space.
        """

    def put(self, memories: Mapping[str, Memory]) -> None:
        """Keep several memories, each under its key; what is there already is replaced.

        Raises:
            InputError: a memory cannot be kept (see ``check_memory``); then nothing is written.
        """

    def delete(self, keys: Iterable[str]) -> None:
        """Forget several memories; unknown keys are ignored."""

    def __contains__(self, key: object) -> bool:
        """Whether something is kept under a key."""

    def __len__(self) -> int:
        """How many memories are kept."""


class InMemoryStore:
    """A store in the process's own memory that forgets what was used longest ago.

    Tensors are handed out as they are kept, not copied: treat them as read-only.
    """

    def __init__(self, max_bytes: int | None = 256 * 1024**2) -> None:
        """Start empty.

        Args:
            max_bytes: upper limit for the vectors and spans together, in bytes; None: no limit. A single memory
                above the limit is not kept.

        Raises:
            OptionError: the limit is below 1.
        """
        check_range("max_bytes", max_bytes, at_least=1, whole=True)
        self.max_bytes = max_bytes
        self.n_forgotten = 0
        self._memories: OrderedDict[str, Memory] = OrderedDict()
        self._n_bytes = 0
        self._lock = threading.Lock()

    @property
    def n_bytes(self) -> int:
        """What the vectors and spans take together, in bytes."""
        return self._n_bytes

    def get(self, keys: Sequence[str], *, space: str) -> list[Memory | None]:
        """Fetch several memories; see ``MemoryStore.get``."""
        with self._lock:
            found = [self._memories.get(key) for key in keys]
            for key, memory in zip(keys, found, strict=True):
                if memory is None:
                    continue
                check_space(key, memory, space)
                self._memories.move_to_end(key)
        return found

    def put(self, memories: Mapping[str, Memory]) -> None:
        """Keep several memories; the least recently used ones make room. See ``MemoryStore.put``."""
        for key, memory in memories.items():
            check_memory(key, memory)
        with self._lock:
            for key, memory in memories.items():
                self._drop(key)
                if self.max_bytes is not None and memory.n_bytes > self.max_bytes:
                    self.n_forgotten += 1
                    continue
                self._memories[key] = memory
                self._n_bytes += memory.n_bytes
            before = self.n_forgotten
            while self.max_bytes is not None and self._n_bytes > self.max_bytes:
                self._drop(next(iter(self._memories)))
                self.n_forgotten += 1
        if before == 0 and self.n_forgotten:
            logger.warning(
                "a memory store is full (%s bytes): what was used longest ago is forgotten. Sentence vectors are then "
                "computed again; handles of memory tokens lead nowhere: raise max_bytes, or use a LanceDBStore",
                f"{self.max_bytes:,}",
            )

    def delete(self, keys: Iterable[str]) -> None:
        """Forget several memories; unknown keys are ignored."""
        with self._lock:
            for key in keys:
                self._drop(key)

    def _drop(self, key: str) -> None:
        memory = self._memories.pop(key, None)
        if memory is not None:
            self._n_bytes -= memory.n_bytes

    def known(self, keys: Iterable[str]) -> set[str]:
        """Which of some keys have memories."""
        with self._lock:
            return {key for key in keys if key in self._memories}

    def __contains__(self, key: object) -> bool:
        """Whether something is kept under a key."""
        return key in self._memories

    def __len__(self) -> int:
        """How many memories are kept."""
        return len(self._memories)

    def __repr__(self) -> str:
        """How full it is."""
        limit = "no limit" if self.max_bytes is None else f"limit {self.max_bytes:,} bytes"
        forgotten = f", {self.n_forgotten} forgotten" if self.n_forgotten else ""
        return f"InMemoryStore({len(self)} memories, {self._n_bytes:,} bytes, {limit}{forgotten})"

    def __getstate__(self) -> dict[str, object]:
        """Everything but the lock, which cannot be pickled."""
        with self._lock:
            state = {name: value for name, value in self.__dict__.items() if name != "_lock"}
            return state | {"_memories": OrderedDict(self._memories)}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Restore, with a new lock."""
        self.__dict__.update(state)
        self._lock = threading.Lock()


def check_space(key: str, memory: Memory, space: str) -> None:
    """Refuse vectors of another embedding space.

    Args:
        key: under which the memory was found.
        memory: what was found.
        space: what the caller can use.

    Raises:
        SpaceMismatchError: the spaces differ.
    """
    if memory.space != space:
        raise SpaceMismatchError(
            f"the memory under {key} belongs to the space {memory.space!r}, but {space!r} was asked for.",
            hint="Use the compressor that wrote it, or another store.",
        )


def check_memory(key: str, memory: Memory) -> None:
    """Refuse what would only surface when a reader or a scorer uses it: every store calls this before it writes.

    How many spans there are is left to the backends: one a row, one a chunk, or one more for a sentence without a row.

    Args:
        key: under which it is to be kept.
        memory: what is to be kept.

    Raises:
        InputTypeError: it is no memory.
        InputError: its vectors are not two-dimensional or hold NaN or infinity, or a span ends before it begins.
    """
    if not isinstance(memory, Memory):
        raise InputTypeError(f"what is to be kept under {key} must be a Memory, got {type(memory).__name__}.")
    if memory.vectors.dim() != 2:
        raise InputError(
            f"the vectors under {key} have the shape {tuple(memory.vectors.shape)}; expected (n_vectors, width)."
        )
    finite = memory.vectors.isfinite()
    if not bool(finite.all()):
        bad = int((~finite).any(dim=1).sum())
        raise InputError(
            f"the vectors under {key} hold NaN or infinity, in {bad} of {len(finite)} rows; nothing was kept.",
            hint="The model overflows in this number format; try dtype='bfloat16' or 'float32'.",
        )
    for start, end in memory.spans or ():
        if not 0 <= start <= end:
            raise InputError(f"the memory under {key} has the span ({start}, {end}); expected 0 <= start <= end.")


def fetch(store: MemoryStore, keys: Sequence[str], *, space: str) -> list[Memory]:
    """Fetch memories that have to be there.

    Args:
        store: where they are kept.
        keys: any number, repeats allowed.
        space: the embedding space that the caller can use.

    Returns:
        One memory a key.

    Raises:
        MemoryNotFoundError: nothing is kept under one or more of the keys; says which.
        SpaceMismatchError: a memory under one of the keys belongs to another space.
    """
    keys = list(keys)
    memories = store.get(keys, space=space)
    found = [memory for memory in memories if memory is not None]
    if len(found) < len(keys):
        missing = list(dict.fromkeys(key for key, memory in zip(keys, memories, strict=True) if memory is None))
        listed = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        raise MemoryNotFoundError(
            f"{store!r} holds nothing under {listed}.",
            hint=(
                f"It forgot {store.n_forgotten} memories for want of room: raise max_bytes, or use a LanceDBStore."
                if isinstance(store, InMemoryStore) and store.n_forgotten
                else "Compress the documents again (or remember() them) with the same compressor and store, or pass "
                "store= the one that has them."
            ),
        )
    return found


def known(store: MemoryStore, keys: Iterable[str]) -> set[str]:
    """Find out which memories are there without reading them.

    Args:
        store: where they are kept; one that has a method ``known`` is asked once, any other for each key.
        keys: any number, repeats allowed.

    Returns:
        The keys under which something is kept.

    Raises:
        InputTypeError: ``keys`` is a single string.
        InputError: the store cannot be read.
    """
    if isinstance(keys, str):
        raise InputTypeError(f"keys is a single string, {keys!r}; expected a list of keys.", hint="Put it in a list.")
    method = getattr(store, "known", None)
    if method is not None:
        found: set[str] = method(keys)
        return found
    return {key for key in keys if key in store}


_NAMED_STORES: dict[str, InMemoryStore] = {}
# Weak: a store that nobody uses any more is closed, and one made anew at the same place is opened anew.
_PERSISTENT_STORES: weakref.WeakValueDictionary[str, LanceDBStore] = weakref.WeakValueDictionary()
_NAMED_STORES_LOCK = threading.Lock()
_PERSISTENT = ("lancedb", "s3", "gs", "az")


def open_store(location: str | MemoryStore) -> MemoryStore:
    """Turn an option into a store.

    Args:
        location: a store, which is returned as it is; ``"memory://NAME"``: the store of that name in this process,
            made on first use, so that components built from plain configuration can share one;
            ``"lancedb://FOLDER"`` (three slashes begin an absolute path), ``"s3://..."``, ``"gs://..."`` or
            ``"az://..."``: a ``LanceDBStore``, of which there is one for each location while it is in use.

    Returns:
        The store.

    Raises:
        OptionError: no kind of store has such an address, or none can be made there.
        InputError: what is there cannot be read.
        MissingExtraError: lancedb is not installed.
    """
    if not isinstance(location, str):
        if isinstance(location, MemoryStore):
            return location
        raise OptionError(f"store must be a MemoryStore or an address, got {type(location).__name__}.")
    scheme, separator, name = location.partition("://")
    if not separator or scheme not in ("memory", *_PERSISTENT) or not name:
        raise OptionError(
            f"no store has the address {location!r}.",
            hint="Known: 'memory://NAME', 'lancedb://FOLDER', 's3://...', 'gs://...', 'az://...'.",
        )
    with _NAMED_STORES_LOCK:
        if scheme == "memory":
            return _NAMED_STORES.setdefault(name, InMemoryStore(VECTOR_STORE_BYTES))
        from ragcompress.stores.lancedb import LanceDBStore
        from ragcompress.stores.opening import check_location

        place = check_location(location)
        store = _PERSISTENT_STORES.get(place)
        if store is None:
            store = _PERSISTENT_STORES[place] = LanceDBStore(place)
        return store
