"""Chat models that read compressed documents: handles in the prompt become vectors just before the forward pass."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LangSmithParams, ModelProfile
from langchain_core.load.serializable import SerializedConstructor, SerializedNotImplemented
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import Field, PrivateAttr, SerializationInfo, SerializerFunctionWrapHandler, model_serializer

import ragcompress as rc
from langchain_ragcompress.calls import (
    Call,
    call_options,
    checked_timeout,
    chunks,
    generation,
    in_thread,
    no_tools,
    whole,
)
from langchain_ragcompress.configured import Configured
from langchain_ragcompress.messages import to_message, to_request

# Two calls at once must not load another model twice.
_LOCK = threading.Lock()


class ChatRagCompress(Configured, BaseChatModel):
    """Answers with the decoder of a latent backend, e.g. PISCO or OSCAR.

    It is made from plain configuration and loads the model on the first call; configured like a ``RagCompressor`` it
    shares the weights and the store with it. It can be pickled and written as JSON; it may be called from several
    threads at once. There is no tool calling, and tool calls in the history are not written.

    >>> ChatRagCompress("pisco", checkpoint="naver/pisco-mistral", max_tokens=64).model_name
    'naver/pisco-mistral'
    """

    backend: str = Field(default="pisco", frozen=True)
    """Name in the registry of ragcompress, of a backend that makes vectors."""
    checkpoint: str | None = Field(default=None, frozen=True)
    """Path or hub id."""
    options: dict[str, Any] = Field(default_factory=dict, frozen=True)
    """Keyword arguments of ``ragcompress.load``."""
    reader: Any = Field(default=None, frozen=True, exclude=True, repr=False)
    """A reader that was built by hand."""
    temperature: float | None = Field(default=None, frozen=True)
    """0: greedy; else sampling. None, here and below: as the reader was built, and it is built greedy."""
    max_tokens: int | None = Field(default=None, frozen=True)
    """Longest answer, in tokens; a reader's own is 128."""
    top_p: float | None = Field(default=None, frozen=True)
    """Share of probability that sampling draws from."""
    top_k: int | None = Field(default=None, frozen=True)
    """Number of tokens that sampling draws from. How many documents a compressor keeps is an entry of ``options``."""
    seed: int | None = Field(default=None, frozen=True)
    """Makes sampling repeatable."""
    repetition_penalty: float | Literal["base"] | None = Field(default=None, frozen=True)
    """1: none; ``"base"``: what the base model's own settings say."""
    stop: list[str] | None = Field(default=None, frozen=True)
    """Strings that end an answer."""
    prompt_mode: Literal["auto", "native", "verbatim"] | None = Field(default=None, frozen=True)
    """``"native"``: the model's published prompt; ``"verbatim"``: the chain's own; ``"auto"``: see the README."""
    timeout: float | None = Field(default=None, frozen=True)
    """Seconds after which a call, not counting the loading of the model, counts as failed."""
    max_retries: int | None = Field(default=None, frozen=True)
    """One of LangChain's standard parameters; a model on this machine has nothing to try again."""
    streaming: bool | None = Field(default=None, frozen=True)
    """True: ``invoke`` streams as well, so that callbacks see tokens; False: ``stream`` answers in one piece."""

    _adapter: rc.ReaderAdapter = PrivateAttr()
    _other: rc.ReaderAdapter | None = PrivateAttr(default=None)

    def __init__(
        self,
        backend: str = "pisco",
        *,
        checkpoint: str | Path | None = None,
        model: str | Path | None = None,
        reader: rc.Reader | rc.Compressor | None = None,
        options: Mapping[str, Any] | None = None,
        stop: str | Sequence[str] | None = None,
        api_key: object = None,
        **more: Any,
    ) -> None:
        """Check the configuration; nothing is loaded.

        Args:
            backend: name in the registry, of a backend that makes vectors.
            checkpoint: path or hub id.
            model: LangChain's name for ``checkpoint``.
            reader: an object to use instead of loading one, or the compressor whose reader it is.
            options: keyword arguments of ``ragcompress.load``, e.g. those of the compressor.
            stop: strings that end an answer.
            api_key: LangChain's standard tests pass one; a model on this machine needs none, and it is not kept.
            **more: fields of this class (``temperature``, ``max_tokens``, ``prompt_mode``, ``callbacks``, ...); all
                others are further ``options``, e.g. ``device="cuda"``.

        Raises:
            OptionError: a value is out of range, the backend makes text, or both a reader and options came.
            UnknownBackendError: no such backend; lists those there are, closest first.
        """
        if model is not None and checkpoint is not None and str(model) != str(checkpoint):
            raise rc.OptionError(f"model={str(model)!r} and checkpoint={str(checkpoint)!r} are two names of one thing.")
        checkpoint = model if checkpoint is None else checkpoint
        own = {name: more.pop(name) for name in list(more) if name in type(self).model_fields}
        checked_timeout(own.get("timeout"))
        own["stop"] = [stop] if isinstance(stop, str) else None if stop is None else list(stop)
        adapter = rc.ReaderAdapter(
            backend,
            None if checkpoint is None else str(checkpoint),
            {**(options or {}), **more},
            reader=reader,
            generation=generation(own),
        )
        own |= {"backend": adapter.backend, "checkpoint": adapter.checkpoint, "options": adapter.options}
        if adapter.by_hand:
            own["reader"] = adapter.reader
        # LangChain looks at which fields were set: streaming=None must not count as False.
        super().__init__(**{name: value for name, value in own.items() if value is not None})
        self._adapter = adapter
        if self.profile is None:
            self.profile = ModelProfile(text_inputs=True, text_outputs=True, image_inputs=False, tool_calling=False)
        if reader is not None:
            self._read_window(adapter.reader)

    @property
    def model_name(self) -> str:
        """What traces and answers call the model."""
        if self._adapter.by_hand:
            return self._adapter.reader.name or type(self._adapter.reader).__name__
        return self.checkpoint or self.backend

    @property
    def _llm_type(self) -> str:
        return "ragcompress-chat"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        """Everything that changes an answer: LangChain's cache keys and traces are made of it."""
        options = {name: _written(value) for name, value in sorted(self.options.items())}
        params: dict[str, Any] = {
            "model_name": self.model_name,
            "backend": self.backend,
            "checkpoint": self.checkpoint,
            "options": options,
            "generation": dict(sorted(self._generation().items())),
        }
        if self._adapter.by_hand:
            params |= {"reader": rc.unique_name(self._adapter.reader), "space": self._adapter.reader.space}
        return params

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        # LangChain's own way leaves out objects that have no JSON form: two readers would share cached answers.
        return str(sorted(self._get_invocation_params(stop=stop, **kwargs).items()))

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop if stop is not None else self.stop, **kwargs)
        params["ls_provider"] = "ragcompress"
        params["ls_model_name"] = str(kwargs.get("model") or self.model_name)
        return params

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        call = self._call(messages, stop, kwargs)
        return ChatResult(generations=[ChatGeneration(message=to_message(whole(call), call.name))])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Generator[ChatGenerationChunk]:
        for chunk in chunks(self._call(messages, stop, kwargs)):
            if run_manager is not None:
                run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        async for chunk in in_thread(lambda: self._stream(messages, stop, None, **kwargs)):
            if run_manager is not None:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    def get_token_ids(self, text: str) -> list[int]:
        """Refuse, unless ``custom_get_token_ids`` is set: vectors have no ids, and LangChain would count as GPT-2 does.

        Args:
            text: any.

        Returns:
            What ``custom_get_token_ids`` says.

        Raises:
            NotImplementedError: it is not set.
        """
        if self.custom_get_token_ids is None:
            raise NotImplementedError("vectors have no token ids; get_num_tokens counts them.")
        return self.custom_get_token_ids(text)

    def get_num_tokens(self, text: str) -> int:
        """Count a text as the model would read it; a handle counts as its slots. Loads the model.

        Args:
            text: a document's, say.

        Returns:
            Tokens and slots, without those that open a prompt.
        """
        if self.custom_get_token_ids is not None:
            return super().get_num_tokens(text)
        reader = self._loaded(self._adapter)
        return reader.count(rc.without_question(text)) - reader.count("")

    def get_num_tokens_from_messages(self, messages: list[BaseMessage], tools: Sequence[Any] | None = None) -> int:
        """Count the prompt that the model would read for a conversation. Loads the model.

        Args:
            messages: any number.
            tools: not supported.

        Returns:
            Tokens and slots of the published prompt, or of the conversation with its template.
        """
        if tools:
            raise no_tools("tools")
        return self._loaded(self._adapter).count(to_request(messages), prompt_mode=self.prompt_mode)

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """Whether LangChain can write it down; true for all that was made from configuration."""
        return True

    def to_json(self) -> SerializedConstructor | SerializedNotImplemented:
        """Write the configuration, or say that there is none."""
        try:
            self._adapter.configuration()
        except rc.OptionError:
            return self.to_json_not_implemented()
        return super().to_json()

    def _compared(self) -> dict[str, Any]:
        names = set(type(self).model_fields) - set(BaseChatModel.model_fields) - {"reader"}
        return {name: getattr(self, name) for name in names} | {"reader": id(self.reader)}

    @model_serializer(mode="wrap")
    def _serialize(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        if info.mode_is_json() or self._adapter.by_hand:
            self._adapter.configuration()  # raises if it has no written form
        written: dict[str, Any] = handler(self)
        return written

    def _generation(self) -> dict[str, Any]:
        return generation(dict(self))

    def _call(self, messages: Sequence[BaseMessage], stop: Sequence[str] | None, given: Mapping[str, Any]) -> Call:
        """Put together what one call needs; its own arguments win over the configuration."""
        name = str(given.get("model") or self.model_name)
        timeout = checked_timeout(given.get("timeout", self.timeout))
        options = self._generation() | call_options(given, stop)
        return Call(self._reader_of(name), name, to_request(messages), options, timeout)

    def _reader_of(self, name: str) -> rc.Reader:
        if name == self.model_name:
            return self._loaded(self._adapter)
        if self._adapter.by_hand:
            raise rc.OptionError(
                f"model={name!r} was asked for, but this ChatRagCompress was built around the reader "
                f"{self.model_name!r}.",
                hint="Make it from a backend and a checkpoint to load others.",
            )
        # One other model stays loaded; a third takes its place, since each may fill the memory of a device.
        with _LOCK:
            if self._other is None or self._other.checkpoint != name:
                self._other = rc.ReaderAdapter(self.backend, name, self.options)
            other = self._other
        return other.reader

    def _loaded(self, adapter: rc.ReaderAdapter) -> rc.Reader:
        reader = adapter.reader
        self._read_window(reader)
        return reader

    def _read_window(self, reader: rc.Reader) -> None:
        """Say how much the model reads, as soon as it is known: LangChain's middleware asks for it."""
        if self.profile is not None and "max_input_tokens" not in self.profile:
            self.profile = self.profile | ModelProfile(max_input_tokens=reader.window)


def _written(value: object) -> object:
    """An option as part of a cache key; objects have no written form."""
    try:
        return json.dumps(value, sort_keys=True)
    except (TypeError, ValueError):
        return rc.unique_name(value)
