"""One LanceDB table, as stores and indices use it: opened, read by place, written in whole commits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

from ragcompress.stores import opening
from ragcompress.stores.attempts import Attempts
from ragcompress.stores.keys import among, parts, possible_keys

if TYPE_CHECKING:
    import pyarrow as pa
    from lancedb.merge import LanceMergeInsertBuilder
    from lancedb.table import Table


class LanceTable(Attempts):
    """One table, in a folder or in object storage, that several threads and processes may use at once.

    Its rows have a column ``key``.
    """

    def __init__(self, location: str, name: str, table: Table) -> None:
        """Take an opened table; ``made`` and ``existing`` open one.

        Args:
            location: checked.
            name: of the table.
            table: opened there.
        """
        super().__init__(location, name)
        self.table = table

    @classmethod
    def made(
        cls, location: str | Path, name: str, make_schema: Callable[[], pa.Schema], *, owner: str, kind: str
    ) -> Self:
        """Open a table, or make an empty one.

        Args:
            location: a folder, ``"lancedb://FOLDER"``, or the address of object storage.
            name: of the table.
            make_schema: columns and metadata of a new table; called where pyarrow is there.
            owner: class that asks, for messages.
            kind: what it makes of the table, for messages.

        Returns:
            The table.

        Raises:
            MissingExtraError: lancedb is not installed.
            OptionError: the location or the name is impossible, or the place cannot be written.
            InputError: the table is damaged, or there is no room for it.
        """
        place, checked = opening.check_location(location), opening.check_table_name(name)
        return cls(place, checked, opening.open_table(place, checked, make_schema, owner=owner, kind=kind))

    @classmethod
    def existing(cls, location: str, name: str, owner: str) -> Self | None:
        """Open a table where there is one.

        Args:
            location: checked.
            name: of the table, checked.
            owner: class that asks, for messages.

        Returns:
            The table; None: there is none.

        Raises:
            MissingExtraError: lancedb is not installed.
            InputError: the table is damaged, or the place cannot be read.
        """
        table = opening.open_existing(location, name, owner)
        return None if table is None else cls(location, name, table)

    @property
    def metadata(self) -> dict[bytes, bytes]:
        """What was written down when the table was made."""
        return dict(self.reading(lambda: self.table.schema).metadata or {})

    @property
    def version(self) -> int:
        """Changes with every commit, also with those of others."""
        return self.reading(lambda: int(self.table.version))

    def count(self, condition: str | None = None) -> int:
        """How many rows there are.

        Args:
            condition: SQL; None: all.

        Returns:
            The number.
        """
        return self.reading(lambda: int(self.table.count_rows(condition)))

    def keys(self, condition: str | None = None) -> set[str]:
        """The keys of rows; reads nothing else of them.

        Args:
            condition: SQL; None: all.

        Returns:
            Each once.

        Raises:
            InputError: the table cannot be read.
        """

        def read() -> pa.Table:
            query = self.table.search()
            return (query if condition is None else query.where(condition)).select(["key"]).to_arrow()

        return set(self.reading(read)["key"].to_pylist())

    def known(self, keys: Iterable[object]) -> set[str]:
        """Which of some keys have rows.

        Args:
            keys: any number; nothing is kept under what is no key.

        Returns:
            Those.

        Raises:
            InputTypeError: it is a single string.
            InputError: the table cannot be read.
        """
        return {key for part in parts(possible_keys(keys)) for key in self.keys(among(part))}

    def rows(self, condition: str, columns: Iterable[str], names: str) -> pa.Table:
        """Fetch a few rows whole: first their places, then what lies there.

        A single query would read the vectors of everything that no index covers (measured at 20,000 documents of
        64 KiB: 870 ms instead of 10).

        Args:
            condition: SQL.
            columns: to fetch.
            names: the column that tells rows apart, one of ``columns``.

        Returns:
            The rows, all of one version of the table, in no particular order.

        Raises:
            InputError: the table cannot be read.
        """
        wanted = list(columns)

        def read() -> pa.Table | None:
            places = self.table.search().where(condition).select([names]).with_row_id(True).to_arrow()
            return self.taken(places["_rowid"].to_pylist(), places[names].to_pylist(), wanted, names)

        found = self.settled(read)
        if found is not None:
            return found
        # One query sees one version: slow, and always right.
        return self.reading(lambda: self.table.search().where(condition).select(wanted).to_arrow())

    def taken(self, places: list[int], expected: list[str], columns: Iterable[str], names: str) -> pa.Table | None:
        """Fetch rows from their places.

        Args:
            places: row ids, as of a moment ago.
            expected: what lay there, in the same order.
            columns: to fetch.
            names: the column that tells rows apart, one of ``columns``.

        Returns:
            The rows in no particular order; None: another process has moved or replaced some.
        """
        if not places:
            return self.table.schema.empty_table().select(list(columns))
        found = self.table.take_row_ids(places).select(list(columns)).to_arrow()
        return found if sorted(found[names].to_pylist()) == sorted(expected) else None

    def replace(self, rows: pa.Table, on: str, keys: Sequence[str]) -> None:
        """Put rows in the place of all that some keys have, in one commit.

        Args:
            rows: of the table's schema.
            on: the column of its primary key.
            keys: of the rows.

        Raises:
            InputError: the table cannot be written.
        """
        if not self.known(keys):
            # Looking for rows to delete takes five times as long (256 rows into 60,000: 100 ms and 20). A plain add
            # would leave rows of two processes that write the same key.
            merge = self._merge(on).when_not_matched_insert_all()
            if self.writing(lambda: merge.execute(rows)).num_inserted_rows == len(rows):
                return
        whole = self._upserting(on).when_not_matched_by_source_delete(among(keys))
        self.writing(lambda: whole.execute(rows))

    def upsert(self, rows: pa.Table, on: str) -> None:
        """Replace rows and add new ones in one commit.

        Args:
            rows: of the table's schema.
            on: the column of its primary key.

        Raises:
            InputError: the table cannot be written.
        """
        self.writing(lambda: self._upserting(on).execute(rows))

    def _upserting(self, on: str) -> LanceMergeInsertBuilder:
        return self._merge(on).when_matched_update_all().when_not_matched_insert_all()

    def _merge(self, on: str) -> LanceMergeInsertBuilder:
        # Without the index Lance scans the keys alone; with it, also the vectors of all rows that are not in it
        # (measured for 500 rows into 14,000: 27 ms without, 715 ms with).
        return self.table.merge_insert(on).use_index(False)

    def delete(self, keys: Iterable[str]) -> None:
        """Drop the rows of keys.

        Args:
            keys: checked, any number.

        Raises:
            InputError: the table cannot be written.
        """
        for part in parts(list(keys)):
            self.writing(lambda part=part: self.table.delete(among(part)))  # type: ignore[misc]
