"""From token states to one vector a text."""

import torch
from torch import Tensor


def masked_mean(states: Tensor, mask: Tensor) -> Tensor:
    """Average the states of the real tokens, special tokens included.

    RECOMP's code and released weights use this; its paper (section 3.1) says [CLS] instead.

    >>> states = torch.tensor([[[1.0], [3.0], [99.0]]])
    >>> masked_mean(states, torch.tensor([[1, 1, 0]])).tolist()
    [[2.0]]

    Args:
        states: (batch, seq_len, width).
        mask: (batch, seq_len), 1 where there is a token, 0 where there is padding.

    Returns:
        (batch, width).
    """
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def first_token(states: Tensor, mask: Tensor) -> Tensor:
    """Take the state of the first real token ([CLS] in the BERT family).

    Args:
        states: (batch, seq_len, width).
        mask: (batch, seq_len), 1 where there is a token.

    Returns:
        (batch, width).
    """
    rows = torch.arange(states.shape[0], device=states.device)
    return states[rows, mask.argmax(dim=1)]


def unit_length(vectors: Tensor) -> Tensor:
    """Scale vectors to length one; a zero vector stays zero.

    Args:
        vectors: (..., width).

    Returns:
        (..., width).
    """
    lengths: Tensor = vectors.norm(dim=-1, keepdim=True)
    return vectors / lengths.clamp(min=1e-12)
