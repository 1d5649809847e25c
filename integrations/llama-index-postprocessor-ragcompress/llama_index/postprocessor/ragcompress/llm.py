"""The language model that reads the handles which latent compressors write."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.callbacks import CallbackManager
from llama_index.core.indices.prompt_helper import PromptHelper
from llama_index.core.llms import (
    LLM,
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
)
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.types import PydanticProgramMode
from llama_index.postprocessor.ragcompress.config import ConfiguredComponent, in_order, merged_options
from llama_index.postprocessor.ragcompress.counting import RagCompressPromptHelper
from llama_index.postprocessor.ragcompress.messages import (
    Request,
    Said,
    as_conversation,
    as_prompt,
    checked,
    growing,
    said,
)
from llama_index.postprocessor.ragcompress.streaming import off_the_loop

from ragcompress import Answer, Compressor, RagCompressError, Reader, ReaderAdapter, without_question

PromptMode = Literal["auto", "native", "verbatim"]


class RagCompressLLMError(RagCompressError, RuntimeError):
    """A call failed; ``__cause__`` is the error that says why.

    LlamaIndex's synthesizers take every ``ValueError`` and ``TypeError`` of a model for a badly written answer, and go
    on with an empty one: vectors of another checkpoint, say, would pass unnoticed.
    """


@contextmanager
def _heard() -> Iterator[None]:
    """Raise errors as a kind that LlamaIndex does not take for an answer."""
    try:
        yield
    except (ValueError, TypeError) as error:
        if not isinstance(error, RagCompressError):
            raise
        raise RagCompressLLMError(str(error)) from error


class RagCompressLLM(ConfiguredComponent, LLM):
    """Reads prompts with the handles of a latent compressor in them, and answers with that compressor's own decoder.

    Configured with the same backend, checkpoint and options as a ``RagCompressPostprocessor``, it shares weights and
    memories with it.

    >>> llm = RagCompressLLM("pisco", checkpoint="naver/pisco-mistral")
    >>> engine = index.as_query_engine(llm=llm, node_postprocessors=[postprocessor])  # doctest: +SKIP

    Nothing is loaded in the constructor; ``metadata`` loads the model, to learn its window, unless ``context_window``
    says it.
    """

    max_new_tokens: int = Field(frozen=True, description="Longest answer, in tokens.")
    temperature: float = Field(frozen=True, description="0: greedy; else sampling.")
    top_p: float | None = Field(frozen=True, description="Share of probability that sampling draws from; None: all.")
    seed: int | None = Field(frozen=True, description="Makes sampling repeatable.")
    stop: list[str] = Field(frozen=True, description="Strings that end an answer; they do not appear in it.")
    prompt_mode: PromptMode = Field(frozen=True, description="The model's published prompt, or the caller's own.")
    context_window: int | None = Field(frozen=True, description="Tokens and slots; None: the model's own window.")

    _adapter: ReaderAdapter = PrivateAttr()

    def __init__(
        self,
        backend: str = "pisco",
        *,
        checkpoint: str | Path | None = None,
        reader: Reader | Compressor | None = None,
        options: Mapping[str, Any] | None = None,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        max_tokens: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        stop: str | Sequence[str] = (),
        prompt_mode: PromptMode = "auto",
        context_window: int | None = None,
        system_prompt: str | None = None,
        pydantic_program_mode: PydanticProgramMode = PydanticProgramMode.DEFAULT,
        callback_manager: CallbackManager | None = None,
        **more_options: Any,
    ) -> None:
        """Check the settings; the model is loaded on the first call.

        Args:
            backend: name of the compressor whose handles are read.
            checkpoint: path or hub id.
            reader: an object to use instead of loading one, or the compressor whose reader it is.
            options: keyword arguments of ``ragcompress.load``.
            max_new_tokens: longest answer, in tokens.
            temperature: 0: greedy; else sampling.
            max_tokens: another name for ``max_new_tokens``, which calls take, too.
            top_p: share of probability that sampling draws from; None: all.
            seed: makes sampling repeatable; None: torch's own random state.
            stop: strings that end an answer.
            prompt_mode: ``"native"``: the model's published prompt; ``"verbatim"``: the prompt as LlamaIndex wrote
                it, with the vectors in place of the handles; ``"auto"``: native where all handles of one query are
                in the prompt and no conversation would be lost, else verbatim.
            context_window: reported to LlamaIndex; None: the model's own.
            system_prompt: in front of what query engines ask; a native prompt has its own.
            pydantic_program_mode: LlamaIndex's.
            callback_manager: LlamaIndex's.
            **more_options: more of ``options``, e.g. ``device="cuda"`` or ``store="lancedb://folder"``.

        Raises:
            OptionError: a value is out of range, the backend makes text, or both a reader and options came.
            UnknownBackendError: no such backend.
        """
        max_new_tokens = max_new_tokens if max_tokens is None else max_tokens
        stops = [stop] if isinstance(stop, str) else list(stop)
        given = {"top_p": top_p, "seed": seed, "stop": tuple(stops) or None}
        adapter = ReaderAdapter(
            backend,
            None if checkpoint is None else str(checkpoint),
            merged_options(options, more_options),
            reader=reader,
            generation={
                "max_new_tokens": max_new_tokens,
                "temperature": temperature,
                "prompt_mode": prompt_mode,
                **{name: value for name, value in given.items() if value is not None},
            },
        )
        fields: dict[str, Any] = {
            "backend": adapter.backend,
            "checkpoint": adapter.checkpoint,
            "options": in_order(adapter.options),
            "max_new_tokens": max_new_tokens,
            "temperature": temperature,
            "top_p": top_p,
            "seed": seed,
            "stop": stops,
            "prompt_mode": prompt_mode,
            "context_window": context_window,
            "system_prompt": system_prompt,
            "pydantic_program_mode": pydantic_program_mode,
            "callback_manager": callback_manager or CallbackManager(),
        }
        super().__init__(**fields)
        self._adapter = adapter
        if adapter.by_hand:
            self._by_hand = f"{type(adapter.reader).__name__} {adapter.reader.name} {adapter.reader.space}"

    @classmethod
    def class_name(cls) -> str:
        """Name of the component."""
        return "RagCompressLLM"

    @property
    def metadata(self) -> LLMMetadata:
        """What LlamaIndex plans prompts by."""
        window = self.context_window
        if window is None:
            window = self._adapter.reader.window
        return LLMMetadata(
            context_window=window, num_output=self.max_new_tokens, is_chat_model=True, model_name=self._model_name()
        )

    def to_payload(self) -> dict[str, Any]:
        """What observability is told; unlike ``metadata`` it loads nothing, since it is asked on the event loop."""
        fields = {name: getattr(self, name) for name in ("max_new_tokens", "temperature", "prompt_mode")}
        return {"class_name": self.class_name(), "model_name": self._model_name(), "is_chat_model": True, **fields}

    def count_tokens(self, text: str) -> int:
        """Length of a text as the model would read it; loads the model.

        Args:
            text: may hold handles.

        Returns:
            Tokens of the text, plus the memory slots of each handle and the separator that the model puts behind it.
        """
        reader = self._adapter.reader
        return reader.count(without_question(text)) - reader.count("")

    def tokenize(self, text: str) -> list[int]:
        """Stand in for a tokenizer wherever LlamaIndex wants one to count with, e.g. ``TokenCountingHandler``.

        Args:
            text: may hold handles.

        Returns:
            A list as long as ``count_tokens`` says.
        """
        return list(range(self.count_tokens(text)))

    def prompt_helper(
        self, *, chunk_overlap_ratio: float = 0.1, chunk_size_limit: int | None = None, separator: str = " "
    ) -> PromptHelper:
        """Make a ``PromptHelper`` that counts a handle as its slots and never cuts one; loads the model.

        >>> Settings.prompt_helper = llm.prompt_helper()  # doctest: +SKIP

        Args:
            chunk_overlap_ratio: how far chunks overlap where a text must be split.
            chunk_size_limit: longest chunk; None: what fits.
            separator: where texts are split first.

        Returns:
            For ``Settings.prompt_helper`` or the ``prompt_helper=`` of a response synthesizer.
        """
        return RagCompressPromptHelper.from_llm_metadata(
            self.metadata,
            chunk_overlap_ratio=chunk_overlap_ratio,
            chunk_size_limit=chunk_size_limit,
            tokenizer=self.tokenize,
            separator=separator,
        )

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer a conversation.

        Args:
            messages: texts, with or without handles.
            **kwargs: ``max_tokens``, ``temperature``, ``top_p``, ``stop``, ``seed``, ``prompt_mode`` and whatever
                else ``ragcompress.GenerationOptions`` has, for this call.

        Returns:
            The answer; ``raw`` says how it came about.

        Raises:
            MemoryNotFoundError: the store has no memory for a handle.
            InputTypeError: a message holds something else than text.
            RagCompressLLMError: vectors of another space, a prompt that is too long, or a wrong option.
        """
        return said(self._answer(as_conversation(messages), kwargs)).chat()

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer a prompt.

        Args:
            prompt: with or without handles.
            formatted: whether the prompt is written in the model's chat format already; else it is one message of a
                user.
            **kwargs: see ``chat``.

        Returns:
            The answer; ``raw`` says how it came about.

        Raises:
            MemoryNotFoundError: the store has no memory for a handle.
            RagCompressLLMError: vectors of another space, a prompt that is too long, or a wrong option.
        """
        return said(self._answer(as_prompt(prompt, formatted), kwargs)).completion()

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Answer piece by piece; see ``chat``."""
        pieces = self._stream(as_conversation(messages), kwargs)
        return (each.chat() for each in pieces)

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """Answer piece by piece; see ``complete``."""
        pieces = self._stream(as_prompt(prompt, formatted), kwargs)
        return (each.completion() for each in pieces)

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer in a thread, so that the event loop goes on; see ``chat``."""
        return said(await asyncio.to_thread(self._answer, as_conversation(messages), kwargs)).chat()

    @llm_completion_callback()
    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer in a thread, so that the event loop goes on; see ``complete``."""
        return said(await asyncio.to_thread(self._answer, as_prompt(prompt, formatted), kwargs)).completion()

    @llm_chat_callback()
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """Answer piece by piece in a thread; see ``chat``."""
        pieces = await asyncio.to_thread(self._stream, as_conversation(messages), kwargs)
        return (each.chat() async for each in off_the_loop(pieces))

    @llm_completion_callback()
    async def astream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseAsyncGen:
        """Answer piece by piece in a thread; see ``complete``."""
        pieces = await asyncio.to_thread(self._stream, as_prompt(prompt, formatted), kwargs)
        return (each.completion() async for each in off_the_loop(pieces))

    def _answer(self, request: Request, call: Mapping[str, Any]) -> Answer:
        with _heard():
            (answer,) = self._adapter.reader.generate([checked(request)], **self._generation(call))
        return answer

    def _stream(self, request: Request, call: Mapping[str, Any]) -> Generator[Said, None, None]:
        # The reader prepares the prompt now: its errors belong to the call, not to the loop over the pieces.
        with _heard():
            return growing(self._adapter.reader.stream(checked(request), **self._generation(call)))

    def _generation(self, call: Mapping[str, Any]) -> dict[str, Any]:
        named = {"max_new_tokens" if name == "max_tokens" else name: value for name, value in call.items()}
        return self._adapter.generation | {name: value for name, value in named.items() if value is not None}

    def _model_name(self) -> str:
        return self._adapter.reader.name if self._by_hand is not None else self.checkpoint or self.backend

    def _configuration(self) -> dict[str, Any]:
        return self._adapter.configuration()

    def _given(self) -> tuple[str, Any]:
        return "reader", self._adapter.reader

    def __setstate__(self, state: dict[Any, Any]) -> None:
        """Restore, without the callback handlers of the other process."""
        super().__setstate__(state)
        self.callback_manager = CallbackManager()
