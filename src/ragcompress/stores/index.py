"""A corpus of memories on disk that is searched by the cosine between flattened memories.

Small corpora are compared as a whole, in main memory. In large ones the nearest neighbours of a short vector are
looked up first, and only those candidates are compared in full.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragcompress.errors import InputError, OptionError
from ragcompress.options import check_range
from ragcompress.stores import index_checks, index_rows, opening, ranking, rows
from ragcompress.stores.index_search import IndexSearch
from ragcompress.stores.lancedb import _among, _check_keys, _parts
from ragcompress.stores.shortening import shortened
from ragcompress.stores.tables import LanceTable
from ragcompress.types import Document, Memory

if TYPE_CHECKING:
    from torch import Tensor

_KEYS_AT_ONCE = 500
_BYTES_AT_ONCE = 64 * 1024**2
_MIN_CANDIDATES = 300
_CANDIDATES_PER_RESULT = 10
# Below, a scan of the keys is as fast as an index.
_MIN_ROWS_TO_INDEX = 4096
# Measured for 100,000 documents: 123 ms without, 34 ms with it, equal recall (0.99); built in 2.4 s.
_MIN_ROWS_FOR_NEIGHBOURS = 50_000


@dataclass(frozen=True, slots=True)
class Hit:
    """A document that was found.

    Attributes:
        key: under which it was added.
        score: cosine of its best chunk with the query.
        document: text and what it carries.
        memory: of all its chunks.
        scores: of each chunk, in order.
    """

    key: str
    score: float
    document: Document
    memory: Memory
    scores: tuple[float, ...]


class MemoryIndex:
    """A persistent, searchable corpus in a folder or in object storage; needs the extra ``[store]``.

    An ``add`` of up to 500 documents and 64 MiB is one commit: it is there as a whole or not at all. Several processes
    may write at once, and each search sees what others have committed.
    """

    def __init__(self, location: str | Path, *, space: str, dtype: object = None, table: str = "index") -> None:
        """Open an index, or make an empty one.

        Args:
            location: a folder, which is made if it is missing, ``"lancedb://FOLDER"``, or the address of object storage
                (``"s3://..."``, ``"gs://..."``, ``"az://..."``; credentials come from the environment).
            space: the compressor's ``memory_space``; an index holds memories of one space.
            dtype: what vectors are stored in: ``"float32"``, ``"bfloat16"``, ``"float16"`` or ``"int8"``, with scales;
                None: as the index was made, and in a new one as they come.
            table: name of the table.

        Raises:
            MissingExtraError: lancedb is not installed.
            OptionError: an option has an impossible value, or the location is a folder of something else or cannot be
                written.
            SpaceMismatchError: the index was built by another checkpoint, at another rate or in another number format.
            InputError: the table is damaged, not an index, or of a newer version.
        """
        if not isinstance(space, str) or not space:
            raise OptionError(f"space must be the name of an embedding space, got {space!r}.")
        self.space = space
        asked = rows.check_dtype(dtype)
        self._table = LanceTable(location, table, lambda: index_rows.schema(space, asked), what="MemoryIndex")
        self.location, self.table = self._table.location, self._table.name
        self.dtype = index_checks.check_opened(self._table, space, asked)
        self._search = IndexSearch(self._table)

    # Writing.

    def add(self, entries: Mapping[str, tuple[Document, Memory]]) -> None:
        """Add documents; what is there already under a key is replaced.

        Everything is checked before anything is written.

        Args:
            entries: documents and memories, by the compressor's ``memory_key``. Documents of equal text and title have
                equal keys, whatever their ids and metadata say. One without vectors is kept and never found.

        Raises:
            SpaceMismatchError: a memory is of another space, shape or number format than the index.
            InputError: a key, a memory (NaN, for one) or metadata cannot be kept, or the table cannot be written.
            InputTypeError: something is no document or no memory.
        """
        _check_keys(entries)
        form = self._search.state().form
        for key, entry in entries.items():
            form = index_checks.check_entry(key, entry, form, self._table, space=self.space, dtype=self.dtype)
        import pyarrow as pa

        schema = index_rows.schema(self.space, self.dtype)
        parts = list(_sized(entries))
        if len(parts) > 1:
            # Metadata and numbers that do not fit must be refused before the first part is written.
            for part in parts:
                self._encoded(entries, part)
        for part in parts:
            found = pa.Table.from_pylist(self._encoded(entries, part), schema=schema)
            self._table.upsert(found, "row", drop=_among(part))
        if parts:
            self._table.maintain(self._index)

    def _encoded(self, entries: Mapping[str, tuple[Document, Memory]], keys: Sequence[str]) -> list[dict[str, Any]]:
        import torch

        bounds = {key: index_rows.chunk_bounds(key, entries[key][1]) for key in keys}
        chunks = [entries[key][1].vectors[first:last].flatten() for key in keys for first, last in bounds[key]]
        short = shortened(torch.stack(chunks).cpu()) if chunks else torch.zeros(0)
        parts = torch.split(short, [len(bounds[key]) for key in keys])
        return [
            row
            for key, part in zip(keys, parts, strict=True)
            for row in index_rows.to_rows(key, *entries[key], part, self.dtype)
        ]

    def delete(self, keys: Iterable[str]) -> None:
        """Forget several documents; unknown keys are ignored.

        Args:
            keys: any number.

        Raises:
            InputError: a key holds something other than letters, digits, ``.``, ``_`` and ``-``; or the table cannot
                be written.
        """
        for part in _parts(_check_keys(keys), _KEYS_AT_ONCE):
            self._table.writing(lambda part=part: self._table.table.delete(_among(part)))  # type: ignore[misc]

    def compact(self, *, keep_seconds: float = 60.0) -> None:
        """Merge the pieces that single adds have left, and drop old versions; happens by itself now and then.

        Args:
            keep_seconds: versions younger than that stay, for readers that are at work in them.

        Raises:
            OptionError: ``keep_seconds`` is negative.
            InputError: the table cannot be written.
        """
        self._table.compact(keep_seconds, self._index)

    def _index(self, n_rows: int) -> None:
        """Index what is looked up where that pays; best effort."""
        from lancedb.index import BTree, IvfFlat

        table = self._table.table
        with suppress(*opening.FAILURES):
            if n_rows >= _MIN_ROWS_TO_INDEX:
                table.create_index("key", config=BTree(), replace=True)
            known = {name for index in table.list_indices() for name in index.columns}
            # Once it is there, compacting keeps it up to date; what it does not hold yet is compared one by one.
            if n_rows >= _MIN_ROWS_FOR_NEIGHBOURS and "short" not in known:
                table.create_index("short", config=IvfFlat(distance_type="dot"))

    # Reading.

    def keys(self) -> list[str]:
        """All keys, sorted."""
        query = lambda: self._table.table.search().where("chunk = 0").select(["key"]).to_arrow()
        return sorted(self._table.reading(query)["key"].to_pylist())

    def __contains__(self, key: object) -> bool:
        """Whether a document is kept under a key."""
        try:
            return self._table.count(_among(_check_keys([key]))) > 0  # type: ignore[list-item]
        except InputError:
            return False

    def __len__(self) -> int:
        """How many documents are kept."""
        return self._table.count("chunk = 0")

    @property
    def n_bytes(self) -> int:
        """What the table takes on disk, old versions included; in object storage: its current version alone."""
        return self._table.n_bytes

    def search(
        self,
        query_vectors: Tensor,
        k: int,
        *,
        where: Mapping[str, object] | None = None,
        exact: bool | None = None,
        n_candidates: int | None = None,
    ) -> list[Hit]:
        """Find the documents whose best chunk is most similar to a query.

        Args:
            query_vectors: (n_slots, width), e.g. of ``Clara.encode_queries``.
            k: how many; more than there are gives all.
            where: metadata that documents must have, by name, equal values.
            exact: compare everything; None: where it fits into 512 MiB as float32.
            n_candidates: chunks that are compared in full otherwise; None: 300, or 10 a result.

        Returns:
            Hits, best first; equal scores in the order of the keys.

        Raises:
            InputError: the query holds NaN or infinity or has another shape than the memories; or the table cannot be
                read.
            OptionError: ``k`` or ``n_candidates`` is below 1.
        """
        check_range("k", k, at_least=1, whole=True)
        check_range("n_candidates", n_candidates, at_least=1, whole=True)
        tags = index_rows.where_tags(where)
        state = self._search.state()
        index_checks.check_query(query_vectors, state.form)
        if state.form is None:
            return []
        query = ranking.unit(query_vectors.detach().cpu().flatten())
        found = self._search.search(
            query,
            k,
            tags=tags,
            exact=exact,
            n_candidates=n_candidates or max(_MIN_CANDIDATES, _CANDIDATES_PER_RESULT * k),
            state=state,
        )
        # Another process may just have replaced one by nothing.
        hits = [_hit(query, *each) for each in found if len(each[2].vectors)]
        return sorted(hits, key=lambda hit: (-hit.score, hit.key))

    def __repr__(self) -> str:
        """Where it is."""
        return f"MemoryIndex({self.location!r}, space={self.space!r}, dtype={self.dtype!r}, table={self.table!r})"

    def __reduce__(self) -> tuple[Callable[..., MemoryIndex], tuple[object, ...]]:
        """Open it again at the same place."""
        return _reopen, (self.location, self.space, self.dtype, self.table)


def _reopen(location: str, space: str, dtype: str | None, table: str) -> MemoryIndex:
    return MemoryIndex(location, space=space, dtype=dtype, table=table)


def _hit(query: Tensor, key: str, document: Document, memory: Memory) -> Hit:
    import torch

    bounds = index_rows.chunk_bounds(key, memory)
    flat = torch.stack([memory.vectors[first:last].flatten() for first, last in bounds])
    scores = tuple(ranking.cosines(ranking.unit(flat), query).tolist())
    return Hit(key, max(scores), document, memory, scores)


def _sized(entries: Mapping[str, tuple[Document, Memory]]) -> Iterator[list[str]]:
    """Keys, in parts of a bearable size."""
    part: list[str] = []
    size = 0
    for key, (document, memory) in entries.items():
        own = memory.n_bytes + len(document.text)
        if part and (size + own > _BYTES_AT_ONCE or len(part) == _KEYS_AT_ONCE):
            yield part
            part, size = [], 0
        part.append(key)
        size += own
    if part:
        yield part
