"""One portion of work: encode its documents, write what can be kept, and say what cannot."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from ragcompress.compressor import OfflineCompressor
from ragcompress.errors import InputError, OptionError
from ragcompress.indexing.summary import Reject
from ragcompress.indexing.targets import Entries, Target
from ragcompress.indexing.windows import Record, Window
from ragcompress.types import Memory


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a portion.

    Attributes:
        n_added: documents that were written.
        n_updated: documents whose id and metadata were written anew.
        n_tokens: of those added.
        n_slots: vectors of those added.
        rejects: documents that cannot be encoded or kept.
        n_truncated: of those added, how many were not read to their end.
        missing: documents that were there when they were compared, and are not any more.
    """

    n_added: int = 0
    n_updated: int = 0
    n_tokens: int = 0
    n_slots: int = 0
    rejects: list[Reject] = field(default_factory=list)
    n_truncated: int = 0
    missing: list[Record] = field(default_factory=list)


def encode_window(compressor: OfflineCompressor, todo: dict[str, Record]) -> tuple[Entries, list[Reject]]:
    """Encode a portion.

    Args:
        compressor: its store is neither read nor written.
        todo: documents by key.

    Returns:
        Documents and memories by key, and what cannot be encoded.

    Raises:
        OptionError: the device has no memory for a batch.
    """
    rejects: list[Reject] = []
    encoded = _encoded(compressor, list(todo.items()), rejects)
    return {key: (todo[key].document, memory) for key, memory in encoded}, rejects


def _encoded(
    compressor: OfflineCompressor, todo: Sequence[tuple[str, Record]], rejects: list[Reject]
) -> list[tuple[str, Memory]]:
    """Together, or in halves until the document is found that cannot be encoded."""
    if not todo:
        return []
    try:
        memories = compressor.encode([record.document for _, record in todo])
    except InputError as error:
        if len(todo) == 1:
            rejects.append(_reject(todo[0][1], error))
            return []
        half = len(todo) // 2
        return _encoded(compressor, todo[:half], rejects) + _encoded(compressor, todo[half:], rejects)
    except RuntimeError as error:
        torch = sys.modules.get("torch")
        if torch is None or not isinstance(error, torch.OutOfMemoryError):
            raise
        raise OptionError(
            f"the device has no memory for a batch: {str(error).splitlines()[0]}",
            hint="Lower batch_tokens (--batch-tokens); what was written before is kept, and the next run goes on.",
        ) from error
    return [(key, memory) for (key, _), memory in zip(todo, memories, strict=True)]


def write_window(target: Target, entries: Entries, window: Window, rejects: Sequence[Reject] = ()) -> Done:
    """Write a portion.

    Args:
        target: where to.
        entries: what was encoded of it.
        window: the portion; ids and metadata of what is old in it are written anew.
        rejects: what could not be encoded of it.

    Returns:
        What became of it.

    Raises:
        InputError: the target cannot be written.
    """
    refused = _write(target, entries)
    memories = [memory for key, (_, memory) in entries.items() if key not in refused]
    records = {**window.todo, **window.stale}
    stale, missing = target.refresh({key: record.document for key, record in window.stale.items()})
    return Done(
        n_added=len(memories),
        n_updated=len(window.stale) - len(stale) - len(missing),
        n_tokens=sum(memory.n_tokens for memory in memories),
        n_slots=sum(len(memory.vectors) for memory in memories),
        rejects=[*rejects, *(_reject(records[key], error) for key, error in {**refused, **stale}.items())],
        n_truncated=sum(memory.truncated for memory in memories),
        missing=[window.stale[key] for key in missing],
    )


def _write(target: Target, entries: Entries) -> dict[str, InputError]:
    """Everything, or all but what the target refuses by itself; returns that, with the reasons."""
    if not entries:
        return {}
    try:
        target.write(entries)
    except InputError:
        # Checked only now: nearly always, nothing is wrong with anything, and a target checks before it writes.
        refused: dict[str, InputError] = {}
        for key, (document, memory) in entries.items():
            try:
                target.check(key, document, memory)
            except InputError as error:
                refused[key] = error
        if not refused:
            raise
        _write(target, {key: entry for key, entry in entries.items() if key not in refused})
        return refused
    return {}


def _reject(record: Record, error: InputError) -> Reject:
    return Reject(record.place, str(error), record.document.text)
