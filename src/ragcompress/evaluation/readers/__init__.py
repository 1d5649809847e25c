"""Readers: what answers the questions of an evaluation."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ragcompress.errors import OptionError, unknown_name_message
from ragcompress.evaluation.readers.base import ContextReader, PromptReader, Reading
from ragcompress.evaluation.readers.failures import Patience
from ragcompress.evaluation.readers.frameworks import FrameworkReader, is_framework_model
from ragcompress.evaluation.readers.hugging_face import HuggingFaceReader
from ragcompress.evaluation.readers.memory import MemoryReader
from ragcompress.evaluation.readers.openai import OpenAIReader
from ragcompress.reader import Reader
from ragcompress.types import CompressedContext

__all__ = [
    "ContextReader",
    "FrameworkReader",
    "HuggingFaceReader",
    "MemoryReader",
    "OpenAIReader",
    "Patience",
    "PromptReader",
    "Reading",
    "as_reader",
    "read_each",
]

ACCEPTED = (
    "'openai:MODEL', 'hf:PATH', a folder, a hub id, a GGUF file, a reader of a latent backend, or a language model "
    "object of LangChain or LlamaIndex, or a ragcompress.evaluation.ContextReader"
)


def as_reader(
    spec: object,
    *,
    base_url: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    **options: Any,
) -> ContextReader | None:
    """Turn an option into a reader.

    Args:
        spec: None: no reader; a reader of an evaluation; a ``ragcompress.Reader``; a language model object of
            LangChain or LlamaIndex; ``"openai:MODEL"``; ``"hf:PATH"``; a folder, a hub id or a GGUF file.
        base_url: of an endpoint, for ``"openai:MODEL"``.
        device: where weights go that are loaded here; means nothing to readers that are built already or elsewhere.
        dtype: of weights that are loaded here; as ``device``.
        **options: of the reader's class.

    Returns:
        The reader; None: nothing is answered.

    Raises:
        OptionError: it is none of these, or an option does not belong to it.
        CheckpointError: weights cannot be found or read.
        MissingExtraError: a package that the reader needs is not installed.
    """
    given = options if base_url is None else {"base_url": base_url, **options}
    if spec is None or isinstance(spec, ContextReader):
        if given:
            what = "no reader" if spec is None else f"a reader that is built already ({spec.name})"
            raise OptionError(f"{', '.join(given)} came with {what}.", hint="Leave them out.")
        return spec
    if isinstance(spec, Reader):
        return _call(MemoryReader, spec, given)
    if isinstance(spec, type):
        raise OptionError(
            f"a reader is an object, and {spec.__name__} is a class.", hint=f"Build one: {spec.__name__}(...)"
        )
    if is_framework_model(spec):
        return _call(FrameworkReader, spec, given)
    if not isinstance(spec, (str, Path)):
        raise OptionError(f"{type(spec).__name__} is no reader; expected {ACCEPTED}.")
    kind, colon, rest = str(spec).partition(":")
    # A path on Windows begins with a letter and a colon.
    if not colon or len(kind) < 2 or isinstance(spec, Path) or Path(spec).expanduser().exists():
        kind, rest = "hf", str(spec)
    if kind not in ("openai", "hf"):
        raise OptionError(f"unknown kind of reader {kind!r} in {spec!r}; expected {ACCEPTED}.")
    if not rest.strip():
        raise OptionError(f"the reader {spec!r} names no model; expected {ACCEPTED}.")
    if kind == "openai":
        return _call(OpenAIReader, rest, given)
    loading = {name: value for name, value in (("device", device), ("dtype", dtype)) if value is not None}
    return _call(HuggingFaceReader.from_pretrained, rest, {**loading, **given})


def read_each(
    reader: ContextReader, contexts: Sequence[CompressedContext], *, patience: Patience | None = None
) -> list[Reading | Exception]:
    """Answer the questions of some contexts; one that makes the reader raise does not take the others with it.

    An empty answer is an answer.

    Args:
        reader: any.
        contexts: any number.
        patience: how many failures in a row are too many; pass the same object with each portion of a run.
            None: five within this call.

    Returns:
        One reading a context, or what was raised for it.

    Raises:
        InputError: too many questions in a row failed: the server cannot be reached, say.
    """
    return reader.read_each(contexts, patience)


def _call(make: Callable[..., ContextReader], spec: object, options: dict[str, Any]) -> ContextReader:
    """Build a reader; names that it does not know are refused with the closest first."""
    known = [
        name
        for name, parameter in inspect.signature(make).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    for name in options:
        if name not in known:
            raise OptionError(unknown_name_message("option of this reader", name, known))
    return make(spec, **options)
