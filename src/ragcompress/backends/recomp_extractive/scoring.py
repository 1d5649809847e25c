"""Scores of sentences from their words, alone or beside dot products: pure functions over one query's candidates.

Statistics of words come from the candidates themselves, a few dozen to a few hundred sentences. Libraries index a
corpus once and ask it often; here every query has a corpus of its own, which is counted and thrown away.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import fsum, log, sqrt

# Robertson et al. (TREC-3) and every library since.
SATURATION = 1.5
LENGTH_SHARE = 0.75
# Equal sentences may differ by the rounding of differently padded batches; a spread of that size says nothing.
_NO_SPREAD = 1e-5

# Scripts written without spaces: Thai, Lao, Burmese, Khmer, kana, Han.
_UNSPACED = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ece\u1000-\u1049\u1050-\u109f\u1780-\u17d3\u17dd-\u17e9\u3005-\u3007"
    "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
# Vowel signs and accents that ``\w`` leaves out, and the joiners inside of words.
_SIGNS = "\u0300-\u036f\u0591-\u05bd\u05bf-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u0900-\u0963\u0966-\u0df3\u200c\u200d"
_WORD = re.compile(rf"[\w{_SIGNS}{_UNSPACED}]+")
_RUN = re.compile(rf"[{_UNSPACED}]+|[^{_UNSPACED}]+")
_ANY_UNSPACED = re.compile(rf"[{_UNSPACED}]")


def words(text: str) -> list[str]:
    """Cut a text into words without case; scripts without spaces into characters and pairs of neighbours.

    >>> words("The Bridge, built in 1357.")
    ['the', 'bridge', 'built', 'in', '1357']
    >>> words("石桥 A1")
    ['石', '桥', '石桥', 'a1']

    Args:
        text: any.

    Returns:
        The words in order.
    """
    if text.isascii():
        return _WORD.findall(text.lower())
    text = unicodedata.normalize("NFKC", text).casefold()
    found = _WORD.findall(text)
    if _ANY_UNSPACED.search(text) is None:
        return found
    pieces: list[str] = []
    for run in (run for word in found for run in _RUN.findall(word)):
        if _ANY_UNSPACED.match(run):
            pieces += [*run, *(run[start : start + 2] for start in range(len(run) - 1))]
        else:
            pieces.append(run)
    return pieces


def bm25(query: Iterable[str], sentences: Sequence[Mapping[str, int]]) -> list[float]:
    """Score sentences by the words that they share with a query: Okapi BM25, with the idf that is never negative.

    ``sum over words of log(1 + (n - df + .5) / (df + .5)) * tf * (k1 + 1) / (tf + k1 * (1 - b + b * length / mean))``:
    Robertson and Zaragoza, The Probabilistic Relevance Framework (2009), equation 3.15, with the idf of Lucene.

    Args:
        query: words; each counts once.
        sentences: (n_sents,) words with how often they occur.

    Returns:
        (n_sents,) scores; 0 where no word is shared. They do not depend on the order of the sentences.
    """
    scores = [0.0] * len(sentences)
    lengths = [sum(sentence.values()) for sentence in sentences]
    mean = sum(lengths) / len(lengths) if any(lengths) else 1.0
    penalties = [SATURATION * (1 - LENGTH_SHARE + LENGTH_SHARE * length / mean) for length in lengths]
    for word in dict.fromkeys(query):
        hits = [(index, sentence[word]) for index, sentence in enumerate(sentences) if word in sentence]
        rarity = log(1 + (len(sentences) - len(hits) + 0.5) / (len(hits) + 0.5)) * (SATURATION + 1)
        for index, count in hits:
            scores[index] += rarity * count / (count + penalties[index])
    return scores


def z_scores(values: Sequence[float]) -> list[float]:
    """Shift and scale values to mean 0 and standard deviation 1, so that different kinds of scores can be added.

    >>> z_scores([1.0, 1.0, 5.0, 5.0])
    [-1.0, -1.0, 1.0, 1.0]
    >>> z_scores([7.0, 7.0])
    [0.0, 0.0]

    Args:
        values: (n,).

    Returns:
        (n,); zeros where all values are equal.
    """
    if not values:
        return []
    mean = fsum(values) / len(values)
    spread = sqrt(fsum((value - mean) ** 2 for value in values) / len(values))
    if spread <= _NO_SPREAD * max(map(abs, values)):
        return [0.0] * len(values)
    return [(value - mean) / spread for value in values]


def score_words(
    query: str, sentences: Sequence[str], *, dense: Sequence[float] | None = None, hops: int = 1
) -> list[float]:
    """Score sentences by words; with dot products given, by the sum of both as z-scores.

    With two hops the words of the best sentence join those of the question, each counted once, and the words are
    scored again; the dot products stay. So a sentence is found that the question does not name and the first find does
    (pseudo relevance feedback after Rocchio, 1971, with one document). Moving the query's *vector* the same way makes
    the ranking worse: it finds again what was found.

    Args:
        query: the question.
        sentences: (n_sents,), what is scored.
        dense: (n_sents,) dot products; None: words alone.
        hops: 1 or 2.

    Returns:
        (n_sents,) scores.
    """
    asked = words(query)
    counts = [Counter(words(sentence)) for sentence in sentences]
    beside = z_scores(dense) if dense is not None else None

    def scored(wanted: Iterable[str]) -> list[float]:
        lexical = bm25(wanted, counts)
        if beside is None:
            return lexical
        return [left + right for left, right in zip(beside, z_scores(lexical), strict=True)]

    scores = scored(asked)
    if hops == 1 or not any(scores):
        return scores
    # Among equals the text decides: their order in the documents must not show.
    best = min(range(len(scores)), key=lambda index: (-scores[index], sentences[index]))
    return scored([*asked, *counts[best]])
