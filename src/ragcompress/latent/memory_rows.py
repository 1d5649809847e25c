"""Which rows of a memory belong to which chunk of its document; knows tensors only by their methods."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragcompress.errors import InputError
from ragcompress.types import Memory

if TYPE_CHECKING:
    from torch import Tensor


def chunk_vectors(memory: Memory, chunk: int | None) -> Tensor:
    """The vectors of one chunk: neighbouring rows that share a span.

    Args:
        memory: of a document.
        chunk: index; None: all rows.

    Returns:
        (n_slots, width).

    Raises:
        InputError: the memory has no such chunk.
    """
    if chunk is None:
        return memory.vectors
    bounds = chunk_bounds(memory)
    if chunk >= len(bounds):
        raise InputError(f"a handle asks for chunk {chunk} of a memory that has {len(bounds)}.")
    first, last = bounds[chunk]
    return memory.vectors[first:last]


def chunk_bounds(memory: Memory) -> list[tuple[int, int]]:
    """Which rows of a memory belong to which chunk.

    Args:
        memory: one span a row, equal within a chunk; without spans it is a single chunk.

    Returns:
        Half-open ranges of rows.
    """
    n_rows = int(memory.vectors.shape[0])
    spans = memory.spans
    if not spans:
        return [(0, n_rows)] if n_rows else []
    starts = [row for row in range(n_rows) if row == 0 or spans[row] != spans[row - 1]]
    return list(zip(starts, [*starts[1:], n_rows], strict=True))
