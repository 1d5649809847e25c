"""How long documents and results are, by the formula that every backend uses for ``n_tokens`` and ``n_slots``."""

from __future__ import annotations

from collections.abc import Sequence

from ragcompress.tokens import TokenCounter, count_all
from ragcompress.types import Document, Layout, MemorySegment, Segment, TextSegment, write_out


def document_lengths(documents: Sequence[Document], counter: TokenCounter) -> tuple[int, ...]:
    """Count documents with their titles.

    Args:
        documents: (n_docs,).
        counter: what a token is.

    Returns:
        (n_docs,) lengths.
    """
    titles = count_all(counter, [document.title or "" for document in documents])
    texts = count_all(counter, [document.text for document in documents])
    return tuple(text + title for text, title in zip(texts, titles, strict=True))


def input_length(
    documents: Sequence[Document], document_tokens: Sequence[int], layout: Layout, counter: TokenCounter
) -> int:
    """Add up what documents would take if all of them were written out.

    Args:
        documents: (n_docs,).
        document_tokens: (n_docs,), their lengths.
        layout: separators, which count in some vocabularies.
        counter: what a token is.

    Returns:
        ``n_tokens`` of a result.
    """
    separators = max(0, len(documents) - 1) * counter(layout.document_separator)
    titled = sum(bool(document.title) for document in documents)
    return sum(document_tokens) + separators + titled * counter(layout.title_separator)


def output_length(
    documents: Sequence[Document], segments: Sequence[Segment], layout: Layout, counter: TokenCounter
) -> int:
    """Count a result: its text as it is written out, plus its memory slots.

    Args:
        documents: (n_docs,), which the sources point into.
        segments: in reading order.
        layout: titles and separators.
        counter: what a token is.

    Returns:
        ``n_slots`` of a result.
    """
    texts = tuple(segment for segment in segments if isinstance(segment, TextSegment))
    slots = sum(segment.n_slots for segment in segments if isinstance(segment, MemorySegment))
    return slots + (counter(write_out(tuple(documents), texts, layout)) if texts else 0)
