"""Where the text of a peer came from, if it says nothing but the text."""

from __future__ import annotations

from collections.abc import Sequence

from ragcompress.sentences import get_splitter, split_sentences
from ragcompress.types import Source, TextSegment

Span = tuple[int, int]


def find_in_order(text: str, pieces: Sequence[str]) -> list[Span] | None:
    """Find pieces that stand in a text one after the other.

    >>> find_in_order("One here. Two there.", ["One here.", "Two there."])
    [(0, 9), (10, 20)]

    Args:
        text: any.
        pieces: all of it, but for what stands between them.

    Returns:
        Their spans; None: one is not there.
    """
    spans = []
    place = 0
    for piece in pieces:
        start = text.find(piece, place)
        if start < 0:
            return None
        place = start + len(piece)
        spans.append((start, place))
    return spans


def chosen_sentences(joined: str, sentences: Sequence[str]) -> list[int] | None:
    """Find out which sentences were joined by spaces, in any order, each any number of times.

    >>> chosen_sentences("C. A. B.", ["A.", "B.", "C."])
    [2, 0, 1]

    Args:
        joined: the result.
        sentences: they were chosen from.

    Returns:
        Indices, in the order of the result. Of equal sentences the one behind its neighbour is taken, else the first
        that was not taken yet. None: it was not made like this.
    """
    by_length = sorted(range(len(sentences)), key=lambda index: (-len(sentences[index]), index))
    chosen: list[int] = []
    place = 0
    while place < len(joined):
        fitting = [
            index
            for index in by_length
            if sentences[index]
            and joined.startswith(sentences[index], place)
            and joined[place + len(sentences[index]) :][:1] in ("", " ")
        ]
        if not fitting:
            return None
        equal = [index for index in fitting if sentences[index] == sentences[fitting[0]]]
        following = chosen[-1] + 1 if chosen else -1
        taken = set(chosen)
        new = next((index for index in equal if index not in taken), equal[0])
        chosen.append(following if following in equal else new)
        place += len(sentences[fitting[0]]) + 1
    return chosen


def quoted(text: str, document: int, written: str) -> list[TextSegment]:
    """Lead text that was to be quoted from a document back to it.

    Args:
        text: of the document.
        document: its index.
        written: what came, as a whole or in sentences from anywhere in the document.

    Returns:
        Segments; one that does not stand in the document as it is has no span.
    """
    written = written.strip()
    if written and (start := text.find(written)) >= 0:
        return [TextSegment(written, (Source(document, start, start + len(written)),))]
    segments = []
    place = 0
    for begin, stop in split_sentences(written, get_splitter("punkt")):
        piece = written[begin:stop]
        start = text.find(piece, place)
        start = text.find(piece) if start < 0 else start
        if start < 0:
            segments.append(TextSegment(piece, (Source(document),)))
        else:
            place = start + len(piece)
            segments.append(TextSegment(piece, (Source(document, start, place),)))
    return segments
