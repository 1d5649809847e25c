"""Provence and XProvence (Chirkova, Formal, Nikoulina, Clinchant; arXiv 2501.16214 and 2601.18886).

An encoder reads the question with a whole document and says of every token whether it is needed, and of the document
how relevant it is. Sentences are kept by rounding their tokens; nothing can be computed ahead of the question.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ragcompress.backends.provence import _checkpoint
from ragcompress.backends.provence.config import ProvenceConfig
from ragcompress.backends.provence.windows import normalize_query, room
from ragcompress.backends.provence.writing import KeptSentence, document_score, ranked, segments_of, whole_document
from ragcompress.compressor import BackendInfo, Compressor, PublishedCheckpoint, check_inputs, listed, query_groups
from ragcompress.devices import pick_device
from ragcompress.errors import CheckpointError, OptionError, PassThroughWarning
from ragcompress.memories import MemoryStore
from ragcompress.options import build_config, check_range
from ragcompress.selection import no_longer_layout
from ragcompress.sentences import get_splitter
from ragcompress.tokens import count_all, get_token_counter
from ragcompress.types import CompressedContext, Document, Layout, write_out

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from ragcompress.backends.provence.judging import Judgement
    from ragcompress.backends.provence.model import ProvenceModel
    from ragcompress.backends.provence.text import Sentence

_LICENCE = "CC BY-NC-ND 4.0"
_LOADING = ("batch_tokens",)


class Provence(Compressor):
    """Keeps the sentences that the question needs, and ranks the documents by the same pass.

    Attributes:
        model: encoder and heads.
        config: what is read and what is kept.
    """

    name: ClassVar[str] = "provence"
    info: ClassVar[BackendInfo] = BackendInfo(
        kind="text",
        summary="one pass reranks a document and keeps the sentences that answer the question",
        needs_query=True,
        offline=None,
        checkpoints=(
            PublishedCheckpoint("naver/provence-reranker-debertav3-v1", _LICENCE, "English"),
            PublishedCheckpoint("naver/xprovence-reranker-bgem3-v1", _LICENCE, "multilingual"),
            PublishedCheckpoint("naver/xprovence-reranker-bgem3-v2", _LICENCE, "multilingual"),
        ),
        paper="https://arxiv.org/abs/2501.16214",
    )

    config: ProvenceConfig

    def __init__(
        self,
        model: ProvenceModel,
        tokenizer: PreTrainedTokenizerBase,
        config: ProvenceConfig | None = None,
        *,
        batch_tokens: int | None = None,
    ) -> None:
        """Take built objects; ``load`` and ``from_pretrained`` read them from a folder or the hub.

        Args:
            model: encoder and heads.
            tokenizer: the encoder's, a fast one.
            config: None: the published threshold and rounding, original text, document order.
            batch_tokens: padded size of a batch in tokens; None: 512 on a CPU, 16384 elsewhere.

        Raises:
            OptionError: the model or the tokenizer is of another kind, or the config does not fit them.
        """
        from ragcompress.backends.provence.model import ProvenceModel
        from ragcompress.backends.provence.text import PassageTokenizer

        if not isinstance(model, ProvenceModel):
            raise OptionError(
                f"model must be a ProvenceModel, got {type(model).__name__}.",
                hint="To load one from a path use ragcompress.load('provence', path).",
            )
        check_range("batch_tokens", batch_tokens, at_least=1, whole=True)
        self.model = model
        self.tokenizer = tokenizer
        self.config = config or ProvenceConfig()
        self.batch_tokens = batch_tokens or (512 if model.device.type == "cpu" else 16384)
        self._text = PassageTokenizer(tokenizer)
        self._configured()

    def _configured(self) -> None:
        config = self.config
        most = self.model.max_positions
        if config.max_length is not None and config.max_length > most:
            raise OptionError(f"max_length={config.max_length} is above the {most} positions of this model.")
        self.max_length = config.max_length or self.model.max_length
        self._splitter = get_splitter(config.splitter)
        self.token_counter = (
            self._text.counter if config.token_counter == "encoder" else get_token_counter(config.token_counter)
        )

    @classmethod
    def from_pretrained(
        cls,
        checkpoint: str | Path | None = None,
        *,
        device: str | None = None,
        dtype: str | None = None,
        revision: str | None = None,
        store: MemoryStore | None = None,
        batch_tokens: int | None = None,
        **options: Any,
    ) -> Self:
        """Load from a folder in a published layout or from the hub; no code of the checkpoint is run.

        Args:
            checkpoint: a folder or a hub id.
            device: ``"cuda"``, ``"mps"``, ``"cpu"``; None: the best there is.
            dtype: ``"float32"`` (default), ``"bfloat16"`` or ``"float16"``.
            revision: of a hub id.
            store: not used: what the model says depends on the question.
            batch_tokens: padded size of a batch in tokens; None: 512 on a CPU, 16384 elsewhere.
            **options: fields of ``ProvenceConfig``, or ``preset``.

        Returns:
            The compressor.

        Raises:
            CheckpointError: the checkpoint cannot be found, or is not a Provence.
            OptionError: an option does not exist or is out of range.
        """
        cls.check_options(batch_tokens=batch_tokens, **options)
        if checkpoint is None:
            raise CheckpointError(
                "provence has no default checkpoint: the released weights are licensed for non-commercial use only.",
                hint="Name one: rc.load('provence', 'naver/provence-reranker-debertav3-v1'), or a folder.",
            )
        device = pick_device(device)
        folder = _checkpoint.find_folder(checkpoint, revision)
        loaded = _checkpoint.load(folder, device=device, dtype=dtype)
        config = (
            build_config(ProvenceConfig, options, defaults=loaded.options, other_options=_LOADING)
            if options.get("preset") is None
            else _preset_config(loaded.model.layout, options)
        )
        return cls(loaded.model, loaded.tokenizer, config, batch_tokens=batch_tokens)

    def with_options(self, **options: Any) -> Self:
        """Use the same weights with another configuration; see ``Compressor.with_options``."""
        other = super().with_options(**options)
        if options.get("preset") is not None:
            other.config = _preset_config(self.model.layout, options)
            other._configured()
        return other

    @classmethod
    def check_options(cls, **options: Any) -> None:
        """Check options without loading anything; see ``Compressor.check_options``."""
        loading = ("device", "dtype", "revision", "store", *_LOADING)
        check_range("batch_tokens", options.get("batch_tokens"), at_least=1, whole=True)
        rest = {name: value for name, value in options.items() if name not in loading}
        build_config(ProvenceConfig, rest, other_options=loading)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write weights in the published layout, tokenizer and options, all or nothing.

        Args:
            folder: must not exist, or be empty.

        Raises:
            CheckpointError: the folder holds something.
            OptionError: an option is an object that has no name in a file.
        """
        settings = {"backend": self.name, "config": self.config.as_json()}
        _checkpoint.save(self.model, self.tokenizer, settings, Path(folder))

    @classmethod
    def tiny(cls) -> Self:
        """A two-layer DeBERTa with random weights; see ``Compressor.tiny``."""
        from ragcompress.backends.provence._tiny import tiny_model, tiny_tokenizer

        tokenizer = tiny_tokenizer()
        return cls(tiny_model(len(tokenizer)), tokenizer)

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

    def _compress_group(
        self, queries: Sequence[str], documents: Sequence[tuple[Document, ...]]
    ) -> list[CompressedContext]:
        begin = time.perf_counter()
        asked = self._text.ids([normalize_query(q) if self.config.normalize_query else q.strip() for q in queries])
        judgements = self._judge(asked, documents)
        unique = list(dict.fromkeys((d.text, d.title or "") for each in documents for d in each))
        texts = count_all(self.token_counter, [text for text, _ in unique])
        titles = count_all(self.token_counter, [title for _, title in unique])
        lengths = {key: text + title for key, text, title in zip(unique, texts, titles, strict=True)}
        contexts = []
        for query, ids, own, judged in zip(queries, asked, documents, judgements, strict=True):
            if room(len(ids), self.max_length) is None and any(document.text.strip() for document in own):
                warnings.warn(self._unreadable(query, len(ids)), PassThroughWarning, stacklevel=4)
            contexts.append(self._context(query, len(ids), own, judged, [lengths[d.text, d.title or ""] for d in own]))
        took = (time.perf_counter() - begin) * 1000 / max(1, len(queries))
        return [replace(context, timings={"compress_ms": took}) for context in contexts]

    def _unreadable(self, query: str, n_tokens: int) -> str:
        reason = (
            f"has {n_tokens} tokens, and at most {(self.max_length - 1) // 2} leave room for text"
            if n_tokens
            else "holds nothing that the model reads"
        )
        return f"documents go on uncompressed and without scores: the question {query[:60]!r} {reason}."

    def _judge(
        self, asked: Sequence[list[int]], documents: Sequence[tuple[Document, ...]]
    ) -> list[list[Judgement | None]]:
        """(n_queries,) lists of (n_docs,) judgements; None where the question leaves no room."""
        from ragcompress.backends.provence.judging import judge

        # Equal documents are split and tokenised once for all questions, and judged once for each.
        titles = self.config.titles == "document"
        by_content = {(d.text, d.title if titles else None): d for each in documents for d in each}
        passages: dict[tuple[str, str | None], list[Sentence]] = dict(
            zip(by_content, self._text.passages(list(by_content.values()), self._splitter, titles=titles), strict=True)
        )
        wanted = {
            (place, (d.text, d.title if titles else None)): None
            for place, (ids, each) in enumerate(zip(asked, documents, strict=True))
            if room(len(ids), self.max_length) is not None
            for d in each
        }
        judged = judge(
            self.model,
            self._text,
            [(asked[place], passages[content]) for place, content in wanted],
            max_length=self.max_length,
            batch_tokens=self.batch_tokens,
            device=self.model.device,
        )
        found = dict(zip(wanted, judged, strict=True))
        return [
            [found.get((place, (d.text, d.title if titles else None))) for d in each]
            for place, each in enumerate(documents)
        ]

    def _context(
        self,
        query: str,
        n_query: int,
        documents: tuple[Document, ...],
        judged: Sequence[Judgement | None],
        lengths: Sequence[int],
    ) -> CompressedContext:
        config = self.config
        readable = room(n_query, self.max_length) is not None
        order = ranked([document_score(each, config) for each in judged], config) if readable else range(len(documents))
        segments: list[KeptSentence] = []
        for index in order:
            own = judged[index]
            segments += (
                whole_document(index, documents[index])
                if own is None
                else segments_of(index, documents[index], own, config, self._text)
            )
        # White space counts in some vocabularies; the documents are taken as long as they would be written.
        separators = max(0, len(documents) - 1) * self.token_counter(config.layout.document_separator)
        separators += sum(bool(d.title) for d in documents) * self.token_counter(config.layout.title_separator)
        n_tokens = sum(lengths) + separators

        def length(layout: Layout) -> int:
            return self.token_counter(write_out(documents, segments, layout)) if segments else 0

        layout, n_slots = no_longer_layout(config.layout, length, n_tokens)
        if n_slots > n_tokens:
            # Unknown characters side by side may be one token: what is left of them, with spaces between, takes more.
            scores = {segment.sources[0].document: segment.score for segment in segments}
            segments = [each for n, score in scores.items() for each in whole_document(n, documents[n], score)]
            layout, n_slots = no_longer_layout(config.layout, length, n_tokens)
        counted = count_all(self.token_counter, [segment.text for segment in segments])
        kept = tuple(replace(each, n_tokens=length) for each, length in zip(segments, counted, strict=True))
        unread = () if readable or not n_query else tuple(i for i, d in enumerate(documents) if d.text.strip())
        return CompressedContext(
            query=query,
            documents=documents,
            segments=kept,
            n_tokens=n_tokens,
            n_slots=n_slots,
            truncated=bool(unread),
            counter=self.token_counter.name,
            document_tokens=tuple(lengths),
            layout=layout,
            truncated_documents=unread,
        )


def _preset_config(layout: str, options: Mapping[str, Any]) -> ProvenceConfig:
    """A preset over what checkpoints of a layout were published with, and the other options over both."""
    preset = {**_checkpoint.LAYOUTS[layout].options, **ProvenceConfig.PRESETS[options["preset"]]}
    return build_config(ProvenceConfig, {k: v for k, v in options.items() if k != "preset"}, defaults=preset)
