"""The tables of results as Markdown, for a README."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ragcompress.evaluation.records import Summary
from ragcompress.evaluation.report import formatting
from ragcompress.evaluation.report.comparisons import low_share, n_if_fewer, remark_on_times, remarks_on_comparisons
from ragcompress.evaluation.report.contestants import ANSWERS, in_order, label_of, measures_that_occur
from ragcompress.evaluation.report.reading import DatasetResults, Results
from ragcompress.evaluation.report.tables import COMPARED, MARKS, about, gap_of, value_text
from ragcompress.view import visible

# Fewer than on a page, since nobody can ask a README for more.
_SHOWN = (
    "cover_match", "f1", "judge", "support_recall", "document_recall", "answer_in_context", "compress_ms", "added_ms",
    "total_ms",
)  # fmt: skip


def markdown_tables(results: Results) -> str:
    """Write one table a dataset, as GitHub shows it.

    Args:
        results: what was read.

    Returns:
        The text, with a heading for each dataset if there are several.
    """
    parts = ["\n".join(_table(dataset, headed=len(results.datasets) > 1)) for dataset in results.datasets]
    return "\n\n".join(parts) + "\n"


def _table(dataset: DatasetResults, *, headed: bool) -> Iterator[str]:
    ordered = in_order(dataset.summaries)
    if headed:
        yield f"### {_escaped(dataset.name)}\n"
    yield f"{_escaped(about(dataset))}\n"
    shown = list(measures_that_occur(ordered, _SHOWN))
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
        cells += [_size(summary, name, ordered) for name in sizes]
        cells += [_with_interval(summary, name, ordered) for name in shown]
        cells += [str(sum(summary.failures.values()) or "")] if failed else []
        yield f"| {' | '.join(cells)} |"
    for line in (*_legend(ordered, shown), *map(_escaped, dataset.missing)):
        yield f"\n{line}"


def _legend(summaries: Sequence[Summary], shown: Sequence[str]) -> Iterator[str]:
    if any(formatting.direction(gap_of(summary, name)) for summary in summaries for name in ANSWERS):
        yield f"{MARKS['more']} {MARKS['less']}: above, below all documents by more than chance (95 %)."
    if remark := remark_on_times(summaries):
        yield remark
    if any(n_if_fewer(summary, name, summaries) is not None for summary in summaries for name in shown):
        yield "n: number of questions, where others in the column have more."
    if any(low_share(summary, summaries) for summary in summaries):
        yield "% beside tokens: share of the allowed length that was used, where below 90 %."
    yield from (_escaped(remark) for remark in remarks_on_comparisons(summaries))


def _named(summary: Summary) -> str:
    label = _escaped(label_of(summary))
    if summary.matched_to is not None:
        return f"{label}, at the length of {_escaped(summary.matched_to)}"
    if summary.kind == "peer":
        return f"{label}, at a length of its own"
    return f"**{label}**" if summary.kind == "compressor" else label


def _size(summary: Summary, name: str, summaries: Sequence[Summary]) -> str:
    if name not in summary.metrics:
        return ""
    share = low_share(summary, summaries) if name == "tokens" else ""
    return f"{value_text(name, summary.metrics[name])}{f' ({share})' if share else ''}"


def _with_interval(summary: Summary, name: str, summaries: Sequence[Summary]) -> str:
    estimate = summary.metrics.get(name)
    if estimate is None:
        return ""
    n = n_if_fewer(summary, name, summaries)
    beside = [] if estimate.p50 is not None else [formatting.interval(name, estimate)]
    beside += [] if n is None else [f"n {n:,}"]
    mark = MARKS[formatting.direction(gap_of(summary, name))] if name in COMPARED and estimate.p50 is None else ""
    return " ".join(
        part for part in (value_text(name, estimate), f"({', '.join(beside)})" if beside else "", mark) if part
    )


def _escaped(text: str) -> str:
    """Untrusted text in a Markdown table: one line, no markup."""
    line = visible(" ".join(text.split()))
    return "".join(f"\\{character}" if character in "\\`*_[]<>|#~" else character for character in line)
