"""An iterator that computes, read from an event loop that must go on meanwhile."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import suppress
from typing import TypeVar

ItemT = TypeVar("ItemT")


async def off_the_loop(items: Generator[ItemT, None, None]) -> AsyncGenerator[ItemT, None]:
    """Run a generator in one thread and hand its items over as they come.

    Args:
        items: started and closed in the thread.

    Yields:
        The items. Whoever stops listening stops the generator after one more.
    """
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[tuple[ItemT] | BaseException | None] = asyncio.Queue()
    stopped = threading.Event()

    def hand_over(item: tuple[ItemT] | BaseException | None) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody listens any more
            loop.call_soon_threadsafe(arrived.put_nowait, item)

    def work() -> None:
        try:
            for item in items:
                hand_over((item,))
                if stopped.is_set():
                    break
            items.close()
        except BaseException as error:  # raised again where somebody sees it
            hand_over(error)
        else:
            hand_over(None)

    loop.run_in_executor(None, contextvars.copy_context().run, work)
    try:
        while (item := await arrived.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item[0]
    finally:
        stopped.set()
