"""Options of PISCO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ragcompress.latent.config import LatentConfig
from ragcompress.options import check_choice, check_range


@dataclass(frozen=True, slots=True, kw_only=True)
class PiscoConfig(LatentConfig):
    """Options of ``pisco``; the others are those of ``LatentConfig``.

    Attributes:
        top_k: keep the first so many documents, as the retriever ranked them; None: all.
        memory_side: COCOM only: ``"left"`` puts the memory tokens in front of the document and closes it with BOS, as
            its hub helper does; they then see nothing of the document. For bit parity alone.
    """

    top_k: int | None = None
    memory_side: Literal["right", "left"] = "right"

    def __post_init__(self) -> None:
        """Check names and ranges."""
        LatentConfig.__post_init__(self)
        check_range("top_k", self.top_k, at_least=1, whole=True)
        check_choice("memory_side", self.memory_side, ("right", "left"))
