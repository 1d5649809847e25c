"""Latent quantised: what storing memory tokens in fewer bytes changes in the decoder's answers."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measures import common, latent_models, metrics

if TYPE_CHECKING:
    from torch import Tensor

    from ragcompress.types import Memory


_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1}


@dataclass(frozen=True, slots=True)
class Options:
    """What varies between experiments.

    Attributes:
        dataset: name of the data file without ``.jsonl``.
        base: see ``latent_models.base_folder``.
        questions: how many are answered.
        per_prompt: documents in a prompt, of 128 tokens each; only the first number is used.
        new_tokens: length of the answers that are compared.
        dtypes: what is stored, beside float32.
        threads: of torch; None: its own choice.
        seed: of the adapters and the bootstrap.
    """

    dataset: str
    base: str = "smollm2"
    questions: int = 40
    per_prompt: tuple[int, ...] = (5,)
    new_tokens: int = 16
    dtypes: tuple[str, ...] = ("bfloat16", "int8")
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
    from ragcompress import Document, LanceDBStore, MissingExtraError
    from ragcompress.backends.pisco import Pisco
    from ragcompress.latent.reader import LatentReader

    threads = common.set_threads(options.threads)
    model = latent_models.pisco_like(options.base, seed=options.seed)
    items = latent_models.asked(options.dataset, model.decoder.text, options.questions, options.per_prompt[0])
    compressor, reader = Pisco(model), LatentReader(model)
    documents = [[Document(each) for each in item.documents] for item in items]
    flat = [document for own in documents for document in own]
    exact = {compressor.memory_key(document): memory for document, memory in
             zip(flat, compressor.encode(flat), strict=True)}  # fmt: skip
    keys = [[compressor.memory_key(document) for document in own] for own in documents]

    def answers(memories: dict[str, Memory]) -> tuple[list[str], list[Tensor]]:
        texts, logits = [], []
        for item, own, own_keys in zip(items, documents, keys, strict=True):
            context = compressor.select(item.question, own, [memories[key] for key in own_keys])
            texts.append(reader.answer([context], max_new_tokens=options.new_tokens)[0])
            logits.append(latent_models.prefill(model.decoder, reader, context)()[0, -1])
        return texts, logits

    texts, logits = answers(exact)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        for dtype in options.dtypes:
            try:
                store = LanceDBStore(Path(name) / dtype, dtype=dtype)
            except MissingExtraError as error:
                raise common.MissingError(str(error)) from error
            store.put(exact)
            stored = dict(zip(exact, store.get(list(exact), space=model.space), strict=True))
            theirs, their_logits = answers(stored)  # type: ignore[arg-type]
            same = [float(one == other) for one, other in zip(theirs, texts, strict=True)]
            errors = [_relative(stored[key].vectors.float(), exact[key].vectors) for key in exact]  # type: ignore[union-attr]
            gaps = [float((one - other).abs().max()) for one, other in zip(their_logits, logits, strict=True)]
            found[dtype] = {
                "equal_answers": metrics.mean(same),
                "equal_answers_interval": metrics.interval(same, seed=options.seed),
                "equal_first_tokens": metrics.mean(
                    [float(one.argmax() == other.argmax()) for one, other in zip(their_logits, logits, strict=True)]
                ),
                "logit_difference": {"mean": metrics.mean(gaps), "largest": max(gaps)},
                "relative_error_of_vectors": {"mean": metrics.mean(errors), "largest": max(errors)},
                "vector_bytes_per_document": model.decoder.width * len(model.slot_tokens) * _BYTES[dtype],
            }
    return {
        "threads": threads,
        "model": latent_models.describe(model),
        "answers": len(items),
        "different_answers": len(set(texts)),
        "logits": {
            "spread": metrics.mean([float(each.std()) for each in logits]),
            "first_over_second": metrics.mean(
                [float(each.topk(2).values[0] - each.topk(2).values[1]) for each in logits]
            ),
        },
        "stored": found,
        "targets": [],
    }


def _relative(vectors: Tensor, exact: Tensor) -> float:
    return float(((vectors - exact).norm(dim=1) / exact.norm(dim=1)).max())
