"""How far a document's memory is from the document itself, in the mean (CLaRa, equation 2.1)."""

from torch import Tensor


def mean_alignment(states: Tensor, mask: Tensor, is_memory: Tensor) -> Tensor:
    """Squared distance between the mean state of a document's tokens and that of its memory tokens.

    As released, the template's own tokens (``<ENC>``, BOS, EOS) count as the document's; the paper leaves them out.

    Args:
        states: (batch, seq_len, width), last hidden states.
        mask: (batch, seq_len), true where there is a token.
        is_memory: (batch, seq_len), true where it is a memory token.

    Returns:
        A scalar: the mean over documents and width.
    """
    is_memory = is_memory.bool()

    def mean(chosen: Tensor) -> Tensor:
        weights = chosen.unsqueeze(-1).to(states.dtype)
        return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)

    return (mean(mask.bool() & ~is_memory) - mean(is_memory)).square().mean()
