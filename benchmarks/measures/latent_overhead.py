"""Latent overhead: everything that the reader does before the forward pass, as a share of that pass."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measures import common, latent_models, metrics, timing

if TYPE_CHECKING:
    from ragcompress import CompressedContext, MemoryStore
    from ragcompress.latent.model import LatentModel
    from ragcompress.latent.reader import LatentReader

_PROMPT = "Context information is below.\n---\n{documents}\n---\nQuery: {question}\nAnswer: "


@dataclass(frozen=True, slots=True)
class Options:
    """What varies between experiments.

    Attributes:
        dataset: name of the data file without ``.jsonl``.
        base: see ``latent_models.base_folder``.
        questions: how many prompts.
        per_prompt: documents in a prompt, of 128 tokens each.
        rounds: repetitions of everything.
        threads: of torch; None: its own choice.
        seed: of the adapters and the bootstrap.
    """

    dataset: str
    base: str = "smollm2"
    questions: int = 8
    per_prompt: tuple[int, ...] = (5, 10, 20)
    rounds: int = 7
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
    from ragcompress import Document, InMemoryStore, LanceDBStore, MissingExtraError
    from ragcompress.backends.pisco import Pisco

    threads = common.set_threads(options.threads)
    model = latent_models.pisco_like(options.base, seed=options.seed)
    items = latent_models.asked(options.dataset, model.decoder.text, options.questions, max(options.per_prompt))
    with tempfile.TemporaryDirectory() as name:
        memory = InMemoryStore(max_bytes=None)
        try:
            disk = LanceDBStore(Path(name) / "store")
        except MissingExtraError as error:
            raise common.MissingError(str(error)) from error
        compressor = Pisco(model, store=memory)
        documents = [Document(text) for item in items for text in item.documents]
        compressor.remember(documents)
        keys = [compressor.memory_key(document) for document in documents]
        disk.put(dict(zip(keys, memory.get(keys, space=model.space), strict=True)))  # type: ignore[arg-type]
        stores: dict[str, MemoryStore] = {"InMemoryStore": memory, "LanceDBStore": disk}
        found = {
            str(n_documents): _shares(
                model,
                stores,
                [compressor.compress(item.question, item.documents[:n_documents]) for item in items],
                options,
            )
            for n_documents in options.per_prompt
        }
    return {
        "threads": threads,
        "model": latent_models.describe(model),
        "prompts": len(items),
        "documents": found,
        "targets": [
            common.target(
                f"before the forward pass, {n_documents} documents from {label}, over that pass ({options.base})",
                100 * each["share_of_prefill"][f"prompt, handles in {label}"]["value"],
                2.0,
                "%",
            )
            for n_documents, each in found.items()
            for label in stores
        ],
    }


def _shares(
    model: LatentModel, stores: dict[str, MemoryStore], contexts: list[CompressedContext], options: Options
) -> dict[str, Any]:
    from ragcompress.handles import Handle, attach_question, parse
    from ragcompress.latent.requests import prepare
    from ragcompress.memories import fetch

    readers = {label: model_reader(model, store) for label, store in stores.items()}
    any_reader = next(iter(readers.values()))
    # What a framework makes of our documents: handles, and the question beside them, in a prompt of its own.
    prompts = [
        _PROMPT.format(
            documents="\n\n".join(attach_question(context.query, [each.handle for each in context.segments])),  # type: ignore[union-attr]
            question=context.query,
        )
        for context in contexts
    ]
    keys = [[part.key for part in parse(prompt) if isinstance(part, Handle)] for prompt in prompts]

    def before(reader: LatentReader, requests: Any) -> Callable[[int], Callable[[], object]]:  # noqa: ANN401
        generation = reader._options({})
        return lambda place: lambda: reader._embed([reader._prepare(requests[place], generation)])

    def fetching(store: MemoryStore) -> Callable[[int], Callable[[], object]]:
        return lambda place: lambda: fetch(store, keys[place], space=model.space)

    def writing(place: int) -> Callable[[], object]:
        return lambda: prepare(prompts[place], model, model.prompt, "auto", 8192)

    contestants: dict[str, Callable[[int], Callable[[], object]]] = {
        "prefill": lambda place: latent_models.prefill(model.decoder, any_reader, contexts[place]),
        "context": before(any_reader, contexts),
        **{f"prompt, handles in {label}": before(reader, prompts) for label, reader in readers.items()},
        "of it: find handles": lambda place: lambda: parse(prompts[place]),
        "of it: find handles, write the prompt, tokenise": writing,
        **{f"of it: fetch from {label}": fetching(store) for label, store in stores.items()},
    }
    assert all(prepare(prompt, model, model.prompt, "native", 8192).n_dropped == 0 for prompt in prompts)
    seconds = timing.take_turns(contestants, range(len(contexts)), rounds=options.rounds)
    return {
        "prompt_tokens": metrics.mean([float(any_reader.count(context)) for context in contexts]),
        "milliseconds": {label: timing.milliseconds(each) for label, each in seconds.items()},
        "share_of_prefill": {
            label: metrics.speed_ratio(seconds[label], seconds["prefill"], seed=options.seed)
            for label in ("context", *(f"prompt, handles in {label}" for label in stores))
        },
    }


def model_reader(model: LatentModel, store: MemoryStore) -> LatentReader:
    """A reader that looks handles up in a store.

    Args:
        model: PISCO-like.
        store: holds the memories.

    Returns:
        The reader.
    """
    from ragcompress.latent.reader import LatentReader

    return LatentReader(model, store=store)
