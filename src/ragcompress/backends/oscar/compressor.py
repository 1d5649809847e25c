"""OSCAR (Louis, Formal, Dejean, Clinchant; arXiv 2504.07109).

A smaller model reads the question with each document and writes 8 vectors in the decoder's embedding space, and, where
it was trained to, a relevance score from the same pass. Nothing can be computed ahead of the question.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, NoReturn, Self

from ragcompress.backends.oscar.config import OscarConfig
from ragcompress.compressor import BackendInfo, PublishedCheckpoint, check_inputs, listed, query_groups
from ragcompress.errors import OptionError
from ragcompress.latent.compressing import Chunk, LatentCompressor
from ragcompress.memories import memory_key
from ragcompress.sentences import splitter_name
from ragcompress.types import CompressedContext, Document, Memory, MemorySegment, Segment

if TYPE_CHECKING:
    from torch import Tensor

    from ragcompress.latent.formats import DocumentFormat

_LICENCE = "CC BY-NC 4.0"


class Oscar(LatentCompressor):
    """Replaces documents by memory tokens made for the question.

    Attributes:
        model: decoder, compressor, formats and prompt.
        config: what is read and what is kept.
        store: where vectors lie between a compressed document and the reader of its handle; None: contexts can be
            answered, prompts with handles cannot. Every question with every document is an entry of its own, so a
            store that forgets is the right one.
    """

    name: ClassVar[str] = "oscar"
    layouts = ("pisco-v1", "pisco-v2")
    config_class = OscarConfig
    info: ClassVar[BackendInfo] = BackendInfo(
        kind="vectors",
        summary="question and document become memory tokens, with a reranking score",
        needs_query=True,
        offline=None,
        checkpoints=(
            PublishedCheckpoint("naver/oscar-mistral-7B", _LICENCE, "base: Mistral-7B-Instruct-v0.2"),
            PublishedCheckpoint("naver/oscar-qwen2-7B", _LICENCE, "base: Qwen2-7B-Instruct"),
            PublishedCheckpoint("naver/oscar-mistral-small-24B", _LICENCE, "base: Mistral-Small-24B"),
        ),
        paper="https://arxiv.org/abs/2504.07109",
    )

    config: OscarConfig

    def _configured(self) -> None:
        LatentCompressor._configured(self)
        config = self.config
        if self.model.encoder.score_head is None and (config.top_k is not None or config.order == "score"):
            wish = f"top_k={config.top_k}" if config.top_k is not None else "order='score'"
            raise OptionError(
                f"{wish} needs scores, but this checkpoint has no reranking head (none of the released ones does).",
                hint="Rank with a retriever or a reranker first; all documents are kept in their order.",
            )
        self._pairs: DocumentFormat = self._form(self.model.pairs)
        self._key_settings: dict[str, str | int | float | bool | None] = {
            "space": self.model.space,
            "dtype": str(self.model.decoder.dtype),
            "quantization": self.model.quantization,
            "titles": config.titles,
            "on_long": config.on_long,
            "max_length": self._pairs.max_length,
            "splitter": splitter_name(self._splitter) if config.on_long == "chunk" else None,
            "blank": config.short_documents == "memory",
        }

    def _doubt(self) -> str | None:
        if self.model.compressor_base is None:
            return "has no compressor of its own: PISCO's checkpoints were not trained on questions"
        return None

    @classmethod
    def tiny(cls) -> Self:
        """A decoder and a compressor of two random layers each; see ``Compressor.tiny``."""
        from ragcompress.latent.tiny import tiny_oscar

        return cls(tiny_oscar())

    def compress_batch(
        self, queries: Sequence[str], documents: Sequence[Sequence[Document | str]]
    ) -> list[CompressedContext]:
        """Read every question with its documents, all of them in shared batches; see ``Compressor.compress_batch``."""
        queries = listed(queries)
        checked = check_inputs(queries, documents)
        contexts: list[CompressedContext] = []
        for group in query_groups(checked):
            contexts += self._compress_group([queries[index] for index in group], [checked[index] for index in group])
        return contexts

    def remember(self, documents: Sequence[Document | str]) -> NoReturn:
        """Refuse: nothing of OSCAR can be computed ahead of the question.

        Args:
            documents: any number.

        Raises:
            OptionError: always.
        """
        raise OptionError("OSCAR reads question and document together: there is nothing to compute ahead of time.")

    def _compress_group(
        self, queries: Sequence[str], documents: Sequence[tuple[Document, ...]]
    ) -> list[CompressedContext]:
        begin = time.perf_counter()
        flat = [document for each in documents for document in each]
        asked = [query for query, each in zip(queries, documents, strict=True) for _ in each]
        chunks = self._chunks(flat, self._pairs, asked)
        encoded = self.model.encoder.encode(
            [chunk.row for each in chunks for chunk in each], batch_tokens=self.batch_tokens
        )
        scores: list[float | None] = (
            list(encoded.scores) if encoded.scores is not None else [None] * len(encoded.memories)
        )
        lengths = iter(self._lengths(flat))
        by_document = iter(chunks)
        rows = zip(encoded.memories, scores, strict=True)
        contexts = [
            self._context(query, own, [next(by_document) for _ in own], rows, [next(lengths) for _ in own])
            for query, own in zip(queries, documents, strict=True)
        ]
        took = (time.perf_counter() - begin) * 1000 / max(1, len(queries))
        return [replace(context, timings={"compress_ms": took}) for context in contexts]

    def _context(
        self,
        query: str,
        documents: tuple[Document, ...],
        chunks: list[list[Chunk]],
        rows: Iterator[tuple[Tensor, float | None]],
        lengths: list[int],
    ) -> CompressedContext:
        found: list[list[Segment]] = []
        memories: dict[str, Memory] = {}
        for index, (document, own) in enumerate(zip(documents, chunks, strict=True)):
            segments: list[Segment] = []
            key = memory_key(document, {**self._key_settings, "query": query})
            for number, chunk in enumerate(own):
                vectors, score = next(rows)
                own_key = key if len(own) == 1 else f"{key}-{number}"
                segment = self._segment(index, document, chunk.span, vectors, own_key, score)
                if isinstance(segment, MemorySegment):
                    memories[own_key] = Memory(vectors, segment.n_slots, self.model.space)
                if segment is not None:
                    segments.append(segment)
            found.append(segments)
        order = self._kept(found)
        kept = [segment for index in order for segment in found[index]]
        if self.store is not None and memories:
            wanted = {segment.key for segment in kept if isinstance(segment, MemorySegment)}
            self.store.put({key: memory for key, memory in memories.items() if key in wanted})
        return CompressedContext(
            query=query,
            documents=documents,
            segments=tuple(kept),
            n_tokens=sum(lengths) + self._between(documents),
            n_slots=self._written(documents, kept),
            space=self.model.space,
            truncated=any(chunk.truncated for index in order for chunk in chunks[index]),
            counter=self.token_counter.name,
            document_tokens=tuple(lengths),
            layout=self._layout,
        )

    def _kept(self, found: Sequence[Sequence[Segment]]) -> list[int]:
        """Documents that are kept, in reading order; a document is as relevant as its best chunk."""
        indices = [index for index, segments in enumerate(found) if segments]
        best = {index: max((s.score for s in found[index] if s.score is not None), default=0.0) for index in indices}
        ranked = sorted(indices, key=lambda index: (-best[index], index))
        chosen = ranked if self.config.top_k is None else ranked[: self.config.top_k]
        return chosen if self.config.order == "score" else sorted(chosen)
