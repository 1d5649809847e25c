"""The file of records that were left out."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from ragcompress.errors import InputError, OptionError
from ragcompress.indexing.summary import Reject


class RejectsFile:
    """JSON Lines with ``place``, ``reason`` and ``record``; made when the first one comes."""

    def __init__(self, path: Path) -> None:
        """Check the path.

        Args:
            path: what an earlier run wrote there is replaced.

        Raises:
            OptionError: no file can be there.
        """
        if path.is_dir() or not path.absolute().parent.is_dir():
            raise OptionError(f"rejects={str(path)!r} cannot be written: it is no file in a directory that exists.")
        self.path = path
        self._file: IO[str] | None = None

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
