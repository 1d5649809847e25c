"""Documents and questions as token ids: every sentence is tokenised apart, and knows its span."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

from ragcompress.backends.provence.windows import pack, pieces
from ragcompress.errors import OptionError
from ragcompress.sentences import Span, Splitter, split_sentences
from ragcompress.tokens import TokenizerCounter, encodable, private_tokenizer
from ragcompress.types import Document

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of a document.

    Attributes:
        span: in ``Document.text``; None: the title, which was given apart.
        text: as it is tokenised; a space in front of all but the first.
        ids: token ids, without special tokens.
    """

    span: Span | None
    text: str
    ids: list[int]


@dataclass(frozen=True, slots=True)
class Unit:
    """A sentence, or a piece of one that no window holds.

    Attributes:
        sentence: its place among the document's sentences.
        span: in ``Document.text``; None: the title, which was given apart.
        ids: token ids.
    """

    sentence: int
    span: Span | None
    ids: list[int]


class PassageTokenizer:
    """Token ids of questions and sentences; safe to call from several threads."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Take a built tokenizer.

        Args:
            tokenizer: a fast one; its own settings are neither used nor changed.

        Raises:
            OptionError: it is a slow one, or has no token that separates or pads.
        """
        self._engine = private_tokenizer(tokenizer)
        found: dict[str, Any] = {name: getattr(tokenizer, f"{name}_token_id", None) for name in ("cls", "sep", "pad")}
        if lacking := [name for name, token in found.items() if token is None]:
            raise OptionError(
                f"the tokenizer has no {' and no '.join(lacking)} token; "
                "provence reads [CLS] question [SEP] text [SEP].",
                hint="Is it the tokenizer of an encoder?",
            )
        self.cls_id, self.sep_id, self.pad_id = (int(token) for token in found.values())
        name = str(getattr(tokenizer, "name_or_path", "") or "provence").rstrip("/\\").replace("\\", "/")
        self.counter = TokenizerCounter(self._engine, name.rsplit("/", 1)[-1])

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokenise texts; special-token strings in them are plain text.

        Args:
            texts: (n_texts,).

        Returns:
            (n_texts,) lists of ids, without special tokens.
        """
        clean = [encodable(text) for text in texts]
        return [encoding.ids for encoding in self._engine.encode_batch_fast(clean, add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        """Turn ids back into text.

        Args:
            ids: of a text.

        Returns:
            The text as the vocabulary writes it; unknown characters are lost.
        """
        return str(self._engine.decode(list(ids), skip_special_tokens=True))

    def passages(
        self, documents: Sequence[Document], splitter: Splitter, *, titles: bool = False
    ) -> list[list[Sentence]]:
        """Split documents and tokenise their sentences, all in one call.

        The first sentence is tokenised as it is and every later one behind a space, as the training data were.

        Args:
            documents: (n_docs,).
            splitter: text -> spans.
            titles: whether ``Document.title`` is an additional first sentence.

        Returns:
            (n_docs,) lists of sentences.
        """
        plan: list[list[tuple[Span | None, str]]] = []
        for document in documents:
            found: list[tuple[Span | None, str]] = [
                (span, document.text[span[0] : span[1]]) for span in split_sentences(document.text, splitter)
            ]
            if titles and document.title and document.title.strip() and found:
                found.insert(0, (None, document.title.strip()))
            plan.append([(span, f" {text}" if place else text) for place, (span, text) in enumerate(found)])
        ids = iter(self.ids([text for found in plan for _, text in found]))
        return [[Sentence(span, text, next(ids)) for span, text in found] for found in plan]

    def units(self, passage: Sequence[Sentence], budget: int) -> list[Unit]:
        """Cut the sentences that no window holds.

        Args:
            passage: sentences of a document.
            budget: tokens that a window has for sentences.

        Returns:
            Units in order; the spans of a sentence's pieces cover it without overlap.
        """
        found: list[Unit] = []
        for place, sentence in enumerate(passage):
            if len(sentence.ids) <= budget:
                found.append(Unit(place, sentence.span, sentence.ids))
                continue
            ranges = pieces(len(sentence.ids), budget)
            spans = self._piece_spans(sentence, [begin for begin, _ in ranges])
            found += [
                Unit(place, span, sentence.ids[begin:end]) for (begin, end), span in zip(ranges, spans, strict=True)
            ]
        return found

    def _piece_spans(self, sentence: Sentence, begins: Sequence[int]) -> list[Span | None]:
        if sentence.span is None:
            return [None] * len(begins)
        offsets = self._engine.encode(encodable(sentence.text), add_special_tokens=False).offsets
        start, end = sentence.span
        shift = start - (len(sentence.text) - (end - start))
        # Several tokens may share a character, which then belongs to the piece that begins with it.
        borders = [start, *(min(max(offsets[begin][0] + shift, start), end) for begin in begins[1:]), end]
        return list(pairwise(accumulate(borders, max)))

    def windows(
        self, query: Sequence[int], units: Sequence[Unit], budget: int
    ) -> tuple[list[list[int]], list[list[int]]]:
        """Write the inputs of the encoder for one document.

        Args:
            query: ids of the question.
            units: of the document.
            budget: tokens that a window has for units.

        Returns:
            (n_windows,) lists of ids with special tokens, and (n_windows,) lists of the units in each.
        """
        packed = pack([len(unit.ids) for unit in units], budget)
        head = [self.cls_id, *query, self.sep_id]
        rows = [[*head, *(token for unit in own for token in units[unit].ids), self.sep_id] for own in packed]
        return rows, packed
