"""Tables of contestants: cells for the page, and the same numbers as Markdown for a README."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ragcompress.evaluation.baselines import ALL_DOCUMENTS
from ragcompress.evaluation.measures import MEASURES
from ragcompress.evaluation.records import Estimate, Summary
from ragcompress.evaluation.report import formatting
from ragcompress.evaluation.report.contestants import ANSWERS, in_order, label_of, measures_that_occur
from ragcompress.evaluation.report.reading import DatasetResults, Results
from ragcompress.view import visible

# What a page shows at once; the rest when it is asked for.
_MAIN = {
    "cover_match", "f1", "exact_match", "judge", "support_recall", "document_recall", "answer_in_context", "tokens",
    "token_compression", "added_ms", "total_ms",
}  # fmt: skip
# Fewer, since nobody can ask a README for more.
_IN_MARKDOWN = (
    "cover_match", "f1", "judge", "support_recall", "document_recall", "answer_in_context", "added_ms", "total_ms",
)  # fmt: skip
# Beside all documents, everybody else is shorter and has lost something: only of these does a difference say more.
COMPARED = (*ANSWERS, "prefill_ms", "read_ms", "total_ms")
_FINGERPRINT = re.compile("@[0-9a-f]{8}$")
_MARKS = {"more": "\N{BLACK UP-POINTING TRIANGLE}", "less": "\N{BLACK DOWN-POINTING TRIANGLE}", "": ""}


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
        detail: its interval, or empty.
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
        percentiles = any(estimate.p50 is not None for estimate in estimates)
        found.append(
            Column(
                name,
                formatting.heading(name, percentiles=percentiles),
                known.about,
                "low" if known.better == "low" else "high",
                name in _MAIN or (name == "slots"),
            )
        )
    return found


def cell(summary: Summary, name: str) -> Cell:
    """Write one number of a table.

    Args:
        summary: of the contestant.
        name: of the measure.

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
    return Cell(
        text=_value(name, estimate),
        detail="" if estimate.p50 is not None else formatting.interval(name, estimate),
        difference=(formatting.signed(name, gap.mean) if known.unit == "share" else _MARKS[way]) if way and gap else "",
        verdict=verdict,
        sort=estimate.mean if estimate.p50 is None else estimate.p50,
        title=_words(name, estimate, gap),
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


def _value(name: str, estimate: Estimate) -> str:
    if estimate.p50 is None:
        return formatting.number(name, estimate.mean)
    ends = (estimate.p50,) if estimate.p95 is None else (estimate.p50, estimate.p95)
    return " / ".join(formatting.number(name, value) for value in ends)


def _words(name: str, estimate: Estimate, gap: Estimate | None) -> str:
    parts = [
        f"mean of {estimate.n:,}: {formatting.number(name, estimate.mean)} ({formatting.interval(name, estimate)})",
    ]
    if gap is not None:
        chance = "" if formatting.direction(gap) else ", within chance"
        ends = f"{formatting.number(name, gap.low)} to {formatting.number(name, gap.high)}"
        parts.append(f"minus all documents: {formatting.signed(name, gap.mean)} ({ends}){chance}")
    return "; ".join(parts)


def markdown_tables(results: Results) -> str:
    """Write one table a dataset, as GitHub shows it.

    Args:
        results: what was read.

    Returns:
        The text, with a heading for each dataset if there are several.
    """
    parts = ["\n".join(_markdown(dataset, headed=len(results.datasets) > 1)) for dataset in results.datasets]
    return "\n\n".join(parts) + "\n"


def _markdown(dataset: DatasetResults, *, headed: bool) -> Iterator[str]:
    ordered = in_order(dataset.summaries)
    if headed:
        yield f"### {_escaped(dataset.name)}\n"
    yield f"{_escaped(about(dataset))}\n"
    shown = list(measures_that_occur(ordered, _IN_MARKDOWN))
    slots = any(summary.metrics["slots"].mean for summary in ordered if "slots" in summary.metrics)
    sizes = [*measures_that_occur(ordered, ("tokens", *(["slots"] if slots else []), "token_compression"))]
    failed = any(summary.failures for summary in ordered)
    times = {name for name in shown if any(s.metrics[name].p50 is not None for s in ordered if name in s.metrics)}
    heads = ["contestant", *(formatting.heading(name, percentiles=name in times) for name in (*sizes, *shown))]
    heads += ["failed"] if failed else []
    yield f"| {' | '.join(heads)} |"
    yield f"|---|{'---:|' * (len(heads) - 1)}"
    for summary in ordered:
        cells = [_named(summary)]
        cells += [_value(name, summary.metrics[name]) if name in summary.metrics else "" for name in sizes]
        cells += [_with_interval(summary, name) for name in shown]
        cells += [str(sum(summary.failures.values()) or "")] if failed else []
        yield f"| {' | '.join(cells)} |"
    if any(formatting.direction(gap_of(summary, name)) for summary in ordered for name in ANSWERS):
        yield f"\n{_MARKS['more']} {_MARKS['less']}: above, below all documents by more than chance (95 %)."


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


def _named(summary: Summary) -> str:
    label = _escaped(label_of(summary))
    if summary.matched_to is not None:
        return f"{label}, at the length of {_escaped(summary.matched_to)}"
    return label if summary.kind == "baseline" else f"**{label}**"


def _with_interval(summary: Summary, name: str) -> str:
    estimate = summary.metrics.get(name)
    if estimate is None:
        return ""
    text = _value(name, estimate)
    if estimate.p50 is not None:
        return text
    mark = _MARKS[formatting.direction(gap_of(summary, name))] if name in COMPARED else ""
    return f"{text} ({formatting.interval(name, estimate)}){f' {mark}' if mark else ''}"


def _escaped(text: str) -> str:
    """Untrusted text in a Markdown table: one line, no markup."""
    line = visible(" ".join(text.split()))
    return "".join(f"\\{character}" if character in "\\`*_[]<>|#~" else character for character in line)
