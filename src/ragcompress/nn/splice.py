"""Splicing: memory vectors take the place of placeholder tokens in a decoder's input embeddings."""

import torch
from torch import Tensor


def splice(embeddings: Tensor, is_slot: Tensor, vectors: Tensor) -> Tensor:
    """Overwrite the placeholders, in row-major order, with vectors; nothing is scaled, nothing else changes.

    Rows may hold any numbers of documents and slots, separators between them, and padding on either side: only the
    mask says where a vector goes. Differentiable in both embeddings and vectors (PISCO, section 3; COCOM, section 3).

    >>> embeddings = torch.zeros(2, 3, 1)
    >>> is_slot = torch.tensor([[False, True, True], [True, False, False]])
    >>> splice(embeddings, is_slot, torch.tensor([[1.0], [2.0], [3.0]])).squeeze(-1).tolist()
    [[0.0, 1.0, 2.0], [3.0, 0.0, 0.0]]

    Args:
        embeddings: (batch, seq_len, width).
        is_slot: (batch, seq_len), true where there is a placeholder.
        vectors: (n_slots of all rows, width).

    Returns:
        (batch, seq_len, width), a new tensor.

    Raises:
        ValueError: the numbers of placeholders and vectors differ, or the widths do.
    """
    n_slots = int(is_slot.sum())
    if vectors.ndim != 2 or vectors.shape[0] != n_slots or vectors.shape[1] != embeddings.shape[-1]:
        raise ValueError(
            f"{n_slots} placeholders of width {embeddings.shape[-1]} cannot take vectors of shape "
            f"{tuple(vectors.shape)}."
        )
    rows = torch.nonzero(is_slot.reshape(-1)).squeeze(-1)
    flat = embeddings.reshape(-1, embeddings.shape[-1])
    vectors = vectors.to(device=embeddings.device, dtype=embeddings.dtype)
    return flat.index_copy(0, rows, vectors).reshape(embeddings.shape)
