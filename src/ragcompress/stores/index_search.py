"""The searching half of an index: in main memory, from disk as a whole, or nearest neighbours first."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from ragcompress.stores import index_rows, opening, ranking
from ragcompress.stores.index_reading import COLUMNS, Found, read_all, whole
from ragcompress.stores.shortening import shortened
from ragcompress.stores.tables import LanceTable

if TYPE_CHECKING:
    import pyarrow as pa
    from lancedb.query import LanceVectorQueryBuilder
    from torch import Tensor

# Up to here everything is compared, in float32 in main memory. Measured (2 cores, 100,000 memories of 8 x 64): 26 ms,
# two stages 34 ms with the index of neighbours and 117 without, everything from disk 910; larger memories take longer
# from disk in proportion.
_EXACT_BYTES = 512 * 1024**2
# Rows that are decoded together.
_BLOCK_BYTES = 64 * 1024**2
# Of the index of neighbours that are looked into for 300 candidates (100,000 rows: 20 lose 0.005 of recall, 40 nothing).
_PARTITIONS = 64
MIN_CANDIDATES = 300
_ALL_PARTITIONS = 2**31 - 1
Form = tuple[int, int, str]


@dataclass(frozen=True)
class State:
    """What is known about one version of the table.

    Attributes:
        version: of the table.
        n_rows: with vectors.
        form: (n_slots, width, dtype) of each; None: there are none.
    """

    version: int
    n_rows: int
    form: Form | None


class IndexSearch:
    """Finds documents in a table of an index; safe to use from several threads."""

    def __init__(self, table: LanceTable) -> None:
        """Read nothing yet.

        Args:
            table: opened, and checked to be an index.
        """
        self._table = table
        self._state = State(-1, 0, None)
        self._snapshot: ranking.Snapshot | None = None
        self._loading = threading.Lock()

    def state(self) -> State:
        """What the table holds now, with what others have committed.

        Returns:
            The state.
        """
        version = self._table.version
        state = self._state
        if state.version != version:
            n_rows = self._table.count(index_rows.condition(()))
            state = self._state = State(version, n_rows, self._form() if n_rows else None)
        return state

    def _form(self) -> Form | None:
        columns = ["n_vectors", "width", "dtype"]
        where = index_rows.condition(())
        query = lambda: self._table.table.search().where(where).select(columns).limit(1).to_arrow().to_pylist()
        rows = self._table.reading(query)
        return (rows[0]["n_vectors"], rows[0]["width"], rows[0]["dtype"]) if rows else None

    def search(
        self, query: Tensor, k: int, *, tags: Sequence[str], exact: bool | None, n_candidates: int, state: State
    ) -> list[Found]:
        """Find documents.

        Args:
            query: (n_numbers,) float32 of length 1.
            k: how many.
            tags: that a document must have.
            exact: compare everything; None: where it fits into main memory.
            n_candidates: chunks that are compared in full otherwise.
            state: of the table.

        Returns:
            The best documents, not yet in order.
        """
        if exact is not False and state.n_rows * query.numel() * 4 <= _EXACT_BYTES:
            snapshot = self._small(state.version)
            best = snapshot.best(query, k, tags)
            if not best:
                return []
            with suppress(*opening.FAILURES):
                places, names = snapshot.places_of(best)
                found = self._table.taken(places, names, COLUMNS, "row")
                if found is not None:
                    return whole(found)
            # Another process has replaced some since.
            keys = [snapshot.keys[document] for document in best]
        elif exact:
            keys = self._table.reading(lambda: self._scanned(query, k, tags))
        else:
            keys = self._nearest(query, k, tags, max(n_candidates, k))
        return read_all(self._table, keys)

    def _small(self, version: int) -> ranking.Snapshot:
        """The whole table, read once for each version of it."""
        with self._loading:
            if self._snapshot is None or self._snapshot.version != version:
                self._snapshot = None  # so that there are never two
                self._snapshot = self._table.reading(lambda: self._load(version))
            return self._snapshot

    def _load(self, version: int) -> ranking.Snapshot:
        import torch

        names: list[str] = []
        places: list[int] = []
        owners: list[str] = []
        tags: dict[str, frozenset[str]] = {}
        flat: list[Tensor] = []
        for batch in self._batches((), ["tags"]):
            names += batch["row"].to_pylist()
            places += batch["_rowid"].to_pylist()
            owners += batch["key"].to_pylist()
            tags |= {
                key: frozenset(own or ())
                for key, own in zip(batch["key"].to_pylist(), batch["tags"].to_pylist(), strict=True)
            }
            flat.append(ranking.unit(index_rows.flat_vectors(batch)))
        keys = sorted(tags)
        number = {key: index for index, key in enumerate(keys)}
        return ranking.Snapshot(
            version=version,
            names=names,
            places=places,
            keys=keys,
            owners=torch.tensor([number[key] for key in owners], dtype=torch.int64),
            tags=[tags[key] for key in keys],
            flat=torch.cat(flat) if flat else torch.zeros(0, 0),
        )

    def _batches(self, tags: Sequence[str], more: Sequence[str] = ()) -> Iterator[pa.RecordBatch]:
        """All rows with vectors, some at a time."""
        form = self._form()
        if form is None:
            return
        columns = ["row", "key", *more, *index_rows.VECTOR_COLUMNS]
        query = self._table.table.search().where(index_rows.condition(tags)).select(columns).with_row_id(True)
        for batch in query.to_batches(batch_size=max(1, _BLOCK_BYTES // (4 * form[0] * form[1]))):
            if len(batch):
                yield batch

    def _scanned(self, query: Tensor, k: int, tags: Sequence[str]) -> list[str]:
        """Compare everything, from disk."""
        scores: list[float] = []
        keys: list[str] = []
        for batch in self._batches(tags):
            scores += ranking.cosines(ranking.unit(index_rows.flat_vectors(batch)), query).tolist()
            keys += batch["key"].to_pylist()
        return ranking.best_keys(scores, keys, k)

    def _nearest(self, query: Tensor, k: int, tags: Sequence[str], n_candidates: int) -> list[str]:
        """Compare the nearest neighbours of the short vector."""
        short = shortened(query[None])[0].tolist()
        keys = self._table.settled(lambda: self._nearest_once(query, short, k, tags, n_candidates))
        if keys is not None:
            return keys
        # Others write all the time: one query sees one version.
        return self._table.reading(lambda: self._scanned(query, k, tags))

    def _nearest_once(
        self, query: Tensor, short: list[float], k: int, tags: Sequence[str], n_candidates: int
    ) -> list[str] | None:
        while True:
            # On vectors of length 1; the cosine of one without any would be no number.
            search = cast("LanceVectorQueryBuilder", self._table.table.search(short, vector_column_name="short"))
            # Zero: on to further partitions until there are enough.
            search = search.distance_type("dot").minimum_nprobes(_probes(tags, n_candidates)).maximum_nprobes(0)
            search = search.where(index_rows.condition(tags), prefilter=True) if tags else search
            columns = ["row", "key", "n_vectors", "_distance"]
            near = search.limit(n_candidates).select(columns).with_row_id(True).to_arrow()
            found = [row for row in near.to_pylist() if row["n_vectors"]]
            if len(near) < n_candidates or len({row["key"] for row in found}) >= k:
                break
            # Several chunks of few documents.
            n_candidates *= 4
        scores: list[float] = []
        keys: list[str] = []
        step = max(1, _BLOCK_BYTES // (4 * query.numel()))
        for part in (found[begin : begin + step] for begin in range(0, len(found), step)):
            places, names = [row["_rowid"] for row in part], [row["row"] for row in part]
            rows = self._table.taken(places, names, ["row", "key", *index_rows.VECTOR_COLUMNS], "row")
            if rows is None:
                return None
            scores += ranking.cosines(ranking.unit(index_rows.flat_vectors(rows)), query).tolist()
            keys += rows["key"].to_pylist()
        return ranking.best_keys(scores, keys, k)


def _probes(tags: Sequence[str], n_candidates: int) -> int:
    """How many partitions are looked into at least."""
    # Of a filter's matches the nearest may lie anywhere.
    return _ALL_PARTITIONS if tags else min(_ALL_PARTITIONS, _PARTITIONS * -(-n_candidates // MIN_CANDIDATES))
