"""What a stage kept, as documents for the next one, and the way back from those to the original documents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from ragcompress.types import CompressedContext, Document, MemorySegment, Segment, Source, TextSegment

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of an excerpt.

    Attributes:
        start: first character in the excerpt.
        end: one past the last.
        sources: where it came from; a single source with a span holds exactly this text.
    """

    start: int
    end: int
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Excerpt:
    """What was kept of one document, or of one set of documents.

    Attributes:
        document: for the next stage.
        pieces: in order; between them stand separators that are in no document.
    """

    document: Document
    pieces: tuple[Piece, ...]

    @property
    def documents(self) -> list[int]:
        """Indices of the original documents."""
        return list(dict.fromkeys(source.document for piece in self.pieces for source in piece.sources))


def excerpts(context: CompressedContext) -> list[Excerpt]:
    """Make documents of a text context, in the order in which their first segments come.

    Args:
        context: of text.

    Returns:
        One excerpt for every document, or set of documents, of which something was kept. The text of a document stands
        in its own order; a document that was kept as a whole is handed on as it is.
    """
    groups: dict[tuple[int, ...], list[TextSegment]] = {}
    for segment in context.segments:
        if isinstance(segment, TextSegment):
            groups.setdefault(tuple(dict.fromkeys(s.document for s in segment.sources)), []).append(segment)
    return [_excerpt(context.documents, documents, segments) for documents, segments in groups.items()]


def _excerpt(documents: Sequence[Document], indices: tuple[int, ...], segments: list[TextSegment]) -> Excerpt:
    spans = [span for segment in segments for span in _literal(segment)]
    if len(spans) == len(segments):
        return _quoted(documents[indices[0]], indices[0], spans)
    pieces = []
    place = 0
    for segment in segments:
        pieces.append(Piece(place, place + len(segment.text), segment.sources))
        place += len(segment.text) + 1
    text = " ".join(segment.text for segment in segments)
    if len(indices) > 1:  # the title and the metadata of none of them would be true
        return Excerpt(Document(text), tuple(pieces))
    return Excerpt(replace(documents[indices[0]], text=text), tuple(pieces))


def _literal(segment: TextSegment) -> list[Span]:
    """The span where a segment's text stands as it is, if there is one."""
    (source, *others) = segment.sources
    return [(source.start, source.end)] if not others and source.start is not None and source.end is not None else []


def _quoted(document: Document, index: int, spans: Iterable[Span]) -> Excerpt:
    text = document.text
    merged = merge_spans(text, spans)
    (start, end) = (merged[0][0], merged[-1][1])
    if len(merged) == 1 and not text[:start].strip() and not text[end:].strip():
        # The very document: what a store holds of it is found.
        return Excerpt(document, (Piece(0, len(text), (Source(index, 0, len(text)),)),))
    written: list[str] = []
    pieces = []
    place = 0
    previous = None
    for start, end in merged:
        if previous is not None:
            # Layout's rule for segments with other text between them, so that a result is written as its stage saw it.
            written.append("\n" if "\n" in text[previous:start] else " ")
            place += 1
        written.append(text[start:end])
        pieces.append(Piece(place, place + end - start, (Source(index, start, end),)))
        place += end - start
        previous = end
    return Excerpt(replace(document, text="".join(written)), tuple(pieces))


def merge_spans(text: str, spans: Iterable[Span]) -> list[Span]:
    """Join spans that overlap, or that have nothing but white space between them.

    >>> merge_spans("One. Two. Three.", [(10, 16), (0, 4), (5, 9)])
    [(0, 16)]

    Args:
        text: which they are spans of.
        spans: in any order.

    Returns:
        Spans in order.
    """
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and (start <= merged[-1][1] or not text[merged[-1][1] : start].strip()):
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def traced(
    segment: Segment, found: Sequence[Excerpt], documents: Sequence[Document], count: Callable[[str], int], *, cut: bool
) -> list[Segment]:
    """Lead a segment back to the original documents.

    Args:
        segment: whose sources point at excerpts.
        found: the excerpts.
        documents: the original documents.
        count: length of a text, for the parts of a segment that is cut.
        cut: whether a text over several pieces becomes as many segments, each with its exact span; else it stays one
            segment with several sources.

    Returns:
        Segments whose sources point at the original documents.
    """
    origins = [_origins(found[source.document], source.start, source.end) for source in segment.sources]
    sources = list(dict.fromkeys(origin for own in origins for origin in own))
    if isinstance(segment, MemorySegment):
        return [replace(segment, sources=tuple(sources or _whole(segment, found)))]
    quoted = len(segment.sources) == 1 and segment.sources[0].start is not None
    texts = [documents[s.document].text[s.start : s.end] for s in sources if s.start is not None]
    # Between pieces stands white space alone; where anything else differs, they were written anew.
    literal = len(texts) == len(sources) and "".join(segment.text.split()) == "".join("".join(texts).split())
    if quoted and literal and (cut or len(sources) < 2):
        # What was quoted of nothing but a separator stands in no document, and is left out.
        return [
            replace(segment, sources=(source,))
            if text == segment.text
            else TextSegment(text, (source,), segment.score, None if segment.n_tokens is None else count(text))
            for text, source in zip(texts, sources, strict=True)
        ]
    if len(sources) == 1 and texts and texts[0] != segment.text:  # written anew: no span holds this text
        sources = [Source(sources[0].document)]
    return [replace(segment, sources=tuple(sources or _whole(segment, found)))]


def _whole(segment: Segment, found: Sequence[Excerpt]) -> list[Source]:
    """The documents of a segment's excerpts, without spans."""
    documents = (document for source in segment.sources for document in found[source.document].documents)
    return [Source(document) for document in dict.fromkeys(documents)]


def _origins(excerpt: Excerpt, start: int | None, end: int | None) -> list[Source]:
    """Where a span of an excerpt came from, nothing for a separator; without a span: its documents."""
    found: list[Source] = []
    if start is None or end is None:
        return [Source(document) for document in excerpt.documents]
    for piece in excerpt.pieces:
        first, last = max(start, piece.start), min(end, piece.end)
        if first >= last:
            continue
        (source, *others) = piece.sources
        if others or source.start is None:
            entire = (first, last) == (piece.start, piece.end)
            found += piece.sources if entire else [Source(each.document) for each in piece.sources]
        else:
            begin = source.start - piece.start
            found.append(replace(source, start=begin + first, end=begin + last))
    return found
