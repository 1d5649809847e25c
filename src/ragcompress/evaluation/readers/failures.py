"""Questions that cannot be read must not take the others with them; a reader that reads none must not go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from ragcompress.errors import InputError, OptionError

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

_MOST_IN_A_ROW = 5


def describe(error: BaseException) -> str:
    """Say what was raised, in one line.

    Args:
        error: any.

    Returns:
        Type and message.
    """
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")


class Patience:
    """Ends reading when questions in a row fail: an unreachable server is told after a few of them, not after all.

    A question that cannot be used as it is (``InputError``: too long, say) counts only as long as none was read.
    Whoever reads in small portions hands the same object over with each.
    """

    def __init__(self, limit: int = _MOST_IN_A_ROW) -> None:
        """Start with nothing read.

        Args:
            limit: how many failures in a row are one too many.
        """
        self.limit = limit
        self._in_a_row = 0
        self._some_read = False

    def note(self, outcome: object) -> None:
        """Take note of what became of a question.

        Args:
            outcome: an exception; anything else: it was read.

        Raises:
            InputError: too many failures in a row; says the last one.
        """
        if not isinstance(outcome, Exception):
            self._in_a_row, self._some_read = 0, True
            return
        if self._some_read and isinstance(outcome, InputError):
            return
        self._in_a_row += 1
        if self._in_a_row >= self.limit:
            raise InputError(
                f"{self._in_a_row} questions in a row could not be read; the last: {describe(outcome).rstrip('.')}.",
                hint="The other questions were not tried.",
            ) from outcome


def each(
    call: Callable[[Sequence[ItemT]], Sequence[ResultT]], items: Sequence[ItemT], patience: Patience | None = None
) -> list[ResultT | Exception]:
    """Call a function that takes a batch so that an item that makes it raise does not take the others with it.

    The batch is tried as a whole, then in halves, so that most of the work is still done in batches.

    Args:
        call: gives one result an item.
        items: any number.
        patience: takes note of every outcome; None: a new one.

    Returns:
        One result an item, or what was raised for it.

    Raises:
        InputError: the patience is at its end.
    """
    return list(_each(call, items, Patience() if patience is None else patience)) if items else []


def _each(
    call: Callable[[Sequence[ItemT]], Sequence[ResultT]], items: Sequence[ItemT], patience: Patience
) -> Iterator[ResultT | Exception]:
    try:
        results = call(items)
        if len(results) != len(items):
            raise OptionError(f"the reader gave {len(results)} readings for {len(items)} questions.")
    except Exception as error:
        if len(items) == 1:
            patience.note(error)
            yield error
            return
    else:
        for result in results:
            patience.note(result)
            yield result
        return
    middle = len(items) // 2
    yield from _each(call, items[:middle], patience)
    yield from _each(call, items[middle:], patience)


def raised(outcomes: Sequence[ResultT | Exception]) -> list[ResultT]:
    """Raise the first error among some outcomes.

    Args:
        outcomes: results, and exceptions in their places.

    Returns:
        The results, if they are nothing else.
    """
    results: list[ResultT] = []
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
        results.append(outcome)
    return results
