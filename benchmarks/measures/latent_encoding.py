"""Latent encoding: passages to memory tokens, unpadded in batches of similar length, over padding as published."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from measures import common, latent_models, metrics, timing

if TYPE_CHECKING:
    from torch import Tensor

    from ragcompress.latent.formats import Row
    from ragcompress.latent.model import LatentModel

_PUBLISHED = "padded, with head, torch's own linear layers"


@dataclass(frozen=True, slots=True)
class Options:
    """What varies between experiments.

    Attributes:
        dataset: name of the data file without ``.jsonl``.
        base: see ``latent_models.base_folder``.
        questions: how many; the passages of one are encoded in one call.
        rounds: repetitions of everything.
        threads: of torch; None: its own choice.
        seed: of the adapters and the bootstrap.
    """

    dataset: str
    base: str = "smollm2"
    questions: int = 12
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
    threads = common.set_threads(options.threads)
    questions = common.read_questions(options.dataset, options.questions)
    model = latent_models.pisco_like(options.base, seed=options.seed)
    rows = [
        model.documents.rows(model.encoder_text, [passage.text for passage in question.passages])
        for question in questions
    ]
    plain = latent_models.plain_linear(model.decoder.model)
    contestants = {
        "ragcompress": _ours(model),
        "padded": _padded(model, model.decoder.model, head=False),
        "padded, with head": _padded(model, model.decoder.model, head=True),
        _PUBLISHED: _padded(model, plain, head=True),
    }
    differences = _differences(contestants["ragcompress"], contestants["padded"], rows)
    seconds = timing.take_turns(contestants, rows, rounds=options.rounds)
    faster = {
        name: metrics.speed_ratio(each, seconds["ragcompress"], seed=options.seed)
        for name, each in seconds.items()
        if name != "ragcompress"
    }
    lengths = [len(row.ids) for each in rows for row in each]
    n_padded = model.documents.limit + len(model.slot_tokens)
    published, same = (float(faster[name]["value"]) for name in (_PUBLISHED, "padded"))  # type: ignore[arg-type]
    return {
        "threads": threads,
        "model": latent_models.describe(model),
        "passages": len(lengths),
        "positions_of_a_passage": {"mean": metrics.mean([float(each) for each in lengths]), "padded": n_padded},
        "share_of_full_length": metrics.mean([float(len(row.ids) == n_padded) for each in rows for row in each]),
        "milliseconds": {name: timing.milliseconds(each) for name, each in seconds.items()},
        "faster": faster,
        "largest_difference": differences,
        "targets": [
            common.target(
                "encoding memory tokens, faster than as published on this CPU", published, 2.0, "x", at_most=False
            ),
            common.target("the same, of padding alone: same layers, no head", same, 2.0, "x", at_most=False),
            common.target(
                "memory tokens, largest difference to padded ones, over the vector's norm",
                differences["over_norm"],
                1e-4,
                "x",
            ),
        ],
    }


Encode = Callable[[Sequence["Row"]], Callable[[], "list[Tensor]"]]


def _differences(ours: Encode, padded: Encode, rows: list[list[Row]]) -> dict[str, float]:
    """The largest ones between any two vectors of the same slot; float32 sums differ by their order."""
    pairs = [(one, other) for each in rows[:4] for one, other in zip(ours(each)(), padded(each)(), strict=True)]
    return {
        "any_number": max(float((one - other).abs().max()) for one, other in pairs),
        "over_norm": max(float(((one - other).norm(dim=1) / other.norm(dim=1)).max()) for one, other in pairs),
    }


def _ours(model: LatentModel) -> Encode:
    return lambda rows: lambda: model.encoder.encode(rows).memories


def _padded(model: LatentModel, whole: Any, *, head: bool) -> Encode:  # noqa: ANN401
    """One batch, every passage filled up on the left to the longest there can be, with a mask."""
    import torch

    from ragcompress.latent.adapters import active_adapter

    limit = model.documents.limit
    n_slots = len(model.slot_tokens)

    def encode(rows: Sequence[Row]) -> list[Tensor]:
        ids = torch.full((len(rows), limit + n_slots), model.encoder.pad_id)
        mask = torch.zeros_like(ids)
        for index, row in enumerate(rows):
            ids[index, -len(row.ids) :] = torch.tensor(row.ids)
            mask[index, -len(row.ids) :] = 1
        with torch.no_grad(), active_adapter(model.encoder.adapter):
            if head:
                states = whole(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states[-1]
            else:
                states = getattr(whole, whole.base_model_prefix)(
                    input_ids=ids, attention_mask=mask, use_cache=False
                ).last_hidden_state
        return list(states[:, -n_slots:])

    return lambda rows: lambda: encode(rows)
