"""Latent answering: time to the first token and to the last, of documents as text and as memory tokens."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measures import common, latent_models, metrics, timing

if TYPE_CHECKING:
    from ragcompress import CompressedContext, MemoryStore
    from ragcompress.backends.pisco import Pisco
    from ragcompress.latent.model import LatentModel

# OSCAR's table: operations for a question of 128 tokens with 10 documents of 128 and 32 new tokens, Mistral-7B.
_PUBLISHED_TERAFLOPS = {"text": 20.33, "memory": 3.49}
_MISTRAL = latent_models.Cost(parameters=6_979_321_856, adapter=0, head=131_072_000, attention=32 * 4096)


Batch = list[latent_models.Asked]


@dataclass(frozen=True, slots=True)
class Options:
    """What varies between experiments.

    Attributes:
        dataset: name of the data file without ``.jsonl``.
        base: see ``latent_models.base_folder``.
        questions: how many single prompts of each kind.
        per_prompt: documents in a prompt, of 128 tokens each.
        batches: prompts in a call, and documents in each of them; measured once a round, beside the single prompts.
        new_tokens: length of an answer.
        rounds: repetitions of everything.
        threads: of torch; None: its own choice.
        seed: of the adapters and the bootstrap.
    """

    dataset: str
    base: str = "smollm2"
    questions: int = 3
    per_prompt: tuple[int, ...] = (5, 10, 20)
    batches: tuple[tuple[int, int], ...] = ()
    new_tokens: int = 32
    rounds: int = 3
    threads: int | None = None
    seed: int = 0


def run(options: Options) -> dict[str, Any]:
    """Measure.

    Args:
        options: of the experiment.

    Returns:
        Results with ``targets``, of which there are none.

    Raises:
        MissingError: data, the base model or lancedb is not there.
    """
    from ragcompress import InMemoryStore, LanceDBStore, MissingExtraError
    from ragcompress.backends.pisco import Pisco

    threads = common.set_threads(options.threads)
    model = latent_models.pisco_like(options.base, seed=options.seed)
    shapes = [(1, each) for each in options.per_prompt] + [(rows, each) for rows, each in options.batches]
    items = latent_models.asked(options.dataset, model.decoder.text, options.questions, max(options.per_prompt))
    batches = [[[_first(item, each)] for item in items] for each in options.per_prompt] + [
        [latent_models.asked(options.dataset, model.decoder.text, rows, each)] for rows, each in options.batches
    ]
    with tempfile.TemporaryDirectory() as name:
        try:
            stores: dict[str, MemoryStore | None] = {
                "memory tokens, encoded now": None,
                "memory tokens, from InMemoryStore": InMemoryStore(max_bytes=None),
                "memory tokens, from LanceDBStore": LanceDBStore(Path(name) / "store"),
            }
        except MissingExtraError as error:
            raise common.MissingError(str(error)) from error
        compressors = {label: Pisco(model, store=store) for label, store in stores.items()}
        for compressor in compressors.values():
            if compressor.store is not None:
                compressor.remember(list(dict.fromkeys(
                    document for own in batches for batch in own for item in batch for document in item.documents
                )))  # fmt: skip
        return {
            "threads": threads,
            "model": latent_models.describe(model),
            "bytes_per_document": _n_bytes(items, model),
            "shapes": {
                f"{rows} x {each}": _shape(model, compressors, own, options)
                for (rows, each), own in zip(shapes, batches, strict=True)
            },
            "published": _published(),
            "targets": [],
        }


def _first(item: latent_models.Asked, n_documents: int) -> latent_models.Asked:
    return latent_models.Asked(item.question, item.documents[:n_documents])


def _n_bytes(items: Sequence[latent_models.Asked], model: LatentModel) -> dict[str, float]:
    n_numbers = len(model.slot_tokens) * model.decoder.width
    return {
        "text, UTF-8": metrics.mean([float(len(text.encode())) for item in items for text in item.documents]),
        "vectors in float32": 4.0 * n_numbers,
        "vectors in bfloat16": 2.0 * n_numbers,
    }


def _shape(model: LatentModel, compressors: dict[str, Pisco], batches: list[Batch], options: Options) -> dict[str, Any]:
    """Times of one number of prompts and documents."""
    from ragcompress.latent.reader import LatentReader

    plain = latent_models.without_adapter(model)
    text_reader, reader = LatentReader(plain), LatentReader(model)

    def text(n_new: int) -> Callable[[Batch], Callable[[], object]]:
        def prepare(batch: Batch) -> Callable[[], object]:
            contexts = [latent_models.text_context(item) for item in batch]
            return lambda: text_reader.generate(contexts, max_new_tokens=n_new)

        return prepare

    def memory(label: str, n_new: int) -> Callable[[Batch], Callable[[], object]]:
        compressor = compressors[label]

        def answer(batch: Batch) -> object:
            contexts = compressor.compress_batch([item.question for item in batch], [item.documents for item in batch])
            return reader.generate(contexts, max_new_tokens=n_new)

        return lambda batch: lambda: answer(batch)

    first = {"text": text(1)} | {label: memory(label, 1) for label in compressors}
    whole = {"text": text(options.new_tokens)} | {label: memory(label, options.new_tokens) for label in compressors}
    found: dict[str, Any] = {}
    for prefix, contestants in (("first_token_", first), ("", whole)):
        seconds = timing.take_turns(contestants, batches, rounds=options.rounds)
        found[f"{prefix}milliseconds"] = {label: timing.milliseconds(each) for label, each in seconds.items()}
        found[f"{prefix}faster"] = {
            label: metrics.speed_ratio(seconds["text"], each, seed=options.seed)
            for label, each in seconds.items()
            if label != "text"
        }
    if len(batches[0]) == 1:
        compressor = compressors["memory tokens, from InMemoryStore"]
        contexts = {
            "text": [latent_models.text_context(item) for (item,) in batches],
            "memory": [compressor.compress(item.question, item.documents) for (item,) in batches],
        }
        found["prefill"] = _prefill(model, plain, contexts, options)
    return found


def _prefill(
    model: LatentModel, plain: LatentModel, contexts: dict[str, list[CompressedContext]], options: Options
) -> dict[str, Any]:
    """The forward pass over the prompt alone, beside what its operations predict."""
    from ragcompress.latent.reader import LatentReader

    text_reader, reader = LatentReader(plain), LatentReader(model)
    contestants = {
        "text": lambda place: latent_models.prefill(plain.decoder, text_reader, contexts["text"][place]),
        "text, under the adapter": lambda place: latent_models.prefill(model.decoder, reader, contexts["text"][place]),
        "memory": lambda place: latent_models.prefill(model.decoder, reader, contexts["memory"][place]),
    }
    seconds = timing.take_turns(contestants, range(len(contexts["text"])), rounds=options.rounds)
    lengths = {label: metrics.mean([float(reader.count(each)) for each in own]) for label, own in contexts.items()}
    cost = latent_models.cost(model)
    predicted = {
        "text": cost.flops(round(lengths["text"]), with_adapter=False),
        "text, under the adapter": cost.flops(round(lengths["text"]), with_adapter=True),
        "memory": cost.flops(round(lengths["memory"]), with_adapter=True),
    }
    return {
        "prompt_tokens": lengths,
        "milliseconds": {label: timing.milliseconds(each) for label, each in seconds.items()},
        "gigaflops": {label: each / 1e9 for label, each in predicted.items()},
        "gigaflops_per_second": {
            label: each / 1e6 / timing.milliseconds(seconds[label]) for label, each in predicted.items()
        },
        "faster": {
            label: metrics.speed_ratio(seconds[label], seconds["memory"], seed=options.seed)
            for label in ("text", "text, under the adapter")
        },
        "predicted": {label: predicted[label] / predicted["memory"] for label in ("text", "text, under the adapter")},
    }


def _published() -> dict[str, Any]:
    """The same arithmetic for the published setting: 128 tokens of question, 10 documents of 128, 32 new tokens."""
    documents = {"text": 10 * 128, "memory": 10 * (8 + 1)}
    ours = {
        label: _MISTRAL.flops(128 + length + 32, with_adapter=False, n_heads=128 + length + 32) / 1e12
        for label, length in documents.items()
    }
    return {
        "published_teraflops": _PUBLISHED_TERAFLOPS,
        "predicted_teraflops": ours,
        "published_ratio": _PUBLISHED_TERAFLOPS["text"] / _PUBLISHED_TERAFLOPS["memory"],
        "predicted_ratio": ours["text"] / ours["memory"],
    }
