"""How right an answer is: pure functions over strings.

Normalisation, exact match and F1 are those of SQuAD (Rajpurkar et al. 2016, section 6.1; RECOMP uses the same).
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
# Scripts written without spaces, where a word has no visible ends: Thai, Lao, Burmese, Khmer, kana, Han.
UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")


def normalise(text: str) -> str:
    """Write a text as SQuAD compares it: lower case, without punctuation and English articles, single spaces.

    >>> normalise("The  Bridge, (1357)!")
    'bridge 1357'

    Args:
        text: any.

    Returns:
        The normalised text.
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(answer: str, right: Sequence[str]) -> float:
    """Say whether an answer is one of the right ones, after normalisation.

    >>> exact_match("The Charles Bridge.", ["Charles Bridge", "Karlův most"])
    1.0

    Args:
        answer: that was given.
        right: answers, at least one.

    Returns:
        1 or 0.
    """
    given = normalise(answer)
    return float(any(given == normalise(each) for each in right))


def f1(answer: str, right: Sequence[str]) -> float:
    """Overlap of the words of an answer and of the right one that is nearest.

    >>> f1("in the year 1357", ["1357"])
    0.5

    Args:
        answer: that was given.
        right: answers, at least one.

    Returns:
        From 0 to 1; where one of the two has no words, 1 if neither has.
    """
    return max(_f1(normalise(answer).split(), normalise(each).split()) for each in right)


def _f1(given: list[str], wanted: list[str]) -> float:
    if not given or not wanted:
        return float(given == wanted)
    n_shared = sum((Counter(given) & Counter(wanted)).values())
    if not n_shared:
        return 0.0
    precision, recall = n_shared / len(given), n_shared / len(wanted)
    return 2 * precision * recall / (precision + recall)


def contains(text: str, right: Sequence[str]) -> float:
    """Say whether one of the right answers stands in a text (cover exact match).

    Unlike a search for the bare characters this asks for whole words, so that "no" does not stand in "not known". Any
    punctuation of any script ends a word; in scripts without spaces each character is one. Spellings that SQuAD's
    normalisation makes equal ("U.S.", "US") are found as well.

    >>> contains("It was built in 1357 by Parler.", ["1357"]), contains("not known", ["no"])
    (1.0, 0.0)
    >>> contains("它建于1357年。", ["1357"]), contains("Obama's wife", ["Obama"]), contains("the US", ["U.S."])
    (1.0, 1.0, 1.0)

    Args:
        text: an answer, or a context.
        right: answers, at least one.

    Returns:
        1 or 0.
    """
    given = f" {_apart(text)} ", f" {normalise(text)} "
    return float(any(_stands_in(given, each) for each in right))


def _stands_in(given: tuple[str, str], right: str) -> bool:
    written = (_apart(right), normalise(right))
    return any(wanted and f" {wanted} " in text for wanted, text in zip(written, given, strict=True))


def _apart(text: str) -> str:
    """Words with single spaces between them, whatever stood there; articles stay where there is nothing else."""
    spaced = UNSPACED.sub(r" \g<0> ", unicodedata.normalize("NFKC", text).casefold())
    # Letters, numbers, and the marks that belong to letters.
    words = "".join(character if unicodedata.category(character)[0] in "LNM" else " " for character in spaced)
    return " ".join(_ARTICLES.sub(" ", words).split()) or " ".join(words.split())
