"""How much of what supports the answer was kept: pure functions over spans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ragcompress.evaluation.questions import Passage, Question, Span
from ragcompress.types import CompressedContext

# A sentence is kept if at least so much of it is: splitters disagree about white space and quotes at its ends.
KEPT_SHARE = 0.5


def merged(spans: Sequence[Span]) -> list[Span]:
    """Join spans that touch or overlap, so that no character counts twice.

    >>> merged([(5, 9), (0, 3), (2, 4)])
    [(0, 4), (5, 9)]

    Args:
        spans: half-open, in any order.

    Returns:
        Disjoint spans, ascending; empty ones are left out.
    """
    result: list[Span] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((start, end))
    return result


def kept_sentences(sentences: Sequence[Span], kept: Sequence[Span]) -> set[int]:
    """Find the sentences of which at least half of the characters were kept.

    >>> kept_sentences([(0, 10), (10, 20)], [(4, 12)])
    {0}

    Args:
        sentences: of a passage.
        kept: spans of the same passage.

    Returns:
        Their indices.
    """
    joined = merged(kept)
    return {
        index
        for index, (start, end) in enumerate(sentences)
        if start < end
        and sum(max(0, min(end, last) - max(start, first)) for first, last in joined) >= KEPT_SHARE * (end - start)
    }


def sentence_support(passages: Sequence[Passage], kept: Sequence[Sequence[Span]]) -> Mapping[str, float]:
    """Compare kept sentences with those that support the answer.

    Args:
        passages: (n_docs,).
        kept: (n_docs,) lists of kept spans.

    Returns:
        ``support_recall``, ``support_precision``, ``support_f1`` and ``all_support``; nothing where the data names
        no supporting sentences.
    """
    known = [(own, spans) for own, spans in zip(passages, kept, strict=True) if own.gold is not None]
    n_gold = sum(len(set(passage.supporting_sentences or ())) for passage, _ in known)
    if len(known) < len(passages) or not n_gold:
        return {}
    n_kept = n_found = 0
    for passage, spans in known:
        found = kept_sentences(passage.sentences or (), spans)
        n_kept += len(found)
        n_found += len(found & set(passage.supporting_sentences or ()))
    recall, precision = n_found / n_gold, n_found / n_kept if n_kept else 0.0
    return {
        "support_recall": recall,
        "support_precision": precision,
        "support_f1": 2 * recall * precision / (recall + precision) if n_found else 0.0,
        "all_support": float(n_found == n_gold),
    }


def support(question: Question, context: CompressedContext) -> dict[str, float]:
    """Say how much of what supports the answer is in a context.

    Args:
        question: with what the data knows.
        context: of its documents.

    Returns:
        Measures by name; those that the data, or this kind of context, cannot tell are absent: nobody knows which
        sentences went into a summary or into memory tokens.
    """
    sources = [source for segment in context.segments for source in segment.sources]
    found: dict[str, float] = {}
    if all(source.start is not None for source in sources):
        kept: list[list[Span]] = [[] for _ in question.passages]
        for source in sources:
            assert source.start is not None and source.end is not None  # noqa: PT018 (they are None together)
            kept[source.document].append((source.start, source.end))
        found |= sentence_support(question.passages, kept)
    wanted = {index for index, passage in enumerate(question.passages) if passage.supporting}
    if wanted and all(len({source.document for source in segment.sources}) == 1 for segment in context.segments):
        found["document_recall"] = len(wanted & {source.document for source in sources}) / len(wanted)
    return found
