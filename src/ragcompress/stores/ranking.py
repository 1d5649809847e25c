"""Cosines between flattened memories, and who is best: pure functions, no files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def unit(flat: Tensor) -> Tensor:
    """Bring to length 1, as published: in the memory's own number format where that has room for a sum of squares.

    Args:
        flat: (..., n_numbers).

    Returns:
        (..., n_numbers) float32; zeros stay zeros.
    """
    import torch
    from torch.nn.functional import normalize

    # In float16 lengths above 65,504 are infinite, and the smallest number that torch divides by is nothing.
    return normalize(flat.float() if flat.dtype == torch.float16 else flat, dim=-1).float()


def cosines(flat: Tensor, query: Tensor) -> Tensor:
    """Cosines that do not depend on which rows are computed together.

    Args:
        flat: (n_rows, n_numbers) float32 of length 1.
        query: (n_numbers,) float32 of length 1.

    Returns:
        (n_rows,) float32, summed in float64 and rounded.
    """
    return (flat.double() @ query.double()).float()


def best_by_owner(scores: Tensor, owners: Tensor, n_owners: int) -> Tensor:
    """The best chunk of each document.

    Args:
        scores: (n_rows,).
        owners: (n_rows,) index of each row's document.
        n_owners: how many documents there are.

    Returns:
        (n_owners,); minus infinity for one without rows.
    """
    import torch

    start = torch.full((n_owners,), -torch.inf, dtype=scores.dtype)
    return start.scatter_reduce(0, owners, scores, "amax")


def best_keys(scores: Sequence[float], keys: Sequence[str], k: int) -> list[str]:
    """The documents with the best chunks.

    Args:
        scores: (n_rows,).
        keys: (n_rows,) of the documents.
        k: how many.

    Returns:
        Keys, best first; equal scores in the order of the keys.
    """
    best: dict[str, float] = {}
    for key, score in zip(keys, scores, strict=True):
        best[key] = max(score, best.get(key, score))
    return sorted(best, key=lambda key: (-best[key], key))[:k]
