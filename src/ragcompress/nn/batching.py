"""Batches of similar length: padding is work thrown away."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor


def length_buckets(lengths: Sequence[int], max_tokens: int) -> Iterator[list[int]]:
    """Sort texts by length and cut them into batches of a limited padded size, longest first.

    >>> list(length_buckets([3, 9, 4, 1], max_tokens=10))
    [[1], [2, 0], [3]]

    Args:
        lengths: (n_texts,) in tokens.
        max_tokens: limit of rows times longest row; a single longer text makes a batch of its own.

    Yields:
        Indices of the texts of one batch.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if batch and lengths[batch[0]] * (len(batch) + 1) > max_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def pad(rows: Sequence[Sequence[int]], pad_id: int, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Pad rows of token ids on the right.

    Args:
        rows: (batch,) lists of ids, not all empty.
        pad_id: the id that fills up.
        device: where the tensors go.

    Returns:
        Ids and mask, each (batch, seq_len).
    """
    seq_len = max(1, *(len(row) for row in rows))
    ids = torch.tensor([[*row, *[pad_id] * (seq_len - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (seq_len - len(row)) for row in rows])
    return ids.to(device), mask.to(device)
