"""A document and its memory as rows of an index, one a chunk, and back: pure functions, no files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ragcompress.errors import InputError, InputTypeError
from ragcompress.stores import rows
from ragcompress.stores.shortening import SEED, SHORT_WIDTH
from ragcompress.types import Document, Memory

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

TABLE = "index"
FORMAT_VERSION = 1
FORMAT_FIELD = b"ragcompress.index_version"
SPACE_FIELD = b"ragcompress.space"
DTYPE_FIELD = b"ragcompress.stored_dtype"
SHORT_FIELD = b"ragcompress.short"
SETTINGS_FIELD = b"ragcompress.settings"
# Tells an index from one that was built anew in the same place.
IDENTITY_FIELD = b"ragcompress.identity"
SHORT = f"signs:{SHORT_WIDTH}:{SEED}"
# What the vectors are read from.
VECTOR_COLUMNS = ("n_vectors", "width", "dtype", "stored_dtype", "vectors", "scales")
# What the document is read from.
DOCUMENT_COLUMNS = ("text", "id", "title", "metadata")
_TAG_DIGITS = 32
Scalar = str | int | float | bool | None


def schema(
    space: str, dtype: str | None, settings: Mapping[str, Scalar] | None = None, identity: str | None = None
) -> pa.Schema:
    """Columns of an index.

    Args:
        space: of all its memories.
        dtype: that vectors are stored in; None: their own.
        settings: of the compressor, checked; None: they are not noted.
        identity: that no other index has; None: it is not noted.

    Returns:
        The schema, with everything that must not change in its metadata.
    """
    import pyarrow as pa

    plain = rows.schema()
    key = plain.field("key")
    fields = [
        key.with_name("row"),
        pa.field("key", pa.string(), nullable=False),
        pa.field("chunk", pa.int64(), nullable=False),
        # Of the document, on its first row alone. Bytes, because a text may hold lone surrogates.
        *(pa.field(name, pa.large_binary()) for name in DOCUMENT_COLUMNS),
        pa.field("tags", pa.list_(pa.string())),
        pa.field("short", pa.list_(pa.float32(), SHORT_WIDTH)),
        *(plain.field(name) for name in plain.names if name != "key"),
    ]
    noted = {FORMAT_FIELD: str(FORMAT_VERSION), SPACE_FIELD: space, DTYPE_FIELD: dtype or "", SHORT_FIELD: SHORT}
    if settings is not None:
        noted[SETTINGS_FIELD] = json.dumps(settings, sort_keys=True)
    if identity is not None:
        noted[IDENTITY_FIELD] = identity
    return pa.schema(fields, metadata={name: value.encode() for name, value in noted.items()})


def chunk_bounds(key: str, memory: Memory) -> list[tuple[int, int]]:
    """Which rows of a memory belong to which chunk: neighbours with the same span.

    Args:
        key: of the memory.
        memory: one span a row, or none at all.

    Returns:
        Half-open ranges of rows.

    Raises:
        InputError: there are more or fewer spans than rows.
    """
    n_rows = int(memory.vectors.shape[0])
    spans = memory.spans
    if not spans:
        return [(0, n_rows)] if n_rows else []
    if len(spans) != n_rows:
        raise InputError(
            f"the memory under {key} has {n_rows} rows and {len(spans)} spans; an index needs one span a row.",
            hint="Memory tokens have that; vectors of sentences belong into a store.",
        )
    starts = [row for row in range(n_rows) if row == 0 or spans[row] != spans[row - 1]]
    return list(zip(starts, [*starts[1:], n_rows], strict=True))


def to_rows(
    key: str, document: Document, memory: Memory, short: torch.Tensor, dtype: str | None
) -> list[dict[str, Any]]:
    """Write a document as rows.

    Args:
        key: content address.
        document: text and what it carries.
        memory: already checked.
        short: (n_chunks, SHORT_WIDTH), see ``shortened``.
        dtype: to store vectors in; None: their own.

    Returns:
        One row a chunk; for a document without vectors one row that no search finds.

    Raises:
        InputError: the metadata is no JSON, or the vectors cannot be stored so.
    """
    bounds = chunk_bounds(key, memory) or [(0, 0)]
    written = []
    tags = _document_tags(key, document)
    about = {"text": _bytes(document.text), "id": _bytes(document.id), "title": _bytes(document.title)}
    about["metadata"] = json.dumps(dict(document.metadata)).encode()
    nothing = dict.fromkeys(about)
    for chunk, (first, last) in enumerate(bounds):
        vectors = memory.vectors[first:last].detach().cpu()
        part = Memory(vectors, memory.n_tokens, memory.space, memory.spans and memory.spans[first:last])
        direction = short[chunk].numpy() if len(short) else [0.0] * SHORT_WIDTH
        own = {"row": f"{key}.{chunk}", "key": key, "chunk": chunk, "tags": tags, "short": direction}
        row = rows.to_row(key, part, dtype) | {"truncated": memory.truncated} | own
        written.append(row | (nothing if chunk else about))
    return written


def read_memory(found: Sequence[Mapping[str, pa.Scalar]]) -> Memory:
    """Read a memory back.

    Args:
        found: all rows of its document, in order.

    Returns:
        The memory of all its chunks.
    """
    import torch

    parts = [rows.from_row(row) for row in found]
    spans = None if parts[0].spans is None else tuple(span for part in parts for span in part.spans or ())
    return Memory(
        vectors=parts[0].vectors if len(parts) == 1 else torch.cat([part.vectors for part in parts]),
        n_tokens=parts[0].n_tokens,
        space=parts[0].space,
        spans=spans,
        truncated=parts[0].truncated,
    )


def read_document(first: Mapping[str, pa.Scalar]) -> Document:
    """Read a document back.

    Args:
        first: its first row, columns ``DOCUMENT_COLUMNS``.

    Returns:
        The document.
    """
    return Document(
        _text(first["text"]) or "", _text(first["id"]), _text(first["title"]), json.loads(first["metadata"].as_py())
    )


def flat_vectors(table: pa.Table | pa.RecordBatch) -> torch.Tensor:
    """Flattened vectors of rows that have equally many, as they come back from the store.

    Args:
        table: columns ``VECTOR_COLUMNS``, at least one row.

    Returns:
        (n_rows, n_slots * width), in the memories' own type.

    Raises:
        InputError: the rows have different shapes or types.
    """
    import pyarrow as pa
    import torch

    table = pa.Table.from_batches([table]) if isinstance(table, pa.RecordBatch) else table
    form = list(VECTOR_COLUMNS[:4])
    kinds = sorted(tuple(kind.values()) for kind in table.group_by(form, use_threads=False).aggregate([]).to_pylist())
    if len(kinds) > 1:
        raise InputError(
            f"memories of different shapes lie in one index: {kinds}.", hint="Delete it and build it again."
        )
    n_slots, width, dtype, stored = kinds[0]
    vectors = _joined(table.column("vectors"), getattr(torch, stored)).reshape(-1, width)
    if stored == "int8":
        scales = _joined(table.column("scales"), torch.float32).reshape(len(vectors), -1)
        vectors = rows.dequantise(vectors, scales, getattr(torch, dtype))
    return vectors.reshape(-1, n_slots * width)


def tag(name: str, value: object) -> str:
    """Stand-in for one entry of the metadata, which can be compared inside a filter whatever it holds.

    Args:
        name: of the entry.
        value: anything that JSON can hold; 1 and 1.0 are the same, 1 and True are not.

    Returns:
        32 hexadecimal digits.

    Raises:
        InputError: JSON cannot hold it.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    try:
        content = json.dumps([name, value], sort_keys=True, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"the metadata {name!r} cannot be kept: {error}.", hint="Use strings, numbers, lists and the like."
        ) from error
    return hashlib.sha256(content.encode("ascii")).hexdigest()[:_TAG_DIGITS]


def where_tags(where: object) -> list[str]:
    """Check a filter.

    Args:
        where: equal metadata by name; None: no filter.

    Returns:
        The tags that a row must have.

    Raises:
        InputTypeError: it is no mapping of names.
        InputError: a value cannot stand in metadata.
    """
    if where is None:
        return []
    if not isinstance(where, Mapping) or not all(isinstance(name, str) for name in where):
        raise InputTypeError(f"where must be a mapping from names of metadata to values, got {where!r}.")
    return [tag(name, value) for name, value in where.items()]


def condition(tags: Iterable[str]) -> str:
    """Write a filter for rows that have vectors and all the tags.

    Args:
        tags: hexadecimal digits.

    Returns:
        SQL.
    """
    return " AND ".join(["n_vectors > 0", *tagged(tags)])


def tagged(tags: Iterable[str]) -> list[str]:
    """Write filters for rows that have tags.

    Args:
        tags: hexadecimal digits.

    Returns:
        SQL, one condition a tag.
    """
    return [f"array_has(tags, '{each}')" for each in tags]


def _document_tags(key: str, document: Document) -> list[str]:
    if not all(isinstance(name, str) for name in document.metadata):
        raise InputError(f"the metadata of the document under {key} has a name that is no string.")
    try:
        return [tag(name, value) for name, value in document.metadata.items()]
    except InputError as error:
        raise InputError(f"the document under {key}: {error}") from error


def _joined(column: pa.ChunkedArray, dtype: torch.dtype) -> torch.Tensor:
    import torch

    return torch.frombuffer(bytearray().join(_content(values) for values in column.chunks), dtype=dtype)


def _content(values: pa.Array) -> pa.Buffer:
    """What rows without gaps hold: it lies one behind the other."""
    _, offsets, content = values.buffers()
    places = memoryview(offsets).cast("q" if str(values.type).startswith("large") else "i")
    return content[places[values.offset] : places[values.offset + len(values)]]


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode("utf-8", "surrogatepass")


def _text(value: pa.Scalar) -> str | None:
    content: bytes | None = value.as_py()
    return None if content is None else content.decode("utf-8", "surrogatepass")
