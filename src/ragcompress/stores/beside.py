"""The index that lies beside a store: looked into, never made and never changed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from ragcompress.errors import InputError
from ragcompress.stores import index_checks, index_reading, index_rows, opening
from ragcompress.stores.tables import LanceTable
from ragcompress.types import Memory

ResultT = TypeVar("ResultT")

# In object storage it costs a request to find out that there is no index.
_SECONDS_BETWEEN_LOOKS = 3.0


class IndexBeside:
    """What an index in the same place has of the memories that a store lacks; safe to use from several threads."""

    def __init__(self, location: str) -> None:
        """Look at nothing yet: most stores have no index beside them.

        Args:
            location: of the store.
        """
        self._location = location
        self._table: LanceTable | None = None
        self._looked: float | None = None
        self._lock = threading.Lock()

    def is_there(self) -> bool:
        """Whether there is a table of its name, whatever state it is in.

        Raises:
            InputError: the place cannot be read.
        """
        return opening.is_there(self._location, index_rows.TABLE)

    def memories(self, keys: Sequence[str], space: str) -> dict[str, Memory]:
        """Fetch memories.

        Args:
            keys: checked, different.
            space: the embedding space that the caller can use; an index of another one has none of the keys.

        Returns:
            What is there, by key.

        Raises:
            InputError: the index is damaged, or of a newer version.
        """

        def read(table: LanceTable) -> dict[str, Memory]:
            there = table.metadata.get(index_rows.SPACE_FIELD, b"").decode()
            return index_reading.read_memories(table, keys) if there == space else {}

        return self._asked(read) or {}

    def known(self, keys: Sequence[str]) -> set[str]:
        """Which of some keys have documents.

        Args:
            keys: any number.

        Returns:
            Those.

        Raises:
            InputError: the index is damaged, or of a newer version.
        """
        return self._asked(lambda table: table.known(keys)) or set()

    def _asked(self, read: Callable[[LanceTable], ResultT]) -> ResultT | None:
        """What an index says; None: there is none."""
        before, table = self._table, self._found()
        if table is None:
            return None
        try:
            return read(table)
        except InputError:
            with self._lock:
                self._table = self._looked = None
            if before is None:
                raise
        # It was opened a while ago; since then it may have been deleted, or built anew.
        table = self._found()
        return None if table is None else read(table)

    def _found(self) -> LanceTable | None:
        folder = opening.local_folder(self._location, index_rows.TABLE)
        with self._lock:
            if folder is not None and not folder.is_dir():
                self._table = self._looked = None
            elif self._table is None and self._is_time():
                self._table = self._open()
                # Also where something else has that name, or nothing is finished yet.
                self._looked = time.monotonic()
            return self._table

    def _is_time(self) -> bool:
        return self._looked is None or time.monotonic() - self._looked >= _SECONDS_BETWEEN_LOOKS

    def _open(self) -> LanceTable | None:
        table = LanceTable.existing(self._location, index_rows.TABLE, "LanceDBStore")
        if table is None:
            return None
        noted = table.metadata
        if not index_checks.is_index(noted):
            return None
        index_checks.check_format(table, noted)
        return table
