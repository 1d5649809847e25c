"""Errors users will see: what came, what was expected, what to do next.

Each class also derives from the built-in exception that a caller would naturally catch. A ``hint`` is one line on
what to do next; it is part of the message, so that it survives logging and re-raising.
"""

import difflib
from collections.abc import Iterable, Sequence


class RagCompressError(Exception):
    """Base of every error that this library raises on purpose."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        """Join the message and the hint into one text.

        Args:
            message: what came and what was expected.
            hint: what to do next, one line.
        """
        super().__init__(f"{message} {hint}" if hint else message)
        self.hint = hint

    def __str__(self) -> str:
        """The message as it was given (``KeyError`` would show its quoted form)."""
        return str(self.args[0]) if self.args else ""


class InputError(RagCompressError, ValueError):
    """A query, a document or a file cannot be used as it is."""


class InputTypeError(InputError, TypeError):
    """A query or a document has the wrong type."""


class OptionError(RagCompressError, ValueError):
    """An option has a name or a value that does not exist."""


class UnknownBackendError(OptionError):
    """No installed package registers a backend of this name."""


class MissingExtraError(RagCompressError, ImportError):
    """An optional dependency is not installed; the message holds the pip command."""


class CheckpointError(RagCompressError, OSError):
    """A checkpoint cannot be found or does not fit; the message says what was looked for and what is there."""


class MemoryNotFoundError(RagCompressError, KeyError):
    """A store has no memory under a key."""


class SpaceMismatchError(RagCompressError, ValueError):
    """Vectors of one embedding space were handed to a component of another."""


class CompressionTimeoutError(RagCompressError, TimeoutError):
    """Compression took longer than the caller allows."""


class EmptyResultWarning(UserWarning):
    """A limit was so tight that nothing could be kept."""


class HandleWarning(UserWarning):
    """Documents will hold handles in the place of text, which only a reader of ours can read."""


class PassThroughWarning(UserWarning):
    """Compression failed or was skipped and the documents were handed on uncompressed."""


_MOST_NAMES = 12


def closest_first(name: str, known: Iterable[str]) -> list[str]:
    """Sort known names by their likeness to the one that was given.

    Args:
        name: what the caller wrote.
        known: the names that exist.

    Returns:
        The known names, most similar first; equally similar ones alphabetically.
    """

    def unlikeness(candidate: str) -> tuple[float, str]:
        return -difflib.SequenceMatcher(None, str(name).lower(), candidate.lower()).ratio(), candidate

    return sorted(known, key=unlikeness)


def unknown_name_message(kind: str, name: object, known: Sequence[str]) -> str:
    """Say that a name does not exist and which ones do, closest first.

    Args:
        kind: what is being named, e.g. ``"backend"``.
        name: what the caller wrote.
        known: the names that exist.

    Returns:
        One sentence.
    """
    names = closest_first(str(name), known)
    listed = ", ".join(map(repr, names[:_MOST_NAMES])) or "none"
    listed += f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"unknown {kind} {name!r}; known, closest first: {listed}."
