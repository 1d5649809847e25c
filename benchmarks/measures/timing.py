"""Timing on a machine that other people use too: contestants take turns, medians are reported."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Seconds = list[list[float]]


def take_turns(
    contestants: Mapping[str, Callable[[Any], Callable[[], object]]], items: Sequence[Any], *, rounds: int
) -> dict[str, Seconds]:
    """Time every contestant on every item, one right after the other, in an order that rotates.

    Args:
        contestants: name -> item -> the call to be timed; making the call is not timed.
        items: (n_items,), e.g. questions.
        rounds: how often everything is repeated, after one round that is not timed and covers the first items.

    Returns:
        Name -> (n_items, n_rounds) seconds.
    """
    names = list(contestants)
    for item in items[:8]:
        for name in names:
            contestants[name](item)()
    seconds: dict[str, Seconds] = {name: [[] for _ in items] for name in names}
    gc.collect()
    gc.disable()
    try:
        for turn in range(rounds):
            for place, item in enumerate(items):
                first = (turn + place) % len(names)
                for name in names[first:] + names[:first]:
                    call = contestants[name](item)
                    begin = time.perf_counter()
                    call()
                    seconds[name][place].append(time.perf_counter() - begin)
            gc.collect()
    finally:
        gc.enable()
    return seconds


def milliseconds(seconds: Seconds) -> float:
    """Median over items of the median over rounds.

    Args:
        seconds: (n_items, n_rounds).

    Returns:
        Milliseconds.
    """
    return 1000 * statistics.median(statistics.median(each) for each in seconds)
