"""Latent threads: whether several threads on one compressor and one reader get what one thread gets, and how fast."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from measures import common, latent_models, metrics, timing


@dataclass(frozen=True, slots=True)
class Options:
    """What varies between experiments.

    Attributes:
        dataset: name of the data file without ``.jsonl``.
        base: see ``latent_models.base_folder``.
        questions: how many are compressed (one adapter) and answered (the other) in one go.
        per_prompt: documents in a prompt, of 128 tokens each; only the first number is used.
        new_tokens: length of an answer.
        workers: Python's threads.
        rounds: repetitions of everything.
        threads: of torch; None: its own choice.
        seed: of the adapters and the bootstrap.
    """

    dataset: str
    base: str = "smollm2"
    questions: int = 16
    per_prompt: tuple[int, ...] = (3,)
    new_tokens: int = 16
    workers: int = 8
    rounds: int = 3
    threads: int | None = None
    seed: int = 0


def run(options: Options) -> dict[str, Any]:
    """Measure.

    Args:
        options: of the experiment.

    Returns:
        Results with ``targets``.
    """
    import torch

    from ragcompress.backends.pisco import Pisco
    from ragcompress.latent.reader import LatentReader

    threads = common.set_threads(options.threads)
    model = latent_models.pisco_like(options.base, seed=options.seed)
    items = latent_models.asked(options.dataset, model.decoder.text, options.questions, options.per_prompt[0])
    compressor, reader = Pisco(model), LatentReader(model)
    found: dict[str, list[list[Any]]] = {"one after another": [], "at once": []}

    def work(item: latent_models.Asked) -> tuple[Any, str]:
        context = compressor.compress(item.question, item.documents)
        vectors = torch.cat([segment.vectors for segment in context.segments])  # type: ignore[union-attr]
        return vectors, reader.answer([context], max_new_tokens=options.new_tokens)[0]

    def one_after_another(_: object) -> Any:  # noqa: ANN401 (a call)
        return lambda: found["one after another"].append([work(item) for item in items])

    def at_once(_: object) -> Any:  # noqa: ANN401
        def go() -> None:
            with ThreadPoolExecutor(options.workers) as pool:
                found["at once"].append(list(pool.map(work, items)))

        return go

    seconds = timing.take_turns(
        {"one after another": one_after_another, "at once": at_once}, [None], rounds=options.rounds
    )
    expected = found["one after another"][0]
    pairs = [(one, other) for each in found["at once"] for one, other in zip(each, expected, strict=True)]
    same = metrics.mean([float(one[1] == other[1]) for one, other in pairs])
    return {
        "threads": threads,
        "workers": options.workers,
        "model": latent_models.describe(model),
        "compared": len(pairs),
        "different_answers_expected": len({answer for _, answer in expected}),
        "equal_answers": same,
        "largest_difference_of_memory_tokens": max(float((one[0] - other[0]).abs().max()) for one, other in pairs),
        "seconds": {label: timing.milliseconds(each) / 1000 for label, each in seconds.items()},
        "throughput": metrics.speed_ratio(seconds["one after another"], seconds["at once"], seed=options.seed),
        "targets": [
            common.target(
                f"answers of {options.workers} threads that equal those of one", 100 * same, 100.0, "%", at_most=False
            )
        ],
    }
