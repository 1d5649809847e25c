"""What PISCO and OSCAR share: chunks of documents, segments of results, loading, saving, and the reader."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

from ragcompress.checkpoints import read_json
from ragcompress.compressor import Compressor
from ragcompress.errors import CheckpointError, InputError, OptionError
from ragcompress.options import build_config, check_range
from ragcompress.sentences import Span, get_splitter
from ragcompress.tokens import count_all
from ragcompress.types import Document, Layout, MemorySegment, Segment, Source, TextSegment

if TYPE_CHECKING:
    from torch import Tensor

    from ragcompress.latent.config import LatentConfig
    from ragcompress.latent.formats import DocumentFormat, Row
    from ragcompress.latent.model import LatentModel
    from ragcompress.latent.reader import LatentReader
    from ragcompress.memories import MemoryStore

# Vectors hold their document's title already; a short document that stayed text gets it written in front.
_LAYOUTS = {"prefix": Layout(title="once"), "ignore": Layout(title="never")}
logger = logging.getLogger("ragcompress")

SETTINGS_FILE = "compressor.json"
LOADING = (
    "base",
    "compressor_base",
    "device",
    "dtype",
    "device_map",
    "quantization",
    "attn_implementation",
    "batch_tokens",
)


class Chunk(NamedTuple):
    """A piece of a document as the compressor reads it.

    Attributes:
        span: in ``Document.text``.
        row: its ids.
        truncated: whether the end of the piece was not read.
    """

    span: Span
    row: Row
    truncated: bool


class LatentCompressor(Compressor):
    """A compressor that runs on a ``LatentModel``.

    Attributes:
        model: decoder, compressor, formats and prompt.
        config: the backend's options.
        layouts: published formats that it runs on.
        store: where handles are looked up.
        batch_tokens: padded size of an encoding batch; None: by device.
    """

    config_class: ClassVar[type[LatentConfig]]
    layouts: ClassVar[tuple[str, ...]]
    model: LatentModel
    config: Any
    store: MemoryStore | None
    batch_tokens: int | None = None

    def __init__(
        self, model: LatentModel, config: LatentConfig | None = None, *, store: MemoryStore | None = None
    ) -> None:
        """Take built objects; ``load`` and ``from_pretrained`` read them from a folder or the hub.

        Args:
            model: decoder, compressor, formats and prompt.
            config: of the backend's own class; None: its defaults.
            store: None: nothing is kept between calls, and handles lead nowhere.

        Raises:
            OptionError: the config does not fit the model.
        """
        self.model = model
        self.config = config or self.config_class()
        self.store = store
        self._configured()

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
        """Load from a folder or the hub, in a published layout or in ours, with every adapter that is in the file.

        Args:
            checkpoint: a folder, or a hub id with an optional sub-folder.
            device: ``"cuda"``, ``"mps"``, ``"cpu"``; None: the best there is.
            dtype: ``"float32"``, ``"bfloat16"`` or ``"float16"``; None: as the base model was saved.
            revision: of a hub id.
            store: where memories are kept, and handles looked up.
            **options: of ``LoadOptions`` (``base``, ``compressor_base``, ``device_map``, ``quantization``,
                ``attn_implementation``), ``batch_tokens``, fields of the backend's config, or ``preset``.

        Returns:
            The compressor.

        Raises:
            CheckpointError: the checkpoint or a base model cannot be found or does not fit.
            OptionError: an option does not exist or is out of range.
            MissingExtraError: bitsandbytes is missing.
        """
        model, config, batch_tokens = cls._load(checkpoint, revision, {"device": device, "dtype": dtype, **options})
        compressor = cls(model, config, store=store)
        compressor.batch_tokens = batch_tokens
        if doubt := compressor._doubt():
            logger.warning("%s %s", checkpoint, doubt)
        return compressor

    def _doubt(self) -> str | None:
        """What speaks against this checkpoint's having been trained for this backend, if anything does."""
        return None

    def _configured(self) -> None:
        if self.model.layout not in self.layouts:
            of = "clara" if self.model.layout == "clara-v1" else "pisco"
            raise OptionError(
                f"{self.name} does not read {self.model.layout} checkpoints.", hint=f"rc.load({of!r}, ...) does."
            )
        self.token_counter = self.model.decoder.text.counter
        self.space = self.model.space
        self._splitter = get_splitter(self.config.splitter)
        self._layout = _LAYOUTS[self.config.titles]

    def _form(self, form: DocumentFormat) -> DocumentFormat:
        """A published format with the caller's length, if there is one."""
        length = self.config.max_length
        if length is None:
            return form
        if form.rate is None and length < len(form.memory_tokens):
            raise OptionError(f"max_length={length} is below the {len(form.memory_tokens)} memory tokens of a chunk.")
        return replace(form, max_length=length)

    def _head(self, document: Document) -> str:
        return f"{document.title}\n" if document.title and self.config.titles == "prefix" else ""

    def _chunks(
        self, documents: Sequence[Document], form: DocumentFormat, queries: Sequence[str] | None = None
    ) -> list[list[Chunk]]:
        """Cut documents into inputs of the compressor; a blank document has none."""
        from ragcompress.latent.chunks import chunk_spans

        text = self.model.encoder_text
        room: dict[str | None, int] = {}
        plan: list[tuple[int, Span]] = []
        for index, document in enumerate(documents):
            if not document.text.strip() and self.config.short_documents == "text":
                continue
            if self.config.on_long == "truncate" or not document.text.strip():
                plan.append((index, (0, len(document.text))))
                continue
            query = queries[index] if queries is not None else None
            if query not in room:
                room[query] = _enough(form.room_for_document(text, query), form, query)
            head = len(text.offsets(text.harmless(self._head(document))))
            # A title that fills the window would leave nothing of the text itself.
            n_tokens = max(room[query] - head, room[query] // 2, 1)
            plan += [(index, span) for span in chunk_spans(document.text, text, n_tokens, self._splitter)]
        found: list[list[Chunk]] = [[] for _ in documents]
        while plan:
            texts = [self._head(documents[index]) + documents[index].text[start:end] for index, (start, end) in plan]
            asked = None if queries is None else [queries[index] for index, _ in plan]
            rest: list[tuple[int, Span]] = []
            for (index, (start, end)), row in zip(plan, form.rows(text, texts, asked), strict=True):
                read = start + max(0, row.end - len(self._head(documents[index])))
                unread = documents[index].text[read:end].strip() != ""
                if unread and self.config.on_long == "chunk" and read > start:
                    # Tokens of a piece can be more than those of its sentences; what was not read is read next.
                    skipped = len(documents[index].text[read:end]) - len(documents[index].text[read:end].lstrip())
                    rest.append((index, (read + skipped, end)))
                    end, unread = read, False
                found[index].append(Chunk((start, end), row, unread))
            plan = rest
        return [sorted(chunks, key=lambda chunk: chunk.span) for chunks in found]

    def _lengths(self, documents: Sequence[Document]) -> list[int]:
        """Tokens of documents with their titles, in the decoder's vocabulary."""
        titles = count_all(self.token_counter, [document.title or "" for document in documents])
        return [own + title for own, title in zip(self._counted([d.text for d in documents]), titles, strict=True)]

    def _counted(self, texts: Sequence[str]) -> list[int]:
        return count_all(self.token_counter, texts)

    def _segment(
        self, index: int, document: Document, span: Span, vectors: Tensor, key: str, score: float | None
    ) -> Segment | None:
        """One chunk as vectors, or as text where that is no longer."""
        start, end = span
        text = document.text[start:end]
        n_slots = int(vectors.shape[0])
        if self.config.short_documents == "text":
            n_tokens = self.token_counter(text)
            # Its title would be written in front of it.
            if n_tokens <= n_slots and self.token_counter(self._head(document) + text) <= n_slots:
                return TextSegment(text, (Source(index, start, end),), score, n_tokens) if text.strip() else None
        source = Source(index, start, end) if end > start else Source(index)
        return MemorySegment(vectors, (source,), score, key)

    def _written(self, documents: tuple[Document, ...], segments: Sequence[Segment]) -> int:
        """``n_slots`` of a result: vectors plus the tokens of what stayed text."""
        from ragcompress.types import write_out

        texts = tuple(segment for segment in segments if isinstance(segment, TextSegment))
        slots = sum(segment.n_slots for segment in segments if isinstance(segment, MemorySegment))
        return slots + (self.token_counter(write_out(documents, texts, self._layout)) if texts else 0)

    def _between(self, documents: Sequence[Document]) -> int:
        """Tokens that separate documents and titles when everything is written out."""
        separators = max(0, len(documents) - 1) * self.token_counter(self._layout.document_separator)
        return separators + sum(bool(d.title) for d in documents) * self.token_counter(self._layout.title_separator)

    def reader(self, *, store: MemoryStore | None = None, **options: Any) -> LatentReader:
        """Build the reader of this checkpoint; it shares the weights.

        Args:
            store: where handles are looked up; None: this compressor's.
            **options: of ``GenerationOptions``, for every call.

        Returns:
            The reader.

        Raises:
            OptionError: an option does not exist or is out of range.
        """
        from ragcompress.latent.reader import LatentReader
        from ragcompress.prompts import spaced

        prompt = self.model.prompt
        if self.config.question == "spaced" and self.model.layout == "pisco-v1":
            prompt = spaced(prompt)
        defaults = {"repetition_penalty": self.config.repetition_penalty} | options
        found = self.store if store is None else store  # an empty store is false, and still a store
        return LatentReader(self.model, store=found, prompt=prompt, **defaults)

    def save_pretrained(
        self, folder: str | Path, *, layout: str = "ragcompress", include_base: bool | None = None
    ) -> None:
        """Write the checkpoint and the options, all or nothing.

        Args:
            folder: must not exist, or be empty.
            layout: ``"ragcompress"``: safetensors and JSON; ``"published"``: the files of the authors' own code.
            include_base: whether the base model's weights go with it; None: only if they lie nowhere else.

        Raises:
            CheckpointError: the folder holds something.
            OptionError: no such layout, or the model does not fit into it.
        """
        from ragcompress.latent.checkpoint import save_latent

        settings = {"backend": self.name, "config": self.config.as_json()}
        extra = {SETTINGS_FILE: json.dumps(settings, indent=2) + "\n"}
        save_latent(self.model, folder, layout=layout, include_base=include_base, extra=extra)  # type: ignore[arg-type]  # checked there

    @classmethod
    def _load(
        cls, checkpoint: str | Path | None, revision: str | None, options: dict[str, Any]
    ) -> tuple[LatentModel, LatentConfig, int | None]:
        """Model, config and batch size; ``options`` are those of loading and of the config together."""
        from ragcompress.latent.checkpoint import load_latent
        from ragcompress.latent.options import LoadOptions

        if checkpoint is None:
            raise CheckpointError(
                f"{cls.name} has no default checkpoint; its models have billions of parameters.",
                hint=f"Name one, or a folder: rc.load({cls.name!r}, {cls.info.checkpoints[0].id!r}), or --checkpoint "
                f"{cls.info.checkpoints[0].id} on the command line.",
            )
        own = {name: value for name, value in options.items() if name not in LOADING}
        build_config(cls.config_class, own, other_options=LOADING)
        batch_tokens = options.pop("batch_tokens", None)
        check_range("batch_tokens", batch_tokens, at_least=1, whole=True)
        names = {field.name for field in fields(LoadOptions)}
        model = load_latent(
            checkpoint,
            LoadOptions(**{name: value for name, value in options.items() if name in names}),
            revision=revision,
        )
        config = build_config(cls.config_class, own, defaults=_saved(model.folder, cls), other_options=LOADING)
        return model, config, batch_tokens

    @classmethod
    def check_options(cls, **options: Any) -> None:
        """Check options without loading anything; see ``Compressor.check_options``."""
        from ragcompress.latent.options import LoadOptions

        loading = {name: value for name, value in options.items() if name in LOADING and name != "batch_tokens"}
        LoadOptions(**loading)
        check_range("batch_tokens", options.get("batch_tokens"), at_least=1, whole=True)
        rest = {n: value for n, value in options.items() if n not in (*LOADING, "revision", "store")}
        build_config(cls.config_class, rest, other_options=(*LOADING, "revision", "store"))


def _enough(room: int, form: DocumentFormat, query: str | None) -> int:
    """Refuse questions beside which chunks would be so small that their vectors are hardly fewer than their tokens."""
    least = 2 * form.n_slots(form.limit)
    if query is not None and room < least:
        raise InputError(
            f"the question {query[:60]!r} leaves {room} of the {form.limit} tokens that the compressor reads for its "
            f"document; below {least} nothing would be compressed.",
            hint="Shorten the question, or raise max_length.",
        )
    return room


def _saved(folder: Path | None, compressor: type[LatentCompressor]) -> Mapping[str, Any]:
    """Options that were saved with a checkpoint of ours, by the same backend."""
    if folder is None or not (folder / SETTINGS_FILE).is_file():
        return {}
    path = folder / SETTINGS_FILE
    found = read_json(path)
    if not isinstance(found, Mapping) or not isinstance(found.get("config"), Mapping):
        raise CheckpointError(f"{path} does not hold a backend and its config.")
    return found["config"] if found.get("backend") == compressor.name else {}
