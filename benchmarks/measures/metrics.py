"""Pure functions over numbers and spans: what "recall", "share" and "interval" mean here."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from ragcompress.evaluation.support import KEPT_SHARE, merged

Span = tuple[int, int]


def length(spans: Sequence[Span]) -> int:
    """How many characters some spans cover together.

    >>> length([(0, 3), (2, 5)])
    5

    Args:
        spans: half-open.

    Returns:
        Characters.
    """
    return sum(end - start for start, end in merged(spans))


def shared(left: Sequence[Span], right: Sequence[Span]) -> int:
    """How many characters lie in spans of both kinds.

    >>> shared([(0, 10)], [(5, 7), (9, 20)])
    3

    Args:
        left: half-open spans.
        right: half-open spans.

    Returns:
        Characters.
    """
    return sum(
        max(0, min(end, other_end) - max(start, other_start))
        for start, end in merged(left)
        for other_start, other_end in merged(right)
    )


@dataclass(frozen=True, slots=True)
class Kept:
    """How well what was kept of one question's documents covers its gold sentences.

    Attributes:
        recall: share of the gold sentences of which at least half of the characters were kept.
        precision: share of the kept characters that lie in gold sentences; 0 if nothing was kept.
        all_gold: 1 if every gold sentence was kept, else 0.
        characters: kept characters / characters of the documents.
    """

    recall: float
    precision: float
    all_gold: float
    characters: float


def judge(gold: Sequence[Sequence[Span]], kept: Sequence[Sequence[Span]], lengths: Sequence[int]) -> Kept:
    """Compare kept spans with gold sentences.

    >>> judge(gold=[[(0, 10), (10, 20)], []], kept=[[(0, 5)], [(0, 5)]], lengths=[20, 30])
    Kept(recall=0.5, precision=0.5, all_gold=0.0, characters=0.2)

    Args:
        gold: (n_docs,) lists of the spans of gold sentences; at least one span in all.
        kept: (n_docs,) lists of kept spans.
        lengths: (n_docs,), characters of each document.

    Returns:
        The numbers of one question.
    """
    found = [
        shared([span], spans) >= KEPT_SHARE * (span[1] - span[0])
        for own, spans in zip(gold, kept, strict=True)
        for span in own
    ]
    n_kept = sum(map(length, kept))
    inside = sum(shared(own, spans) for own, spans in zip(gold, kept, strict=True))
    return Kept(
        recall=sum(found) / len(found),
        precision=inside / n_kept if n_kept else 0.0,
        all_gold=float(all(found)),
        characters=n_kept / sum(lengths),
    )


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean.

    Args:
        values: at least one.

    Returns:
        The mean.
    """
    return sum(values) / len(values)


def percentile(values: Sequence[float], share: float) -> float:
    """Interpolate between the two nearest values.

    >>> percentile([1.0, 2.0, 3.0], 0.25)
    1.5

    Args:
        values: at least one.
        share: 0: the smallest, 1: the largest.

    Returns:
        The value at that place.
    """
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def interval(values: Sequence[float], *, seed: int, n_resamples: int = 2000) -> list[float]:
    """Bootstrap the 95 % interval of a mean over questions.

    Args:
        values: (n_questions,).
        seed: of the resampling.
        n_resamples: how many.

    Returns:
        Lower and upper end.
    """
    return ratio_interval(values, [1.0] * len(values), seed=seed, n_resamples=n_resamples)


def ratio_interval(
    above: Sequence[float], below: Sequence[float], *, seed: int, n_resamples: int = 2000
) -> list[float]:
    """Bootstrap the 95 % interval of ``sum(above) / sum(below)``, pairs resampled together.

    Args:
        above: (n_questions,).
        below: (n_questions,), positive.
        seed: of the resampling.
        n_resamples: how many.

    Returns:
        Lower and upper end.
    """
    source = random.Random(seed)
    pairs = list(zip(above, below, strict=True))
    ratios = []
    for _ in range(n_resamples):
        drawn = source.choices(pairs, k=len(pairs))
        ratios.append(sum(pair[0] for pair in drawn) / sum(pair[1] for pair in drawn))
    return [percentile(ratios, 0.025), percentile(ratios, 0.975)]


def speed_ratio(above: Sequence[Sequence[float]], below: Sequence[Sequence[float]], *, seed: int) -> dict[str, object]:
    """Compare two contestants that were timed in turn.

    Args:
        above: (n_questions, n_rounds) seconds.
        below: (n_questions, n_rounds) seconds.
        seed: of the resampling.

    Returns:
        ``value``: the median of each question over the rounds, summed over the questions, one divided by the other;
        ``interval``: 95 %, over questions; ``rounds``: the same ratio in each round.
    """
    tops, bottoms = [statistics.median(each) for each in above], [statistics.median(each) for each in below]
    rounds = [sum(top) / sum(bottom) for top, bottom in zip(zip(*above), zip(*below), strict=True)]  # noqa: B905
    return {
        "value": sum(tops) / sum(bottoms),
        "interval": ratio_interval(tops, bottoms, seed=seed),
        "rounds": rounds,
    }
