"""Pipelines: what a pipeline takes beside its stages, and a pipeline over the same compressors chained by hand."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from measures import common, latent_models, metrics, timing

if TYPE_CHECKING:
    from ragcompress import CompressedContext, Compressor, Document, Pipeline


@dataclass(frozen=True, slots=True)
class Options:
    """What varies between experiments.

    Attributes:
        dataset: name of the data file without ``.jsonl``.
        base: of the latent stage; see ``latent_models.base_folder``.
        questions: how many of it.
        top_k: sentences that the first stage keeps.
        max_tokens: of the last stage, where it is a budget.
        rounds: repetitions of everything.
        threads: of torch; None: its own choice.
        seed: of the adapters and the bootstrap.
    """

    dataset: str
    base: str = "smollm2"
    questions: int = 30
    top_k: int = 12
    max_tokens: int = 200
    rounds: int = 7
    threads: int | None = None
    seed: int = 0


class Watch:
    """Adds up the time spent inside the stages of a pipeline, while they do what they always do.

    Attributes:
        seconds: inside stages since it was last set to 0.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        """Put a clock around every stage.

        Args:
            pipeline: whose stages are watched from now on.
        """
        self.seconds = 0.0
        for stage in pipeline.stages:
            name = "refine" if hasattr(stage, "refine") else "compress_batch"
            setattr(stage, name, self._timed(getattr(stage, name)))

    def _timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: object) -> object:
            begin = time.perf_counter()
            try:
                return call(*arguments)
            finally:
                self.seconds += time.perf_counter() - begin

        return timed


def run(options: Options) -> dict[str, Any]:
    """Measure.

    Args:
        options: of the experiment.

    Returns:
        Results with ``targets``.

    Raises:
        MissingError: the data or the base model is not there.
    """
    import ragcompress as rc
    from ragcompress.backends.pisco import Pisco
    from ragcompress.backends.recomp_extractive import RecompExtractive, RecompExtractiveConfig

    threads = common.set_threads(options.threads)
    questions = common.read_questions(options.dataset, options.questions)
    encoder = common.load_encoder()
    config = RecompExtractiveConfig(top_k=options.top_k)
    warm = RecompExtractive(encoder, config, store=rc.InMemoryStore())
    warm.remember([document for question in questions for document in question.documents()])
    latent = Pisco(latent_models.pisco_like(options.base, seed=options.seed))

    def refining() -> list[Compressor]:
        return [rc.Deduplicate(), rc.TokenBudget(options.max_tokens)]

    made: dict[str, Callable[[], Pipeline]] = {
        "ranker, no repetitions, budget": lambda: rc.Pipeline([RecompExtractive(encoder, config), *refining()]),
        "the same, vectors in the store": lambda: rc.Pipeline([warm.with_options(), *refining()]),
        "ranker, memory tokens": lambda: rc.Pipeline([RecompExtractive(encoder, config), latent.with_options()]),
    }
    found = {name: _compared(make, questions, options) for name, make in made.items()}
    return {
        "threads": threads,
        "questions": len(questions),
        "pipelines": found,
        "targets": [
            common.target(f"a pipeline beside its stages: {name}", 100 * each["beside_stages"]["value"], 2.0, "%")
            for name, each in found.items()
        ],
    }


def _compared(make: Callable[[], Pipeline], questions: list[common.Question], options: Options) -> dict[str, Any]:
    plain, watched = make(), make()
    watch = Watch(watched)

    def whole(question: common.Question) -> Callable[[], object]:
        documents = question.documents()
        return lambda: plain.compress(question.text, documents)

    def chained(question: common.Question) -> Callable[[], object]:
        documents = question.documents()
        return lambda: by_hand(plain, question.text, documents)

    seconds = timing.take_turns({"pipeline": whole, "by hand": chained}, questions, rounds=options.rounds)
    totals: list[list[float]] = []
    inside: list[list[float]] = []
    for question in questions:
        documents = question.documents()
        totals.append([])
        inside.append([])
        for _ in range(options.rounds):
            watch.seconds = 0.0
            begin = time.perf_counter()
            watched.compress(question.text, documents)
            totals[-1].append(time.perf_counter() - begin)
            inside[-1].append(watch.seconds)
    beside = [[whole - part for whole, part in zip(*each, strict=True)] for each in zip(totals, inside, strict=True)]
    return {
        "milliseconds": {name: timing.milliseconds(each) for name, each in seconds.items()},
        "over_by_hand": metrics.speed_ratio(seconds["pipeline"], seconds["by hand"], seed=options.seed),
        "milliseconds_beside_stages": timing.milliseconds(beside),
        # One call's whole and parts were taken in that very call, so that other work on the machine is in both.
        "beside_stages": metrics.speed_ratio(beside, inside, seed=options.seed),
        "stages": [stage.name for stage in plain.stages],
        "kept_tokens": statistics.median(
            plain.compress(question.text, question.documents()).n_slots for question in questions
        ),
    }


def by_hand(pipeline: Pipeline, query: str, documents: list[Document]) -> CompressedContext:
    """Chain the stages as one would without a pipeline: the kept text goes on, where it came from does not.

    Args:
        pipeline: whose stages are used.
        query: the question.
        documents: of the question.

    Returns:
        The result of the last stage.
    """
    from ragcompress import ContextCompressor, Document

    first, *others = pipeline.stages
    context = first.compress(query, documents)
    for stage in others:
        if isinstance(stage, ContextCompressor):
            (context,) = stage.refine([context])
            continue
        kept = [Document(part.text, title=context.documents[part.documents[0]].title) for part in context.by_document()]
        context = stage.compress(query, kept)
    return context
