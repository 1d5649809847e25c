"""What the model reads: the published input string, within its limit, and which parts of the documents it holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from ragcompress.backends.recomp_abstractive.config import RecompAbstractiveConfig
from ragcompress.errors import InputError
from ragcompress.sentences import Span, Splitter, split_sentences
from ragcompress.tokens import encodable, private_tokenizer
from ragcompress.types import Document

if TYPE_CHECKING:
    from tokenizers import Tokenizer

HEAD = "Question: {question}\n Document: "
CUE = "\n Summary: "
# T5's vocabulary has no line end: it is the same as the spaces that BERGEN puts here.
BETWEEN_DOCUMENTS = "\n"
_LEAST_ROOM = 8


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a document.

    Attributes:
        document: its index.
        start: first character in ``Document.text``.
        end: one past the last.
    """

    document: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class SourceText:
    """One input of the model.

    Attributes:
        ids: token ids, special ones included.
        parts: what is read, in order.
        unread: documents of which a part was cut off, or all.
    """

    ids: list[int]
    parts: tuple[Part, ...]
    unread: tuple[int, ...] = ()


class SourceBuilder:
    """Writes the inputs of one model."""

    def __init__(
        self,
        engine: Tokenizer,
        config: RecompAbstractiveConfig,
        splitter: Splitter,
        *,
        n_positions: int | None = None,
    ) -> None:
        """Take the parts.

        Args:
            engine: without truncation or padding, special tokens in the text read as plain text.
            config: limits and choices.
            splitter: text -> spans, where a document is cut.
            n_positions: that the model has at most; None: any number.
        """
        self.engine = engine
        self.config = config
        self.splitter = splitter
        self._n_special = engine.num_special_tokens_to_add(False)
        self._n_cue = self._count(CUE)
        self.limit = min(config.max_source_tokens, n_positions or config.max_source_tokens)
        # As transformers truncates: the text loses its end, the special tokens stay.
        self._cutting = private_tokenizer(engine, max_length=self.limit) if not config.keep_cue else engine

    def build(self, query: str, documents: Sequence[Document]) -> list[SourceText]:
        """Write the inputs for one question.

        Args:
            query: the question.
            documents: any number; blank ones are left out.

        Returns:
            One input; none without documents; several with ``per_document`` or ``on_long="split"``.

        Raises:
            InputError: the question leaves no room for documents.
        """
        whole = [
            Part(index, 0, len(document.text)) for index, document in enumerate(documents) if document.text.strip()
        ]
        groups = [[part] for part in whole] if self.config.per_document else [whole] if whole else []
        if groups and self.config.keep_cue:
            self._check_room(query)
        if self.config.on_long == "split":
            room = self._room(query)
            groups = [piece for group in groups for piece in self._split(documents, group, room)]
        return [self._source(query, documents, group) for group in groups]

    def _source(self, query: str, documents: Sequence[Document], parts: Sequence[Part]) -> SourceText:
        text = HEAD.format(question=query)
        begins, ends = [], []
        for place, part in enumerate(parts):
            text += BETWEEN_DOCUMENTS * bool(place)
            written = self._written(documents, part)
            # A document is read from its first character on, not from its title's.
            begins.append(len(text) + len(written) - (part.end - part.start))
            text += written
            ends.append(len(text))
        encoding = self.engine.encode(encodable(text + CUE))
        if len(encoding) <= self.limit:
            return SourceText(encoding.ids, tuple(parts))
        if self.config.keep_cue:
            ids, end = self._cut_before_cue(text, self.limit)
        else:
            encoding = self._cutting.encode(encodable(text + CUE))
            ids, end = encoding.ids, max(stop for _, stop in encoding.offsets)
        read = tuple(part for part, begin in zip(parts, begins, strict=True) if begin < end)
        unread = tuple(dict.fromkeys(part.document for part, stop in zip(parts, ends, strict=True) if stop > end))
        return SourceText(ids, read, unread)

    def _cut_before_cue(self, text: str, limit: int) -> tuple[list[int], int]:
        """The ids of a shortened text with its cue, and where it was cut."""
        offsets = self.engine.encode(encodable(text), add_special_tokens=False).offsets
        n_tokens = min(len(offsets), limit - self._n_special - self._n_cue)
        while True:
            end = offsets[n_tokens - 1][1]
            ids = self.engine.encode(encodable(text[:end] + CUE)).ids
            if len(ids) <= limit:
                return ids, end
            n_tokens -= len(ids) - limit  # a word that is cut may have more tokens than its share of the whole

    def _written(self, documents: Sequence[Document], part: Part) -> str:
        document = documents[part.document]
        title = document.title if self.config.titles == "prefix" else None
        text = document.text[part.start : part.end]
        return f"{title}\n{text}" if title else text

    def _room(self, query: str) -> int:
        """Tokens that are left for documents."""
        fixed = self._count(HEAD.format(question=query)) + self._n_cue + self._n_special
        return self.limit - fixed

    def _check_room(self, query: str) -> None:
        room = self._room(query)
        if room < _LEAST_ROOM:
            raise InputError(
                f"the question takes {self.limit - room} of the {self.limit} tokens that the model reads, so no "
                "document fits.",
                hint="Shorten the question, or raise max_source_tokens.",
            )

    def _split(self, documents: Sequence[Document], parts: Sequence[Part], room: int) -> Iterator[list[Part]]:
        """Fill inputs with whole documents; one that is too long by itself is cut between sentences."""
        piece: list[Part] = []
        left = room
        for part in parts:
            length = self._count(self._written(documents, part))
            if length > left and piece:
                yield piece
                piece, left = [], room
            if length > room:
                *full, last = self._pieces(documents, part, room)
                yield from ([each] for each in full)
                part, length = last, self._count(self._written(documents, last))
            piece.append(part)
            left -= length + 1
        if piece:
            yield piece

    def _pieces(self, documents: Sequence[Document], part: Part, room: int) -> list[Part]:
        document = documents[part.document]
        spans = covering(split_sentences(document.text, self.splitter), part.start, part.end)
        title = self._count(document.title or "") if self.config.titles == "prefix" else 0
        return [
            Part(part.document, spans[first][0], spans[last][1])
            for first, last in runs([self._count(document.text[a:b]) for a, b in spans], max(1, room - title))
        ]

    def _count(self, text: str) -> int:
        return len(self.engine.encode(encodable(text), add_special_tokens=False))


def covering(spans: Sequence[Span], start: int, end: int) -> list[Span]:
    """Extend spans so that they cover a text: some splitters leave short pieces out.

    >>> covering([(2, 5), (9, 12)], 0, 14)
    [(0, 9), (9, 14)]

    Args:
        spans: in order; none: all is one.
        start: of the text.
        end: of the text.

    Returns:
        Spans, each up to the beginning of the next one.
    """
    return list(pairwise([start, *(begin for begin, _ in spans[1:]), end]))


def runs(lengths: Sequence[int], room: int) -> Iterator[tuple[int, int]]:
    """Cut a sequence into runs whose lengths add up to no more than a limit.

    >>> list(runs([3, 4, 5, 20, 2], room=8))
    [(0, 1), (2, 2), (3, 3), (4, 4)]

    Args:
        lengths: (n,).
        room: the limit; a single longer entry makes a run of its own.

    Yields:
        First and last index of each run.
    """
    first, used = 0, 0
    for index, length in enumerate(lengths):
        if index > first and used + length > room:
            yield first, index - 1
            first, used = index, 0
        used += length
    if lengths:
        yield first, len(lengths) - 1
