"""Where weights go when the caller does not say."""

from __future__ import annotations

from ragcompress.errors import OptionError


def pick_device(device: str | None) -> str:
    """Choose a device: CUDA, then Apple's, then the CPU.

    Args:
        device: what the caller wants; None: the best there is.

    Returns:
        A name that torch understands.

    Raises:
        OptionError: torch does not know it, or this machine does not have it.
    """
    import torch

    if device is None:
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except (RuntimeError, TypeError) as error:
        raise OptionError(f"device must be 'cuda', 'cuda:N', 'mps' or 'cpu', got {device!r}.") from error
    if kind not in ("cuda", "mps", "cpu", "xpu"):
        raise OptionError(f"device must be 'cuda', 'cuda:N', 'mps' or 'cpu', got {device!r}.")
    absent = (kind == "cuda" and not torch.cuda.is_available()) or (
        kind == "mps" and not torch.backends.mps.is_available()
    )
    if absent:
        raise OptionError(
            f"device={device!r} was asked for, but torch finds no {kind} device here.",
            hint="device=None picks what there is.",
        )
    return str(device)
