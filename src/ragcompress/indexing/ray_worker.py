"""The worker of the Ray engine, and what goes to it and comes back: pickles, made and read by our own processes."""

from __future__ import annotations

import errno
import pickle
import socket
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragcompress import errors
from ragcompress.compressor import LoadSpec, OfflineCompressor
from ragcompress.errors import OptionError, RagCompressError, SpaceMismatchError
from ragcompress.indexing.encoding import Done, encode_window, write_window
from ragcompress.indexing.targets import Target
from ragcompress.indexing.windows import Record, Window

if TYPE_CHECKING:
    import pyarrow as pa

Dumps = Callable[[object], bytes]


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker is told when it starts.

    Attributes:
        how: of ``recipe``.
        space: that its compressor must have.
        settings: that its compressor must have.
        target: to be written to.
    """

    how: LoadSpec | OfflineCompressor
    space: str
    settings: Mapping[str, object]
    target: Target


@dataclass(frozen=True, slots=True)
class Failure:
    """An error of a worker; errors themselves may not survive the way.

    Attributes:
        kind: class of ``ragcompress.errors``.
        message: its text.
        trace: where it came from, if it is not one of ours.
    """

    kind: str
    message: str
    trace: str = ""


def recipe(compressor: OfflineCompressor) -> LoadSpec | OfflineCompressor:
    """How a worker gets a compressor.

    Args:
        compressor: of this process.

    Returns:
        How it was loaded, with an absolute path; or a copy without its store, if it was built by hand.
    """
    if compressor.spec is None:
        import copy

        bare = copy.copy(compressor)
        bare.store = None
        return bare
    spec = compressor.spec
    options = {name: value for name, value in spec.options.items() if name != "store"}
    for name in ("base", "compressor_base"):
        if name in options:
            options[name] = _absolute(str(options[name]))
    if str(options.get("device", "")).startswith("cuda"):
        options["device"] = "cuda"  # Ray shows each worker its own
    return LoadSpec(spec.backend, None if spec.checkpoint is None else _absolute(spec.checkpoint), options)


def packed_job(compressor: OfflineCompressor, target: Target, dumps: Dumps) -> bytes:
    """Write down what a worker is told. As bytes: Ray would start anew for ever an actor that cannot read it.

    Args:
        compressor: of this process.
        target: to be written to.
        dumps: pickles.

    Returns:
        A pickle of a ``Job``.

    Raises:
        OptionError: there is something in it that no other process can get.
    """
    job = Job(recipe(compressor), compressor.memory_space, dict(compressor.memory_settings), target)
    try:
        return dumps(job)
    except Exception as error:
        raise OptionError(
            f"{type(compressor).__name__} cannot be handed to workers: {_words(error)}.",
            hint="Make it with ragcompress.load, so that each worker loads its own; or use engine='local'.",
        ) from error


def packed_records(todo: dict[str, Record], dumps: Dumps) -> tuple[bytes | None, dict[str, Record]]:
    """Write down what a worker is to do.

    Args:
        todo: documents by key.
        dumps: pickles.

    Returns:
        A pickle of all that can be pickled, None if that is nothing; and the others.
    """
    try:
        return (dumps(todo) if todo else None), {}
    except Exception:  # metadata is anything at all, and so is what it raises
        kept = {key: record for key, record in todo.items() if not _can_travel(record, dumps)}
    sent = {key: record for key, record in todo.items() if key not in kept}
    return (dumps(sent) if sent else None), kept


def _can_travel(record: Record, dumps: Dumps) -> bool:
    try:
        dumps(record)
    except Exception:
        return False
    return True


def read_back(packed: bytes) -> Done:
    """Read what a worker has done.

    Args:
        packed: of ``Worker``.

    Returns:
        What became of the portion.

    Raises:
        RagCompressError: what the worker raised.
    """
    result: Done | Failure = pickle.loads(packed)  # noqa: S301 (of our own worker)
    if isinstance(result, Done):
        return result
    kind: Callable[[str], RagCompressError] = getattr(errors, result.kind, RagCompressError)
    error = kind(result.message)
    if result.trace:
        error.add_note(result.trace)
    raise error


class Worker:
    """An actor: one compressor on one device."""

    def __init__(self, job: bytes) -> None:
        """Load the compressor.

        Args:
            job: of ``packed_job``.
        """
        self._failure: Failure | None = None
        try:
            self._compressor, self._target = _begun(pickle.loads(job))  # noqa: S301 (of our own driver)
        except Exception as error:  # told with the first portion: Ray would start the actor over and over
            self._failure = _failure(error, "begin")

    def __call__(self, table: pa.Table) -> dict[str, list[Any]]:
        """Encode and write one portion.

        Args:
            table: one row: number of the portion, and documents as of ``packed_records``.

        Returns:
            One row: number of the portion, and a pickle of what became of it.
        """
        (row,) = table.to_pylist()
        return {"window": [row["window"]], "result": [pickle.dumps(self._result(row["records"]))]}

    def _result(self, records: bytes) -> Done | Failure:
        if self._failure is not None:
            return self._failure
        try:
            todo: dict[str, Record] = pickle.loads(records)  # noqa: S301 (of our own driver)
            entries, rejects = encode_window(self._compressor, todo)
            return write_window(self._target, entries, Window(todo=todo), rejects)
        except Exception as error:
            return _failure(error, "encode and write a portion")


def _begun(job: Job) -> tuple[OfflineCompressor, Target]:
    compressor = _made(job.how)
    own = compressor.memory_space, dict(compressor.memory_settings)
    if own != (job.space, dict(job.settings)):
        raise SpaceMismatchError(
            f"a worker loaded {own[0]!r} with {own[1]}; this process has {job.space!r} with {dict(job.settings)}.",
            hint="Name a checkpoint, dtype and revision that are the same on every machine.",
        )
    return compressor, job.target


def _made(how: LoadSpec | OfflineCompressor) -> OfflineCompressor:
    if isinstance(how, OfflineCompressor):
        return how
    from ragcompress.registry import load

    compressor = load(how.backend, how.checkpoint, **how.options)
    assert isinstance(compressor, OfflineCompressor)  # it was one where it was loaded first
    return compressor


def _failure(error: Exception, doing: str) -> Failure:
    if isinstance(error, RagCompressError):
        return Failure(type(error).__name__, str(error))
    made = RagCompressError(
        f"a worker on {socket.gethostname()} could not {doing}: {_words(error)}.",
        hint=f"{_remedy(error)} What was written is kept, and the next run goes on.",
    )
    return Failure("RagCompressError", str(made), "".join(traceback.format_exception(error)))


def _remedy(error: Exception) -> str:
    # By name: torch is not imported for it.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return (
            "Its memory is full: name fewer workers or a smaller batch_tokens (--batch-tokens); this process keeps "
            "a model, too."
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "Its disk is full: make room there."
    return "See whether engine='local' can do it."


def _words(error: Exception) -> str:
    first = (str(error).strip().splitlines() or [""])[0].rstrip(".")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _absolute(checkpoint: str) -> str:
    """A worker may run in another folder."""
    path = Path(checkpoint).expanduser()
    return str(path.absolute()) if path.exists() else checkpoint
