"""From what the model says of a document to the segments that are kept of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragcompress.backends.provence.config import ProvenceConfig
from ragcompress.backends.provence.rounding import keep_units, mean, rounding_limit, sentence_value
from ragcompress.types import Document, Source, TextSegment

if TYPE_CHECKING:
    from ragcompress.backends.provence.judging import JudgedUnit, Judgement
    from ragcompress.backends.provence.text import PassageTokenizer


@dataclass(frozen=True, slots=True)
class KeptSentence(TextSegment):
    """A sentence (or a piece of an over-long one) that was kept; its ``score`` is that of its document.

    Attributes:
        keep_probability: mean over its tokens, from 0 to 1; None: the segment is no sentence, but a whole document, or
            decoded text.
    """

    keep_probability: float | None = None


def document_score(judged: Judgement | None, config: ProvenceConfig) -> float | None:
    """The reranking score of a document.

    Args:
        judged: what the model says; None: nothing.
        config: which window counts.

    Returns:
        Unbounded; None where nothing was read.
    """
    if judged is None or not judged.window_scores:
        return None
    return max(judged.window_scores) if config.score_window == "best" else judged.window_scores[0]


def ranked(scores: Sequence[float | None], config: ProvenceConfig) -> list[int]:
    """Documents that are kept, in reading order.

    >>> ranked([0.1, None, 0.9, 0.5], ProvenceConfig(top_k=2, reorder=True))
    [2, 3]

    Args:
        scores: (n_docs,).
        config: how many, and in which order.

    Returns:
        Indices; with a rank asked for, those without a score are left out.
    """
    if config.top_k is None and not config.reorder:
        return list(range(len(scores)))
    scored = [(-score, index) for index, score in enumerate(scores) if score is not None]
    best = [index for _, index in sorted(scored)][: config.top_k]
    return best if config.reorder else sorted(best)


def whole_document(index: int, document: Document, score: float | None = None) -> list[KeptSentence]:
    """A document that could not be judged, or that would not become shorter.

    Args:
        index: its place.
        document: any.
        score: of the document; None: it was not judged.

    Returns:
        One segment; none of a blank document.
    """
    text = document.text.strip()
    start = len(document.text) - len(document.text.lstrip())
    return [KeptSentence(text, (Source(index, start, start + len(text)),), score)] if text else []


def segments_of(
    index: int, document: Document, judged: Judgement, config: ProvenceConfig, tokenizer: PassageTokenizer
) -> list[KeptSentence]:
    """What is kept of a document.

    Args:
        index: its place.
        document: what was judged.
        judged: what the model says.
        config: threshold, rounding, titles, kind of text.
        tokenizer: decodes, where that is asked for.

    Returns:
        Segments in order, with the document's score.
    """
    kept = _kept(judged, config)
    score = document_score(judged, config)
    if config.text_mode == "decoded":
        text = _decoded(kept, tokenizer)
        # Vocabularies write some characters as several ("…" as "..."): what is longer is no compression.
        if len(text) <= len(document.text):
            return [KeptSentence(text, (Source(index),), score)] if text else []
    found: list[KeptSentence] = []
    for each in kept:
        if each.unit.span is None:  # a title that was given apart is written by the layout
            continue
        # The borders of pieces may stand at white space.
        text = document.text[slice(*each.unit.span)]
        start = each.unit.span[0] + len(text) - len(text.lstrip())
        if text := text.strip():
            source = Source(index, start, start + len(text))
            found.append(KeptSentence(text, (source,), score, keep_probability=mean(each.probabilities)))
    return found


def _kept(judged: Judgement, config: ProvenceConfig) -> list[JudgedUnit]:
    units = judged.units
    titled = config.titles == "first_sentence" or any(each.unit.span is None for each in units[:1])
    flags = keep_units(
        [sentence_value(each.probabilities, config.threshold, config.rounding) for each in units],
        [each.unit.sentence for each in units],
        [each.window for each in units],
        rounding_limit(config.threshold, config.rounding),
        title=config.title_window if config.always_keep_title and titled else "own",
        whole=config.long_sentences == "whole",
        least=config.min_sentences,
        written=[each.unit.span is not None for each in units],
    )
    return [each for each, keep in zip(units, flags, strict=True) if keep]


def _decoded(kept: Sequence[JudgedUnit], tokenizer: PassageTokenizer) -> str:
    """The released decoding: the ids kept of a window as one text, the windows one after the other."""
    windows: dict[int, list[int]] = {}
    for each in kept:
        if each.unit.span is not None:  # a title that was given apart is the layout's to write, or not to
            windows.setdefault(each.window, []).extend(each.unit.ids)
    return " ".join(text for ids in windows.values() if (text := tokenizer.decode(ids).strip()))
