"""How keyword options become a checked, frozen config: unknown names are refused with the closest known one first.

A config class may declare two class attributes: ``PRESETS``, named sets of options as published elsewhere, and
``CHOOSE_ONE``, fields of which exactly one is set: naming one of them clears the others.
"""

from __future__ import annotations

import dataclasses
import numbers
import threading
import uuid
import weakref
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from ragcompress.errors import OptionError, unknown_name_message

ConfigT = TypeVar("ConfigT")


def build_config(
    config_class: type[ConfigT],
    options: Mapping[str, Any],
    *,
    defaults: Mapping[str, Any] | None = None,
    other_options: Iterable[str] = (),
) -> ConfigT:
    """Build a config from keyword options.

    Args:
        config_class: a frozen dataclass.
        options: what the caller named; ``preset`` picks one of ``config_class.PRESETS``.
        defaults: used where the caller says nothing; a preset puts itself in their place.
        other_options: names that the caller could have used elsewhere, for the error message.

    Returns:
        The config.

    Raises:
        OptionError: an option or a preset does not exist, or a value is out of range.
    """
    options = dict(options)
    merged = dict(defaults or {})
    preset = options.pop("preset", None)
    presets: Mapping[str, Mapping[str, Any]] = getattr(config_class, "PRESETS", {})
    if preset is not None:
        if not isinstance(preset, str) or preset not in presets:
            raise OptionError(unknown_name_message("preset", preset, sorted(presets)))
        # A preset is a published whole: nothing of an earlier configuration shows through.
        merged = dict(presets[preset])
    known = [field.name for field in dataclasses.fields(config_class)]  # type: ignore[arg-type]
    for name in options:
        if name not in known:
            listed = [*known, *other_options, *(["preset"] if presets else [])]
            raise OptionError(unknown_name_message("option", name, listed))
    return config_class(**overlay(config_class, merged, options))


def change_config(config: ConfigT, options: Mapping[str, Any]) -> ConfigT:
    """Build a config that differs from another in the options named.

    Args:
        config: where everything else comes from.
        options: what changes.

    Returns:
        A new config.

    Raises:
        OptionError: see ``build_config``.
    """
    fields = dataclasses.fields(config)  # type: ignore[arg-type]
    return build_config(type(config), options, defaults={field.name: getattr(config, field.name) for field in fields})


def overlay(config_class: type, below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one set of options over another; naming one of ``CHOOSE_ONE`` clears the others.

    Args:
        config_class: a config class.
        below: what holds unless it is named above.
        above: what holds.

    Returns:
        Both together.
    """
    exclusive: tuple[str, ...] = getattr(config_class, "CHOOSE_ONE", ())
    merged = dict(below)
    if any(name in above for name in exclusive):
        merged.update(dict.fromkeys(exclusive))
    return merged | dict(above)


def check_range(
    name: str, value: float | None, *, at_least: float | None = None, at_most: float | None = None, whole: bool = False
) -> None:
    """Refuse a number that is out of range.

    Args:
        name: of the option.
        value: what came; None is accepted.
        at_least: lower limit, included.
        at_most: upper limit, included.
        whole: whether only whole numbers are accepted.

    Raises:
        OptionError: says which option, what came and what the range is.
    """
    if value is None:
        return
    kind = "a whole number" if whole else "a number"
    limits = [f"at least {at_least}"] * (at_least is not None) + [f"at most {at_most}"] * (at_most is not None)
    expected = " and ".join([kind, *limits]) if limits else kind
    right_type = _is_number(value, whole)
    # A NaN fails every comparison, so the range is asked for in the positive.
    if (
        not right_type
        or not (value == value and abs(value) != float("inf"))
        or not (at_least is None or value >= at_least)
        or not (at_most is None or value <= at_most)
    ):
        raise OptionError(f"{name} must be {expected}, got {value!r}.")


def _is_number(value: object, whole: bool) -> bool:
    """Python's and numpy's numbers, but not their truth values."""
    return isinstance(value, numbers.Integral if whole else numbers.Real) and not isinstance(value, bool)


def check_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """Refuse a value that is not one of a few names.

    Args:
        name: of the option.
        value: what came.
        choices: the names that exist.

    Raises:
        OptionError: lists the names, closest first.
    """
    choices = list(choices)
    if value not in choices:
        raise OptionError(unknown_name_message(name, value, choices))


_NAMES: weakref.WeakKeyDictionary[object, str] = weakref.WeakKeyDictionary()
_NAMES_LOCK = threading.Lock()


def unique_name(thing: object) -> str:
    """Name an object that does not name itself, so that two of them never share cached results.

    Args:
        thing: a function, say, that the caller passed as an option.

    Returns:
        The same name for the same object in this process, and another for every other object.
    """
    readable = getattr(thing, "__qualname__", type(thing).__qualname__)
    with _NAMES_LOCK:
        try:
            return _NAMES.setdefault(thing, f"{readable}-{uuid.uuid4().hex}")
        except TypeError:  # unhashable, or without weak references: a new name each time is merely a missed cache
            return f"{readable}-{uuid.uuid4().hex}"
