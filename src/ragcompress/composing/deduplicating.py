"""Near-identical sentences, of one document or of several, are kept once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

from ragcompress.composing.near_identical import repeated_sets, repeated_vectors, shingles
from ragcompress.composing.plain import check_stage, load_stage
from ragcompress.composing.refining import ContextCompressor, counted, measured, texts_of
from ragcompress.compressor import BackendInfo, Compressor
from ragcompress.errors import OptionError
from ragcompress.options import check_choice, check_range
from ragcompress.selection import rank
from ragcompress.sentences import Span, Splitter, get_splitter, split_sentences
from ragcompress.tokens import TokenCounter, get_token_counter
from ragcompress.types import CompressedContext, TextSegment

if TYPE_CHECKING:
    from torch import Tensor

DEFAULT_THRESHOLD = 0.8
# One for all: an encoder is loaded once in its life, and a lock of its own could not be pickled.
_LOADING = threading.Lock()


@runtime_checkable
class TextEncoder(Protocol):
    """Anything with ``encode(texts)``: ours, or a ``SentenceTransformer``."""

    def encode(self, texts: list[str], /) -> Any:  # noqa: ANN401 (a tensor, an array, or a tuple that begins with one)
        """Texts -> (n_texts, width) vectors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeduplicateConfig:
    """Options of ``deduplicate``.

    Attributes:
        threshold: how similar near-identical sentences are at least, from 0 to 1: the Jaccard similarity of their
            shingles, or the cosine of their vectors. With the default of shingles, sentences of fewer than thirty
            words that differ in one word are different: it may be the figure that was asked for.
        encoder: None: shingles. Else a backend that has an encoder, e.g. ``"recomp-extractive"``, or a dictionary
            with ``backend`` and its options; it is loaded on the first call.
        keep: which one of near-identical sentences is kept: the ``"first"`` in reading order, or the ``"best"``, by
            the scores of the stage before.
        shingle_size: words of a shingle.
        splitter: name of a sentence splitter, or any callable text -> spans.
        token_counter: what a token is, for the lengths of the result; None: as the stage before counts, words if
            there is none.
    """

    threshold: float = DEFAULT_THRESHOLD
    encoder: str | Mapping[str, Any] | None = None
    keep: Literal["first", "best"] = "first"
    shingle_size: int = 3
    splitter: str | Splitter = "punkt"
    token_counter: str | TokenCounter | Callable[[str], int] | None = None

    def __post_init__(self) -> None:
        """Check names and ranges."""
        if self.threshold is None:
            raise OptionError("threshold must be a number from 0 to 1, got None.")
        check_range("threshold", self.threshold, at_least=0, at_most=1)
        object.__setattr__(self, "threshold", float(self.threshold))
        check_choice("keep", self.keep, ("first", "best"))
        if self.shingle_size is None:
            raise OptionError("shingle_size must be a whole number and at least 1, got None.")
        check_range("shingle_size", self.shingle_size, at_least=1, whole=True)
        get_splitter(self.splitter)
        if self.token_counter is not None:
            get_token_counter(self.token_counter)
        if self.encoder is not None:
            if not isinstance(self.encoder, (str, Mapping)):
                raise OptionError(
                    f"encoder must be the name of a backend or a dictionary, got {type(self.encoder).__name__}.",
                    hint="An object with encode(texts) goes to the constructor: Deduplicate(0.9, encoder=...).",
                )
            check_stage(_as_stage(self.encoder))


class Deduplicate(ContextCompressor):
    """Drops sentences that say nearly what an earlier one says; everything else stays as it is.

    Neighbouring sentences that are kept stay one segment, so a context without repetitions comes back unchanged. Pieces
    without a word, the rules of a table, say, are never dropped.

    Attributes:
        config: what is near-identical.
    """

    name: ClassVar[str] = "deduplicate"
    info: ClassVar[BackendInfo] = BackendInfo(
        kind="text", summary="near-identical sentences are kept once", needs_query=False
    )
    config_class = DeduplicateConfig
    config: DeduplicateConfig

    def __init__(
        self,
        threshold: float = DEFAULT_THRESHOLD,
        *,
        encoder: str | Mapping[str, Any] | TextEncoder | Compressor | None = None,
        keep: Literal["first", "best"] = "first",
        shingle_size: int = 3,
        splitter: str | Splitter = "punkt",
        token_counter: str | TokenCounter | Callable[[str], int] | None = None,
    ) -> None:
        """Say what is near-identical.

        Args:
            threshold: see ``DeduplicateConfig``, as the others.
            encoder: also an object with ``encode(texts)``, or a compressor that has such an encoder.
            keep: which one is kept.
            shingle_size: words of a shingle.
            splitter: text -> sentences.
            token_counter: what a token is.

        Raises:
            OptionError: a value does not exist or is out of range, or the encoder cannot encode.
        """
        plain = encoder if encoder is None or isinstance(encoder, (str, Mapping)) else None
        self._given: TextEncoder | None = None if plain is encoder else _encoder_of(encoder)
        # What was loaded, and from what: with_options may name another one.
        self._loaded: tuple[str | Mapping[str, Any], TextEncoder] | None = None
        self._configure(
            DeduplicateConfig(
                threshold=threshold,
                encoder=plain,
                keep=keep,
                shingle_size=shingle_size,
                splitter=splitter,
                token_counter=token_counter,
            )
        )
        if self._given is not None:
            self.spec = None  # an object has no written form

    def _configured(self) -> None:
        ContextCompressor._configured(self)
        self._splitter = get_splitter(self.config.splitter)

    @property
    def encoder(self) -> TextEncoder | None:
        """What makes vectors of sentences, loaded now if it is not yet; None: shingles are compared."""
        named = self.config.encoder
        if named is None:
            return self._given
        with _LOADING:
            if self._loaded is None or self._loaded[0] != named:
                self._loaded = (named, _encoder_of(load_stage(_as_stage(named))))
            return self._loaded[1]

    def refine(self, contexts: Sequence[CompressedContext]) -> list[CompressedContext]:
        """Drop what is repeated in each context; see ``ContextCompressor.refine``."""
        segments = [texts_of(context) for context in contexts]
        spans = [[split_sentences(segment.text, self._splitter) for segment in own] for own in segments]
        texts = [
            [segment.text[start:end] for segment, each in zip(own, own_spans, strict=True) for start, end in each]
            for own, own_spans in zip(segments, spans, strict=True)
        ]
        scores = [
            [segment.score for segment, each in zip(own, own_spans, strict=True) for _ in each]
            for own, own_spans in zip(segments, spans, strict=True)
        ]
        repeated = self._repeated(texts, scores)
        return [
            self._without(context, own, own_spans, flags)
            for context, own, own_spans, flags in zip(contexts, segments, spans, repeated, strict=True)
        ]

    def _repeated(self, texts: list[list[str]], scores: list[list[float | None]]) -> list[list[bool]]:
        """(n_queries,) lists of sentences -> whether each is dropped."""
        vectors = self._vectors(texts)
        found = []
        for number, (own, own_scores) in enumerate(zip(texts, scores, strict=True)):
            order = list(range(len(own)))
            if self.config.keep == "best":
                order = rank([float("-inf") if score is None else score for score in own_scores])
            worded = [index for index in order if any(character.isalnum() for character in own[index])]
            if vectors is None:
                sets = [shingles(own[index], self.config.shingle_size) for index in worded]
                flags = repeated_sets(sets, self.config.threshold)
            else:
                flags = repeated_vectors(vectors[number][worded], self.config.threshold)
            dropped = {index for index, flag in zip(worded, flags, strict=True) if flag}
            found.append([index in dropped for index in range(len(own))])
        return found

    def _vectors(self, texts: list[list[str]]) -> list[Tensor] | None:
        """Vectors of the sentences of each query; all of them are encoded together, equal ones once."""
        encoder = self.encoder
        if encoder is None:
            return None
        import torch

        places = {text: place for place, text in enumerate(dict.fromkeys(text for own in texts for text in own))}
        if not places:
            return [torch.zeros(0, 1) for _ in texts]
        made = encoder.encode(list(places))
        made = made[0] if isinstance(made, tuple) else made
        vectors = torch.as_tensor(made).detach().float().cpu()
        if vectors.ndim != 2 or len(vectors) != len(places):
            raise OptionError(
                f"the encoder gave an array of shape {tuple(vectors.shape)} for {len(places)} texts; expected a row "
                "for each."
            )
        return [vectors[[places[text] for text in own]] for own in texts]

    def _without(
        self,
        context: CompressedContext,
        segments: list[TextSegment],
        spans: list[list[Span]],
        repeated: list[bool],
    ) -> CompressedContext:
        flags = iter(repeated)
        kept: list[TextSegment] = []
        for segment, own in zip(segments, spans, strict=True):
            dropped = [next(flags) for _ in own]
            if not any(dropped):
                kept.append(segment)
                continue
            run: Span | None = None
            for (start, end), drop in zip(own, dropped, strict=True):
                if drop:
                    kept += [_part(segment, run)] if run is not None else []
                    run = None
                else:
                    run = (start if run is None else run[0], end)
            kept += [_part(segment, run)] if run is not None else []
        counter = self.token_counter
        other = context.counter != counter.name
        same = not other and not any(repeated)
        known = {"n_slots": context.n_slots} if same else {}
        return counted(context, measured(kept, counter, anew=other), counter, **known)


def _part(segment: TextSegment, span: Span) -> TextSegment:
    """A part of a segment, which stands at the same part of its source if it stands in one as it is."""
    start, end = span
    sources = segment.sources
    if len(sources) == 1 and sources[0].start is not None:
        begin = sources[0].start
        sources = (replace(sources[0], start=begin + start, end=begin + end),)
    return replace(segment, text=segment.text[start:end], sources=sources, n_tokens=None)


def _as_stage(encoder: str | Mapping[str, Any]) -> Mapping[str, Any]:
    return {"backend": encoder} if isinstance(encoder, str) else encoder


def _encoder_of(thing: object) -> TextEncoder:
    """An object that encodes: itself, or that of a compressor."""
    found = getattr(thing, "encoder", None) if isinstance(thing, Compressor) else thing
    if not callable(getattr(found, "encode", None)):
        raise OptionError(
            f"{type(thing).__name__} has no encode(texts).",
            hint="Pass a SentenceTransformer, a loaded 'recomp-extractive', or its name.",
        )
    return found  # type: ignore[return-value]  # asked for above
