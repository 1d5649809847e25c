"""JSON Lines to records, a line at a time, in any encoding."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from functools import partial
from typing import IO

from ragcompress.errors import InputError
from ragcompress.indexing.summary import Reject
from ragcompress.indexing.windows import Record
from ragcompress.reading import Fields, documents_of_line
from ragcompress.types import Document

# A line without an end would be read into main memory as a whole.
_MAX_LINE_BYTES = 64 * 1024**2
_UNITS = {"utf-16": (2, codecs.BOM_UTF16_BE), "utf-32": (4, codecs.BOM_UTF32_BE)}


def read_lines(stream: IO[bytes], shown: str, fields: Fields, encoding: str) -> Iterator[Record | Reject]:
    """Read JSON Lines.

    Args:
        stream: read once, to its end.
        shown: the file; for places and metadata.
        fields: where the parts of a document are.
        encoding: of the text.

    Yields:
        Documents, and lines that are none; nothing for blank lines.
    """
    codec, line = _codec(stream, encoding)
    newline = "\n".encode(codec)
    number = 0
    while line := _line(stream, newline, line):
        number += 1
        place = f"{shown}:{number}"
        size = len(line)
        if size >= _MAX_LINE_BYTES and not line.endswith(newline):
            while not line.endswith(newline) and (line := _line(stream, newline)):
                size += len(line)
            yield Reject(place, f"the line is longer than {_MAX_LINE_BYTES:,} bytes.", n_bytes=size)
            line = b""
            continue
        try:
            text = line.decode(codec).removeprefix("\ufeff" if number == 1 else "")
        except UnicodeError as error:
            yield Reject(place, f"the line is not {encoding}: {error}.", n_bytes=size)
        else:
            if text.strip():
                read = partial(documents_of_line, text, place, shown, fields)
                yield from records(read, place, text.rstrip("\r\n"), size)
        line = b""


def records(
    read: Callable[[], list[Document]], place: str, content: str | None, size: int
) -> Iterator[Record | Reject]:
    """Make records of what one line or row holds.

    Args:
        read: gives the documents, or raises ``InputError``.
        place: of the line or row.
        content: the line or row.
        size: what it takes in the file.

    Yields:
        A record for each document; the first one carries the size.
    """
    try:
        documents = read()
    except InputError as error:
        yield Reject(place, str(error).removeprefix(f"{place}: "), content, size)
        return
    for number, document in enumerate(documents):
        where = place if len(documents) == 1 else f"{place}: docs[{number}]"
        own = size if number == 0 else 0
        if document.text.strip():
            yield Record(document, where, own)
        else:
            yield Reject(where, "the text is empty", content, own)


def _codec(stream: IO[bytes], encoding: str) -> tuple[str, bytes]:
    """The codec of single lines, and what had to be read to find it."""
    name = codecs.lookup(encoding).name
    if name == "utf-8-sig":  # the mark is dropped from the first line alone
        return "utf-8", b""
    if name not in _UNITS:
        return name, b""
    width, big = _UNITS[name]
    start = stream.read(width)
    return f"{name}-{'be' if start == big else 'le'}", start


def _line(stream: IO[bytes], newline: bytes, line: bytes = b"") -> bytes:
    """The rest of a line; in UTF-16 the byte of a line feed also stands inside of other characters."""
    while not line.endswith(newline) and len(line) < _MAX_LINE_BYTES:
        part = stream.readline(_MAX_LINE_BYTES - len(line))
        if not part:
            break
        line += part
        line += stream.read(-len(line) % len(newline))
    return line
