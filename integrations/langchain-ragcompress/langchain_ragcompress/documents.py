"""Between LangChain's documents and those of the core: the one place where metadata is read and written."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any, NamedTuple

from langchain_core.documents import Document

import ragcompress as rc

# What Cohere's, Jina's, FlashRank's and other rerankers write as well.
SCORE_KEY = "relevance_score"
# Deeper metadata refers to itself.
_MAX_DEPTH = 20


def to_core(documents: Sequence[Document], title_key: str) -> list[rc.Document]:
    """Convert what a retriever returned.

    Args:
        documents: any number.
        title_key: where in the metadata a title may be.

    Returns:
        As many documents of the core.

    Raises:
        InputTypeError: something else is among them.
    """
    converted = []
    for index, document in enumerate(documents):
        if not isinstance(document, Document):
            raise rc.InputTypeError(
                f"documents[{index}] is {type(document).__name__}; expected a langchain_core Document."
            )
        title = document.metadata.get(title_key)
        converted.append(
            rc.Document(document.page_content, id=document.id, title=title if isinstance(title, str) else None)
        )
    return converted


def for_index(documents: Sequence[Document], title_key: str) -> list[rc.Document]:
    """Convert documents that are to be found again, with everything that they carry.

    Args:
        documents: any number.
        title_key: where in the metadata a title may be; it stays there as well, where filters look for it.

    Returns:
        As many documents of the core; they share nothing with those given. What an earlier compressor noted is left
        out.

    Raises:
        InputTypeError: something else is among them.
        InputError: one holds handles, which cannot be encoded.
    """
    converted = to_core(documents, title_key)
    if carried := carried_along(documents):
        raise rc.InputError(
            f"documents[{min(carried)}] holds handles that a compressor wrote in the place of its text.",
            hint="Add the documents as they were before they were compressed.",
        )
    return [
        replace(document, metadata=rc.copied_metadata(_without_notes(given.metadata)))
        for document, given in zip(converted, documents, strict=True)
    ]


def carried_along(documents: Sequence[Document]) -> set[int]:
    """Find documents that an earlier compressor of ours has turned into handles.

    Args:
        documents: any number.

    Returns:
        Their indices.
    """
    return {
        index
        for index, document in enumerate(documents)
        if isinstance(document, Document) and rc.carries_handles(document.page_content, document.metadata)
    }


def from_outcome(
    outcome: rc.Outcome,
    documents: Sequence[Document],
    carried: Collection[int] = (),
    *,
    backend: str,
    replace_score: bool,
    keep_original: bool,
    keep_blank: bool = True,
    limit: int | None = None,
) -> list[Document]:
    """Write a result as documents; the given ones stay as they are.

    Args:
        outcome: of compressing ``documents`` without those carried along.
        documents: as they were given.
        carried: indices of documents that go on as they are, at their place.
        backend: name of the compressor.
        replace_score: whether the compressor's score replaces one that is already there.
        keep_original: whether the original text goes into the metadata.
        keep_blank: whether documents without text go on; among the best there is no place for them.
        limit: how many documents there are at most, the first ones; None: all.

    Returns:
        What was kept, in the order of the result. A document without text that goes on stays at its place. All of
        them, if nothing was compressed.
    """
    given = [index for index in range(len(documents)) if index not in carried]

    def copied(index: int, text: str | None, note: str, score: float | None = None) -> Document:
        # Handles in text that goes on as it came are made harmless, too.
        text = rc.neutralise(documents[index].page_content) if text is None else text
        copy = _copied(documents[index], text)
        copy.metadata = {key: _harmless(value) for key, value in copy.metadata.items()}
        _set_score(copy.metadata, score, replace_score)
        if keep_original:
            # What the spans of the note point into; harmless, since LangChain prints metadata beside the text.
            copy.metadata[rc.ORIGINAL_KEY] = rc.neutralise(documents[index].page_content)
        copy.metadata[rc.NOTE_KEY] = note
        return copy

    context = outcome.context
    if context is None:
        note = rc.note(outcome, None, backend)
        return [
            _copied(document) if index in carried else copied(index, None, note)
            for index, document in enumerate(documents)
        ][:limit]
    result: list[_Written] = []
    covered: set[int] = set()
    for part in context.by_document():
        origins = [given[index] for index in part.documents]
        note = rc.note(outcome, part, backend, [documents[index].id for index in origins])
        covered.update(origins)
        if len(origins) == 1:
            document = copied(origins[0], part.text, note, part.score)
        else:  # written from several documents: the metadata of none of them would be true
            document = Document(page_content=part.text, metadata={rc.NOTE_KEY: note})
        result.append(_Written(origins[0], document, _shown(context, part)))
    no_text = rc.note(rc.Outcome(None, "no text"), None, backend)
    for index, document in enumerate(documents):
        if index in carried:
            text = rc.without_question(document.page_content)
            _insert(result, _Written(index, _copied(document, text), [text]))
        elif keep_blank and index not in covered and not document.page_content.strip():
            _insert(result, _Written(index, copied(index, None, no_text), []))
    # What is cut off must not be missed by the reader, so the question is attached last.
    return _with_question(context.query, result[:limit])


def from_index(context: rc.CompressedContext, *, backend: str, title_key: str, keep_original: bool) -> list[Document]:
    """Write what was found in an index as documents.

    Args:
        context: of a search.
        backend: name of the compressor.
        title_key: where in the metadata titles go.
        keep_original: whether the original text goes into the metadata.

    Returns:
        The documents, best first.
    """
    documents = []
    for found in context.documents:
        metadata = _without_notes(found.metadata)
        if found.title is not None:
            metadata[title_key] = found.title
        documents.append(Document(found.text, id=found.id, metadata=metadata))
    # A score that a document had when it was added says nothing about this question.
    return from_outcome(
        rc.Outcome(context), documents, backend=backend, replace_score=True, keep_original=keep_original
    )


class _Written(NamedTuple):
    """A document of the result: where it came from, itself, and the pieces of it in the published prompt."""

    origin: int
    document: Document
    shown: list[str]


def _shown(context: rc.CompressedContext, part: rc.CompressedDocument) -> list[str]:
    """Vectors and text are pieces of their own; vectors hold their document's title, text gets it in front."""
    layout = context.layout
    title = context.documents[part.documents[0]].title if len(part.documents) == 1 and layout.title != "never" else None
    head = rc.neutralise(title) + layout.title_separator if title else ""
    if not any(isinstance(segment, rc.MemorySegment) for segment in part.segments):
        return [head + part.text]
    pieces = []
    for segment in part.segments:
        if isinstance(segment, rc.MemorySegment):
            pieces.append(segment.handle)
            head = ""  # the vectors hold it
        else:
            pieces.append(head + rc.neutralise(segment.text))
            head = ""
    return pieces


def _insert(result: list[_Written], entry: _Written) -> None:
    """Put a document behind the last one that stood in front of it before."""
    place = max((place for place, other in enumerate(result, 1) if other.origin < entry.origin), default=0)
    result.insert(place, entry)


def _with_question(query: str, result: Sequence[_Written]) -> list[Document]:
    """Leave the question beside the handles, if there are any, for the model that reads them."""
    pieces = [(document, piece) for _, document, shown in result for piece in shown]
    for (document, piece), asked in zip(pieces, rc.attach_question(query, [piece for _, piece in pieces]), strict=True):
        document.page_content += asked[len(piece) :]
    return [entry.document for entry in result]


def _copied(document: Document, text: str | None = None) -> Document:
    """Copy a document; values that cannot be copied, a connection, say, are shared: they must not fail a query."""
    known = {id(document.metadata): rc.copied_metadata(document.metadata)}
    return deepcopy(document, known).model_copy(update={} if text is None else {"page_content": text})


def _without_notes(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """In an index, a note says nothing of what will be found; and a file can write one as well."""
    return {key: value for key, value in metadata.items() if key not in (rc.NOTE_KEY, rc.ORIGINAL_KEY)}


def _harmless(value: Any, depth: int = 0) -> Any:  # noqa: ANN401 (whatever is in the metadata)
    """Disarm forged handles in metadata: prompt templates write titles and the like beside the text."""
    if depth > _MAX_DEPTH:
        return value
    if isinstance(value, str):
        harmless = rc.neutralise(value)
        return value if harmless == value else harmless
    if type(value) in (list, tuple):
        return type(value)(_harmless(each, depth + 1) for each in value)
    if type(value) is dict:
        return {name: _harmless(each, depth + 1) for name, each in value.items()}
    return value


def summary(outcome: rc.Outcome, backend: str, n_in: int, n_out: int) -> dict[str, Any]:
    """Say what one call did, for traces.

    Args:
        outcome: of the call.
        backend: name of the compressor.
        n_in: how many documents came.
        n_out: how many go on.

    Returns:
        JSON-safe: tokens before and after, or why nothing was compressed.
    """
    entry: dict[str, Any] = {"backend": backend, "n_documents_in": n_in, "n_documents_out": n_out}
    context = outcome.context
    if context is None:
        return entry | {
            "skipped": "already compressed" if n_in and outcome.reason == "no documents" else outcome.reason
        }
    return entry | {
        "n_tokens": context.n_tokens,
        "n_slots": context.n_slots,
        "counter": context.counter,
        "truncated": context.truncated,
        "timings": dict(context.timings),
    }


def _set_score(metadata: dict[str, Any], score: float | None, replace: bool) -> None:
    """Make the score a Python float (rerankers leave numpy scalars there, which no serializer writes)."""
    given = metadata.get(SCORE_KEY)
    chosen = score if given is None or (replace and score is not None) else given
    if chosen is None:
        return
    # It is somebody else's key: text or None in it stays what it is.
    number = hasattr(chosen, "__float__") and not isinstance(chosen, str)
    metadata[SCORE_KEY] = float(chosen) if number else chosen
