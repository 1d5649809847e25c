"""The file of records that were left out."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from ragcompress.errors import InputError, OptionError
from ragcompress.indexing.summary import Reject


class RejectsFile:
    """JSON Lines with ``place``, ``reason`` and ``record``; made when the first one comes."""

    def __init__(self, path: Path) -> None:
        """Check the path; nothing is written or removed yet.

        Args:
            path: what an earlier run wrote there is replaced.

        Raises:
            OptionError: no file can be there, or one is that no run has written.
        """
        if path.is_dir() or not path.absolute().parent.is_dir():
            raise OptionError(f"rejects={str(path)!r} cannot be written: it is no file in a directory that exists.")
        if path.is_file() and not _is_of_a_run(path):
            raise OptionError(
                f"rejects={str(path)!r} is there already, and what is in it are no rejects: it would be overwritten.",
                hint="Name another file, or remove this one.",
            )
        self.path = path
        self._file: IO[str] | None = None

    def begin(self) -> None:
        """Remove what an earlier run wrote.

        Raises:
            InputError: it cannot be removed.
        """
        if self.path.is_file():  # no device or pipe
            try:
                os.remove(os.path.realpath(self.path))
            except OSError as error:
                raise InputError(f"{self.path} cannot be removed: {error.strerror or error}.") from error

    def write(self, rejects: Iterable[Reject]) -> None:
        """Add records.

        Args:
            rejects: any number.

        Raises:
            InputError: the file cannot be written.
        """
        for reject in rejects:
            line = json.dumps({"place": reject.place, "reason": reject.reason, "record": reject.content})
            try:
                if self._file is None:
                    self._file = self.path.open("w", encoding="utf-8")
                self._file.write(f"{line}\n")
                self._file.flush()
            except OSError as error:
                raise InputError(f"{self.path} cannot be written: {error.strerror or error}.") from error

    def close(self) -> None:
        """Close it, if it was opened."""
        if self._file is not None:
            self._file.close()


def _is_of_a_run(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            line = file.readline()
        return not line or set(json.loads(line)) == {"place", "reason", "record"}
    except (OSError, ValueError, TypeError, RecursionError):
        return False
