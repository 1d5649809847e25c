"""The local engine: one process that reads ahead, encodes, and writes behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, Full, Queue
from typing import TypeVar

from ragcompress.compressor import OfflineCompressor
from ragcompress.indexing.encoding import Done, encode_window, write_window
from ragcompress.indexing.targets import Target
from ragcompress.indexing.windows import Window

ItemT = TypeVar("ItemT")
_WINDOWS_AHEAD = 2
_POLL_SECONDS = 0.2


def run(compressor: OfflineCompressor, target: Target, todo: Iterator[Window]) -> Iterator[tuple[Window, Done]]:
    """Do what is to be done.

    Args:
        compressor: encodes, in the calling thread.
        target: is written to in a thread of its own, one portion at a time.
        todo: portions; read in a thread of its own.

    Yields:
        Each portion, when it is written.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="ragcompress-write") as writer:
        behind: tuple[Window, Future[Done]] | None = None
        for window in ahead(todo, _WINDOWS_AHEAD):
            entries, rejects = encode_window(compressor, window.todo)
            if behind is not None:
                yield behind[0], behind[1].result()
            behind = (window, writer.submit(write_window, target, entries, window, rejects))
        if behind is not None:
            yield behind[0], behind[1].result()


def ahead(items: Iterator[ItemT], n_items: int) -> Iterator[ItemT]:
    """Take items from an iterator in a thread, before they are asked for.

    Args:
        items: only that thread uses it from now on.
        n_items: how many wait at most.

    Yields:
        The items, in order; what the iterator raises is raised here.
    """
    waiting: Queue[tuple[ItemT | None, BaseException | None]] = Queue(n_items)
    stop = threading.Event()

    def put(entry: tuple[ItemT | None, BaseException | None]) -> bool:
        while not stop.is_set():
            try:
                waiting.put(entry, timeout=_POLL_SECONDS)
            except Full:
                continue
            return True
        return False

    def read() -> None:
        try:
            for item in items:
                if not put((item, None)):
                    return
        except BaseException as error:  # whatever it is, it belongs to whoever asks for the next item
            put((None, error))
        else:
            put((None, None))

    # A daemon: a source that never ends, a pipe, must not keep the process from ending.
    threading.Thread(target=read, name="ragcompress-read", daemon=True).start()
    try:
        while True:
            try:
                # With a time limit, so that an interrupt from the keyboard is noticed.
                item, error = waiting.get(timeout=_POLL_SECONDS)
            except Empty:
                continue
            if error is not None:
                raise error
            if item is None:
                return
            yield item
    finally:
        stop.set()
