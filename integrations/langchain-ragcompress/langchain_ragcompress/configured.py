"""What the components share: copies and comparisons by their configuration."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Self

from pydantic import BaseModel


class Configured(BaseModel):
    """A component that checks its configuration in the constructor, and holds more than its fields."""

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy, with other configuration if ``update`` names some; see ``pydantic.BaseModel.model_copy``.

        Args:
            update: fields that change.
            deep: whether the fields are copied, too.

        Returns:
            The copy.

        Raises:
            OptionError: as from the constructor.
        """
        if not update:
            return super().model_copy(deep=deep)
        # What is beside the fields holds the configuration as well, so a changed copy is built anew.
        return type(self)(**(self._arguments(update) | dict(update)))

    def _arguments(self, changed: Collection[str]) -> dict[str, Any]:
        """Arguments of the constructor, for a copy in which some fields change."""
        return {name: getattr(self, name) for name in self.model_fields_set}

    def _compared(self) -> dict[str, Any]:
        """What tells one component from another."""
        return dict(self)

    def __eq__(self, other: object) -> bool:
        """Compare the configuration, and objects that were built by hand by identity."""
        if not isinstance(other, Configured) or type(self) is not type(other):
            return NotImplemented
        return self._compared() == other._compared()

    __hash__ = None  # type: ignore[assignment]  # the options are a dictionary
