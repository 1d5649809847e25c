"""A corpus of memories on disk that is searched by the cosine between flattened memories.

Small corpora are compared as a whole, in main memory. In large ones the nearest neighbours of a short vector are
looked up first, and only those candidates are compared in full.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ragcompress.errors import InputTypeError, OptionError
from ragcompress.memories import check_space
from ragcompress.options import check_range
from ragcompress.stores import index_checks, index_entries, index_reading, index_rows, ranking, rows
from ragcompress.stores.hits import Hit, hit_of
from ragcompress.stores.index_search import MIN_CANDIDATES, IndexSearch, State
from ragcompress.stores.keys import check_keys
from ragcompress.stores.tables import LanceTable
from ragcompress.stores.upkeep import Upkeep
from ragcompress.types import Document, Memory

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Hit", "MemoryIndex"]

_CANDIDATES_PER_RESULT = 10
# Measured for 100,000 documents: 123 ms without, 34 ms with it, equal recall (0.99); built in 2.4 s.
_MIN_ROWS_FOR_NEIGHBOURS = 50_000


class MemoryIndex:
    """A persistent, searchable corpus in a folder or in object storage; needs the extra ``[store]``.

    An ``add`` of up to 512 documents and 512 MiB is one commit: it is there as a whole or not at all. Several processes
    may write at once, and each search sees what others have committed.
    """

    def __init__(
        self,
        location: str | Path,
        *,
        space: str,
        dtype: object = None,
        table: str = index_rows.TABLE,
        settings: Mapping[str, index_rows.Scalar] | None = None,
    ) -> None:
        """Open an index, or make an empty one.

        Args:
            location: a folder, which is made if it is missing, ``"lancedb://FOLDER"``, or the address of object storage
                (``"s3://..."``, ``"gs://..."``, ``"az://..."``; credentials come from the environment).
            space: the compressor's ``memory_space``; an index holds memories of one space.
            dtype: what vectors are stored in: ``"float32"``, ``"bfloat16"``, ``"float16"`` or ``"int8"``, with scales;
                None: as the index was made, and in a new one as they come.
            table: name of the table.
            settings: everything of the compressor's configuration that changes a key (strings, numbers, booleans and
                None by name). A new index notes them; one that has noted others is refused, since none of its
                documents would be found under its key. None, or an index that has noted none: not compared.

        Raises:
            MissingExtraError: lancedb is not installed.
            OptionError: an option has an impossible value, or the location is a folder of something else or cannot be
                written.
            SpaceMismatchError: the index was built by another checkpoint, at another rate, in another number format or
                with other settings.
            InputError: the table is damaged, not an index, or of a newer version, or there is no room for it.
        """
        if not isinstance(space, str) or not space:
            raise OptionError(f"space must be the name of an embedding space, got {space!r}.")
        self.space = space
        asked = rows.check_dtype(dtype)
        wanted = index_checks.check_settings(settings)
        make = lambda: index_rows.schema(space, asked, wanted, identity=uuid.uuid4().hex)
        self._table = LanceTable.made(location, table, make, owner="MemoryIndex", kind="index")
        self.location, self.table = self._table.location, self._table.name
        self._take_up(asked, wanted)
        self._search = IndexSearch(self._table)
        self._upkeep = Upkeep(self._table, self._index_neighbours)

    def _take_up(self, dtype: str | None, settings: Mapping[str, index_rows.Scalar] | None) -> None:
        """Check what lies there."""
        noted = self._table.metadata
        index_checks.check_format(self._table, noted)
        self.dtype = index_checks.check_opened(self._table, noted, self.space, dtype)
        there = index_checks.noted_settings(noted)
        index_checks.compare_settings(self._table, there, settings)
        self.settings, self._identity = there, noted.get(index_rows.IDENTITY_FIELD, b"")

    def _state(self) -> State:
        state = self._search.state()
        if state.edition.identity != self._identity:
            # Deleted and built anew since, perhaps by another checkpoint.
            self._take_up(None, self.settings)
        return state

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
        self._check(entries)
        schema = index_rows.schema(self.space, self.dtype, self.settings)
        parts = list(index_entries.sized(entries))
        if len(parts) > 1:
            # Metadata and numbers that do not fit must be refused before the first part is written.
            for part in parts:
                index_entries.to_table(entries, part, schema, self.dtype, only_check=True)
        for part in parts:
            found = index_entries.to_table(entries, part, schema, self.dtype)
            self._table.replace(found, "row", part)
        if parts:
            self._upkeep.now_and_then()

    def check(self, key: str, document: Document, memory: Memory) -> None:
        """Find out whether ``add`` would take a document; nothing is written.

        Args:
            key: the compressor's ``memory_key``.
            document: text and what it carries.
            memory: of all its chunks.

        Raises:
            SpaceMismatchError: as ``add``.
            InputError: as ``add``.
            InputTypeError: as ``add``.
        """
        entries = {key: (document, memory)}
        self._check(entries)
        schema = index_rows.schema(self.space, self.dtype, self.settings)
        index_entries.to_table(entries, [key], schema, self.dtype, only_check=True)

    def check_settings(self, settings: Mapping[str, index_rows.Scalar]) -> None:
        """Refuse a compressor that gives other keys to the same documents.

        Args:
            settings: the compressor's ``memory_settings``; empty: unknown, and nothing is compared.

        Raises:
            SpaceMismatchError: the index was built with others.
        """
        index_checks.compare_settings(self._table, self.settings, settings or None)

    def _check(self, entries: index_entries.Entries) -> None:
        check_keys(entries)
        form = self._state().form
        for key, entry in entries.items():
            form = index_checks.check_entry(key, entry, form, self._table, space=self.space, dtype=self.dtype)

    def delete(self, keys: Iterable[str]) -> None:
        """Forget several documents; unknown keys are ignored.

        Args:
            keys: any number.

        Raises:
            InputError: a key holds something other than letters, digits, ``.``, ``_`` and ``-``; or the table cannot
                be written.
        """
        self._table.delete(check_keys(keys))

    def compact(self, *, keep_seconds: float = 60.0) -> None:
        """Merge the pieces that single adds have left, and drop old versions; happens by itself now and then.

        Args:
            keep_seconds: versions younger than that stay, for readers that are at work in them.

        Raises:
            OptionError: ``keep_seconds`` is negative.
            InputError: the table cannot be written.
        """
        self._upkeep.compact(keep_seconds)

    def _index_neighbours(self, n_rows: int) -> None:
        """Index the short vectors where that pays."""
        from lancedb.index import IvfFlat

        table = self._table.table
        # Once it is there, compacting keeps it up to date; what it does not hold yet is compared one by one. The tags
        # have none: with tags of one document each, every compaction takes very long (200,000 documents: 18 s instead
        # of 0.4, while a filter takes 3 ms instead of 11).
        if n_rows >= _MIN_ROWS_FOR_NEIGHBOURS:
            indexed = {name for index in table.list_indices() for name in index.columns}
            if "short" not in indexed:
                table.create_index("short", config=IvfFlat(distance_type="dot"))

    # Reading.

    def get(self, keys: Sequence[str], *, space: str) -> list[Memory | None]:
        """Fetch several memories; see ``MemoryStore.get``.

        Raises:
            SpaceMismatchError: the index holds memories of another space.
            InputError: a key holds something other than letters, digits, ``.``, ``_`` and ``-``; or the table cannot
                be read.
        """
        if space != self.space:
            raise index_checks.mismatch(self._table, repr(self.space), repr(space))
        found = index_reading.read_memories(self._table, check_keys(keys))
        for key, memory in found.items():
            check_space(key, memory, space)
        return [found.get(key) for key in keys]

    def documents(self, keys: Iterable[str]) -> dict[str, Document]:
        """Fetch several documents without their memories.

        Args:
            keys: any number, repeats allowed.

        Returns:
            Those that are there, by key, in the order of the keys.

        Raises:
            InputError: a key holds something other than letters, digits, ``.``, ``_`` and ``-``; or the table cannot
                be read.
        """
        unique = check_keys(keys)
        found = index_reading.read_documents(self._table, unique)
        return {key: found[key] for key in unique if key in found}

    def known(self, keys: Iterable[str]) -> set[str]:
        """Which of some keys have documents.

        Args:
            keys: any number; nothing is kept under what is no key.

        Returns:
            Those.

        Raises:
            InputError: the table cannot be read.
        """
        return self._table.known(keys)

    def keys(self, *, ids: Iterable[str] | None = None, where: Mapping[str, object] | None = None) -> list[str]:
        """Keys, e.g. of documents that are to be deleted because their text has changed.

        Args:
            ids: of the documents; None: any.
            where: metadata that they must have, by name, equal values.

        Returns:
            Sorted.

        Raises:
            InputTypeError: ``ids`` is a single string, or ``where`` is no mapping of names.
            InputError: the table cannot be read.
        """
        if isinstance(ids, str):
            raise InputTypeError(f"ids is a single string, {ids!r}; expected a list of ids.", hint="Put it in a list.")
        return sorted(
            index_reading.find_keys(self._table, None if ids is None else set(ids), index_rows.where_tags(where))
        )

    def __contains__(self, key: object) -> bool:
        """Whether a document is kept under a key."""
        return isinstance(key, str) and bool(self._table.known([key]))

    def __len__(self) -> int:
        """How many documents are kept."""
        return self._table.count("chunk = 0")

    @property
    def n_bytes(self) -> int:
        """What the table takes on disk, old versions included; in object storage: its current version alone."""
        return self._upkeep.n_bytes

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
            where: metadata that documents must have, by name, equal values. It narrows a search and keeps no tenants
                apart: equal documents of two owners are one entry, with the metadata of one of them.
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
        state = self._state()
        index_checks.check_query(query_vectors, state.form)
        if state.form is None:
            return []
        query = ranking.unit(query_vectors.detach().cpu().flatten())
        found = self._search.search(
            query,
            k,
            tags=tags,
            exact=exact,
            n_candidates=n_candidates or max(MIN_CANDIDATES, _CANDIDATES_PER_RESULT * k),
            state=state,
        )
        # Another process may just have replaced one by nothing.
        hits = [hit_of(query, *each) for each in found if len(each[2].vectors)]
        return sorted(hits, key=lambda hit: (-hit.score, hit.key))

    def __repr__(self) -> str:
        """Where it is."""
        return f"MemoryIndex({self.location!r}, space={self.space!r}, dtype={self.dtype!r}, table={self.table!r})"

    def __reduce__(self) -> tuple[Callable[..., MemoryIndex], tuple[object, ...]]:
        """Open it again at the same place."""
        return _reopen, (self.location, self.space, self.dtype, self.table, self.settings)


def _reopen(
    location: str, space: str, dtype: str | None, table: str, settings: Mapping[str, index_rows.Scalar] | None
) -> MemoryIndex:
    return MemoryIndex(location, space=space, dtype=dtype, table=table, settings=settings)
