"""What a dataset shows, in one or two sentences: the first thing that a reader of the page wants to know."""

from __future__ import annotations

from ragcompress.evaluation.baselines import ALL_DOCUMENTS
from ragcompress.evaluation.records import Estimate, Summary
from ragcompress.evaluation.report import formatting
from ragcompress.evaluation.report.comparisons import earlier_runs
from ragcompress.evaluation.report.contestants import ANSWERS, accuracy_measures
from ragcompress.evaluation.report.reading import DatasetResults


def finding(dataset: DatasetResults) -> str:
    """Compare the compressor with the highest mean with all documents.

    Args:
        dataset: any.

    Returns:
        Sentences; empty: there is nothing to compare.
    """
    names = accuracy_measures(dataset.summaries)
    compressors = [summary for summary in dataset.summaries if summary.kind == "compressor"]
    if not names:
        return ""
    name = names[0]
    rivals = [summary for summary in compressors if name in summary.metrics]
    if not rivals:
        return ""
    best = max(rivals, key=lambda summary: summary.metrics[name].mean)
    everything = next((summary for summary in dataset.summaries if summary.contestant == ALL_DOCUMENTS), None)
    which = f"Of {len(rivals)} compressors, {best.contestant}" if len(rivals) > 1 else best.contestant
    if name not in ANSWERS or everything is None or name not in everything.metrics:
        return f"{which} keeps the most: {_score(name, best.metrics[name])}{_length(best)}." if len(rivals) > 1 else (
            f"{which}: {_score(name, best.metrics[name])}{_length(best)}."
        )  # fmt: skip
    most = " does best" if len(rivals) > 1 else ""
    uneven = everything.metrics[name].n != best.metrics[name].n

    def counted(summary: Summary) -> str:
        return f" on {summary.metrics[name].n:,} questions" if uneven else ""

    gap = None if ALL_DOCUMENTS in earlier_runs(best, dataset.summaries) else best.differences.get(name)
    chosen = (
        f" The interval is not corrected for choosing the best of {len(rivals)}." if gap and len(rivals) > 1 else ""
    )
    return (
        f"All documents: {_score(name, everything.metrics[name])}{_length(everything)}{counted(everything)}. "
        f"{which}{most}: {_score(name, best.metrics[name])}{_length(best)}{counted(best)}{_gap(name, gap)}.{chosen}"
    )


def _score(name: str, estimate: Estimate) -> str:
    return f"{formatting.number(name, estimate.mean)} % ({formatting.measure(name).label})"


def _length(summary: Summary) -> str:
    tokens = summary.metrics.get("tokens")
    return "" if tokens is None else f" with {formatting.number('tokens', tokens.mean)} tokens"


def _gap(name: str, gap: Estimate | None) -> str:
    if gap is None:
        return ""
    ends = f"95 % interval {formatting.number(name, gap.low)} to {formatting.number(name, gap.high)}"
    return f", {formatting.signed(name, gap.mean)} points ({ends}: {formatting.verdict(gap)})"
