"""How a document, or a question and a document, becomes the input of a compressor: published templates as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from ragcompress.errors import InputError
from ragcompress.latent.text import TemplateTokenizer, Tokenized
from ragcompress.nn.memory_tokens import append_memory


class Row(NamedTuple):
    """One input of a compressor.

    Attributes:
        ids: (seq_len,), memory tokens included.
        is_memory: (seq_len,).
        end: how many characters of the document were read.
    """

    ids: list[int]
    is_memory: list[bool]
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentFormat:
    """A template with its limits.

    Attributes:
        template: holds ``{document}`` and maybe ``{query}``, ``{bos}``, ``{eos}``; None: the tokenizer's own call
            with a pair (query, document), of which only the document may be cut off.
        special_tokens: whether the tokenizer adds its own.
        room: ids that the limit grants in addition to ``max_length``.
        max_length: of the document (and the query), in tokens.
        memory_tokens: the tokens appended; a single one is repeated.
        rate: document tokens for each memory token, where their number follows the length; None: each of
            ``memory_tokens`` once.
        rounding: ``"floor+1"``: n_ids // rate + 1 (2026 format); ``"ceil"``: ceil((n_ids - 3) / rate) (COCOM).
        side: where the memory tokens go.
        score_token: appended behind the memory tokens, its state gives a relevance score; None: none.
    """

    template: str | None
    special_tokens: bool
    room: int
    max_length: int
    memory_tokens: tuple[str, ...]
    rate: int | None = None
    rounding: Literal["floor+1", "ceil"] = "floor+1"
    side: Literal["left", "right"] = "right"
    score_token: str | None = None

    @property
    def limit(self) -> int:
        """Ids of an input before memory tokens are appended, at most."""
        return self.max_length + self.room

    def n_slots(self, n_ids: int) -> int:
        """How many memory tokens an input of some length gets.

        Args:
            n_ids: before they are appended.

        Returns:
            Their number, at least 1.
        """
        if self.rate is None:
            return len(self.memory_tokens)
        return n_ids // self.rate + 1 if self.rounding == "floor+1" else max(1, -(-(n_ids - 3) // self.rate))

    def rows(
        self, tokenizer: TemplateTokenizer, documents: Sequence[str], queries: Sequence[str] | None = None
    ) -> list[Row]:
        """Build the inputs of a compressor.

        Args:
            tokenizer: of the compressor.
            documents: (n_docs,), as they came.
            queries: (n_docs,), for query-dependent formats.

        Returns:
            (n_docs,) inputs, without padding.

        Raises:
            InputError: a query leaves no room for its document.
        """
        for query in dict.fromkeys(queries or ()):
            self.room_for_document(tokenizer, query)
        texts = [tokenizer.harmless(document) for document in documents]
        asked = [tokenizer.harmless(query) for query in queries] if queries is not None else [""] * len(texts)
        memory_ids = [tokenizer.id_of(token) for token in self.memory_tokens]
        tail = [] if self.score_token is None else [tokenizer.id_of(self.score_token)]
        rows = []
        for found in self._encode(tokenizer, texts, asked):
            n_slots = self.n_slots(len(found.ids))
            slots = memory_ids if self.rate is None else memory_ids * n_slots
            ids, is_memory = append_memory(found.ids, slots, side=self.side)
            rows.append(Row(ids + tail, is_memory + [False] * len(tail), found.end))
        return rows

    def _encode(self, tokenizer: TemplateTokenizer, texts: list[str], queries: list[str]) -> list[Tokenized]:
        if self.template is None:
            pairs = list(zip(queries, texts, strict=True))
            return tokenizer.encode(pairs, special_tokens=True, max_length=self.limit)
        head, _, rest = self.template.partition("{document}")
        heads = [head.format(query=query, bos=tokenizer.bos, eos=tokenizer.eos) for query in queries]
        rest = rest.format(bos=tokenizer.bos, eos=tokenizer.eos)
        whole = [before + text + rest for before, text in zip(heads, texts, strict=True)]
        ends = [len(before) + len(text) for before, text in zip(heads, texts, strict=True)]
        encoded = tokenizer.encode(whole, special_tokens=self.special_tokens, max_length=self.limit, ends=ends)
        return [
            Tokenized(found.ids, max(found.end - len(before), 0)) for found, before in zip(encoded, heads, strict=True)
        ]

    def room_for_document(self, tokenizer: TemplateTokenizer, query: str | None = None) -> int:
        """How many tokens of a document fit beside the template and a query.

        Args:
            tokenizer: of the compressor.
            query: the question, if the format reads one.

        Returns:
            Their number, at least 1.

        Raises:
            InputError: the query leaves no room.
        """
        (empty,) = self._encode(tokenizer, [""], [tokenizer.harmless(query or "")])
        room = self.limit - len(empty.ids)
        if room < 1:
            raise InputError(
                f"the question {(query or '')[:60]!r} takes {len(empty.ids)} of the {self.limit} tokens that the "
                "compressor reads, and leaves no room for a document.",
                hint="Shorten the question, or raise max_length.",
            )
        return room
