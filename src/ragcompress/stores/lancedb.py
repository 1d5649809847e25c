"""Memories on disk or in object storage, in a LanceDB table: embedded, no server.

A put is a commit: it is there as a whole or not at all, whatever happens to the process. Several processes may write
at once; each read sees what others have committed.
"""

from __future__ import annotations

import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ragcompress.errors import InputError, InputTypeError
from ragcompress.memories import check_memory, check_space
from ragcompress.options import check_range
from ragcompress.stores import opening, rows
from ragcompress.types import Memory

if TYPE_CHECKING:
    import pyarrow as pa

ResultT = TypeVar("ResultT")

# Keys become part of a filter, so nothing that means something there is let through.
_KEY = re.compile(r"[0-9a-zA-Z._-]{1,256}", re.ASCII)
_KEYS_AT_ONCE = 500
# Encoded memories wait in main memory for their commit.
_BYTES_AT_ONCE = 256 * 1024**2
_WRITE_ATTEMPTS = 12
_READ_ATTEMPTS = 6
_CONFLICT = re.compile("conflict|concurrent", re.IGNORECASE)
# How many commits lie between two looks at the shape of the table.
_COMMITS_BETWEEN_CHECKS = 64
# Measured (2 cores, local disk): a fragment costs each later put about 40 microseconds, and a compaction rewrites about
# 150 MB a second. It pays once the fragments have cost as much: 20e-6 * fragments ** 2 = bytes / 150e6.
_BYTES_PER_SQUARED_FRAGMENT = 3000
_MIN_FRAGMENTS_TO_COMPACT = 100
# Below, a scan of the keys is as fast as an index (1 key of 10,000: 2.4 ms without, 1.8 ms with; of 100,000: 5.0 and
# 2.4 ms in one fragment, 15.9 and 2.4 ms in a hundred).
_MIN_ROWS_TO_INDEX = 4096
_MIN_FRAGMENTS_TO_INDEX = 64


class LanceDBStore:
    """A persistent store in a folder or in object storage; needs the extra ``[store]``.

    Reads look up the keys first and fetch the rows they found: a single query would read the vectors of everything
    that is not yet in the index (measured at 20,000 documents of 64 KiB: 870 ms instead of 10).
    """

    def __init__(self, location: str | Path, *, table: str = "memories", dtype: object = None) -> None:
        """Open a store, or make an empty one.

        Args:
            location: a folder, which is made if it is missing, ``"lancedb://FOLDER"``, or the address of object storage
                (``"s3://..."``, ``"gs://..."``, ``"az://..."``; credentials come from the environment).
            table: name of the table.
            dtype: what vectors are stored in: ``"float32"``, ``"bfloat16"``, ``"float16"`` (they come back as such),
                or ``"int8"``, with scales (they come back in their own type, 1 or 2 % off); None: as they
                come. It counts for what is put, not for what is there.

        Raises:
            MissingExtraError: lancedb is not installed.
            OptionError: an option has an impossible value, or the location is a folder of something else or cannot be
                written.
            InputError: the table is damaged, not one of ours, or of a newer version.
        """
        self.location = opening.check_location(location)
        self.table = opening.check_table_name(table)
        self.dtype = rows.check_dtype(dtype)
        self._checked_period = -1
        self._maintenance = threading.Lock()
        self._table = opening.open_table(self.location, self.table)

    @property
    def _folder(self) -> Path | None:
        """Where the table lies, if that is a local folder."""
        return opening.local_folder(self.location, self.table)

    def get(self, keys: Sequence[str], *, space: str) -> list[Memory | None]:
        """Fetch several memories; see ``MemoryStore.get``.

        Raises:
            SpaceMismatchError: a memory under one of the keys belongs to another space.
            InputError: a key holds something other than letters, digits, ``.``, ``_`` and ``-``; or the table cannot
                be read.
        """
        unique = _check_keys(keys)
        found: dict[str, Memory] = {}
        for part in _parts(unique, _KEYS_AT_ONCE):
            found |= self._read(part)
        for key, memory in found.items():
            check_space(key, memory, space)
        return [found.get(key) for key in keys]

    def _read(self, keys: Sequence[str]) -> dict[str, Memory]:
        names = rows.schema().names
        for attempt in range(_READ_ATTEMPTS):
            with suppress(*opening.FAILURES):
                places = self._table.search().where(_among(keys)).select(["key"]).with_row_id(True).to_arrow()
                if not len(places):
                    return {}
                ids: list[int] = places["_rowid"].to_pylist()
                memories = _memories(self._table.take_row_ids(ids).select(names).to_arrow())
                # Between the two another process may have moved or replaced rows.
                if set(memories) == set(places["key"].to_pylist()):
                    return memories
            _wait(attempt)
        # One query sees one version of the table: slow, and always right.
        try:
            return _memories(self._table.search().where(_among(keys)).select(names).to_arrow())
        except opening.FAILURES as error:
            raise opening.damaged(self.location, self.table, error) from error

    def put(self, memories: Mapping[str, Memory]) -> None:
        """Keep several memories; what is there already is replaced.

        Everything is checked before anything is written. Above 256 MiB there are several commits.

        Args:
            memories: by key.

        Raises:
            InputError: a key or a memory cannot be kept (NaN, for one), or the table cannot be written.
            InputTypeError: something is no memory.
        """
        _check_keys(memories)
        for key, memory in memories.items():
            check_memory(key, memory)
        if not memories:
            return
        import pyarrow as pa

        for part in self._encoded(memories):
            self._upsert(pa.Table.from_pylist(part, schema=rows.schema()))
        self._maintain()

    def _encoded(self, memories: Mapping[str, Memory]) -> Iterator[list[dict[str, Any]]]:
        """Rows, in parts of a bearable size."""
        parts: list[list[str]] = [[]]
        size = 0
        for key, memory in memories.items():
            if parts[-1] and size + memory.n_bytes > _BYTES_AT_ONCE:
                parts.append([])
                size = 0
            parts[-1].append(key)
            size += memory.n_bytes
        if len(parts) > 1:
            # What does not fit the type must be refused before the first part is written, but not all kept until then.
            for key, memory in memories.items():
                rows.to_row(key, memory, self.dtype)
        for part in parts:
            yield [rows.to_row(key, memories[key], self.dtype) for key in part]

    def _upsert(self, table: pa.Table) -> None:
        def write() -> None:
            merge = self._table.merge_insert("key").when_matched_update_all().when_not_matched_insert_all()
            # Without the index Lance scans the keys alone; with it, also the vectors of all rows that are not in it
            # (measured for 500 rows into 14,000: 27 ms without, 715 ms with).
            merge.use_index(False).execute(table)

        self._writing(write)

    def delete(self, keys: Iterable[str]) -> None:
        """Forget several memories; unknown keys are ignored.

        Args:
            keys: any number.

        Raises:
            InputError: a key holds something other than letters, digits, ``.``, ``_`` and ``-``; or the table cannot
                be written.
        """
        for part in _parts(_check_keys(keys), _KEYS_AT_ONCE):
            self._writing(lambda part=part: self._table.delete(_among(part)))  # type: ignore[misc]

    def keys(self) -> list[str]:
        """All keys, sorted."""
        found = self._reading(lambda: self._table.search().select(["key"]).to_arrow())
        return sorted(set(found["key"].to_pylist()))

    def __contains__(self, key: object) -> bool:
        """Whether something is kept under a key."""
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            return False
        return self._reading(lambda: self._table.count_rows(_among([key]))) > 0

    @property
    def lossy(self) -> bool:
        """Whether what comes back may differ from what was put: a number format was named."""
        return self.dtype is not None

    def __len__(self) -> int:
        """How many memories are kept."""
        return self._reading(lambda: self._table.count_rows())

    @property
    def n_bytes(self) -> int:
        """What the table takes on disk, old versions included; in object storage: its current version alone."""
        if self._folder is None:
            return int(self._stats()["total_bytes"])
        total = 0
        for folder, _, names in os.walk(self._folder):
            for name in names:
                # Another process may be tidying up.
                with suppress(FileNotFoundError):
                    total += (Path(folder) / name).stat().st_size
        return total

    def compact(self, *, keep_seconds: float = 60.0) -> None:
        """Merge the pieces that single puts have left, update the index, and drop old versions.

        Happens by itself now and then. It rewrites the table: about a second for 150 MB.

        Args:
            keep_seconds: versions younger than that stay, for readers that are at work in them. With 0 the disk space
                is free at once; do that when nobody else uses the store.

        Raises:
            OptionError: ``keep_seconds`` is negative.
            InputError: the table cannot be written.
        """
        check_range("keep_seconds", keep_seconds, at_least=0)
        with self._maintenance:
            self._writing(lambda: self._optimize(keep_seconds))
            self._index(self._table.count_rows(), 0)

    def _optimize(self, keep_seconds: float) -> None:
        # At zero it warns of what the docstring of ``compact`` says; a millisecond is as good.
        self._table.optimize(cleanup_older_than=timedelta(seconds=max(keep_seconds, 0.001)))

    def _maintain(self) -> None:
        """Keep many small puts from making everything slow."""
        # Best effort: whoever is at it already, in this process or another, does it for all.
        with suppress(*opening.FAILURES):
            period = self._table.version // _COMMITS_BETWEEN_CHECKS
            if period == self._checked_period or not self._maintenance.acquire(blocking=False):
                return
            try:
                self._checked_period = period
                stats = self._stats()
                n_fragments = stats["fragment_stats"]["num_fragments"]
                worth_it = n_fragments**2 * _BYTES_PER_SQUARED_FRAGMENT >= stats["total_bytes"]
                if n_fragments >= _MIN_FRAGMENTS_TO_COMPACT and worth_it:
                    self._optimize(keep_seconds=60.0)
                    n_fragments = 0
                self._index(stats["num_rows"], n_fragments)
            finally:
                self._maintenance.release()

    def _stats(self) -> dict[str, Any]:
        # A dictionary, whatever lancedb's annotation says.
        return cast("dict[str, Any]", self._table.stats())

    def _index(self, n_rows: int, n_fragments: int) -> None:
        """Index the keys where that pays; building it anew reads the keys alone (8 ms for 20,000 rows)."""
        if n_rows >= _MIN_ROWS_TO_INDEX or n_fragments >= _MIN_FRAGMENTS_TO_INDEX:
            from lancedb.index import BTree

            with suppress(*opening.FAILURES):
                self._table.create_index("key", config=BTree(), replace=True)

    def _reading(self, action: Callable[[], ResultT]) -> ResultT:
        """Call again what failed: another process may have dropped the version that was read."""
        return self._retried(action, _READ_ATTEMPTS, lambda error: True)

    def _writing(self, action: Callable[[], object]) -> None:
        """Call again what another process got in the way of, beyond lancedb's own attempts."""
        self._retried(action, _WRITE_ATTEMPTS, lambda error: bool(_CONFLICT.search(str(error))))

    def _retried(self, action: Callable[[], ResultT], attempts: int, worth_it: Callable[[Exception], bool]) -> ResultT:
        attempt = 0
        while True:
            try:
                return action()
            except opening.FAILURES as error:
                attempt += 1
                if attempt == attempts or not worth_it(error):
                    raise opening.damaged(self.location, self.table, error) from error
            _wait(attempt)

    def __repr__(self) -> str:
        """Where it is."""
        return f"LanceDBStore({self.location!r}, table={self.table!r}, dtype={self.dtype!r})"

    def __reduce__(self) -> tuple[Callable[..., LanceDBStore], tuple[object, ...]]:
        """Open it again at the same place."""
        return _reopen, (self.location, self.table, self.dtype)


def _reopen(location: str, table: str, dtype: str | None) -> LanceDBStore:
    return LanceDBStore(location, table=table, dtype=dtype)


def _check_keys(keys: Iterable[str]) -> list[str]:
    """The different keys, in order; refuses what could mean something in a filter."""
    if isinstance(keys, str):
        raise InputTypeError(f"keys is a single string, {keys!r}; expected a list of keys.", hint="Put it in a list.")
    unique = list(dict.fromkeys(keys))
    for key in unique:
        if not isinstance(key, str):
            raise InputTypeError(f"a key must be a string, got {type(key).__name__}.")
        if not _KEY.fullmatch(key):
            raise InputError(
                f"{key[:80]!r} is no key: expected 1 to 256 letters, digits, '.', '_' and '-'.",
                hint="Keys come from OfflineCompressor.memory_key.",
            )
    return unique


def _among(keys: Sequence[str]) -> str:
    return f"key IN ({', '.join(repr(key) for key in keys)})"


def _parts(keys: Sequence[str], most: int) -> Iterator[Sequence[str]]:
    return (keys[begin : begin + most] for begin in range(0, len(keys), most))


def _memories(table: pa.Table) -> dict[str, Memory]:
    columns = [(name, table[name]) for name in table.column_names]
    found = ({name: column[index] for name, column in columns} for index in range(len(table)))
    return {row["key"].as_py(): rows.from_row(row) for row in found}


def _wait(attempt: int) -> None:
    """Longer each time, and not in step with others."""
    time.sleep(random.uniform(0.5, 1.0) * min(0.005 * 2**attempt, 0.5))  # noqa: S311 (no secret)
