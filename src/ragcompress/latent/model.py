"""Everything that a latent backend runs on, as one value: decoder, compressor, formats and prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ragcompress.errors import InputError
from ragcompress.latent.backbone import Backbone
from ragcompress.latent.encoder import MemoryEncoder
from ragcompress.latent.formats import DocumentFormat
from ragcompress.latent.text import TemplateTokenizer
from ragcompress.prompts import AnswerPrompt


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class LatentModel:
    """A loaded checkpoint; compressors and readers share it, and never change it.

    Attributes:
        name: short, for the name of the space.
        layout: which published format it came in: ``"pisco-v1"``, ``"clara-v1"``, ``"pisco-v2"`` or
            ``"cocom-v1"``.
        fingerprint: of everything that changes a vector, but for the number format.
        decoder: answers.
        encoder: makes memories.
        encoder_text: the compressor's tokenizer; the decoder's own where the decoder compresses.
        documents: format of a document alone.
        pairs: format of a question with a document.
        prompt: the published prompt.
        settings: the published configuration, for saving.
        query_encoder: turns a question into memory tokens that are compared with those of documents (CLaRa).
        base: id or folder name of the base model.
        compressor_base: the same of a separate compressor; None: there is none.
        folder: of the checkpoint; None: it was built in memory.
        quantization: of the decoder's weights; None: none.
        base_folder: where the base model's weights lie; None: nowhere but in this model.
    """

    name: str
    layout: str
    fingerprint: str
    decoder: Backbone
    encoder: MemoryEncoder
    encoder_text: TemplateTokenizer
    documents: DocumentFormat
    pairs: DocumentFormat
    prompt: AnswerPrompt
    settings: Mapping[str, Any] = field(default_factory=dict)
    query_encoder: MemoryEncoder | None = None
    base: str = ""
    compressor_base: str | None = None
    base_folder: Path | None = None
    folder: Path | None = None
    quantization: str | None = None

    @property
    def space(self) -> str:
        """Name of the embedding space: vectors of one checkpoint mean nothing to another."""
        return f"{self.name}@{self.fingerprint}"

    @property
    def slot_tokens(self) -> tuple[str, ...]:
        """The placeholders of one chunk in the decoder's prompt; a single one is repeated."""
        return self.documents.memory_tokens

    def placeholders(self, n_slots: int) -> str:
        """Write the placeholders of one chunk.

        Args:
            n_slots: how many vectors it has.

        Returns:
            ``<MEM0>...<MEM7>``, or one token repeated.

        Raises:
            InputError: the model's chunks have another number.
        """
        if self.documents.rate is not None:
            return self.slot_tokens[0] * n_slots
        if n_slots != len(self.slot_tokens):
            raise InputError(
                f"a segment has {n_slots} vectors; this model's have {len(self.slot_tokens)}.",
                hint="Was it made by another checkpoint?",
            )
        return "".join(self.slot_tokens)
