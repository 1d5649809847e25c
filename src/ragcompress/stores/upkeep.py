"""Keeping a table fast and small: merging what single writes have left, dropping old versions, indexing the keys."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

from ragcompress.options import check_range
from ragcompress.stores import opening
from ragcompress.stores.tables import LanceTable

# How many commits lie between two looks at the shape of the table.
COMMITS_BETWEEN_CHECKS = 64
# Measured (2 cores, local disk): a fragment costs each later put about 40 microseconds, and a compaction rewrites about
# 150 MB a second. It pays once the fragments have cost as much: 20e-6 * fragments ** 2 = bytes / 150e6.
_BYTES_PER_SQUARED_FRAGMENT = 3000
MIN_FRAGMENTS_TO_COMPACT = 100
# Below, a scan of the keys is as fast as an index (1 key of 10,000: 2.4 ms without, 1.8 ms with; of 100,000: 5.0 and
# 2.4 ms in one fragment, 15.9 and 2.4 ms in a hundred).
MIN_ROWS_TO_INDEX = 4096
MIN_FRAGMENTS_TO_INDEX = 64


class Upkeep:
    """Tidies up one table; safe to use from several threads."""

    def __init__(self, table: LanceTable, index_more: Callable[[int], None] | None = None) -> None:
        """Do nothing yet.

        Args:
            table: opened.
            index_more: indexes other columns than the keys; called with the number of rows, and may fail.
        """
        self._table = table
        self._index_more = index_more
        self._checked_period = -1
        self._running = threading.Lock()

    @property
    def n_bytes(self) -> int:
        """What the table takes on disk, old versions included; in object storage: its current version alone."""
        place = opening.local_folder(self._table.location, self._table.name)
        if place is None:
            return int(self._stats()["total_bytes"])
        total = 0
        for folder, _, files in os.walk(place):
            for file in files:
                # Another process may be tidying up.
                with suppress(FileNotFoundError):
                    total += (Path(folder) / file).stat().st_size
        return total

    def compact(self, keep_seconds: float) -> None:
        """Merge pieces, drop old versions, index what is looked up.

        Args:
            keep_seconds: versions younger than that stay.

        Raises:
            OptionError: ``keep_seconds`` is negative.
            InputError: the table cannot be written.
        """
        check_range("keep_seconds", keep_seconds, at_least=0)
        with self._running:
            self._table.writing(lambda: self._optimize(keep_seconds))
            self._index(self._table.count(), 0)

    def now_and_then(self) -> None:
        """Keep many small writes from making everything slow: call it after each."""
        # Best effort: whoever is at it already, in this process or another, does it for all.
        with suppress(*opening.FAILURES):
            period = self._table.version // COMMITS_BETWEEN_CHECKS
            if period == self._checked_period or not self._running.acquire(blocking=False):
                return
            try:
                self._checked_period = period
                stats = self._stats()
                n_fragments = stats["fragment_stats"]["num_fragments"]
                worth_it = n_fragments**2 * _BYTES_PER_SQUARED_FRAGMENT >= stats["total_bytes"]
                if n_fragments >= MIN_FRAGMENTS_TO_COMPACT and worth_it:
                    self._optimize(keep_seconds=60.0)
                    n_fragments = 0
                self._index(stats["num_rows"], n_fragments)
            finally:
                self._running.release()

    def _index(self, n_rows: int, n_fragments: int) -> None:
        """Index the keys where that pays; building it anew reads the keys alone (8 ms for 20,000 rows)."""
        with suppress(*opening.FAILURES):
            if n_rows >= MIN_ROWS_TO_INDEX or n_fragments >= MIN_FRAGMENTS_TO_INDEX:
                from lancedb.index import BTree

                self._table.table.create_index("key", config=BTree(), replace=True)
            if self._index_more is not None:
                self._index_more(n_rows)

    def _optimize(self, keep_seconds: float) -> None:
        # At zero it warns of what the docstring of ``compact`` says; a millisecond is as good.
        self._table.table.optimize(cleanup_older_than=timedelta(seconds=max(keep_seconds, 0.001)))

    def _stats(self) -> dict[str, Any]:
        # A dictionary, whatever lancedb's annotation says.
        return cast("dict[str, Any]", self._table.table.stats())
