"""What is to be done, in portions: read, told apart, and compared with what is there already.

Portions depend on the sources alone, and each is written in one go. A run that was killed therefore leaves whole
portions, the next run makes the same ones, and their batches and bits are those of a run without interruption.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ragcompress.compressor import OfflineCompressor
from ragcompress.errors import InputError, InputTypeError
from ragcompress.indexing.summary import Reject
from ragcompress.indexing.targets import Target
from ragcompress.types import Document

# Enough for full batches on a GPU (some 40,000 tokens); what a killed run has to do again.
WINDOW_DOCUMENTS = 256
WINDOW_CHARS = 200_000
# If nothing at all could be read of so many records, something is wrong with all of them. Reading them takes a second:
# few enough to fail early, and enough for a good corpus whose first file is none.
HOPELESS_RECORDS = 10_000


@dataclass(frozen=True, slots=True)
class Record:
    """A document, and where it came from.

    Attributes:
        document: the document.
        place: e.g. ``corpus.jsonl:17``.
        n_bytes: of the file that are done with it; for progress.
    """

    document: Document
    place: str
    n_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Skipped:
    """Bytes without a record: blank lines at the end of a file.

    Attributes:
        n_bytes: of the file; for progress.
    """

    n_bytes: int


Readable = Record | Reject | Skipped | Document | str


@dataclass(slots=True)
class Window:
    """A portion of work.

    Attributes:
        todo: what is to be encoded, by key.
        stale: what is there under another id or with other metadata, by key.
        rejects: records that were left out.
        n_documents: that were read for it.
        n_present: of these, there already.
        n_duplicates: of these, equal to one before them.
        n_bytes: of the files.
    """

    todo: dict[str, Record] = field(default_factory=dict)
    stale: dict[str, Record] = field(default_factory=dict)
    rejects: list[Reject] = field(default_factory=list)
    n_documents: int = 0
    n_present: int = 0
    n_duplicates: int = 0
    n_bytes: int = 0


def windows(records: Iterable[Readable], compressor: OfflineCompressor, target: Target) -> Iterator[Window]:
    """Portion the work.

    Args:
        records: documents, or ``Sources``; given up where none of the first ten thousand can be read.
        compressor: names the keys.
        target: knows what is there.

    Yields:
        Portions. One of which nothing is there yet keeps its documents together; what is missing of the others is
        gathered, so that a few new documents among many old ones still fill batches.

    Raises:
        InputTypeError: something else is among the documents.
    """
    gathered: dict[str, Record] = {}
    for window in _read(records, compressor, target):
        there = target.known(window.todo) if window.todo else set()
        if there:
            found = {key: window.todo.pop(key) for key in list(window.todo) if key in there}
            old = target.stale({key: record.document for key, record in found.items()})
            window.stale = {key: found[key] for key in old}
            window.n_present = len(found) - len(window.stale)
            gathered |= window.todo
            window.todo = {}
            if _full(gathered):
                window.todo, gathered = gathered, {}
        yield window
    if gathered:
        yield Window(todo=gathered)


def _read(records: Iterable[Readable], compressor: OfflineCompressor, target: Target) -> Iterator[Window]:
    # Digests: a run over ten million documents remembers them in a gigabyte.
    seen: set[bytes] = set()
    window = Window()
    n_chars = n_rejected = 0
    for number, given in enumerate(records):
        if len(window.todo) == WINDOW_DOCUMENTS or len(window.rejects) >= WINDOW_DOCUMENTS:
            yield window
            window, n_chars = Window(), 0
        if isinstance(given, Skipped):
            window.n_bytes += given.n_bytes
            continue
        each = given if isinstance(given, Reject) else _checked(_record(given, number), target)
        if isinstance(each, Reject):
            window.rejects.append(each)
            window.n_bytes += each.n_bytes
            n_rejected += 1
            if n_rejected == HOPELESS_RECORDS and not seen:
                break
            continue
        key = compressor.memory_key(each.document)
        digest = hashlib.blake2b(key.encode(), digest_size=16).digest()
        new = digest not in seen
        # Before it grows beyond the limit: a portion has to fit into one commit.
        if new and window.todo and n_chars + len(each.document.text) > WINDOW_CHARS:
            yield window
            window, n_chars = Window(), 0
        window.n_bytes += each.n_bytes
        window.n_documents += 1
        if new:
            seen.add(digest)
            window.todo[key] = each
            n_chars += len(each.document.text)
        else:
            window.n_duplicates += 1
    if window != Window():
        yield window


def _checked(record: Record, target: Target) -> Record | Reject:
    """What a target refuses is found here, so that an equal document with better metadata is no duplicate of it."""
    if not record.document.text.strip():
        return _refused(record, "the text is empty")
    try:
        target.check_document(record.document)
    except InputError as error:
        return _refused(record, str(error))
    return record


def _refused(record: Record, reason: str) -> Reject:
    return Reject(record.place, reason, record.document.text, record.n_bytes)


def _record(given: object, number: int) -> Record:
    if isinstance(given, Record):
        return given
    if isinstance(given, str):
        given = Document(given)
    if not isinstance(given, Document):
        raise InputTypeError(f"documents[{number}] must be a Document or a string, got {type(given).__name__}.")
    return Record(given, given.id or f"documents[{number}]")


def _full(records: dict[str, Record]) -> bool:
    return (
        len(records) >= WINDOW_DOCUMENTS
        or sum(len(record.document.text) for record in records.values()) >= WINDOW_CHARS
    )


def check_documents(documents: object) -> None:
    """Refuse a single document where many are expected.

    Args:
        documents: as given to ``index``.

    Raises:
        InputTypeError: it is none or not iterable.
    """
    if isinstance(documents, (str, bytes, Document, dict)) or not isinstance(documents, Iterable):
        raise InputTypeError(
            f"documents is a single {type(documents).__name__}; expected a list or another iterable of documents.",
            hint="Put it in a list; ragcompress.indexing.sources.Sources reads files.",
        )
