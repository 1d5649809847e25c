"""From keep probabilities of tokens to whole sentences: the published rules, as pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Rounding = Literal["binary-mean", "probability-mean", "majority"]
ROUNDINGS: tuple[Rounding, ...] = ("binary-mean", "probability-mean", "majority")


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean.

    >>> mean([0.25, 0.75]), mean([])
    (0.5, 0.0)

    Args:
        values: any number.

    Returns:
        0 for none: a sentence without a token says nothing.
    """
    return sum(values) / len(values) if values else 0.0


def sentence_value(probabilities: Sequence[float], threshold: float, rounding: Rounding) -> float:
    """Bring the keep probabilities of a sentence's tokens down to one value.

    >>> round(sentence_value([1.0] + [0.08] * 19, 0.1, "binary-mean"), 3)
    0.05
    >>> round(sentence_value([1.0] + [0.08] * 19, 0.1, "probability-mean"), 3)
    0.126

    Args:
        probabilities: (n_tokens,).
        threshold: above it a token votes for its sentence.
        rounding: ``"probability-mean"``: the mean probability; else the share of votes.

    Returns:
        From 0 to 1.
    """
    if rounding == "probability-mean":
        return mean(probabilities)
    return mean([float(probability > threshold) for probability in probabilities])


def rounding_limit(threshold: float, rounding: Rounding) -> float:
    """The value above which a sentence is kept.

    Args:
        threshold: the released code asks the same of sentences as of tokens.
        rounding: ``"majority"``, the paper's prose, asks for more than half of the tokens instead.

    Returns:
        From 0 to 1.
    """
    return 0.5 if rounding == "majority" else threshold


def keep_units(
    values: Sequence[float],
    sentences: Sequence[int],
    windows: Sequence[int],
    limit: float,
    *,
    title: Literal["own", "first", "any"] = "own",
    whole: bool = False,
    least: int = 0,
    written: Sequence[bool] | None = None,
) -> list[bool]:
    """Decide what is kept of one document.

    >>> keep_units([0.0, 0.0, 0.9], [0, 1, 2], [0, 0, 0], 0.1, title="any")
    [True, False, True]
    >>> keep_units([0.0, 0.0, 0.9], [0, 1, 2], [0, 0, 1], 0.1, title="first")
    [False, False, True]

    Args:
        values: (n_units,), the value of each sentence, or of each piece of a sentence that was cut.
        sentences: (n_units,), the sentence that each unit belongs to, ascending from 0.
        windows: (n_units,), the window that each unit stands in, ascending from 0.
        limit: values above it are kept.
        title: the first sentence is kept: ``"own"``: by its own value; ``"first"``: also where anything in the first
            window is (the released code); ``"any"``: also where anything is.
        whole: whether a sentence that was cut is kept as a whole where any of its pieces is.
        least: at least so many of the sentences that can be written are kept, the best first.
        written: (n_units,), whether a unit stands in the text; a title that was given apart does not. None: all do.

    Returns:
        (n_units,).
    """
    kept = [value > limit for value in values]
    written = [True] * len(kept) if written is None else written
    best: dict[int, float] = {}
    for sentence, value, counts in zip(sentences, values, written, strict=True):
        if counts:
            best[sentence] = max(value, best.get(sentence, value))
    chosen = {sentence for sentence, keep, counts in zip(sentences, kept, written, strict=True) if keep and counts}
    ranked = sorted(best.keys() - chosen, key=lambda sentence: (-best[sentence], sentence))
    saved = set(ranked[: max(0, least - len(chosen))])
    kept = [keep or sentence in saved for keep, sentence in zip(kept, sentences, strict=True)]
    calling = [keep and (title == "any" or not window) for keep, window in zip(kept, windows, strict=True)]
    if title != "own" and any(calling):
        kept = [keep or not sentence for keep, sentence in zip(kept, sentences, strict=True)]
    if whole:
        chosen = {sentence for sentence, keep in zip(sentences, kept, strict=True) if keep}
        kept = [sentence in chosen for sentence in sentences]
    return kept


def compression_rate(original: str, pruned: str) -> float:
    """Measure compression the way Provence's authors report it: the share of characters removed, in percent.

    >>> compression_rate("four", "four"), compression_rate("four", ""), compression_rate("", "")
    (0.0, 100.0, 0.0)

    Args:
        original: a document.
        pruned: what was kept of it.

    Returns:
        From 0 to 100; not to be compared with ratios of tokens.
    """
    return (len(original) - len(pruned)) / len(original) * 100 if original else 0.0
