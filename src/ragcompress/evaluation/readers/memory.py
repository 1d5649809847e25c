"""The readers of latent backends in an evaluation: vectors and text, with the model's own published prompt."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ragcompress.errors import OptionError
from ragcompress.evaluation.operations import count_parameters
from ragcompress.evaluation.readers.base import ContextReader, Reading
from ragcompress.options import check_range
from ragcompress.reader import Reader
from ragcompress.tokens import TokenCounter, get_token_counter
from ragcompress.types import CompressedContext


class PromptCounter:
    """Counts the tokens of a text as a latent backend's reader reads it, without the special tokens around it."""

    def __init__(self, reader: Reader) -> None:
        """Take a reader.

        Args:
            reader: of a latent backend.
        """
        self._reader = reader
        self._n_around = reader.count("", prompt_mode="verbatim")
        self.name = reader.name

    def __call__(self, text: str) -> int:
        """Length of a text in tokens; a handle counts as the slots that it stands for."""
        return self._reader.count(text, prompt_mode="verbatim") - self._n_around


class MemoryReader(ContextReader):
    """Answers with the reader that belongs to a latent backend; contexts of text are read by the same model.

    The time to the first token is not told: these readers write whole answers.

    Attributes:
        reader: of the backend.
        max_new_tokens: longest answer, in tokens.
    """

    def __init__(
        self,
        reader: Reader,
        *,
        max_new_tokens: int = 128,
        token_counter: object = None,
        name: str | None = None,
    ) -> None:
        """Take a built reader, e.g. ``ragcompress.load("pisco", ...).reader()``.

        Args:
            reader: of a latent backend.
            max_new_tokens: longest answer, in tokens; the published prompts ask for whole sentences.
            token_counter: see ``ragcompress.tokens.get_token_counter``; None: the reader's own vocabulary.
            name: for reports; None: the model's.

        Raises:
            OptionError: it is no such reader, or a number is out of range.
        """
        if not isinstance(reader, Reader):
            raise OptionError(
                f"expected a ragcompress.Reader, got {type(reader).__name__}.",
                hint="A latent compressor gives its own: compressor.reader().",
            )
        check_range("max_new_tokens", max_new_tokens, at_least=1, whole=True)
        self.reader = reader
        self.max_new_tokens = max_new_tokens
        self.name = name or reader.name or type(reader).__name__
        counter: TokenCounter = PromptCounter(reader) if token_counter is None else get_token_counter(token_counter)
        self.token_counter = counter
        self.n_parameters = _n_parameters(reader)

    def settings(self) -> Mapping[str, Any]:
        """Say what the answers depend on; see ``ContextReader.settings``."""
        return {"name": self.name, "space": self.reader.space, "max_new_tokens": self.max_new_tokens}

    def read(self, contexts: Sequence[CompressedContext]) -> list[Reading]:
        """Answer greedily, with the published prompt; see ``ContextReader.read``.

        Raises:
            SpaceMismatchError: a context has vectors of another model.
            InputError: a question is too long for the model's window.
        """
        if not contexts:
            return []
        begin = time.perf_counter()
        answers = self.reader.generate(list(contexts), max_new_tokens=self.max_new_tokens, temperature=0.0)
        share = (time.perf_counter() - begin) * 1000 / len(contexts)
        return [Reading(answer.text, answer.n_prompt_slots, answer.n_new_tokens, total_ms=share) for answer in answers]


def _n_parameters(reader: Reader) -> int | None:
    """Of the decoder, where the reader is one of ours; a reader of someone else need not have one."""
    decoder = getattr(getattr(reader, "model", None), "decoder", None)
    model = getattr(decoder, "model", None)
    return None if model is None else count_parameters(model) or None
