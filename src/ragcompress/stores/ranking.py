"""Cosines between flattened memories, and who is best: pure functions, no files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# Numbers at once in float64: 64 MB.
_BLOCK_NUMBERS = 8 * 1024**2
# float32 sums are off by less.
_SLACK = 1e-5


@dataclass(frozen=True)
class Snapshot:
    """A small index in main memory.

    Attributes:
        version: of the table.
        names: (n_rows,) names of the rows.
        places: (n_rows,) row ids.
        keys: (n_docs,) sorted.
        owners: (n_rows,) index of each row's document.
        tags: (n_docs,) what filters ask for.
        flat: (n_rows, n_numbers) float32 of length 1.
    """

    version: int
    names: list[str]
    places: list[int]
    keys: list[str]
    owners: Tensor
    tags: list[frozenset[str]]
    flat: Tensor

    def best(self, query: Tensor, k: int, tags: Sequence[str]) -> list[int]:
        """Documents with the best chunks.

        Args:
            query: (n_numbers,) float32 of length 1.
            k: how many.
            tags: that a document must have.

        Returns:
            Indices, best first; equal scores in the order of the keys.
        """
        import torch

        if not self.keys:
            return []
        approximate = best_by_owner(self.flat @ query, self.owners, len(self.keys))
        if tags:
            wanted = set(tags)
            allowed = torch.tensor([wanted <= own for own in self.tags], dtype=torch.bool)
            approximate = approximate.masked_fill(~allowed, -torch.inf)
            k = min(k, int(allowed.sum()))
        k = min(k, len(self.keys))
        if not k:
            return []
        # How a sum is rounded depends on the place of the row: what might be among the best is computed once more.
        near = approximate >= approximate.topk(k).values[-1] - _SLACK
        rows = near[self.owners].nonzero().flatten()
        step = max(1, _BLOCK_NUMBERS // max(1, len(query)))
        exact = torch.cat([cosines(self.flat[part], query) for part in torch.split(rows, step)])
        scores = best_by_owner(exact, self.owners[rows], len(self.keys))
        return torch.sort(scores, descending=True, stable=True).indices[:k].tolist()

    def places_of(self, documents: Sequence[int]) -> tuple[list[int], list[str]]:
        """Where the rows of documents lie.

        Args:
            documents: indices.

        Returns:
            Row ids, and names of the rows.
        """
        import torch

        rows = torch.isin(self.owners, torch.tensor(documents)).nonzero().flatten().tolist()
        return [self.places[row] for row in rows], [self.names[row] for row in rows]


def unit(flat: Tensor) -> Tensor:
    """Bring to length 1, as published: in the memory's own number format.

    Args:
        flat: (..., n_numbers).

    Returns:
        (..., n_numbers) float32; zeros stay zeros.
    """
    import torch
    from torch.nn.functional import normalize

    # The smallest number that torch divides by is nothing in float16.
    return torch.nan_to_num(normalize(flat, dim=-1).float(), nan=0.0)


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
