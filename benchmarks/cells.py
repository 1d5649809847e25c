"""Numbers and tables as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Results = Mapping[str, Mapping[str, Any]]


def table(header: list[str], rows: list[list[str]]) -> str:
    """Write a Markdown table.

    >>> print(table(["name", "value"], [["a", "1"]]))
    | name | value |
    |---|---:|
    | a | 1 |

    Args:
        header: names of the columns; the first is set left, the others right.
        rows: as long as the header.

    Returns:
        Markdown without a final line break.
    """
    rule = "|---|" + "---:|" * (len(header) - 1)
    return "\n".join(["| " + " | ".join(header) + " |", rule, *("| " + " | ".join(row) + " |" for row in rows)])


def number(value: float, digits: int = 3) -> str:
    """Write a number with so many significant digits, never as a power of ten.

    >>> number(0.81234), number(123.4), number(1536.0), number(0.0), number(0.3)
    ('0.812', '123', '1536', '0', '0.3')

    Args:
        value: any.
        digits: significant ones.

    Returns:
        The text.
    """
    return f"{value:.0f}" if abs(value) >= 10 ** (digits - 1) else f"{value:.{digits}g}"


def share(value: float) -> str:
    """Write a number between 0 and 1.

    >>> share(0.4567), share(1.0), share(-0.2), share(-1e-9)
    ('.457', '1.000', '-.200', '.000')

    Args:
        value: any.

    Returns:
        The text.
    """
    text = f"{abs(value):.3f}".removeprefix("0")
    return f"-{text}" if value < 0 and text != ".000" else text


def ends(interval: list[float]) -> str:
    """Write a 95 % interval.

    >>> ends([0.4, 0.5])
    '[.400, .500]'

    Args:
        interval: its ends.

    Returns:
        The text.
    """
    return f"[{share(interval[0])}, {share(interval[1])}]"


def ratio_cell(ratio: Mapping[str, Any]) -> str:
    """Write how two contestants compare.

    >>> ratio_cell({"value": 1.234, "interval": [1.2, 1.3]}), ratio_cell({"value": 1.234, "rounds": [1.31, 1.19]})
    ('1.23 [1.20, 1.30] x', '1.23 (rounds: 1.19 to 1.31) x')

    Args:
        ratio: ``value``, and the ends of its interval or, where there is none, the value of each round.

    Returns:
        The text.
    """
    if "interval" in ratio:
        low, high = ratio["interval"]
        return f"{ratio['value']:.2f} [{low:.2f}, {high:.2f}] x"
    return f"{ratio['value']:.2f} (rounds: {min(ratio['rounds']):.2f} to {max(ratio['rounds']):.2f}) x"
