"""Compressors without weights, for tests of pipelines."""

from dataclasses import dataclass
from types import MappingProxyType

import ragcompress as rc


def words(text):
    return rc.get_token_counter("words")(text)


def context(query, documents, segments, layout=rc.Layout(), **fields):  # noqa: B008 (frozen)
    """A result, counted in words."""
    lengths = tuple(words(document.text) + words(document.title or "") for document in documents)
    made = rc.CompressedContext(query, documents, tuple(segments), layout=layout)
    return rc.CompressedContext(
        query, documents, tuple(segments), sum(lengths), words(made.text), counter="words", document_tokens=lengths,
        layout=layout, **fields,
    )  # fmt: skip


@dataclass(frozen=True)
class Keep:
    every: int = 1


class Toy(rc.Compressor):
    name = "toy"
    fields = MappingProxyType({})

    def compress_batch(self, queries, documents):
        checked = rc.check_inputs(queries, documents, needs_query=self.info.needs_query)
        self.seen = checked
        return [
            context(query, own, self.segments(query, own), **self.fields)
            for query, own in zip(queries, checked, strict=True)
        ]


class Windows(Toy):
    """Keeps every so manyth stretch of so many characters, whatever stands there."""

    name = "windows"
    info = rc.BackendInfo(needs_query=False)

    def __init__(self, width, every=1, first=0, best_first=False):
        self.config = Keep(every)
        self.width, self.first, self.best_first = width, first, best_first

    def segments(self, query, documents):
        found = []
        for index, document in enumerate(documents):
            starts = range(0, len(document.text), self.width)
            for start in starts[self.first :: self.config.every]:
                end = min(start + self.width, len(document.text))
                if document.text[start:end].strip():
                    text = document.text[start:end]
                    found.append(rc.TextSegment(text, (rc.Source(index, start, end),), float(start), words(text)))
        return found[::-1] if self.best_first else found


class Shouting(Toy):
    """Writes all documents anew, as one text."""

    name = "shouting"

    def segments(self, query, documents):
        text = " ".join(document.text.upper() for document in documents)
        sources = tuple(rc.Source(index) for index in range(len(documents)))
        return [rc.TextSegment(text, sources, None, words(text))] if text.strip() else []


class Cutting(Toy):
    """Has read the first document up to a limit only."""

    name = "cutting"
    fields = MappingProxyType({"truncated": True, "truncated_documents": (0,)})

    def segments(self, query, documents):
        return [
            rc.TextSegment(document.text, (rc.Source(index, 0, len(document.text)),), 1.0, words(document.text))
            for index, document in enumerate(documents)
        ]
