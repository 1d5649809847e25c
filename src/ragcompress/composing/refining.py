"""Stages that make a context smaller, whatever made it: they read segments, where other compressors read documents."""

from __future__ import annotations

import copy
import json
import time
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from ragcompress.composing.lengths import document_lengths, input_length, output_length
from ragcompress.compressor import Compressor, LoadSpec, check_inputs
from ragcompress.errors import InputTypeError, RagCompressError
from ragcompress.memories import MemoryStore
from ragcompress.options import build_config
from ragcompress.registry import find
from ragcompress.tokens import TokenCounter, WordCounter, count_all, get_token_counter
from ragcompress.types import CompressedContext, Document, Layout, Segment, Source, TextSegment

_LOADING = ("device", "dtype", "revision", "store")


class ContextCompressor(Compressor):
    """A compressor that works on a context. Alone, it takes every document for a segment.

    A subclass writes ``refine``; one with options names its ``config_class`` and calls ``_configure`` in its
    constructor. Where the config has a field ``token_counter`` that is None, tokens are those of the stage before;
    alone they are words.
    """

    config_class: ClassVar[type[Any] | None] = None
    # What the stage before counts with.
    _inherited: TokenCounter | None = None

    @abstractmethod
    def refine(self, contexts: Sequence[CompressedContext]) -> list[CompressedContext]:
        """Keep a part of every context.

        Args:
            contexts: (n_queries,) results of text.

        Returns:
            (n_queries,) contexts of the same documents, lengths in the tokens of ``token_counter``.

        Raises:
            InputTypeError: a context holds vectors, which nothing can be taken out of.
        """

    def compress_batch(
        self, queries: Sequence[str], documents: Sequence[Sequence[Document | str]]
    ) -> list[CompressedContext]:
        """Refine contexts that keep every document as a whole; see ``Compressor.compress_batch``."""
        queries = list(queries) if isinstance(queries, Iterable) and not isinstance(queries, str) else queries
        checked = check_inputs(queries, documents, needs_query=self.info.needs_query)
        begin = time.perf_counter()
        refined = self.refine(
            [whole(query, own, self.token_counter) for query, own in zip(queries, checked, strict=True)]
        )
        took = (time.perf_counter() - begin) * 1000 / max(1, len(queries))
        return [replace(context, timings={"refine_ms": took}) for context in refined]

    def counting_with(self, counter: TokenCounter) -> Self:
        """Take over what the stage before counts with, unless the config names a counter.

        Args:
            counter: of the stage before.

        Returns:
            A compressor that counts with it; this one stays as it is.
        """
        if getattr(self.config, "token_counter", None) is not None:
            return self
        other = copy.copy(self)
        other._inherited = counter
        other._configured()
        return other

    def _configure(self, config: Any) -> None:  # noqa: ANN401 (of config_class)
        """Set the config, and write down how it was made where that has a written form."""
        self.config = config
        named = {
            field.name: value for field in fields(config) if (value := getattr(config, field.name)) != field.default
        }
        self.spec = LoadSpec(self.name, options=named) if is_registered(self) else None
        try:
            json.dumps(named)
        except TypeError:  # an option is an object
            self.spec = None
        self._configured()

    def _configured(self) -> None:
        named = getattr(self.config, "token_counter", None)
        self.token_counter = get_token_counter(named) if named is not None else self._inherited or WordCounter()

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
        """Build it from its options; see ``Compressor.from_pretrained``."""
        cls.check_options(**options)
        return super().from_pretrained(checkpoint, **options)

    @classmethod
    def check_options(cls, **options: Any) -> None:
        """Check options without loading anything; see ``Compressor.check_options``."""
        if cls.config_class is None:
            super().check_options(**options)
        else:
            rest = {name: value for name, value in options.items() if name not in _LOADING}
            build_config(cls.config_class, rest, other_options=_LOADING)


def is_registered(compressor: Compressor) -> bool:
    """Say whether its name loads its class: a subclass inherits the name, and may be in no registry.

    Args:
        compressor: any.

    Returns:
        Whether how it was made can be written down by its name.
    """
    try:
        return find(compressor.name) is type(compressor)
    except RagCompressError:
        return False


def whole(query: str, documents: tuple[Document, ...], counter: TokenCounter) -> CompressedContext:
    """Build the context that keeps everything.

    Args:
        query: the question.
        documents: (n_docs,).
        counter: what a token is.

    Returns:
        A segment for every document that is not blank.
    """
    segments = tuple(
        TextSegment(document.text, (Source(index, 0, len(document.text)),))
        for index, document in enumerate(documents)
        if document.text.strip()
    )
    layout = Layout()
    lengths = document_lengths(documents, counter)
    return CompressedContext(
        query=query,
        documents=documents,
        segments=segments,
        n_tokens=input_length(documents, lengths, layout, counter),
        n_slots=output_length(documents, segments, layout, counter),
        counter=counter.name,
        document_tokens=lengths,
        layout=layout,
    )


def texts_of(context: CompressedContext) -> list[TextSegment]:
    """Take the segments of a context of text.

    Args:
        context: a result.

    Returns:
        Its segments.

    Raises:
        InputTypeError: some of them are vectors.
    """
    found = [segment for segment in context.segments if isinstance(segment, TextSegment)]
    if len(found) < len(context.segments):
        raise InputTypeError(
            "the context holds vectors, of which no part can be taken.",
            hint="Refine text before a latent compressor reads it.",
        )
    return found


def part(segment: TextSegment, start: int, end: int) -> TextSegment:
    """Cut a segment.

    Args:
        segment: of text.
        start: first character that stays.
        end: one past the last.

    Returns:
        A segment that stands at the same part of its source if it stands in one as it is. Of several spans nobody
        knows which part is whose: their documents stay.
    """
    (source, *others) = segment.sources
    if not others and source.start is not None:
        sources: tuple[Source, ...] = (replace(source, start=source.start + start, end=source.start + end),)
    else:
        sources = tuple(dict.fromkeys(Source(each.document) for each in segment.sources))
    return replace(segment, text=segment.text[start:end], sources=sources, n_tokens=None)


def measured(segments: Sequence[TextSegment], counter: TokenCounter, *, anew: bool = False) -> tuple[TextSegment, ...]:
    """Count segments.

    Args:
        segments: of text.
        counter: what a token is.
        anew: whether those are counted, too, that say how long they are.

    Returns:
        The segments, each with its ``n_tokens``.
    """
    open_ones = [index for index, segment in enumerate(segments) if anew or segment.n_tokens is None]
    lengths = count_all(counter, [segments[index].text for index in open_ones])
    found = list(segments)
    for index, n_tokens in zip(open_ones, lengths, strict=True):
        found[index] = replace(found[index], n_tokens=n_tokens)
    return tuple(found)


def counted(
    context: CompressedContext, segments: Sequence[Segment], counter: TokenCounter, **changes: Any
) -> CompressedContext:
    """Put other segments into a context, and count it anew.

    Args:
        context: of the same documents; its ``document_tokens`` are used if it was counted with the same counter.
        segments: in reading order.
        counter: what a token is.
        **changes: other fields that change; ``n_slots`` if it is known.

    Returns:
        The new context.
    """
    layout = changes.get("layout", context.layout)
    known = context.counter == counter.name and len(context.document_tokens) == len(context.documents)
    lengths = context.document_tokens if known else document_lengths(context.documents, counter)
    if "n_slots" not in changes:
        changes["n_slots"] = output_length(context.documents, segments, layout, counter)
    return replace(
        context,
        segments=tuple(segments),
        n_tokens=input_length(context.documents, lengths, layout, counter),
        counter=counter.name,
        document_tokens=lengths,
        **changes,
    )
