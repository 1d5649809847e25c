"""PISCO (Louis, Déjean, Clinchant; arXiv 2501.16075) and COCOM (Rau et al.; arXiv 2407.09252).

A document of 128 tokens becomes 8 vectors in the decoder's own embedding space, without knowing the question: they
are computed once, kept, and spliced into the prompt of every question that retrieves the document.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ragcompress.backends.pisco.config import PiscoConfig
from ragcompress.compressor import BackendInfo, OfflineCompressor, PublishedCheckpoint
from ragcompress.errors import OptionError
from ragcompress.latent.compressing import LatentCompressor
from ragcompress.latent.memory_rows import chunk_bounds
from ragcompress.memories import MemoryStore, memory_key
from ragcompress.sentences import splitter_name
from ragcompress.types import CompressedContext, Document, Memory, Segment

if TYPE_CHECKING:
    from ragcompress.latent.formats import DocumentFormat
    from ragcompress.latent.model import LatentModel

logger = logging.getLogger("ragcompress")

_LICENCE = "CC BY-NC 4.0"


class Pisco(LatentCompressor, OfflineCompressor):
    """Replaces documents by memory tokens that its own decoder reads.

    Attributes:
        model: decoder, compressor, formats and prompt.
        config: what is read and what is kept.
        store: where memories are kept between calls.
    """

    name: ClassVar[str] = "pisco"
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

    def __init__(
        self, model: LatentModel, config: PiscoConfig | None = None, *, store: MemoryStore | None = None
    ) -> None:
        """Take built objects; ``load`` and ``from_pretrained`` read them from a folder or the hub.

        Args:
            model: decoder, compressor, formats and prompt.
            config: None: everything is kept, long documents in chunks.
            store: None: nothing is kept between calls.

        Raises:
            OptionError: the config does not fit the model.
        """
        self.model = model
        self.config = config or PiscoConfig()
        self.store = store
        self._configured()

    def _configured(self) -> None:
        LatentCompressor._configured(self)
        config, form = self.config, self._form(self.model.documents)
        if config.memory_side == "left":
            if self.model.layout != "cocom-v1":
                raise OptionError(
                    f"memory_side='left' is for COCOM's checkpoints alone; this is a {self.model.layout} model."
                )
            form = replace(form, side="left", template="<ENC>{bos}{document}{bos}")
        self._documents: DocumentFormat = form
        self._key_settings: dict[str, str | int | float | bool | None] = {
            "space": self.model.space,
            "dtype": str(self.model.decoder.dtype),
            "quantization": self.model.quantization,
            "titles": config.titles,
            "on_long": config.on_long,
            "max_length": form.max_length,
            "side": form.side,
            "splitter": splitter_name(self._splitter) if config.on_long == "chunk" else None,
            # A blank document is encoded only where every document is.
            "blank": config.short_documents == "memory",
        }

    @classmethod
    def from_pretrained(
        cls,
        checkpoint: str | Path | None = None,
        *,
        device: str | None = None,
        dtype: str | None = None,
        revision: str | None = None,
        store: MemoryStore | None = None,
        **options: Any,
    ) -> Self:
        """Load from a folder or the hub: PISCO of 2025 or 2026, COCOM, or our own layout.

        Args:
            checkpoint: a folder or a hub id.
            device: ``"cuda"``, ``"mps"``, ``"cpu"``; None: the best there is.
            dtype: ``"float32"``, ``"bfloat16"`` or ``"float16"``; None: as the base model was saved.
            revision: of a hub id.
            store: where memories are kept.
            **options: of ``LoadOptions`` (``base``, ``compressor_base``, ``device_map``, ``quantization``,
                ``attn_implementation``), ``batch_tokens``, fields of ``PiscoConfig``, or ``preset``.

        Returns:
            The compressor.

        Raises:
            CheckpointError: the checkpoint or its base model cannot be found or does not fit.
            OptionError: an option does not exist or is out of range.
            MissingExtraError: bitsandbytes is missing.
        """
        model, config, batch_tokens = cls._load(checkpoint, revision, {"device": device, "dtype": dtype, **options})
        assert isinstance(config, PiscoConfig)
        if model.layout == "pisco-v1" and model.compressor_base is not None:
            logger.warning("%s has a compressor of its own, as OSCAR's have, which expect the question", checkpoint)
        compressor = cls(model, config, store=store)
        compressor.batch_tokens = batch_tokens
        return compressor

    @classmethod
    def tiny(cls) -> Self:
        """A decoder of two random layers; see ``Compressor.tiny``."""
        from ragcompress.latent.tiny import tiny_pisco

        return cls(tiny_pisco())

    @property
    def memory_space(self) -> str:
        """The embedding space of this very checkpoint's decoder."""
        return self.model.space

    def memory_key(self, document: Document) -> str:
        """Over text, title, weights, number format and everything of the config that changes a vector."""
        return memory_key(document, self._key_settings)

    def encode(self, documents: Sequence[Document]) -> list[Memory]:
        """Encode documents of any length, chunk by chunk, in batches of similar length.

        Args:
            documents: (n_docs,).

        Returns:
            (n_docs,) memories; rows of one chunk are neighbours and share its span. A blank document has no rows.
        """
        import torch

        chunks = self._chunks(documents, self._documents)
        encoded = self.model.encoder.encode(
            [chunk.row for each in chunks for chunk in each], batch_tokens=self.batch_tokens
        )
        vectors = iter(encoded.memories)
        memories = []
        for own, n_tokens in zip(chunks, self._lengths(documents), strict=True):
            rows = [next(vectors) for _ in own]
            empty = torch.zeros(0, self.model.decoder.width, dtype=self.model.decoder.dtype)
            memories.append(
                Memory(
                    vectors=torch.cat(rows) if rows else empty,
                    n_tokens=n_tokens,
                    space=self.model.space,
                    spans=tuple(chunk.span for chunk, row in zip(own, rows, strict=True) for _ in range(len(row))),
                    truncated=any(chunk.truncated for chunk in own),
                )
            )
        return memories

    def select(self, query: str, documents: Sequence[Document], memories: Sequence[Memory]) -> CompressedContext:
        """Keep all documents, or the first ``top_k``; see ``OfflineCompressor.select``."""
        segments: list[Segment] = []
        kept = memories if self.config.top_k is None else memories[: self.config.top_k]
        for index, (document, memory) in enumerate(zip(documents, kept, strict=False)):
            key = self.memory_key(document)
            bounds = chunk_bounds(memory)
            for number, (first, last) in enumerate(bounds):
                own = key if len(bounds) == 1 else f"{key}.{number}"
                span = memory.spans[first] if memory.spans else (0, len(document.text))
                segment = self._segment(index, document, span, memory.vectors[first:last], own, None)
                if segment is not None:
                    segments.append(segment)
        n_tokens = tuple(memory.n_tokens for memory in memories)
        return CompressedContext(
            query=query,
            documents=tuple(documents),
            segments=tuple(segments),
            n_tokens=sum(n_tokens) + self._between(documents),
            n_slots=self._written(tuple(documents), segments),
            space=self.model.space,
            truncated=any(memory.truncated for memory in kept),
            counter=self.token_counter.name,
            document_tokens=n_tokens,
            layout=self._layout,
        )
