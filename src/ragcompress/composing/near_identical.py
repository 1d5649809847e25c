"""Which of many sentences are nearly identical to an earlier one: pure functions over words and over vectors.

Shingles: the Jaccard similarity of sets of word runs, exactly, without comparing every pair. Of two sets that are
similar enough, some of the rarest members of each have to be the same (prefix filtering: Chaudhuri, Ganti, Kaushik,
ICDE 2006; Bayardo, Ma, Srikant, WWW 2007), so only those are looked up.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# Scripts that are written without spaces: every character counts as a word.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
# What only divides sentences, and invisible marks of formatting.
_DIVIDING = re.escape(".,;:!?…\"'`()[]{}«»‹›“”„‟‘’‚‛-‐‑‒–—―•、。，！？；：「」『』（）《》〈〉【】")
_DIVIDING += "\u00ad\u200b-\u200f\u2060\ufeff"
_ROUNDING = 1e-9
# Vectors of one text differ in the last digits with the batch that it was in.
_VECTOR_ROUNDING = 1e-5
_BLOCK = 256

Shingles = frozenset[tuple[str, ...]]


@cache
def _word() -> re.Pattern[str]:
    """What counts: words with their vowel signs, figures with what divides their digits, and signs, one by one."""
    # \\w leaves out the marks that make another vowel; the standard library has no class of them.
    marks = "".join(mark for mark in map(chr, range(0x300, 0x1F000)) if unicodedata.category(mark).startswith("M"))
    letter = rf"(?:(?![{_UNSPACED}])[\w{marks}])"
    return re.compile(
        rf"[{_UNSPACED}]|{letter}+(?:(?<=\d)[.,:\-–]\d{letter}*)*|(?<!\w)[-–](?=[.,]?\d)|!(?==)|[^\w\s{_DIVIDING}]"
    )


def words(text: str) -> tuple[str, ...]:
    """Take what counts of a sentence: words, figures and signs; case and punctuation do not.

    >>> words("The bridge, at -1.5 °C!")
    ('the', 'bridge', 'at', '-', '1.5', '°', 'c')

    Args:
        text: a sentence.

    Returns:
        Words in their order; every character of a script without spaces is one.
    """
    return tuple(_word().findall(unicodedata.normalize("NFC", text.casefold())))


def shingles(text: str, size: int) -> Shingles:
    """Take all runs of so many words.

    >>> sorted(shingles("The bridge, the BRIDGE!", 2))
    [('bridge', 'the'), ('the', 'bridge')]

    Args:
        text: a sentence.
        size: words of a run; a shorter text is one run.

    Returns:
        The set of runs; empty for a text without words.
    """
    found = words(text)
    if len(found) <= size:
        return frozenset([found] if found else [])
    return frozenset(found[start : start + size] for start in range(len(found) - size + 1))


def _any_pair(this: int, earlier: int) -> bool:
    return True


def repeated_sets(
    sets: Sequence[Shingles], threshold: float, may_repeat: Callable[[int, int], bool] = _any_pair
) -> list[bool]:
    """Go through sets, and say of each whether one that was kept before it is similar enough.

    Args:
        sets: (n_sets,), in the order in which they are to be kept; empty ones are neither repeated nor repetitions.
        threshold: the least Jaccard similarity of a repetition.
        may_repeat: whether a set, by its index, can be a repetition of an earlier one at all.

    Returns:
        (n_sets,).
    """
    frequency = Counter(member for each in sets for member in each)
    kept: list[int] = []
    places: dict[tuple[str, ...], list[int]] = {}
    found = []
    for index, each in enumerate(sets):
        rarest = _rarest(each, threshold, frequency) if each else []
        if threshold <= 0:  # any two sets are similar enough, with common members or without
            repeated = bool(each) and any(may_repeat(index, place) for place in kept)
        else:
            candidates = {place for member in rarest for place in places.get(member, ())}
            repeated = any(
                may_repeat(index, place) and similarity(each, sets[place]) >= threshold - _ROUNDING
                for place in candidates
            )
        if each and not repeated:
            for member in rarest:
                places.setdefault(member, []).append(index)
            kept.append(index)
        found.append(repeated)
    return found


def _rarest(each: Shingles, threshold: float, frequency: Counter[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """So many members that every set that is similar enough has one of its own so many in common with them."""
    n_members = len(each) - math.ceil(threshold * len(each) - _ROUNDING) + 1
    return sorted(each, key=lambda member: (frequency[member], member))[:n_members]


def similarity(left: Shingles, right: Shingles) -> float:
    """Jaccard similarity: how much two sets have in common, of all that they have.

    >>> similarity(frozenset([("a",), ("b",)]), frozenset([("b",), ("c",)]))
    0.3333333333333333

    Args:
        left: a set.
        right: a set, not both of them empty.

    Returns:
        0 to 1.
    """
    common = len(left & right)
    return common / (len(left) + len(right) - common)


def repeated_vectors(
    vectors: Tensor, threshold: float, may_repeat: Callable[[int, int], bool] = _any_pair
) -> list[bool]:
    """Go through vectors, and say of each whether one that was kept before it is similar enough.

    Args:
        vectors: (n_vectors, width), in the order in which they are to be kept.
        threshold: the least cosine of a repetition.
        may_repeat: see ``repeated_sets``.

    Returns:
        (n_vectors,).
    """
    import torch
    from torch.nn.functional import normalize

    unit = normalize(vectors.float(), dim=-1)
    kept = torch.zeros(len(unit), dtype=torch.bool, device=unit.device)
    found = []
    for start in range(0, len(unit), _BLOCK):
        block = unit[start : start + _BLOCK]
        end = start + len(block)
        similar = block @ unit[:end].T >= threshold - _VECTOR_ROUNDING
        for row in range(len(block)):
            # What comes later is not kept yet, itself included.
            earlier = (similar[row] & kept[:end]).nonzero().flatten().tolist()
            repeated = any(may_repeat(start + row, place) for place in earlier)
            kept[start + row] = not repeated
            found.append(repeated)
    return found
