"""Files to documents, for the command line: text, Markdown and JSON Lines.

Line endings are read as Python reads them (one line feed), so that offsets are those of ``open(path).read()``.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ragcompress.errors import InputError, OptionError
from ragcompress.types import Document

STDIN = "-"
JSON_LINES = (".jsonl", ".ndjson")
MARKDOWN = (".md", ".markdown")

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)^---[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_FRONT_TITLE = re.compile(r"^title:[ \t]*(.+?)[ \t]*$", re.MULTILINE)
# A heading before any other text: "# Title", closing marks included, or a line underlined with "=".
_HEADING = re.compile(r"\s*(?:^#[ \t]+(.+?)(?:[ \t]+#+)?[ \t]*$|^([^\n]+)\n=+[ \t]*$)", re.MULTILINE)
_BLANK = re.compile(r"\s*")
_MOST_NAMES = 1000


class _EmptyError(InputError):
    """There is nothing in a file."""


def read_files(
    paths: Sequence[str | Path], *, encoding: str = "utf-8", on_empty: Callable[[str], object] | None = None
) -> list[Document]:
    """Read documents from files.

    Args:
        paths: files; ``-`` is the standard input.
        encoding: of all of them; a byte order mark is dropped.
        on_empty: told of each file that is empty where others are not; None: that is an error.

    Returns:
        The documents, in the order of the files. ``metadata["path"]`` says where each is from.

    Raises:
        InputError: a file is missing, not text or malformed, or all are empty; says which, where and what is wrong.
        OptionError: there is no such encoding, or the standard input is named twice.
    """
    check_encoding(encoding)
    names = [str(path) for path in paths]
    if names.count(STDIN) > 1:
        raise OptionError("the standard input (-) can be read only once.")
    documents: list[Document] = []
    empty: list[_EmptyError] = []
    for name in names:
        try:
            documents += _read(name, encoding)
        except _EmptyError as error:
            empty.append(error)
    if len(empty) > 1 and not documents:
        raise InputError(f"all {len(empty)} files are empty: {', '.join(map(_shown, names))}.")
    for each in empty:
        if on_empty is None or not documents:
            raise each
        on_empty(str(each))
    return documents


def check_encoding(encoding: str) -> None:
    """Refuse what is no encoding.

    Args:
        encoding: its name.

    Raises:
        OptionError: there is none of that name.
    """
    try:
        "".encode(encoding)
    except (LookupError, ValueError) as error:
        raise OptionError(f"unknown encoding {encoding!r}.", hint="E.g. utf-8, latin-1 or utf-16.") from error


def _shown(name: str) -> str:
    return "standard input" if name == STDIN else name


def _read(name: str, encoding: str) -> list[Document]:
    suffix = "" if name == STDIN else Path(name).suffix.lower()
    shown = _shown(name)
    if suffix == ".json":
        raise InputError(f"{name} is one JSON value; JSON Lines, one object a line, is expected.",
                         hint=f"To convert a list: jq -c '.[]' {name} > {Path(name).stem}.jsonl")  # fmt: skip
    text = _decode(_bytes(name), shown, encoding)
    if not text.strip():
        raise _EmptyError(f"{shown} is empty.")
    if suffix in JSON_LINES or (name == STDIN and _looks_like_json_lines(text)):
        return list(_records(text, shown))
    return [_text_document(name, text, markdown=suffix in MARKDOWN)]


def read_text_file(name: str, encoding: str) -> Document:
    """Read a text or Markdown file.

    Args:
        name: of the file; becomes the document's id.
        encoding: of its bytes.

    Returns:
        The document.

    Raises:
        InputError: it is missing, empty or not text.
    """
    text = _decode(_bytes(name), name, encoding)
    if not text.strip():
        raise InputError(f"{name} is empty.")
    return _text_document(name, text, markdown=Path(name).suffix.lower() in MARKDOWN)


def _text_document(name: str, text: str, *, markdown: bool) -> Document:
    title, start = _title(text) if markdown else (None, 0)
    metadata: dict[str, Any] = {"path": name}
    if start:
        # Where the text begins in the file: what turns the spans of a result into offsets in the file.
        metadata["offset"] = start
    return Document(text[start:], id=name, title=title, metadata=metadata)


def _bytes(name: str) -> bytes:
    if name == STDIN:
        return sys.stdin.buffer.read()
    path = Path(name)
    if path.is_dir():
        raise InputError(f"{name} is a directory; files are expected.", hint=f"E.g. {path / '*.md'}")
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{name} does not exist.") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise InputError(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}.") from error


# First bytes of formats that some encodings would take for text.
_NOT_TEXT = {b"%PDF": "a PDF (pdftotext converts it)", b"PK\x03\x04": "a ZIP archive or an Office document"}


def _decode(content: bytes, shown: str, encoding: str) -> str:
    for start, kind in _NOT_TEXT.items():
        if content.startswith(start):
            raise InputError(f"{shown} is {kind}; text, Markdown or JSON Lines is expected.", hint="Convert it first.")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{shown} is not {encoding}: byte 0x{content[error.start]:02x} at offset {error.start:,} ({error.reason}).",
            hint="Name its encoding, e.g. --encoding latin-1; other formats than text are not read.",
        ) from error
    if "\x00" in text[:4096]:
        raise InputError(f"{shown} looks like a binary file: it has a NUL at offset {text.index(chr(0)):,}.",
                         hint="If it is text, name its encoding, e.g. --encoding utf-16.")  # fmt: skip
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _title(text: str) -> tuple[str | None, int]:
    """The title that a Markdown file declares, and where its text begins behind it."""
    title, start = None, 0
    front = _FRONT_MATTER.match(text)
    if front is not None:
        declared = _FRONT_TITLE.search(front[1])
        title, start = (declared[1].strip("\"'") or None) if declared else None, front.end()
    heading = _HEADING.match(text, start)
    if title is None and heading is not None:
        title, start = (heading[1] or heading[2]).strip(), heading.end()
    blank = _BLANK.match(text, start)
    body = blank.end() if blank else start
    # A file with nothing but a title is a text without one.
    return (title, body) if title and body < len(text) else (None, 0)


def _looks_like_json_lines(text: str) -> bool:
    return all(line.lstrip().startswith("{") for line in text.split("\n") if line.strip())


def _records(text: str, shown: str) -> Iterator[Document]:
    # Not splitlines(): JSON strings may hold U+2028 and other separators as they are.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield from documents_of_line(line, f"{shown}:{number}", shown)


@dataclass(frozen=True, slots=True)
class Fields:
    """Where in an object or a row a document's parts are.

    Attributes:
        text: has to be there.
        title: may be missing.
        id: may be missing.
        metadata: an object of which everything is taken.
        more: further fields that go into the metadata.
        seen: names that records have, those of ``more`` among them; filled where there are any, for a word on those
            that no record has.
    """

    text: str = "text"
    title: str = "title"
    id: str = "id"
    metadata: str = "metadata"
    more: tuple[str, ...] = ()
    seen: set[str] = field(default_factory=set, compare=False, repr=False)

    def note(self, names: Iterable[str]) -> None:
        """Remember what a record has.

        Args:
            names: its keys.
        """
        if self.more:
            # Where keys are data, there is no end to them.
            self.seen.update(name for name in names if name in self.more or len(self.seen) < _MOST_NAMES)

    @property
    def names(self) -> set[str]:
        """All of them, and ``docs``, a list of documents."""
        return {self.text, self.title, self.id, self.metadata, "docs", *self.more}


def documents_of_line(line: str, place: str, shown: str, fields: Fields = Fields()) -> list[Document]:
    """Read one line of JSON Lines.

    Args:
        line: of the file.
        place: file and number, for messages.
        shown: the file; goes into the metadata as ``path``, unless the record has a ``path`` of its own there.
        fields: where the parts are.

    Returns:
        One document, or those of a list ``docs``.

    Raises:
        InputError: the line is no object with a text.
    """
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{place}: not valid JSON: {error.msg} at column {error.colno}.") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; brackets without end
        raise InputError(f"{place}: not readable JSON: {error}.") from error
    if not isinstance(record, dict):
        raise InputError(f"{place}: expected an object with a text, got {_kind(record)}.")
    return documents_of_record(record, place, shown, fields)


def documents_of_record(record: dict[str, Any], place: str, shown: str, fields: Fields) -> list[Document]:
    """Read one object or row; see ``documents_of_line``."""
    if "docs" not in record:
        return [_document(record, place, shown, fields)]
    if not isinstance(record["docs"], list):
        raise InputError(f"{place}: docs must be a list of objects, got {_kind(record['docs'])}.")
    documents = []
    for index, entry in enumerate(record["docs"]):
        if not isinstance(entry, dict):
            raise InputError(f"{place}: docs[{index}] must be an object with a text, got {_kind(entry)}.")
        documents.append(_document(entry, f"{place}: docs[{index}]", shown, fields))
    return documents


def _document(record: dict[str, Any], place: str, shown: str, fields: Fields) -> Document:
    fields.note(record)
    if fields.text not in record:
        keys = ", ".join(repr(key) for key in record) or "none"
        raise InputError(f"{place}: no {fields.text!r}; the keys are: {keys}.")
    text, title = record[fields.text], record.get(fields.title)
    for name, value in ((fields.text, text), (fields.title, title)):
        if not isinstance(value, str) and not (name == fields.title and value is None):
            raise InputError(f"{place}: {name} must be a string, got {_kind(value)}.")
    identifier = record.get(fields.id)
    if identifier is not None and (not isinstance(identifier, (str, int)) or isinstance(identifier, bool)):
        raise InputError(f"{place}: {fields.id} must be a string or a number, got {_kind(identifier)}.")
    metadata = record.get(fields.metadata) or {}
    if not isinstance(metadata, dict):
        raise InputError(f"{place}: {fields.metadata} must be an object, got {_kind(metadata)}.")
    fields.note(metadata)
    more = {name: record[name] for name in fields.more if name in record}
    return Document(
        text,
        id=place if identifier is None else str(identifier),
        title=title,
        metadata={"path": shown, **metadata, **more},
    )


def _kind(value: object) -> str:
    names = {str: "a string", bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return "null" if value is None else names.get(type(value), f"a {type(value).__name__}")
