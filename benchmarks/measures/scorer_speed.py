"""Speed of scorers: the store is filled; a whole ``compress`` with each, over the same with dot products alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from measures import common, metrics, timing

if TYPE_CHECKING:
    from ragcompress.backends.recomp_extractive import RecompExtractive

MOST = 2.0


@dataclass(frozen=True, slots=True)
class Options:
    """What varies between experiments.

    Attributes:
        datasets: names of data files without ``.jsonl``.
        questions: how many of each.
        rounds: repetitions of everything.
        rankings: name -> options of the compressor; every other one is compared with ``dense``.
        threads: of torch; None: its own choice.
        seed: of the bootstrap.
    """

    datasets: tuple[str, ...]
    questions: int = 100
    rounds: int = 11
    rankings: Mapping[str, Mapping[str, Any]] = field(
        default_factory=lambda: {"dense": {"scorer": "dense"}, "default": {}}
    )
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
    encoder = common.load_encoder()
    results: dict[str, Any] = {}
    targets = []
    for dataset in options.datasets:
        questions = common.read_questions(dataset, options.questions)
        base = RecompExtractive(encoder, store=InMemoryStore(max_bytes=None))
        base.remember([document for question in questions for document in question.documents()])

        seconds = timing.take_turns(
            {name: _contestant(base.with_options(**given)) for name, given in options.rankings.items()},
            questions,
            rounds=options.rounds,
        )
        over = {
            name: metrics.speed_ratio(each, seconds["dense"], seed=options.seed)
            for name, each in seconds.items()
            if name != "dense"
        }
        results[dataset] = {
            "questions": len(questions),
            "milliseconds": {name: timing.milliseconds(each) for name, each in seconds.items()},
            "over_dense": over,
        }
        value = over["default"]["value"]
        assert isinstance(value, float)
        targets.append(common.target(f"warm query of {dataset}, over dot products alone", value, MOST, "x"))
    return {"threads": threads, "datasets": results, "targets": targets}


def _contestant(compressor: RecompExtractive) -> Callable[[common.Question], Callable[[], object]]:
    def prepare(question: common.Question) -> Callable[[], object]:
        documents = question.documents()  # new objects: nothing may depend on having seen this very one
        return lambda: compressor.compress(question.text, documents)

    return prepare
