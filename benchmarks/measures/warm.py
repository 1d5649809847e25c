"""Warm: the store is filled; a whole ``compress``, over encoding the query alone with the same encoder."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from measures import common, metrics, timing


@dataclass(frozen=True, slots=True)
class Options:
    """What varies between experiments.

    Attributes:
        dataset: name of the data file without ``.jsonl``.
        questions: how many of it.
        rounds: repetitions of everything.
        threads: of torch; None: its own choice.
        seed: of the bootstrap.
    """

    dataset: str
    questions: int = 100
    rounds: int = 11
    threads: int | None = None
    seed: int = 0


def run(options: Options) -> dict[str, Any]:
    """Measure.

    Args:
        options: of the experiment.

    Returns:
        Results with ``targets``.
    """
    from ragcompress import InMemoryStore
    from ragcompress.backends.recomp_extractive import RecompExtractive

    threads = common.set_threads(options.threads)
    questions = common.read_questions(options.dataset, options.questions)
    encoder = common.load_encoder()
    compressor = RecompExtractive(encoder, store=InMemoryStore())
    compressor.remember([document for question in questions for document in question.documents()])

    def compress(question: common.Question) -> Callable[[], object]:
        documents = question.documents()  # new objects: nothing may depend on having seen this very one
        return lambda: compressor.compress(question.text, documents)

    def encode(question: common.Question) -> Callable[[], object]:
        return lambda: encoder.encode([question.text], query=True)

    seconds = timing.take_turns({"compress": compress, "query_alone": encode}, questions, rounds=options.rounds)
    added = [
        statistics.median(whole) / statistics.median(alone)
        for whole, alone in zip(seconds["compress"], seconds["query_alone"], strict=True)
    ]
    value = statistics.median(added)
    return {
        "threads": threads,
        "questions": len(questions),
        "milliseconds": {name: timing.milliseconds(each) for name, each in seconds.items()},
        "median_over_query_alone": value,
        "over_query_alone": metrics.speed_ratio(seconds["compress"], seconds["query_alone"], seed=options.seed),
        "targets": [common.target("warm query, over encoding the query alone (median)", value, 1.5, "x")],
    }
