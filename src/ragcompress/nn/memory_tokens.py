"""Memory tokens: appended to a document's ids, their last hidden states are the document's memory."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor


def append_memory(
    ids: Sequence[int], memory_ids: Sequence[int], *, side: Literal["left", "right"] = "right"
) -> tuple[list[int], list[bool]]:
    """Put memory tokens behind (or, for bit parity with COCOM's hub code only, in front of) one document's ids.

    Under a causal mask memory tokens in front see nothing of the document: ``"left"`` exists for parity alone.

    >>> append_memory([7, 8, 9], [100, 101])
    ([7, 8, 9, 100, 101], [False, False, False, True, True])

    Args:
        ids: (n_tokens,) of the document.
        memory_ids: (n_slots,).
        side: where they go.

    Returns:
        Ids and whether each is a memory token, both (n_tokens + n_slots,).
    """
    rows, marks = [list(ids), list(memory_ids)], [[False] * len(ids), [True] * len(memory_ids)]
    if side == "left":
        rows.reverse()
        marks.reverse()
    return rows[0] + rows[1], marks[0] + marks[1]


def gather_memory(states: Tensor, is_memory: Tensor) -> Tensor:
    """Take the states of the memory tokens, row by row; rows may hold different numbers of them.

    >>> import torch
    >>> states = torch.arange(6.0).reshape(2, 3, 1)
    >>> gather_memory(states, torch.tensor([[False, True, True], [False, False, True]])).tolist()
    [[1.0], [2.0], [5.0]]

    Args:
        states: (batch, seq_len, width), last hidden states.
        is_memory: (batch, seq_len), true where there is a memory token.

    Returns:
        (n_slots of all rows, width), in row-major order.
    """
    return states[is_memory]
