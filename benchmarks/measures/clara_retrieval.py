"""CLaRa's retrieval: reasoner, exact search, select and splice for one question, over the reasoner's forward alone."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measures import common, latent_models, metrics, timing

if TYPE_CHECKING:
    from ragcompress.backends.clara import Clara
    from ragcompress.stores.index import MemoryIndex

ALONE = "query reasoner's forward alone"
WHOLE = "retrieve and splice"
# A step inside the whole call, and the name of its time in ``CompressedContext.timings``.
_STEPS = {"encode the question": "encode_ms", "search": "search_ms", "select": "select_ms"}


@dataclass(frozen=True, slots=True)
class Options:
    """What varies between experiments.

    Attributes:
        dataset: name of the data file without ``.jsonl``; its first passages are encoded, its first questions asked.
        base: see ``latent_models.base_folder``.
        dtype: of the weights, and so of the memory tokens; the published checkpoints' is bfloat16.
        encoded: how many passages the index holds.
        questions: how many are asked, one at a time.
        k: documents that are retrieved.
        rounds: repetitions of everything but encoding the passages.
        threads: of torch; None: its own choice.
        seed: of the adapters and the bootstrap.
    """

    dataset: str
    base: str = "smollm2"
    dtype: str = "bfloat16"
    encoded: int = 1000
    questions: int = 60
    k: int = 5
    rounds: int = 5
    threads: int | None = None
    seed: int = 0


def run(options: Options) -> dict[str, Any]:
    """Measure.

    Args:
        options: of the experiment.

    Returns:
        Results with ``targets``.

    Raises:
        MissingError: data, the base model or lancedb is not there.
    """
    from ragcompress import InMemoryStore, MissingExtraError, index, open_index
    from ragcompress.backends.clara import Clara

    threads = common.set_threads(options.threads)
    documents = common.read_passages([options.dataset], options.encoded)
    questions = [question.text for question in common.read_questions(options.dataset, options.questions)]
    model = latent_models.clara_like(options.base, dtype=options.dtype, seed=options.seed)
    assert model.query_encoder is not None
    clara = Clara(model)
    with tempfile.TemporaryDirectory() as name:
        try:
            found = open_index(clara, Path(name), create=True)
        except MissingExtraError as error:
            raise common.MissingError(str(error)) from error
        begin = time.perf_counter()
        summary = index(clara, documents, found)
        encoding_seconds = time.perf_counter() - begin
        found.compact(keep_seconds=0)
        rows = {each: model.documents.rows(model.encoder_text, [each]) for each in questions}
        steps: dict[str, list[float]] = {step: [] for step in (*_STEPS, "splice")}
        contestants: dict[str, Callable[[str], Callable[[], object]]] = {
            ALONE: lambda question: lambda: model.query_encoder.encode(rows[question]),  # type: ignore[union-attr]
            "encode_queries": lambda question: lambda: clara.encode_queries([question]),
            WHOLE: _whole(clara, found, options.k, steps),
            f"{WHOLE}, sharing with a store": _whole(
                Clara(model, store=InMemoryStore(max_bytes=None)), found, options.k
            ),
        }
        seconds = timing.take_turns(contestants, questions, rounds=options.rounds)
        contexts = [clara.retrieve(question, found, options.k) for question in questions]
    over = {
        label: metrics.speed_ratio(each, seconds[ALONE], seed=options.seed)
        for label, each in seconds.items()
        if label != ALONE
    }
    reader = clara.reader()
    return {
        "threads": threads,
        "model": latent_models.describe(model),
        "index": {
            "documents": len(documents),
            "slots": len(model.slot_tokens),
            "width": model.decoder.width,
            "chunks": summary.n_slots // len(model.slot_tokens),
            "tokens_of_a_document": summary.n_tokens / summary.n_added,
            "seconds_to_encode": encoding_seconds,
        },
        "positions_of_a_question": metrics.mean([float(len(rows[each][0].ids)) for each in questions]),
        "prompt_tokens": metrics.mean([float(reader.count(context)) for context in contexts]),
        "questions": len(questions),
        "milliseconds": {label: timing.milliseconds(each) for label, each in seconds.items()},
        "over_forward_alone": over,
        # Inside the whole call, where each finds the caches as the step before has left them.
        "step_milliseconds": {step: statistics.median(each) for step, each in steps.items()},
        "targets": [
            common.target(
                f"reasoner, search in {len(documents):,}, select and splice, over its forward ({options.base})",
                float(over[WHOLE]["value"]),  # type: ignore[arg-type]
                1.3,
                "x",
            )
        ],
    }


def _whole(
    clara: Clara, index: MemoryIndex, k: int, steps: dict[str, list[float]] | None = None
) -> Callable[[str], Callable[[], object]]:
    reader = clara.reader()

    def run(question: str) -> None:
        context = clara.retrieve(question, index, k=k)
        begin = time.perf_counter()
        reader.inputs([context])
        if steps is not None:
            steps["splice"].append(1000 * (time.perf_counter() - begin))
            for step, key in _STEPS.items():
                steps[step].append((context.timings or {})[key])

    return lambda question: lambda: run(question)
