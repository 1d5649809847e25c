"""What "a token" means: one counter, named, so that a number of tokens is never compared with another kind.

A counter is any callable ``text -> int`` with a ``name``. Nothing here downloads a vocabulary.
"""

from __future__ import annotations

import hashlib
import json
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

from ragcompress.errors import OptionError, unknown_name_message
from ragcompress.options import unique_name

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_WORD = re.compile(r"\w+|[^\w\s]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def encodable(text: str) -> str:
    """Replace lone surrogates, which no tokenizer or file can encode, by U+FFFD; the length stays the same.

    Args:
        text: any string.

    Returns:
        A string that encodes as UTF-8.
    """
    return text if text.isascii() else _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)


@runtime_checkable
class TokenCounter(Protocol):
    """Counts the tokens of a text; ``name`` says in which vocabulary."""

    @property
    def name(self) -> str:
        """Name of the vocabulary, e.g. ``"words"``."""

    def __call__(self, text: str) -> int:
        """Length of a text in tokens, without special tokens."""


@dataclass(frozen=True, slots=True)
class WordCounter:
    """Counts words and punctuation marks; needs no vocabulary, and reads shorter than a subword count."""

    name: str = "words"

    def __call__(self, text: str) -> int:
        """Count runs of word characters and single other visible characters.

        >>> WordCounter()("It's 3.14, isn't it?")
        12
        """
        return sum(1 for _ in _WORD.finditer(text))


@dataclass(frozen=True, slots=True)
class CharacterCounter:
    """Counts characters."""

    name: str = "characters"

    def __call__(self, text: str) -> int:
        """Count Unicode code points."""
        return len(text)


class TokenizerCounter:
    """Counts with a vocabulary of the ``tokenizers`` library.

    Attributes:
        vocabulary: what it is called where it came from; others may be called the same.
    """

    def __init__(self, tokenizer: Tokenizer, name: str) -> None:
        """Wrap a tokenizer that nobody else changes.

        Args:
            tokenizer: without truncation or padding; its special tokens are read as plain text.
            name: of the vocabulary; need not be unique.
        """
        self._tokenizer = tokenizer
        self.vocabulary = name

    @cached_property
    def name(self) -> str:
        """The vocabulary's name and a fingerprint of its rules, e.g. ``"all-MiniLM-L6-v2@5f0e3c9a"``."""
        # Folders of many models are called "model" or "checkpoint-500": by such a name alone, lengths in two
        # vocabularies would be taken for lengths in one. Computed when asked for: a large one takes a while.
        return f"{self.vocabulary}@{hashlib.sha256(self._tokenizer.to_str().encode()).hexdigest()[:8]}"

    def __call__(self, text: str) -> int:
        """Length of a text in tokens, without special tokens."""
        return len(self._tokenizer.encode(encodable(text), add_special_tokens=False))

    def count_many(self, texts: Sequence[str]) -> list[int]:
        """Lengths of several texts, counted in one call.

        Args:
            texts: any number.

        Returns:
            One length a text.
        """
        encodings = self._tokenizer.encode_batch_fast([encodable(text) for text in texts], add_special_tokens=False)
        return [len(encoding) for encoding in encodings]

    def __repr__(self) -> str:
        """Name of the vocabulary."""
        return f"TokenizerCounter({self.name!r})"


class CallableCounter:
    """Gives a caller's function the ``name`` that a counter needs."""

    def __init__(self, count: Callable[[str], int], name: str) -> None:
        """Wrap a function.

        Args:
            count: text -> number of tokens.
            name: of the vocabulary.
        """
        self._count = count
        self.name = name

    def __call__(self, text: str) -> int:
        """Ask the caller's function.

        Raises:
            OptionError: it gives something else than a number.
        """
        length = self._count(text)
        try:
            return operator.index(length)
        except TypeError as error:
            raise OptionError(
                f"the token counter {self.name} gave {type(length).__name__}; expected a whole number.",
                hint="Return the number of tokens, e.g. len(...).",
            ) from error


class PrivateTokenizer:
    """A ``tokenizers.Tokenizer`` whose copies read special tokens as it does.

    The library forgets that setting when it pickles or copies, and its class cannot be derived from.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Wrap a tokenizer that nobody else changes.

        Args:
            tokenizer: everything is asked of it.
        """
        object.__setattr__(self, "_tokenizer", tokenizer)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 (whatever the tokenizer has)
        """Ask the tokenizer."""
        return getattr(object.__getattribute__(self, "_tokenizer"), name)

    def __setattr__(self, name: str, value: object) -> None:
        """Set up the tokenizer."""
        setattr(object.__getattribute__(self, "_tokenizer"), name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        """Write the tokenizer and the setting that it would forget."""
        return _restored, (self.to_str(), self.encode_special_tokens)


def _restored(written: str, encode_special_tokens: bool) -> PrivateTokenizer:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(written)
    tokenizer.encode_special_tokens = encode_special_tokens
    return PrivateTokenizer(tokenizer)


def private_tokenizer(tokenizer: Any, *, max_length: int | None = None) -> Tokenizer:  # noqa: ANN401 (any HF tokenizer)
    """Copy the engine of a Hugging Face tokenizer.

    A shared engine keeps truncation and padding as state, which two threads would change under each other
    ("Already borrowed"). The copy is set up once and only read from then on. Special-token strings in the text are
    encoded as plain text: documents are untrusted.

    Args:
        tokenizer: a fast tokenizer of transformers, or a ``tokenizers.Tokenizer``.
        max_length: truncate to this many tokens, special tokens included; None: never.

    Returns:
        The copy, without padding.

    Raises:
        OptionError: the tokenizer has no such engine (a "slow" one).
    """
    from tokenizers import Tokenizer

    own = isinstance(tokenizer, (Tokenizer, PrivateTokenizer))
    engine = tokenizer if own else getattr(tokenizer, "backend_tokenizer", None)
    if engine is None:
        raise OptionError(
            f"{type(tokenizer).__name__} is not a fast tokenizer; ragcompress needs one.",
            hint="Load it with AutoTokenizer.from_pretrained(..., use_fast=True), or pass a function text -> int.",
        )
    private = Tokenizer.from_str(_without_special_pieces(engine.to_str()))
    private.no_padding()
    private.no_truncation()
    if max_length is not None:
        private.enable_truncation(max_length)
    private.encode_special_tokens = True
    return cast("Tokenizer", PrivateTokenizer(private))


def _without_special_pieces(written: str) -> str:
    """Make the special tokens of a Unigram vocabulary unreachable from text.

    SentencePiece vocabularies list them among the pieces, with the best score of all: ``</s>`` written out in a
    document would become the token itself, even where special tokens are to be read as plain text.

    Args:
        written: a tokenizer, as JSON.

    Returns:
        One with the same ids for every other text; what puts special tokens around a text knows them by their ids.
    """
    state = json.loads(written)
    if state["model"].get("type") != "Unigram":
        return written
    vocabulary: list[tuple[str, float]] = state["model"]["vocab"]
    special = {token["content"] for token in state["added_tokens"] if token["special"]}
    special &= {piece for piece, _ in vocabulary}
    if state["model"].get("unk_id") is not None:
        special -= {vocabulary[state["model"]["unk_id"]][0]}
    # Spaces are split at or become something else before pieces are looked for: nobody can write such a name.
    state["model"]["vocab"] = [
        (f"{piece} is out of reach" if piece in special else piece, score) for piece, score in vocabulary
    ]
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] not in special]
    return json.dumps(state)


def count_all(counter: TokenCounter, texts: Sequence[str]) -> list[int]:
    """Count several texts, in one call where the counter can.

    Args:
        counter: any counter.
        texts: any number.

    Returns:
        One length a text.
    """
    count_many = getattr(counter, "count_many", None)
    return list(count_many(texts)) if count_many is not None else [int(counter(text)) for text in texts]


def get_token_counter(spec: object) -> TokenCounter:
    """Turn an option into a counter.

    Args:
        spec: ``"words"``, ``"characters"``, a fast Hugging Face tokenizer, or a callable ``text -> int``
            (its ``name`` attribute, if it has one, names the vocabulary).

    Returns:
        A counter.

    Raises:
        OptionError: an unknown name, or an object that cannot count.
    """
    named: dict[str, Callable[[], TokenCounter]] = {"words": WordCounter, "characters": CharacterCounter}
    if isinstance(spec, str):
        if spec not in named:
            raise OptionError(
                unknown_name_message("token counter", spec, sorted(named)),
                hint="A tokenizer object or any function text -> int is accepted too.",
            )
        return named[spec]()
    if isinstance(spec, TokenCounter):
        return spec
    if hasattr(spec, "backend_tokenizer") or type(spec).__module__.startswith("tokenizers"):
        name = str(getattr(spec, "name_or_path", "") or type(spec).__name__)
        return TokenizerCounter(private_tokenizer(spec), name)
    if callable(spec):
        return CallableCounter(spec, unique_name(spec))
    raise OptionError(
        f"token_counter must be a name, a tokenizer or a function text -> int, got {type(spec).__name__}."
    )
