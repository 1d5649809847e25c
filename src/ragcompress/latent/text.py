"""Tokenizers whose special tokens only our own templates can write.

Documents and questions are untrusted: a ``</s>`` or ``<MEM0>`` in them must reach the model as plain text.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ragcompress.errors import CheckpointError, InputError, OptionError
from ragcompress.tokens import TokenizerCounter, encodable, private_tokenizer
from ragcompress.types import neutralise

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer
    from transformers import PreTrainedTokenizerBase

# One character for one character, so that offsets stay true; none of them is folded back by Unicode normalisation.
_LOOK_ALIKES = {"<": "\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}", "[": "\N{LEFT SQUARE BRACKET WITH QUILL}"}
_OTHER = "\N{REPLACEMENT CHARACTER}"


class Tokenized(NamedTuple):
    """One text in the model's vocabulary.

    Attributes:
        ids: (n_tokens,).
        end: how many characters of the (last) piece of user text were read.
    """

    ids: list[int]
    end: int


def borrow_ends(tokenizer: PreTrainedTokenizerBase) -> None:
    """Give a tokenizer without BOS or EOS its first and second additional special token in their place.

    CLaRa's rule for Qwen, whose tokenizers have no BOS.

    Args:
        tokenizer: changed in place; one that has both, or no additional tokens, stays as it is.
    """
    extra = list(getattr(tokenizer, "extra_special_tokens", None) or [])
    if tokenizer.bos_token is None and extra:
        tokenizer.bos_token = str(extra[0])
    if tokenizer.eos_token is None and len(extra) > 1:
        tokenizer.eos_token = str(extra[1])


class TemplateTokenizer:
    """A fast tokenizer that may be used from several threads and keeps untrusted text apart from its templates."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, added: Sequence[str] = (), *, name: str = "") -> None:
        """Add tokens and take a private copy of the engine.

        Args:
            tokenizer: a fast tokenizer; changed in place: pad falls back to BOS, ``added`` joins its vocabulary.
            added: special tokens in the published order; their ids follow on the base vocabulary.
            name: of the vocabulary, for token counts.

        Raises:
            OptionError: it is not a fast tokenizer.
        """
        if added:
            tokenizer.add_special_tokens({"additional_special_tokens": list(added)})
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.bos_token or tokenizer.eos_token
        self.tokenizer = tokenizer
        self.bos = tokenizer.bos_token or ""
        self.eos = tokenizer.eos_token or ""
        self.pad_id = int(tokenizer.pad_token_id) if tokenizer.pad_token_id is not None else 0
        self.counter = TokenizerCounter(private_tokenizer(tokenizer), name or _short_name(tokenizer))
        self._plain = private_tokenizer(tokenizer)
        self._plain.encode_special_tokens = False
        self._truncating: dict[tuple[int, str], Tokenizer] = {}
        self._lock = threading.Lock()
        special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
        special |= set(tokenizer.all_special_tokens)
        longest_first = sorted(filter(None, special), key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    @property
    def fingerprint(self) -> str:
        """Of the vocabulary and its rules, added tokens included."""
        return hashlib.sha256(self._plain.to_str().encode()).hexdigest()[:16]

    def __len__(self) -> int:
        """Size of the vocabulary, added tokens included: how many rows the embeddings must have."""
        return len(self.tokenizer)

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the lock, which cannot be pickled, and engines that are made anew."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_lock", "_truncating")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore, with a new lock."""
        self.__dict__.update(state)
        self._truncating = {}
        self._lock = threading.Lock()

    def id_of(self, token: str) -> int:
        """The id of a token that must exist.

        Args:
            token: e.g. ``"<MEM0>"``.

        Returns:
            Its id.

        Raises:
            CheckpointError: the vocabulary does not hold it.
        """
        found = self._plain.token_to_id(token)
        if found is None:
            raise CheckpointError(f"the tokenizer {self.counter.vocabulary!r} has no token {token!r}.")
        return int(found)

    def harmless(self, text: str) -> str:
        """Make special tokens and handles in untrusted text plain text; length and offsets stay the same.

        Args:
            text: of a document or a question.

        Returns:
            The text with the first character of each such string replaced by a look-alike.
        """
        text = neutralise(encodable(text))
        # A replacement may uncover another match that overlapped with it.
        while self._special is not None and self._special.search(text):
            text = self._special.sub(_disarmed, text)
        return text

    def encode(
        self,
        texts: Sequence[str] | Sequence[tuple[str, str]],
        *,
        special_tokens: bool,
        max_length: int | None = None,
        ends: Sequence[int] | None = None,
    ) -> list[Tokenized]:
        """Encode texts, or pairs of texts, that are harmless already.

        Args:
            texts: (n_texts,) strings, or pairs of which only the second may be cut off.
            special_tokens: whether the tokenizer puts its own around them.
            max_length: cut off on the right; None: never.
            ends: (n_texts,) offset behind the user's text in each string; None: the end of the string.

        Returns:
            (n_texts,) ids, with the number of characters that were read up to ``ends``.

        Raises:
            InputError: the first text of a pair alone is longer than ``max_length``.
        """
        if not texts:
            return []
        pairs = not isinstance(texts[0], str)
        engine = (
            self._plain if max_length is None else self._cut_at(max_length, "only_second" if pairs else "longest_first")
        )
        try:
            encodings = engine.encode_batch(list(texts), add_special_tokens=special_tokens)
        except Exception as error:  # the Rust library raises plain exceptions
            raise InputError(
                f"a question takes all of the {max_length} tokens that the compressor reads, and leaves no room for a "
                "document.",
                hint="Shorten the question, or raise max_length.",
            ) from error
        results = []
        for index, encoding in enumerate(encodings):
            last = texts[index] if isinstance(texts[index], str) else texts[index][1]
            limit = len(last) if ends is None else ends[index]
            results.append(Tokenized(encoding.ids, _read_until(encoding, 1 if pairs else 0, limit)))
        return results

    def _cut_at(self, max_length: int, strategy: str) -> Tokenizer:
        """An engine of its own for each limit: truncation is state, which threads would change under each other."""
        with self._lock:
            engine = self._truncating.get((max_length, strategy))
            if engine is None:
                engine = private_tokenizer(self.tokenizer)
                engine.encode_special_tokens = False
                engine.enable_truncation(max_length, strategy=strategy)
                self._truncating[max_length, strategy] = engine
            return engine

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Where the tokens of a harmless text lie.

        Args:
            text: harmless.

        Returns:
            (n_tokens,) half-open character spans.
        """
        return list(self._plain.encode(text, add_special_tokens=False).offsets)

    def decode(self, ids: Sequence[int]) -> str:
        """Write ids out as text, special tokens left out.

        Args:
            ids: (n_tokens,).

        Returns:
            The text.
        """
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))


def _disarmed(match: re.Match[str]) -> str:
    found = match.group()
    return _LOOK_ALIKES.get(found[0], _OTHER) + found[1:]


def _read_until(encoding: Encoding, sequence: int, limit: int) -> int:
    """How far the ids of an encoding reach into its (last) text, but for what lies behind ``limit``."""
    for (start, end), of in zip(reversed(encoding.offsets), reversed(encoding.sequence_ids), strict=True):
        if of == sequence and start < end:
            return min(end, limit)
    return 0


def _short_name(tokenizer: PreTrainedTokenizerBase) -> str:
    return str(tokenizer.name_or_path or type(tokenizer).__name__).rstrip("/").rpartition("/")[2]


def render_chat(tokenizer: PreTrainedTokenizerBase, system: str, user: str, assistant: str | None = None) -> str:
    """Write a question by the base model's own chat template.

    Args:
        tokenizer: of the base model.
        system: the instruction.
        user: documents and question.
        assistant: an answer to learn from; None: the template's opening of one.

    Returns:
        The prompt. Templates that know no system role get both in one user message, joined by a line end, as
        published.

    Raises:
        OptionError: the base model has no chat template, or the template refuses the messages.
    """
    from jinja2 import TemplateError

    if not getattr(tokenizer, "chat_template", None):
        raise OptionError(
            f"the tokenizer of {tokenizer.name_or_path!r} has no chat template.",
            hint="Pass the instruction-tuned base model as base=, as the checkpoint was trained with.",
        )
    answer = [] if assistant is None else [{"role": "assistant", "content": assistant}]
    write = partial(tokenizer.apply_chat_template, tokenize=False, add_generation_prompt=assistant is None)
    both = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    try:
        return str(write(both + answer))
    except TemplateError as error:
        if "System role not supported" not in str(error):
            raise OptionError(
                f"the chat template of {tokenizer.name_or_path!r} refuses the published prompt: {error}.",
                hint="A newer version of the base model's tokenizer may accept a system role.",
            ) from error
    merged = [{"role": "user", "content": f"{system}\n{user}"}]
    return str(write(merged + answer))
