"""Sentence encoders: text -> one vector, the same weights for queries and sentences.

``SentenceEncoder`` is the published forward pass; ``SentenceTransformerEncoder`` wraps whatever object the user
brings and leaves its pooling, prompts and limits alone.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from ragcompress.checkpoints import fingerprint_tensors
from ragcompress.errors import OptionError
from ragcompress.nn.batching import length_buckets, pad
from ragcompress.nn.pooling import first_token, masked_mean
from ragcompress.tokens import TokenizerCounter, encodable, private_tokenizer

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

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
    def counter(self) -> TokenizerCounter:
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
        batch_tokens: int = 2048,
        fingerprint: str | None = None,
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
        self.max_length = _max_length(model, tokenizer, max_length)
        self._engine = private_tokenizer(tokenizer, max_length=self.max_length)
        self._pad_id = int(getattr(tokenizer, "pad_token_id", None) or 0)
        weights = fingerprint or fingerprint_tensors(model.state_dict(), model.config.to_json_string())
        # The same weights in another number format, on another tokenizer or with another limit give other vectors.
        settings = f"{weights}|{model.dtype}|{pooling}|{self.max_length}|{self._engine.to_str()}"
        self.fingerprint = hashlib.sha256(settings.encode()).hexdigest()[:16]
        name = str(getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__)
        self.counter = TokenizerCounter(private_tokenizer(tokenizer), name.rstrip("/").rsplit("/", 1)[-1])

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return torch.device(self.model.device)

    def encode(self, texts: Sequence[str], *, query: bool = False) -> Encoded:
        """Encode texts in batches of similar length.

        Args:
            texts: (n_texts,); equal ones are encoded once, and so get the very same vector.
            query: ignored: queries and sentences share the weights and take no prefix.

        Returns:
            The vectors.
        """
        places = {text: index for index, text in enumerate(dict.fromkeys(texts))}
        if not places:
            return Encoded(torch.zeros(0, self.model.config.hidden_size), [])
        encodings = self._engine.encode_batch_fast([encodable(text) for text in places])
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
            normalize: whether vectors are to be scaled to length one in addition.
        """
        self.model = model
        self.normalize = normalize
        # Its tokenizer keeps truncation and padding as state, which two threads would change under each other.
        self._lock = threading.Lock()
        self._engine = private_tokenizer(model.tokenizer)
        settings = f"{model.max_seq_length}|{model.prompts}|{[str(module) for module in model]}|{self._engine.to_str()}"
        self.fingerprint = fingerprint_tensors(model.state_dict(), settings)
        name = str(getattr(model.tokenizer, "name_or_path", "") or type(model.tokenizer).__name__)
        self.counter = TokenizerCounter(self._engine, name.rstrip("/").rsplit("/", 1)[-1])

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
        clean = [encodable(text) for text in places]
        encode = self.model.encode_query if query else self.model.encode_document
        with self._lock:
            vectors = encode(clean, convert_to_tensor=True, show_progress_bar=False)
        limit = self.model.max_seq_length or float("inf")
        lengths = [len(encoding) for encoding in self._engine.encode_batch_fast(clean)]
        order = [places[text] for text in texts]
        return Encoded(vectors.float().cpu()[order], [lengths[index] > limit for index in order])

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the lock, which cannot be pickled."""
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore, with a new lock."""
        self.__dict__.update(state)
        self._lock = threading.Lock()


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
