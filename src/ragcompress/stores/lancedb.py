"""Memories on disk or in object storage, in a LanceDB table: embedded, no server.

A put is a commit: it is there as a whole or not at all, whatever happens to the process. Several processes may write
at once; each read sees what others have committed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragcompress.errors import InputError
from ragcompress.memories import check_memory, check_space
from ragcompress.options import check_range
from ragcompress.stores import opening, rows
from ragcompress.stores.beside import IndexBeside
from ragcompress.stores.keys import among, check_keys, parts, possible_keys
from ragcompress.stores.tables import LanceTable
from ragcompress.stores.upkeep import Upkeep
from ragcompress.types import Memory

if TYPE_CHECKING:
    import pyarrow as pa

# Encoded memories wait in main memory for their commit.
_BYTES_AT_ONCE = 256 * 1024**2
_OWNER = "LanceDBStore"


class LanceDBStore:
    """A persistent store in a folder or in object storage; needs the extra ``[store]``.

    What its own table lacks is looked for in the ``MemoryIndex`` of the same place (table ``index``) and space, if
    there is one, now or later: so one address serves searching and reading alike. An index is only ever read here.
    """

    def __init__(self, location: str | Path, *, table: str = "memories", dtype: object = None) -> None:
        """Open a store, or make an empty one; beside an index its table is made by the first put.

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
            InputError: the table is damaged, not one of ours, or of a newer version, or there is no room for it.
        """
        self.dtype = rows.check_dtype(dtype)
        self.location, self.table = opening.check_location(location), opening.check_table_name(table)
        self._opened: tuple[LanceTable, Upkeep] | None = None
        self._beside = IndexBeside(self.location)
        # A corpus that is only read may lie where nothing can be written.
        if self._own() is None and not self._beside.is_there():
            self._made()

    def _own(self) -> tuple[LanceTable, Upkeep] | None:
        """The store's own table; None: nobody has made it yet."""
        if self._opened is None:
            table = LanceTable.existing(self.location, self.table, _OWNER)
            if table is not None:
                _check_format(table)
                self._opened = table, Upkeep(table)
        return self._opened

    def _made(self) -> tuple[LanceTable, Upkeep]:
        own = self._own()
        if own is None:
            table = LanceTable.made(self.location, self.table, rows.schema, owner=_OWNER, kind="store")
            _check_format(table)
            own = self._opened = table, Upkeep(table)
        return own

    def get(self, keys: Sequence[str], *, space: str) -> list[Memory | None]:
        """Fetch several memories, also from an index beside the store; see ``MemoryStore.get``.

        Raises:
            SpaceMismatchError: a memory under one of the keys belongs to another space.
            InputError: a key holds something other than letters, digits, ``.``, ``_`` and ``-``; or the table cannot
                be read, or something is missing in it and the index beside it cannot be read.
        """
        unique = check_keys(keys)
        found = self._read(unique)
        for key, memory in found.items():
            check_space(key, memory, space)
        if missing := [key for key in unique if key not in found]:
            found |= self._beside.memories(missing, space)
        return [found.get(key) for key in keys]

    def _read(self, keys: Sequence[str]) -> dict[str, Memory]:
        own = self._own()
        if own is None:
            return {}
        names = rows.schema().names
        found = (own[0].rows(among(part), names, "key") for part in parts(keys))
        return {key: memory for part in found for key, memory in _memories(part).items()}

    def put(self, memories: Mapping[str, Memory]) -> None:
        """Keep several memories; what is there already is replaced. An index beside the store stays as it is.

        Everything is checked before anything is written. Above 256 MiB there are several commits.

        Args:
            memories: by key.

        Raises:
            InputError: a key or a memory cannot be kept (NaN, for one), or the table cannot be written.
            InputTypeError: something is no memory.
        """
        check_keys(memories)
        for key, memory in memories.items():
            check_memory(key, memory)
        if not memories:
            return
        import pyarrow as pa

        table, upkeep = self._made()
        for part in self._encoded(memories):
            table.upsert(pa.Table.from_pylist(part, schema=rows.schema()), "key")
        upkeep.now_and_then()

    def _encoded(self, memories: Mapping[str, Memory]) -> Iterator[list[dict[str, Any]]]:
        """Rows, in parts of a bearable size."""
        groups: list[list[str]] = [[]]
        size = 0
        for key, memory in memories.items():
            if groups[-1] and size + memory.n_bytes > _BYTES_AT_ONCE:
                groups.append([])
                size = 0
            groups[-1].append(key)
            size += memory.n_bytes
        if len(groups) > 1:
            # What does not fit the type must be refused before the first part is written, but not all kept until then.
            for key, memory in memories.items():
                rows.to_row(key, memory, self.dtype)
        for group in groups:
            yield [rows.to_row(key, memories[key], self.dtype) for key in group]

    def delete(self, keys: Iterable[str]) -> None:
        """Forget several memories of the store's own table, and of no index beside it; unknown keys are ignored.

        Args:
            keys: any number.

        Raises:
            InputError: a key holds something other than letters, digits, ``.``, ``_`` and ``-``; or the table cannot
                be written.
        """
        checked, own = check_keys(keys), self._own()
        if own is not None:
            own[0].delete(checked)

    def keys(self) -> list[str]:
        """All keys of the store's own table, sorted."""
        own = self._own()
        return [] if own is None else sorted(own[0].keys())

    def known(self, keys: Iterable[str]) -> set[str]:
        """Which of some keys have memories, here or in an index beside the store, of whatever space.

        Args:
            keys: any number; nothing is kept under what is no key.

        Returns:
            Those.

        Raises:
            InputError: the table cannot be read, or something is missing in it and the index beside it cannot be read.
        """
        asked = possible_keys(keys)
        own = self._own()
        found = set() if own is None else own[0].known(asked)
        missing = [key for key in asked if key not in found]
        return found | self._beside.known(missing) if missing else found

    def __contains__(self, key: object) -> bool:
        """Whether something is kept under a key, here or in an index beside the store."""
        return isinstance(key, str) and bool(self.known([key]))

    @property
    def lossy(self) -> bool:
        """Whether what comes back may differ from what was put: a number format was named.

        An index beside the store may round, too, but what was put here comes back from here.
        """
        return self.dtype is not None

    def __len__(self) -> int:
        """How many memories the store's own table keeps."""
        own = self._own()
        return 0 if own is None else own[0].count()

    @property
    def n_bytes(self) -> int:
        """What the table takes on disk, old versions included; in object storage: its current version alone."""
        own = self._own()
        return 0 if own is None else own[1].n_bytes

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
        own = self._own()
        if own is not None:
            own[1].compact(keep_seconds)

    def __repr__(self) -> str:
        """Where it is."""
        return f"LanceDBStore({self.location!r}, table={self.table!r}, dtype={self.dtype!r})"

    def __reduce__(self) -> tuple[Callable[..., LanceDBStore], tuple[object, ...]]:
        """Open it again at the same place."""
        return _reopen, (self.location, self.table, self.dtype)


def _reopen(location: str, table: str, dtype: str | None) -> LanceDBStore:
    return LanceDBStore(location, table=table, dtype=dtype)


def _check_format(table: LanceTable) -> None:
    version = table.metadata.get(rows.FORMAT_FIELD, b"")
    if not version.isdigit():
        raise InputError(
            f"the table {table.name!r} at {table.location} is no store of ragcompress.",
            hint="Name another table or folder.",
        )
    if int(version) > rows.FORMAT_VERSION:
        raise InputError(
            f"the store at {table.location} has the format {int(version)}; this version of ragcompress reads formats "
            f"up to {rows.FORMAT_VERSION}.",
            hint="pip install --upgrade ragcompress",
        )
    if missing := sorted(set(rows.schema().names) - set(table.table.schema.names)):
        raise InputError(
            f"the store at {table.location} lacks columns: {', '.join(missing)}.",
            hint="Delete it: what it held is encoded again.",
        )


def _memories(table: pa.Table) -> dict[str, Memory]:
    columns = [(name, table[name]) for name in table.column_names]
    found = ({name: column[index] for name, column in columns} for index in range(len(table)))
    return {row["key"].as_py(): rows.from_row(row) for row in found}
