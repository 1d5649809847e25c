"""What a tool writes around the documents in its result: what goes with a document, and what stays."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import takewhile

# Longer pieces around documents are something that the tool has to say.
_HEADLINE_CHARS = 200


def glue_of(content: str, texts: Sequence[str]) -> tuple[str, ...] | None:
    """Find what a content holds around texts.

    Args:
        content: of a message.
        texts: of its documents.

    Returns:
        What stands in front of each, and behind the last one; None if it does not hold them all, in their order.
    """
    pieces = []
    end = 0
    for text in texts:
        start = content.find(text, end)
        if start < 0 or not text:
            return None
        pieces.append(content[end:start])
        end = start + len(text)
    return (*pieces, content[end:])


def joined(glue: tuple[str, ...], new: Mapping[int, str]) -> str:
    """Write the content anew.

    A separator or headline in front of a document goes with it, and so does a line behind it that is its own, its
    source, say: it must not come to stand behind another one. What else the tool wrote stays.

    Args:
        glue: see ``glue_of``.
        new: the texts that stay, by place.

    Returns:
        The content.
    """
    heads, tails, closing = _parted(glue)
    pieces = [
        f"{head}{new[place]}{tail}" if place in new else _staying(heads, place) + ("" if _is_short(tail) else tail)
        for place, (head, tail) in enumerate(zip(heads, tails, strict=True))
    ]
    content = "".join(pieces) + closing
    return content if pieces[0].strip() else content.lstrip()


def _parted(glue: tuple[str, ...]) -> tuple[list[str], list[str], str]:
    """What stands in front of each document, what behind each, and what behind all of them."""
    between = glue[1:-1]
    first, last = _lines(glue[0]), _lines(glue[-1])
    ends = [_end(_lines(each), _n_behind(_lines(each), first, last)) for each in between]
    tails = [each[:end] for each, end in zip(between, ends, strict=True)]
    heads = [glue[0], *(each[end:] for each, end in zip(between, ends, strict=True))]
    n_last = max((_n_alike(last, _lines(tail)) for tail in tails), default=0)
    if not n_last and last and last[0].strip() and any(_lines(tail)[0].strip() for tail in tails if tail):
        n_last = 1
    end = _end(last, n_last)
    return heads, [*tails, glue[-1][:end]], glue[-1][end:]


def _n_behind(lines: list[str], first: list[str], last: list[str]) -> int:
    """How many of the lines between two documents belong to the one before.

    Args:
        lines: between them.
        first: in front of the first document.
        last: behind the last one.
    """
    n_head = _n_alike(lines[::-1], first[::-1])
    rest = lines[: len(lines) - n_head]
    if not _n_written(rest):  # a headline like that of the first document, and nothing else
        return 0
    if n_alike := _n_alike(lines, last):
        return n_alike
    if lines[0].strip() and lines[0].endswith("\n"):  # it stands on the document's own last line
        return 1
    # Directly below the document, and more than what stands in front of the first one: the headline is what is like
    # that one's, or what stands behind a blank line.
    if len(lines) > 1 and lines[1].strip() and _n_written(lines) > _n_written(first):
        return len(rest) if n_head else next((n for n in range(2, len(lines)) if not lines[n].strip()), 0)
    return 0


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def _n_written(lines: list[str]) -> int:
    return sum(bool(line.strip()) for line in lines)


def _n_alike(lines: list[str], others: list[str]) -> int:
    """How many lines begin with the same words as others, numbers aside; 0 if all of those are blank."""
    pairs = takewhile(lambda pair: _first_word(pair[0]) == _first_word(pair[1]), zip(lines, others, strict=False))
    n_alike = len(list(pairs))
    return n_alike if _n_written(lines[:n_alike]) else 0


def _end(lines: list[str], n_lines: int) -> int:
    """Length of the first lines; line ends belong to what follows."""
    return len("".join(lines[:n_lines]).rstrip("\r\n"))


def _staying(heads: Sequence[str], place: int) -> str:
    """What stays in front of a document that goes."""
    headline = heads[place] if place else _first_headline(heads)
    return heads[place][: len(heads[place]) - (len(headline) if _is_short(headline) else 0)]


def _first_headline(heads: Sequence[str]) -> str:
    """The end of what stands in front of the first document, if it looks like the second one's headline.

    It has as many lines and begins with the same word, numbers aside. All else may be the tool's own answer.
    """
    second = heads[1].lstrip()
    lines = _lines(heads[0])
    headline = "".join(lines[max(0, len(lines) - len(_lines(second))) :])
    return headline if _first_word(headline) == _first_word(second) else ""


def _is_short(text: str) -> bool:
    return len(text.strip()) <= _HEADLINE_CHARS


def _first_word(text: str) -> str:
    return re.sub(r"\d+", "0", next(iter(text.split()), ""))
