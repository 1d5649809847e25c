"""Long documents become chunks of whole sentences, each short enough for the compressor."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from ragcompress.latent.text import TemplateTokenizer
from ragcompress.sentences import Span, Splitter


def chunk_spans(text: str, tokenizer: TemplateTokenizer, n_tokens: int, splitter: Splitter) -> list[Span]:
    """Cut a text into chunks of similar length that each fit a number of tokens.

    Chunks end where sentences do; a sentence that is too long for itself is cut between tokens. No more chunks are
    made than filling each to its limit would give.

    Args:
        text: of a document.
        tokenizer: of the compressor.
        n_tokens: limit of a chunk.
        splitter: text -> sentence spans.

    Returns:
        Half-open character spans in reading order, without overlap; only white space lies between them. None for a
        blank text.
    """
    if not text.strip():
        return []
    start, end = len(text) - len(text.lstrip()), len(text.rstrip())
    if len(tokenizer.offsets(tokenizer.harmless(text[start:end]))) <= n_tokens:
        return [(start, end)]
    pieces = [piece for span in splitter(text) for piece in _short_enough(text, span, tokenizer, n_tokens)]
    spans, lengths = [span for span, _ in pieces], [length for _, length in pieces]
    most = _fill(lengths, n_tokens)
    # The smallest limit that needs no more chunks spreads the text evenly over them.
    low, high = max(lengths), n_tokens
    while low < high:
        middle = (low + high) // 2
        if len(_fill(lengths, middle)) == len(most):
            high = middle
        else:
            low = middle + 1
    return [(spans[first][0], spans[last - 1][1]) for first, last in _fill(lengths, high)]


def _short_enough(text: str, span: Span, tokenizer: TemplateTokenizer, n_tokens: int) -> list[tuple[Span, int]]:
    """A sentence with its length in tokens, cut up if it is too long for one chunk."""
    start, end = span
    offsets = tokenizer.offsets(tokenizer.harmless(text[start:end]))
    if len(offsets) <= n_tokens:
        return [(span, len(offsets))]
    cuts = [0]
    for place in range(n_tokens, len(offsets), n_tokens):
        # Several tokens may share one character (bytes of an unknown script): a cut must move on.
        if offsets[place][0] > cuts[-1]:
            cuts.append(offsets[place][0])
    cuts.append(end - start)
    parts = []
    for left, right in pairwise(cuts):
        inner = text[start + left : start + right]
        if inner.strip():
            left += len(inner) - len(inner.lstrip())
            right -= len(inner) - len(inner.rstrip())
            parts.append(((start + left, start + right), min(n_tokens, len(offsets))))
    return parts


def _fill(lengths: Sequence[int], limit: int) -> list[tuple[int, int]]:
    """Runs of neighbours whose lengths together stay within a limit, as half-open ranges."""
    runs, first, total = [], 0, 0
    for index, length in enumerate(lengths):
        if index > first and total + length > limit:
            runs.append((first, index))
            first, total = index, 0
        total += length
    runs.append((first, len(lengths)))
    return runs
