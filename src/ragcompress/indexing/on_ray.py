"""The Ray engine: portions go through Ray Data to an actor for each device, which encodes them and writes them itself.

The portions are those of the local engine, so that what is written is the same, bit for bit, where the number of
threads does not change sums. A portion is written in one go and under keys of its content: one that is done twice,
because its worker was killed, is there once.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragcompress import errors
from ragcompress.compressor import LoadSpec, OfflineCompressor
from ragcompress.errors import MissingExtraError, OptionError, RagCompressError, SpaceMismatchError
from ragcompress.indexing.encoding import Done, encode_window, write_window
from ragcompress.indexing.summary import Reject
from ragcompress.indexing.targets import Target
from ragcompress.indexing.windows import Record, Window
from ragcompress.types import Document

if TYPE_CHECKING:
    import pyarrow as pa

_CORES_PER_WORKER = 2
_SECONDS_TO_CONNECT = 10.0


def run(
    compressor: OfflineCompressor,
    target: Target,
    todo: Iterator[Window],
    *,
    workers: int | None = None,
    address: str | None = None,
) -> Iterator[tuple[Window, Done]]:
    """Do what is to be done.

    All is read before the first portion is encoded; what waits is kept by Ray, on disk if it has to be.

    Args:
        compressor: workers load it as this one was loaded, or get a copy if it was built by hand.
        target: must be seen by other processes.
        todo: portions.
        workers: how many; None: one for each GPU, or for every two processor cores.
        address: of a cluster; None: one on this machine, which ends with the run.

    Yields:
        Each portion, when it is written.

    Raises:
        MissingExtraError: ray is not installed.
        OptionError: the store ends with this process, or there is no such cluster.
        RagCompressError: what a worker raised.
    """
    ray = require_ray()
    if not target.lasting:
        raise OptionError(
            f"the {target.words} ends with this process; workers of Ray are processes of their own.",
            hint="Name a folder or an address: lancedb://FOLDER",
        )
    with _cluster(ray, address):
        pending: list[Window] = []
        references = []
        for window in todo:
            if window.todo:
                references.append(ray.put(_written(len(pending), window)))
            pending.append(window)
        yield from _without_work(target, pending)
        if references:
            yield from _encoded(ray, compressor, target, pending, references, workers)


def require_ray() -> Any:  # noqa: ANN401 (a module)
    """Import ray.

    Returns:
        The module, with ``ray.data``.

    Raises:
        MissingExtraError: it is not installed.
    """
    # Its bars would be drawn over ours; what its processes say is in its own log files, and errors come back to us.
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtraError(
            f"engine='ray' needs ray[data], which cannot be imported ({error}).",
            hint="pip install 'ragcompress[distributed]', or use engine='local'.",
        ) from error
    return ray


@contextmanager
def _cluster(ray: Any, address: str | None) -> Iterator[None]:  # noqa: ANN401 (a module)
    """Use the cluster that there is, or start one and end it."""
    if ray.is_initialized():
        if address is not None:
            raise OptionError(f"ray_address={address!r} was given, but this process is in a Ray cluster already.")
        yield
        return
    _check_address(address)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        with warnings.catch_warnings():
            # Lancedb warns of every fork; these start other programs at once and use nothing of it.
            warnings.filterwarnings("ignore", message=".*fork.*", category=RuntimeWarning)
            if address is None:
                ray.init(address="local", include_dashboard=False, **options)
            else:
                ray.init(address=address, **options)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise OptionError(
            f"no Ray cluster could be {'started' if address is None else f'joined at {address!r}'}: "
            f"{str(error).strip().splitlines()[0]}",
            hint="ray status shows whether one runs; without --ray-address a local one is started.",
        ) from error
    try:
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        yield
    finally:
        ray.shutdown()


def _check_address(address: str | None) -> None:
    """Refuse where nobody listens: Ray itself would try for minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=_SECONDS_TO_CONNECT).close()
    except OSError as error:
        raise OptionError(
            f"no Ray cluster could be joined at {address!r}: {error.strerror or error}.",
            hint="ray status shows whether one runs; without --ray-address a local one is started.",
        ) from error


def _without_work(target: Target, pending: list[Window]) -> Iterator[tuple[Window, Done]]:
    for window in pending:
        if not window.todo:
            yield window, write_window(target, {}, window)


def _encoded(
    ray: Any,  # noqa: ANN401 (a module)
    compressor: OfflineCompressor,
    target: Target,
    pending: list[Window],
    references: list[Any],
    workers: int | None,
) -> Iterator[tuple[Window, Done]]:
    found = ray.cluster_resources()
    on_gpu = found.get("GPU", 0) >= 1 and _device(compressor) in (None, "cuda")
    if workers is None:
        workers = int(found["GPU"]) if on_gpu else max(1, int(found.get("CPU", 1)) // _CORES_PER_WORKER)
    workers = min(workers, len(references))
    resources = {"num_gpus": 1} if on_gpu else {"num_cpus": max(1, int(found.get("CPU", 1)) // workers)}
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    dataset = ray.data.from_arrow_refs(references).map_batches(
        Worker,
        batch_size=1,
        batch_format="pyarrow",
        fn_constructor_args=(recipe(compressor), compressor.memory_space, dict(compressor.memory_settings), target),
        compute=ray.data.ActorPoolStrategy(size=workers),
        **resources,
    )
    for row in dataset.iter_rows():
        window = pending[row["window"]]
        done = _read_back(json.loads(row["result"]))
        # The worker knows of what was to be encoded alone.
        old = write_window(target, {}, window)
        yield window, replace(done, n_updated=old.n_updated, rejects=[*done.rejects, *old.rejects])


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


class Worker:
    """An actor: one compressor on one device."""

    def __init__(
        self,
        how: LoadSpec | OfflineCompressor,
        space: str,
        settings: Mapping[str, object],
        target: Target,
    ) -> None:
        """Load the compressor.

        Args:
            how: of ``recipe``.
            space: that it must have.
            settings: that it must have.
            target: to be written to.
        """
        self._error: RagCompressError | None = None
        try:
            self._compressor = _made(how)
        except RagCompressError as error:  # told with the first portion: Ray would start the actor over and over
            self._error = error
            return
        self._target = target
        own = self._compressor.memory_space, dict(self._compressor.memory_settings)
        if own != (space, dict(settings)):
            self._error = SpaceMismatchError(
                f"a worker loaded {own[0]!r} with {own[1]}; this process has {space!r} with {dict(settings)}.",
                hint="Name a checkpoint, dtype and revision that are the same on every machine.",
            )

    def __call__(self, table: pa.Table) -> dict[str, list[Any]]:
        """Encode and write one portion.

        Args:
            table: one row, of ``_written``.

        Returns:
            One row: number of the portion, and what became of it as JSON.
        """
        (row,) = table.to_pylist()
        return {"window": [row["window"]], "result": [json.dumps(self._result(row["records"]))]}

    def _result(self, records: str) -> dict[str, Any]:
        try:
            if self._error is not None:
                raise self._error
            todo = {key: Record(Document(*about), place) for key, place, about in json.loads(records)}
            entries, rejects = encode_window(self._compressor, todo)
            done = write_window(self._target, entries, Window(todo=todo), rejects)
        except RagCompressError as error:
            return {"error": type(error).__name__, "message": str(error)}
        return asdict(done)


def _made(how: LoadSpec | OfflineCompressor) -> OfflineCompressor:
    if isinstance(how, OfflineCompressor):
        return how
    from ragcompress.registry import load

    compressor = load(how.backend, how.checkpoint, **how.options)
    assert isinstance(compressor, OfflineCompressor)  # it was one where it was loaded first
    return compressor


def _written(number: int, window: Window) -> pa.Table:
    """A portion as one row; JSON, since it takes lone surrogates."""
    import pyarrow as pa

    records = [
        (key, record.place, (document.text, document.id, document.title, dict(document.metadata)))
        for key, record in window.todo.items()
        for document in (record.document,)
    ]
    return pa.table({"window": [number], "records": [json.dumps(records)]})


def _read_back(result: dict[str, Any]) -> Done:
    if "error" in result:
        kind: Callable[[str], RagCompressError] = getattr(errors, result["error"], RagCompressError)
        raise kind(result["message"])
    rejects = [Reject(**each) for each in result["rejects"]]
    return Done(**{**result, "rejects": rejects})


def _device(compressor: OfflineCompressor) -> str | None:
    """The kind of device that was asked for; None: the best there is."""
    given = compressor.spec.options.get("device") if compressor.spec is not None else None
    return None if given is None else str(given).partition(":")[0]


def _absolute(checkpoint: str) -> str:
    """A worker may run in another folder."""
    path = Path(checkpoint).expanduser()
    return str(path.absolute()) if path.exists() else checkpoint
