"""Text -> sentence spans: half-open (start, end) character offsets into the original text.

Nothing is lost and nothing is changed: outside of the spans there is only white space. NLTK's Punkt is the published
choice; its trained parameters come inside a wheel, so nothing is downloaded. Around it, by default: blank lines, list
items and headings end a sentence, full stops of scripts that Punkt does not know do too, and a "sentence" that no
encoder would read to its end is cut.
"""

from __future__ import annotations

import operator
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, ClassVar

from ragcompress.errors import InputError, OptionError, unknown_name_message
from ragcompress.options import check_range, unique_name

if TYPE_CHECKING:
    from punkt import PunktSentenceTokenizer

Span = tuple[int, int]
# A ``name`` attribute, if there is one, identifies the behaviour; it becomes a part of memory keys.
Splitter = Callable[[str], Sequence[Span]]

DEFAULT_MAX_CHARS = 2000
_CLOSERS = "」』”’）】》〉»\"')\\]"
# Full stops that are not followed by white space in their scripts: CJK, Arabic and Urdu, Devanagari, Armenian,
# Ethiopic, Khmer, Burmese. A full-width stop inside a number is a decimal point.
_OTHER_STOPS = re.compile(rf"(?:[。！？｡؟۔।॥։።។။]|．(?!\d))+[{_CLOSERS}]*")
_LIST_ITEM = re.compile(r"[ \t]*(?:[-*+•‣◦▪·–—]|\(?\d{1,3}[.)]|\(?[A-Za-z]\))[ \t]+\S")
_OWN_LINE = re.compile(r"[ \t]*(?:#{1,6}[ \t]|\|)")
_RULE_STOP = re.compile(rf"(?<![.!?])[.!?]++[{_CLOSERS}]*+(?=\s+[“‘«\"'(\[]*+[^\Wa-z_])")
# What Punkt's English parameters split but no reader would: "Fig. 3", "e.g. this", "A. B. Smith".
_NEVER_LAST = re.compile(r"(?:^|[\s(])(?:e\.g|i\.e|cf|vs|viz|approx|ca)\.$", re.IGNORECASE)
_BEFORE_NUMBER = re.compile(r"(?:^|[\s(])(?:nos?|figs?|eqs?|secs?|ch|vol|pp?|art|nr|tab|ex)\.$", re.IGNORECASE)
_BEFORE_LOWER = re.compile(r"(?:^|[\s(])(?:al|etc|inc|ltd|corp|co|jr|sr)\.$", re.IGNORECASE)
_INITIAL = re.compile(r"(?:^|[\s(.])[^\W\d_]\.$")
_NUMBER, _NEXT_INITIAL = re.compile(r"[\dIVX(]"), re.compile(r"[^\W\d_]\.")
_LIST_MARKER = re.compile(r"\(?\w{1,3}[.)]")
# Punkt looks for ASCII white space; one character for one, so offsets stay.
_SPACE = re.compile(r"[^\S\r\n]")
_CUT_AFTER = re.compile(r"[;:,.、，；：]\s|\s")
_FLASHRAG = re.compile(r"(?<![A-Za-z]\.)(?<=[.!?])\s+")


@cache
def _punkt(language: str, plain: bool) -> PunktSentenceTokenizer:
    """The tokenizer of a language; it keeps no state between calls, so threads may share it."""
    import punkt

    languages = punkt.available_languages()
    if language not in languages:
        raise OptionError(unknown_name_message("Punkt language", language, languages))
    # Abbreviations that Moses' lists add to the trained ones: "No. 5", "e.g.".
    return punkt.tokenizer_for(language, prefixes=not plain and punkt.has_prefixes(language))


@dataclass(frozen=True, slots=True)
class PunktSplitter:
    """Punkt (Kiss and Strunk, 2006), and what it leaves open.

    Attributes:
        language: of the trained parameters, e.g. ``"english"``, ``"german"``.
        max_chars: longer sentences are cut, at white space if there is any, since an encoder would not read their
            end; None: never.
        plain: Punkt alone, as the published systems use it.
    """

    language: str = "english"
    max_chars: int | None = DEFAULT_MAX_CHARS
    plain: bool = False

    def __post_init__(self) -> None:
        """Check the range."""
        check_range("max_chars", self.max_chars, at_least=16, whole=True)

    @property
    def name(self) -> str:
        """Identifies the behaviour."""
        return f"punkt-1:{self.language}:{'plain' if self.plain else self.max_chars}"

    def __call__(self, text: str) -> list[Span]:
        """Split a text.

        Args:
            text: any length.

        Returns:
            Spans in order, without white space at their edges.

        Raises:
            OptionError: the language does not exist.
        """
        punkt = _punkt(self.language, self.plain)
        if self.plain:
            return _stripped(text, punkt.span_tokenize(text))
        return _stripped(text, self._spans(text, punkt))

    def _spans(self, text: str, punkt: PunktSentenceTokenizer) -> Iterator[Span]:
        for begin, end in _blocks(text):
            for sentence in _joined(text, begin, punkt.span_tokenize(_SPACE.sub(" ", text[begin:end]))):
                for piece in _split_after(text, *sentence, _OTHER_STOPS):
                    yield from _cut(text, *piece, self.max_chars)


@dataclass(frozen=True, slots=True)
class RuleSplitter:
    """A full stop before white space and a capital or a digit; needs no parameters, knows no abbreviations.

    Attributes:
        max_chars: see ``PunktSplitter``.
    """

    max_chars: int | None = DEFAULT_MAX_CHARS

    def __post_init__(self) -> None:
        """Check the range."""
        check_range("max_chars", self.max_chars, at_least=16, whole=True)

    @property
    def name(self) -> str:
        """Identifies the behaviour."""
        return f"rules-1:{self.max_chars}"

    def __call__(self, text: str) -> list[Span]:
        """Split a text; see ``PunktSplitter``."""
        return _stripped(
            text,
            (
                span
                for block in _blocks(text)
                for sentence in _split_after(text, *block, _RULE_STOP)
                for piece in _split_after(text, *sentence, _OTHER_STOPS)
                for span in _cut(text, *piece, self.max_chars)
            ),
        )


@dataclass(frozen=True, slots=True)
class LineSplitter:
    """Every line is a sentence."""

    name: ClassVar[str] = "lines-1"

    def __call__(self, text: str) -> list[Span]:
        """Split a text at line ends."""
        return _stripped(text, _lines(text))


@dataclass(frozen=True, slots=True)
class FlashRAGSplitter:
    """FlashRAG's pattern, as published: it does not split after a letter and a full stop, and drops short pieces.

    The only splitter here that loses text: pieces of five characters or fewer.
    """

    name: ClassVar[str] = "flashrag-1"

    def __call__(self, text: str) -> list[Span]:
        """Split a text."""
        starts, ends = [0], []
        for match in _FLASHRAG.finditer(text):
            ends.append(match.start())
            starts.append(match.end())
        spans = _stripped(text, zip(starts, [*ends, len(text)], strict=True))
        return [(start, end) for start, end in spans if end - start > 5]


_NAMED: dict[str, Splitter] = {
    "punkt": PunktSplitter(),
    "punkt-plain": PunktSplitter(plain=True),
    "rules": RuleSplitter(),
    "lines": LineSplitter(),
    "flashrag": FlashRAGSplitter(),
}


def get_splitter(spec: str | Splitter) -> Splitter:
    """Turn an option into a splitter.

    Args:
        spec: ``"punkt"``, ``"punkt:german"`` (any language of Punkt), ``"punkt-plain"``, ``"rules"``, ``"lines"``,
            ``"flashrag"``, or a callable text -> spans.

    Returns:
        The splitter.

    Raises:
        OptionError: no splitter has this name, or it cannot be called.
    """
    if isinstance(spec, str):
        kind, _, language = spec.partition(":")
        if kind in ("punkt", "punkt-plain") and language:
            plain = kind == "punkt-plain"
            _punkt(language, plain)
            return PunktSplitter(language, plain=plain)
        if spec not in _NAMED:
            raise OptionError(
                unknown_name_message("splitter", spec, [*_NAMED, "punkt:LANGUAGE"]),
                hint="Any function text -> [(start, end), ...] is accepted too.",
            )
        return _NAMED[spec]
    if not callable(spec):
        raise OptionError(f"splitter must be a name or a function text -> spans, got {type(spec).__name__}.")
    return spec


def splitter_name(splitter: Splitter) -> str:
    """Identify a splitter, for memory keys.

    Args:
        splitter: any.

    Returns:
        Its ``name``, or for a function without one a name of its own for the life of the process.
    """
    name = getattr(splitter, "name", None)
    return name if isinstance(name, str) else unique_name(splitter)


def split_sentences(text: str, splitter: Splitter) -> list[Span]:
    """Split a text and check what came, since a splitter may be anyone's.

    Args:
        text: any.
        splitter: text -> spans.

    Returns:
        Spans in order, without overlap, without white space at their edges, none empty.

    Raises:
        InputError: a span is outside of the text, overlaps its predecessor or is no pair of whole numbers.
    """
    spans: list[Span] = []
    previous = 0
    found = splitter(text)
    if not isinstance(found, Iterable):
        raise InputError(
            f"the splitter {splitter_name(splitter)} gave {type(found).__name__}; expected a list of spans."
        )
    for index, span in enumerate(found):
        try:
            start, end = (operator.index(place) for place in span)
            valid = previous <= start <= end <= len(text)
        except (TypeError, ValueError):
            valid = False
        if not valid:
            raise InputError(
                f"the splitter {splitter_name(splitter)} gave {span!r} as span {index}; expected (start, end) with "
                f"{previous} <= start <= end <= {len(text)}.",
                hint="Spans are character offsets into the text, in order and without overlap.",
            )
        spans.append((start, end))
        previous = end
    return _stripped(text, spans)


def _stripped(text: str, spans: Iterator[Span] | Sequence[Span]) -> list[Span]:
    """Take white space off the edges; drop what was nothing else."""
    result = []
    for start, end in spans:
        piece = text[start:end]
        left = len(piece) - len(piece.lstrip())
        right = len(piece.rstrip())
        if left < right:
            result.append((start + left, start + right))
    return result


def _lines(text: str) -> Iterator[Span]:
    begin = 0
    for line in text.splitlines(keepends=True):
        yield begin, begin + len(line)
        begin += len(line)


def _blocks(text: str) -> Iterator[Span]:
    """Runs of lines that may share a sentence: blank lines, list items, headings and table rows end one."""
    begin = end = 0
    for start, stop in _lines(text):
        line = text[start:stop]
        blank = not line.strip()
        alone = not blank and _OWN_LINE.match(line) is not None
        if blank or alone or _LIST_ITEM.match(line):
            if begin < start:
                yield begin, start
            begin = start
        if alone:
            yield start, stop
            begin = stop
        end = stop
    if begin < end:
        yield begin, end


def _joined(text: str, offset: int, spans: Iterable[Span]) -> Iterator[Span]:
    """Move spans by an offset, and undo the cuts behind an abbreviation that always goes on."""
    begin = end = -1
    for start, stop in spans:
        start, stop = start + offset, stop + offset
        before = text[max(begin, end - 12) : end]
        marker = end - begin <= 5 and _LIST_MARKER.fullmatch(before) is not None
        if begin >= 0 and (marker or _goes_on(before, text[start : start + 2])):
            end = stop
            continue
        if begin >= 0:
            yield begin, end
        begin, end = start, stop
    if begin >= 0:
        yield begin, end


def _goes_on(before: str, after: str) -> bool:
    if before[-1] in "\"'”’»" and after[:1].islower():  # "Stop!" he said.
        return True
    if not before.endswith("."):
        return False
    return bool(
        _NEVER_LAST.search(before)
        or (_BEFORE_LOWER.search(before) and after[:1].islower())
        or (_BEFORE_NUMBER.search(before) and _NUMBER.match(after))
        or (_INITIAL.search(before) and _NEXT_INITIAL.match(after))
    )


def _split_after(text: str, begin: int, end: int, stop: re.Pattern[str]) -> Iterator[Span]:
    """Cut behind every match."""
    start = begin
    for match in stop.finditer(text, begin, end):
        yield start, match.end()
        start = match.end()
    if start < end:
        yield start, end


def _cut(text: str, begin: int, end: int, max_chars: int | None) -> Iterator[Span]:
    """Cut what is too long: behind a clause, else at white space, else between two characters."""
    while max_chars is not None and end - begin > max_chars:
        # Only the second half is searched: pieces stay long, and every character is looked at once or twice.
        middle, limit = begin + max_chars // 2, begin + max_chars
        places = list(_CUT_AFTER.finditer(text, middle, limit))
        clauses = [match for match in places if len(match.group()) == 2]
        if places:
            cut = (clauses or places)[-1].end()
        else:
            cut = limit
            while cut > middle and (unicodedata.combining(text[cut]) or text[cut] in "\u200d\ufe0e\ufe0f"):
                cut -= 1
        yield begin, cut
        begin = cut
    if begin < end:
        yield begin, end
