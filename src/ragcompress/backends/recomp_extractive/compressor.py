"""RECOMP's extractive compressor (Xu, Shi, Choi; arXiv 2310.04408).

A sentence's vector does not depend on the query, so it is a memory: a warm query costs one query encoding, one matrix
product and, unless the scorer is ``"dense"``, one count of the sentences' words. Where paper and released code differ,
this follows the code (masked mean instead of [CLS], raw dot product, 512 tokens); the selection rules of the paper and
of two evaluation suites are presets.
"""

from __future__ import annotations

import warnings
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ragcompress import pretrained
from ragcompress.backends.recomp_extractive import _checkpoint
from ragcompress.backends.recomp_extractive._prompts import read_prompts
from ragcompress.backends.recomp_extractive.config import RecompExtractiveConfig
from ragcompress.backends.recomp_extractive.scoring import score_words
from ragcompress.compressor import BackendInfo, OfflineCompressor, PublishedCheckpoint
from ragcompress.devices import pick_device
from ragcompress.errors import EmptyResultWarning, InputError, OptionError
from ragcompress.memories import MemoryStore, memory_key
from ragcompress.options import build_config, check_choice, check_range
from ragcompress.selection import arrange, choose, no_longer_layout
from ragcompress.sentences import get_splitter, split_sentences, splitter_name
from ragcompress.tokens import count_all, get_token_counter
from ragcompress.types import CompressedContext, Document, Layout, Memory, Segment, Source, TextSegment, write_out

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import Tensor

    from ragcompress.backends.recomp_extractive.model import Encoder

DEFAULT_TOP_K = 6
_LOADING = ("backend", "max_length", "batch_tokens", "query_prompt", "document_prompt")


class RecompExtractive(OfflineCompressor):
    """Keeps the sentences that score highest: by the dot product of vectors, by shared words, or by both.

    Attributes:
        encoder: text -> vector.
        config: what is scored and what is kept.
        store: where sentence vectors are kept between calls.
    """

    name: ClassVar[str] = "recomp-extractive"
    info: ClassVar[BackendInfo] = BackendInfo(
        kind="text",
        summary="a dual encoder ranks the sentences of all documents",
        needs_query=True,
        offline="sentence vectors",
        checkpoints=(
            PublishedCheckpoint("sentence-transformers/all-MiniLM-L6-v2", "Apache-2.0", "the default"),
            PublishedCheckpoint("intfloat/multilingual-e5-small", "MIT", "94 languages"),
            PublishedCheckpoint("fangyuan/nq_extractive_compressor", "not stated"),
            PublishedCheckpoint("fangyuan/tqa_extractive_compressor", "not stated"),
            PublishedCheckpoint("fangyuan/hotpotqa_extractive_compressor", "not stated"),
            PublishedCheckpoint("facebook/contriever-msmarco", "not stated", "what RECOMP was trained from"),
        ),
        paper="https://arxiv.org/abs/2310.04408",
    )

    config: RecompExtractiveConfig

    def __init__(
        self,
        encoder: Encoder | SentenceTransformer,
        config: RecompExtractiveConfig | None = None,
        *,
        store: MemoryStore | None = None,
    ) -> None:
        """Take built objects; ``load`` and ``from_pretrained`` read them from a folder or the hub.

        Args:
            encoder: a ``SentenceEncoder``, or a ``SentenceTransformer``, which is used as it is.
            config: None: the six best sentences, in document order.
            store: None: nothing is kept between calls.

        Raises:
            OptionError: the encoder is neither.
        """
        from ragcompress.backends.recomp_extractive.model import as_encoder

        self.encoder = as_encoder(encoder)
        self.config = config or RecompExtractiveConfig(top_k=DEFAULT_TOP_K)
        self.store = store
        self._configured()

    def _configured(self) -> None:
        config = self.config
        self._splitter = get_splitter(config.splitter)
        self.token_counter = (
            self.encoder.counter if config.token_counter == "encoder" else get_token_counter(config.token_counter)
        )
        self._normalize = self.encoder.normalize if config.normalize is None else config.normalize
        self._scorer, self._hops = config.ranking(trained_for_dot_product=not self.encoder.normalize)
        self._key_settings = {
            "space": self.memory_space,
            "splitter": splitter_name(self._splitter),
            "titles": config.titles,
            # The encoder's own vocabulary is part of its fingerprint; its name depends on where the folder is.
            "counter": "encoder" if config.token_counter == "encoder" else self.token_counter.name,
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
        backend: str = "torch",
        max_length: int | None = None,
        batch_tokens: int | None = None,
        query_prompt: str | None = None,
        document_prompt: str | None = None,
        **options: Any,
    ) -> Self:
        """Load from a folder in the published layout or from the hub.

        Args:
            checkpoint: a folder, a hub id, or None: the weights of the ``[offline]`` extra if it is installed, else
                ``sentence-transformers/all-MiniLM-L6-v2`` from the hub.
            device: ``"cuda"``, ``"mps"``, ``"cpu"``; None: the best there is.
            dtype: ``"float32"`` (default), ``"bfloat16"`` or ``"float16"``.
            revision: of a hub id.
            store: where sentence vectors are kept.
            backend: ``"torch"``, or ``"onnx"`` (extra ``[onnx]``, CPU).
            max_length: tokens read of one sentence, special tokens included; None: the tokenizer's limit, 512.
            batch_tokens: padded size of an encoding batch in tokens; None: 512 on a CPU, 65536 elsewhere.
            query_prompt: put in front of every query; None: as the checkpoint declares, or as its model card asks for
                where it declares nothing (the E5 family, under its hub ids; what seems to be a copy is warned of).
            document_prompt: put in front of every sentence; None: likewise.
            **options: fields of ``RecompExtractiveConfig``, or ``preset``.

        Returns:
            The compressor.

        Raises:
            CheckpointError: the checkpoint cannot be found or does not fit.
            OptionError: an option does not exist or is out of range.
            MissingExtraError: ONNX Runtime is missing.
        """
        check_choice("backend", backend, ("torch", "onnx"))
        cls.check_options(**options)
        check_range("batch_tokens", batch_tokens, at_least=1, whole=True)
        check_range("max_length", max_length, at_least=3, whole=True)
        _check_prompts(query_prompt, document_prompt)
        folder = _checkpoint.find_folder(checkpoint, revision, onnx=backend == "onnx")
        saved = pretrained.read_settings(folder, RecompExtractiveConfig, cls.name) or {"top_k": DEFAULT_TOP_K}
        config = build_config(RecompExtractiveConfig, options, defaults=saved, other_options=_LOADING)
        prompts = read_prompts(folder, checkpoint, query=query_prompt, document=document_prompt)
        encoder: Encoder
        if backend == "onnx":
            if device not in (None, "cpu") or dtype not in (None, "float32"):
                raise OptionError(f"backend='onnx' runs in float32 on the CPU, got device={device!r}, dtype={dtype!r}.")
            encoder = _checkpoint.load_onnx(
                folder, max_length=max_length, batch_tokens=batch_tokens or 2048, prompts=prompts
            )
        else:
            device = pick_device(device)
            size = batch_tokens or (512 if device == "cpu" else 65536)
            encoder = _checkpoint.load_encoder(
                folder, device=device, dtype=dtype, max_length=max_length, batch_tokens=size, prompts=prompts
            )
        return cls(encoder, config, store=store)

    @classmethod
    def check_options(cls, **options: Any) -> None:
        """Check options without loading anything; see ``Compressor.check_options``."""
        loading = ("device", "dtype", "revision", "store", *_LOADING)
        rest = {name: value for name, value in options.items() if name not in loading}
        check_range("batch_tokens", options.get("batch_tokens"), at_least=1, whole=True)
        _check_prompts(options.get("query_prompt"), options.get("document_prompt"))
        build_config(RecompExtractiveConfig, rest, defaults={"top_k": DEFAULT_TOP_K}, other_options=loading)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write weights, tokenizer and options, all or nothing; sentence-transformers reads the folder too.

        Args:
            folder: must not exist, or be empty.

        Raises:
            CheckpointError: the folder holds something.
            OptionError: the encoder or an option is an object that has no name in a file.
        """
        from ragcompress.backends.recomp_extractive.model import SentenceEncoder

        if not isinstance(self.encoder, SentenceEncoder):
            raise OptionError(f"{type(self.encoder).__name__} saves itself: call its own model.save_pretrained.")
        _checkpoint.save_encoder(self.encoder, {"backend": self.name, "config": self.config.as_json()}, Path(folder))

    @classmethod
    def tiny(cls) -> Self:
        """A two-layer BERT with random weights; see ``Compressor.tiny``."""
        from ragcompress.backends.recomp_extractive._tiny import tiny_encoder

        return cls(tiny_encoder(), RecompExtractiveConfig(top_k=4))

    @property
    def memory_space(self) -> str:
        """Sentence vectors of this very encoder."""
        return f"{self.name}@{self.encoder.fingerprint}"

    def memory_key(self, document: Document) -> str:
        """Over text, title, weights, dtype, pooling, limits, splitter and counter."""
        return memory_key(document, self._key_settings)

    def encode(self, documents: Sequence[Document]) -> list[Memory]:
        """Split documents and encode their sentences together, in batches of similar length.

        Args:
            documents: (n_docs,).

        Returns:
            (n_docs,) memories with one row and one span a sentence. With ``titles="first_sentence"`` the first
            sentence of a longer document is not scored and has a span without a row.
        """
        spans = [_with_words(document.text, split_sentences(document.text, self._splitter)) for document in documents]
        units = [self._units(document, each) for document, each in zip(documents, spans, strict=True)]
        vectors, truncated = self.encoder.encode([unit for each in units for unit in each])
        lengths = count_all(self.token_counter, [document.text for document in documents])
        title_lengths = count_all(self.token_counter, [document.title or "" for document in documents])
        memories = []
        begin = 0
        for each, own_spans, length, title_length in zip(units, spans, lengths, title_lengths, strict=True):
            end = begin + len(each)
            memories.append(
                Memory(
                    # A slice would keep the whole batch's vectors alive for as long as one document is kept.
                    vectors=vectors[begin:end].clone(),
                    n_tokens=length + title_length,
                    space=self.memory_space,
                    spans=tuple(own_spans),
                    truncated=any(truncated[begin:end]),
                )
            )
            begin = end
        return memories

    def _units(self, document: Document, spans: Sequence[tuple[int, int]]) -> list[str]:
        """The texts that are scored."""
        sentences = [document.text[start:end] for start, end in spans]
        if self.config.titles == "first_sentence" and len(sentences) > 1:
            return [f"{sentences[0]} {sentence}" for sentence in sentences[1:]]
        if self.config.titles == "prefix" and document.title:
            return [f"{document.title} {sentence}" for sentence in sentences]
        return sentences

    def select(self, query: str, documents: Sequence[Document], memories: Sequence[Memory]) -> CompressedContext:
        """Score the sentences of all documents and keep the best; see ``OfflineCompressor.select``."""
        return self.select_batch([query], [documents], [memories])[0]

    def select_batch(
        self, queries: Sequence[str], documents: Sequence[Sequence[Document]], memories: Sequence[Sequence[Memory]]
    ) -> list[CompressedContext]:
        """Encode the queries together, then select for each."""
        filled = [any(len(memory.vectors) for memory in each) for each in memories]
        wanted = [query for query, full in zip(queries, filled, strict=True) if full and self._scorer != "bm25"]
        encoded = iter(zip(*self.encoder.encode(wanted, query=True), strict=True) if wanted else ())
        contexts = []
        for query, own_documents, own_memories, full in zip(queries, documents, memories, filled, strict=True):
            scores: list[float] = []
            cut = False
            if full:
                vector, cut = next(encoded) if self._scorer != "bm25" else (None, False)
                scores = self._all_scores(query, vector, own_documents, own_memories)
            contexts.append(self._context(query, tuple(own_documents), own_memories, scores, truncated=cut))
        return contexts

    def _all_scores(
        self, query: str, vector: Tensor | None, documents: Sequence[Document], memories: Sequence[Memory]
    ) -> list[float]:
        """Score every sentence by the scorer of the config; ``vector`` is None where only words count."""
        dense = self.score(vector, memories) if vector is not None else None
        if self._scorer == "dense" and dense is not None:
            return dense
        units = [
            unit
            for document, memory in zip(documents, memories, strict=True)
            for unit in self._units(document, memory.spans or ())
        ]
        return score_words(query, units, dense=dense, hops=self._hops)

    def score(self, query: Tensor, memories: Sequence[Memory]) -> list[float]:
        """Dot product of a query with every sentence.

        Args:
            query: (width,).
            memories: (n_docs,) with (n_sents, width) vectors each.

        Returns:
            (total of n_sents,) floats.

        Raises:
            InputError: a score is not a finite number: the weights overflow in this dtype.
        """
        from ragcompress.nn.pooling import unit_length

        matrix = memories[0].vectors if len(memories) == 1 else _concatenate([memory.vectors for memory in memories])
        if self._normalize:
            matrix, query = unit_length(matrix), unit_length(query)
        # Row by row: a matrix product may round equal rows differently, and ties are broken by position.
        scores: list[float] = (matrix * query).sum(dim=-1).tolist()
        if any(score != score or abs(score) == float("inf") for score in scores):
            raise InputError(
                "the encoder gave scores that are not finite numbers.", hint="Load it with dtype='float32'."
            )
        return scores

    def _context(
        self,
        query: str,
        documents: tuple[Document, ...],
        memories: Sequence[Memory],
        scores: list[float],
        *,
        truncated: bool,
    ) -> CompressedContext:
        config = self.config
        # Candidates: (document, span) in document order, one a score.
        places: list[tuple[int, tuple[int, int]]] = []
        titles: dict[int, tuple[int, int]] = {}
        for document, memory in enumerate(memories):
            spans = memory.spans or ()
            if len(spans) > len(memory.vectors):
                titles[document] = spans[0]
                spans = spans[1:]
            places += [(document, span) for span in spans]

        def text_of(index: int) -> str:
            document, (start, end) = places[index]
            return documents[document].text[start:end]

        def count(indices: Sequence[int]) -> list[int]:
            return count_all(self.token_counter, [text_of(index) for index in indices])

        def first_cost(document: int) -> int:
            if document in titles:
                start, end = titles[document]
                return self.token_counter(documents[document].text[start:end])
            title = documents[document].title if config.layout.title != "never" else None
            return self.token_counter(title) if title else 0

        n_tokens = [memory.n_tokens for memory in memories]
        kept = choose(
            scores, [document for document, _ in places], config, count=count, first_cost=first_cost, n_tokens=n_tokens
        )
        # White space counts in some vocabularies; the documents are taken as long as they would be written.
        separators = max(0, len(documents) - 1) * self.token_counter(config.layout.document_separator)
        separators += sum(bool(document.title) for document in documents) * self.token_counter(
            config.layout.title_separator
        )
        n_input = sum(n_tokens) + separators
        budget = n_input
        if config.max_tokens is not None:
            budget = min(budget, config.max_tokens)
        elif config.ratio is not None and config.pool == "all":
            budget = int(sum(n_tokens) / config.ratio + 1e-9)

        def written(segments: Sequence[Segment], layout: Layout) -> int:
            return self.token_counter(write_out(documents, segments, layout))

        def build(n_kept: int) -> tuple[list[Segment], int]:
            segments = self._segments(documents, places, titles, kept[:n_kept], scores)
            return segments, written(segments, layout)

        segments = self._segments(documents, places, titles, kept, scores)
        layout, n_slots = no_longer_layout(config.layout, lambda each: written(segments, each), n_input)
        if n_slots > budget:
            # Lengths of parts need not add up to the length of the whole in every vocabulary: the ceiling is hard.
            n_kept = bisect_right(range(len(kept)), budget, key=lambda n: build(n)[1]) - 1
            while n_kept >= 0 and n_slots > budget:
                segments, n_slots = build(n_kept)
                n_kept -= 1
        if not segments and places and config.threshold is None:
            limit = "the limit" if config.pool == "document" else f"{budget} tokens"
            warnings.warn(f"nothing was kept: no sentence fits into {limit}.", EmptyResultWarning, stacklevel=2)
        return CompressedContext(
            query=query,
            documents=documents,
            segments=tuple(segments),
            n_tokens=n_input,
            n_slots=n_slots,
            truncated=truncated or any(memory.truncated for memory in memories),
            counter=self.token_counter.name,
            document_tokens=tuple(n_tokens),
            layout=layout,
        )

    def _segments(
        self,
        documents: tuple[Document, ...],
        places: list[tuple[int, tuple[int, int]]],
        titles: dict[int, tuple[int, int]],
        kept: Sequence[int],
        scores: list[float],
    ) -> list[Segment]:
        pieces: list[tuple[int, tuple[int, int], float | None]] = []
        if self.config.titles == "first_sentence":
            # Sentences stay with the title of their document; documents come in document order.
            opened = {places[index][0] for index in kept}
            # Where every token counts, the title of a document of which nothing is kept is left out.
            limited = self.config.max_tokens is not None or self.config.ratio is not None
            for document in range(len(documents)):
                if document in titles and (document in opened or not limited):
                    pieces.append((document, titles[document], None))
                own = arrange([index for index in kept if places[index][0] == document], self.config.order)
                pieces += [(*places[index], scores[index]) for index in own]
        else:
            pieces = [(*places[index], scores[index]) for index in arrange(kept, self.config.order)]
        texts = [documents[document].text[start:end] for document, (start, end), _ in pieces]
        lengths = count_all(self.token_counter, texts)
        return [
            TextSegment(text, (Source(document, start, end),), score, n_tokens)
            for text, n_tokens, (document, (start, end), score) in zip(texts, lengths, pieces, strict=True)
        ]


def _with_words(text: str, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Rules of tables, rows of stars and the like are no candidates: they have nothing to say."""
    return [(start, end) for start, end in spans if any(character.isalnum() for character in text[start:end])]


def _check_prompts(query_prompt: object, document_prompt: object) -> None:
    for name, prompt in (("query_prompt", query_prompt), ("document_prompt", document_prompt)):
        if prompt is not None and not isinstance(prompt, str):
            raise OptionError(f"{name} must be a string or None, got {type(prompt).__name__} {prompt!r}.")


def _concatenate(vectors: Sequence[Tensor]) -> Tensor:
    """(n_docs,) tensors of (n_sents, width) -> (total of n_sents, width)."""
    import torch

    return torch.cat(list(vectors))
