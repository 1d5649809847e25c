"""Language models of LangChain and LlamaIndex as readers; told apart by their methods, no framework is imported."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ragcompress.errors import InputError, OptionError
from ragcompress.evaluation.readers.base import PromptReader, Reading, own_mark
from ragcompress.evaluation.readers.failures import Patience, each, raised
from ragcompress.options import check_range
from ragcompress.tokens import encodable, get_token_counter

_NAMES = ("model_name", "model", "model_id", "repo_id", "deployment_name")
_SETTINGS = ("temperature", "max_tokens", "max_new_tokens", "num_predict", "top_p", "seed")
# What the two frameworks' integrations call the numbers that providers send along.
_USAGE = (("input_tokens", "output_tokens"), ("prompt_tokens", "completion_tokens"))


def is_framework_model(thing: object) -> bool:
    """Whether an object looks like a language model of LangChain (``invoke``) or LlamaIndex (``complete``).

    Args:
        thing: any.

    Returns:
        True for either.
    """
    return _is_langchain(thing) or _is_llama_index(thing)


class FrameworkReader(PromptReader):
    """Reads prompts with an LLM or chat model object of LangChain, or an LLM object of LlamaIndex.

    How it decodes is the object's own affair: set its temperature to 0 and limit its answers when you build it.

    Attributes:
        model: the object.
    """

    def __init__(
        self,
        model: Any,  # noqa: ANN401 (of either framework)
        *,
        name: str | None = None,
        token_counter: object = None,
        concurrency: int = 4,
    ) -> None:
        """Take a built object.

        Args:
            model: has ``invoke(prompt)``, which gives a text or a message, or ``complete(prompt)``, which gives
                something with a ``text``.
            name: for reports; None: the name of the model that the object tells. One that tells none, such as a chain,
                is called like its class, and taken for another one each time.
            token_counter: what a token is; see ``ragcompress.tokens.get_token_counter``. None: a word.
            concurrency: how many prompts LangChain's ``batch`` is given at a time.

        Raises:
            OptionError: it is no such object, or a value is out of range.
        """
        check_range("concurrency", concurrency, at_least=1, whole=True)
        if not is_framework_model(model):
            raise OptionError(
                f"{type(model).__name__} is no language model of LangChain or LlamaIndex: it has neither invoke() nor "
                "complete()."
            )
        self.model = model
        self.framework = "langchain" if _is_langchain(model) else "llama-index"
        told = name or _name(model)
        self.name = told or type(model).__name__
        self._mark = {} if told else {"object": own_mark(self)}
        self.token_counter = get_token_counter(token_counter or "words")
        self.concurrency = concurrency

    def settings(self) -> Mapping[str, Any]:
        """Say what the answers depend on, as far as the object tells; see ``ContextReader.settings``."""
        told = {name: getattr(self.model, name, None) for name in _SETTINGS}
        return {
            "name": self.name,
            **self._mark,
            "class": f"{type(self.model).__module__}.{type(self.model).__qualname__}",
            **{name: value for name, value in told.items() if isinstance(value, (int, float))},
        }

    def complete(self, prompts: Sequence[str], *, max_new_tokens: int) -> list[Reading]:
        """Go on with some prompts; see ``PromptReader.complete``. ``max_new_tokens`` is the object's own affair."""
        return raised(self.complete_each(prompts, max_new_tokens=max_new_tokens))

    def complete_each(
        self, prompts: Sequence[str], *, max_new_tokens: int, patience: Patience | None = None
    ) -> list[Reading | Exception]:
        """Go on with some prompts, in LangChain's batches; see ``PromptReader.complete_each``."""
        patience = Patience() if patience is None else patience
        batched = self.framework == "langchain" and callable(getattr(self.model, "batch", None))
        size = self.concurrency if batched else 1
        outcomes: list[Reading | Exception] = []
        for start in range(0, len(prompts), size):
            outcomes += self._portion([encodable(prompt) for prompt in prompts[start : start + size]], patience)
        return outcomes

    def _portion(self, prompts: list[str], patience: Patience) -> list[Reading | Exception]:
        outcomes = self._batch(prompts) if len(prompts) > 1 else []
        # Some classes report the failure of one as everybody's: then each is asked on its own.
        if all(isinstance(outcome, Exception) for outcome in outcomes):
            return [outcome for prompt in prompts for outcome in each(self._one, [prompt], patience)]
        for outcome in outcomes:
            patience.note(outcome)
        return outcomes

    def _batch(self, prompts: list[str]) -> list[Reading | Exception]:
        begin = time.perf_counter()
        settings = {"max_concurrency": self.concurrency}
        replies = self.model.batch(prompts, config=settings, return_exceptions=True)
        share = (time.perf_counter() - begin) * 1000 / len(prompts)
        outcomes: list[Reading | Exception] = []
        for reply in replies:
            try:
                outcomes.append(reply if isinstance(reply, Exception) else _reading(reply, share))
            except InputError as error:
                outcomes.append(error)
        return outcomes

    def _one(self, prompts: Sequence[str]) -> list[Reading]:
        ask: Callable[[str], Any] = self.model.invoke if self.framework == "langchain" else self.model.complete
        begin = time.perf_counter()
        reply = ask(prompts[0])
        return [_reading(reply, (time.perf_counter() - begin) * 1000)]


def text_of(content: object) -> str | None:
    """Read the text out of a message's content.

    Args:
        content: a text, or a list of texts and of blocks, of which those of type ``"text"`` count.

    Returns:
        The text; None: it is neither.
    """
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return None
    pieces = []
    for block in content:
        text = block.get("text") if isinstance(block, Mapping) and block.get("type", "text") == "text" else block
        pieces.append(text if isinstance(text, str) else "")
    return "".join(pieces)


def _reading(reply: Any, total_ms: float) -> Reading:  # noqa: ANN401 (of either framework)
    found = next((getattr(reply, name) for name in ("content", "text") if hasattr(reply, name)), reply)
    text = text_of(found)
    if text is None:
        raise InputError(f"the model gave {type(reply).__name__} without a text; expected a text or a message.")
    text = encodable(text)
    usage = getattr(reply, "usage_metadata", None) or getattr(reply, "additional_kwargs", None)
    usage = usage if isinstance(usage, Mapping) else {}
    for before, new in _USAGE:
        if isinstance(usage.get(before), int) and isinstance(usage.get(new), int):
            return Reading(text, usage[before], usage[new], total_ms=total_ms)
    return Reading(text, total_ms=total_ms)


def _is_langchain(thing: object) -> bool:
    return not isinstance(thing, type) and callable(getattr(thing, "invoke", None))


def _is_llama_index(thing: object) -> bool:
    return not isinstance(thing, type) and callable(getattr(thing, "complete", None)) and hasattr(thing, "metadata")


def _name(model: object) -> str | None:
    told = [getattr(model, name, None) for name in _NAMES]
    told.append(getattr(getattr(model, "metadata", None), "model_name", None))
    return next((name for name in told if isinstance(name, str) and name and name != "unknown"), None)
