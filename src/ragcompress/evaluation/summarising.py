"""Records to summaries: means over questions, and differences to all documents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from ragcompress.evaluation.measures import MEASURES
from ragcompress.evaluation.records import Estimate, Record
from ragcompress.evaluation.statistics import mean_estimate, ratio_estimate

# Ratios of sums: a mean of ratios would be carried by the questions of which next to nothing was kept.
RATIOS = {
    "token_compression": ("all_tokens", "tokens"),
    "character_compression": ("all_characters", "characters"),
}
# What is said of the kept text; known of an empty context whatever has made it.
KEPT = ("support_recall", "support_precision", "support_f1", "all_support", "document_recall", "answer_in_context")
_MOST_FAILURES = 5


def estimates(records: Sequence[Record], *, seed: int) -> dict[str, Estimate]:
    """Estimate the mean of every measure that occurs.

    Args:
        records: of one contestant.
        seed: of the resampling.

    Returns:
        Estimates by measure, each over the questions of which it is known.
    """
    found: dict[str, Estimate] = {}
    untold = _untold(records)
    for name, measure in MEASURES.items():
        if name in untold:
            continue
        if name in RATIOS:
            above, below = RATIOS[name]
            pairs = [
                (record.metrics[above], record.metrics[below])
                for record in records
                if above in record.metrics and below in record.metrics
            ]
            ratio = ratio_estimate(*zip(*pairs, strict=True), seed=seed) if pairs else None
            if ratio is not None:
                found[name] = ratio
            continue
        values = [record.metrics[name] for record in records if name in record.metrics]
        if values:
            found[name] = mean_estimate(values, seed=seed, times=measure.unit == "ms")
    return found


def _untold(records: Sequence[Record]) -> set[str]:
    """What this kind of context does not tell: of summaries, say, only empty ones show that no sentence was kept."""
    telling = [record.metrics for record in records if record.segments]
    return {name for name in KEPT if telling and not any(name in metrics for metrics in telling)}


def paired_differences(records: Sequence[Record], others: Sequence[Record], *, seed: int) -> dict[str, Estimate]:
    """Estimate how a contestant differs from another, question by question.

    Args:
        records: of the contestant.
        others: of the other.
        seed: of the resampling.

    Returns:
        Means of the differences by measure, over the questions that both have.
    """
    beside = {record.id: record.metrics for record in others}
    found = {}
    for name in MEASURES.keys() - _untold(records):
        values = [
            record.metrics[name] - beside[record.id][name]
            for record in records
            if name in record.metrics and name in beside.get(record.id, {})
        ]
        if values:
            found[name] = mean_estimate(values, seed=seed)
    return found


def failures(records: Sequence[Record]) -> tuple[Mapping[str, int], tuple[str, ...]]:
    """Count what failed.

    Args:
        records: of one contestant.

    Returns:
        Numbers of questions by step, and the first few kinds of error with the ids of their questions: messages may
        quote passages, which summaries do not hold.
    """
    failed = [record for record in records if record.failure is not None]
    counts = Counter(record.failure.step for record in failed if record.failure is not None)
    shown = tuple(
        f"{record.id}: {record.failure.message.partition(':')[0]}"
        for record in failed[:_MOST_FAILURES]
        if record.failure is not None
    )
    return {str(step): n for step, n in counts.items()}, shown
