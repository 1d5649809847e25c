"""Batching: how fast the encoder is by padded batch size and number format, in sentences a second."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from measures import cold, common, timing


@dataclass(frozen=True, slots=True)
class Options:
    """What varies between experiments.

    Attributes:
        dataset: name of the data file without ``.jsonl``.
        questions: how many are encoded together (ingestion); single questions are timed too.
        singles: how many single questions.
        rounds: repetitions of everything.
        batch_tokens: padded batch sizes.
        dtypes: number formats.
        threads: of torch; None: its own choice.
    """

    dataset: str
    questions: int = 12
    singles: int = 12
    rounds: int = 3
    batch_tokens: tuple[int, ...] = (512, 1024, 2048, 4096, 8192, 16384)
    dtypes: tuple[str, ...] = ("float32", "bfloat16")
    threads: int | None = None


def run(options: Options) -> dict[str, Any]:
    """Measure.

    Args:
        options: of the experiment.

    Returns:
        Results without targets.
    """
    threads = common.set_threads(options.threads)
    questions = common.read_questions(options.dataset, max(options.questions, options.singles))
    contestants = {
        f"{dtype} {size}": common.load_encoder(batch_tokens=size, dtype=dtype)
        for dtype in options.dtypes
        for size in options.batch_tokens
    }
    any_encoder = next(iter(contestants.values()))
    single = [texts_of for question in questions if (texts_of := cold.texts_encoded(any_encoder, question))]
    together = [text for texts in single[: options.questions] for text in texts]

    def encode(name: str) -> Callable[[list[str]], Callable[[], object]]:
        return lambda texts: lambda: contestants[name].encode(texts)

    calls = {name: encode(name) for name in contestants}
    many = timing.take_turns(calls, [together], rounds=options.rounds)
    few = timing.take_turns(calls, single[: options.singles], rounds=options.rounds)
    n_few = sum(len(set(texts)) for texts in single[: options.singles])
    return {
        "threads": threads,
        "sentences_per_second": {
            name: {
                "many_documents": len(set(together)) / statistics.median(many[name][0]),
                "one_query": n_few / sum(statistics.median(each) for each in few[name]),
            }
            for name in contestants
        },
        "targets": [],
    }
