"""What goes into a compressor and what comes out: plain frozen dataclasses.

A result is an ordered list of segments, text or vectors, each of which knows the span of the document that it came
from. Vectors are torch tensors, but nothing here imports torch: the methods of the tensors are enough.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from ragcompress.errors import InputTypeError, OptionError

if TYPE_CHECKING:
    from torch import Tensor

HANDLE_START = "<|rc:"
# Of an entry without vectors: a store's limit must hold for blank documents, too.
_ENTRY_BYTES = 512
# One character for one character, so that the offsets of everything behind it stay true.
_NEUTRAL_START = "\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}|rc:"


def handle(key: str, n_slots: int) -> str:
    """Write the short ASCII stand-in under which a vector segment travels through text-only frameworks.

    Args:
        key: content address of the memory in its store.
        n_slots: how many vectors the segment has.

    Returns:
        ``<|rc:KEY:N|>``.
    """
    return f"{HANDLE_START}{key}:{n_slots}|>"


def neutralise(text: str) -> str:
    """Make handles written out in untrusted text harmless; length and offsets stay the same.

    Args:
        text: text of a document or a question.

    Returns:
        The text with the opening bracket of every would-be handle replaced by a look-alike.
    """
    return text.replace(HANDLE_START, _NEUTRAL_START)


@dataclass(frozen=True, slots=True)
class Document:
    """One retrieved document.

    Attributes:
        text: the text that may be compressed.
        id: the caller's name for it; carried along, never interpreted.
        title: read together with the text by backends that use titles.
        metadata: carried along, never interpreted.

    Raises:
        InputTypeError: ``text``, ``id`` or ``title`` is not a string.
    """

    text: str
    id: str | None = None
    title: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """Check the types, since a wrong one would only surface inside a tokenizer."""
        if not isinstance(self.text, str):
            raise InputTypeError(f"Document.text must be a string, got {type(self.text).__name__}.")
        for name in ("id", "title"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise InputTypeError(f"Document.{name} must be a string or None, got {type(value).__name__}.")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a segment came from.

    Attributes:
        document: index into the list of documents of the call.
        start: first character in ``Document.text``; None: the document as a whole, without a span.
        end: one past the last character; None together with ``start``.
    """

    document: int
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class TextSegment:
    """A piece of text that was kept, or written from the documents.

    Attributes:
        text: the piece; for a single source with a span exactly ``documents[s.document].text[s.start:s.end]``.
        sources: where it came from, at least one.
        score: relevance; higher is better, comparable within one result only.
        n_tokens: length in the tokens of the result's ``counter``; None if it was not counted.
    """

    text: str
    sources: tuple[Source, ...]
    score: float | None = None
    n_tokens: int | None = None

    @property
    def n_slots(self) -> int:
        """Length in tokens; 0 if it was not counted."""
        return self.n_tokens or 0


@dataclass(frozen=True, slots=True, eq=False)
class MemorySegment:
    """Memory tokens that stand for a piece of a document.

    Attributes:
        vectors: (n_slots, width).
        sources: where they came from, at least one.
        score: relevance; higher is better, comparable within one result only.
        key: content address under which a store holds the vectors.
    """

    vectors: Tensor
    sources: tuple[Source, ...]
    score: float | None = None
    key: str = ""

    @property
    def n_slots(self) -> int:
        """How many places the segment takes in the reader's input."""
        return int(self.vectors.shape[0])

    @property
    def handle(self) -> str:
        """The short text under which the vectors travel through a text-only framework."""
        return handle(self.key, self.n_slots)

    def __eq__(self, other: object) -> bool:
        """Compare by value; a tensor's own ``==`` would give a tensor."""
        if not isinstance(other, MemorySegment):
            return NotImplemented
        ours = (self.sources, self.score, self.key)
        return ours == (other.sources, other.score, other.key) and same_vectors(self.vectors, other.vectors)

    def __hash__(self) -> int:
        """Hash without the vectors: the key already addresses their content."""
        return hash((self.sources, self.score, self.key))


Segment = TextSegment | MemorySegment


@dataclass(frozen=True, slots=True, eq=False)
class Memory:
    """One document, encoded ahead of time: what a store keeps.

    Attributes:
        vectors: (n_vectors, width), on the CPU; one row a sentence (text backends) or a slot (latent backends).
        n_tokens: length of the document, title included, in the tokens of the compressor's counter.
        space: name of the embedding space, e.g. ``"pisco-mistral@<fingerprint>"``.
        spans: the span of ``Document.text`` that each row or chunk stands for; None: the whole document.
        truncated: whether a part of the document was not read because a limit of the model cut it off.
    """

    vectors: Tensor
    n_tokens: int
    space: str
    spans: tuple[tuple[int, int], ...] | None = None
    truncated: bool = False

    @property
    def n_bytes(self) -> int:
        """Memory that the entry takes, in bytes: vectors, spans (two machine words each) and what any object takes."""
        vectors = int(self.vectors.numel()) * int(self.vectors.element_size())
        return vectors + 16 * len(self.spans or ()) + _ENTRY_BYTES

    def __eq__(self, other: object) -> bool:
        """Compare by value."""
        if not isinstance(other, Memory):
            return NotImplemented
        ours = (self.n_tokens, self.space, self.spans, self.truncated)
        theirs = (other.n_tokens, other.space, other.spans, other.truncated)
        return ours == theirs and same_vectors(self.vectors, other.vectors)

    __hash__ = None  # type: ignore[assignment]  # value equality over a tensor: not to be used as a key


def same_vectors(left: Tensor, right: Tensor) -> bool:
    """Compare two tensors by shape, type and value.

    Args:
        left: any shape.
        right: any shape.

    Returns:
        True if nothing differs.
    """
    return left.shape == right.shape and left.dtype == right.dtype and bool((left == right).all())


@dataclass(frozen=True, slots=True)
class Layout:
    """How the segments of a result are written out as one text.

    Attributes:
        title: ``"once"``: in front of the first segment of its document, unless that is vectors, which hold it;
            ``"each"``: in front of every text segment; ``"never"``.
        title_separator: between a title and what follows.
        segment_separator: between two segments of one document; None: what stood between them where that was
            nothing but white space, else a line end if there was one, else a space.
        document_separator: between segments of different documents.
    """

    title: Literal["once", "each", "never"] = "once"
    title_separator: str = "\n"
    segment_separator: str | None = None
    document_separator: str = "\n\n"

    def __post_init__(self) -> None:
        """Check the values, which may come from a file.

        Raises:
            OptionError: one is none of those listed.
        """
        if self.title not in ("once", "each", "never"):
            raise OptionError(f"Layout.title must be 'once', 'each' or 'never', got {self.title!r}.")
        separators = {"title_separator": self.title_separator, "document_separator": self.document_separator}
        if self.segment_separator is not None:
            separators["segment_separator"] = self.segment_separator
        for name, value in separators.items():
            if not isinstance(value, str):
                raise OptionError(f"Layout.{name} must be a string, got {type(value).__name__}.")


@dataclass(frozen=True, slots=True)
class CompressedDocument:
    """The part of a result that came from one document (or from one set of documents).

    Attributes:
        documents: indices of the documents, in the order of the sources; one for everything extractive.
        segments: the segments, in the order of the result.
        text: the segments written out, without titles.
    """

    documents: tuple[int, ...]
    segments: tuple[Segment, ...]
    text: str

    @property
    def score(self) -> float | None:
        """The best score of the segments."""
        return max((segment.score for segment in self.segments if segment.score is not None), default=None)

    @property
    def n_slots(self) -> int:
        """Tokens and memory slots of the segments."""
        return sum(segment.n_slots for segment in self.segments)

    @property
    def spans(self) -> list[list[int]]:
        """``[document, start, end]`` of every span that was kept; JSON-safe."""
        return [
            [source.document, source.start, source.end]
            for segment in self.segments
            for source in segment.sources
            if source.start is not None and source.end is not None
        ]


@dataclass(frozen=True, slots=True)
class Stage:
    """What one compressor of a pipeline did.

    Attributes:
        name: of the compressor.
        n_tokens: length of what it was given, in the tokens of ``counter``.
        n_slots: length of what it gave: tokens of its text plus memory slots.
        counter: name of its token counter.
        timings: milliseconds by step; not compared.
    """

    name: str
    n_tokens: int
    n_slots: int
    counter: str = ""
    timings: Mapping[str, float] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class CompressedContext:
    """What a compressor returns for one query.

    Attributes:
        query: the query, as given.
        documents: the documents, as given.
        segments: what was kept, in reading order.
        n_tokens: length of the documents, titles included, in the tokens of ``counter``.
        n_slots: length of the result: tokens of its text plus memory slots.
        space: embedding space of the vectors; None: plain text.
        truncated: whether a part of the input was not read because of a limit of the model.
        timings: milliseconds by step; not compared.
        counter: name of the token counter behind ``n_tokens`` and ``n_slots``.
        document_tokens: ``n_tokens`` by document; empty if the backend does not say.
        layout: how ``text`` is written.
        truncated_documents: the documents of which a part was not read; empty if the backend does not say.
        stages: what each stage of a pipeline did; empty for a single compressor.
    """

    query: str
    documents: tuple[Document, ...]
    segments: tuple[Segment, ...] = ()
    n_tokens: int = 0
    n_slots: int = 0
    space: str | None = None
    truncated: bool = False
    timings: Mapping[str, float] = field(default_factory=dict, compare=False)
    counter: str = ""
    document_tokens: tuple[int, ...] = ()
    layout: Layout = Layout()
    truncated_documents: tuple[int, ...] = ()
    stages: tuple[Stage, ...] = ()

    @property
    def text(self) -> str:
        """What goes into the prompt: the segments written out by ``layout``, vectors as handles."""
        return write_out(self.documents, self.segments, self.layout)

    @property
    def ratio(self) -> float:
        """How many times shorter the result is: ``n_tokens / n_slots``; infinite if nothing was kept of something."""
        if self.n_slots:
            return self.n_tokens / self.n_slots
        return float("inf") if self.n_tokens else 1.0

    def by_document(self) -> tuple[CompressedDocument, ...]:
        """Group the segments by the documents that they came from, in the order of first appearance.

        Returns:
            One entry for each document (or set of documents) of which something was kept.
        """
        groups: dict[tuple[int, ...], list[Segment]] = {}
        for segment in self.segments:
            groups.setdefault(tuple(dict.fromkeys(s.document for s in segment.sources)), []).append(segment)
        plain = replace(self.layout, title="never")
        return tuple(
            CompressedDocument(documents, tuple(segments), write_out(self.documents, segments, plain))
            for documents, segments in groups.items()
        )

    def _repr_html_(self) -> str:
        """Show the originals with the kept text highlighted (notebooks call this)."""
        from ragcompress.html import fragment

        return fragment(self)


def write_out(documents: Sequence[Document], segments: Sequence[Segment], layout: Layout) -> str:
    """Write segments as one text; handles that stand in the documents' own text are made harmless.

    Args:
        documents: the documents that the sources point into.
        segments: in reading order.
        layout: titles and separators.

    Returns:
        The text; an empty string without segments.
    """
    written: list[str] = []
    run: list[str] = []  # text since the last handle, made harmless as a whole: pieces might join into a handle
    titled: set[int] = set()
    previous: Segment | None = None
    for segment in segments:
        first = segment.sources[0].document if segment.sources else None
        if previous is not None:
            run.append(separator(documents, previous, segment, layout))
        # A segment written from several documents belongs to no single title.
        single = first is not None and all(source.document == first for source in segment.sources)
        if first is not None and single and layout.title != "never":
            title = documents[first].title
            # Vectors hold their document's title already.
            wanted = layout.title == "each" or first not in titled
            if title and wanted and isinstance(segment, TextSegment):
                run += [title, layout.title_separator]
            titled.add(first)
        if isinstance(segment, MemorySegment):
            written += [neutralise("".join(run)), segment.handle]
            run = []
        else:
            run.append(segment.text)
        previous = segment
    return "".join([*written, neutralise("".join(run))])


def separator(documents: Sequence[Document], before: Segment, after: Segment, layout: Layout) -> str:
    """Say what stands between two neighbouring segments.

    Args:
        documents: the documents that the sources point into.
        before: a segment.
        after: the next one.
        layout: separators.

    Returns:
        The separator.
    """
    left = before.sources[-1] if before.sources else None
    right = after.sources[0] if after.sources else None
    if before.sources == after.sources and len(before.sources) > 1:  # sentences of one summary of several documents
        return " " if layout.segment_separator is None else layout.segment_separator
    if left is None or right is None or left.document != right.document:
        return layout.document_separator
    if layout.segment_separator is not None:
        return layout.segment_separator
    if left.end is not None and right.start is not None and left.end <= right.start:
        gap = documents[left.document].text[left.end : right.start]
        if not gap.strip():
            return gap
        if "\n" in gap:  # lists, headings and paragraphs stay on lines of their own
            return "\n"
    return " "


def as_document(document: Document | str, index: int) -> Document:
    """Accept a plain string as a document.

    Args:
        document: a ``Document`` or its text.
        index: its place in the caller's list, for the error message.

    Returns:
        The document itself, or a new one around the string.

    Raises:
        InputTypeError: it is neither.
    """
    if isinstance(document, Document):
        return document
    if isinstance(document, str):
        return Document(document)
    raise InputTypeError(
        f"documents[{index}] is {type(document).__name__}; expected a string or ragcompress.Document.",
        hint="Pass the text, e.g. Document(text, title=...).",
    )


def copied_metadata(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """Copy metadata deeply, so that a result never shares state with the caller's objects.

    Args:
        metadata: any mapping; None is an empty one.

    Returns:
        An independent dictionary; values that cannot be copied (a lock, a connection) are shared.
    """
    copied = {}
    for key, value in (metadata or {}).items():
        try:
            copied[key] = copy.deepcopy(value)
        except Exception:  # whatever an object's own copying raises
            copied[key] = value
    return copied
