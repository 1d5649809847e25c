"""What every LanceDB table of ours needs: opening it, trying again, and tidying up."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ragcompress.errors import InputError, MissingExtraError, OptionError
from ragcompress.options import check_range
from ragcompress.stores import lancedb as store
from ragcompress.stores import opening

if TYPE_CHECKING:
    import pyarrow as pa
    from lancedb.db import DBConnection
    from lancedb.table import Table

ResultT = TypeVar("ResultT")


class LanceTable:
    """One table, in a folder or in object storage, that several threads and processes may use at once."""

    def __init__(self, location: str | Path, name: str, make_schema: Callable[[], pa.Schema], *, what: str) -> None:
        """Open the table, or make an empty one.

        Args:
            location: a folder, ``"lancedb://FOLDER"``, or the address of object storage.
            name: of the table.
            make_schema: columns and metadata of a new table; called where pyarrow is there.
            what: class that asks, for messages.

        Raises:
            MissingExtraError: lancedb is not installed.
            OptionError: the location or the name is impossible, or the place cannot be written.
            InputError: the table is damaged.
        """
        self.location = opening.check_location(location)
        self.name = opening.check_table_name(name)
        self.table = _open(self.location, self.name, make_schema, what)
        self._checked_period = -1
        self._maintenance = threading.Lock()

    @property
    def metadata(self) -> dict[bytes, bytes]:
        """What was written down when the table was made."""
        return dict(self.table.schema.metadata or {})

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

    def rows(self, condition: str, columns: Iterable[str], names: str) -> pa.Table:
        """Fetch a few rows whole: first their places, then what lies there.

        A single query would read the vectors of everything that no index covers.

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
        for attempt in range(store._READ_ATTEMPTS):
            with suppress(*opening.FAILURES):
                places = self.table.search().where(condition).select([names]).with_row_id(True).to_arrow()
                if not len(places):
                    break
                found = self.taken(places["_rowid"].to_pylist(), places[names].to_pylist(), wanted, names)
                if found is not None:
                    return found
            store._wait(attempt)
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
        found = self.table.take_row_ids(places).select(list(columns)).to_arrow()
        return found if sorted(found[names].to_pylist()) == sorted(expected) else None

    def upsert(self, rows: pa.Table, on: str, drop: str) -> None:
        """Replace rows and add new ones in one commit.

        Args:
            rows: of the table's schema.
            on: the column of its primary key.
            drop: SQL; rows that fulfil it and are not in ``rows`` go.

        Raises:
            InputError: the table cannot be written.
        """

        def write() -> None:
            merge = self.table.merge_insert(on).when_matched_update_all().when_not_matched_insert_all()
            merge = merge.when_not_matched_by_source_delete(drop)
            # Without the index Lance scans the keys alone; with it, also the vectors of all rows that are not in it.
            merge.use_index(False).execute(rows)

        self.writing(write)

    @property
    def n_bytes(self) -> int:
        """What the table takes on disk, old versions included; in object storage: its current version alone."""
        place = opening.local_folder(self.location, self.name)
        if place is None:
            return int(self._stats()["total_bytes"])
        total = 0
        for folder, _, files in os.walk(place):
            for file in files:
                # Another process may be tidying up.
                with suppress(FileNotFoundError):
                    total += (Path(folder) / file).stat().st_size
        return total

    def compact(self, keep_seconds: float, index: Callable[[int], None]) -> None:
        """Merge pieces, drop old versions.

        Args:
            keep_seconds: versions younger than that stay.
            index: called with the number of rows afterwards.

        Raises:
            OptionError: ``keep_seconds`` is negative.
            InputError: the table cannot be written.
        """
        check_range("keep_seconds", keep_seconds, at_least=0)
        with self._maintenance:
            self.writing(lambda: self._optimize(keep_seconds))
            index(self.count())

    def maintain(self, index: Callable[[int], None]) -> None:
        """Keep many small writes from making everything slow; best effort.

        Args:
            index: called with the number of rows now and then.
        """
        with suppress(*opening.FAILURES):
            period = self.table.version // store._COMMITS_BETWEEN_CHECKS
            if period == self._checked_period or not self._maintenance.acquire(blocking=False):
                return
            try:
                self._checked_period = period
                stats = self._stats()
                n_fragments = stats["fragment_stats"]["num_fragments"]
                worth_it = n_fragments**2 * store._BYTES_PER_SQUARED_FRAGMENT >= stats["total_bytes"]
                if n_fragments >= store._MIN_FRAGMENTS_TO_COMPACT and worth_it:
                    self._optimize(keep_seconds=60.0)
                index(stats["num_rows"])
            finally:
                self._maintenance.release()

    def _optimize(self, keep_seconds: float) -> None:
        # At zero it warns; a millisecond is as good.
        self.table.optimize(cleanup_older_than=timedelta(seconds=max(keep_seconds, 0.001)))

    def _stats(self) -> dict[str, Any]:
        # A dictionary, whatever lancedb's annotation says.
        return cast("dict[str, Any]", self.table.stats())

    def reading(self, action: Callable[[], ResultT]) -> ResultT:
        """Call again what failed: another process may have dropped the version that was read.

        Args:
            action: reads.

        Returns:
            What it returned.

        Raises:
            InputError: it failed every time.
        """
        return self._retried(action, store._READ_ATTEMPTS, lambda error: True)

    def writing(self, action: Callable[[], object]) -> None:
        """Call again what another process got in the way of, beyond lancedb's own attempts.

        Args:
            action: writes.

        Raises:
            InputError: it failed for another reason, or every time.
        """
        self._retried(action, store._WRITE_ATTEMPTS, lambda error: bool(store._CONFLICT.search(str(error))))

    def _retried(self, action: Callable[[], ResultT], attempts: int, worth_it: Callable[[Exception], bool]) -> ResultT:
        attempt = 0
        while True:
            try:
                return action()
            except opening.FAILURES as error:
                attempt += 1
                if isinstance(error, InputError):
                    raise
                if attempt == attempts or not worth_it(error):
                    raise opening.damaged(self.location, self.name, error) from error
            store._wait(attempt)


def _open(location: str, name: str, make_schema: Callable[[], pa.Schema], what: str) -> Table:
    try:
        import lancedb
    except ImportError as error:
        raise MissingExtraError(
            f"{what} needs lancedb, which cannot be imported ({error}).", hint="pip install 'ragcompress[store]'"
        ) from error
    opening._refuse_folder_of_something_else(location, name)
    try:
        connection = lancedb.connect(location, read_consistency_interval=timedelta(0))
        if name not in opening._table_names(connection):
            return _create(connection, name, make_schema)
    except opening.FAILURES as error:
        raise OptionError(
            f"nothing can be kept at {location}: {opening._first_line(error)}.",
            hint="Name a folder that can be written, or an address whose credentials are set.",
        ) from error
    try:
        return connection.open_table(name)
    except opening.FAILURES as error:
        # A process that was killed while it made the table leaves a folder without a first version.
        folder = opening.local_folder(location, name)
        if folder is not None and not any((folder / "_versions").glob("*")) and not any((folder / "data").glob("*")):
            with suppress(*opening.FAILURES):
                return connection.create_table(name, schema=make_schema(), exist_ok=True)
        raise opening.damaged(location, name, error) from error


def _create(connection: DBConnection, name: str, make_schema: Callable[[], pa.Schema]) -> Table:
    try:
        return connection.create_table(name, schema=make_schema())
    except opening.FAILURES:
        # Another process may have been quicker.
        for _ in range(20):
            with suppress(*opening.FAILURES):
                if name in opening._table_names(connection):
                    return connection.open_table(name)
            time.sleep(0.05)
        raise
