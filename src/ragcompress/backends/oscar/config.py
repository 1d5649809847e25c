"""Options of OSCAR."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ragcompress.latent.config import LatentConfig
from ragcompress.options import check_choice, check_range


@dataclass(frozen=True, slots=True, kw_only=True)
class OscarConfig(LatentConfig):
    """Options of ``oscar``; the others are those of ``LatentConfig``.

    Attributes:
        top_k: keep the documents with the highest scores; needs a checkpoint with a reranking head. None: all.
        order: ``"document"``: as they came; ``"score"``: best first, which needs a reranking head, too.
    """

    top_k: int | None = None
    order: Literal["document", "score"] = "document"

    # The training harness grants question and document 128 + 64 tokens together, the released class 128.
    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "upstream": LatentConfig.PRESETS["upstream"],
        "bergen": {**LatentConfig.PRESETS["bergen"], "max_length": 192},
    }

    def __post_init__(self) -> None:
        """Check names and ranges."""
        LatentConfig.__post_init__(self)
        check_range("top_k", self.top_k, at_least=1, whole=True)
        check_choice("order", self.order, ("document", "score"))
