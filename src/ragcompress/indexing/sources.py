"""Files to records: JSON Lines, Parquet, folders of text and Markdown, and the standard input; a part at a time."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import IO, Any

from ragcompress.errors import InputError, MissingExtraError, OptionError
from ragcompress.indexing.summary import Reject
from ragcompress.indexing.windows import Record
from ragcompress.reading import (
    JSON_LINES,
    MARKDOWN,
    STDIN,
    Fields,
    check_encoding,
    documents_of_line,
    documents_of_record,
    read_text_file,
)

TEXT = (".txt", ".text", *MARKDOWN)
PARQUET = (".parquet", ".pq")
_ROWS_AT_ONCE = 1024
# A line without an end would be read into main memory as a whole.
_MAX_LINE_BYTES = 64 * 1024**2


class Sources:
    """What is to be read, found and checked before anything is loaded.

    Attributes:
        files: in the order in which they are read.
        n_bytes: of all of them; None: the standard input is among them.
        passed_over: how many files of folders are not read, by suffix.
    """

    def __init__(self, sources: Sequence[str | Path], *, fields: Fields | None = None, encoding: str = "utf-8") -> None:
        """Find the files.

        Args:
            sources: files, folders (searched through, in the order of the names), or ``-`` for the standard input,
                which is read as JSON Lines.
            fields: names in JSON objects and columns of Parquet files; None: text, title, id and metadata.
            encoding: of text and JSON Lines.

        Raises:
            InputError: a source does not exist, or there is nothing that can be read in it.
            OptionError: no such encoding, or the standard input is named twice.
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
        self.files = [file for name in names for file in self._found(name)]
        self.n_bytes = None if STDIN in names else sum(Path(file).stat().st_size for file in self.files)
        for file in self.files:
            if _suffix(file) in PARQUET:
                self._check_columns(file)

    def _check_columns(self, file: str) -> None:
        parquet = _parquet()
        try:
            names = parquet.read_schema(file).names
        except (OSError, ValueError):  # it is left out, with the reason, when its turn comes
            return
        if not {self.fields.text, "docs"} & set(names):
            raise InputError(
                f"{file} has no column {self.fields.text!r}; its columns are {', '.join(map(repr, names)) or 'none'}.",
                hint="Name the column of the text: --text-field NAME.",
            )

    def _found(self, name: str) -> list[str]:
        if name == STDIN:
            return [name]
        path = Path(name)
        if path.is_dir():
            return self._inside(path)
        if not path.is_file():
            raise InputError(f"{name} does not exist." if not path.exists() else f"{name} is no regular file.")
        if _suffix(name) not in (*TEXT, *JSON_LINES, *PARQUET):
            raise InputError(
                f"{name} is of a kind that is not read; known are {', '.join((*JSON_LINES, *PARQUET, *TEXT))}.",
                hint="Convert it, or pipe JSON Lines into - (the standard input).",
            )
        return [name]

    def _inside(self, folder: Path) -> list[str]:
        found = []
        for place, folders, files in os.walk(folder):
            folders[:] = sorted(each for each in folders if not each.startswith("."))
            for file in sorted(files):
                if file.startswith("."):
                    continue
                if _suffix(file) in (*TEXT, *JSON_LINES, *PARQUET):
                    found.append(str(Path(place) / file))
                else:
                    self.passed_over[_suffix(file) or "no suffix"] += 1
        if not found:
            others = f"; it holds {_listed(self.passed_over)}" if self.passed_over else ""
            raise InputError(f"the folder {folder} holds no file that is read{others}.",
                             hint=f"Known are {', '.join((*TEXT, *JSON_LINES, *PARQUET))}.")  # fmt: skip
        return found

    @property
    def remark(self) -> str | None:
        """Which files of folders are not read, in words."""
        return f"not read: {_listed(self.passed_over)}" if self.passed_over else None

    def __iter__(self) -> Iterator[Record | Reject]:
        """Read everything, a part at a time."""
        for file in self.files:
            suffix = _suffix(file)
            if file == STDIN:
                with os.fdopen(os.dup(sys.stdin.fileno()), "rb") as stream:
                    yield from self._lines(stream, "standard input")
            elif suffix in PARQUET:
                yield from self._rows(file)
            elif suffix in JSON_LINES:
                try:
                    with Path(file).open("rb") as stream:
                        yield from self._lines(stream, file)
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

    def _lines(self, stream: IO[bytes], shown: str) -> Iterator[Record | Reject]:
        number = 0
        while line := stream.readline(_MAX_LINE_BYTES):
            number += 1
            place = f"{shown}:{number}"
            size = len(line)
            if size == _MAX_LINE_BYTES and not line.endswith(b"\n"):
                while more := stream.readline(_MAX_LINE_BYTES):
                    if more.endswith(b"\n"):
                        break
                yield Reject(place, f"the line is longer than {_MAX_LINE_BYTES:,} bytes.")
                continue
            try:
                text = line.decode(self.encoding).removeprefix("\ufeff" if number == 1 else "")
            except UnicodeDecodeError as error:
                yield Reject(place, f"the line is not {self.encoding}: {error.reason} at byte {error.start}.")
                continue
            if not text.strip():
                continue
            read = partial(documents_of_line, text, place, shown, self.fields)
            yield from _checked(read, place, size, text.rstrip("\r\n"))

    def _rows(self, file: str) -> Iterator[Record | Reject]:
        parquet = _parquet()
        try:
            table = parquet.ParquetFile(file)
            wanted = [name for name in table.schema_arrow.names if name in self.fields.names]
            size = Path(file).stat().st_size / max(table.metadata.num_rows, 1)
            number = 0
            for batch in table.iter_batches(batch_size=_ROWS_AT_ONCE, columns=wanted):
                for row in batch.to_pylist():
                    number += 1
                    place = f"{file}:{number}"
                    # What the file takes, spread evenly over its rows without losing a byte to rounding.
                    own = int(size * number) - int(size * (number - 1))
                    read = partial(documents_of_record, _plain(row), place, file, self.fields)
                    yield from _checked(read, place, own, None)
        except (OSError, ValueError) as error:  # how pyarrow says that a file is none of its own
            yield Reject(file, f"it cannot be read as Parquet: {str(error).splitlines()[0]}")


def _checked(read: Callable[[], list[Any]], place: str, size: int, content: str | None) -> Iterator[Record | Reject]:
    try:
        documents = read()
    except InputError as error:
        yield Reject(place, str(error).removeprefix(f"{place}: "), content)
        return
    for number, document in enumerate(documents):
        where = place if len(documents) == 1 else f"{place}: docs[{number}]"
        yield Record(document, where, size if number == 0 else 0)


def _plain(value: Any) -> Any:  # noqa: ANN401 (whatever a column holds)
    """As JSON knows it, where there is one obvious way."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    return float(value) if isinstance(value, Decimal) else value


def _suffix(name: str) -> str:
    return Path(name).suffix.lower()


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {suffix}" for suffix, count in sorted(counts.items()))


def _parquet() -> Any:  # noqa: ANN401 (pyarrow has no types)
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError(
            "Parquet files need pyarrow, which is not installed.", hint="pip install 'ragcompress[store]'"
        ) from error
    return pyarrow.parquet
