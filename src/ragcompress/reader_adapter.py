"""A reader as a framework's LLM class holds it: plain configuration, loaded on first use, shared with compressors."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any

from ragcompress.adapter import SHARED_STORE
from ragcompress.composing import info_of
from ragcompress.compressor import Compressor
from ragcompress.errors import OptionError, UnknownBackendError, unknown_name_message
from ragcompress.reader import Reader, generation_options
from ragcompress.registry import available, find, load


class ReaderAdapter:
    """A reader made from plain, JSON-safe configuration, or one that was given.

    Configured with the same backend, checkpoint and options as a compressor, it shares the weights of that compressor
    and, unless stores are named, its store.
    """

    def __init__(
        self,
        backend: str = "pisco",
        checkpoint: str | None = None,
        options: Mapping[str, Any] | None = None,
        *,
        reader: Reader | Compressor | None = None,
        generation: Mapping[str, Any] | None = None,
    ) -> None:
        """Check the configuration; nothing is loaded.

        Args:
            backend: name in the registry, of a backend that makes vectors.
            checkpoint: path or hub id.
            options: keyword arguments of ``ragcompress.load``.
            reader: an object to use instead of loading one, or the compressor whose reader it is.
            generation: fields of ``GenerationOptions``, for every call.

        Raises:
            OptionError: a value is out of range, the backend makes text, or both a reader and options came.
            UnknownBackendError: no such backend.
        """
        generation_options(generation or {})
        self.generation = dict(generation or {})
        self._given: Reader | None = None
        self._loaded: Reader | None = None
        self._lock = threading.Lock()
        spec = None
        if reader is not None:
            if options or checkpoint is not None:
                raise OptionError("a reader object came together with options for loading one; give either.")
            if isinstance(reader, Compressor):
                spec = reader.spec
                reader = reader.reader(**self.generation)
            if not isinstance(reader, Reader):
                raise OptionError(f"reader must be a ragcompress.Reader or a compressor, got {type(reader).__name__}.")
            self._given = reader
        else:
            names = available()
            if backend not in names:
                raise UnknownBackendError(unknown_name_message("backend", backend, names))
            found = find(backend)
            # One set of settings may serve a compressor and its reader.
            options = {name: value for name, value in (options or {}).items() if name != "handles"}
            found.check_options(**options)
            if info_of(found, options).kind != "vectors":
                raise OptionError(
                    f"backend {backend!r} makes text, which any LLM reads: it has no reader of its own.",
                    hint=f"Backends with one: {', '.join(n for n in names if find(n).info.kind == 'vectors')}.",
                )
        self.by_hand = self._given is not None and spec is None
        self.backend = backend if spec is None else spec.backend
        self.checkpoint = checkpoint if spec is None else spec.checkpoint
        self.options = dict(options or {}) if spec is None else dict(spec.options)
        if not self.by_hand and self.options.get("store") is None:
            self.options["store"] = SHARED_STORE

    @property
    def reader(self) -> Reader:
        """The reader, loaded now if it is not yet."""
        if self._given is not None:
            return self._given
        with self._lock:
            if self._loaded is None:
                self._loaded = load(self.backend, self.checkpoint, **self.options).reader(**self.generation)
            return self._loaded

    def configuration(self) -> dict[str, Any]:
        """Backend, checkpoint and options as JSON-safe values.

        Returns:
            Keyword arguments for another ``ReaderAdapter`` that behaves the same.

        Raises:
            OptionError: the reader was built by hand, or an option is an object: neither has a written form.
        """
        if self.by_hand:
            raise OptionError(
                "a reader that was built by hand has no configuration to write down.",
                hint="Name the backend, the checkpoint and its options instead.",
            )
        try:
            json.dumps(self.options)
        except TypeError as error:
            raise OptionError(
                f"an option cannot be written as JSON: {error}.",
                hint="Name it instead: store='memory://NAME' or 'lancedb://FOLDER'.",
            ) from error
        return {"backend": self.backend, "checkpoint": self.checkpoint, "options": dict(self.options)}

    def __getstate__(self) -> dict[str, Any]:
        """The configuration, and a reader that was built by hand."""
        state = {name: value for name, value in self.__dict__.items() if name != "_lock"}
        state["_loaded"] = None
        if not self.by_hand and isinstance(self.options.get("store", ""), str):
            state["_given"] = None
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore, to be loaded on the next call."""
        self.__dict__.update(state)
        self._lock = threading.Lock()
