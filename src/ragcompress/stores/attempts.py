"""Trying again what another process got in the way of."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from ragcompress.errors import InputError
from ragcompress.stores import opening

ResultT = TypeVar("ResultT")

_READ_ATTEMPTS = 6
_WRITE_ATTEMPTS = 12
# The last: others have merged what was about to be read, and dropped what was before.
_IN_THE_WAY = re.compile("conflict|concurrent|not found", re.IGNORECASE)


class Attempts:
    """Calls what reads or writes one table, as often as it takes."""

    def __init__(self, location: str, name: str) -> None:
        """Note what messages name.

        Args:
            location: of the table.
            name: of the table.
        """
        self.location = location
        self.name = name

    def settled(self, action: Callable[[], ResultT | None]) -> ResultT | None:
        """Call again what another process got in the way of.

        Args:
            action: reads; returns None where rows have moved meanwhile.

        Returns:
            What it returned; None: it never came through.
        """
        for attempt in range(_READ_ATTEMPTS):
            with suppress(*opening.FAILURES):
                found = action()
                if found is not None:
                    return found
            _wait(attempt)
        return None

    def reading(self, action: Callable[[], ResultT]) -> ResultT:
        """Call again what failed: another process may have dropped the version that was read.

        Args:
            action: reads.

        Returns:
            What it returned.

        Raises:
            InputError: it failed every time.
        """
        return self._retried(action, _READ_ATTEMPTS, lambda error: True)

    def writing(self, action: Callable[[], ResultT]) -> ResultT:
        """Call again what another process got in the way of, beyond lancedb's own attempts.

        Args:
            action: writes.

        Returns:
            What it returned.

        Raises:
            InputError: it failed for another reason, or every time.
        """
        return self._retried(action, _WRITE_ATTEMPTS, lambda error: bool(_IN_THE_WAY.search(str(error))))

    def _retried(self, action: Callable[[], ResultT], attempts: int, worth_it: Callable[[Exception], bool]) -> ResultT:
        attempt = 0
        while True:
            try:
                return action()
            except opening.FAILURES as error:
                attempt += 1
                if isinstance(error, InputError):
                    raise
                if attempt == attempts or not worth_it(error):
                    raise opening.failed(self.location, self.name, error) from error
            _wait(attempt)


def _wait(attempt: int) -> None:
    """Longer each time, and not in step with others."""
    time.sleep(random.uniform(0.5, 1.0) * min(0.005 * 2**attempt, 0.5))  # noqa: S311 (no secret)
