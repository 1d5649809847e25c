"""How weights are loaded; checked without loading anything, torch included."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ragcompress.errors import MissingExtraError, OptionError
from ragcompress.options import check_choice

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """How weights are loaded.

    Attributes:
        base: overrides the base model named in the checkpoint: a folder or a hub id.
        compressor_base: the same for a separate compressor.
        device: None: the best there is.
        dtype: of the weights; None: as the base model was saved.
        device_map: lets accelerate spread the decoder over devices; None: all of it on ``device``.
        quantization: ``"int4"`` or ``"int8"``: the decoder's weights by bitsandbytes, on CUDA only.
        attn_implementation: None: FlashAttention 2 where it is installed and can run, else torch's own.
    """

    base: str | Path | None = None
    compressor_base: str | Path | None = None
    device: str | None = None
    dtype: str | None = None
    device_map: str | Mapping[str, Any] | None = None
    quantization: Literal["int4", "int8"] | None = None
    attn_implementation: str | None = None

    def __post_init__(self) -> None:
        """Check names, without loading anything.

        Raises:
            OptionError: a name does not exist.
        """
        if self.quantization is not None:
            check_choice("quantization", self.quantization, ("int4", "int8"))
        if self.dtype is not None:
            check_choice("dtype", self.dtype, ("float32", "bfloat16", "float16"))
        for name in ("base", "compressor_base"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, (str, Path)):
                raise OptionError(f"{name} must be a path or a hub id, got {type(value).__name__}.")

    @property
    def torch_dtype(self) -> torch.dtype | None:
        """As torch names it."""
        import torch

        return None if self.dtype is None else getattr(torch, self.dtype)

    def quantization_config(self, device: str) -> Any:  # noqa: ANN401 (transformers' config, or None)
        """Settings for bitsandbytes: nf4 with bfloat16 arithmetic, or int8, as published.

        Args:
            device: where the weights go.

        Returns:
            The config; None: no quantization.

        Raises:
            OptionError: not on CUDA.
            MissingExtraError: bitsandbytes is not installed.
        """
        if self.quantization is None:
            return None
        if not device.startswith("cuda"):
            raise OptionError(
                f"quantization={self.quantization!r} needs a CUDA device, got {device!r}.",
                hint="On a CPU use dtype='bfloat16', or a smaller model.",
            )
        if importlib.util.find_spec("bitsandbytes") is None:
            raise MissingExtraError(
                f"quantization={self.quantization!r} needs bitsandbytes.",
                hint="pip install 'ragcompress[quantization]'",
            )
        import torch
        import transformers

        build: Any = transformers.BitsAndBytesConfig  # transformers leaves it without types
        if self.quantization == "int4":
            return build(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
        return build(load_in_8bit=True, llm_int8_enable_fp32_cpu_offload=True)
