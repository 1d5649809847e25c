"""What a search in an index gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragcompress.stores import index_rows, ranking
from ragcompress.types import Document, Memory

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Hit:
    """A document that was found.

    Attributes:
        key: under which it was added.
        score: cosine of its best chunk with the query.
        document: text and what it carries.
        memory: of all its chunks.
        scores: of each chunk, in order.
    """

    key: str
    score: float
    document: Document
    memory: Memory
    scores: tuple[float, ...]


def hit_of(query: Tensor, key: str, document: Document, memory: Memory) -> Hit:
    """Score each chunk of a document that was found.

    Args:
        query: (n_numbers,) float32 of length 1.
        key: of the document.
        document: text and what it carries.
        memory: of all its chunks, at least one.

    Returns:
        The hit.
    """
    import torch

    bounds = index_rows.chunk_bounds(key, memory)
    flat = torch.stack([memory.vectors[first:last].flatten() for first, last in bounds])
    scores = tuple(ranking.cosines(ranking.unit(flat), query).tolist())
    return Hit(key, max(scores), document, memory, scores)
