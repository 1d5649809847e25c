"""Reading documents and memories back from a table of an index, by their keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ragcompress.stores import index_rows
from ragcompress.stores.keys import among, parts
from ragcompress.stores.tables import LanceTable
from ragcompress.types import Document, Memory

if TYPE_CHECKING:
    import pyarrow as pa

Found = tuple[str, Document, Memory]
_MEMORY_COLUMNS = (
    "row", "key", "chunk", "space", "n_tokens", "truncated", "spans", *index_rows.VECTOR_COLUMNS,
)  # fmt: skip
# Everything but what filters and the looking up of neighbours need.
COLUMNS = (*_MEMORY_COLUMNS, *index_rows.DOCUMENT_COLUMNS)


def read_all(table: LanceTable, keys: Sequence[str]) -> list[Found]:
    """Fetch documents with their memories.

    Args:
        table: of the index.
        keys: checked, different; those of unknown documents are skipped.

    Returns:
        What is there, in no particular order.

    Raises:
        InputError: the table cannot be read.
    """
    return [each for part in parts(keys) for each in whole(table.rows(among(part), COLUMNS, "row"))]


def read_memories(table: LanceTable, keys: Sequence[str]) -> dict[str, Memory]:
    """Fetch memories alone.

    Args:
        table: of the index.
        keys: checked, different; unknown ones are skipped.

    Returns:
        What is there, by key.

    Raises:
        InputError: the table cannot be read.
    """
    found = (table.rows(among(part), _MEMORY_COLUMNS, "row") for part in parts(keys))
    return {key: index_rows.read_memory(rows) for part in found for key, rows in _by_key(part)}


def find_keys(table: LanceTable, ids: set[str] | None, tags: Sequence[str]) -> set[str]:
    """Look documents up by what they carry: a scan of one small column.

    Args:
        table: of the index.
        ids: of the documents; None: any.
        tags: that they must have.

    Returns:
        Their keys.

    Raises:
        InputError: the table cannot be read.
    """
    condition = " AND ".join(["chunk = 0", *index_rows.tagged(tags)])
    if ids is None:
        return table.keys(condition)
    found = table.reading(lambda: table.table.search().where(condition).select(["key", "id"]).to_arrow())
    wanted = {each.encode("utf-8", "surrogatepass") for each in ids}
    return {key for key, own in zip(found["key"].to_pylist(), found["id"].to_pylist(), strict=True) if own in wanted}


def read_documents(table: LanceTable, keys: Sequence[str]) -> dict[str, Document]:
    """Fetch documents alone: no vector is read.

    Args:
        table: of the index.
        keys: checked, different; unknown ones are skipped.

    Returns:
        What is there, by key.

    Raises:
        InputError: the table cannot be read.
    """
    columns = ("row", "key", "chunk", *index_rows.DOCUMENT_COLUMNS)
    # All else of a document lies on the row of its first chunk.
    found = (table.rows(f"{among(part)} AND chunk = 0", columns, "row") for part in parts(keys))
    return {key: index_rows.read_document(rows[0]) for part in found for key, rows in _by_key(part)}


def whole(table: pa.Table) -> list[Found]:
    """Put documents together.

    Args:
        table: columns ``COLUMNS``, all rows of each document.

    Returns:
        The documents and their memories.
    """
    return [(key, index_rows.read_document(rows[0]), index_rows.read_memory(rows)) for key, rows in _by_key(table)]


def _by_key(table: pa.Table) -> Iterator[tuple[str, list[dict[str, pa.Scalar]]]]:
    """The rows of each document, in the order of its chunks."""
    columns = [(name, table[name]) for name in table.column_names]
    order = sorted(zip(table["key"].to_pylist(), table["chunk"].to_pylist(), range(len(table)), strict=True))
    by_key: dict[str, list[dict[str, pa.Scalar]]] = {}
    for key, _, index in order:
        by_key.setdefault(key, []).append({name: column[index] for name, column in columns})
    yield from by_key.items()
