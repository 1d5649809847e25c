"""Sentence encoders: text -> one vector, the same weights for queries and sentences.

``SentenceEncoder`` is the published forward pass; ``SentenceTransformerEncoder`` wraps whatever object the user
brings and leaves its pooling, prompts and limits alone.
"""

from __future__ import annotations

import hashlib
import json
import threading
import weakref
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from ragcompress.checkpoints import fingerprint_tensors
from ragcompress.errors import OptionError
from ragcompress.nn.batching import length_buckets, pad
from ragcompress.nn.pooling import first_token, masked_mean
from ragcompress.tokens import TokenCounter, TokenizerCounter, WordCounter, encodable, private_tokenizer

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from ragcompress.backends.recomp_extractive.onnx_model import OnnxModel

POOLINGS = {"mean": masked_mean, "cls": first_token}


class Encoded(NamedTuple):
    """Vectors of some texts.

    Attributes:
        vectors: (n_texts, width), float32 on the CPU.
        truncated: (n_texts,), whether the end of a text was cut off before it was read.
    """

    vectors: Tensor
    truncated: list[bool]


@runtime_checkable
class Encoder(Protocol):
    """What ``RecompExtractive`` needs of an encoder; safe to call from several threads."""

    @property
    def fingerprint(self) -> str:
        """Changes with everything that changes a vector: weights, dtype, pooling, limits."""

    @property
    def normalize(self) -> bool:
        """Whether the checkpoint declares that its vectors are compared at length one."""

    @property
    def counter(self) -> TokenCounter:
        """Counts in the encoder's vocabulary."""

    def encode(self, texts: Sequence[str], *, query: bool = False) -> Encoded:
        """Encode texts, of queries or of sentences."""


class SentenceEncoder:
    """Masked mean (or [CLS]) over the last hidden state, as RECOMP's released code computes it."""

    def __init__(
        self,
        model: PreTrainedModel | OnnxModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        pooling: str = "mean",
        normalize: bool = False,
        max_length: int | None = None,
        batch_tokens: int = 512,
        fingerprint: str | None = None,
        name: str | None = None,
        query_prompt: str = "",
        document_prompt: str = "",
    ) -> None:
        """Take built objects; ``load_encoder`` reads them from a folder.

        Args:
            model: an encoder of transformers, or its graph.
            tokenizer: its fast tokenizer.
            pooling: ``"mean"`` as published, ``"cls"`` for checkpoints that say so.
            normalize: what the checkpoint declares; the vectors here are never scaled.
            max_length: tokens read of one text, special tokens included; None: the tokenizer's own limit (RECOMP: 512,
                not the 100 in its ``sentence_bert_config.json``).
            batch_tokens: padded size of a batch, in tokens.
            fingerprint: of the weights, if it is known already.
            query_prompt: put in front of every query; RECOMP's checkpoints have none.
            document_prompt: put in front of every sentence.
            name: of the model, for the token counter; None: the last part of the tokenizer's.

        Raises:
            OptionError: unknown pooling, or a limit that the model cannot read.
        """
        if pooling not in POOLINGS:
            raise OptionError(f"pooling must be one of {', '.join(POOLINGS)}, got {pooling!r}.")
        model.eval()
        self.model = model
        self.tokenizer = tokenizer
        self.pooling = pooling
        self.normalize = normalize
        self.batch_tokens = batch_tokens
        self.query_prompt = query_prompt
        self.document_prompt = document_prompt
        self.max_length = _max_length(model, tokenizer, max_length)
        self._engine = private_tokenizer(tokenizer, max_length=self.max_length)
        self._pad_id = int(getattr(tokenizer, "pad_token_id", None) or 0)
        weights = fingerprint or fingerprint_tensors(model.state_dict())
        # The same weights in another number format, on another tokenizer or with another limit give other vectors.
        settings = [weights, _architecture(model.config), model.dtype, pooling, self.max_length]
        settings += [query_prompt, document_prompt, self._engine.to_str()]
        self.fingerprint = hashlib.sha256("|".join(map(str, settings)).encode()).hexdigest()[:16]
        self.counter = TokenizerCounter(private_tokenizer(tokenizer), name or _short_name(tokenizer))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return torch.device(self.model.device)

    def encode(self, texts: Sequence[str], *, query: bool = False) -> Encoded:
        """Encode texts in batches of similar length.

        Args:
            texts: (n_texts,); equal ones are encoded once, and so get the very same vector.
            query: whether they are queries: they share the weights with sentences, but may have a prompt.

        Returns:
            The vectors.
        """
        places = {text: index for index, text in enumerate(dict.fromkeys(texts))}
        if not places:
            return Encoded(torch.zeros(0, self.model.config.hidden_size), [])
        prompt = self.query_prompt if query else self.document_prompt
        encodings = self._engine.encode_batch_fast([prompt + encodable(text) for text in places])
        rows = [encoding.ids for encoding in encodings]
        vectors = torch.empty(len(rows), self.model.config.hidden_size)
        pool = POOLINGS[self.pooling]
        with torch.no_grad():
            for batch in length_buckets([len(row) for row in rows], self.batch_tokens):
                ids, mask = pad([rows[index] for index in batch], self._pad_id, self.device)
                states = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
                vectors[batch] = pool(states.float(), mask).cpu()
        order = [places[text] for text in texts]
        return Encoded(vectors[order], [bool(encodings[index].overflowing) for index in order])


class SentenceTransformerEncoder:
    """A ``SentenceTransformer`` of the user's, with its own pooling, prompts, normalisation and length limit."""

    def __init__(self, model: SentenceTransformer, *, normalize: bool = False) -> None:
        """Take the user's object.

        Args:
            model: it is used as it is.
            normalize: whether vectors are to be scaled to length one although the object does not do it.
        """
        self.model = model
        self.normalize = normalize or any(type(module).__name__ == "Normalize" for module in model)
        self._lock = _lock_of(model)
        self._special = [token for token in getattr(model.tokenizer, "all_special_tokens", ()) if len(token) > 1]
        self._engine: Tokenizer | None = None
        with suppress(OptionError):  # a bag of words, say, has none, and reads texts of any length
            self._engine = private_tokenizer(model.tokenizer)
        settings = f"{model.max_seq_length}|{model.truncate_dim}|{model.prompts}|{[str(module) for module in model]}"
        settings += self._engine.to_str() if self._engine is not None else ""
        self.fingerprint = fingerprint_tensors(model.state_dict(), settings)
        self.counter: TokenCounter = (
            TokenizerCounter(self._engine, _short_name(model.tokenizer)) if self._engine is not None else WordCounter()
        )

    def encode(self, texts: Sequence[str], *, query: bool = False) -> Encoded:
        """Encode texts the way the object itself does for queries or documents.

        Args:
            texts: (n_texts,); equal ones are encoded once.
            query: whether they are queries: the object may have a prompt for those.

        Returns:
            The vectors.
        """
        places = {text: index for index, text in enumerate(dict.fromkeys(texts))}
        if not places:
            return Encoded(torch.zeros(0, self.model.get_embedding_dimension() or 0), [])
        clean = [self._harmless(encodable(text)) for text in places]
        encode = self.model.encode_query if query else self.model.encode_document
        with self._lock:
            vectors = encode(clean, convert_to_tensor=True, show_progress_bar=False)
        limit = self.model.max_seq_length or float("inf")
        lengths = [0] * len(clean)
        if self._engine is not None:
            lengths = [len(encoding) for encoding in self._engine.encode_batch_fast(clean)]
        order = [places[text] for text in texts]
        return Encoded(vectors.float().cpu()[order], [lengths[index] > limit for index in order])

    def _harmless(self, text: str) -> str:
        """Break special-token strings apart: the object's tokenizer would read them as the tokens themselves."""
        for token in self._special:
            if token in text:
                text = text.replace(token, f"{token[0]} {token[1:]}")
        return text

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the lock, which cannot be pickled."""
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore, with a lock of this process."""
        self.__dict__.update(state)
        self._lock = _lock_of(self.model)


# A tokenizer of transformers keeps truncation and padding as state, which two threads would change under each other;
# so the lock belongs to the object that the user brought, however many compressors use it.
_LOCKS: weakref.WeakKeyDictionary[SentenceTransformer, threading.Lock] = weakref.WeakKeyDictionary()
_LOCKS_LOCK = threading.Lock()


def _lock_of(model: SentenceTransformer) -> threading.Lock:
    with _LOCKS_LOCK:
        return _LOCKS.setdefault(model, threading.Lock())


def as_encoder(encoder: Encoder | SentenceTransformer) -> Encoder:
    """Accept a ``SentenceTransformer`` where an encoder is expected.

    Args:
        encoder: either.

    Returns:
        An encoder.

    Raises:
        OptionError: it is neither.
    """
    if isinstance(encoder, (SentenceEncoder, SentenceTransformerEncoder)):
        return encoder
    # Asked by name: importing the package only to compare classes would take seconds.
    if any(base.__name__ == "SentenceTransformer" for base in type(encoder).__mro__):
        return SentenceTransformerEncoder(encoder)  # type: ignore[arg-type]
    if isinstance(encoder, Encoder):
        return encoder
    raise OptionError(
        f"encoder must be a SentenceEncoder, a SentenceTransformer or have their methods, "
        f"got {type(encoder).__name__}.",
        hint="To load one from a path use ragcompress.load('recomp-extractive', path).",
    )


def _architecture(config: PretrainedConfig) -> str:
    """What of a configuration changes a vector; names, versions and the dtype on disk do not."""
    idle = {"transformers_version", "_name_or_path", "dtype", "torch_dtype", "architectures"}
    values = {name: value for name, value in config.to_dict().items() if name not in idle}
    return json.dumps(values, sort_keys=True, default=str)


def _short_name(tokenizer: object) -> str:
    """Last part of the path or hub id that a tokenizer was read from."""
    name = str(getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__)
    return name.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1]


def _max_length(model: PreTrainedModel | OnnxModel, tokenizer: PreTrainedTokenizerBase, wanted: int | None) -> int:
    """Tokens that the model reads of one text."""
    # A tokenizer without a limit of its own reports a huge number; 512 is what every published checkpoint has.
    own = int(tokenizer.model_max_length) if tokenizer.model_max_length < 1_000_000 else 512
    positions = int(getattr(model.config, "max_position_embeddings", 0) or own)
    if wanted is None:
        return min(own, positions)
    if not 3 <= wanted <= positions:
        raise OptionError(f"max_length must be from 3 to the model's {positions} positions, got {wanted!r}.")
    return wanted
