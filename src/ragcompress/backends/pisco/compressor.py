"""PISCO (Louis, Déjean, Clinchant; arXiv 2501.16075) and COCOM (Rau et al.; arXiv 2407.09252).

A document of 128 tokens becomes 8 vectors in the decoder's own embedding space, without knowing the question: they
are computed once, kept, and spliced into the prompt of every question that retrieves the document.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Self

from ragcompress.backends.pisco.config import PiscoConfig
from ragcompress.compressor import BackendInfo, PublishedCheckpoint
from ragcompress.errors import OptionError
from ragcompress.latent.offline import LatentOfflineCompressor
from ragcompress.types import CompressedContext, Document, Memory

if TYPE_CHECKING:
    from ragcompress.latent.formats import DocumentFormat

_LICENCE = "CC BY-NC 4.0"


class Pisco(LatentOfflineCompressor):
    """Replaces documents by memory tokens that its own decoder reads.

    Attributes:
        model: decoder, compressor, formats and prompt.
        config: what is read and what is kept.
        store: where memories are kept between calls.
    """

    name: ClassVar[str] = "pisco"
    layouts = ("pisco-v1", "pisco-v2", "cocom-v1")
    config_class = PiscoConfig
    info: ClassVar[BackendInfo] = BackendInfo(
        kind="vectors",
        summary="documents become memory tokens, for any question",
        needs_query=False,
        offline="memory tokens",
        checkpoints=(
            PublishedCheckpoint("naver/pisco-mistral", _LICENCE, "base: Mistral-7B-Instruct-v0.2"),
            PublishedCheckpoint("naver/pisco-llama", _LICENCE, "base: Llama-3.1-8B-Instruct"),
            PublishedCheckpoint("naver/pisco-solar", _LICENCE, "base: SOLAR-10.7B-Instruct-v1.0"),
            PublishedCheckpoint("naver/cocom-v1-16-mistral-7b", _LICENCE, "COCOM; also -4- and -128-"),
        ),
        paper="https://arxiv.org/abs/2501.16075",
    )

    config: PiscoConfig

    def _configured(self) -> None:
        LatentOfflineCompressor._configured(self)
        if self.config.memory_side == "left" and self.model.layout != "cocom-v1":
            raise OptionError(
                f"memory_side='left' is for COCOM's checkpoints alone; this is a {self.model.layout} model."
            )

    def _document_format(self) -> DocumentFormat:
        form = LatentOfflineCompressor._document_format(self)
        if self.config.memory_side == "left":
            form = replace(form, side="left", template="<ENC>{bos}{document}{bos}")
        return form

    def _doubt(self) -> str | None:
        if self.model.layout == "pisco-v1" and self.model.compressor_base is not None:
            return "has a compressor of its own, as OSCAR's have, which expect the question"
        return None

    @classmethod
    def tiny(cls) -> Self:
        """A decoder of two random layers; see ``Compressor.tiny``."""
        from ragcompress.latent.tiny import tiny_pisco

        return cls(tiny_pisco())

    def select(self, query: str, documents: Sequence[Document], memories: Sequence[Memory]) -> CompressedContext:
        """Keep all documents, or the first ``top_k``; see ``OfflineCompressor.select``."""
        kept = len(documents) if self.config.top_k is None else self.config.top_k
        segments = [
            segment
            for index, (document, memory) in enumerate(zip(documents[:kept], memories, strict=False))
            for segment in self._segments(index, document, memory)
        ]
        return self._context(query, documents, memories, segments, range(min(kept, len(documents))))
