"""Between LlamaIndex's messages and responses and what a reader of ragcompress takes and gives."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterator, Sequence
from typing import Any, NamedTuple

from llama_index.core.base.llms.types import TextBlock
from llama_index.core.llms import ChatMessage, ChatResponse, CompletionResponse, MessageRole
from llama_index.postprocessor.ragcompress.counting import holds_half_a_handle

from ragcompress import Answer, HandleWarning, InputTypeError

Request = str | list[dict[str, str]]

# Other providers' names for it, which a reader would not know.
_ASSISTANT = (MessageRole.CHATBOT, MessageRole.MODEL)


def as_prompt(prompt: str, formatted: bool) -> Request:
    """Turn a prompt into a request.

    Args:
        prompt: any text.
        formatted: whether it is written in the model's chat format already.

    Returns:
        The text, or one message of a user.
    """
    return prompt if formatted else [{"role": "user", "content": prompt}]


def as_conversation(messages: Sequence[ChatMessage]) -> Request:
    """Turn LlamaIndex's messages into a request.

    Args:
        messages: of any role.

    Returns:
        Plain messages, text blocks joined by line ends.

    Raises:
        InputTypeError: a message holds something else than text.
    """
    found = []
    for index, message in enumerate(messages):
        for block in message.blocks:
            if not isinstance(block, TextBlock):
                raise InputTypeError(
                    f"messages[{index}] holds a {type(block).__name__}; this model reads text and handles alone.",
                    hint="Leave pictures, files, thoughts and tool calls out, or write them as text.",
                )
        role = "assistant" if message.role in _ASSISTANT else message.role.value
        found.append({"role": role, "content": message.content or ""})
    return found


def checked(request: Request) -> Request:
    """Warn if a splitter that knows no handles went through a request.

    Args:
        request: a prompt or messages.

    Returns:
        The same.
    """
    texts = [request] if isinstance(request, str) else [message["content"] for message in request]
    if any(holds_half_a_handle(text) for text in texts):
        warnings.warn(
            "a handle in the prompt was cut in two and is read as plain text. Let LlamaIndex split with "
            "Settings.prompt_helper = llm.prompt_helper(), which leaves handles whole.",
            HandleWarning,
            stacklevel=2,
        )
    return request


class Said(NamedTuple):
    """What a model has said so far.

    Attributes:
        text: all of it.
        delta: the newest piece of a stream.
        answer: how it came about; of a stream known at its end only.
    """

    text: str
    delta: str | None
    answer: Answer | None

    def chat(self) -> ChatResponse:
        """As the response to messages."""
        raw, usage = self._details()
        message = ChatMessage(role=MessageRole.ASSISTANT, content=self.text)
        return ChatResponse(message=message, delta=self.delta, raw=raw, additional_kwargs=usage)

    def completion(self) -> CompletionResponse:
        """As the response to a prompt."""
        raw, usage = self._details()
        return CompletionResponse(text=self.text, delta=self.delta, raw=raw, additional_kwargs=usage)

    def _details(self) -> tuple[dict[str, Any] | None, dict[str, int]]:
        answer = self.answer
        if answer is None:
            return None, {}
        usage = {
            "prompt_tokens": answer.n_prompt_slots,
            "completion_tokens": answer.n_new_tokens,
            "total_tokens": answer.n_prompt_slots + answer.n_new_tokens,
        }
        names = ("n_prompt_slots", "n_new_tokens", "truncated", "finish_reason", "prompt_mode")
        # LlamaIndex's TokenCountingHandler looks for "usage" here.
        return {**{name: getattr(answer, name) for name in names}, "usage": dict(usage)}, usage


def said(answer: Answer) -> Said:
    """Take a whole answer.

    Args:
        answer: of a reader.

    Returns:
        What was said.
    """
    return Said(answer.text, None, answer)


def growing(pieces: Iterator[str]) -> Generator[Said, None, None]:
    """Follow a stream.

    Args:
        pieces: of a reader; closed at the end. A generator may return the whole ``Answer``.

    Yields:
        What was said so far, after each piece; with the answer at the end, if there is one.
    """
    text = ""
    try:
        while True:
            try:
                piece = next(pieces)
            except StopIteration as end:
                if isinstance(end.value, Answer):
                    yield Said(text, "", end.value)
                return
            text += piece
            yield Said(text, piece, None)
    finally:
        if isinstance(pieces, Generator):
            pieces.close()
