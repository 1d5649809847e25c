"""Memory: the peak of a fresh process that compresses more and more queries in one call; results are thrown away.

The questions repeat when there are not enough, so that the inputs themselves do not grow.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from measures import common

MIB = 1024**2


@dataclass(frozen=True, slots=True)
class Options:
    """What varies between experiments.

    Attributes:
        dataset: name of the data file without ``.jsonl``.
        queries: how many in one call of ``compress_batch``, ascending; a process for each. Begin with more documents
            than are encoded at once (512).
        stored_queries: the same for the processes with a store, which take less time a query.
        distinct: how many different questions there are; the first number of queries must not be below it.
        passages: of each question.
        rounds: processes for each number of queries; the median counts.
        threads: of torch; None: its own choice.
    """

    dataset: str
    queries: tuple[int, ...] = (128, 512)
    stored_queries: tuple[int, ...] = (128, 2048)
    distinct: int = 64
    passages: int = 5
    rounds: int = 5
    threads: int | None = None


def run(options: Options) -> dict[str, Any]:
    """Measure.

    Args:
        options: of the experiment.

    Returns:
        Results with ``targets``.
    """
    common.data_file(options.dataset)
    results: dict[str, Any] = {}
    targets = []
    for stored, queries in ((False, options.queries), (True, options.stored_queries)):
        peaks: dict[str, list[float]] = {str(number): [] for number in queries}
        before = 0.0
        for _ in range(options.rounds):
            for number in queries:
                measured = _fresh(options, number, stored=stored)
                before = measured["before_mib"]
                peaks[str(number)].append(measured["peak_mib"])
        medians = {number: sorted(each)[len(each) // 2] for number, each in peaks.items()}
        least, most = medians[str(queries[0])], medians[str(queries[-1])]
        results["store" if stored else "no_store"] = {
            "before_mib": before,
            "peak_mib": medians,
            "all_peaks_mib": peaks,
            "growth_mib": most - least,
            "growth_kib_per_query": (most - least) * 1024 / (queries[-1] - queries[0]),
            "growth": most / least,
        }
        name = (
            f"peak memory at {queries[-1]} queries in one call, over {queries[0]} ({'with' if stored else 'no'} store)"
        )
        targets.append(common.target(name, most / least, 1.05, "x"))
    return results | {"targets": targets}


def _fresh(options: Options, number: int, *, stored: bool) -> dict[str, float]:
    settings = {
        "dataset": options.dataset, "number": number, "distinct": options.distinct, "passages": options.passages,
        "threads": options.threads, "stored": stored,
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "measures.memory", json.dumps(settings)], cwd=common.HERE, capture_output=True,
        text=True, check=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )  # fmt: skip
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def peak_mib() -> float:
    """The most memory that this process has held so far.

    Returns:
        MiB.
    """
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / MIB if sys.platform == "darwin" else peak / 1024


def main(settings: dict[str, Any]) -> None:
    """Compress in this process and print the peak.

    Args:
        settings: see ``_fresh``.
    """
    from ragcompress import InMemoryStore
    from ragcompress.backends.recomp_extractive import RecompExtractive

    common.set_threads(settings["threads"])
    questions = common.read_questions(settings["dataset"], settings["distinct"])
    compressor = RecompExtractive(common.load_encoder(), store=InMemoryStore() if settings["stored"] else None)
    texts = [question.text for question in questions]
    documents = [question.documents()[: settings["passages"]] for question in questions]
    compressor.compress(texts[0], documents[0])
    before = peak_mib()
    number = settings["number"]
    repeats = -(-number // len(texts))
    compressor.compress_batch((texts * repeats)[:number], (documents * repeats)[:number])
    print(json.dumps({"before_mib": before, "peak_mib": peak_mib()}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
