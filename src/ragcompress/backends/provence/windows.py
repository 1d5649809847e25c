"""What the encoder reads at once: pure functions from lengths to windows, and the published form of a question."""

from __future__ import annotations

import string
from collections.abc import Sequence

# [CLS] question [SEP] sentences [SEP]
N_SPECIAL = 3
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_query(query: str) -> str:
    """Write a question as the published models were trained on it: lower case, no ASCII punctuation, single spaces.

    Typographic marks stay, and so does everything else beyond ASCII; "C++" becomes "c" and "3.5" becomes "35".

    >>> normalize_query('What  is "C++"?')
    'what is c'

    Args:
        query: as the user wrote it.

    Returns:
        What is tokenised; may be empty.
    """
    return " ".join(query.lower().translate(_WITHOUT_PUNCTUATION).split())


def room(n_query: int, max_length: int) -> int | None:
    """Tokens that a window has for sentences.

    >>> room(10, 512), room(255, 512), room(256, 512), room(0, 512)
    (499, 254, None, None)

    Args:
        n_query: tokens of the question, without special tokens.
        max_length: tokens of a window, special tokens included.

    Returns:
        A positive number; None: the question is empty or takes half of the window, and nothing can be judged.
    """
    budget = max_length - n_query - N_SPECIAL
    return budget if 0 < n_query < max_length // 2 and budget > 0 else None


def pieces(n_tokens: int, budget: int) -> list[tuple[int, int]]:
    """Cut a sentence that is too long for any window.

    >>> pieces(600, 499), pieces(499, 499), pieces(0, 499)
    ([(0, 499), (499, 600)], [(0, 499)], [(0, 0)])

    Args:
        n_tokens: of the sentence.
        budget: tokens that a window has for sentences.

    Returns:
        Half-open ranges of tokens, none longer than the budget; one for a sentence that fits.
    """
    return [(start, min(start + budget, n_tokens)) for start in range(0, max(n_tokens, 1), budget)]


def pack(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Fill windows with whole sentences, in order.

    >>> pack([200, 200, 200, 499, 101], 499)
    [[0, 1], [2], [3], [4]]

    Args:
        lengths: (n_units,) tokens of sentences or pieces, none above the budget.
        budget: tokens that a window has for sentences.

    Returns:
        (n_windows,) lists of consecutive units.
    """
    windows: list[list[int]] = []
    left = -1
    for unit, length in enumerate(lengths):
        if length > left:
            windows.append([])
            left = budget
        windows[-1].append(unit)
        left -= length
    return windows
