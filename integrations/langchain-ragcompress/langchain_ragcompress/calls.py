"""One call of a chat model: in one piece, in pieces, and in pieces without holding up the event loop."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from typing import Any, NamedTuple, TypeVar

from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk

import ragcompress as rc
from langchain_ragcompress.messages import last_chunk

ItemT = TypeVar("ItemT")
# What LangChain hands to every model; a model that cannot do it must say so.
_TOOLS = ("tools", "tool_choice", "functions", "function_call", "response_format")
_NOT_FOR_READERS = ("model", "timeout", "stream", "max_retries")


class Call(NamedTuple):
    """Who answers what, and how.

    Attributes:
        reader: answers.
        name: of the model, for the metadata.
        request: messages.
        options: of ``ragcompress.GenerationOptions``.
        timeout: in seconds; None: no limit.
    """

    reader: rc.Reader
    name: str
    request: list[dict[str, str]]
    options: dict[str, Any]
    timeout: float | None


def generation(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Pick what a reader needs.

    Args:
        fields: of a chat model.

    Returns:
        Those that are set, under the reader's names.
    """
    names = ("temperature", "top_p", "top_k", "seed", "repetition_penalty", "stop", "prompt_mode")
    chosen = {name: fields.get(name) for name in names} | {"max_new_tokens": fields.get("max_tokens")}
    return {name: value for name, value in chosen.items() if value is not None}


def call_options(given: Mapping[str, Any], stop: Sequence[str] | None) -> dict[str, Any]:
    """Translate the arguments of one call.

    Args:
        given: keyword arguments of ``invoke``; those that are no options of a reader are refused by the reader.
        stop: of the call.

    Returns:
        Options under the reader's names.

    Raises:
        OptionError: there are tools among them.
    """
    options = {name: value for name, value in given.items() if value is not None and name not in _NOT_FOR_READERS}
    for name in _TOOLS:
        if options.pop(name, None):
            raise no_tools(name)
    if "max_tokens" in options:
        options["max_new_tokens"] = options.pop("max_tokens")
    return options if stop is None else options | {"stop": tuple(stop)}


def no_tools(name: str) -> rc.OptionError:
    """Say that these models call no tools.

    Args:
        name: of the argument that came.

    Returns:
        An error to raise.
    """
    return rc.OptionError(
        f"{name} came, but these models were trained to answer from documents and call no tools.",
        hint="Let another chat model call tools, and this one write the answer.",
    )


def checked_timeout(timeout: float | None) -> float | None:
    """Refuse a limit that no call could keep.

    Args:
        timeout: in seconds; None: no limit.

    Returns:
        The same.

    Raises:
        OptionError: it is not above 0.
    """
    if timeout is not None and not (isinstance(timeout, (int, float)) and timeout > 0):
        raise rc.OptionError(f"timeout must be seconds above 0, got {timeout!r}.")
    return timeout


def _too_slow(call: Call) -> rc.CompressionTimeoutError:
    return rc.CompressionTimeoutError(
        f"{call.name} took longer than timeout={call.timeout} seconds.", hint="Raise the timeout, or lower max_tokens."
    )


def whole(call: Call) -> rc.Answer:
    """Answer in one piece.

    Args:
        call: what is asked.

    Returns:
        The answer.

    Raises:
        CompressionTimeoutError: it takes too long; the work itself runs on in its thread.
    """

    def answer() -> rc.Answer:
        return call.reader.generate([call.request], **call.options)[0]

    if call.timeout is None:
        return answer()
    pool = ThreadPoolExecutor(1, thread_name_prefix="ragcompress")
    future = pool.submit(answer)
    pool.shutdown(wait=False)
    # A TimeoutError of the reader's own must not be taken for ours.
    if not wait([future], call.timeout).done:
        raise _too_slow(call)
    return future.result()


def chunks(call: Call) -> Generator[ChatGenerationChunk]:
    """Answer piece by piece.

    Args:
        call: what is asked.

    Yields:
        Chunks with text, then one with what is known at the end. Whoever stops listening stops the generation.

    Raises:
        CompressionTimeoutError: it takes too long; the generation ends.
    """
    begin = time.monotonic()
    # The generator's own return value is the answer; closing it, if nobody listens any more, ends the generation.
    with closing(call.reader.stream(call.request, **call.options)) as stream:
        while True:
            try:
                piece = next(stream)
            except StopIteration as end:
                answer: rc.Answer = end.value
                break
            if call.timeout is not None and time.monotonic() - begin > call.timeout:
                raise _too_slow(call)
            yield ChatGenerationChunk(message=AIMessageChunk(content=piece))
    yield last_chunk(answer, call.name)


async def in_thread(make: Callable[[], Generator[ItemT]]) -> AsyncIterator[ItemT]:
    """Run a blocking generator in a thread, from its first to its last step.

    Args:
        make: makes the generator.

    Yields:
        Its items. Whoever stops listening, or is cancelled, closes it; the event loop does not wait for that.
    """
    loop = asyncio.get_running_loop()
    items: asyncio.Queue[ItemT | _End] = asyncio.Queue()
    stopped = threading.Event()

    def work() -> None:
        try:
            with closing(make()) as generator:
                for item in generator:
                    if stopped.is_set():
                        return
                    loop.call_soon_threadsafe(items.put_nowait, item)
        finally:
            if not stopped.is_set():
                loop.call_soon_threadsafe(items.put_nowait, _End())

    # Callbacks and traces of LangChain live in context variables.
    worker = loop.run_in_executor(None, contextvars.copy_context().run, work)
    # What goes wrong after the last listener has left concerns nobody, not even asyncio's log.
    worker.add_done_callback(lambda done: done.cancelled() or done.exception())
    try:
        while not isinstance(newest := await items.get(), _End):
            yield newest
        await worker  # raises what the generator raised
    finally:
        stopped.set()


class _End:
    """Comes behind the last item."""
