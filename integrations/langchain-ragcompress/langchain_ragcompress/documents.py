"""Between LangChain's documents and those of the core: the one place where metadata is read and written."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from langchain_core.documents import Document

import ragcompress as rc

# What Cohere's, Jina's, FlashRank's and other rerankers write as well.
SCORE_KEY = "relevance_score"


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


def from_outcome(
    outcome: rc.Outcome, documents: Sequence[Document], *, backend: str, replace_score: bool, keep_original: bool
) -> list[Document]:
    """Write a result as documents; the given ones stay as they are.

    Args:
        outcome: of compressing ``documents``.
        documents: as they were given.
        backend: name of the compressor.
        replace_score: whether the compressor's score replaces one that is already there.
        keep_original: whether the original text goes into the metadata.

    Returns:
        What was kept, in the order of the result. A document without text stays at its place. All of them, if nothing
        was compressed.
    """

    def copied(index: int, text: str | None, note: str, score: float | None = None) -> Document:
        document = documents[index]
        # Handles in text that goes on as it came are made harmless, too.
        text = rc.neutralise(document.page_content) if text is None else text
        # Values that cannot be copied, a connection, say, are shared: they must not fail a query.
        known = {id(document.metadata): rc.copied_metadata(document.metadata)}
        copy = deepcopy(document, known).model_copy(update={"page_content": text})
        _set_score(copy.metadata, score, replace_score)
        if keep_original:
            # An earlier compressor in the chain has seen more of it.
            copy.metadata.setdefault(rc.ORIGINAL_KEY, document.page_content)
        copy.metadata[rc.NOTE_KEY] = note
        return copy

    if outcome.context is None:
        return [copied(index, None, rc.note(outcome, None, backend)) for index in range(len(documents))]
    result: list[tuple[int, Document]] = []
    covered: set[int] = set()
    for part in outcome.context.by_document():
        note = rc.note(outcome, part, backend, [documents[index].id for index in part.documents])
        covered.update(part.documents)
        if len(part.documents) == 1:
            document = copied(part.documents[0], part.text, note, part.score)
        else:  # written from several documents: the metadata of none of them would be true
            document = Document(page_content=part.text, metadata={rc.NOTE_KEY: note})
        result.append((part.documents[0], document))
    no_text = rc.note(rc.Outcome(None, "no text"), None, backend)
    for index, document in enumerate(documents):
        if index not in covered and not document.page_content.strip():
            place = max((place for place, (other, _) in enumerate(result, 1) if other < index), default=0)
            result.insert(place, (index, copied(index, None, no_text)))
    return [document for _, document in result]


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
        return entry | {"skipped": outcome.reason}
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
