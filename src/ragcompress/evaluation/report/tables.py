"""Tables of contestants: what the columns are, and cells for the page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ragcompress.evaluation.baselines import ALL_DOCUMENTS
from ragcompress.evaluation.measures import MEASURES
from ragcompress.evaluation.records import Estimate, Summary
from ragcompress.evaluation.report import formatting
from ragcompress.evaluation.report.comparisons import low_share, n_if_fewer, share_of_budget
from ragcompress.evaluation.report.contestants import ANSWERS, measures_that_occur
from ragcompress.evaluation.report.reading import DatasetResults

# What a page shows at once; the rest when it is asked for.
_MAIN = {
    "cover_match", "f1", "judge", "support_recall", "document_recall", "answer_in_context", "tokens",
    "token_compression", "added_ms", "total_ms",
}  # fmt: skip
# Of these one is enough, and a page is only so wide.
_SHOWN_BY_ANOTHER = {"document_recall": "support_recall"}
# Beside all documents, everybody else is shorter and has lost something: only of these does a difference say more.
COMPARED = (*ANSWERS, "prefill_ms", "read_ms", "total_ms")
_FINGERPRINT = re.compile("@[0-9a-f]{8}$")
MARKS = {"more": "\N{BLACK UP-POINTING TRIANGLE}", "less": "\N{BLACK DOWN-POINTING TRIANGLE}", "": ""}


@dataclass(frozen=True, slots=True)
class Column:
    """One measure of a table.

    Attributes:
        name: of the measure.
        heading: label and unit.
        about: one sentence that says what it is.
        first: what a first click sorts to the top: ``"high"`` or ``"low"``.
        main: whether it is shown at once.
    """

    name: str
    heading: str
    about: str
    first: str
    main: bool


@dataclass(frozen=True, slots=True)
class Cell:
    """One number of a table.

    Attributes:
        text: the number; empty: there is none.
        detail: its interval, and on how many questions it stands if others stand on more; or empty.
        difference: to all documents, where that is beyond chance.
        verdict: ``"better"``, ``"worse"`` or, where neither way is better, ``"other"``; empty: no difference.
        sort: by which the column is sorted; None: last.
        title: all that is known of it, in words.
    """

    text: str = ""
    detail: str = ""
    difference: str = ""
    verdict: str = ""
    sort: float | None = None
    title: str = ""


def columns(summaries: Sequence[Summary]) -> list[Column]:
    """Choose the columns of a page's table.

    Args:
        summaries: of one dataset.

    Returns:
        Those measures that occur and are not 0 everywhere.
    """
    found = []
    unknown = sorted({name for summary in summaries for name in summary.metrics} - set(MEASURES))
    for name in measures_that_occur(summaries, dict.fromkeys((*ANSWERS, *MEASURES, *unknown))):
        estimates = [summary.metrics[name] for summary in summaries if name in summary.metrics]
        known = formatting.measure(name)
        if known.unit == "slots" and not any(estimate.mean for estimate in estimates):
            continue
        is_main = name in _MAIN and not any(_SHOWN_BY_ANOTHER.get(name) in summary.metrics for summary in summaries)
        percentiles = any(estimate.p50 is not None for estimate in estimates)
        found.append(
            Column(
                name,
                formatting.heading(name, percentiles=percentiles),
                known.about,
                "low" if known.better == "low" else "high",
                is_main or name == "slots",
            )
        )
    return found


def cell(summary: Summary, name: str, summaries: Sequence[Summary]) -> Cell:
    """Write one number of a table.

    Args:
        summary: of the contestant.
        name: of the measure.
        summaries: of the dataset, beside which it stands.

    Returns:
        The cell.
    """
    estimate = summary.metrics.get(name)
    if estimate is None:
        return Cell()
    known, gap = formatting.measure(name), gap_of(summary, name)
    way = formatting.direction(gap) if name in COMPARED else ""
    verdict = ""
    if way:
        verdict = {("more", "high"): "better", ("less", "low"): "better"}.get((way, str(known.better)), "worse")
        verdict = verdict if known.better else "other"
    n = n_if_fewer(summary, name, summaries)
    details = [] if estimate.p50 is not None else [formatting.interval(name, estimate)]
    details += [] if n is None else [f"n {n:,}"]
    low = low_share(summary, summaries) if name == "tokens" else ""
    share = share_of_budget(summary, summaries) if name == "tokens" else None
    budget = [] if share is None else [f"{100 * share:.0f} % of the tokens of {summary.matched_to}"]
    return Cell(
        text=f"{value_text(name, estimate)}{f' ({low})' if low else ''}",
        detail=" \N{MIDDLE DOT} ".join(details),
        difference=(formatting.signed(name, gap.mean) if known.unit == "share" else MARKS[way]) if way and gap else "",
        verdict=verdict,
        sort=estimate.mean if estimate.p50 is None else estimate.p50,
        title="; ".join([*_words(name, estimate, gap), *budget]),
    )


def gap_of(summary: Summary, name: str) -> Estimate | None:
    """Find the difference to all documents.

    Args:
        summary: of the contestant.
        name: of the measure.

    Returns:
        The estimate; None: it is all documents, or has no such difference.
    """
    return None if summary.contestant == ALL_DOCUMENTS else summary.differences.get(name)


def value_text(name: str, estimate: Estimate) -> str:
    """Write a mean, or median and 95th percentile where they are known.

    Args:
        name: of the measure.
        estimate: of it.

    Returns:
        A short text.
    """
    if estimate.p50 is None:
        return formatting.number(name, estimate.mean)
    ends = (estimate.p50,) if estimate.p95 is None else (estimate.p50, estimate.p95)
    return " / ".join(formatting.number(name, value) for value in ends)


def _words(name: str, estimate: Estimate, gap: Estimate | None) -> Iterator[str]:
    yield f"mean of {estimate.n:,}: {formatting.number(name, estimate.mean)} ({formatting.interval(name, estimate)})"
    if gap is not None:
        yield f"minus all documents: {formatting.difference(name, gap)}"


def about(dataset: DatasetResults) -> str:
    """Say in one line what was asked, and who answered.

    Args:
        dataset: any.

    Returns:
        Number of questions, selection, reader, and what a token is.
    """
    numbers = sorted({summary.n_questions for summary in dataset.summaries})
    first = dataset.summaries[0]
    many = f"{numbers[0]:,}" if len(numbers) == 1 else f"{numbers[0]:,} to {numbers[-1]:,}"
    first_of_all = "" if first.selection.get("limit") is None else "The first "
    parts = [f"{first_of_all}{many} question{'' if numbers == [1] else 's'}"]
    parts += list(_selected(first.selection))
    answered = [summary for summary in dataset.summaries if summary.reader is not None]
    if answered:
        most = max(summary.n_answered for summary in answered)
        parts.append(
            f"{most:,} answered by {answered[0].reader}" if [most] != numbers else f"answered by {answered[0].reader}"
        )
    else:
        parts.append("nothing was answered")
    # What tells vocabularies of one name apart says nothing to a reader; the provenance has it.
    parts.append(f"tokens of {_FINGERPRINT.sub('', first.counter)}")
    return "; ".join(parts) + "."


def _selected(selection: Mapping[str, object]) -> Iterator[str]:
    if selection.get("n_docs") is not None:
        yield f"{selection['n_docs']} passages each"
    if selection.get("gold_only"):
        yield "only passages that support the answer"
    if selection.get("shuffle_docs") is not None:
        yield f"passages shuffled (seed {selection['shuffle_docs']})"
