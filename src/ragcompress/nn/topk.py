"""Top-k that lets gradients through: hard one-hots forwards, a softmax backwards (CLaRa, section 3 and algorithm 1)."""

from typing import NamedTuple

import torch
from torch import Tensor


class TopK(NamedTuple):
    """A selection.

    Attributes:
        weights: (batch, k, n_candidates), one-hot rows, best first; differentiable in the scores.
        indices: (batch, k).
    """

    weights: Tensor
    indices: Tensor


def differentiable_top_k(scores: Tensor, k: int, *, temperature: float = 0.02, exact_mask: bool = False) -> TopK:
    """Select the k best candidates; gradients flow through a softmax per slot (a straight-through estimator).

    Slot j's softmax leaves out the candidates that earlier slots have taken. As published it does so by adding
    log(1e-8), which a cosine gap above 0.37 at temperature 0.02 outweighs: gradients of later slots then point at a
    candidate that is taken already. ``exact_mask`` leaves them out for good; the forward value is the same.

    >>> differentiable_top_k(torch.tensor([[0.1, 0.9, 0.5]]), k=2).indices.tolist()
    [[1, 2]]

    Args:
        scores: (batch, n_candidates).
        k: slots, at most n_candidates.
        temperature: of the softmax; values below 1e-6 count as that.
        exact_mask: see above.

    Returns:
        The selection, in float32.

    Raises:
        ValueError: k is below 1 or above the number of candidates.
    """
    n_candidates = scores.shape[-1]
    if not 1 <= k <= n_candidates:
        raise ValueError(f"k = {k}, but there are {n_candidates} candidates.")
    scaled = scores.float() / max(temperature, 1e-6)
    indices = scaled.topk(k, dim=-1).indices
    hard = torch.nn.functional.one_hot(indices, n_candidates).to(scaled.dtype)
    # Which candidates earlier slots have taken: (batch, k, n_candidates), without a gradient.
    taken = hard.cumsum(dim=1) - hard
    if exact_mask:
        masked = scaled.unsqueeze(1).masked_fill(taken.bool(), float("-inf"))
    else:
        masked = scaled.unsqueeze(1) + torch.log(1 - taken + 1e-8)
    soft = masked.softmax(dim=-1)
    return TopK(hard + soft - soft.detach(), indices)
