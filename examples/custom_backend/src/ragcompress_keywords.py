"""A complete third-party backend: keeps the sentences that share the most words with the query."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import ragcompress as rc


@dataclass(frozen=True)
class KeywordConfig:
    """Options of the backend.

    Attributes:
        top_k: how many sentences are kept, at least 1.
    """

    top_k: int = 3

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise rc.OptionError(f"top_k must be at least 1, got {self.top_k}.")


class KeywordCompressor(rc.Compressor):
    """Counts the words that a sentence shares with the query."""

    name = "keywords"
    info: ClassVar[rc.BackendInfo] = rc.BackendInfo(summary="keeps the sentences that share words with the query")

    def __init__(self, top_k: int = 3) -> None:
        self.config = KeywordConfig(top_k)

    def compress_batch(
        self, queries: Sequence[str], documents: Sequence[Sequence[rc.Document | str]]
    ) -> list[rc.CompressedContext]:
        """Compress the documents of several queries; see ``ragcompress.Compressor``."""
        checked = rc.check_inputs(queries, documents)
        return [self._compress(query, each) for query, each in zip(queries, checked, strict=True)]

    def _compress(self, query: str, documents: tuple[rc.Document, ...]) -> rc.CompressedContext:
        split = rc.get_splitter("rules")
        wanted = words(query)
        candidates = [
            (float(len(wanted & words(document.text[start:end]))), index, start, end)
            for index, document in enumerate(documents)
            for start, end in split(document.text)
        ]
        best = sorted(candidates, key=lambda candidate: -candidate[0])[: self.config.top_k]
        segments = tuple(
            rc.TextSegment(
                documents[index].text[start:end],
                (rc.Source(index, start, end),),
                score,
                self.token_counter(documents[index].text[start:end]),
            )
            for score, index, start, end in sorted(best, key=lambda candidate: candidate[1:])
        )
        lengths = tuple(self.token_counter(f"{document.title or ''} {document.text}") for document in documents)
        context = rc.CompressedContext(
            query, documents, segments, n_tokens=sum(lengths), counter=self.token_counter.name, document_tokens=lengths
        )
        return replace(context, n_slots=self.token_counter(context.text))


def words(text: str) -> set[str]:
    """Different words of a text, in lower case."""
    return set(re.findall(r"\w+", text.lower()))
