"""What an index refuses, and what to do then."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ragcompress.errors import InputError, InputTypeError, OptionError, SpaceMismatchError
from ragcompress.memories import check_memory
from ragcompress.stores import index_rows
from ragcompress.stores.tables import LanceTable
from ragcompress.types import Document

if TYPE_CHECKING:
    from ragcompress.stores.index_search import Form

# Names of rows add the number of a chunk.
_LONGEST_KEY = 230


def is_index(noted: Mapping[bytes, bytes]) -> bool:
    """Tell an index from other tables.

    Args:
        noted: metadata of the table.

    Returns:
        Whether it is one, of whatever version.
    """
    return noted.get(index_rows.FORMAT_FIELD, b"").isdigit() and index_rows.SPACE_FIELD in noted


def check_format(table: LanceTable, noted: Mapping[bytes, bytes]) -> None:
    """Refuse a table that is no index, or one that this version cannot read.

    Args:
        table: just opened.
        noted: its metadata.

    Raises:
        InputError: it is no index, of a newer version, or lacks columns.
    """
    if not is_index(noted):
        raise InputError(
            f"the table {table.name!r} at {table.location} is no index of ragcompress.",
            hint="Name another table or folder.",
        )
    version = int(noted[index_rows.FORMAT_FIELD])
    short = noted.get(index_rows.SHORT_FIELD, b"").decode()
    if version > index_rows.FORMAT_VERSION or short != index_rows.SHORT:
        raise InputError(
            f"the index at {table.location} has the format {version} with short vectors {short!r}; this version "
            f"of ragcompress reads formats up to {index_rows.FORMAT_VERSION} with {index_rows.SHORT!r}.",
            hint="pip install --upgrade ragcompress",
        )
    if missing := sorted(set(index_rows.schema("", None).names) - set(table.table.schema.names)):
        raise InputError(
            f"the index at {table.location} lacks columns: {', '.join(missing)}.", hint="Delete it and build it again."
        )


def check_opened(table: LanceTable, noted: Mapping[bytes, bytes], space: str, dtype: str | None) -> str | None:
    """Check that an index is the one that was asked for.

    Args:
        table: just opened, and checked to be an index.
        noted: its metadata.
        space: that was asked for.
        dtype: to store vectors in; None: as the index was made.

    Returns:
        What the index stores vectors in.

    Raises:
        SpaceMismatchError: it was built by another checkpoint, at another rate or in another number format.
    """
    there, stored = noted[index_rows.SPACE_FIELD].decode(), noted.get(index_rows.DTYPE_FIELD, b"").decode() or None
    if there != space:
        raise mismatch(table, repr(there), repr(space))
    if dtype is not None and dtype != stored:
        raise mismatch(table, f"{there!r} stored as {stored or 'they came'}", f"{space!r} stored as {dtype}")
    return stored


def check_settings(settings: object) -> dict[str, index_rows.Scalar] | None:
    """Check what is to be noted of a compressor.

    Args:
        settings: numbers, strings, booleans and None by name; None: nothing.

    Returns:
        A copy.

    Raises:
        OptionError: it is something else.
    """
    if settings is None:
        return None
    if not isinstance(settings, Mapping):
        raise OptionError(f"settings must be a mapping from names to values, got {type(settings).__name__}.")
    for name, value in settings.items():
        if not isinstance(name, str) or not isinstance(value, (str, int, float, bool, type(None))):
            raise OptionError(
                f"settings must hold strings, numbers, booleans and None by name, got {name!r}: {value!r:.80}."
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise OptionError(f"settings must hold finite numbers, got {name!r}: {value}.")
    return dict(settings)


def noted_settings(noted: Mapping[bytes, bytes]) -> dict[str, index_rows.Scalar] | None:
    """What an index has noted of the compressor that built it.

    Args:
        noted: metadata of the table.

    Returns:
        Values by name; None: nothing was noted.
    """
    content = noted.get(index_rows.SETTINGS_FIELD)
    settings: dict[str, index_rows.Scalar] | None = None if content is None else json.loads(content)
    return settings


def compare_settings(
    table: LanceTable, there: Mapping[str, index_rows.Scalar] | None, asked: Mapping[str, index_rows.Scalar] | None
) -> None:
    """Refuse a compressor that would give other keys to the same documents.

    Args:
        table: of the index, for messages.
        there: what it has noted; None: nothing, so there is nothing to compare.
        asked: what the compressor has; None: unknown.

    Raises:
        SpaceMismatchError: something differs; says what.
    """
    if there is None or asked is None:
        return
    # As JSON, from which keys are made: there 1, 1.0 and True differ.
    written = [{name: json.dumps(value) for name, value in each.items()} for each in (there, asked)]
    differing = sorted(name for name in {**there, **asked} if written[0].get(name) != written[1].get(name))
    if differing:
        named = "; ".join(f"{name}: {_value(there, name)} there, {_value(asked, name)} asked for" for name in differing)
        raise SpaceMismatchError(
            f"the index {table.name!r} at {table.location} was built with other settings ({named}).",
            hint=_rebuild(table.location),
        )


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
        hint=_rebuild(table.location),
    )


def _rebuild(location: str) -> str:
    place = f"{location.rstrip('/')}-2"
    store = shlex.quote(place if "://" in place else f"lancedb://{place}")
    return (
        "Use the checkpoint, rate and dtype that built it, or build another: ragcompress index SOURCE "
        f"--backend BACKEND --checkpoint CHECKPOINT --store {store}"
    )


def _value(settings: Mapping[str, index_rows.Scalar], name: str) -> str:
    return repr(settings[name]) if name in settings else "nothing"


def _named(form: Form) -> str:
    n_slots, width, dtype = form
    return f"{n_slots} slots of {width} {dtype} numbers"
