"""What every framework plugin needs, written once.

A compressor held as plain configuration, loaded on first use and guarded against failure; and the note that a
compressed document carries in its metadata.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Literal

from ragcompress.composing import Pipeline, info_of
from ragcompress.compressor import BackendInfo, Compressor, OfflineCompressor
from ragcompress.errors import (
    CompressionTimeoutError,
    HandleWarning,
    OptionError,
    PassThroughWarning,
    UnknownBackendError,
    unknown_name_message,
)
from ragcompress.handles import SECRET_VARIABLE, text_digest
from ragcompress.options import check_choice, check_range
from ragcompress.registry import available, find, load
from ragcompress.types import HANDLE_START, CompressedContext, CompressedDocument, Document, MemorySegment

logger = logging.getLogger("ragcompress")

# One key, whose value is a string: vector stores refuse nested metadata.
NOTE_KEY = "ragcompress"
ORIGINAL_KEY = "ragcompress_original"
_DOCUMENTS_AT_ONCE = 512
# Where compressors and readers that were configured without a store meet.
SHARED_STORE = "memory://ragcompress"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one call.

    Attributes:
        context: the result; None: the documents go on uncompressed.
        reason: why they do; None if they were compressed.
    """

    context: CompressedContext | None
    reason: str | None = None


class Adapter:
    """A compressor as a framework component holds it.

    It is made from plain, JSON-safe configuration and loads the compressor on the first call, or it is given a
    compressor. Pickling keeps the configuration; a compressor that was built by hand is pickled with its weights.
    """

    def __init__(
        self,
        backend: str | Sequence[Mapping[str, Any]] = "recomp-extractive",
        checkpoint: str | None = None,
        options: Mapping[str, Any] | None = None,
        *,
        compressor: Compressor | None = None,
        on_error: Literal["raise", "pass_through"] = "raise",
        timeout: float | None = None,
        min_chars: int = 0,
    ) -> None:
        """Check the configuration; nothing is loaded.

        Args:
            backend: name in the registry; or the stages of a pipeline, each a dictionary with ``backend`` and options.
            checkpoint: path or hub id; None: the backend's default.
            options: keyword arguments of ``ragcompress.load``, and ``handles``: ``"expected"`` says that a reader of
                ours answers, so that nobody has to be warned of handles.
            compressor: an object to use instead of loading one.
            on_error: ``"raise"``, or ``"pass_through"``: warn and hand the documents on as they are.
            timeout: seconds after which a call counts as failed; None: no limit. The work itself runs on in its
                thread.
            min_chars: documents with fewer characters than this together are handed on as they are.

        Raises:
            OptionError: a value is out of range, both a compressor and options or stages came, or a checkpoint came
                with stages.
            UnknownBackendError: no such backend.
        """
        check_choice("on_error", on_error, ("raise", "pass_through"))
        check_range("timeout", timeout, at_least=0.001)
        check_range("min_chars", min_chars, at_least=0, whole=True)
        if compressor is not None and not isinstance(compressor, Compressor):
            raise OptionError(f"compressor must be a ragcompress.Compressor, got {type(compressor).__name__}.")
        if not isinstance(options, Mapping | None):
            raise OptionError(f"options must be a dictionary, got {type(options).__name__}.")
        options = _copied(options)
        if not isinstance(backend, str):
            if compressor is not None:
                raise OptionError("a compressor object came together with the stages of a pipeline; give either.")
            if "stages" in (options or {}):
                raise OptionError("the stages of a pipeline came as backend and as an option; give either.")
            backend, options = Pipeline.name, {**(options or {}), "stages": _copied(backend)}
        handles = (options or {}).get("handles", "warn")
        check_choice("handles", handles, ("warn", "expected"))
        loading = {name: value for name, value in (options or {}).items() if name != "handles"}
        if compressor is not None and (loading or checkpoint is not None):
            raise OptionError(
                "a compressor object came together with options for loading one; give either.",
                hint="compressor.with_options(...) changes the options of an object.",
            )
        if compressor is None:
            names = available()
            if backend not in names:
                raise UnknownBackendError(unknown_name_message("backend", backend, names))
            if backend == Pipeline.name and checkpoint is not None:
                raise OptionError(
                    f"a pipeline came with checkpoint={checkpoint!r}; checkpoints belong to its stages.",
                    hint="Write it into a stage: {'backend': ..., 'checkpoint': ...}.",
                )
            if "checkpoint" in (options or {}):
                raise OptionError("checkpoint is an argument of its own, not one of options.")
            find(backend).check_options(**loading)
        self.backend = str(backend)
        self.checkpoint = checkpoint
        self.options = dict(options or {})
        info = info_of(find(self.backend), loading) if compressor is None else compressor.info
        vectors = info.kind == "vectors"
        if vectors and self.options.get("handles") != "expected":
            warnings.warn(
                f"{compressor.name if compressor is not None else backend} writes handles such as <|rc:KEY:8|> in the "
                "place of text, and a plain LLM cannot read them. Answer with ragcompress's own LLM class "
                "(RagCompressLLM in LlamaIndex, ChatRagCompress in LangChain; handles='expected' says that you do), or "
                "use a text backend such as 'recomp-extractive'.",
                HandleWarning,
                stacklevel=_outside(),
            )
        if vectors and compressor is not None and getattr(compressor, "store", None) is None:
            raise OptionError(
                f"the {compressor.name} compressor has no store, so nobody could read the handles that it writes.",
                hint="Give it one: compressor.store = ragcompress.InMemoryStore().",
            )
        self.info: BackendInfo = info
        self.on_error = on_error
        self.timeout = timeout
        self.min_chars = min_chars
        self._given = compressor
        self._loaded: Compressor | None = None
        self._lock = threading.Lock()
        if compressor is not None and compressor.spec is not None:
            self.backend, self.checkpoint = compressor.spec.backend, compressor.spec.checkpoint
            self.options = dict(compressor.spec.options) | ({"handles": handles} if handles != "warn" else {})
        elif compressor is not None:
            self.backend = compressor.name or type(compressor).__name__
        if vectors and self.options.get("store") is None:
            # Whoever reads the handles has to find the vectors: a store of this process that both sides know.
            self.options["store"] = SHARED_STORE

    @property
    def compressor(self) -> Compressor:
        """The compressor, loaded now if it is not yet."""
        if self._given is not None:
            return self._given
        with self._lock:
            if self._loaded is None:
                options = {name: value for name, value in self.options.items() if name != "handles"}
                self._loaded = load(self.backend, self.checkpoint, **options)
            return self._loaded

    @property
    def backend_class(self) -> type[Compressor]:
        """What the compressor is or will be; nothing is loaded."""
        return type(self._given) if self._given is not None else find(self.backend)

    def configuration(self) -> dict[str, Any]:
        """The backend, checkpoint and options as JSON-safe values.

        Returns:
            Keyword arguments for another ``Adapter`` that behaves the same.

        Raises:
            OptionError: the compressor was built by hand, or an option is an object: neither has a written form.
        """
        if self._given is not None and self._given.spec is None:
            raise OptionError(
                f"a {type(self._given).__name__} that was built by hand has no configuration to write down.",
                hint="Make it with ragcompress.load, or name the backend and its options.",
            )
        try:
            json.dumps(self.options)
        except TypeError as error:
            raise OptionError(
                f"an option cannot be written as JSON: {error}.",
                hint="Name it instead: store='memory://NAME', say, or splitter='punkt'.",
            ) from error
        return {"backend": self.backend, "checkpoint": self.checkpoint, "options": _copied(self.options)}

    def compress(
        self, query: str | None, documents: Sequence[Document], changes: Mapping[str, Any] | None = None
    ) -> Outcome:
        """Compress, or say why not.

        Args:
            query: None or empty: a compressor that needs one passes the documents through.
            documents: any number.
            changes: options of the backend for this call alone.

        Returns:
            The context, or the reason why the documents go on uncompressed.

        Raises:
            OptionError: an option does not exist or is out of range, whatever ``on_error`` says.
            RagCompressError: compression failed and ``on_error`` is ``"raise"``.
        """
        skipped = self._skipped(query, documents)
        if skipped is not None:
            return skipped
        try:
            if self.timeout is None:
                return Outcome(self._compress(query or "", documents, changes))
            pool = ThreadPoolExecutor(1, thread_name_prefix="ragcompress")
            future = pool.submit(self._compress, query or "", documents, changes)
            pool.shutdown(wait=False)
            # A TimeoutError of the compressor's own must not be taken for ours.
            if not wait([future], self.timeout).done:
                raise self._too_slow()
            return Outcome(future.result())
        except Exception as error:  # fail open: whatever went wrong, the caller's pipeline goes on if it asked for that
            return self._failed(error)

    async def acompress(
        self, query: str | None, documents: Sequence[Document], changes: Mapping[str, Any] | None = None
    ) -> Outcome:
        """Do the same off the event loop; see ``compress``."""
        skipped = self._skipped(query, documents)
        if skipped is not None:
            return skipped
        try:
            work = asyncio.create_task(asyncio.to_thread(self._compress, query or "", documents, changes))
            try:
                done, _ = await asyncio.wait([work], timeout=self.timeout)
            finally:
                work.cancel()  # without effect once it is done
            if not done:
                raise self._too_slow()
            return Outcome(work.result())
        except Exception as error:  # as in compress
            return self._failed(error)

    def _compress(
        self, query: str, documents: Sequence[Document], changes: Mapping[str, Any] | None
    ) -> CompressedContext:
        compressor = self.compressor.with_options(**changes) if changes else self.compressor
        return compressor.compress(query, documents)

    def remember(self, documents: Sequence[Document]) -> int:
        """Fill the compressor's store with the memories of documents.

        Args:
            documents: any number.

        Returns:
            How many different memories the documents have; 0 if the compressor keeps none.
        """
        if not documents:
            return 0
        compressor = self.compressor
        if not isinstance(compressor, (OfflineCompressor, Pipeline)):
            return 0
        keys: set[str] = set()
        for start in range(0, len(documents), _DOCUMENTS_AT_ONCE):  # vectors of a whole corpus need not fit into memory
            keys |= compressor.remember(documents[start : start + _DOCUMENTS_AT_ONCE]).keys()
        return len(keys)

    def _skipped(self, query: str | None, documents: Sequence[Document]) -> Outcome | None:
        if not documents:
            return Outcome(None, "no documents")
        if not any(document.text.strip() for document in documents):
            return Outcome(None, "no text")
        if self.min_chars and sum(len(document.text) for document in documents) < self.min_chars:
            return Outcome(None, f"fewer than min_chars={self.min_chars} characters")
        # No weights are loaded to find out.
        if (query is None or not query.strip()) and self.info.needs_query:
            return Outcome(None, "no query")
        return None

    def _too_slow(self) -> CompressionTimeoutError:
        return CompressionTimeoutError(
            f"{self.backend} took longer than timeout={self.timeout} seconds.",
            hint="Raise the timeout, or pass on_error='pass_through'.",
        )

    def _failed(self, error: Exception) -> Outcome:
        # A wrong option is the caller's to repair: passing everything through would hide it for good.
        if self.on_error == "raise" or isinstance(error, OptionError):
            raise error
        reason = f"{type(error).__name__}: {error}"
        warnings.warn(f"documents go on uncompressed: {reason}", PassThroughWarning, stacklevel=4)
        return Outcome(None, reason)

    def __getstate__(self) -> dict[str, Any]:
        """Configuration, and the compressor only if it cannot be loaded again."""
        state = {name: value for name, value in self.__dict__.items() if name not in {"_lock", "_loaded"}}
        # A store that is an object holds vectors that loading again would not bring back; an address would.
        if self._given is not None and self._given.spec is not None and isinstance(self.options.get("store", ""), str):
            state["_given"] = None
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore, to be loaded on the next call."""
        self.__dict__.update(state)
        self._loaded = None
        self._lock = threading.Lock()


def _copied(options: Any) -> Any:  # noqa: ANN401 (whatever JSON knows, and objects)
    """Dictionaries and lists anew, so that nobody changes them later; objects such as stores stay the same."""
    if isinstance(options, Mapping):
        return {name: _copied(value) for name, value in options.items()}
    return type(options)(map(_copied, options)) if type(options) in (list, tuple) else options


def note(outcome: Outcome, part: CompressedDocument | None, backend: str, source_ids: Sequence[str | None] = ()) -> str:
    """Write what was done to one document, for its metadata.

    Args:
        outcome: of the call.
        part: what came from this document (or these documents); None: it was passed through.
        backend: name of the compressor.
        source_ids: the caller's ids of the documents, where the part came from several.

    Returns:
        A JSON object as a string: ``backend``; ``spans`` (``[start, end]`` in the original text, behind the place in
        ``source_ids`` where there are several), ``scores``,
        ``n_tokens`` and ``n_slots`` of this document, ``context_n_tokens`` and ``context_n_slots`` of the whole
        result, ``counter``; or ``skipped``, the reason.
    """
    context = outcome.context
    if context is None or part is None:
        return json.dumps({"backend": backend, "skipped": outcome.reason})
    single = len(part.documents) == 1
    entry: dict[str, Any] = {
        "backend": backend,
        "spans": [span[1:] if single else [part.documents.index(span[0]), *span[1:]] for span in part.spans],
        "scores": [None if segment.score is None else float(segment.score) for segment in part.segments],
        "n_slots": part.n_slots,
        "context_n_tokens": context.n_tokens,
        "context_n_slots": context.n_slots,
        "counter": context.counter,
        "truncated": context.truncated,
    }
    if context.document_tokens:
        entry["n_tokens"] = sum(context.document_tokens[document] for document in part.documents)
    if not single:
        entry["source_ids"] = list(source_ids)
    if any(isinstance(segment, MemorySegment) for segment in part.segments):
        entry["handles"] = text_digest(part.text)
    return json.dumps(entry)


def carries_handles(text: str, metadata: Mapping[str, Any]) -> bool:
    """Whether a document is as an earlier compressor of ours wrote it, with handles in it.

    Such a document goes through a further compressor as it is. Handles in any other text are somebody's writing and
    are made harmless.

    Args:
        text: of the document.
        metadata: with the earlier compressor's note.

    Returns:
        True if text and note agree.
    """
    if HANDLE_START not in text:
        return False
    try:
        noted = read_note(metadata).get("handles")
    except (ValueError, TypeError):  # somebody else's entry under our key
        return False
    if noted and noted != text_digest(text):
        logger.warning(
            "a document has a note of handles, but this process did not write them: they are made harmless. Where one "
            "process compresses and another goes on, set the same %s for both.",
            SECRET_VARIABLE,
        )
        return False
    return bool(noted)


def _outside() -> int:
    """How many callers up the first one is that belongs to no component: there the warning points."""
    frame = sys._getframe(1)
    level = 1
    inner = ("ragcompress.", "langchain_ragcompress", "llama_index.", "pydantic", "langchain_core")
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).startswith(inner):
        frame = frame.f_back
        level += 1
    return level


def read_note(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Read back what ``note`` wrote.

    Args:
        metadata: of a compressed document or node.

    Returns:
        The entries; empty if the document never met a compressor.
    """
    value = metadata.get(NOTE_KEY)
    return dict(json.loads(value)) if isinstance(value, str) else {}
