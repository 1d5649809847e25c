"""What is added to an index, as rows and in parts of a bearable size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from ragcompress.stores import index_rows
from ragcompress.stores.keys import KEYS_AT_ONCE
from ragcompress.stores.shortening import shortened
from ragcompress.types import Document, Memory

if TYPE_CHECKING:
    import pyarrow as pa

Entries = Mapping[str, tuple[Document, Memory]]
# A portion of indexing (see ``indexing.windows``) has to fit in: a killed run leaves whole portions. 256 documents of
# one chunk, 16 or 64 slots of 4096 float32 numbers, take 64 or 256 MiB.
_BYTES_AT_ONCE = 512 * 1024**2


def sized(entries: Entries) -> Iterator[list[str]]:
    """Cut entries into what is written in one commit.

    Args:
        entries: by key.

    Yields:
        The keys of one commit: at most 512, and 512 MiB unless a single one is larger.
    """
    part: list[str] = []
    size = 0
    for key, (document, memory) in entries.items():
        own = memory.n_bytes + len(document.text)
        if part and (size + own > _BYTES_AT_ONCE or len(part) == KEYS_AT_ONCE):
            yield part
            part, size = [], 0
        part.append(key)
        size += own
    if part:
        yield part


def to_table(
    entries: Entries, keys: Sequence[str], schema: pa.Schema, dtype: str | None, *, only_check: bool = False
) -> pa.Table:
    """Write entries as rows.

    Args:
        entries: by key, each checked with ``check_entry``.
        keys: of those to write.
        schema: of the index.
        dtype: that the index stores vectors in.
        only_check: leave out the short vectors, which take most of the time and are never refused.

    Returns:
        One row a chunk.

    Raises:
        InputError: metadata is no JSON, or vectors cannot be stored so.
    """
    import pyarrow as pa
    import torch

    bounds = {key: index_rows.chunk_bounds(key, entries[key][1]) for key in keys}
    chunks = [entries[key][1].vectors[first:last].flatten() for key in keys for first, last in bounds[key]]
    short = [torch.zeros(0)] * len(keys)
    if chunks and not only_check:
        short = list(torch.split(shortened(torch.stack(chunks).cpu()), [len(bounds[key]) for key in keys]))
    rows = [
        row
        for key, part in zip(keys, short, strict=True)
        for row in index_rows.to_rows(key, *entries[key], part, dtype)
    ]
    return pa.Table.from_pylist(rows, schema=schema)
