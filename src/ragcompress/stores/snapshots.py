"""A small index in main memory, compared as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragcompress.stores import index_rows
from ragcompress.stores.ranking import best_by_owner, cosines, unit

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor

# Besides the vectors.
COLUMNS = ("row", "key", "tags")
# Numbers at once in float64: 64 MB.
_BLOCK_NUMBERS = 8 * 1024**2
# float32 sums are off by less.
_SLACK = 1e-5


@dataclass(frozen=True)
class Snapshot:
    """All rows with vectors, as they were once.

    Attributes:
        names: (n_rows,) names of the rows.
        places: (n_rows,) row ids.
        keys: (n_docs,) sorted.
        owners: (n_rows,) index of each row's document.
        tags: (n_tags,) the different ones.
        tag_numbers: (n_pairs,) index of a tag.
        tag_owners: (n_pairs,) index of a document that has it.
        flat: (n_rows, n_numbers) float32 of length 1.
    """

    names: pa.Array
    places: Tensor
    keys: list[str]
    owners: Tensor
    tags: pa.Array
    tag_numbers: Tensor
    tag_owners: Tensor
    flat: Tensor

    def best(self, query: Tensor, k: int, tags: Sequence[str]) -> list[int]:
        """Documents with the best chunks.

        Args:
            query: (n_numbers,) float32 of length 1.
            k: how many.
            tags: that a document must have.

        Returns:
            Indices, best first; equal scores in the order of the keys.
        """
        import torch

        if not self.keys:
            return []
        approximate = best_by_owner(self.flat @ query, self.owners, len(self.keys))
        if tags:
            allowed = self._having(tags)
            approximate = approximate.masked_fill(~allowed, -torch.inf)
            k = min(k, int(allowed.sum()))
        k = min(k, len(self.keys))
        if not k:
            return []
        # How a sum is rounded depends on the place of the row: what might be among the best is computed once more.
        near = approximate >= approximate.topk(k).values[-1] - _SLACK
        rows = near[self.owners].nonzero().flatten()
        step = max(1, _BLOCK_NUMBERS // max(1, len(query)))
        exact = torch.cat([cosines(self.flat[part], query) for part in torch.split(rows, step)])
        scores = best_by_owner(exact, self.owners[rows], len(self.keys))
        return torch.sort(scores, descending=True, stable=True).indices[:k].tolist()

    def _having(self, tags: Sequence[str]) -> Tensor:
        """(n_docs,) whether a document has all of some tags."""
        import pyarrow.compute as pc
        import torch

        allowed = torch.ones(len(self.keys), dtype=torch.bool)
        for tag in tags:
            having = torch.zeros_like(allowed)
            having[self.tag_owners[self.tag_numbers == pc.index(self.tags, tag).as_py()]] = True
            allowed &= having
        return allowed

    def places_of(self, documents: Sequence[int]) -> tuple[list[int], list[str]]:
        """Where the rows of documents lie.

        Args:
            documents: indices.

        Returns:
            Row ids, and names of the rows.
        """
        import torch

        rows = torch.isin(self.owners, torch.tensor(documents)).nonzero().flatten()
        return self.places[rows].tolist(), self.names.take(rows.numpy()).to_pylist()


def snapshot_of(batches: Iterable[pa.RecordBatch]) -> Snapshot | None:
    """Take over rows.

    Args:
        batches: columns ``COLUMNS``, those of the vectors and row ids; none is empty.

    Returns:
        The snapshot; None: there are no rows.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import torch

    columns = [*COLUMNS, "_rowid"]
    parts: list[pa.RecordBatch] = []
    flat: list[Tensor] = []
    for batch in batches:
        parts.append(batch.select(columns))
        flat.append(unit(index_rows.flat_vectors(batch)))
    if not parts:
        return None
    table = pa.Table.from_batches(parts)
    names, keys, tags, places = (table[name].combine_chunks() for name in columns)
    documents = keys.dictionary_encode()
    order = pc.array_sort_indices(documents.dictionary)
    rank = torch.empty(len(order), dtype=torch.int64)
    rank[_numbers(order)] = torch.arange(len(order))
    owners = rank[_numbers(documents.indices)]
    different = pc.list_flatten(tags).dictionary_encode()
    return Snapshot(
        names=names,
        places=_numbers(places),
        keys=documents.dictionary.take(order).to_pylist(),
        owners=owners,
        tags=different.dictionary,
        tag_numbers=_numbers(different.indices),
        tag_owners=owners[_numbers(pc.list_parent_indices(tags))],
        flat=torch.cat(flat),
    )


def _numbers(values: pa.Array) -> Tensor:
    import torch

    return torch.from_numpy(values.to_numpy(zero_copy_only=False).astype("int64"))
