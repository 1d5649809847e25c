"""Keys, and the part of a filter that names them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from ragcompress.errors import InputError, InputTypeError

# How many are looked up, replaced or deleted by one statement; a portion of indexing has to fit in.
KEYS_AT_ONCE = 512
# Keys become part of a filter, so nothing that means something there is let through.
_KEY = re.compile(r"[0-9a-zA-Z._-]{1,256}", re.ASCII)


def check_keys(keys: Iterable[str]) -> list[str]:
    """Refuse what could mean something in a filter.

    Args:
        keys: any number, repeats allowed.

    Returns:
        The different keys, in order.

    Raises:
        InputError: a key holds something other than letters, digits, ``.``, ``_`` and ``-``.
        InputTypeError: it is a single string, or one of them is no string.
    """
    _refuse_string(keys)
    unique = list(dict.fromkeys(keys))
    for key in unique:
        if not isinstance(key, str):
            raise InputTypeError(f"a key must be a string, got {type(key).__name__}.")
        if not _KEY.fullmatch(key):
            raise InputError(
                f"{key[:80]!r} is no key: expected 1 to 256 letters, digits, '.', '_' and '-'.",
                hint="Keys come from OfflineCompressor.memory_key.",
            )
    return unique


def possible_keys(keys: Iterable[object]) -> list[str]:
    """Leave out what nothing can be kept under.

    Args:
        keys: any number, repeats allowed.

    Returns:
        The different keys among them, in order.

    Raises:
        InputTypeError: it is a single string.
    """
    _refuse_string(keys)
    return list(dict.fromkeys(key for key in keys if isinstance(key, str) and _KEY.fullmatch(key)))


def among(keys: Sequence[str]) -> str:
    """Write a filter for the rows of some keys.

    Args:
        keys: checked, at least one.

    Returns:
        SQL.
    """
    return f"key IN ({', '.join(repr(key) for key in keys)})"


def parts(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    """Cut a list of keys into pieces of 512.

    Args:
        keys: any number.

    Returns:
        The pieces, in order.
    """
    return (keys[begin : begin + KEYS_AT_ONCE] for begin in range(0, len(keys), KEYS_AT_ONCE))


def _refuse_string(keys: Iterable[object]) -> None:
    if isinstance(keys, str):
        raise InputTypeError(f"keys is a single string, {keys!r}; expected a list of keys.", hint="Put it in a list.")
