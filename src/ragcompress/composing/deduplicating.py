"""Near-identical sentences, of one document or of several, are kept once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from ragcompress.composing.encoders import TextEncoder, check_encoder, encoder_of, load_encoder
from ragcompress.composing.near_identical import repeated_sets, repeated_vectors, shingles, words
from ragcompress.composing.refining import ContextCompressor, counted, measured, part, texts_of
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
        min_words: a sentence of fewer words is dropped only where its own document repeats it: "It opened in 1990."
            says another thing under another title.
        splitter: name of a sentence splitter, or any callable text -> spans.
        token_counter: what a token is, for the lengths of the result; None: as the stage before counts, words if
            there is none.
    """

    threshold: float = DEFAULT_THRESHOLD
    encoder: str | Mapping[str, Any] | None = None
    keep: Literal["first", "best"] = "first"
    shingle_size: int = 3
    min_words: int = 5
    splitter: str | Splitter = "punkt"
    token_counter: str | TokenCounter | Callable[[str], int] | None = None

    def __post_init__(self) -> None:
        """Check names and ranges."""
        if self.threshold is None:
            raise OptionError("threshold must be a number from 0 to 1, got None.")
        check_range("threshold", self.threshold, at_least=0, at_most=1)
        object.__setattr__(self, "threshold", float(self.threshold))
        check_choice("keep", self.keep, ("first", "best"))
        for name, least in (("shingle_size", 1), ("min_words", 0)):
            if getattr(self, name) is None:
                raise OptionError(f"{name} must be a whole number and at least {least}, got None.")
            check_range(name, getattr(self, name), at_least=least, whole=True)
        get_splitter(self.splitter)
        if self.token_counter is not None:
            get_token_counter(self.token_counter)
        if self.encoder is not None:
            check_encoder(self.encoder)


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
        min_words: int = 5,
        splitter: str | Splitter = "punkt",
        token_counter: str | TokenCounter | Callable[[str], int] | None = None,
    ) -> None:
        """Say what is near-identical.

        Args:
            threshold: see ``DeduplicateConfig``, as the others.
            encoder: also an object with ``encode(texts)``, or a compressor that has such an encoder.
            keep: which one is kept.
            shingle_size: words of a shingle.
            min_words: of a sentence that is dropped because another document says it.
            splitter: text -> sentences.
            token_counter: what a token is.

        Raises:
            OptionError: a value does not exist or is out of range, or the encoder cannot encode.
        """
        plain = encoder if encoder is None or isinstance(encoder, (str, Mapping)) else None
        self._given: TextEncoder | None = None if plain is encoder else encoder_of(encoder)
        # What was loaded, if it was: copies with other options share it, whichever is the first to need it.
        self._loaded: list[TextEncoder] = []
        self._configure(
            DeduplicateConfig(
                threshold=threshold,
                encoder=plain,
                keep=keep,
                shingle_size=shingle_size,
                min_words=min_words,
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
            if not self._loaded:
                self._loaded.append(load_encoder(named))
            return self._loaded[0]

    def with_options(self, **options: Any) -> Self:
        """Use the same encoder with other options, or another one; see ``Compressor.with_options``."""
        other = super().with_options(**options)
        if "encoder" in options:
            other._given = None
            if other.config.encoder != self.config.encoder:
                other._loaded = []
        return other

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
        documents = [[frozenset(source.document for source in segment.sources) for segment in own] for own in segments]
        owners = [
            [owner for owner, each in zip(own, own_spans, strict=True) for _ in each]
            for own, own_spans in zip(documents, spans, strict=True)
        ]
        repeated = self._repeated(texts, scores, owners)
        return [
            self._without(context, own, own_spans, flags)
            for context, own, own_spans, flags in zip(contexts, segments, spans, repeated, strict=True)
        ]

    def _repeated(
        self, texts: list[list[str]], scores: list[list[float | None]], owners: list[list[frozenset[int]]]
    ) -> list[list[bool]]:
        """(n_queries,) lists of sentences -> whether each is dropped."""
        vectors = self._vectors(texts)
        found = []
        for number, (own, own_scores) in enumerate(zip(texts, scores, strict=True)):
            order = list(range(len(own)))
            if self.config.keep == "best":
                order = rank([float("-inf") if score is None else score for score in own_scores])
            worded = [index for index in order if any(character.isalnum() for character in own[index])]
            may_repeat = self._pairs([own[index] for index in worded], [owners[number][index] for index in worded])
            if vectors is None:
                sets = [shingles(own[index], self.config.shingle_size) for index in worded]
                flags = repeated_sets(sets, self.config.threshold, may_repeat)
            else:
                flags = repeated_vectors(vectors[number][worded], self.config.threshold, may_repeat)
            dropped = {index for index, flag in zip(worded, flags, strict=True) if flag}
            found.append([index in dropped for index in range(len(own))])
        return found

    def _pairs(self, texts: list[str], owners: list[frozenset[int]]) -> Callable[[int, int], bool]:
        """Whether a sentence may be dropped for an earlier one: short ones for those of their own document only."""
        long = [len(words(text)) >= self.config.min_words for text in texts]
        return lambda this, earlier: long[this] or owners[this] == owners[earlier]

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
            nexts = [*(start for start, _ in own[1:]), len(segment.text)]
            gone = [
                (start, _with_punctuation(segment.text, end, most))
                for (start, end), most, drop in zip(own, nexts, dropped, strict=True)
                if drop
            ]
            kept += [part(segment, *span) for span in _between(segment.text, gone)]
        counter = self.token_counter
        other = context.counter != counter.name
        same = not other and not any(repeated)
        known = {"n_slots": context.n_slots} if same else {}
        return counted(context, measured(kept, counter, anew=other), counter, **known)


def _with_punctuation(text: str, end: int, most: int) -> int:
    """The end of a sentence, with the punctuation that a splitter may leave out."""
    while end < most and not (text[end].isspace() or text[end].isalnum()):
        end += 1
    return end


def _between(text: str, gone: Sequence[Span]) -> list[Span]:
    """What is left of a text without some spans, unless it is blank; a splitter need not cover everything."""
    starts, ends = [0, *(end for _, end in gone)], [*(start for start, _ in gone), len(text)]
    found = []
    for start, end in zip(starts, ends, strict=True):
        stretch = text[start:end]
        if stretch.strip():
            first = start + len(stretch) - len(stretch.lstrip())
            found.append((first, first + len(stretch.strip())))
    return found
