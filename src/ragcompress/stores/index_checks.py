"""What an index refuses, and what to do then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragcompress.errors import InputError, InputTypeError, SpaceMismatchError
from ragcompress.memories import check_memory
from ragcompress.stores import index_rows
from ragcompress.stores.tables import LanceTable
from ragcompress.types import Document

if TYPE_CHECKING:
    from ragcompress.stores.index_search import Form

# Names of rows add the number of a chunk.
_LONGEST_KEY = 230


def check_opened(table: LanceTable, space: str, dtype: str | None) -> str | None:
    """Check that a table is an index, and the one that was asked for.

    Args:
        table: just opened.
        space: that was asked for.
        dtype: to store vectors in; None: as the index was made.

    Returns:
        What the index stores vectors in.

    Raises:
        SpaceMismatchError: it was built by another checkpoint, at another rate or in another number format.
        InputError: it is no index, of a newer version, or lacks columns.
    """
    noted = table.metadata
    version = noted.get(index_rows.FORMAT_FIELD, b"")
    if not version.isdigit() or index_rows.SPACE_FIELD not in noted:
        raise InputError(
            f"the table {table.name!r} at {table.location} is no index of ragcompress.",
            hint="Name another table or folder.",
        )
    short = noted.get(index_rows.SHORT_FIELD, b"").decode()
    if int(version) > index_rows.FORMAT_VERSION or short != index_rows.SHORT:
        raise InputError(
            f"the index at {table.location} has the format {int(version)} with short vectors {short!r}; this version "
            f"of ragcompress reads formats up to {index_rows.FORMAT_VERSION} with {index_rows.SHORT!r}.",
            hint="pip install --upgrade ragcompress",
        )
    if missing := sorted(set(index_rows.schema("", None).names) - set(table.table.schema.names)):
        raise InputError(
            f"the index at {table.location} lacks columns: {', '.join(missing)}.", hint="Delete it and build it again."
        )
    there, stored = noted[index_rows.SPACE_FIELD].decode(), noted.get(index_rows.DTYPE_FIELD, b"").decode() or None
    if there != space:
        raise mismatch(table, repr(there), repr(space))
    if dtype is not None and dtype != stored:
        raise mismatch(table, f"{there!r} stored as {stored or 'they came'}", f"{space!r} stored as {dtype}")
    return stored


def check_entry(
    key: str, entry: object, form: Form | None, table: LanceTable, *, space: str, dtype: str | None
) -> Form | None:
    """Refuse what cannot be kept.

    Args:
        key: already checked to be one.
        entry: what is to be kept under it.
        form: (n_slots, width, dtype) of the memories so far; None: there are none.
        table: for messages.
        space: of the index.
        dtype: that the index stores vectors in.

    Returns:
        The form that all memories have.

    Raises:
        SpaceMismatchError: the memory is of another space, shape or number format.
        InputError: the key is too long, or the memory cannot be kept.
        InputTypeError: it is no pair of a document and a memory.
    """
    if len(key) > _LONGEST_KEY:
        raise InputError(f"the key {key[:40]!r}... has {len(key)} characters; at most {_LONGEST_KEY} are kept.")
    if not isinstance(entry, tuple) or len(entry) != 2 or not isinstance(entry[0], Document):
        raise InputTypeError(f"what is to be kept under {key} must be a pair (Document, Memory), got {entry!r:.80}.")
    memory = entry[1]
    check_memory(key, memory)
    if memory.space != space:
        raise mismatch(table, repr(space), f"{memory.space!r} (the memory under {key})")
    own = str(memory.vectors.dtype).removeprefix("torch.")
    back = own if dtype is None or dtype == "int8" else dtype
    for first, last in index_rows.chunk_bounds(key, memory):
        mine = (last - first, int(memory.vectors.shape[1]), back)
        form = form or mine
        if mine != form:
            raise mismatch(table, f"{space!r}, {_named(form)}", f"{_named(mine)} (the memory under {key})")
    return form


def check_query(vectors: object, form: Form | None) -> None:
    """Refuse a query that has no cosine with the memories.

    Args:
        vectors: (n_slots, width).
        form: (n_slots, width, dtype) of the memories; None: there are none.

    Raises:
        InputTypeError: it is no tensor of floats.
        InputError: it has another shape, or holds NaN or infinity.
    """
    import torch

    if not isinstance(vectors, torch.Tensor) or not vectors.is_floating_point():
        raise InputTypeError(f"a query must be a tensor (n_slots, width) of floats, got {type(vectors).__name__}.")
    shape = tuple(vectors.shape)
    if len(shape) != 2:
        raise InputError(f"the query has the shape {shape}; expected (n_slots, width).")
    if not bool(vectors.isfinite().all()):
        raise InputError(
            "the query holds NaN or infinity.",
            hint="The model overflows in this number format; try dtype='bfloat16' or 'float32'.",
        )
    if form is not None and shape != form[:2]:
        raise InputError(
            f"the query has the shape {shape}; the memories of the index have {form[:2]}.",
            hint="Encode it with the compressor that built the index.",
        )


def mismatch(table: LanceTable, there: str, asked: str) -> SpaceMismatchError:
    """Say that vectors of two spaces were to meet.

    Args:
        table: of the index.
        there: what it holds.
        asked: what was asked for or handed in.

    Returns:
        The error to raise.
    """
    return SpaceMismatchError(
        f"the index {table.name!r} at {table.location} holds memories of {there}, but {asked} was asked for.",
        hint="Use the checkpoint, rate and dtype that built it, or build another with this one: add() the documents "
        "to a MemoryIndex in another folder.",
    )


def _named(form: Form) -> str:
    n_slots, width, dtype = form
    return f"{n_slots} slots of {width} {dtype} numbers"
