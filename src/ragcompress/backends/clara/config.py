"""Options of CLaRa."""

from __future__ import annotations

from dataclasses import dataclass

from ragcompress.latent.config import LatentConfig
from ragcompress.options import check_range


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaraConfig(LatentConfig):
    """Options of ``clara``; the others are those of ``LatentConfig``.

    Attributes:
        top_k: keep the documents whose memory is closest to the question's, best first, as published (5 of 20); needs
            a checkpoint with a query reasoner (E2E). None: all documents, as they came, without scores.
    """

    top_k: int | None = None

    def __post_init__(self) -> None:
        """Check names and ranges."""
        LatentConfig.__post_init__(self)
        check_range("top_k", self.top_k, at_least=1, whole=True)
