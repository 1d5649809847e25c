"""Results as one page that needs nothing beside itself: no server, no network, no file.

What comes from the results is untrusted. In the markup it is escaped by the template; what the page's own script shows
is put in as text. The browser is told to run that script alone, known by its hash, and to load nothing.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from importlib.resources import files
from typing import Any

from ragcompress.errors import MissingExtraError
from ragcompress.evaluation.baselines import ALL_DOCUMENTS, NO_CONTEXT
from ragcompress.evaluation.records import Summary
from ragcompress.evaluation.report import formatting
from ragcompress.evaluation.report.comparisons import low_share, n_if_fewer, remark_on_times, share_of_budget
from ragcompress.evaluation.report.contestants import Appearance, accuracy_measures, appearances, in_order
from ragcompress.evaluation.report.embedding import embedded, safe
from ragcompress.evaluation.report.findings import finding
from ragcompress.evaluation.report.overview import overview
from ragcompress.evaluation.report.reading import DatasetResults, Results
from ragcompress.evaluation.report.tables import about, cell, columns, gap_of, value_text

_SCRIPTS = ("elements.js", "charts.js", "labels.js", "question.js", "browser.js", "report.js")
_MOST_NAMED = 3
# What a chart and its tooltips say of a contestant.
_DRAWN = ("tokens", "token_compression", "slots", "added_ms", "read_ms", "total_ms")


def page(results: Results, *, n_questions: int) -> str:
    """Show results as a whole HTML5 document, to be written as UTF-8.

    Args:
        results: what was read.
        n_questions: the most single questions of a dataset that the page carries.

    Returns:
        The document.

    Raises:
        MissingExtraError: Jinja is not installed.
    """
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError as error:
        raise MissingExtraError(
            f"the report needs Jinja, which cannot be imported ({error}).", hint="pip install 'ragcompress[evaluation]'"
        ) from error
    # Escaping is on for every template, whatever its name.
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    script = _script()
    looks = appearances(summary for dataset in results.datasets for summary in dataset.summaries)
    datasets = [_dataset(dataset, looks, n_questions) for dataset in results.datasets]
    return environment.from_string(_file("report.html.j2")).render(
        title=safe(f"Evaluation of {', '.join(dataset.name for dataset in results.datasets)}"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        style=f"{files('ragcompress').joinpath('html.css').read_text(encoding='utf-8')}\n{_file('report.css')}",
        datasets=safe(datasets),
        overview=safe(asdict(overview(results, looks))) if len(results.datasets) > 1 else None,
        drawn=safe([_drawn(dataset, looks) for dataset in results.datasets]),
    )


@cache
def _file(name: str) -> str:
    return files("ragcompress.evaluation.report").joinpath("assets", name).read_text(encoding="utf-8")


def _script() -> str:
    return "\n".join(["(() => {", '"use strict";', *map(_file, _SCRIPTS), "start();", "})();"])


def _dataset(dataset: DatasetResults, looks: Mapping[str, Appearance], n_questions: int) -> dict[str, Any]:
    ordered = in_order(dataset.summaries)
    shown = columns(ordered)
    cells = {summary.contestant: [cell(summary, column.name, ordered) for column in shown] for summary in ordered}
    return {
        "name": dataset.name,
        "about": about(dataset),
        "finding": finding(dataset),
        "notes": (*dataset.notes, *dataset.missing),
        "columns": [asdict(column) for column in shown],
        "rows": [
            {
                "name": summary.contestant,
                "label": looks[summary.contestant].label,
                "look": asdict(looks[summary.contestant]),
                "kind": summary.kind,
                "matched_to": summary.matched_to,
                "cells": [asdict(each) for each in cells[summary.contestant]],
            }
            for summary in ordered
        ],
        "compared": any(each.difference for row in cells.values() for each in row),
        "uneven": any(n_if_fewer(summary, column.name, ordered) is not None for summary in ordered for column in shown),
        "shorter": any(low_share(summary, ordered) for summary in ordered),
        "encode_anew": remark_on_times(ordered),
        "questions": embedded(dataset, n_questions),
        "why_no_questions": _why_no_questions(dataset, n_questions),
        "provenance": _provenance(ordered),
        "settings": [{"name": summary.contestant, "settings": _settings(summary)} for summary in ordered],
    }


def _settings(summary: Summary) -> list[tuple[str, str]]:
    peak = summary.peak_memory_mib
    before = summary.memory_before_mib
    began = "" if before is None else f", of which {before:,.0f} were used when it began"
    return [*_lines(summary.settings), *([] if peak is None else [("peak memory", f"{peak:,.0f} MiB{began}")])]


def _why_no_questions(dataset: DatasetResults, n_questions: int) -> str:
    missing = ([] if dataset.questions else ["questions.jsonl"]) + ([] if dataset.records else ["records (NAME.jsonl)"])
    if missing:
        return f"the folder of results has no {' and no '.join(missing)}, as where only summaries are kept."
    return "" if n_questions else "the page was asked for none."


def _drawn(dataset: DatasetResults, looks: Mapping[str, Appearance]) -> dict[str, Any]:
    ordered = in_order(dataset.summaries)
    accuracy = accuracy_measures(ordered)
    names = list(dict.fromkeys((*accuracy, *_DRAWN)))
    every = sorted({*names, *(name for summary in ordered for name in summary.metrics), "cover_match"})
    return {
        "name": dataset.name,
        "accuracy": accuracy,
        "all_documents": ALL_DOCUMENTS,
        "no_context": NO_CONTEXT,
        "measures": {
            name: {"label": formatting.measure(name).label,
                   "heading": formatting.heading(name, percentiles=any(_has_median(s, name) for s in ordered)),
                   "unit": formatting.measure(name).unit, "about": formatting.measure(name).about}
            for name in every
        },
        "contestants": [
            {
                "name": summary.contestant,
                "kind": summary.kind,
                "look": asdict(looks[summary.contestant]),
                "metrics": {name: _estimate(summary, name, ordered) for name in names if name in summary.metrics},
            }
            for summary in ordered
        ],
    }  # fmt: skip


def _estimate(summary: Summary, name: str, summaries: Sequence[Summary]) -> dict[str, Any]:
    estimate, gap = summary.metrics[name], gap_of(summary, name)
    share = share_of_budget(summary, summaries) if name == "tokens" else None
    if estimate.p50 is None:
        at, low, high = estimate.mean, estimate.low, estimate.high
        text = f"{value_text(name, estimate)} ({formatting.interval(name, estimate)})"
    else:  # as in the table; one first call may take as long as all others, and carry a mean
        at, low, high = estimate.p50, estimate.p50, estimate.p50 if estimate.p95 is None else estimate.p95
        text = value_text(name, estimate)
    return {
        "at": at,
        "low": low,
        "high": high,
        "text": text if share is None else f"{text}, {100 * share:.0f} % of {summary.matched_to}",
        "difference": "" if gap is None else formatting.difference(name, gap),
    }


def _has_median(summary: Summary, name: str) -> bool:
    return name in summary.metrics and summary.metrics[name].p50 is not None


def _provenance(summaries: Sequence[Summary]) -> list[tuple[str, str]]:
    """What is the same for all, and, where it is not, every value with its contestants."""
    read: list[dict[str, str]] = []
    for summary in summaries:
        reader = {} if summary.reader is None else {"reader": summary.reader}
        source = {} if summary.source is None else {"data": summary.source}
        fixed = {
            **source,
            "data, sha256": summary.sha256,
            **reader,
            "tokens": summary.counter,
            "seed": str(summary.seed),
        }
        read.append(
            {
                **fixed,
                **{f"selection: {k}": v for k, v in _lines(summary.selection)},
                **dict(_lines(summary.environment)),
            }
        )
    lines = []
    for name in dict.fromkeys(name for each in read for name in each):
        values: dict[str, list[str]] = {}
        for summary, each in zip(summaries, read, strict=True):
            if name in each:
                values.setdefault(each[name], []).append(summary.contestant)
        text = "; ".join(f"{value}{_owners(owners) if len(values) > 1 else ''}" for value, owners in values.items())
        lines.append((name, text))
    return lines


def _owners(names: Sequence[str]) -> str:
    return f" ({', '.join(names) if len(names) <= _MOST_NAMED else f'{len(names)} contestants'})"


def _lines(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A mapping as lines, one for each of its own keys; what is None says nothing."""
    return [(f"{prefix}{name}", _words(value)) for name, value in values.items() if value is not None]


def _words(value: Any) -> str:  # noqa: ANN401 (JSON)
    if isinstance(value, Mapping):
        parts = (f"{name} {_words(each)}" for name, each in value.items() if each is not None)
        return ", ".join(parts)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_words, value))}]"
    return str(value)
