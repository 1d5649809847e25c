"""Handles in text: how vectors, and the question they were made for, travel through text-only frameworks.

``<|rc:KEY:N|>`` stands for N vectors under KEY; ``<|rc:KEY.I:N|>`` for chunk I of the memory under KEY.
``<|rc:ask=DATA|>`` is written by our adapters beside the handles of one result: the question, and a digest of the
handles, so that a reader knows whether a prompt still holds the whole result.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from ragcompress.types import HANDLE_START

# Processes that hand prompts to each other share it through the environment; a marker of another secret is left out,
# and the prompt is read as it stands.
SECRET_VARIABLE = "RAGCOMPRESS_SECRET"
_SECRET = os.environ[SECRET_VARIABLE].encode() if os.environ.get(SECRET_VARIABLE) else secrets.token_bytes(32)
_TAG_BYTES = 12
# Characters of short documents that the marker repeats, so that the published prompt can hold them.
_MAX_BESIDE = 2000
_PATTERN = re.compile(
    re.escape(HANDLE_START)
    + r"(?:ask=(?P<ask>[A-Za-z0-9_-]+)|(?P<key>[0-9A-Za-z_-]{1,128})(?:\.(?P<chunk>\d{1,6}))?:(?P<n_slots>\d{1,6}))\|>"
)


@dataclass(frozen=True, slots=True)
class Handle:
    """One handle.

    Attributes:
        key: of the memory in its store.
        n_slots: how many vectors it stands for.
        chunk: which chunk of the memory; None: all of it.
    """

    key: str
    n_slots: int
    chunk: int | None = None

    def __str__(self) -> str:
        """As it is written in text."""
        chunk = "" if self.chunk is None else f".{self.chunk}"
        return f"{HANDLE_START}{self.key}{chunk}:{self.n_slots}|>"


@dataclass(frozen=True, slots=True)
class Ask:
    """The question that a result was made for.

    Attributes:
        question: as it was asked.
        digest: of the result's handles.
        texts: what the result holds beside vectors, by place in its order.
    """

    question: str
    digest: str
    texts: tuple[tuple[int, str], ...] = ()

    def __str__(self) -> str:
        """As it is written in text: ASCII without spaces."""
        payload = json.dumps([self.question, self.digest, list(self.texts)], separators=(",", ":")).encode()
        sealed = base64.urlsafe_b64encode(_tag(b"ask", payload) + payload).decode()
        return f"{HANDLE_START}ask={sealed.rstrip('=')}|>"


def digest(handles: Sequence[Handle]) -> str:
    """Identify a set of handles; their order does not count, since frameworks may sort what they were given.

    Args:
        handles: of one result.

    Returns:
        16 hexadecimal digits.
    """
    return hashlib.sha256(" ".join(sorted(map(str, handles))).encode()).hexdigest()[:16]


def attach_question(question: str | None, texts: Sequence[str]) -> list[str]:
    """Leave the question beside the handles of one result, so that a reader can write the published prompt.

    Args:
        question: None or empty: nothing is attached.
        texts: the documents as they go out, in their order; some of them, or none, hold handles that we wrote.

    Returns:
        The texts, the first one with a handle followed by the marker, and no other marker in any. Without a marker if
        there is no handle, or if so much text stands beside the handles that repeating it would cost more than the
        published prompt is worth.
    """
    texts = [without_question(text) for text in texts]
    parts = [parse(text) for text in texts]
    handles = [part for own in parts for part in own if isinstance(part, Handle)]
    beside = [part.strip() for own in parts for part in own if isinstance(part, str)]
    if not question or not question.strip() or not handles or sum(map(len, beside)) > _MAX_BESIDE:
        return texts
    everything = [part for own in parts for part in own if isinstance(part, Handle) or str(part).strip()]
    pieces = tuple((place, part.strip()) for place, part in enumerate(everything) if isinstance(part, str))
    marker = str(Ask(question, digest(handles), pieces))
    first = next(index for index, own in enumerate(parts) if any(isinstance(part, Handle) for part in own))
    return [text + marker if index == first else text for index, text in enumerate(texts)]


def without_question(text: str) -> str:
    """Take out what ``attach_question`` left in a text.

    Args:
        text: any.

    Returns:
        The text; its handles stay.
    """
    return _PATTERN.sub(lambda match: "" if match["ask"] is not None else match.group(), text)


def text_digest(text: str) -> str:
    """Seal a text that holds handles, whatever question stands beside them: whoever writes a file cannot.

    Args:
        text: of a document.

    Returns:
        24 hexadecimal digits; others in a process with another secret.
    """
    return _tag(b"text", without_question(text).encode(errors="surrogatepass")).hex()


def parse(text: str) -> list[str | Handle | Ask]:
    """Split a text at its handles.

    >>> parse("Read <|rc:ab12:8|> and <|rc:ab12.3:8|>.")
    ['Read ', Handle(key='ab12', n_slots=8, chunk=None), ' and ', Handle(key='ab12', n_slots=8, chunk=3), '.']

    Args:
        text: may hold handles.

    Returns:
        Texts, handles and markers in their order; a marker that is damaged or forged is left out.
    """
    parts: list[str | Handle | Ask] = []
    place = 0
    for match in _PATTERN.finditer(text):
        if match.start() > place:
            parts.append(text[place : match.start()])
        place = match.end()
        if match["ask"] is not None:
            parts += _read_ask(match["ask"])
        else:
            chunk = None if match["chunk"] is None else int(match["chunk"])
            parts.append(Handle(match["key"], int(match["n_slots"]), chunk))
    if place < len(text):
        parts.append(text[place:])
    return parts


def _tag(purpose: bytes, payload: bytes) -> bytes:
    """Proof that a marker was written by an adapter of ours: a passage must not put a question into our mouth."""
    return hmac.new(_SECRET, purpose + b"\0" + payload, hashlib.sha256).digest()[:_TAG_BYTES]


def _read_ask(data: str) -> list[Ask]:
    try:
        sealed = base64.urlsafe_b64decode(data + "=" * (-len(data) % 4))
        tag, payload = sealed[:_TAG_BYTES], sealed[_TAG_BYTES:]
        if not hmac.compare_digest(tag, _tag(b"ask", payload)):
            return []
        question, found, texts = json.loads(payload)
        pieces = tuple((int(place), str(piece)) for place, piece in texts)
    except (ValueError, TypeError):
        return []
    return [Ask(str(question), str(found), pieces)]
