"""Numbers as people read them; the same in the page and in Markdown."""

from __future__ import annotations

import math

from ragcompress.evaluation.measures import MEASURES, Measure
from ragcompress.evaluation.records import Estimate
from ragcompress.view import visible

MINUS = "\N{MINUS SIGN}"
# Of fewer, an interval from resampling is far too narrow, and of one it has no width at all.
FEWEST_QUESTIONS = 10
MOST_CHARACTERS = 200
_SCALES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_COUNTS = ("tokens", "characters", "slots")
_UNITS = {"share": "%", "ratio": "", "tokens": "", "characters": "", "slots": "", "ms": "ms", "flops": "FLOP"}


def measure(name: str) -> Measure:
    """Look a measure up; one that a newer version has written is shown by its name.

    Args:
        name: of the measure.

    Returns:
        The measure.
    """
    return MEASURES.get(name) or Measure(name.replace("_", " "), "ratio", None, "not known to this version")


def heading(name: str, *, percentiles: bool = False) -> str:
    """Write the head of a column.

    >>> heading("cover_match"), heading("added_ms", percentiles=True)
    ('contains (%)', 'added latency (p50 / p95, ms)')

    Args:
        name: of the measure.
        percentiles: whether the column holds median and 95th percentile.

    Returns:
        Label and unit.
    """
    known = measure(name)
    unit = ", ".join(part for part in ("p50 / p95" if percentiles else "", _UNITS[known.unit]) if part)
    return f"{known.label} ({unit})" if unit else known.label


def number(name: str, value: float) -> str:
    """Write a value without its unit, which stands in the head of the column.

    >>> [number("f1", 0.61803), number("tokens", 1312.25), number("tokens", 4.25), number("compress_ms", 0.0421)]
    ['61.8', '1,312', '4.2', '0.04']
    >>> number("read_flops", 3.21e12)
    '3.2 T'

    Args:
        name: of the measure.
        value: of it.

    Returns:
        A short text.
    """
    unit = measure(name).unit
    if math.isnan(value):
        return "\N{EN DASH}"
    if math.isinf(value):
        return "\N{INFINITY}" if value > 0 else f"{MINUS}\N{INFINITY}"
    if value < 0:
        return f"{MINUS}{number(name, -value)}"
    if unit == "share":
        return f"{100 * value:.1f}"
    if unit == "ratio":
        return f"{value:.1f}\N{MULTIPLICATION SIGN}" if value < 100 else f"{value:,.0f}\N{MULTIPLICATION SIGN}"
    if unit == "flops":
        for size, letter in _SCALES:
            if value >= size:
                return f"{value / size:.1f} {letter}"
    if value == 0 or value >= (20 if unit in _COUNTS else 100):
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 1 else f"{value:.2f}" if value >= 0.01 else f"{value:.1g}"


def signed(name: str, value: float) -> str:
    """Write a difference; that of a share is in points.

    >>> signed("f1", 0.032)
    '+3.2'

    Args:
        name: of the measure.
        value: of the difference.

    Returns:
        A short text with a sign.
    """
    text = number(name, value)
    return text if text.startswith(MINUS) else f"+{text}"


def interval(name: str, estimate: Estimate) -> str:
    """Write a 95 % interval.

    Args:
        name: of the measure.
        estimate: of it.

    Returns:
        Both ends.
    """
    between = " to " if estimate.low < 0 else "\N{EN DASH}"
    return f"{number(name, estimate.low)}{between}{number(name, estimate.high)}"


def direction(estimate: Estimate | None) -> str:
    """Say whether a difference is beyond chance.

    Args:
        estimate: of the difference; None: unknown.

    Returns:
        ``"more"`` or ``"less"`` where the interval excludes 0 and is of enough questions to say so, else an empty
        string.
    """
    if estimate is None or not _is_telling(estimate):
        return ""
    return "more" if estimate.low > 0 else "less" if estimate.high < 0 else ""


def _is_telling(estimate: Estimate) -> bool:
    return estimate.n >= FEWEST_QUESTIONS and not estimate.low == estimate.high == 0


def verdict(estimate: Estimate) -> str:
    """Say in words what a difference shows.

    Args:
        estimate: of the difference.

    Returns:
        Whether it is beyond chance, or why that cannot be told.
    """
    if estimate.n < FEWEST_QUESTIONS:
        few = "1 question is" if estimate.n == 1 else f"{estimate.n} questions are"
        return f"{few} too few to tell it from chance"
    if not _is_telling(estimate):
        return "the same on every question"
    return {"more": "more than chance", "less": "less, beyond chance"}.get(direction(estimate), "within chance")


def difference(name: str, estimate: Estimate) -> str:
    """Write a difference with its interval and what it shows.

    Args:
        name: of the measure.
        estimate: of the difference.

    Returns:
        The words.
    """
    ends = f"{number(name, estimate.low)} to {number(name, estimate.high)}"
    return f"{signed(name, estimate.mean)} ({ends}), {verdict(estimate)}"


def one_line(message: str) -> str:
    """Shorten a message that somebody else has written.

    Args:
        message: untrusted text.

    Returns:
        At most 200 visible characters, without line breaks.
    """
    line = visible(" ".join(message.split()))
    return line if len(line) <= MOST_CHARACTERS else f"{line[: MOST_CHARACTERS - 1]}\N{HORIZONTAL ELLIPSIS}"
