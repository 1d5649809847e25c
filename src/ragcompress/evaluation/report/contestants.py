"""Contestants in the order in which they are read, each with its family, and the sign by which charts know it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ragcompress.evaluation.baselines import ALL_DOCUMENTS, NO_CONTEXT
from ragcompress.evaluation.records import Summary

# Of answers, best first: what a page shows unless asked for another. Where nothing was answered, of what was kept.
ANSWERS = ("cover_match", "f1", "exact_match", "judge")
EVIDENCE = ("support_recall", "document_recall", "answer_in_context")
OTHER_EVIDENCE = ("support_f1", "all_support", "support_precision")
# How the name of a contestant at another's length is made: THAT--OWN.
JOINT = "--"
N_COLOURS = 4
# Around 0, in pixels.
SHAPES = (
    "M-4.6,0a4.6,4.6 0 1,0 9.2,0a4.6,4.6 0 1,0 -9.2,0z",
    "M-4.1,-4.1h8.2v8.2h-8.2z",
    "M0,-5.6L5.2,4H-5.2z",
    "M0,-5.8L5.8,0L0,5.8L-5.8,0z",
    "M0,5.6L5.2,-4H-5.2z",
    "M-1.8,-5.2h3.6v3.4h3.4v3.6h-3.4v3.4h-3.6v-3.4h-3.4v-3.6h3.4z",
    "M-2.6,-4.6h5.2l2.7,4.6l-2.7,4.6h-5.2l-2.7,-4.6z",
)
_NUMBER = re.compile(r"(.*[A-Za-z0-9])[-_. ](\d[\d.]*[a-z]?)")
_DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True, slots=True)
class Appearance:
    """How a contestant is shown.

    Attributes:
        label: its name without that of the contestant to whose length it was cut.
        family: of contestants that differ in a number alone; a chart joins them by a line.
        member: the number; empty: it is alone.
        colour: name of a colour of the page.
        shape: path of its sign, around 0.
    """

    label: str
    family: str
    member: str
    colour: str
    shape: str


def in_order(summaries: Iterable[Summary]) -> list[Summary]:
    """Sort: the two ends of the scale, each compressor with what was cut to its length, and the rest.

    Args:
        summaries: of one dataset.

    Returns:
        All of them.
    """
    ends = (ALL_DOCUMENTS, NO_CONTEXT)
    ranks = {"baseline": 0, "compressor": 1, "peer": 2}

    def rank(summary: Summary) -> tuple[object, ...]:
        if summary.contestant in ends:
            return (0, ends.index(summary.contestant))
        if summary.matched_to is not None:
            return (1, _natural(summary.matched_to), 1, ranks[summary.kind], _natural(summary.contestant))
        if summary.kind == "compressor":
            return (1, _natural(summary.contestant), 0)
        return (2, ranks[summary.kind], _natural(summary.contestant))

    return sorted(summaries, key=rank)


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Parts of a name, so that 10 comes after 9."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in _DIGITS.split(name) if part]


def appearances(summaries: Iterable[Summary]) -> dict[str, Appearance]:
    """Choose how contestants are shown, the same on every dataset.

    Args:
        summaries: of all datasets.

    Returns:
        By the name of the contestant.
    """
    ordered = in_order({summary.contestant: summary for summary in summaries}.values())
    families = {summary.contestant: (summary.kind, *_family(summary)) for summary in ordered}
    sizes = Counter((kind, family) for kind, family, _ in families.values())
    signs: dict[tuple[str, str], tuple[str, str]] = {}
    found = {}
    for summary in ordered:
        kind, family, member = families[summary.contestant]
        if sizes[kind, family] == 1:
            family, member = label_of(summary), ""
        if (kind, family) not in signs:
            place = sum(other == kind for other, _ in signs)
            signs[kind, family] = (f"{kind}-{place % N_COLOURS}", SHAPES[place % len(SHAPES)])
        found[summary.contestant] = Appearance(label_of(summary), family, member, *signs[kind, family])
    return found


def label_of(summary: Summary) -> str:
    """Name a contestant without the one to whose length it was cut.

    Args:
        summary: of the contestant.

    Returns:
        The name.
    """
    if summary.matched_to is None:
        return summary.contestant
    return summary.contestant.removeprefix(f"{summary.matched_to}{JOINT}")


def _family(summary: Summary) -> tuple[str, str]:
    """Family and member, as if there were others of the family."""
    label = label_of(summary)
    if label != summary.contestant:
        # One way to choose, at several lengths: a single line, whatever the lengths were taken from.
        found = _NUMBER.fullmatch(str(summary.matched_to))
        return label, found[2] if found else str(summary.matched_to)
    found = _NUMBER.fullmatch(label)
    return (found[1], found[2]) if found else (label, "")


def measures_that_occur(summaries: Sequence[Summary], names: Iterable[str]) -> Iterator[str]:
    """Choose among measures.

    Args:
        summaries: of one dataset.
        names: of measures.

    Yields:
        Names of those that at least one of the summaries has.
    """
    for name in names:
        if any(name in summary.metrics for summary in summaries):
            yield name


def accuracy_measures(summaries: Sequence[Summary]) -> list[str]:
    """Choose what may stand for quality.

    Args:
        summaries: of one dataset.

    Returns:
        Names of measures, the one to show first first: of answers where there are any, then of what was kept.
    """
    return list(measures_that_occur(summaries, (*ANSWERS, *EVIDENCE, *OTHER_EVIDENCE)))
