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
from ragcompress.stores.snapshots import COLUMNS as SNAPSHOT_COLUMNS
from ragcompress.stores.snapshots import Snapshot, snapshot_of
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
# Looked into for 300 candidates (100,000 rows: 20 lose 0.005 of recall, 40 nothing).
_PARTITIONS = 64
MIN_CANDIDATES = 300
_ALL_PARTITIONS = 2**31 - 1
Form = tuple[int, int, str]


@dataclass(frozen=True, slots=True)
class Edition:
    """What the table held at one time.

    Attributes:
        identity: of the index; another one was built anew in the same place.
        version: of the table, larger with each commit.
    """

    identity: bytes
    version: int

    def has_all_of(self, other: Edition) -> bool:
        """Whether all of another one's commits are in it."""
        return self.identity == other.identity and self.version >= other.version


@dataclass(frozen=True, slots=True)
class State:
    """What is known about one edition of the table.

    Attributes:
        edition: which.
        n_rows: how many, with those without vectors.
        form: (n_slots, width, dtype) of each memory; None: there are none.
    """

    edition: Edition
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
        self._state: State | None = None
        # What was read, and what it holds at least.
        self._read: tuple[Snapshot | None, Edition] | None = None
        self._reading = threading.Lock()

    def state(self) -> State:
        """What the table holds now, with what others have committed.

        Returns:
            The state.
        """
        edition = self._edition()
        state = self._state
        if state is None or state.edition != edition:
            n_rows = self._table.count()
            state = self._state = State(edition, n_rows, self._form() if n_rows else None)
        return state

    def _edition(self) -> Edition:
        # In this order: a version that is too new for the identity is not taken for what was read.
        identity = self._table.metadata.get(index_rows.IDENTITY_FIELD, b"")
        return Edition(identity, self._table.version)

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
            return self._in_main_memory(query, k, tags, state.edition)
        if exact:
            keys = self._table.reading(lambda: self._scanned(query, k, tags))
        else:
            keys = self._nearest(query, k, tags, max(n_candidates, k))
        return read_all(self._table, keys)

    def _in_main_memory(
        self, query: Tensor, k: int, tags: Sequence[str], edition: Edition, *, again: bool = True
    ) -> list[Found]:
        snapshot = self._snapshot(edition)
        best = [] if snapshot is None else snapshot.best(query, k, tags)
        if snapshot is None or not best:
            return []
        with suppress(*opening.FAILURES):
            rows = self._table.taken(*snapshot.places_of(best), COLUMNS, "row")
            if rows is not None:
                return whole(rows)
        # Another process has replaced some since.
        found = read_all(self._table, [snapshot.keys[document] for document in best])
        if found or not again:
            return found
        # Or all of them, without a newer version: an older copy was put back.
        with self._reading:
            self._state = self._read = None
        return self._in_main_memory(query, k, tags, edition, again=False)

    def _snapshot(self, edition: Edition) -> Snapshot | None:
        """The whole table, read once for each version of it."""
        with self._reading:
            if self._read is None or not self._read[1].has_all_of(edition):
                self._read = None  # so that there are never two
                self._read = self._table.reading(self._load)
            return self._read[0]

    def _load(self) -> tuple[Snapshot | None, Edition]:
        # Asked for first: what is read then may be newer, never older.
        edition = self._edition()
        return snapshot_of(self._batches((), SNAPSHOT_COLUMNS)), edition

    def _batches(self, tags: Sequence[str], more: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """All rows with vectors, some at a time."""
        form = self._form()
        if form is None:
            return
        columns = [*more, *index_rows.VECTOR_COLUMNS]
        query = self._table.table.search().where(index_rows.condition(tags)).select(columns).with_row_id(True)
        for batch in query.to_batches(batch_size=max(1, _BLOCK_BYTES // (4 * form[0] * form[1]))):
            if len(batch):
                yield batch

    def _scanned(self, query: Tensor, k: int, tags: Sequence[str]) -> list[str]:
        """Compare everything, from disk."""
        scores: list[float] = []
        keys: list[str] = []
        for batch in self._batches(tags, ["key"]):
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
