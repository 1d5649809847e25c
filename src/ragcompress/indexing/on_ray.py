"""The Ray engine: portions go through Ray Data to an actor for each device, which encodes them and writes them itself.

The portions are those of the local engine, so that what is written is the same, bit for bit, where the number of
threads does not change sums. A portion is written in one go and under keys of its content: one that is done twice,
because its worker was killed, is there once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields
from typing import Any, NamedTuple

from ragcompress.compressor import OfflineCompressor
from ragcompress.errors import MissingExtraError, OptionError
from ragcompress.indexing.encoding import Done, encode_window, write_window
from ragcompress.indexing.ray_cluster import Devices, cluster
from ragcompress.indexing.ray_worker import Worker, packed_job, packed_records, read_back
from ragcompress.indexing.targets import Target
from ragcompress.indexing.windows import Record, Window

# Of one worker. Ray would start for ever what is killed each time, because a machine has no memory for its model.
_MAX_RESTARTS = 10


class Portion(NamedTuple):
    """One that was read.

    Attributes:
        window: without its documents: there may be more of them than this process can keep.
        here: what this process did of it.
        sent: whether a worker does the rest.
    """

    window: Window
    here: Done
    sent: bool


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
        compressor: workers load it as this one was loaded, or get a copy if it was built by hand. It stays where it
            is, so that one GPU holds two models if this process is on a GPU, too.
        target: must be seen by other processes.
        todo: portions; their documents are taken from them.
        workers: how many; None: one for each GPU, or for every two processor cores.
        address: of a cluster; None: one on this machine, which ends with the run.

    Yields:
        Each portion, when it and all before it are written.

    Raises:
        MissingExtraError: ray is not installed.
        OptionError: the store ends with this process, there is no such cluster, or it has fewer devices.
        RagCompressError: what a worker raised, or Ray itself.
    """
    ray = require_ray()
    if not target.lasting:
        raise OptionError(
            f"the {target.words} ends with this process; workers of Ray are processes of their own.",
            hint="Name a folder or an address: lancedb://FOLDER",
        )
    with cluster(ray, address):
        devices = Devices.found(ray.nodes(), gpu=_device(compressor) in (None, "cuda"))
        n_workers = devices.workers(workers)
        job = packed_job(compressor, target, ray.cloudpickle.dumps)
        portions: list[Portion] = []
        references: list[Any] = []
        for window in todo:
            records, kept = packed_records(window.todo, ray.cloudpickle.dumps)
            here = _done_here(compressor, target, kept, window)
            window.todo, window.stale = {}, {}
            if records is not None:
                references.append(ray.put(_row(len(portions), records)))
            portions.append(Portion(window, here, sent=records is not None))
        yield from in_order(portions, _encoded(ray, job, references, devices, n_workers))


def require_ray() -> Any:  # noqa: ANN401 (a module)
    """Import ray.

    Returns:
        The module, with ``ray.data`` and ``ray.cloudpickle``.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import ray
        import ray.cloudpickle
        import ray.data
    except ImportError as error:
        raise MissingExtraError(
            f"engine='ray' needs ray[data], which cannot be imported ({error}).",
            hint="pip install 'ragcompress[distributed]', or use engine='local'.",
        ) from error
    return ray


def _done_here(compressor: OfflineCompressor, target: Target, kept: dict[str, Record], window: Window) -> Done:
    """What workers have nothing to do with: new metadata, and records that hold something no pickle can."""
    entries, rejects = encode_window(compressor, kept)
    return write_window(target, entries, Window(todo=kept, stale=window.stale), rejects)


def _row(number: int, records: bytes) -> Any:  # noqa: ANN401 (pyarrow.Table)
    import pyarrow as pa

    return pa.table({"window": [number], "records": [records]})


def _encoded(
    ray: Any,  # noqa: ANN401 (a module)
    job: bytes,
    references: list[Any],
    devices: Devices,
    n_workers: int,
) -> Iterator[tuple[int, Done]]:
    """Numbers of portions and what became of them, as they are done."""
    if not references:
        return
    n_workers = min(n_workers, len(references))
    waiting = ray.data.from_arrow_refs(references)
    waiting.context.enable_progress_bars = False  # they would be drawn over ours
    waiting.context.max_errored_blocks = 0
    dataset = waiting.map_batches(
        Worker,
        batch_size=1,
        batch_format="pyarrow",
        fn_constructor_args=(job,),
        compute=ray.data.ActorPoolStrategy(size=n_workers),
        # Handed over by name it would be deprecated; this is where Ray Data takes what it has no name of its own for.
        ray_remote_args_fn=_for_an_actor,
        **devices.each(n_workers),
    )
    for row in dataset.iter_rows():
        yield row["window"], read_back(row["result"])


def _for_an_actor() -> dict[str, Any]:
    return {"max_restarts": _MAX_RESTARTS}


def in_order(portions: Iterable[Portion], results: Iterator[tuple[int, Done]]) -> Iterator[tuple[Window, Done]]:
    """Bring results into the order of the sources, in which a run tells whether its first records are of any use.

    Args:
        portions: all of them.
        results: of those that were sent, by number, in any order.

    Yields:
        Each portion and what became of it.
    """
    early: dict[int, Done] = {}
    for number, (window, here, sent) in enumerate(portions):
        while sent and number not in early:
            early.update([next(results)])
        yield window, _together(early.pop(number), here) if sent else here


def _together(one: Done, other: Done) -> Done:
    """Numbers are added, lists are joined."""
    return Done(**{each.name: getattr(one, each.name) + getattr(other, each.name) for each in fields(Done)})


def _device(compressor: OfflineCompressor) -> str | None:
    """The kind of device that was asked for; None: the best there is."""
    given = compressor.spec.options.get("device") if compressor.spec is not None else None
    return None if given is None else str(given).partition(":")[0]
