"""The forward passes: questions with documents in, one score a document and one probability a token out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ragcompress.backends.provence.text import PassageTokenizer, Sentence, Unit
from ragcompress.backends.provence.windows import room
from ragcompress.errors import InputError
from ragcompress.nn.batching import length_buckets, pad

if TYPE_CHECKING:
    from ragcompress.backends.provence.model import ProvenceModel, Scored


@dataclass(frozen=True, slots=True)
class JudgedUnit:
    """What the model says of a sentence, or of a piece of one.

    Attributes:
        unit: the sentence.
        window: where it stood.
        probabilities: (n_tokens,), of being kept.
    """

    unit: Unit
    window: int
    probabilities: list[float]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the model says of one document.

    Attributes:
        window_scores: (n_windows,); none where the document has no token.
        units: in order.
    """

    window_scores: tuple[float, ...] = ()
    units: tuple[JudgedUnit, ...] = ()


@torch.no_grad()
def judge(
    model: Callable[..., Scored] | ProvenceModel,
    tokenizer: PassageTokenizer,
    pairs: Sequence[tuple[list[int], list[Sentence]]],
    *,
    max_length: int,
    batch_tokens: int,
    device: torch.device | str = "cpu",
) -> list[Judgement]:
    """Judge documents, the windows of all of them in shared batches of similar length.

    Args:
        model: ids and mask -> scores and keep probabilities.
        tokenizer: of the model.
        pairs: (n_pairs,), ids of a question and the sentences of a document; the question leaves room.
        max_length: tokens of a window, special tokens included.
        batch_tokens: padded size of a batch, in tokens.
        device: where the model is.

    Returns:
        (n_pairs,).

    Raises:
        InputError: the model gives numbers that are not finite.
    """
    rows: list[list[int]] = []
    plans: list[tuple[list[Unit], list[list[int]]]] = []
    for query, passage in pairs:
        budget = room(len(query), max_length)
        assert budget is not None
        units = tokenizer.units(passage, budget)
        own, packed = tokenizer.windows(query, units, budget) if any(unit.ids for unit in units) else ([], [])
        rows += own
        plans.append((units, packed))
    scores = [0.0] * len(rows)
    keep: list[list[float]] = [[] for _ in rows]
    for batch in length_buckets([len(row) for row in rows], batch_tokens):
        ids, mask = pad([rows[index] for index in batch], tokenizer.pad_id, device)
        found = model(ids, mask)
        if not (found.scores.isfinite().all() and found.keep[mask.bool()].isfinite().all()):
            raise InputError("the model gave scores that are not finite numbers.", hint="Load it with dtype='float32'.")
        for index, score, probabilities in zip(batch, found.scores.tolist(), found.keep.tolist(), strict=True):
            scores[index], keep[index] = score, probabilities
    judgements: list[Judgement] = []
    begin = 0
    for (query, _), (units, packed) in zip(pairs, plans, strict=True):
        judged: list[JudgedUnit] = []
        for window, own_units in enumerate(packed):
            place = len(query) + 2
            for index in own_units:
                n_tokens = len(units[index].ids)
                judged.append(JudgedUnit(units[index], window, keep[begin + window][place : place + n_tokens]))
                place += n_tokens
        judgements.append(Judgement(tuple(scores[begin : begin + len(packed)]), tuple(judged)))
        begin += len(packed)
    return judgements
