"""What numbers of a table may be compared: on how many questions, at which share of a length, and with which run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from ragcompress.evaluation.records import Summary

# Below it, a contestant is too much shorter than the one it was cut to for the two to count as equally long.
EQUAL_LENGTH = 0.9


def earlier_runs(summary: Summary, summaries: Sequence[Summary]) -> list[str]:
    """Find what a contestant was compared with and is now another one, or gone.

    Args:
        summary: of the contestant.
        summaries: of the dataset.

    Returns:
        Names; a difference to one of them is of the past.
    """
    now = {each.contestant: each.fingerprint for each in summaries}
    return [name for name, fingerprint in summary.compared_with.items() if now.get(name) != fingerprint]


def remarks_on_comparisons(summaries: Sequence[Summary]) -> Iterator[str]:
    """Say which comparisons are of the past.

    Args:
        summaries: of one dataset.

    Yields:
        One sentence for each contestant that is now another one, or gone.
    """
    present = {summary.contestant for summary in summaries}
    found: dict[str, list[str]] = {}
    for summary in summaries:
        for name in earlier_runs(summary, summaries):
            found.setdefault(name, []).append(summary.contestant)
    for name, compared in found.items():
        gone = "" if name in present else ", of which there is no summary any more"
        was = "was" if len(compared) == 1 else "were"
        yield f"{', '.join(compared)} {was} compared with an earlier run of {name}{gone}; evaluate again."


def remark_on_times(summaries: Sequence[Summary]) -> str:
    """Say why a peer's added latency holds what a compressor's does not.

    Args:
        summaries: of one dataset.

    Returns:
        A sentence; empty: no peer was timed.
    """
    if not any(summary.kind == "peer" and "added_ms" in summary.metrics for summary in summaries):
        return ""
    return "Added latency leaves out what a store keeps of the documents; peers encode them in every call."


def share_of_budget(summary: Summary, summaries: Sequence[Summary]) -> float | None:
    """Compare the length of a contestant with that to which it was cut.

    Args:
        summary: of the contestant.
        summaries: of the dataset.

    Returns:
        Mean tokens over mean tokens; None: it was cut to no length, or one of the two is unknown.
    """
    other = next((each for each in summaries if each.contestant == summary.matched_to), None)
    if other is None or "tokens" not in summary.metrics or "tokens" not in other.metrics:
        return None
    used, budget = summary.metrics["tokens"].mean, other.metrics["tokens"].mean
    return used / budget if budget > 0 and math.isfinite(used) else None


def low_share(summary: Summary, summaries: Sequence[Summary]) -> str:
    """Write the share of its budget that a contestant used where it is not at equal length.

    Args:
        summary: of the contestant.
        summaries: of the dataset.

    Returns:
        E.g. ``"60 %"``; empty: it used nearly all, or has no budget.
    """
    share = share_of_budget(summary, summaries)
    # Rounded down: 89.9 % is not 90.
    return f"{int(100 * share)} %" if share is not None and share < EQUAL_LENGTH else ""


def n_if_fewer(summary: Summary, name: str, summaries: Sequence[Summary]) -> int | None:
    """Tell on how many questions a mean stands where others of its column stand on more.

    Args:
        summary: of the contestant.
        name: of the measure.
        summaries: of the dataset.

    Returns:
        The number; None: no other mean of this measure is over more.
    """
    if name not in summary.metrics:
        return None
    most = max(each.metrics[name].n for each in summaries if name in each.metrics)
    n = summary.metrics[name].n
    return n if n < most else None
