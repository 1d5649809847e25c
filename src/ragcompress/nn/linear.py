"""Linear layers through oneDNN: on AMD processors torch's own float32 product (MKL) runs at half its speed."""

import platform
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

_SMALL = 1_000_000  # weights; measured: 2 against 13 us at 5 thousand, 554 against 299 us at 4 million


class OneDnnLinear(nn.Linear):
    """``nn.Linear`` whose float32 inference on a CPU goes through oneDNN; everything else is as before.

    Same arithmetic, another order of the sums: results differ by about 1e-6.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (the base class's name)
        """Apply the layer.

        >>> layer = nn.Linear(3, 2)
        >>> states = torch.randn(4, 5, 3)
        >>> with torch.no_grad():
        ...     plain = layer(states)
        ...     layer.__class__ = OneDnnLinear
        ...     torch.allclose(plain, layer(states), atol=1e-6)
        True

        Args:
            input: (..., in_features).

        Returns:
            (..., out_features).
        """
        # The operator has no gradient, and takes float32 on the CPU only.
        if torch.is_grad_enabled() or input.device.type != "cpu" or input.dtype != torch.float32:
            return super().forward(input)
        # One row through a small layer, as in decoding: the detour costs more than the product.
        if self.weight.numel() < _SMALL and input.numel() == self.in_features:
            return super().forward(input)
        result: Tensor = torch.ops.mkldnn._linear_pointwise(input, self.weight, self.bias, "none", [], "")
        return result


def use_onednn(model: nn.Module) -> None:
    """Let the linear layers of a model take the faster path where there is one; weights and their names stay.

    Args:
        model: changed in place; only plain ``nn.Linear`` layers are, and only on an AMD processor.
    """
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise") or not _is_amd():
        return
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = OneDnnLinear


@cache
def _is_amd() -> bool:
    """Whether the processor is one that MKL holds back."""
    try:
        vendor = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")[:4096]
    except OSError:
        vendor = platform.processor()
    return "AuthenticAMD" in vendor
