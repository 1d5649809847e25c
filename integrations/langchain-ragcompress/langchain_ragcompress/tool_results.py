"""The texts in a tool's result: taken out as documents, and put back shorter."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.documents import Document
from langchain_core.messages import BaseMessage, HumanMessage, ToolMessage

import ragcompress as rc
from langchain_ragcompress.surroundings import glue_of, joined

_QUERY_ARGUMENTS = ("query", "question")


@dataclass(frozen=True)
class Texts:
    """The texts of one tool message.

    Attributes:
        message: as the tool returned it.
        documents: its texts, by place; ids are the places.
        glue: what stands in front of each document in a content that is one string, and behind the last one; None: the
            content is a list of blocks.
        blocks: for a list of blocks: which block each document is.
    """

    message: ToolMessage
    documents: list[Document]
    glue: tuple[str, ...] | None = None
    blocks: tuple[int, ...] = ()


def texts_of(message: ToolMessage, min_chars: int) -> Texts | None:
    """Take out what can be compressed.

    Args:
        message: of a tool. Documents in its artifact whose texts make up the content are taken one by one.
        min_chars: fewer characters than this together are left as they are.

    Returns:
        The texts; None: the message stays as it is, since it reports an error, is compressed already, is short, or is
        JSON or JSON Lines, of which no part can be left out.
    """
    if message.status == "error" or rc.NOTE_KEY in message.response_metadata:
        return None
    texts = _of_string(message, message.content) if isinstance(message.content, str) else _of_blocks(message)
    n_chars = sum(len(document.page_content) for document in texts.documents)
    return texts if n_chars and n_chars >= min_chars else None


def _of_string(message: ToolMessage, content: str) -> Texts:
    if _is_json(content):  # whatever the artifact is
        return Texts(message, [])
    artifact = message.artifact
    if isinstance(artifact, (list, tuple)) and artifact and all(isinstance(each, Document) for each in artifact):
        if any(rc.NOTE_KEY in document.metadata for document in artifact):  # a compressing retriever found them
            return Texts(message, [])
        glue = glue_of(content, [document.page_content for document in artifact])
        if glue is not None:
            documents = [document.model_copy(update={"id": str(place)}) for place, document in enumerate(artifact)]
            return Texts(message, documents, glue)
    return Texts(message, [Document(content, id="0")], ("", ""))


def _of_blocks(message: ToolMessage) -> Texts:
    found = {
        place: text
        for place, block in enumerate(message.content)
        if (text := _text(block)) is not None and text.strip() and not _is_json(text)
    }
    documents = [Document(text, id=str(number)) for number, text in enumerate(found.values())]
    return Texts(message, documents, blocks=tuple(found))


def _text(block: object) -> str | None:
    if isinstance(block, dict):
        block = block.get("text") if block.get("type") == "text" else None
    return block if isinstance(block, str) else None


def _is_json(text: str) -> bool:
    """Whether a text is an object or a list, or one on each line: no longer so if a part were left out."""
    # Not splitlines, which also splits at characters that may stand within JSON's strings.
    lines = [line for line in text.split("\n") if line.strip()]
    return _is_one_value(text) or (bool(lines) and all(map(_is_one_value, lines)))


def _is_one_value(text: str) -> bool:
    if not text.lstrip().startswith(("{", "[")):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def shortened(
    texts: Texts, kept: Sequence[Document], *, keep_original: bool, between: Callable[[], str]
) -> ToolMessage:
    """Put back what was kept.

    Args:
        texts: of the message.
        kept: what a compressor made of its documents.
        keep_original: whether the content as it was goes into ``response_metadata``, which models do not see.
        between: what the compressor writes between texts, for those that share a place: one of a document alone, say,
            and one of it and the next together.

    Returns:
        A copy of the message, with the compressor's notes in ``response_metadata``. The message itself if nothing was
        compressed, nothing was kept, or nothing became shorter.
    """
    message = texts.message
    notes = [rc.read_note(document.metadata) for document in kept]
    compressed = [note for note in notes if "skipped" not in note]
    # A text that was written from several documents stands in the place of the first one.
    pieces: dict[int, list[str]] = {}
    for document, note in zip(kept, notes, strict=True):
        if document.page_content.strip():
            place = min(int(each) for each in note.get("source_ids") or [document.id])
            pieces.setdefault(place, []).append(document.page_content)
    new = {place: written[0] if len(written) == 1 else between().join(written) for place, written in pieces.items()}
    n_before = sum(len(document.page_content) for document in texts.documents)
    if not compressed or not new or sum(map(len, new.values())) >= n_before:
        return message
    metadata = message.response_metadata | {rc.NOTE_KEY: _note(compressed[0])}
    if keep_original:
        metadata[rc.ORIGINAL_KEY] = message.content
    content = _with_blocks(texts, new) if texts.glue is None else joined(texts.glue, new)
    return message.model_copy(update={"content": content, "response_metadata": metadata})


def _note(of_document: Mapping[str, Any]) -> str:
    """What the note of any document says of the whole result."""
    names = {"n_tokens": "context_n_tokens", "n_slots": "context_n_slots"}
    written = {name: of_document[names.get(name, name)] for name in ("backend", *names, "counter", "truncated")}
    return json.dumps(written)


def _with_blocks(texts: Texts, new: Mapping[int, str]) -> list[str | dict[str, Any]]:
    numbers = {place: number for number, place in enumerate(texts.blocks)}
    content: list[str | dict[str, Any]] = []
    for place, block in enumerate(texts.message.content):
        if (number := numbers.get(place)) is None:
            content.append(block)
        elif number in new:
            content.append({**block, "text": new[number]} if isinstance(block, dict) else new[number])
    return content


def question_of(arguments: Mapping[str, Any], state: object) -> str | None:
    """Find the question that a tool's result is to answer.

    Args:
        arguments: of the tool call.
        state: of the agent.

    Returns:
        The argument ``query`` or ``question``, else the user's latest message; None: there is none.
    """
    for name in _QUERY_ARGUMENTS:
        if isinstance(value := arguments.get(name), str) and value.strip():
            return value
    messages = state.get("messages") if isinstance(state, Mapping) else getattr(state, "messages", state)
    if not isinstance(messages, Sequence):
        return None
    return next((_plain(each) for each in reversed(messages) if isinstance(each, HumanMessage)), None)


def _plain(message: BaseMessage) -> str:
    blocks = [message.content] if isinstance(message.content, str) else message.content
    return "\n".join(text for block in blocks if (text := _text(block)) is not None)
