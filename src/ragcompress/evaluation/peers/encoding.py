"""Vectors for peers that need some: of the very encoder that our own default has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from ragcompress.errors import OptionError
from ragcompress.registry import load


class Encodes(Protocol):
    """Text -> vector, as the encoder of ``recomp-extractive`` does it."""

    def encode(self, texts: Sequence[str], *, query: bool = False) -> Any:  # noqa: ANN401 (a tensor in a tuple)
        """Encode texts; ``vectors`` of the result is (n_texts, width)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig:
    """Which encoder a peer is given.

    Attributes:
        checkpoint: of ``recomp-extractive``; None: its default, all-MiniLM-L6-v2.
        device: ``"cuda"``, ``"mps"``, ``"cpu"``; None: the best there is.
    """

    checkpoint: str | None = None
    device: str | None = None

    def __post_init__(self) -> None:
        """Check types.

        Raises:
            OptionError: one is wrong.
        """
        for name in ("checkpoint", "device"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise OptionError(f"{name} must be a string or None, got {type(value).__name__}.")

    def load_encoder(self) -> Encodes:
        """Load the encoder.

        Returns:
            What turns text into vectors.

        Raises:
            CheckpointError: it cannot be found or does not fit.
        """
        compressor: Any = load("recomp-extractive", self.checkpoint, device=self.device)
        encoder: Encodes = compressor.encoder
        return encoder


class Vectors:
    """An encoder behind plain lists of numbers, which is what frameworks exchange."""

    def __init__(self, encoder: Encodes) -> None:
        """Wrap an encoder.

        Args:
            encoder: the documents' and the questions'.
        """
        self._encoder = encoder
        self._known: dict[tuple[bool, tuple[str, ...]], list[list[float]]] | None = None

    def of(self, texts: Sequence[str], *, query: bool = False) -> list[list[float]]:
        """Encode texts.

        Args:
            texts: (n_texts,).
            query: whether they are questions.

        Returns:
            (n_texts,) lists of the encoder's width.
        """
        if not texts:
            return []
        key = (query, tuple(texts))
        if self._known is not None and key in self._known:
            return self._known[key]
        vectors: list[list[float]] = self._encoder.encode(list(texts), query=query).vectors.tolist()
        if self._known is not None:
            self._known[key] = vectors
        return vectors

    @contextmanager
    def remembered(self) -> Iterator[None]:
        """Encode the same texts once, until the end of the block.

        Yields:
            Nothing.
        """
        self._known = {}
        try:
            yield
        finally:
            self._known = None
