"""What there is to show of a result, sorted by document: the page and the terminal are made from it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

from ragcompress.tokens import encodable
from ragcompress.types import CompressedContext, MemorySegment, Segment, TextSegment

LEVELS = 5
# What a browser would not show, or show as something else; tab, line feed and carriage return are layout.
_INVISIBLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff]")
# What tells vocabularies of one name apart says nothing to a reader.
_FINGERPRINT = re.compile("@[0-9a-f]{8}$")


def visible(text: str) -> str:
    """Replace control characters and lone surrogates by U+FFFD; the length stays the same.

    Args:
        text: untrusted text.

    Returns:
        Text that neither a browser nor a terminal takes for an instruction; HTML is *not* escaped yet.
    """
    return _INVISIBLE.sub("\N{REPLACEMENT CHARACTER}", encodable(text))


@dataclass(slots=True)
class Span:
    """One kept span, clipped to its document."""

    start: int
    end: int
    level: int
    note: str


@dataclass(slots=True)
class Part:
    """What was kept of one document."""

    spans: list[Span] = field(default_factory=list)
    memories: list[MemorySegment] = field(default_factory=list)
    n_slots: int | None = 0
    # Something was kept, though not as a span: it went into memory tokens or into a written text.
    used: bool = False


class View:
    """A result, sorted by document.

    Attributes:
        context: the result.
        parts: (n_docs,), what was kept of each document.
        written: segments whose text stands in no document as it is.
        low: the lowest finite score.
        high: the highest finite score.
    """

    def __init__(self, context: CompressedContext) -> None:
        """Sort the segments of a result.

        Args:
            context: the result.
        """
        self.context = context
        self.parts = [Part() for _ in context.documents]
        self.written: list[TextSegment] = []
        scores = [segment.score for segment in context.segments if segment.score is not None]
        finite = [score for score in scores if math.isfinite(score)]
        self.low, self.high = (min(finite), max(finite)) if finite else (0.0, 0.0)
        for segment in context.segments:
            self._sort_in(segment)

    def _sort_in(self, segment: Segment) -> None:
        # A backend may be wrong about its sources; the page is where one looks for such a thing, so it must not fail.
        sources = [source for source in segment.sources if 0 <= source.document < len(self.parts)]
        documents = {source.document for source in sources}
        for document in documents:
            part = self.parts[document]
            part.used = True
            if isinstance(segment, MemorySegment):
                part.memories.append(segment)
            counted = len(documents) == 1 and (isinstance(segment, MemorySegment) or segment.n_tokens is not None)
            part.n_slots = part.n_slots + segment.n_slots if counted and part.n_slots is not None else None
        literal = False
        for source in sources:
            text = self.context.documents[source.document].text
            start, end = source.start, source.end
            if start is None or end is None or not 0 <= start < end <= len(text):
                continue
            literal = literal or (isinstance(segment, TextSegment) and segment.text == text[start:end])
            note = note_on(segment)
            self.parts[source.document].spans.append(Span(start, end, self.level(segment.score), note))
        if isinstance(segment, TextSegment) and segment.text and not (literal and len(sources) == 1):
            self.written.append(segment)

    def level(self, score: float | None) -> int:
        """How strongly to highlight a score.

        Args:
            score: of a segment.

        Returns:
            1 to 5; the middle where the scores say nothing.
        """
        # Halves first: the range of two huge floats overflows. (And that of two tiny ones may then be zero.)
        width = self.high / 2 - self.low / 2
        if score is None or math.isnan(score) or not width > 0:
            return (LEVELS + 1) // 2
        return 1 + round((LEVELS - 1) * min(max((score / 2 - self.low / 2) / width, 0.0), 1.0))


def plural(number: int, unit: str) -> str:
    """Write a number with its unit.

    >>> plural(1, "token"), plural(1234, "token")
    ('1 token', '1,234 tokens')

    Args:
        number: how many.
        unit: in the singular.

    Returns:
        The words.
    """
    return f"{number:,} {unit}" if number == 1 else f"{number:,} {unit}s"


def note_on(segment: Segment) -> str:
    """Say what is known of a segment.

    Args:
        segment: any.

    Returns:
        Its score and size, as far as they are known.
    """
    parts = [] if segment.score is None else [f"score {segment.score:.4g}"]
    if isinstance(segment, MemorySegment):
        parts.append(plural(segment.n_slots, "memory slot"))
    elif segment.n_tokens is not None:
        parts.append(plural(segment.n_tokens, "token"))
    return " · ".join(parts)


def sizes(context: CompressedContext) -> str:
    """Say in one line how much shorter a result is.

    Args:
        context: the result.

    Returns:
        E.g. ``1,234 → 210 tokens (words), 5.9x``.
    """
    slots = sum(segment.n_slots for segment in context.segments if isinstance(segment, MemorySegment))
    after = f"{context.n_slots:,} tokens"
    if slots:
        after = f"{slots:,} memory slots" if slots == context.n_slots else f"{context.n_slots:,} tokens and slots"
    before = f"{context.n_tokens:,} tokens" if slots else f"{context.n_tokens:,}"
    counter = f" ({_FINGERPRINT.sub('', context.counter)})" if context.counter else ""
    ratio = f"{context.ratio:.1f}\N{MULTIPLICATION SIGN}" if math.isfinite(context.ratio) else "nothing kept"
    return f"{before} → {after}{counter}, {ratio}"
