"""What answers questions in an evaluation, whatever it is made of."""

from __future__ import annotations

import math
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ragcompress.errors import OptionError
from ragcompress.evaluation.prompts import short_answer_prompt
from ragcompress.evaluation.readers.failures import Patience, each
from ragcompress.tokens import TokenCounter, WordCounter
from ragcompress.types import CompressedContext

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader wrote for one prompt. Numbers that it does not tell are None.

    Attributes:
        text: as it was written.
        n_prompt_tokens: length of the prompt, memory slots included.
        n_new_tokens: length of the text.
        prefill_ms: time to the first token; in a batch, a share of it.
        total_ms: time to the last token; in a batch, a share of it.
    """

    text: str
    n_prompt_tokens: int | None = None
    n_new_tokens: int | None = None
    prefill_ms: float | None = None
    total_ms: float | None = None


def own_mark(thing: object) -> str:
    """Mark an object, so that no other one is taken for it.

    Args:
        thing: any that has attributes.

    Returns:
        Hexadecimal digits; always the same for this object.
    """
    mark: str = vars(thing).setdefault("_own_mark", uuid.uuid4().hex)
    return mark


def _checked(call: Callable[[Sequence[ItemT]], Sequence[Reading]]) -> Callable[[Sequence[ItemT]], Sequence[Reading]]:
    """Refuse what is no reading where it comes from, rather than where it is used."""

    def checked(items: Sequence[ItemT]) -> Sequence[Reading]:
        readings = call(items)
        if not isinstance(readings, (list, tuple)):
            kind = type(readings).__name__
            raise OptionError(f"the reader gave {kind}; expected a list with a Reading for each question.")
        for reading in readings:
            if not isinstance(reading, Reading) or not isinstance(reading.text, str):
                raise OptionError(f"the reader gave {reading!r:.80}; expected a Reading with a text for each question.")
            numbers = (reading.n_prompt_tokens, reading.n_new_tokens, reading.prefill_ms, reading.total_ms)
            if not all(number is None or 0 <= number < math.inf for number in numbers):
                raise OptionError(f"the reader gave numbers that cannot be: {numbers}; expected none below 0, or None.")
        return readings

    return checked


class ContextReader(ABC):
    """Answers the questions of contexts; what is measured is compared in its tokens.

    Attributes:
        name: for reports; says which model it is.
        token_counter: what a token is.
        n_parameters: of the model, embeddings of input and output aside, for estimates of operations; None: unknown.
    """

    name: str = ""
    token_counter: TokenCounter = WordCounter()
    n_parameters: int | None = None

    @abstractmethod
    def read(self, contexts: Sequence[CompressedContext]) -> list[Reading]:
        """Answer the questions of some contexts, in batches of the reader's own size.

        Args:
            contexts: any number.

        Returns:
            One reading a context.
        """

    def read_each(
        self, contexts: Sequence[CompressedContext], patience: Patience | None = None
    ) -> list[Reading | Exception]:
        """Answer the questions of some contexts; one that makes the reader raise does not take the others with it.

        Args:
            contexts: any number.
            patience: decides how many failures in a row are too many; None: five.

        Returns:
            One reading a context, or what was raised for it.

        Raises:
            InputError: too many questions in a row failed.
        """
        return each(_checked(self.read), contexts, patience)

    def settings(self) -> Mapping[str, Any]:
        """Say what the answers depend on beside the contexts; JSON-safe.

        A reader that does not say is another one each time that it is built: its answers are never used again.

        Returns:
            Model, number format, most new tokens and the like; equal settings give equal answers.
        """
        return {"name": self.name, "object": own_mark(self)}


class PromptReader(ContextReader):
    """A reader that is given a prompt: a few examples, then the context written out; see ``short_answer_prompt``.

    Attributes:
        max_new_tokens: longest answer, in tokens.
    """

    max_new_tokens: int = 32

    @abstractmethod
    def complete(self, prompts: Sequence[str], *, max_new_tokens: int) -> list[Reading]:
        """Go on with some prompts, greedily.

        Args:
            prompts: any number.
            max_new_tokens: of each.

        Returns:
            One reading a prompt, without the prompt.
        """

    def read(self, contexts: Sequence[CompressedContext]) -> list[Reading]:
        """Write the contexts into prompts, and go on with those; see ``ContextReader.read``."""
        prompts = [short_answer_prompt(context) for context in contexts]
        return self.complete(prompts, max_new_tokens=self.max_new_tokens)

    def complete_each(
        self, prompts: Sequence[str], *, max_new_tokens: int, patience: Patience | None = None
    ) -> list[Reading | Exception]:
        """Go on with some prompts; one that makes the reader raise does not take the others with it.

        Args:
            prompts: any number.
            max_new_tokens: of each.
            patience: see ``read_each``.

        Returns:
            One reading a prompt, or what was raised for it.

        Raises:
            InputError: too many prompts in a row failed.
        """
        return each(_checked(lambda part: self.complete(part, max_new_tokens=max_new_tokens)), prompts, patience)

    def read_each(
        self, contexts: Sequence[CompressedContext], patience: Patience | None = None
    ) -> list[Reading | Exception]:
        """Do the same as ``read``, with errors in their places; see ``ContextReader.read_each``."""
        patience = Patience() if patience is None else patience
        prompts: list[str | Exception] = []
        for context in contexts:
            try:
                prompts.append(short_answer_prompt(context))
            except Exception as error:
                patience.note(error)
                prompts.append(error)
        written = [prompt for prompt in prompts if not isinstance(prompt, Exception)]
        readings = iter(self.complete_each(written, max_new_tokens=self.max_new_tokens, patience=patience))
        return [prompt if isinstance(prompt, Exception) else next(readings) for prompt in prompts]
