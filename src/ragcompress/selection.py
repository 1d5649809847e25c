"""Which candidates an extractive compressor keeps, and in which order: pure functions over scores.

Every extractive backend shares these four limits, of which exactly one is set.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from ragcompress.errors import OptionError
from ragcompress.options import check_choice, check_range
from ragcompress.types import Layout

Order = Literal["document", "score", "ascending"]
# After so many candidates in a row that do not fit, the rest is hardly going to: do not count thousands of sentences.
_MAX_MISSES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionConfig:
    """How much an extractive compressor keeps. Exactly one of the four limits is set.

    Attributes:
        top_k: how many candidates are kept, at least 1.
        max_tokens: the most tokens that the written-out result may have, at least 1; a hard ceiling over all
            documents, counted by the compressor's token counter.
        ratio: the least compression, input tokens / kept tokens, at least 1; 4 keeps at most a quarter.
        threshold: the lowest score that is kept.
        order: ``"document"``: as in the documents; ``"score"``: best first; ``"ascending"``: best last.
        pool: ``"all"``: candidates of all documents compete; ``"document"``: the limit holds for each document.
    """

    CHOOSE_ONE: ClassVar[tuple[str, ...]] = ("top_k", "max_tokens", "ratio", "threshold")

    top_k: int | None = None
    max_tokens: int | None = None
    ratio: float | None = None
    threshold: float | None = None
    order: Order = "document"
    pool: Literal["all", "document"] = "all"

    def __post_init__(self) -> None:
        """Check that exactly one limit is set, and every range."""
        chosen = {name: getattr(self, name) for name in self.CHOOSE_ONE if getattr(self, name) is not None}
        if len(chosen) != 1:
            came = " and ".join(f"{name}={value!r}" for name, value in chosen.items()) or "none of them"
            raise OptionError(
                f"exactly one of {', '.join(self.CHOOSE_ONE)} must be set, got {came}.",
                hint="top_k: sentences, >= 1; max_tokens: tokens, >= 1; ratio: input / kept tokens, >= 1; "
                "threshold: lowest score.",
            )
        check_range("top_k", self.top_k, at_least=1, whole=True)
        check_range("max_tokens", self.max_tokens, at_least=1, whole=True)
        check_range("threshold", self.threshold)
        for name in ("top_k", "max_tokens"):  # numpy's whole numbers become Python's, which JSON knows
            if getattr(self, name) is not None:
                object.__setattr__(self, name, int(getattr(self, name)))
        if isinstance(self.ratio, (int, float)) and 0 < self.ratio < 1:
            raise OptionError(
                f"ratio is input tokens / kept tokens and must be at least 1, got {self.ratio!r}.",
                hint=f"To keep {self.ratio:.0%} of the tokens pass ratio={1 / self.ratio:.4g}.",
            )
        check_range("ratio", self.ratio, at_least=1)
        check_choice("order", self.order, ("document", "score", "ascending"))
        check_choice("pool", self.pool, ("all", "document"))
        if self.pool == "document" and self.max_tokens is not None:
            raise OptionError(
                "max_tokens is a ceiling over all documents and cannot go with pool='document'.",
                hint="Use ratio for a budget in each document.",
            )


def rank(scores: Sequence[float]) -> list[int]:
    """Sort candidates by score, best first; equal scores by position.

    >>> rank([0.2, 0.9, 0.5, 0.9])
    [1, 3, 2, 0]
    """
    return sorted(range(len(scores)), key=lambda index: -scores[index])


def choose(
    scores: Sequence[float],
    documents: Sequence[int],
    config: SelectionConfig,
    *,
    count: Callable[[Sequence[int]], list[int]],
    first_cost: Callable[[int], int],
    n_tokens: Sequence[int],
) -> list[int]:
    """Choose candidates by the limit that is set.

    Args:
        scores: (n_candidates,), higher is better.
        documents: (n_candidates,), the document of each candidate, ascending.
        config: the limit, the pool.
        count: candidates -> their lengths in tokens; asked for only where the limit is one of tokens.
        first_cost: document -> what its first kept candidate costs in addition (its title), in tokens.
        n_tokens: (n_docs,), lengths of the documents in tokens.

    Returns:
        Indices of the kept candidates, best first.
    """
    if config.pool == "all":
        return _choose_pooled(scores, documents, rank(scores), config, count, first_cost, sum(n_tokens))
    by_document: dict[int, list[int]] = {}
    for index in rank(scores):
        by_document.setdefault(documents[index], []).append(index)
    kept = [
        index
        for document, ranked in by_document.items()
        for index in _choose_pooled(scores, documents, ranked, config, count, first_cost, n_tokens[document])
    ]
    return sorted(kept, key=lambda index: (-scores[index], index))


def _choose_pooled(
    scores: Sequence[float],
    documents: Sequence[int],
    ranked: list[int],
    config: SelectionConfig,
    count: Callable[[Sequence[int]], list[int]],
    first_cost: Callable[[int], int],
    n_tokens: int,
) -> list[int]:
    if config.top_k is not None:
        return ranked[: config.top_k]
    if config.threshold is not None:
        return [index for index in ranked if scores[index] >= config.threshold]
    if config.max_tokens is not None:
        budget = config.max_tokens
    else:
        assert config.ratio is not None
        # The small excess undoes the rounding of e.g. 30 / (30 / 7), which would lose a whole token.
        budget = int(n_tokens / config.ratio + 1e-9)
    return fill(ranked, documents, budget, count, first_cost)


def fill(
    ranked: Sequence[int],
    documents: Sequence[int],
    budget: int,
    count: Callable[[Sequence[int]], list[int]],
    first_cost: Callable[[int], int],
) -> list[int]:
    """Take candidates best first as long as they fit; one that does not fit is passed over.

    Args:
        ranked: candidates, best first.
        documents: (n_candidates,), the document of each candidate.
        budget: tokens.
        count: candidates -> their lengths in tokens.
        first_cost: document -> what its first kept candidate costs in addition, in tokens.

    Returns:
        The candidates taken, best first.
    """
    taken: list[int] = []
    opened: set[int] = set()
    misses = 0
    for start in range(0, len(ranked), _MAX_MISSES):
        block = ranked[start : start + _MAX_MISSES]
        for index, length in zip(block, count(block), strict=True):
            document = documents[index]
            cost = length + (0 if document in opened else first_cost(document))
            if cost <= budget:
                budget -= cost
                opened.add(document)
                taken.append(index)
                misses = 0
            else:
                misses += 1
            if budget <= 0 or (taken and misses >= _MAX_MISSES):
                return taken
    return taken


def arrange(kept: Sequence[int], order: Order) -> list[int]:
    """Put kept candidates in reading order.

    >>> arrange([1, 3, 2], "document"), arrange([1, 3, 2], "score"), arrange([1, 3, 2], "ascending")
    ([1, 2, 3], [1, 3, 2], [2, 3, 1])

    Args:
        kept: indices, best first.
        order: see ``SelectionConfig.order``.

    Returns:
        The same indices.
    """
    if order == "document":
        return sorted(kept)
    return list(kept) if order == "score" else list(reversed(kept))


def no_longer_layout(layout: Layout, length: Callable[[Layout], int], n_tokens: int) -> tuple[Layout, int]:
    """Write a result more plainly where titles or separators, over and over, make it longer than its documents.

    Args:
        layout: as the config asks for.
        length: layout -> length of the result, in tokens.
        n_tokens: length of the documents.

    Returns:
        That layout if it can be; else one with titles once, or with the documents' own separators as well, whichever
        first is short enough, or the shortest. With it, the length of the result.
    """
    shortest, n_slots = layout, length(layout)
    once = replace(layout, title="once") if layout.title == "each" else layout
    for plainer in (once, replace(once, segment_separator=None)):
        if n_slots > n_tokens and plainer != shortest and (n_plainer := length(plainer)) < n_slots:
            shortest, n_slots = plainer, n_plainer
    return shortest, n_slots
