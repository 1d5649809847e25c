"""RECOMP's abstractive compressor (Xu, Shi, Choi; arXiv 2310.04408).

An encoder-decoder reads question and documents together and writes a summary. An empty summary says that the
documents do not help (selective augmentation): the result then has no segments, and a prompt without context follows.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ragcompress import pretrained
from ragcompress.backends.recomp_abstractive import _checkpoint
from ragcompress.backends.recomp_abstractive.config import RecompAbstractiveConfig
from ragcompress.backends.recomp_abstractive.reading import SourceBuilder, SourceText, covering
from ragcompress.compressor import BackendInfo, Compressor, PublishedCheckpoint, check_inputs, listed
from ragcompress.devices import pick_device
from ragcompress.errors import InputError
from ragcompress.faithfulness import SupportScorer, score_support, support_scorer
from ragcompress.options import build_config, check_range
from ragcompress.sentences import get_splitter, split_sentences
from ragcompress.tokens import count_all, get_token_counter
from ragcompress.types import CompressedContext, Document, Source, TextSegment, neutralise, separator, write_out

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ragcompress.backends.recomp_abstractive.model import Summarizer, Written

_LOADING = ("batch_tokens",)


class RecompAbstractive(Compressor):
    """Writes a summary of the documents for the question, or nothing.

    Attributes:
        summarizer: encoder-decoder and tokenizer.
        config: what is read and what becomes of the summary.
    """

    name: ClassVar[str] = "recomp-abstractive"
    info: ClassVar[BackendInfo] = BackendInfo(
        kind="text",
        summary="a T5 writes a summary of the documents for the question, or nothing",
        needs_query=True,
        offline=None,
        checkpoints=(
            PublishedCheckpoint(_checkpoint.PUBLISHED["nq"], "not stated"),
            PublishedCheckpoint(_checkpoint.PUBLISHED["tqa"], "not stated"),
            PublishedCheckpoint(_checkpoint.PUBLISHED["hotpotqa"], "not stated", "the name has no '_compressor'"),
        ),
        paper="https://arxiv.org/abs/2310.04408",
    )

    config: RecompAbstractiveConfig

    def __init__(self, summarizer: Summarizer, config: RecompAbstractiveConfig | None = None) -> None:
        """Take built objects; ``load`` and ``from_pretrained`` read them from a folder or the hub.

        Args:
            summarizer: encoder-decoder and tokenizer.
            config: None: one summary of all documents.
        """
        self.summarizer = summarizer
        self.config = config or RecompAbstractiveConfig()
        self._scorer: SupportScorer | None = None
        self._scored_by: object = None
        self._configured()

    @classmethod
    def from_model(cls, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, **options: Any) -> Self:
        """Use objects of transformers that are loaded already.

        Args:
            model: an encoder-decoder.
            tokenizer: its fast tokenizer.
            **options: fields of ``RecompAbstractiveConfig``, or ``preset``.

        Returns:
            The compressor.

        Raises:
            OptionError: the model is no encoder-decoder, the tokenizer is a slow one, or an option does not exist.
        """
        from ragcompress.backends.recomp_abstractive.model import Summarizer

        return cls(Summarizer(model, tokenizer), build_config(RecompAbstractiveConfig, options))

    def _configured(self) -> None:
        config = self.config
        self._splitter = get_splitter(config.splitter)
        self.token_counter = (
            self.summarizer.counter if config.token_counter == "model" else get_token_counter(config.token_counter)
        )
        self._builder = SourceBuilder(
            self.summarizer.engine, config, self._splitter, n_positions=self.summarizer.n_positions
        )
        # Loaded here, once, and not in the middle of somebody's first query.
        if self._scored_by is not config.faithfulness:
            self._scorer = None if config.faithfulness is None else support_scorer(config.faithfulness)
            self._scored_by = config.faithfulness

    @classmethod
    def from_pretrained(
        cls,
        checkpoint: str | Path | None = None,
        *,
        device: str | None = None,
        dtype: str | None = None,
        revision: str | None = None,
        store: Any = None,  # noqa: ANN401 (part of the common signature; there is nothing to keep)
        batch_tokens: int | None = None,
        **options: Any,
    ) -> Self:
        """Load an encoder-decoder from a folder or from the hub.

        Args:
            checkpoint: a folder or a hub id, e.g. ``"fangyuan/nq_abstractive_compressor"``.
            device: ``"cuda"``, ``"mps"``, ``"cpu"``; None: the best there is.
            dtype: ``"float32"`` (default), ``"bfloat16"`` or ``"float16"``.
            revision: of a hub id.
            store: not used: a summary depends on the question.
            batch_tokens: padded size of a batch of inputs in tokens; None: 4096 on a CPU, 65536 elsewhere.
            **options: fields of ``RecompAbstractiveConfig``, or ``preset``.

        Returns:
            The compressor.

        Raises:
            CheckpointError: none was named, it cannot be found, or it is no encoder-decoder.
            OptionError: an option does not exist or is out of range.
        """
        cls.check_options(**options, batch_tokens=batch_tokens)
        folder = _checkpoint.find_folder(checkpoint, revision)
        saved = pretrained.read_settings(folder, RecompAbstractiveConfig, cls.name)
        config = build_config(RecompAbstractiveConfig, options, defaults=saved, other_options=_LOADING)
        device = pick_device(device)
        size = batch_tokens or (4096 if device == "cpu" else 65536)
        # The folder of a hub id is named by a commit.
        name = folder.name if Path(str(checkpoint)).expanduser().is_dir() else str(checkpoint).rsplit("/", 1)[-1]
        return cls(
            _checkpoint.load_summarizer(folder, device=device, dtype=dtype, batch_tokens=size, name=name), config
        )

    @classmethod
    def check_options(cls, **options: Any) -> None:
        """Check options without loading anything; see ``Compressor.check_options``."""
        loading = ("device", "dtype", "revision", "store", *_LOADING)
        rest = {name: value for name, value in options.items() if name not in loading}
        check_range("batch_tokens", options.get("batch_tokens"), at_least=1, whole=True)
        build_config(RecompAbstractiveConfig, rest, other_options=loading)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write weights, tokenizer and options, all or nothing; transformers reads the folder too.

        Args:
            folder: must not exist, or be empty.

        Raises:
            CheckpointError: the folder holds something.
            OptionError: an option is an object that has no name in a file.
        """
        settings = {"backend": self.name, "config": self.config.as_json()}
        _checkpoint.save_summarizer(self.summarizer, settings, Path(folder))

    @classmethod
    def tiny(cls) -> Self:
        """A two-layer T5 with random weights; see ``Compressor.tiny``."""
        from ragcompress.backends.recomp_abstractive._tiny import tiny_summarizer

        return cls(tiny_summarizer(), RecompAbstractiveConfig(max_summary_tokens=12))

    def compress_batch(
        self, queries: Sequence[str], documents: Sequence[Sequence[Document | str]]
    ) -> list[CompressedContext]:
        """Summarise the documents of all queries in batches of similar length; see ``Compressor.compress_batch``."""
        queries = listed(queries)
        checked = check_inputs(queries, documents)
        begin = time.perf_counter()
        sources = [self._sources(query, each, queries) for query, each in zip(queries, checked, strict=True)]
        rows = [source for each in sources for source in each]
        written = iter(self.summarizer.write([row.ids for row in rows], [self._limit(row) for row in rows]))
        # The steps are shared by the queries of a batch; each context says its share.
        share = (time.perf_counter() - begin) * 1000 / max(1, len(queries))
        return [
            self._context(query, own, each, [next(written) for _ in each], share)
            for query, own, each in zip(queries, checked, sources, strict=True)
        ]

    def stream(self, query: str, documents: Sequence[Document | str]) -> Iterator[str]:
        """Write the summary and hand it over as it comes.

        Neither sentences without support nor summaries that are longer than their documents are taken back.

        Args:
            query: the question.
            documents: any number.

        Yields:
            Pieces of text, cut between words; nothing for an empty summary, unless ``on_empty="keep_best"``.

        Raises:
            InputError: the query is empty or leaves no room for documents.
            InputTypeError: the query or a document has the wrong type.
        """
        (checked,) = check_inputs([query], [documents])
        layout = self.config.layout
        before: TextSegment | None = None
        for source in self._builder.build(query, checked):
            here = TextSegment("", _sources_of(source))
            begun = False
            for piece in self.summarizer.stream(source.ids, self._limit(source)):
                if before is not None and not begun:
                    yield separator(checked, before, here, layout)
                yield neutralise(piece)
                begun = True
            before = here if begun else before
        if before is None:
            yield from (neutralise(segment.text) for segment in self._if_empty(checked))

    def unsupported(self, context: CompressedContext) -> list[TextSegment]:
        """List the sentences of a result whose support is below ``min_support``.

        Args:
            context: a result of this compressor, made with ``faithfulness``.

        Returns:
            The segments; empty if nothing was scored.
        """
        return [
            segment
            for segment in context.segments
            if isinstance(segment, TextSegment)
            and segment.score is not None
            and segment.score < self.config.min_support
        ]

    def _sources(self, query: str, documents: Sequence[Document], queries: Sequence[str]) -> list[SourceText]:
        try:
            return self._builder.build(query, documents)
        except InputError as error:
            if len(queries) == 1:
                raise
            raise InputError(f"queries[{queries.index(query)}]: {error}") from error

    def _limit(self, source: SourceText) -> int:
        # What is longer than all that was read is not going to be used. The limit counts the start token, as published.
        limits = [self.config.max_summary_tokens - 1, len(source.ids)]
        if self.summarizer.n_positions is not None:
            limits.append(self.summarizer.n_positions - 1)
        return min(limits)

    def _context(
        self,
        query: str,
        documents: tuple[Document, ...],
        sources: Sequence[SourceText],
        written: Sequence[Written],
        milliseconds: float,
    ) -> CompressedContext:
        begin = time.perf_counter()
        lengths = count_all(self.token_counter, [document.text for document in documents])
        titles = count_all(self.token_counter, [document.title or "" for document in documents])
        layout = self.config.layout
        separators = max(0, len(documents) - 1) * self.token_counter(layout.document_separator)
        parts = [
            segment
            for source, each in zip(sources, written, strict=True)
            for segment in self._segments(documents, source, each)
        ]
        segments = self._joined(documents, parts) or self._if_empty(documents)
        unread = {index for source in sources for index in source.unread}
        timings = {"write_ms": milliseconds}
        if self._scorer is not None:
            timings["support_ms"] = (time.perf_counter() - begin) * 1000
        return CompressedContext(
            query=query,
            documents=documents,
            segments=tuple(segments),
            n_tokens=sum(lengths) + sum(titles) + separators,
            n_slots=self.token_counter(write_out(documents, segments, layout)),
            truncated=bool(unread),
            timings=timings,
            counter=self.token_counter.name,
            document_tokens=tuple(a + b for a, b in zip(lengths, titles, strict=True)),
            layout=layout,
            truncated_documents=tuple(sorted(unread)),
        )

    def _segments(self, documents: tuple[Document, ...], source: SourceText, written: Written) -> list[TextSegment]:
        """What stands for the parts of one input: its summary, or they themselves if that is longer."""
        summary = self.summarizer.decode(written.ids)
        # Special tokens without an end are not the silence that models are trained to keep.
        if not summary and written.ended:
            return []
        originals = [
            segment for part in source.parts for segment in self._whole(documents, part.document, part.start, part.end)
        ]
        if not summary:
            return originals
        n_read = sum(segment.n_slots for segment in originals)
        n_characters = sum(len(segment.text) for segment in originals)
        n_tokens = self.token_counter(summary)
        if n_tokens > n_read or len(summary) > n_characters or not (written.ended or self._full(written)):
            return originals
        sources = _sources_of(source)
        if self._scorer is None:
            return [TextSegment(summary, sources, None, n_tokens)]
        return self._scored(summary, sources, [documents[each.document] for each in sources])

    def _full(self, written: Written) -> bool:
        """Whether a summary was ended by the limit on summaries, as published."""
        return len(written.ids) >= self.config.max_summary_tokens - 1

    def _scored(self, summary: str, sources: tuple[Source, ...], documents: Sequence[Document]) -> list[TextSegment]:
        assert self._scorer is not None
        spans = covering(split_sentences(summary, self._splitter), 0, len(summary))
        sentences = [summary[start:end].strip() for start, end in spans]
        scores = score_support(self._scorer, sentences, documents)
        lengths = count_all(self.token_counter, sentences)
        return [
            TextSegment(sentence, sources, score, n_tokens)
            for sentence, score, n_tokens in zip(sentences, scores, lengths, strict=True)
            if self.config.unsupported == "keep" or score >= self.config.min_support
        ]

    def _joined(self, documents: tuple[Document, ...], segments: list[TextSegment]) -> list[TextSegment]:
        """Join neighbouring parts of a document that stand for themselves: nothing is written between them then."""
        joined: list[TextSegment] = []
        for segment in segments:
            source, before = segment.sources[0], joined[-1].sources[0] if joined else None
            if before is not None and before.document == source.document and None not in (before.end, source.start):
                between = documents[source.document].text[before.end : source.start]
                if not between.strip():
                    joined[-1:] = self._whole(documents, source.document, before.start or 0, source.end or 0)
                    continue
            joined.append(segment)
        return joined

    def _if_empty(self, documents: tuple[Document, ...]) -> list[TextSegment]:
        if self.config.on_empty == "drop":
            return []
        best = next((index for index, document in enumerate(documents) if document.text.strip()), None)
        return [] if best is None else self._whole(documents, best, 0, len(documents[best].text))

    def _whole(self, documents: tuple[Document, ...], index: int, start: int, end: int) -> list[TextSegment]:
        """A stretch of a document as it is, without white space at its ends."""
        text = documents[index].text[start:end]
        start += len(text) - len(text.lstrip())
        text = text.strip()
        return [TextSegment(text, (Source(index, start, start + len(text)),), None, self.token_counter(text))]


def _sources_of(source: SourceText) -> tuple[Source, ...]:
    return tuple(Source(index) for index in dict.fromkeys(part.document for part in source.parts))
