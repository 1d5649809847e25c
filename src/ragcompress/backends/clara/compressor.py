"""CLaRa (He et al.; arXiv 2511.18659): compression, retrieval and answering over the same memory tokens.

Documents are encoded once. A question under its own adapter becomes memory tokens, too; their cosine with those of a
document says how relevant it is, and the best documents' tokens go into the decoder's prompt, best first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ragcompress.backends.clara.config import ClaraConfig
from ragcompress.compressor import BackendInfo, PublishedCheckpoint
from ragcompress.errors import InputError, OptionError
from ragcompress.latent.memory_rows import chunk_bounds
from ragcompress.latent.offline import LatentOfflineCompressor
from ragcompress.memories import MemoryStore
from ragcompress.searching import SearchingCompressor
from ragcompress.types import CompressedContext, Document, Memory

if TYPE_CHECKING:
    from torch import Tensor

    from ragcompress.backends.clara.reader import ClaraReader
    from ragcompress.stores.index import Hit

_LICENCE = "apple-amlr (research)"


class Clara(LatentOfflineCompressor, SearchingCompressor):
    """Replaces documents by memory tokens, and finds the ones that answer a question among them.

    Attributes:
        model: decoder, compressor, query reasoner, formats and prompt.
        config: what is read and what is kept.
        store: where memories are kept between calls.
    """

    name: ClassVar[str] = "clara"
    layouts = ("clara-v1",)
    config_class = ClaraConfig
    info: ClassVar[BackendInfo] = BackendInfo(
        kind="vectors",
        summary="memory tokens that are retrieved and answered from in one space",
        needs_query=False,
        offline="memory tokens",
        checkpoints=(
            PublishedCheckpoint("apple/CLaRa-7B-Instruct/compression-16", _LICENCE, "answers; also compression-128"),
            PublishedCheckpoint("apple/CLaRa-7B-E2E/compression-16", _LICENCE, "retrieves, too; also compression-128"),
            PublishedCheckpoint("apple/CLaRa-7B-Base/compression-16", _LICENCE, "pretrained only"),
        ),
        paper="https://arxiv.org/abs/2511.18659",
    )

    config: ClaraConfig

    def _configured(self) -> None:
        LatentOfflineCompressor._configured(self)
        if self.config.top_k is not None:
            self._require_reasoner(f"top_k={self.config.top_k}")

    def _require_reasoner(self, wish: str) -> None:
        if self.model.query_encoder is None:
            stage = self.model.settings.get("training_stage")
            raise OptionError(
                f"{wish} needs a query reasoner, which this checkpoint{f' ({stage})' if stage else ''} does not have.",
                hint="The E2E checkpoints do; Base and Instruct compress and answer. Rank with a retriever first.",
            )

    @classmethod
    def tiny(cls) -> Self:
        """A decoder of two random layers with three adapters; see ``Compressor.tiny``."""
        from ragcompress.latent.tiny import tiny_clara

        return cls(tiny_clara())

    def encode_queries(self, queries: Sequence[str]) -> list[Tensor]:
        """Turn questions into memory tokens, in the same format as documents, under the query reasoner.

        Args:
            queries: (n_queries,).

        Returns:
            (n_queries,) tensors (n_slots, width), on the CPU.

        Raises:
            OptionError: the checkpoint has no query reasoner.
        """
        self._require_reasoner("retrieval")
        assert self.model.query_encoder is not None
        rows = self._documents.rows(self.model.encoder_text, queries)
        return self.model.query_encoder.encode(rows, batch_tokens=self.batch_tokens).memories

    def score(self, query: Tensor, memories: Sequence[Memory]) -> list[list[float]]:
        """Cosine of a question's flattened memory with those of documents, chunk by chunk.

        Args:
            query: (n_slots, width).
            memories: (n_docs,).

        Returns:
            (n_docs,) lists, a score for each chunk; as published, normalised in the memory's own number format and
            multiplied in float32.
        """
        import torch

        from ragcompress.stores.ranking import unit

        chunks = [memory.vectors[first:last] for memory in memories for first, last in chunk_bounds(memory)]
        if not chunks:
            return [[] for _ in memories]
        flat = unit(torch.stack([chunk.flatten() for chunk in chunks]))
        found = iter((flat @ unit(query.flatten())).tolist())
        return [[next(found) for _ in chunk_bounds(memory)] for memory in memories]

    def select(self, query: str, documents: Sequence[Document], memories: Sequence[Memory]) -> CompressedContext:
        """Keep the best documents, best first, or all; see ``OfflineCompressor.select``."""
        return self.select_batch([query], [documents], [memories])[0]

    def select_batch(
        self, queries: Sequence[str], documents: Sequence[Sequence[Document]], memories: Sequence[Sequence[Memory]]
    ) -> list[CompressedContext]:
        """Encode the questions together, then select for each."""
        if self.config.top_k is None:
            vectors: list[Tensor | None] = [None] * len(queries)
        else:
            for query in queries:
                if not query.strip():
                    raise InputError(f"the query is empty ({query!r}); top_k={self.config.top_k} ranks by it.")
            vectors = list(self.encode_queries(queries))
        return [self._select(*each) for each in zip(queries, vectors, documents, memories, strict=True)]

    def _select(
        self, query: str, vectors: Tensor | None, documents: Sequence[Document], memories: Sequence[Memory]
    ) -> CompressedContext:
        order = list(range(len(documents)))
        scores: list[list[float]] | None = None
        if vectors is not None:
            scores = self.score(vectors, memories)
            # A document is as relevant as its best chunk; one without any is none.
            ranked = [index for index in order if scores[index]]
            order = sorted(ranked, key=lambda index: (-max(scores[index]), index))[: self.config.top_k]
        segments = [
            segment
            for index in order
            for segment in self._segments(
                index, documents[index], memories[index], None if scores is None else scores[index]
            )
        ]
        return self._context(query, documents, memories, segments, order)

    def check_searchable(self) -> None:
        """Refuse checkpoints without a query reasoner; see ``SearchingCompressor.check_searchable``."""
        self._require_reasoner("retrieval")

    def context_of(self, query: str, hits: Sequence[Hit]) -> CompressedContext:
        """Keep all that was found, best first; see ``SearchingCompressor.context_of``."""
        documents, memories = [hit.document for hit in hits], [hit.memory for hit in hits]
        segments = [
            segment
            for index, hit in enumerate(hits)
            for segment in self._segments(index, hit.document, hit.memory, hit.scores, hit.key)
        ]
        return self._context(query, documents, memories, segments, range(len(hits)))

    def reader(self, *, store: MemoryStore | None = None, **options: Any) -> ClaraReader:
        """Build the reader of this checkpoint; see ``Compressor.reader``."""
        from ragcompress.backends.clara.reader import ClaraReader

        plain = LatentOfflineCompressor.reader(self, store=store, **options)
        return ClaraReader(plain.model, store=plain.store, prompt=plain.prompt, **plain.defaults)
