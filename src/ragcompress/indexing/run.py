"""The function behind ``ragcompress index``."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ragcompress.compressor import OfflineCompressor
from ragcompress.errors import InputError, InputTypeError, OptionError
from ragcompress.indexing import local
from ragcompress.indexing.encoding import Done
from ragcompress.indexing.rejects import RejectsFile
from ragcompress.indexing.sources import Sources
from ragcompress.indexing.summary import IndexSummary, Reject
from ragcompress.indexing.targets import Target, open_target
from ragcompress.indexing.windows import HOPELESS_RECORDS, Readable, Record, Window, check_documents, windows
from ragcompress.memories import MemoryStore
from ragcompress.options import check_choice, check_range

if TYPE_CHECKING:
    from ragcompress.stores.index import MemoryIndex

logger = logging.getLogger("ragcompress")

ENGINES = ("local", "ray")
_REJECTS_REMEMBERED = 100
# If all of so many documents were encoded in vain, something is wrong with the model. Encoding takes its time.
_FAILURES_TO_GIVE_UP = 100


def index(
    compressor: OfflineCompressor,
    documents: Iterable[Readable],
    store: MemoryStore | MemoryIndex | str | Path,
    *,
    engine: str = "local",
    workers: int | None = None,
    ray_address: str | None = None,
    dtype: str | None = None,
    rejects: str | Path | None = None,
    progress: Callable[[IndexSummary], object] | None = None,
) -> IndexSummary:
    """Encode documents ahead of time and keep their memories.

    A second run does only what is missing; a run that was killed has lost at most its last two portions of 256
    documents. Documents of equal text and title are encoded once. What cannot be used is left out, with the reason,
    and the run goes on.

    Args:
        compressor: of a backend that encodes documents ahead of time.
        documents: any iterable of documents or strings, which is read only once and not kept; or files:
            ``ragcompress.indexing.sources.Sources``.
        store: an address (``"lancedb://FOLDER"``, a folder, ``"s3://..."``), a store or an index. An address becomes a
            ``MemoryIndex`` where the compressor can search, and else a ``LanceDBStore``.
        engine: ``"local"``: this process; ``"ray"``: processes of a Ray cluster, an actor for each device.
        workers: of Ray; None: one for each GPU, or for every two processor cores.
        ray_address: of a Ray cluster; None: one is started here.
        dtype: what vectors are stored in, e.g. ``"int8"``; None: as the index was made, else as they come.
        rejects: a file of JSON Lines for what was left out, made if something was; that of an earlier run is removed.
        progress: called with the summary so far after each portion.

    Returns:
        The summary.

    Raises:
        InputTypeError: something other than documents came.
        InputError: the store cannot be read or written; none of the first ten thousand records can be read, or none of
            the first hundred documents can be encoded and kept.
        OptionError: an option has an impossible value.
        SpaceMismatchError: the index was built by another checkpoint, at another rate or in another number format.
        MissingExtraError: lancedb or ray is not installed.
    """
    check_choice("engine", engine, ENGINES)
    check_range("workers", workers, at_least=1, whole=True)
    if not isinstance(compressor, OfflineCompressor):
        raise InputTypeError(
            f"{type(compressor).__name__} is no OfflineCompressor: nothing can be computed before the question is "
            "known.",
            hint="These can: recomp-extractive, pisco, clara.",
        )
    check_documents(documents)
    if engine == "local" and (workers or 1) > 1:
        raise OptionError(
            f"workers={workers} needs engine='ray'; the local engine is one process, which uses all cores.",
            hint="pip install 'ragcompress[distributed]'",
        )
    if engine == "local" and ray_address is not None:
        raise OptionError("ray_address needs engine='ray'.")
    if rejects is not None and isinstance(documents, Sources):
        documents.check_not_read(rejects)
    file = RejectsFile(Path(rejects)) if rejects is not None else None
    target = open_target(compressor, store, dtype)
    begin = time.perf_counter()
    summary = IndexSummary(target.words)
    todo = windows(documents, compressor, target)
    n_failed = 0
    if file is not None:
        file.begin()
    try:
        for window, done in _done(engine, compressor, target, todo, workers, ray_address):
            n_failed += len(done.rejects)
            left_out = [*window.rejects, *done.rejects]
            if file is not None:
                file.write(left_out)
            summary = replace(_added(summary, window, done, left_out), seconds=time.perf_counter() - begin)
            if progress is not None:
                progress(summary)
            _check_hopeless(summary, n_failed)
    finally:
        if file is not None:
            file.close()
    for each in summary.rejected if file is None else ():
        logger.warning("left out: %s: %s", each.place, each.reason)
    return replace(summary, seconds=time.perf_counter() - begin)


def _done(
    engine: str,
    compressor: OfflineCompressor,
    target: Target,
    todo: Iterator[Window],
    workers: int | None,
    ray_address: str | None,
) -> Iterator[tuple[Window, Done]]:
    missing: list[Record] = []
    for window, done in _run(engine, compressor, target, todo, workers, ray_address):
        missing += done.missing
        yield window, done
    if missing:
        again = windows((replace(record, n_bytes=0) for record in missing), compressor, target)
        yield from _done("local", compressor, target, again, None, None)


def _run(
    engine: str,
    compressor: OfflineCompressor,
    target: Target,
    todo: Iterator[Window],
    workers: int | None,
    ray_address: str | None,
) -> Iterator[tuple[Window, Done]]:
    if engine == "local":
        return local.run(compressor, target, todo)
    from ragcompress.indexing.on_ray import run as run_on_ray

    return run_on_ray(compressor, target, todo, workers=workers, address=ray_address)


def _added(summary: IndexSummary, window: Window, done: Done, left_out: list[Reject]) -> IndexSummary:
    room = _REJECTS_REMEMBERED - len(summary.rejected)
    return replace(
        summary,
        # What is missing is read once more.
        n_documents=summary.n_documents + window.n_documents - len(done.rejects) - len(done.missing),
        n_added=summary.n_added + done.n_added,
        n_updated=summary.n_updated + done.n_updated,
        n_present=summary.n_present + window.n_present,
        n_duplicates=summary.n_duplicates + window.n_duplicates,
        n_rejected=summary.n_rejected + len(left_out),
        n_tokens=summary.n_tokens + done.n_tokens,
        n_slots=summary.n_slots + done.n_slots,
        n_bytes_read=summary.n_bytes_read + window.n_bytes,
        rejected=(*summary.rejected, *left_out[:room]),
        n_truncated=summary.n_truncated + done.n_truncated,
    )


def _check_hopeless(summary: IndexSummary, n_failed: int) -> None:
    used = summary.n_added + summary.n_present + summary.n_updated + summary.n_duplicates
    if not used and (n_failed >= _FAILURES_TO_GIVE_UP or summary.n_rejected >= HOPELESS_RECORDS):
        last = summary.rejected[-1]
        raise InputError(
            f"none of the first {summary.n_rejected:,} records can be used, e.g. {last.place}: {last.reason}",
            hint="Nothing was written; see what the records look like (--text-field names the field of the text).",
        )
