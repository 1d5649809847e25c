"""What the components share: their settings, and how they are written down and pickled."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from llama_index.core.bridge.pydantic import (
    BaseModel,
    Field,
    PrivateAttr,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    model_serializer,
)
from llama_index.core.schema import BaseComponent

from ragcompress import Adapter, Compressor, OfflineCompressor, unique_name

OnError = Literal["raise", "pass_through"]


class ConfiguredComponent(BaseComponent):
    """A LlamaIndex component that holds a part of ragcompress as plain settings and loads it on the first call.

    Settings are fixed once the component is made. They are public fields, since ``IngestionPipeline`` takes them into
    the key of its cache.
    """

    backend: str = Field(frozen=True, description="Name of the compressor in ragcompress's registry.")
    checkpoint: str | None = Field(frozen=True, description="Path or hub id; None: the backend's default.")
    options: dict[str, Any] = Field(frozen=True, description="Keyword arguments of ragcompress.load.")

    # Of a compressor or reader that was built by hand, and so has no settings: what it is, in words.
    _by_hand: str | None = PrivateAttr(default=None)

    @abstractmethod
    def _configuration(self) -> dict[str, Any]:
        """Backend, checkpoint and options; raises an ``OptionError`` if they have no written form."""

    @abstractmethod
    def _given(self) -> tuple[str, Any]:
        """The constructor's argument for an object, and the object."""

    @model_serializer(mode="wrap")
    def custom_model_dump(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        """Write the settings down.

        Args:
            handler: pydantic's own way.
            info: whether JSON is wanted.

        Returns:
            What ``from_dict`` accepts; for an object that was built by hand, what the cache of an
            ``IngestionPipeline`` tells it from others by.

        Raises:
            OptionError: JSON is wanted, but an object was built by hand or an option is an object.
        """
        if info.mode == "json":
            self._configuration()
        data: dict[str, Any] = handler(self)
        # The key of a pipeline's cache is made from this: a store, say, is named by what it is, not by how full it is.
        options = data.get("options")
        if isinstance(options, dict):
            data["options"] = {name: _written(value) for name, value in options.items()}
        if self._by_hand is not None:
            data[self._given()[0]] = self._by_hand
        data["class_name"] = self.class_name()
        return data

    def to_json(self, **kwargs: Any) -> str:
        """Write the settings as JSON; see ``custom_model_dump``."""
        self._configuration()
        return super().to_json(**kwargs)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy, with other settings if ``update`` names some; see ``pydantic.BaseModel.model_copy``."""
        if not update:
            return super().model_copy(deep=deep)
        # The adapter holds the settings as well, so a changed copy is built anew.
        values: dict[str, Any] = {name: getattr(self, name) for name in type(self).model_fields}
        if self._by_hand is not None and not {"backend", "checkpoint", "options"} & set(update):
            values = {name: value for name, value in values.items() if name not in ("backend", "checkpoint", "options")}
            name, value = self._given()
            values[name] = value
        values |= dict(update)
        # What LlamaIndex's base classes hold beside the settings is no argument of the constructor.
        known = inspect.signature(type(self).__init__).parameters
        others = set(type(self).model_fields) - set(known)
        copied = type(self)(**{name: value for name, value in values.items() if name not in others})
        for name in others & set(values):
            setattr(copied, name, values[name])
        return copied

    def __getstate__(self) -> dict[Any, Any]:
        """Settings and adapter, which knows what of an object has to be pickled.

        ``BaseComponent`` would drop what cannot be pickled without an error. Callback handlers belong to the process.
        """
        state = BaseModel.__getstate__(self)
        fields = {name: value for name, value in state["__dict__"].items() if name != "callback_manager"}
        return {**state, "__dict__": fields}

    def __setstate__(self, state: dict[Any, Any]) -> None:
        """Restore; weights are loaded on the next call."""
        BaseModel.__setstate__(self, state)


class RagCompressComponent(ConfiguredComponent):
    """A component around a compressor: what the postprocessor and the transformation share."""

    on_error: OnError = Field(frozen=True, description="On a failure: raise, or warn and pass the nodes through.")
    timeout: float | None = Field(frozen=True, description="Seconds after which a query's compression has failed.")
    min_chars: int = Field(frozen=True, description="Nodes with fewer characters than this together pass through.")
    title_key: str = Field(frozen=True, description="Metadata key of a node's title.")

    _adapter: Adapter = PrivateAttr()

    def __init__(
        self,
        *,
        backend: str | Sequence[Mapping[str, Any]],
        checkpoint: str | Path | None,
        compressor: Compressor | None,
        options: Mapping[str, Any] | None,
        more_options: Mapping[str, Any],
        on_error: OnError,
        timeout: float | None,
        min_chars: int,
        **fields: Any,
    ) -> None:
        """Check the settings; nothing is loaded. The arguments are those of the subclasses."""
        adapter = Adapter(
            backend,
            None if checkpoint is None else str(checkpoint),
            merged_options(options, more_options),
            compressor=compressor,
            on_error=on_error,
            timeout=timeout,
            min_chars=min_chars,
        )
        fields |= {
            "backend": adapter.backend,
            "checkpoint": adapter.checkpoint,
            "options": in_order(adapter.options),
            "on_error": on_error,
            "timeout": timeout,
            "min_chars": min_chars,
        }
        super().__init__(**fields)
        self._adapter = adapter
        if compressor is not None and compressor.spec is None:
            space = f" {compressor.memory_space}" if isinstance(compressor, OfflineCompressor) else ""
            self._by_hand = f"{compressor!r}{space}"

    def _configuration(self) -> dict[str, Any]:
        return self._adapter.configuration()

    def _given(self) -> tuple[str, Any]:
        return "compressor", self._adapter.compressor


def merged_options(options: Mapping[str, Any] | None, more_options: Mapping[str, Any]) -> dict[str, Any]:
    """Both ways to name options of ``ragcompress.load`` together.

    Args:
        options: as a dictionary.
        more_options: as keyword arguments; they win.

    Returns:
        The options, without what pydantic hands over of a dump.
    """
    return {**(options or {}), **{name: value for name, value in more_options.items() if name != "class_name"}}


def in_order(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options in one order, since the key of a pipeline's cache is made from the written form.

    Args:
        options: of ``ragcompress.load``.

    Returns:
        The same, sorted by name.
    """
    return dict(sorted(options.items()))


def _written(value: object) -> object:
    """An option as JSON knows it, or a name of its own for an object."""
    return value if value is None or isinstance(value, (str, int, float, bool, list, dict)) else unique_name(value)
