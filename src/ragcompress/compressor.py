"""The one interface: a compressor turns a query and documents into a ``CompressedContext``.

Backends write one method. A ``Compressor`` writes ``compress_batch``; an ``OfflineCompressor``, whose documents are
encoded without the query, writes ``encode`` and ``select``, and gets the store, the deduplication and the batching
over queries from here.
"""

from __future__ import annotations

import asyncio
import copy
import inspect
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ragcompress.errors import InputError, InputTypeError, OptionError, unknown_name_message
from ragcompress.memories import MemoryStore
from ragcompress.options import change_config
from ragcompress.tokens import TokenCounter, WordCounter
from ragcompress.types import CompressedContext, Document, Memory, as_document

if TYPE_CHECKING:
    from pathlib import Path

    from ragcompress.reader import Reader

# Documents encoded at once when many queries come in one call: enough for full batches, few enough that memory does
# not grow with the number of queries.
_MAX_DOCUMENTS_AT_ONCE = 512


@dataclass(frozen=True, slots=True)
class PublishedCheckpoint:
    """A checkpoint that others have published and that a backend reads.

    Attributes:
        id: on the Hugging Face hub.
        licence: of the weights, in words.
        note: one short remark.
    """

    id: str
    licence: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class BackendInfo:
    """What a backend says of itself; tables are made from it.

    Attributes:
        kind: ``"text"`` or ``"vectors"``, what the segments are.
        summary: one line.
        needs_query: whether the result depends on the query.
        offline: what is computed once for each document, in words; None: nothing.
        checkpoints: published checkpoints that it reads.
        paper: where the method comes from.
    """

    kind: str = "text"
    summary: str = ""
    needs_query: bool = True
    offline: str | None = None
    checkpoints: tuple[PublishedCheckpoint, ...] = ()
    paper: str = ""


@dataclass(frozen=True, slots=True)
class LoadSpec:
    """How a compressor was loaded: enough to load it again, in another process, say.

    Attributes:
        backend: name in the registry.
        checkpoint: path or hub id; None: the backend's default.
        options: keyword arguments of ``load``.
    """

    backend: str
    checkpoint: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)


class Compressor(ABC):
    """Turns a query and documents into a shorter context.

    A compressor may be called from several threads at once, never changes its inputs, and gives equal results for
    equal inputs.

    Attributes:
        name: of the backend, as in the registry.
        info: what the backend says of itself.
        space: None: the result is plain text. Else the embedding space that a reader must share.
        config: the backend's options, a frozen dataclass; None if it has none.
        spec: how it was loaded; None if it was built by hand.
        token_counter: what ``n_tokens`` and ``n_slots`` of its results count.
    """

    name: ClassVar[str] = ""
    info: ClassVar[BackendInfo] = BackendInfo()
    space: str | None = None
    config: Any = None
    spec: LoadSpec | None = None
    token_counter: TokenCounter = WordCounter()

    @abstractmethod
    def compress_batch(
        self, queries: Sequence[str], documents: Sequence[Sequence[Document | str]]
    ) -> list[CompressedContext]:
        """Compress the documents of several queries.

        Args:
            queries: (n_queries,).
            documents: (n_queries,) lists of documents, which may differ in length.

        Returns:
            One context a query; the context of a query without documents is empty.

        Raises:
            InputError: a query is empty, or the numbers of queries and of lists of documents differ.
            InputTypeError: a query or a document has the wrong type.
        """

    def compress(self, query: str, documents: Sequence[Document | str]) -> CompressedContext:
        """Compress the documents of one query.

        Args:
            query: the question; must not be empty unless the backend does without one.
            documents: any number; plain strings are documents without a title.

        Returns:
            What was kept, with its sources.

        Raises:
            InputError: the query is empty.
            InputTypeError: the query or a document has the wrong type.
        """
        return self.compress_batch([query], [documents])[0]

    async def acompress(self, query: str, documents: Sequence[Document | str]) -> CompressedContext:
        """Do the same as ``compress`` in a thread, so that the event loop goes on."""
        return await asyncio.to_thread(self.compress, query, documents)

    def with_options(self, **options: Any) -> Self:
        """Use the same weights with another configuration.

        Args:
            **options: fields of the backend's config.

        Returns:
            A new compressor; this one stays as it is.

        Raises:
            OptionError: an option does not exist or is out of range.
        """
        if self.config is None:
            raise OptionError(f"{type(self).__name__} has no options, got {', '.join(options)}.")
        other = copy.copy(self)
        other.config = change_config(self.config, options)
        if self.spec is not None:
            exclusive = getattr(self.config, "CHOOSE_ONE", ())
            stale: Collection[str] = exclusive if any(name in options for name in exclusive) else ()
            if "preset" in options:
                stale = {field.name for field in fields(self.config)}
            kept = {name: value for name, value in self.spec.options.items() if name not in stale}
            other.spec = replace(self.spec, options=kept | options)
        other._configured()
        return other

    def _configured(self) -> None:  # noqa: B027 (most backends derive nothing)
        """Rebuild what is derived from ``config``; called on the copy that ``with_options`` makes."""

    def reader(self, *, store: MemoryStore | None = None, **options: Any) -> Reader:
        """Build what answers from the vectors of this compressor; backends that make vectors override this.

        Args:
            store: where handles are looked up; None: this compressor's.
            **options: of ``GenerationOptions``, for every call.

        Returns:
            The reader.

        Raises:
            OptionError: the backend makes text, or an option does not exist or is out of range.
        """
        raise OptionError(f"{type(self).__name__} makes text, which any LLM reads: it has no reader of its own.")

    @classmethod
    def from_pretrained(
        cls,
        checkpoint: str | Path | None = None,
        *,
        device: str | None = None,
        dtype: str | None = None,
        revision: str | None = None,
        store: MemoryStore | None = None,
        **options: Any,
    ) -> Self:
        """Build the compressor from a checkpoint; backends with weights override this.

        Args:
            checkpoint: path or hub id.
            device: ``"cuda"``, ``"mps"``, ``"cpu"``; None: the best there is.
            dtype: of the weights, e.g. ``"bfloat16"``; None: as the backend sees fit.
            revision: of a hub checkpoint.
            store: where memories are kept.
            **options: passed to the constructor.

        Returns:
            The compressor.

        Raises:
            OptionError: an option does not exist.
        """
        if checkpoint is not None:
            raise OptionError(f"{cls.__name__} reads no checkpoint, got {str(checkpoint)!r}.")
        known = [
            name
            for name, parameter in inspect.signature(cls).parameters.items()
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        ]
        for name in options:
            if name not in known:
                raise OptionError(unknown_name_message("option", name, known))
        return cls(**options)

    @classmethod  # noqa: B027 (a backend may have nothing to check)
    def check_options(cls, **options: Any) -> None:
        """Check keyword arguments of ``from_pretrained`` as far as that goes without loading anything.

        Args:
            **options: as for ``ragcompress.load``.

        Raises:
            OptionError: one does not exist or is out of range.
        """

    @classmethod
    def tiny(cls) -> Self:
        """Build a small one, with random weights if it has weights, for tests without a download."""
        return cls()

    def __repr__(self) -> str:
        """Class and configuration."""
        return f"{type(self).__name__}({self.config!r})" if self.config is not None else f"{type(self).__name__}()"


class OfflineCompressor(Compressor):
    """A compressor that encodes documents without looking at the query, and so only once.

    Attributes:
        store: where memories are kept between calls; None: nowhere.
    """

    store: MemoryStore | None = None

    @property
    @abstractmethod
    def memory_space(self) -> str:
        """Name of the space that the memories live in; part of what a store checks."""

    @property
    def memory_settings(self) -> Mapping[str, str | int | float | bool | None]:
        """What of the configuration changes a memory, beside the space; an index notes it. Empty: unknown."""
        return {}

    @abstractmethod
    def memory_key(self, document: Document) -> str:
        """Content address of a document's memory: over its text, title and everything that changes the vectors."""

    @abstractmethod
    def encode(self, documents: Sequence[Document]) -> list[Memory]:
        """Encode documents, in length-bucketed batches.

        Args:
            documents: (n_docs,).

        Returns:
            (n_docs,) memories on the CPU. The store is neither read nor written.
        """

    @abstractmethod
    def select(self, query: str, documents: Sequence[Document], memories: Sequence[Memory]) -> CompressedContext:
        """Build the context of one query from encoded documents.

        Args:
            query: the question.
            documents: (n_docs,).
            memories: (n_docs,), the memory of each document.

        Returns:
            The context.
        """

    def select_batch(
        self, queries: Sequence[str], documents: Sequence[Sequence[Document]], memories: Sequence[Sequence[Memory]]
    ) -> list[CompressedContext]:
        """Do the same as ``select`` for several queries; backends that encode queries override it to batch them.

        Args:
            queries: (n_queries,).
            documents: (n_queries,) lists.
            memories: (n_queries,) lists as long as those of ``documents``.

        Returns:
            One context a query.
        """
        return [self.select(*each) for each in zip(queries, documents, memories, strict=True)]

    def remember(self, documents: Sequence[Document | str]) -> dict[str, Memory]:
        """Bring the memories of documents together: from the store, else encoded now and put there.

        Call it at ingestion to fill the store ahead of the first query.

        Args:
            documents: any number; equal ones are encoded once.

        Returns:
            Memories by key.

        Raises:
            InputTypeError: a document has the wrong type.
        """
        return self._recall(check_documents(documents))[1]

    def _recall(self, documents: Sequence[Document]) -> tuple[list[str], dict[str, Memory]]:
        keys = [self.memory_key(document) for document in documents]
        unique = dict(zip(keys, documents, strict=True))
        found = (
            self.store.get(list(unique), space=self.memory_space) if self.store is not None else [None] * len(unique)
        )
        memories = {key: memory for key, memory in zip(unique, found, strict=True) if memory is not None}
        missing = [key for key in unique if key not in memories]
        # In groups, each put as soon as it is done: what was encoded is not lost if a later one fails.
        for start in range(0, len(missing), _MAX_DOCUMENTS_AT_ONCE):
            group = missing[start : start + _MAX_DOCUMENTS_AT_ONCE]
            encoded = dict(zip(group, self.encode([unique[key] for key in group]), strict=True))
            if self.store is not None:
                self.store.put(encoded)
                if getattr(self.store, "lossy", False):
                    # The first answer must be the one that every later one is.
                    kept = zip(group, self.store.get(group, space=self.memory_space), strict=True)
                    encoded |= {key: memory for key, memory in kept if memory is not None}
            memories |= encoded
        return keys, memories

    def compress_batch(
        self, queries: Sequence[str], documents: Sequence[Sequence[Document | str]]
    ) -> list[CompressedContext]:
        """Look up the store, encode what is missing, select; see ``Compressor.compress_batch``."""
        queries = listed(queries)
        checked = check_inputs(queries, documents, needs_query=self.info.needs_query)
        contexts: list[CompressedContext] = []
        for group in query_groups(checked):
            contexts += self._compress_group([queries[index] for index in group], [checked[index] for index in group])
        return contexts

    def _compress_group(self, queries: list[str], documents: list[tuple[Document, ...]]) -> list[CompressedContext]:
        begin = time.perf_counter()
        keys, memories = self._recall([document for each in documents for document in each])
        encoded = time.perf_counter()
        by_place = iter(keys)
        by_query = [[memories[next(by_place)] for _ in each] for each in documents]
        contexts = self.select_batch(queries, documents, by_query)
        # Steps are shared by the queries of a batch; each context says its share.
        timings = {
            "encode_ms": (encoded - begin) * 1000 / len(queries),
            "select_ms": (time.perf_counter() - encoded) * 1000 / len(queries),
        }
        return [
            replace(
                context,
                timings=timings,
                truncated_documents=tuple(index for index, memory in enumerate(own) if memory.truncated),
            )
            for context, own in zip(contexts, by_query, strict=True)
        ]


def listed(queries: Sequence[str]) -> Sequence[str]:
    """Read queries once, if they are any; ``check_inputs`` refuses everything else.

    Args:
        queries: what the caller gave.

    Returns:
        A list, or what it was.
    """
    return list(queries) if isinstance(queries, Iterable) and not isinstance(queries, str) else queries


def query_groups(documents: Sequence[Sequence[Document]], most: int = _MAX_DOCUMENTS_AT_ONCE) -> Iterator[list[int]]:
    """Split queries into runs with no more documents together than a limit (or a single query).

    Args:
        documents: (n_queries,) lists.
        most: documents of a run.

    Yields:
        Indices of the queries of one run.
    """
    group: list[int] = []
    n_docs = 0
    for index, each in enumerate(documents):
        if group and n_docs + len(each) > most:
            yield group
            group, n_docs = [], 0
        group.append(index)
        n_docs += len(each)
    if group:
        yield group


def check_inputs(
    queries: Sequence[str], documents: Sequence[Sequence[Document | str]], *, needs_query: bool = True
) -> list[tuple[Document, ...]]:
    """Check what a caller handed to ``compress_batch``.

    Args:
        queries: (n_queries,).
        documents: (n_queries,) lists of documents or strings.
        needs_query: whether an empty query is refused.

    Returns:
        (n_queries,) tuples of documents.

    Raises:
        InputError: a query is empty, or the lengths differ.
        InputTypeError: something has the wrong type; says which.
    """
    if any(
        isinstance(each, (str, bytes, Document, Mapping)) or not isinstance(each, Iterable)
        for each in (queries, documents)
    ):
        raise InputTypeError(
            "compress_batch expects a list of queries and a list of lists of documents.",
            hint="For a single query call compress.",
        )
    queries, documents = list(queries), list(documents)
    if len(queries) != len(documents):
        raise InputError(
            f"{len(queries)} queries came with {len(documents)} lists of documents; one list a query is expected."
        )
    for index, query in enumerate(queries):
        place = "query" if len(queries) == 1 else f"queries[{index}]"
        if not isinstance(query, str):
            raise InputTypeError(f"{place} must be a string, got {type(query).__name__}.")
        if needs_query and not query.strip():
            raise InputError(f"{place} is empty ({query!r}); this compressor keeps what is relevant to a query.")
    return [check_documents(each) for each in documents]


def check_documents(documents: Iterable[Document | str]) -> tuple[Document, ...]:
    """Check what a caller handed over as a list of documents.

    Args:
        documents: any iterable of documents or strings.

    Returns:
        The documents.

    Raises:
        InputTypeError: it is no list of documents, or one of its members is no document; says which.
    """
    if isinstance(documents, (str, bytes, Document, Mapping)) or not isinstance(documents, Iterable):
        raise InputTypeError(
            f"documents is a single {type(documents).__name__}; expected a list of documents.", hint="Put it in a list."
        )
    return tuple(as_document(document, index) for index, document in enumerate(documents))
