"""Files to records: JSON Lines, Parquet, folders of text and Markdown, and the standard input; a part at a time."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from ragcompress.errors import InputError, OptionError
from ragcompress.indexing.folders import identity, search
from ragcompress.indexing.lines import read_lines
from ragcompress.indexing.parquet import check_columns, read_rows
from ragcompress.indexing.summary import Reject
from ragcompress.indexing.windows import Record, Skipped
from ragcompress.reading import JSON_LINES, MARKDOWN, STDIN, Fields, check_encoding, read_text_file

TEXT = (".txt", ".text", *MARKDOWN)
PARQUET = (".parquet", ".pq")
_KNOWN = (*JSON_LINES, *PARQUET, *TEXT)


class Sources:
    """What is to be read, found and checked before anything is loaded.

    Attributes:
        files: in the order in which they are read.
        n_bytes: of all of them; None: the standard input is among them.
        passed_over: how many files of folders are not read, by suffix.
    """

    def __init__(
        self,
        sources: Sequence[str | Path],
        *,
        fields: Fields | None = None,
        encoding: str = "utf-8",
        rejects: str | Path | None = None,
    ) -> None:
        """Find the files.

        Args:
            sources: files, folders (searched through, links in them as well, in the order of the names), or ``-`` for
                the standard input, which is read as JSON Lines.
            fields: names in JSON objects and columns of Parquet files; None: text, title, id and metadata.
            encoding: of text and JSON Lines.
            rejects: where ``index`` is going to write what is left out: not read where it lies in a folder.

        Raises:
            InputError: a source does not exist, or there is nothing that can be read in it.
            OptionError: no such encoding, the standard input is named twice, or ``rejects`` is one of the sources.
            MissingExtraError: Parquet files need pyarrow.
        """
        check_encoding(encoding)
        names = [str(source) for source in sources]
        if not names:
            raise OptionError("no source was named.", hint="Name files, folders, or - for the standard input.")
        if names.count(STDIN) > 1:
            raise OptionError("the standard input (-) can be read only once.")
        self.fields = fields or Fields()
        self.encoding = encoding
        self.passed_over: Counter[str] = Counter()
        self._rejects: list[Reject] = []
        self._found: list[tuple[str, int]] = []
        for name in names:
            self._find(name, None if rejects is None else Path(rejects))
        self.files = [file for file, _ in self._found]
        self.n_bytes = None if STDIN in names else sum(size for _, size in self._found)
        if rejects is not None:
            self.check_not_read(rejects)
        for file in self.files:
            if _suffix(file) in PARQUET:
                check_columns(file, self.fields)

    def check_not_read(self, path: str | Path) -> None:
        """Refuse to write to what is read.

        Args:
            path: of a file that will be written.

        Raises:
            OptionError: it is one of the files, by whatever path.
        """
        written = identity(path)
        if written is not None and any(identity(file) == written for file in self.files):
            raise OptionError(
                f"rejects={str(path)!r} is one of the files to read and would be overwritten.",
                hint="Name another file for what is left out.",
            )

    def _find(self, name: str, rejects: Path | None) -> None:
        if name == STDIN:
            self._found.append((name, 0))
            return
        path = Path(name)
        try:
            size = path.stat().st_size
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            if isinstance(error, FileNotFoundError):
                raise InputError(f"{name} does not exist.") from error
            raise InputError(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
        if path.is_dir():
            self._find_inside(path, rejects)
            return
        if not path.is_file():
            raise InputError(f"{name} is no regular file.", hint="Pipe JSON Lines into - (the standard input).")
        if _suffix(name) not in _KNOWN:
            raise InputError(
                f"{name} is of a kind that is not read; known are {', '.join(_KNOWN)}.",
                hint="Convert it, or pipe JSON Lines into - (the standard input).",
            )
        self._found.append((name, size))

    def _find_inside(self, folder: Path, rejects: Path | None) -> None:
        found = search(folder, _KNOWN, leave_out=rejects)
        if not found.files:
            others = f"; it holds {_listed(found.passed_over)}" if found.passed_over else ""
            others += "".join(f"; {each.place}: {each.reason.rstrip('.')}" for each in found.rejects[:1])
            raise InputError(f"the folder {folder} holds no file that is read{others}.",
                             hint=f"Known are {', '.join(_KNOWN)}.")  # fmt: skip
        self._found += found.files
        self._rejects += found.rejects
        self.passed_over += found.passed_over

    @property
    def remark(self) -> str | None:
        """Which files of folders are not read, in words."""
        return f"not read: {_listed(self.passed_over)}" if self.passed_over else None

    def __iter__(self) -> Iterator[Record | Reject | Skipped]:
        """Read everything, a part at a time; the sizes of what is read add up to ``n_bytes``."""
        yield from self._rejects
        for file, size in self._found:
            n_bytes = 0
            for each in self._read(file):
                n_bytes += each.n_bytes
                yield each
            if n_bytes < size:  # blank lines, and what cannot be read
                yield Skipped(size - n_bytes)

    def _read(self, file: str) -> Iterator[Record | Reject]:
        suffix = _suffix(file)
        if file == STDIN:
            with os.fdopen(os.dup(sys.stdin.fileno()), "rb") as stream:
                yield from read_lines(stream, "standard input", self.fields, self.encoding)
        elif suffix in PARQUET:
            yield from read_rows(file, self.fields)
        elif suffix in JSON_LINES:
            try:
                with Path(file).open("rb") as stream:
                    yield from read_lines(stream, file, self.fields, self.encoding)
            except OSError as error:
                yield Reject(file, f"it cannot be read: {error.strerror or error}.")
        else:
            yield from self._text(file)

    def _text(self, file: str) -> Iterator[Record | Reject]:
        try:
            document = read_text_file(file, self.encoding)
            size = Path(file).stat().st_size
        except (InputError, OSError) as error:
            yield Reject(file, str(error))
        else:
            yield Record(document, file, size)


def _suffix(name: str) -> str:
    return Path(name).suffix.lower()


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {suffix}" for suffix, count in sorted(counts.items()))
