"""What PISCO and CLaRa share: documents are encoded without the question, once, chunk by chunk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ragcompress.compressor import OfflineCompressor
from ragcompress.latent.compressing import LatentCompressor
from ragcompress.latent.memory_rows import chunk_bounds
from ragcompress.memories import memory_key
from ragcompress.sentences import splitter_name
from ragcompress.types import CompressedContext, Document, Memory, Segment

if TYPE_CHECKING:
    from ragcompress.latent.formats import DocumentFormat


class LatentOfflineCompressor(LatentCompressor, OfflineCompressor):
    """A latent compressor whose memories do not depend on the question."""

    def _configured(self) -> None:
        LatentCompressor._configured(self)
        config, form = self.config, self._document_format()
        self._documents = form
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

    def _document_format(self) -> DocumentFormat:
        """The format of a document alone, as configured."""
        return self._form(self.model.documents)

    @property
    def memory_space(self) -> str:
        """The embedding space of this very checkpoint's decoder."""
        return self.model.space

    @property
    def memory_settings(self) -> Mapping[str, str | int | float | bool | None]:
        """Number format, lengths and formats; see ``OfflineCompressor.memory_settings``."""
        return {name: value for name, value in self._key_settings.items() if name != "space"}

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

    def _segments(
        self,
        index: int,
        document: Document,
        memory: Memory,
        scores: Sequence[float] | None = None,
        key: str | None = None,
    ) -> list[Segment]:
        """One document's segments, a chunk each."""
        segments = []
        key = self.memory_key(document) if key is None else key
        bounds = chunk_bounds(memory)
        for number, (first, last) in enumerate(bounds):
            own = key if len(bounds) == 1 else f"{key}.{number}"
            span = memory.spans[first] if memory.spans else (0, len(document.text))
            score = None if scores is None else scores[number]
            segment = self._segment(index, document, span, memory.vectors[first:last], own, score)
            if segment is not None:
                segments.append(segment)
        return segments

    def _context(
        self,
        query: str,
        documents: Sequence[Document],
        memories: Sequence[Memory],
        segments: Sequence[Segment],
        kept: Sequence[int],
    ) -> CompressedContext:
        """A result of some documents' segments."""
        n_tokens = tuple(memory.n_tokens for memory in memories)
        return CompressedContext(
            query=query,
            documents=tuple(documents),
            segments=tuple(segments),
            n_tokens=sum(n_tokens) + self._between(documents),
            n_slots=self._written(tuple(documents), segments),
            space=self.model.space,
            truncated=any(memories[index].truncated for index in kept),
            counter=self.token_counter.name,
            document_tokens=n_tokens,
            layout=self._layout,
        )
