"""A ceiling on the length of any text context."""

from __future__ import annotations

import warnings
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from ragcompress.composing.lengths import output_length
from ragcompress.composing.refining import ContextCompressor, counted, measured, part, texts_of
from ragcompress.compressor import BackendInfo
from ragcompress.errors import EmptyResultWarning, OptionError
from ragcompress.options import check_range
from ragcompress.selection import fill, rank
from ragcompress.sentences import Splitter, get_splitter, split_sentences
from ragcompress.tokens import TokenCounter, get_token_counter
from ragcompress.types import CompressedContext, TextSegment

# The whole result is counted for each; after so many in a row that do not fit, the rest is hardly going to.
_MAX_MISSES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenBudgetConfig:
    """Options of ``token-budget``.

    Attributes:
        max_tokens: the most tokens that the written-out result may have, titles and separators included, at least 1.
        token_counter: what a token is: ``"words"``, ``"characters"``, a tokenizer or any callable text -> int; None:
            as the stage before counts, words if there is none.
        splitter: where a segment is cut, if none fits as a whole.
    """

    max_tokens: int | None = None
    token_counter: str | TokenCounter | Callable[[str], int] | None = None
    splitter: str | Splitter = "punkt"

    def __post_init__(self) -> None:
        """Check names and ranges."""
        if self.max_tokens is None:
            raise OptionError("max_tokens must be a whole number and at least 1, got None.")
        check_range("max_tokens", self.max_tokens, at_least=1, whole=True)
        object.__setattr__(self, "max_tokens", int(self.max_tokens))  # numpy's become Python's, which JSON knows
        if self.token_counter is not None:
            get_token_counter(self.token_counter)
        get_splitter(self.splitter)


class TokenBudget(ContextCompressor):
    """Keeps whole segments, best first, as long as they fit; their order stays.

    Segments without a score come after those with one, in reading order. One that does not fit is passed over. Where
    no segment fits, the first of which a sentence does is cut behind the last one that does.

    Attributes:
        config: the ceiling, and what a token is.
    """

    name: ClassVar[str] = "token-budget"
    info: ClassVar[BackendInfo] = BackendInfo(
        kind="text", summary="whole segments by score, up to a number of tokens", needs_query=False
    )
    config_class = TokenBudgetConfig
    config: TokenBudgetConfig

    def __init__(
        self,
        max_tokens: int,
        *,
        token_counter: str | TokenCounter | Callable[[str], int] | None = None,
        splitter: str | Splitter = "punkt",
    ) -> None:
        """Set the ceiling.

        Args:
            max_tokens: see ``TokenBudgetConfig``, as the others.
            token_counter: what a token is.
            splitter: where a segment is cut.

        Raises:
            OptionError: a value does not exist or is out of range.
        """
        self._configure(TokenBudgetConfig(max_tokens=max_tokens, token_counter=token_counter, splitter=splitter))

    @classmethod
    def tiny(cls) -> Self:
        """Sixty words; see ``Compressor.tiny``."""
        return cls(60)

    def refine(self, contexts: Sequence[CompressedContext]) -> list[CompressedContext]:
        """Take segments out of every context that is too long; see ``ContextCompressor.refine``."""
        return [self._refined(context) for context in contexts]

    def _refined(self, context: CompressedContext) -> CompressedContext:
        limit, counter = self.config.max_tokens, self.token_counter
        assert limit is not None  # checked by the config
        other = context.counter != counter.name
        segments = measured(texts_of(context), counter, anew=other)

        def length(chosen: Sequence[TextSegment]) -> int:
            return output_length(context.documents, chosen, context.layout, counter)

        n_slots = length(segments) if other else context.n_slots
        if n_slots > limit:
            segments = measured(self._fitting(context, segments, limit, length), counter)
            n_slots = length(segments)
            if not segments:
                warnings.warn(
                    f"nothing was kept: no sentence fits into {limit} tokens.", EmptyResultWarning, stacklevel=2
                )
        return counted(context, segments, counter, n_slots=n_slots)

    def _fitting(
        self,
        context: CompressedContext,
        segments: Sequence[TextSegment],
        limit: int,
        length: Callable[[Sequence[TextSegment]], int],
    ) -> list[TextSegment]:
        def count(indices: Sequence[int]) -> list[int]:
            return [segments[index].n_slots for index in indices]

        def first_cost(document: int) -> int:
            title = context.documents[document].title if document >= 0 and context.layout.title != "never" else None
            return self.token_counter(title) if title else 0

        ranked = rank([float("-inf") if segment.score is None else segment.score for segment in segments])
        kept = fill(ranked, [_owner(segment) for segment in segments], limit, count, first_cost)
        # Lengths of parts need not add up to the length of the whole, with separators, in every vocabulary.
        n_kept = _most(len(kept), limit, lambda n: length([segments[index] for index in sorted(kept[:n])]))
        chosen = _refilled(kept[:n_kept], ranked, segments, limit, length)
        if chosen:
            return [segments[index] for index in chosen]
        for index in ranked:
            if found := self._beginning(segments[index], limit, length):
                return [found]
        return []

    def _beginning(
        self, segment: TextSegment, limit: int, length: Callable[[Sequence[TextSegment]], int]
    ) -> TextSegment | None:
        """As many sentences of a segment as fit; None: not even the first does."""
        ends = [end for _, end in split_sentences(segment.text, get_splitter(self.config.splitter))]
        n_sentences = _most(len(ends), limit, lambda n: length([part(segment, 0, ends[n - 1])]) if n else 0)
        return part(segment, 0, ends[n_sentences - 1]) if n_sentences else None


def _refilled(
    kept: Sequence[int],
    ranked: Sequence[int],
    segments: Sequence[TextSegment],
    limit: int,
    length: Callable[[Sequence[TextSegment]], int],
) -> list[int]:
    """Add what still fits, best first, by the length as it is written out; in reading order."""
    chosen = sorted(kept)
    n_slots, misses = length([segments[index] for index in chosen]), 0
    taken = set(kept)
    for index in ranked:
        if index in taken or segments[index].n_slots > limit - n_slots:
            continue
        more = sorted([*chosen, index])
        n_more = length([segments[place] for place in more])
        if n_more <= limit:
            chosen, n_slots, misses = more, n_more, 0
        else:
            misses += 1
        if misses >= _MAX_MISSES:
            break
    return chosen


def _most(n_all: int, limit: int, length: Callable[[int], int]) -> int:
    """The most of some things, taken from the first on, that are no longer than a limit."""
    n_most = bisect_right(range(n_all + 1), limit, key=length) - 1
    while n_most > 0 and length(n_most) > limit:  # a length need not grow with every thing in every vocabulary
        n_most -= 1
    return max(n_most, 0)


def _owner(segment: TextSegment) -> int:
    """The document whose title is written in front of a segment; -1: none."""
    documents = {source.document for source in segment.sources}
    return documents.pop() if len(documents) == 1 else -1
