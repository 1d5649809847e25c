"""What turns sentences into vectors: objects, compressors that have one, and backends by name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from ragcompress.composing.plain import check_stage, load_stage
from ragcompress.compressor import Compressor
from ragcompress.errors import OptionError
from ragcompress.registry import find


@runtime_checkable
class TextEncoder(Protocol):
    """Anything with ``encode(texts)``: ours, or a ``SentenceTransformer``."""

    def encode(self, texts: list[str], /) -> Any:  # noqa: ANN401 (a tensor, an array, or a tuple that begins with one)
        """Texts -> (n_texts, width) vectors."""


def check_encoder(named: object) -> None:
    """Check the plain form of an encoder without loading anything.

    Args:
        named: a backend, or a dictionary with ``backend`` and its options.

    Raises:
        OptionError: it is neither, an option is wrong, or the backend has no encoder.
        UnknownBackendError: no such backend.
    """
    if not isinstance(named, (str, Mapping)):
        raise OptionError(
            f"encoder must be the name of a backend or a dictionary, got {type(named).__name__}.",
            hint="An object with encode(texts) goes to the constructor: Deduplicate(0.9, encoder=...).",
        )
    stage = _as_stage(named)
    check_stage(stage)
    backend = find(stage["backend"])
    declared = any("encoder" in inspect.get_annotations(base) for base in backend.__mro__)
    if not (declared or hasattr(backend, "encoder") or "encoder" in inspect.signature(backend).parameters):
        raise OptionError(
            f"backend {stage['backend']!r} has no encoder: nothing in it turns a sentence alone into a vector.",
            hint="'recomp-extractive' has one. (A backend of your own declares it in its class: encoder: TextEncoder.)",
        )


def load_encoder(named: str | Mapping[str, Any]) -> TextEncoder:
    """Load a backend for its encoder.

    Args:
        named: see ``check_encoder``.

    Returns:
        The encoder.

    Raises:
        RagCompressError: see ``ragcompress.load``.
    """
    return encoder_of(load_stage(_as_stage(named)))


def encoder_of(thing: object) -> TextEncoder:
    """Find an object that encodes.

    Args:
        thing: itself, or a compressor that has one.

    Returns:
        The encoder.

    Raises:
        OptionError: it cannot encode.
    """
    found = getattr(thing, "encoder", None) if isinstance(thing, Compressor) else thing
    if not callable(getattr(found, "encode", None)):
        raise OptionError(
            f"{type(thing).__name__} has no encode(texts).",
            hint="Pass a SentenceTransformer, a loaded 'recomp-extractive', or its name.",
        )
    return found  # type: ignore[return-value]  # asked for above


def _as_stage(named: str | Mapping[str, Any]) -> Mapping[str, Any]:
    return {"backend": named} if isinstance(named, str) else named
