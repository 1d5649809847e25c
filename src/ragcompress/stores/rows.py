"""One memory as one row of a table, and back: pure functions, no files."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ragcompress.errors import InputError, OptionError, unknown_name_message
from ragcompress.types import Memory

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

FORMAT_VERSION = 1
FORMAT_FIELD = b"ragcompress.store_version"
# Lance's own mark of a primary key. With it, two processes that insert the same new key at once conflict, and the
# second tries again; without it both rows stay (measured: 9 duplicates among 200 keys with four writers).
_PRIMARY_KEY = {b"lance-schema:unenforced-primary-key": b"true"}
_KEPT = ("float32", "bfloat16", "float16", "float64")
_STORED = ("float32", "bfloat16", "float16", "int8")
_MAX_INT8 = 127
BLOCK = 64  # channels that share a scale


def schema() -> pa.Schema:
    """Columns of the table.

    Returns:
        The schema, with the version of the format in its metadata.
    """
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("key", pa.string(), nullable=False, metadata=_PRIMARY_KEY),
            pa.field("space", pa.string(), nullable=False),
            pa.field("n_tokens", pa.int64(), nullable=False),
            pa.field("truncated", pa.bool_(), nullable=False),
            pa.field("spans", pa.list_(pa.int64())),
            pa.field("n_vectors", pa.int64(), nullable=False),
            pa.field("width", pa.int64(), nullable=False),
            pa.field("dtype", pa.string(), nullable=False),
            pa.field("stored_dtype", pa.string(), nullable=False),
            pa.field("vectors", pa.large_binary(), nullable=False),
            pa.field("scales", pa.binary()),
        ],
        metadata={FORMAT_FIELD: str(FORMAT_VERSION).encode()},
    )


def check_dtype(dtype: object) -> str | None:
    """Check the type that vectors are to be stored in.

    Args:
        dtype: its name, or torch's own object; None: as they come.

    Returns:
        The name.

    Raises:
        OptionError: vectors cannot be stored in it.
    """
    if dtype is None:
        return None
    name = str(dtype).removeprefix("torch.")
    if name not in _STORED:
        raise OptionError(unknown_name_message("dtype", name, _STORED))
    return name


def to_row(key: str, memory: Memory, dtype: str | None) -> dict[str, Any]:
    """Write a memory as a row.

    Args:
        key: its content address.
        memory: already checked.
        dtype: to store the vectors in; None: their own. ``"int8"`` keeps a scale for every 64 channels of a vector,
            their largest absolute value / 127, and gives back the memory's own type.

    Returns:
        Values by column.

    Raises:
        InputError: the vectors have a type that is not kept, or do not fit into the one asked for.
    """
    import torch

    vectors = memory.vectors.detach().cpu()
    own = str(vectors.dtype).removeprefix("torch.")
    if own not in _KEPT:
        raise InputError(
            f"the vectors under {key} have the type {own}; a store keeps {', '.join(_KEPT)}.",
            hint="Convert them first, e.g. vectors.float().",
        )
    scales: torch.Tensor | None = None
    stored = dtype or own
    if stored == "int8":
        vectors, scales = quantise(vectors)
    elif stored != own:
        vectors, own = vectors.to(getattr(torch, stored)), stored
    for each in (vectors, scales):
        if each is not None and not bool(each.isfinite().all()):
            raise InputError(
                f"the vectors under {key} hold values too large for {stored}.",
                hint="Store them with dtype=None, 'bfloat16' or 'float32'.",
            )
    return {
        "key": key,
        "space": memory.space,
        "n_tokens": memory.n_tokens,
        "truncated": memory.truncated,
        "spans": pack_spans(memory.spans),
        "n_vectors": vectors.shape[0],
        "width": vectors.shape[1],
        "dtype": own,
        "stored_dtype": stored,
        "vectors": _bytes(vectors),
        "scales": None if scales is None else _bytes(scales),
    }


def from_row(row: Mapping[str, pa.Scalar]) -> Memory:
    """Read a memory back.

    Args:
        row: Arrow scalars by column.

    Returns:
        The memory; its vectors own their bytes.
    """
    import torch

    shape = (row["n_vectors"].as_py(), row["width"].as_py())
    dtype: torch.dtype = getattr(torch, row["dtype"].as_py())
    vectors = _tensor(row["vectors"], getattr(torch, row["stored_dtype"].as_py())).reshape(shape)
    if row["scales"].is_valid:
        scales = _tensor(row["scales"], torch.float32).reshape(shape[0], -(-shape[1] // BLOCK))
        vectors = dequantise(vectors, scales, dtype)
    return Memory(
        vectors=vectors,
        n_tokens=row["n_tokens"].as_py(),
        space=row["space"].as_py(),
        spans=unpack_spans(row["spans"].as_py()),
        truncated=row["truncated"].as_py(),
    )


def quantise(vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Round each block of a row to 255 steps between plus and minus its largest absolute value.

    Hidden states have a few channels many times larger than the rest. With one scale for a whole row these would round
    everything else away (4 % of a row's norm, measured on a small language model's states); they spoil their own block
    alone.

    Args:
        vectors: (n_vectors, width), floating.

    Returns:
        (n_vectors, width) int8 and (n_vectors, n_blocks) float32 scales.
    """
    import torch

    n_vectors, width = vectors.shape
    n_blocks = -(-width // BLOCK)
    if not vectors.numel():
        return vectors.to(torch.int8), torch.ones(n_vectors, n_blocks)
    blocks = torch.nn.functional.pad(vectors.double(), (0, n_blocks * BLOCK - width)).reshape(
        n_vectors, n_blocks, BLOCK
    )
    scales = (blocks.abs().amax(dim=2) / _MAX_INT8).float()
    # A block of zeros, or so small that its scale is none in float32: zeros come back.
    divisors = torch.where(scales > 0, scales, torch.ones_like(scales)).double()
    rounded = (blocks / divisors[:, :, None]).round().clamp(-_MAX_INT8, _MAX_INT8).to(torch.int8)
    return rounded.reshape(n_vectors, n_blocks * BLOCK)[:, :width].contiguous(), scales


def dequantise(vectors: torch.Tensor, scales: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Undo ``quantise`` up to its rounding.

    Args:
        vectors: (n_vectors, width) int8.
        scales: (n_vectors, n_blocks) float32.
        dtype: of the result.

    Returns:
        (n_vectors, width).
    """
    import torch

    # 127 * (largest / 127) may round to a hair above the largest number there is.
    largest = min(torch.finfo(dtype).max, torch.finfo(torch.float32).max)
    each = scales.repeat_interleave(BLOCK, dim=1)[:, : vectors.shape[1]]
    return (vectors.float() * each).clamp(-largest, largest).to(dtype)


def pack_spans(spans: tuple[tuple[int, int], ...] | None) -> list[int] | None:
    """Write spans as runs, since all slots of a chunk share one span.

    >>> pack_spans(((0, 9), (0, 9), (9, 12)))
    [0, 9, 2, 9, 12, 1]

    Args:
        spans: in order; None: none are known.

    Returns:
        Start, end and number of repeats of each run, one after the other.
    """
    if spans is None:
        return None
    runs = ((span, sum(1 for _ in equal)) for span, equal in itertools.groupby(tuple(map(int, each)) for each in spans))
    return [value for span, count in runs for value in (*span, count)]


def unpack_spans(runs: list[int] | None) -> tuple[tuple[int, int], ...] | None:
    """Undo ``pack_spans``.

    Args:
        runs: what it returned.

    Returns:
        The spans.
    """
    if runs is None:
        return None
    triples = zip(runs[::3], runs[1::3], runs[2::3], strict=True)
    return tuple(span for start, end, count in triples for span in itertools.repeat((start, end), count))


def _bytes(tensor: torch.Tensor) -> bytes:
    import torch

    # Through uint8, because numpy has no bfloat16.
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _tensor(value: pa.Scalar, dtype: torch.dtype) -> torch.Tensor:
    import torch

    content = bytearray(value.as_buffer())
    return torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
