"""Middleware for agents: what a tool returns is compressed once, before the model sees it.

It needs LangChain itself, which the rest of this package does not: ``pip install "langchain-ragcompress[agents]"``.
"""

from __future__ import annotations

import warnings
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool

import ragcompress as rc
from langchain_ragcompress.compressor import RagCompressor
from langchain_ragcompress.tool_results import Texts, question_of, shortened, texts_of

try:
    from langchain.agents.middleware import AgentMiddleware
except ModuleNotFoundError as missing:
    package = (missing.name or "").partition(".")[0]
    if package not in ("langchain", "langgraph"):
        raise
    raise rc.MissingExtraError(
        f"middleware for agents needs {package}, which is not installed.",
        hint='pip install "langchain-ragcompress[agents]"',
    ) from missing

if TYPE_CHECKING:
    from langchain.agents.middleware.types import ToolCallRequest

_MIN_CHARS = 1000
# A ToolMessage, or a Command of LangGraph's, on which the agent is built.
Result = Any


class ToolResultCompressor(AgentMiddleware):
    """Compresses the results of tools with regard to what was asked.

    ```python
    agent = create_agent(model, tools, middleware=[ToolResultCompressor(RagCompressor(top_k=8))])
    ```

    Each result is compressed once, as it comes in, and equal results become equal messages: the history never changes
    afterwards, so prompt caches of providers stay valid. Artifacts stay as they are. Errors, JSON, JSON Lines,
    results of tools that answer the user directly (``return_direct``), and what is short already go on unchanged. All
    else is compressed like prose, source code and CSV too: name the tools that retrieve in ``include``.
    """

    def __init__(
        self,
        compressor: RagCompressor | None = None,
        *,
        include: Iterable[BaseTool | str] | None = None,
        exclude: Iterable[BaseTool | str] = (),
        min_chars: int = _MIN_CHARS,
        query: Callable[[ToolCallRequest], str | None] | None = None,
        on_error: Literal["pass_through", "raise"] = "pass_through",
    ) -> None:
        """Check the configuration; nothing is loaded.

        Args:
            compressor: of a backend that makes text; None: ``RagCompressor()``.
            include: tools, or their names, whose results are compressed; None: all.
            exclude: tools, or their names, whose results are left as they are.
            min_chars: results with fewer characters of text than this are left as they are.
            query: finds the question; None: the tool call's argument ``query`` or ``question``, else the user's latest
                message.
            on_error: ``"pass_through"``: warn and hand the result on as it is; ``"raise"``.

        Raises:
            OptionError: a value is out of range, or the backend makes vectors, which no model that calls tools reads.
        """
        super().__init__()
        compressor = RagCompressor() if compressor is None else compressor
        if not isinstance(compressor, RagCompressor):
            raise rc.OptionError(
                f"compressor must be a RagCompressor, got {type(compressor).__name__}.",
                hint="RagCompressor(compressor=...) wraps an object of ragcompress.",
            )
        if compressor._adapter.info.kind == "vectors":
            raise rc.OptionError(
                f"{compressor.backend!r} makes vectors, which no model that calls tools can read.",
                hint="Take a backend that makes text: RagCompressor('recomp-extractive').",
            )
        if not isinstance(min_chars, int) or isinstance(min_chars, bool) or min_chars < 0:
            raise rc.OptionError(f"min_chars must be a whole number and at least 0, got {min_chars!r}.")
        if on_error not in ("pass_through", "raise"):
            raise rc.OptionError(f"on_error must be 'pass_through' or 'raise', got {on_error!r}.")
        self.compressor = compressor
        self.include = None if include is None else _names("include", include)
        self.exclude = _names("exclude", exclude)
        self.min_chars = min_chars
        self.query = query
        self.on_error = on_error
        self.tools = []

    @property
    def name(self) -> str:
        """Name in the agent, which wants another one for each middleware: the tools of choice are part of it."""
        chosen = [*sorted(self.include or ()), *(f"not {name}" for name in sorted(self.exclude))]
        return f"{type(self).__name__}({', '.join(chosen)})" if chosen else type(self).__name__

    def wrap_tool_call(self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Result]) -> Result:
        """Run a tool and compress what it returns.

        Args:
            request: the tool call.
            handler: runs the tool.

        Returns:
            The result, with less text.

        Raises:
            RagCompressError: compression failed and ``on_error`` is ``"raise"``, or an option is wrong.
        """
        result = handler(request)
        try:
            texts = self._texts(request, result)
            if texts is None:
                return result
            kept = self.compressor.compress_documents(texts.documents, self._question(request))
            return self._written(result, texts, kept)
        except Exception as error:  # fail open: the agent goes on, whatever went wrong
            return self._failed(error, result)

    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[Result]]
    ) -> Result:
        """Do the same off the event loop; see ``wrap_tool_call``."""
        result = await handler(request)
        try:
            texts = self._texts(request, result)
            if texts is None:
                return result
            kept = await self.compressor.acompress_documents(texts.documents, self._question(request))
            return self._written(result, texts, kept)
        except Exception as error:  # as above
            return self._failed(error, result)

    def _texts(self, request: ToolCallRequest, result: Result) -> Texts | None:
        name = request.tool_call["name"]
        chosen = (self.include is None or name in self.include) and name not in self.exclude
        if not chosen or getattr(request.tool, "return_direct", False):
            return None
        message = _message(result, request.tool_call["id"])
        return None if message is None else texts_of(message, self.min_chars)

    def _question(self, request: ToolCallRequest) -> str:
        if self.query is not None:
            return self.query(request) or ""
        return question_of(request.tool_call["args"], request.state) or ""

    def _written(self, result: Result, texts: Texts, kept: list[Any]) -> Result:
        message = shortened(
            texts,
            kept,
            keep_original=self.compressor.keep_original,
            between=lambda: _document_separator(self.compressor._adapter.compressor),
        )
        return message if isinstance(result, ToolMessage) else _with_message(result, texts.message, message)

    def _failed(self, error: Exception, result: Result) -> Result:
        # A wrong option is the caller's to repair: passing everything through would hide it for good.
        if self.on_error == "raise" or isinstance(error, rc.OptionError):
            raise error
        reason = f"{type(error).__name__}: {error}"
        warnings.warn(f"a tool's result goes on uncompressed: {reason}", rc.PassThroughWarning, stacklevel=3)
        return result


def _document_separator(compressor: rc.Compressor) -> str:
    """What stands between documents in the results of a compressor; of a pipeline, the last stage that says it."""
    stages = compressor.stages if isinstance(compressor, rc.Pipeline) else (compressor,)
    layouts = [
        each for stage in reversed(stages) if isinstance(each := getattr(stage.config, "layout", None), rc.Layout)
    ]
    return (layouts[0] if layouts else rc.Layout()).document_separator


def _names(argument: str, tools: Iterable[BaseTool | str]) -> frozenset[str]:
    if isinstance(tools, (str, BaseTool)) or not isinstance(tools, Iterable):
        raise rc.OptionError(f"{argument} must be a list of tools or their names, got {tools!r}.")
    found = [each.name if isinstance(each, BaseTool) else each for each in tools]
    if wrong := [each for each in found if not isinstance(each, str)]:
        raise rc.OptionError(f"{argument} must be a list of tools or their names, and {wrong[0]!r} is neither.")
    return frozenset(found)


def _message(result: Result, call_id: str | None) -> ToolMessage | None:
    """The tool's own message; a tool that changes the agent's state returns it within a command."""
    if isinstance(result, ToolMessage):
        return result
    for each in _messages(result):
        if isinstance(each, ToolMessage) and each.tool_call_id == call_id:
            return each
    return None


def _messages(command: Result) -> list[Any]:
    update = getattr(command, "update", None)
    found = update.get("messages") if isinstance(update, Mapping) else None
    return found if isinstance(found, list) else []


def _with_message(command: Result, old: ToolMessage, new: ToolMessage) -> Result:
    if new is old:
        return command
    messages = [new if each is old else each for each in _messages(command)]
    return replace(command, update={**command.update, "messages": messages})
