"""Context compression for RAG: one compressor interface for every method and every framework.

>>> import ragcompress as rc
>>> "recomp-extractive" in rc.available()
True

The names below are loaded on first use, so that importing the package imports neither torch nor a framework.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ragcompress.adapter import NOTE_KEY as NOTE_KEY
    from ragcompress.adapter import ORIGINAL_KEY as ORIGINAL_KEY
    from ragcompress.adapter import Adapter as Adapter
    from ragcompress.adapter import Outcome as Outcome
    from ragcompress.adapter import carries_handles as carries_handles
    from ragcompress.adapter import note as note
    from ragcompress.adapter import read_note as read_note
    from ragcompress.composing import ContextCompressor as ContextCompressor
    from ragcompress.composing import Deduplicate as Deduplicate
    from ragcompress.composing import Pipeline as Pipeline
    from ragcompress.composing import TokenBudget as TokenBudget
    from ragcompress.compressor import BackendInfo as BackendInfo
    from ragcompress.compressor import Compressor as Compressor
    from ragcompress.compressor import LoadSpec as LoadSpec
    from ragcompress.compressor import OfflineCompressor as OfflineCompressor
    from ragcompress.compressor import PublishedCheckpoint as PublishedCheckpoint
    from ragcompress.compressor import check_inputs as check_inputs
    from ragcompress.errors import CheckpointError as CheckpointError
    from ragcompress.errors import CompressionTimeoutError as CompressionTimeoutError
    from ragcompress.errors import EmptyResultWarning as EmptyResultWarning
    from ragcompress.errors import HandleWarning as HandleWarning
    from ragcompress.errors import InputError as InputError
    from ragcompress.errors import InputTypeError as InputTypeError
    from ragcompress.errors import MemoryNotFoundError as MemoryNotFoundError
    from ragcompress.errors import MissingExtraError as MissingExtraError
    from ragcompress.errors import OptionError as OptionError
    from ragcompress.errors import PassThroughWarning as PassThroughWarning
    from ragcompress.errors import RagCompressError as RagCompressError
    from ragcompress.errors import SpaceMismatchError as SpaceMismatchError
    from ragcompress.errors import UnknownBackendError as UnknownBackendError
    from ragcompress.evaluation.run import evaluate as evaluate
    from ragcompress.handles import attach_question as attach_question
    from ragcompress.handles import without_question as without_question
    from ragcompress.indexing import index as index
    from ragcompress.indexing.summary import IndexSummary as IndexSummary
    from ragcompress.indexing.summary import Reject as Reject
    from ragcompress.memories import InMemoryStore as InMemoryStore
    from ragcompress.memories import MemoryStore as MemoryStore
    from ragcompress.memories import open_store as open_store
    from ragcompress.options import unique_name as unique_name
    from ragcompress.reader import Answer as Answer
    from ragcompress.reader import GenerationOptions as GenerationOptions
    from ragcompress.reader import Reader as Reader
    from ragcompress.reader_adapter import ReaderAdapter as ReaderAdapter
    from ragcompress.registry import available as available
    from ragcompress.registry import find as find
    from ragcompress.registry import load as load
    from ragcompress.searcher import Searcher as Searcher
    from ragcompress.searcher import open_index as open_index
    from ragcompress.searcher import searches as searches
    from ragcompress.searching import SearchingCompressor as SearchingCompressor
    from ragcompress.sentences import get_splitter as get_splitter
    from ragcompress.stores.index import Hit as Hit
    from ragcompress.stores.index import MemoryIndex as MemoryIndex
    from ragcompress.stores.lancedb import LanceDBStore as LanceDBStore
    from ragcompress.tokens import TokenCounter as TokenCounter
    from ragcompress.tokens import get_token_counter as get_token_counter
    from ragcompress.types import CompressedContext as CompressedContext
    from ragcompress.types import CompressedDocument as CompressedDocument
    from ragcompress.types import Document as Document
    from ragcompress.types import Layout as Layout
    from ragcompress.types import Memory as Memory
    from ragcompress.types import MemorySegment as MemorySegment
    from ragcompress.types import Source as Source
    from ragcompress.types import Stage as Stage
    from ragcompress.types import TextSegment as TextSegment
    from ragcompress.types import copied_metadata as copied_metadata
    from ragcompress.types import neutralise as neutralise

__version__ = "0.1.0"

_EXPORTS = {
    "adapter": ("Adapter", "NOTE_KEY", "ORIGINAL_KEY", "Outcome", "carries_handles", "note", "read_note"),
    "composing": ("ContextCompressor", "Deduplicate", "Pipeline", "TokenBudget"),
    "compressor": (
        "BackendInfo",
        "Compressor",
        "LoadSpec",
        "OfflineCompressor",
        "PublishedCheckpoint",
        "check_inputs",
    ),
    "errors": (
        "CheckpointError",
        "CompressionTimeoutError",
        "EmptyResultWarning",
        "HandleWarning",
        "InputError",
        "InputTypeError",
        "MemoryNotFoundError",
        "MissingExtraError",
        "OptionError",
        "PassThroughWarning",
        "RagCompressError",
        "SpaceMismatchError",
        "UnknownBackendError",
    ),
    "evaluation.run": ("evaluate",),
    "handles": ("attach_question", "without_question"),
    "options": ("unique_name",),
    "indexing": ("index",),
    "indexing.summary": ("IndexSummary", "Reject"),
    "memories": ("InMemoryStore", "MemoryStore", "open_store"),
    "reader": ("Answer", "GenerationOptions", "Reader"),
    "reader_adapter": ("ReaderAdapter",),
    "registry": ("available", "find", "load"),
    "searcher": ("Searcher", "open_index", "searches"),
    "searching": ("SearchingCompressor",),
    "sentences": ("get_splitter",),
    "stores.index": ("Hit", "MemoryIndex"),
    "stores.lancedb": ("LanceDBStore",),
    "tokens": ("TokenCounter", "get_token_counter"),
    "types": (
        "CompressedContext",
        "CompressedDocument",
        "Document",
        "Layout",
        "Memory",
        "MemorySegment",
        "Source",
        "Stage",
        "TextSegment",
        "copied_metadata",
        "neutralise",
    ),
}
_MODULE_OF = {name: module for module, names in _EXPORTS.items() for name in names}
__all__ = ["__version__", *sorted(_MODULE_OF)]  # noqa: PLE0604 (computed from the table above)


def __getattr__(name: str) -> Any:  # noqa: ANN401 (a module attribute)
    """Load a public name on first use."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'ragcompress' has no attribute {name!r}")
    value = getattr(import_module(f"ragcompress.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
