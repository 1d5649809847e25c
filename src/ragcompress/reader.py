"""Readers: what turns a context with memory vectors in it into an answer. Text needs none; any LLM reads it."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ragcompress.errors import OptionError
from ragcompress.options import build_config, check_choice, check_range
from ragcompress.types import CompressedContext

if TYPE_CHECKING:
    from torch import Tensor

# A context, a prompt, or chat messages ({"role": ..., "content": ...}); prompts and messages may hold handles.
Request = CompressedContext | str | Sequence[Mapping[str, str]]
PromptMode = Literal["auto", "native", "verbatim"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationOptions:
    """How an answer is decoded. The base model's own sampling defaults never apply: they differ from base to base.

    Attributes:
        max_new_tokens: longest answer, in tokens.
        temperature: 0: greedy; else sampling.
        top_p: share of probability that sampling draws from; None: all.
        top_k: number of tokens that sampling draws from; None: all.
        repetition_penalty: 1: none; ``"base"``: what the base model's generation config says (some published results
            were made under it).
        stop: strings that end the answer; they do not appear in it.
        seed: makes sampling repeatable; None: torch's own random state.
        prompt_mode: ``"native"``: the model's published prompt; ``"verbatim"``: the caller's text with the vectors in
            place of the handles; ``"auto"``: native where an adapter of ours left the question beside the handles and
            nothing of the result is missing, else verbatim. Contexts are always answered natively.
    """

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | Literal["base"] = 1.0
    stop: tuple[str, ...] | str = ()
    seed: int | None = None
    prompt_mode: PromptMode = "auto"

    @property
    def stops(self) -> tuple[str, ...]:
        """``stop`` as a tuple."""
        return (self.stop,) if isinstance(self.stop, str) else self.stop

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            OptionError: a value is out of range.
        """
        check_range("max_new_tokens", self.max_new_tokens, at_least=1, whole=True)
        check_range("temperature", self.temperature, at_least=0)
        check_range("top_p", self.top_p, at_least=0, at_most=1)
        check_range("top_k", self.top_k, at_least=1, whole=True)
        check_range("seed", self.seed, at_least=0, whole=True)
        check_choice("prompt_mode", self.prompt_mode, ("auto", "native", "verbatim"))
        if self.repetition_penalty != "base":
            check_range("repetition_penalty", self.repetition_penalty, at_least=0.01)
        stops = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        if any(not isinstance(stop, str) or not stop for stop in stops):
            raise OptionError(f"stop must be non-empty strings, got {self.stop!r}.")
        object.__setattr__(self, "stop", stops)


def generation_options(options: Mapping[str, Any]) -> GenerationOptions:
    """Build options from keyword arguments.

    Args:
        options: fields of ``GenerationOptions``.

    Returns:
        The options.

    Raises:
        OptionError: one does not exist or is out of range.
    """
    return build_config(GenerationOptions, options)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a reader wrote.

    Attributes:
        text: the answer.
        n_prompt_slots: length of the prompt: tokens plus memory slots.
        n_new_tokens: length of the answer, in tokens.
        truncated: whether documents were dropped from the end because the prompt was too long.
        n_dropped: how many segments were.
        finish_reason: ``"stop"`` at an end token or a stop string, ``"length"`` at ``max_new_tokens``.
        prompt_mode: ``"native"`` or ``"verbatim"``.
    """

    text: str
    n_prompt_slots: int
    n_new_tokens: int
    truncated: bool = False
    n_dropped: int = 0
    finish_reason: Literal["stop", "length"] = "stop"
    prompt_mode: Literal["native", "verbatim"] = "native"


class Reader(ABC):
    """Answers from contexts whose segments may be vectors; safe to call from several threads.

    Attributes:
        space: the embedding space that it reads; vectors of another are refused.
        name: of the model, for logs and frameworks.
    """

    space: str
    name: str = ""

    @property
    @abstractmethod
    def window(self) -> int:
        """How many tokens and slots the model reads, the answer included."""

    @abstractmethod
    def inputs(self, contexts: Sequence[CompressedContext]) -> tuple[Tensor, Tensor]:
        """Build the decoder's inputs for several questions, with the model's published prompt.

        Args:
            contexts: (batch,); numbers of documents may differ.

        Returns:
            ``inputs_embeds`` (batch, seq_len, width), padded on the left, and ``attention_mask`` (batch, seq_len).

        Raises:
            SpaceMismatchError: vectors of another space.
            InputError: a question alone is longer than the model's window.
        """

    @abstractmethod
    def generate(self, requests: Sequence[Request], **options: Any) -> list[Answer]:
        """Answer several contexts, prompts or conversations.

        Args:
            requests: any number; prompts and messages may hold handles, whose vectors come from the reader's store.
            **options: see ``GenerationOptions``.

        Returns:
            One answer a request, in their order.

        Raises:
            MemoryNotFoundError: the store has no memory for a handle.
            SpaceMismatchError: vectors of another space.
            InputError: a question alone is longer than the model's window.
            OptionError: an option does not exist or is out of range.
        """

    @abstractmethod
    def stream(self, request: Request, **options: Any) -> Generator[str, None, Answer]:
        """Answer one request piece by piece, as the tokens come.

        Args:
            request: see ``generate``.
            **options: see ``GenerationOptions``.

        Returns:
            Pieces whose concatenation is the answer; the generator's own return value (``StopIteration.value``) is the
            ``Answer``. Closing it ends the generation.
        """

    @abstractmethod
    def count(self, request: Request, *, prompt_mode: PromptMode | None = None) -> int:
        """Length of a request as the model would read it: tokens plus memory slots.

        Args:
            request: see ``generate``.
            prompt_mode: see ``GenerationOptions``; None: the reader's own.

        Returns:
            The length; nothing is looked up, so that missing memories do not matter.
        """

    def answer(self, contexts: Sequence[CompressedContext], **options: Any) -> list[str]:
        """Answer the queries of several contexts with the model's published prompt.

        Args:
            contexts: any number.
            **options: see ``GenerationOptions``.

        Returns:
            One text a context.
        """
        return [answer.text for answer in self.generate(contexts, **options)]

    def complete(self, prompt: str | Sequence[Mapping[str, str]], **options: Any) -> str:
        """Answer a prompt that may hold handles; this is what the framework LLMs call.

        Args:
            prompt: text or chat messages.
            **options: see ``GenerationOptions``.

        Returns:
            The text that the model wrote.
        """
        return self.generate([prompt], **options)[0].text

    async def aanswer(self, contexts: Sequence[CompressedContext], **options: Any) -> list[str]:
        """Do the same as ``answer`` in a thread, so that the event loop goes on."""
        return await asyncio.to_thread(self.answer, contexts, **options)

    async def acomplete(self, prompt: str | Sequence[Mapping[str, str]], **options: Any) -> str:
        """Do the same as ``complete`` in a thread."""
        return await asyncio.to_thread(self.complete, prompt, **options)
