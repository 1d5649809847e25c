"""All datasets in one table: a row a contestant, a column a dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ragcompress.evaluation.records import Summary
from ragcompress.evaluation.report import formatting
from ragcompress.evaluation.report.comparisons import low_share
from ragcompress.evaluation.report.contestants import Appearance, accuracy_measures, in_order
from ragcompress.evaluation.report.reading import Results
from ragcompress.evaluation.report.tables import Cell, cell


@dataclass(frozen=True, slots=True)
class Overview:
    """All datasets in one table.

    Attributes:
        heads: name of each dataset, and what its column shows.
        rows: of each contestant: what it is, how it is shown, cells as dictionaries.
        mean: what the first column shows; empty: no two datasets have a measure in common, and there is no mean.
        n_common: over how many datasets it goes.
    """

    heads: tuple[tuple[str, str], ...]
    rows: tuple[dict[str, Any], ...]
    mean: str
    n_common: int


def overview(results: Results, looks: Mapping[str, Appearance]) -> Overview:
    """Put all datasets side by side.

    Args:
        results: what was read.
        looks: how contestants are shown.

    Returns:
        The table. The mean is over the datasets that show the commonest measure, for contestants that are in each.
    """
    names = [next(iter(accuracy_measures(dataset.summaries)), "") for dataset in results.datasets]
    common, n_common = Counter(name for name in names if name).most_common(1)[0] if any(names) else ("", 0)
    by_dataset = [{summary.contestant: summary for summary in dataset.summaries} for dataset in results.datasets]
    every = in_order({name: summary for each in by_dataset for name, summary in each.items()}.values())
    rows = []
    for summary in every:
        found = [each.get(summary.contestant) for each in by_dataset]
        cells = [
            _cell(each, name, dataset.summaries)
            for each, name, dataset in zip(found, names, results.datasets, strict=True)
        ]
        alike = [each for each, name in zip(found, names, strict=True) if name == common]
        look = looks[summary.contestant]
        rows.append(
            {
                "name": summary.contestant,
                "label": look.label,
                "look": asdict(look),
                "kind": summary.kind,
                "matched_to": summary.matched_to,
                "cells": [asdict(each) for each in ([_mean(alike, common)] if n_common > 1 else []) + cells],
            }
        )
    heads = tuple(
        (dataset.name, formatting.heading(name) if name else "")
        for dataset, name in zip(results.datasets, names, strict=True)
    )
    return Overview(heads, tuple(rows), formatting.heading(common) if n_common > 1 else "", n_common)


def _cell(summary: Summary | None, name: str, summaries: Sequence[Summary]) -> Cell:
    if summary is None or name not in summary.metrics:
        return Cell()
    found, tokens, low = cell(summary, name, summaries), summary.metrics.get("tokens"), low_share(summary, summaries)
    share = f" ({low})" if low else ""
    detail = "" if tokens is None else f"{formatting.number('tokens', tokens.mean)} tokens{share}"
    return Cell(found.text, detail, found.difference, found.verdict, found.sort, found.title)


def _mean(found: list[Summary | None], name: str) -> Cell:
    """The mean over datasets, every dataset counting the same."""
    present = [summary for summary in found if summary is not None and name in summary.metrics]
    if len(present) < len(found):
        return Cell()
    value = sum(summary.metrics[name].mean for summary in present) / len(present)
    lengths = [summary.metrics["tokens"].mean for summary in present if "tokens" in summary.metrics]
    detail = f"{formatting.number('tokens', sum(lengths) / len(lengths))} tokens" if len(lengths) == len(found) else ""
    title = f"mean over {len(found)} datasets, each counting the same"
    return Cell(formatting.number(name, value), detail, sort=value, title=title)
