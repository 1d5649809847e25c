"""Store: what a memory takes on disk, and how long fetching some of many takes, over a dictionary and over files."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measures import common, metrics, timing

if TYPE_CHECKING:
    import torch

    from ragcompress import Memory, MemoryStore

SPACE = "benchmark@1"


@dataclass(frozen=True, slots=True)
class Options:
    """What varies between experiments.

    Attributes:
        documents: how many the stores hold when times are taken.
        slots: vectors of a document when times are taken.
        sizes: vectors of a document for which the size on disk is measured.
        width: of a vector.
        keys: how many are fetched in one call.
        put: how many documents are put in one call.
        sized: how many documents are put to measure sizes.
        calls: different calls that are timed for each number of keys.
        rounds: repetitions of everything.
        threads: of torch; None: its own choice.
        seed: of the vectors, the choice of keys and the bootstrap.
    """

    documents: int = 10_000
    slots: int = 8
    sizes: tuple[int, ...] = (8, 16)
    width: int = 4096
    keys: tuple[int, ...] = (1, 10, 100)
    put: int = 100
    sized: int = 1000
    calls: int = 20
    rounds: int = 7
    threads: int | None = None
    seed: int = 0


def run(options: Options) -> dict[str, Any]:
    """Measure.

    Args:
        options: of the experiment.

    Returns:
        Results with ``targets``, of which there are none.

    Raises:
        MissingError: lancedb is not installed.
    """
    import torch

    from ragcompress import InMemoryStore, LanceDBStore, MissingExtraError

    threads = common.set_threads(options.threads)
    torch.manual_seed(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            stores: dict[str, MemoryStore] = {
                "memory": InMemoryStore(max_bytes=None),
                "lancedb": LanceDBStore(folder / "plain"),
                "lancedb, compacted": LanceDBStore(folder / "compacted"),
                "lancedb, int8": LanceDBStore(folder / "int8", dtype="int8"),
            }
        except MissingExtraError as error:
            raise common.MissingError(str(error)) from error
        files = Files(folder / "files")
        put_seconds = dict.fromkeys([*stores, "safetensors files"], 0.0)
        for begin in range(0, options.documents, options.put):
            part = _memories(range(begin, min(begin + options.put, options.documents)), options.slots, options.width)
            for label, put in [
                *((label, store.put) for label, store in stores.items()),
                ("safetensors files", files.put),
            ]:
                started = time.perf_counter()
                put(part)
                put_seconds[label] += time.perf_counter() - started
        stores["lancedb, compacted"].compact(keep_seconds=0)  # type: ignore[attr-defined]
        source = random.Random(options.seed)
        times = {
            str(n_keys): _times(stores, files, n_keys, options, source)
            for n_keys in options.keys
            if n_keys <= options.documents
        }
        return {
            "threads": threads,
            "bytes_per_document": {
                f"{slots} x {options.width}": _sizes(folder / str(slots), slots, options) for slots in options.sizes
            },
            "put_milliseconds_per_document": {
                label: 1000 * seconds / options.documents for label, seconds in put_seconds.items()
            },
            "get": times,
            "int8_relative_error": _int8_error(options),
            "targets": [],
        }


class Files:
    """The simplest thing that could be done instead: one safetensors file a document."""

    def __init__(self, folder: Path) -> None:
        """Begin empty.

        Args:
            folder: made if it is missing.
        """
        folder.mkdir(parents=True)
        self.folder = folder

    def put(self, memories: dict[str, Memory]) -> None:
        """Write files.

        Args:
            memories: by key.
        """
        from safetensors.torch import save_file

        for key, memory in memories.items():
            save_file({"vectors": memory.vectors}, self.folder / f"{key}.safetensors")

    def get(self, keys: Sequence[str]) -> list[torch.Tensor]:
        """Read files.

        Args:
            keys: what to read.

        Returns:
            The vectors of each.
        """
        from safetensors.torch import load_file

        return [load_file(self.folder / f"{key}.safetensors")["vectors"] for key in keys]


def _memories(numbers: range, slots: int, width: int) -> dict[str, Memory]:
    import torch

    from ragcompress import Document, Memory
    from ragcompress.memories import memory_key

    return {
        memory_key(Document(f"document {number}"), {}): Memory(
            torch.randn(slots, width, dtype=torch.bfloat16), 128, SPACE, ((0, 600),) * slots
        )
        for number in numbers
    }


def _times(
    stores: dict[str, MemoryStore], files: Files, n_keys: int, options: Options, source: random.Random
) -> dict[str, Any]:
    import torch

    keys = list(_memories(range(options.documents), 0, 0))
    calls = [source.sample(keys, n_keys) for _ in range(options.calls)]

    def fetching(store: MemoryStore) -> Callable[[list[str]], Callable[[], object]]:
        return lambda wanted: lambda: store.get(wanted, space=SPACE)

    for wanted in calls:
        expected = stores["memory"].get(wanted, space=SPACE)
        assert stores["lancedb"].get(wanted, space=SPACE) == expected
        assert all(
            each is not None and torch.equal(each.vectors, read)
            for each, read in zip(expected, files.get(wanted), strict=True)
        )
    contestants = {label: fetching(store) for label, store in stores.items()}
    contestants["safetensors files"] = lambda wanted: lambda: files.get(wanted)
    seconds = timing.take_turns(contestants, calls, rounds=options.rounds)
    return {
        "milliseconds": {label: timing.milliseconds(each) for label, each in seconds.items()},
        "over_safetensors_files": {
            label: metrics.speed_ratio(each, seconds["safetensors files"], seed=options.seed)
            for label, each in seconds.items()
            if label.startswith("lancedb")
        },
    }


def _sizes(folder: Path, slots: int, options: Options) -> dict[str, float]:
    from ragcompress import LanceDBStore

    sizes: dict[str, float] = {"vectors in bfloat16": slots * options.width * 2}
    for label, dtype in (("lancedb, bfloat16", None), ("lancedb, int8", "int8")):
        store = LanceDBStore(folder / label, dtype=dtype)
        for begin in range(0, options.sized, options.put):
            numbers = range(begin, min(begin + options.put, options.sized))
            store.put(_memories(numbers, slots, options.width))
        store.compact(keep_seconds=0)
        sizes[label] = store.n_bytes / options.sized
    return sizes


def _int8_error(options: Options) -> dict[str, float]:
    import torch

    from ragcompress.stores.rows import dequantise, quantise

    vectors = torch.randn(1000, options.width, dtype=torch.bfloat16)
    back = dequantise(*quantise(vectors), torch.bfloat16)
    error = (back - vectors).double().norm(dim=1) / vectors.double().norm(dim=1)
    return {"mean": float(error.mean()), "largest of 1000 vectors": float(error.max())}
