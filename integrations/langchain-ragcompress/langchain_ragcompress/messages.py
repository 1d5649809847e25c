"""Between LangChain's messages and those of a reader."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGenerationChunk

import ragcompress as rc

_ROLES: tuple[tuple[type[BaseMessage], str], ...] = (
    (HumanMessage, "user"),
    (AIMessage, "assistant"),
    (SystemMessage, "system"),
    (ToolMessage, "tool"),
    (FunctionMessage, "function"),
)
_CHAT_ROLES = ("user", "human", "assistant", "ai", "system", "developer", "tool", "function")


def to_request(messages: Sequence[BaseMessage]) -> list[dict[str, str]]:
    """Convert a conversation; tool calls in it are not written.

    Args:
        messages: any number.

    Returns:
        Messages as readers take them.

    Raises:
        InputTypeError: a message holds something else than text, or has an unknown role.
    """
    return [{"role": _role(message, index), "content": _text(message, index)} for index, message in enumerate(messages)]


def _role(message: BaseMessage, index: int) -> str:
    if isinstance(message, ChatMessage):
        if message.role not in _CHAT_ROLES:
            raise rc.InputTypeError(
                f"messages[{index}] has the role {message.role!r}; known: {', '.join(_CHAT_ROLES)}."
            )
        return message.role
    for kind, role in _ROLES:
        if isinstance(message, kind):
            return role
    raise rc.InputTypeError(f"messages[{index}] is a {type(message).__name__}, which no model can read.")


def _text(message: BaseMessage, index: int) -> str:
    if isinstance(message.content, str):
        return message.content
    pieces = []
    for block in message.content:
        piece = block if isinstance(block, str) else block.get("text") if block.get("type") == "text" else None
        if not isinstance(piece, str):
            kind = block.get("type") if isinstance(block, dict) else type(block).__name__
            raise rc.InputTypeError(
                f"messages[{index}] holds a block of type {kind!r}; this model reads text only.",
                hint='Pass strings, or blocks like {"type": "text", "text": "..."}.',
            )
        pieces.append(piece)
    return "".join(pieces)


def to_message(answer: rc.Answer, model_name: str) -> AIMessage:
    """Write an answer as a message.

    Args:
        answer: of the reader.
        model_name: for the metadata.

    Returns:
        The message; memory slots count as tokens.
    """
    return AIMessage(answer.text, usage_metadata=_usage(answer), response_metadata=_metadata(answer, model_name))


def last_chunk(answer: rc.Answer, model_name: str) -> ChatGenerationChunk:
    """Write what is known at the end of a stream; the text has been sent already.

    Args:
        answer: of the reader.
        model_name: for the metadata.

    Returns:
        A chunk without text.
    """
    message = AIMessageChunk(
        content="",
        usage_metadata=_usage(answer),
        response_metadata=_metadata(answer, model_name),
        chunk_position="last",
    )
    return ChatGenerationChunk(message=message)


def _usage(answer: rc.Answer) -> UsageMetadata:
    return UsageMetadata(
        input_tokens=answer.n_prompt_slots,
        output_tokens=answer.n_new_tokens,
        total_tokens=answer.n_prompt_slots + answer.n_new_tokens,
    )


def _metadata(answer: rc.Answer, model_name: str) -> dict[str, Any]:
    return {
        "model_name": model_name,
        "finish_reason": answer.finish_reason,
        "prompt_mode": answer.prompt_mode,
        "truncated": answer.truncated,
        "n_dropped": answer.n_dropped,
    }
