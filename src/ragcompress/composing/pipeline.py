"""Compressors one after the other, as one compressor."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

from ragcompress.composing.plain import check_stages, load_stage, named_stage, read_stage, refines, write_stage
from ragcompress.composing.refining import ContextCompressor, is_registered
from ragcompress.composing.running import run_stage
from ragcompress.compressor import BackendInfo, Compressor, LoadSpec, OfflineCompressor, check_inputs
from ragcompress.errors import OptionError, unknown_name_message
from ragcompress.memories import MemoryStore
from ragcompress.reader import Reader
from ragcompress.registry import find
from ragcompress.tokens import TokenCounter
from ragcompress.types import CompressedContext, Document, Memory

# Of the pipeline, where a stage names none of its own.
_SHARED = ("device", "dtype", "store")


class Pipeline(Compressor):
    """Hands what one compressor keeps to the next; the sources of the result point into the original documents.

    A ``ContextCompressor`` reads the segments of the stage before. Any other compressor reads documents: the kept text
    of each document, under its title, id and metadata, with a line end or a space where something was left out.
    Only the last stage may make vectors. The result says in ``stages`` what each stage did; space, layout, token
    counter, reader and kind are those of the last stage.

    Attributes:
        stages: the compressors, in their order.
        info: what the stages make of it together.
    """

    name: ClassVar[str] = "pipeline"
    info: ClassVar[BackendInfo] = BackendInfo(kind="text", summary="compressors one after the other", needs_query=True)

    def __init__(self, stages: Sequence[Compressor | Mapping[str, Any]]) -> None:
        """Load the stages that are given in plain form.

        Args:
            stages: compressors, and dictionaries with ``backend``, ``checkpoint`` if there is one, and options of
                ``ragcompress.load``; at least one.

        Raises:
            OptionError: there is none, one of them is neither, an option of one is wrong, or one that makes vectors is
                not the last. The message names the stage by its number, from 1.
            RagCompressError: a stage cannot be loaded; see ``ragcompress.load``.
        """
        self._build(stages, {})

    def _build(self, given: Sequence[Compressor | Mapping[str, Any]], defaults: Mapping[str, Any]) -> None:
        check_stages(given)
        given = list(_unfolded(given))
        infos = check_stages(given)
        # Documents come as they are to the first stage that is more than a refinement, and only there: what later
        # stages read depends on the question. Handles have to lead somewhere, so the last stage needs the store, too.
        reads_documents = next((n for n, stage in enumerate(given) if not refines(stage)), None)
        stages: list[Compressor] = []
        for number, stage in enumerate(given):
            made = stage
            if isinstance(stage, Mapping):
                keeps = number == reads_documents or infos[number].kind == "vectors"
                own = {name: value for name, value in defaults.items() if name != "store" or keeps}
                with named_stage(number + 1, stage):
                    made = load_stage(stage, own)
            assert isinstance(made, Compressor)  # checked above
            if isinstance(made, ContextCompressor) and stages:
                made = made.counting_with(stages[-1].token_counter)
            stages.append(made)
        self.stages: tuple[Compressor, ...] = tuple(stages)
        written = [
            stage if isinstance(stage, Mapping) else write_stage(stage.spec) if stage.spec is not None else None
            for stage in given
        ]
        self.spec = (
            None if None in written or not is_registered(self) else LoadSpec(self.name, options={"stages": written})
        )
        self._joined()

    def _joined(self) -> None:
        """Take over what the last stage says."""
        # The class cannot know it: what a pipeline is depends on its stages.
        self.info = self.combined([stage.info for stage in self.stages])  # type: ignore[misc]
        self.space = self.stages[-1].space
        self.token_counter = self.stages[-1].token_counter

    @classmethod
    def combined(cls, infos: Sequence[BackendInfo]) -> BackendInfo:
        """Say what a pipeline of some stages is.

        Args:
            infos: of the stages, in their order.

        Returns:
            The kind of the last one; it needs a query if one of them does.
        """
        return replace(cls.info, kind=infos[-1].kind, needs_query=any(info.needs_query for info in infos))

    @classmethod
    def from_pretrained(
        cls,
        checkpoint: str | Path | None = None,
        *,
        device: str | None = None,
        dtype: str | None = None,
        revision: str | None = None,
        store: MemoryStore | None = None,
        stages: Sequence[Compressor | Mapping[str, Any]] = (),
        **options: Any,
    ) -> Self:
        """Load the stages.

        Args:
            checkpoint: belongs to a stage.
            device: of every stage that names none.
            dtype: of every stage that names none.
            revision: belongs to a stage.
            store: of the first stage that reads documents, and of a last stage that makes vectors, where they name
                none: what later stages of text would keep depends on the question.
            stages: see the constructor.
            **options: there are no others.

        Returns:
            The pipeline.

        Raises:
            OptionError: see the constructor.
        """
        for name, value in (("checkpoint", checkpoint), ("revision", revision)):
            if value is not None:
                raise OptionError(
                    f"a pipeline has no {name}, got {value!r}.",
                    hint=f"Name it in its stage: {{'backend': ..., {name!r}: ...}}.",
                )
        cls.check_options(stages=stages, **options)
        given = {"device": device, "dtype": dtype, "store": store}
        made = cls.__new__(cls)
        made._build(stages, {name: value for name, value in given.items() if value is not None})
        return made

    @classmethod
    def check_options(cls, **options: Any) -> None:
        """Check the stages without loading anything; see ``Compressor.check_options``."""
        for name in options:
            if name not in ("stages", *_SHARED):
                raise OptionError(
                    unknown_name_message("option", name, ["stages", *_SHARED]), hint="Options of a stage stand in it."
                )
        check_stages(options.get("stages", ()))

    @classmethod
    def tiny(cls) -> Self:
        """Sentences by a tiny encoder, up to sixty tokens; see ``Compressor.tiny``."""
        return cls([find("recomp-extractive").tiny(), find("token-budget").tiny()])

    def with_options(self, **options: Any) -> Self:
        """Use the same weights with other options of the stages.

        Args:
            **options: ``stages``: for every stage a dictionary of the options that change; empty: none.

        Returns:
            A new pipeline; this one stays as it is.

        Raises:
            OptionError: an option does not exist or is out of range; says in which stage.
        """
        form = f"with_options(stages=[{', '.join(['{}'] * (len(self.stages) - 1) + ['{...}'])}])"
        for name in options:
            if name != "stages":
                raise OptionError(
                    unknown_name_message("option", name, ["stages"]), hint=f"Options belong to a stage: {form}."
                )
        changes = options.get("stages", [{}] * len(self.stages))
        if not isinstance(changes, Sequence) or not all(isinstance(each, Mapping) for each in changes):
            raise OptionError(f"stages must be a list of dictionaries, got {changes!r}.", hint=f"E.g. {form}.")
        if len(changes) != len(self.stages):
            raise OptionError(
                f"stages has {len(changes)} entries for {len(self.stages)} stages; expected one each.",
                hint=f"E.g. {form}.",
            )
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__)
        stages = list(self.stages)
        for number, change in enumerate(changes):
            with named_stage(number + 1, stages[number]):
                stages[number] = stages[number].with_options(**change) if change else stages[number]
            before = other.stages[number - 1].token_counter if number else None
            stages[number] = _bound(stages[number], before)
            other.stages = tuple(stages)
        if self.spec is not None:
            old = self.spec.options["stages"]
            new = [_rewritten(*each) for each in zip(old, changes, stages, strict=True)]
            other.spec = replace(self.spec, options={**self.spec.options, "stages": new})
        other._joined()
        return other

    @property
    def store(self) -> MemoryStore | None:
        """Where handles lead, if the last stage makes vectors; else where the vectors of documents are kept.

        Setting it changes neither the compressors that were given nor copies of the pipeline.
        """
        return getattr(self._keeper, "store", None)

    @store.setter
    def store(self, store: MemoryStore | None) -> None:
        keeper = self._keeper
        if keeper is None:
            raise OptionError("no stage of this pipeline keeps anything, so there is nothing to store.")
        own = copy.copy(keeper)  # copies of a pipeline share its stages
        own.store = store  # type: ignore[attr-defined]  # the stages that keep something have one
        place = next(number for number, stage in enumerate(self.stages) if stage is keeper)
        self.stages = (*self.stages[:place], own, *self.stages[place + 1 :])

    @property
    def _keeper(self) -> Compressor | None:
        return self.stages[-1] if self.info.kind == "vectors" else self._reads_documents

    @property
    def _reads_documents(self) -> OfflineCompressor | Pipeline | None:
        """The stage that the documents come to as they are, if it encodes them ahead of time."""
        first = next((stage for stage in self.stages if not isinstance(stage, ContextCompressor)), None)
        return first if isinstance(first, (OfflineCompressor, Pipeline)) else None

    def remember(self, documents: Sequence[Document | str]) -> dict[str, Memory]:
        """Fill the store of the first stage that reads documents; see ``OfflineCompressor.remember``.

        What later stages read depends on the question, so nothing of it can be computed ahead of time.

        Args:
            documents: any number.

        Returns:
            Memories by key; empty if that stage computes nothing ahead of time.

        Raises:
            InputTypeError: a document has the wrong type.
        """
        first = self._reads_documents
        return first.remember(documents) if first is not None else {}

    def reader(self, *, store: MemoryStore | None = None, **options: Any) -> Reader:
        """Build the reader of the last stage; see ``Compressor.reader``."""
        return self.stages[-1].reader(store=store, **options)

    def compress_batch(
        self, queries: Sequence[str], documents: Sequence[Sequence[Document | str]]
    ) -> list[CompressedContext]:
        """Let all queries through stage by stage, so that each can batch them; see ``Compressor.compress_batch``."""
        queries = list(queries) if isinstance(queries, Iterable) and not isinstance(queries, str) else queries
        checked = check_inputs(queries, documents, needs_query=self.info.needs_query)
        contexts: list[CompressedContext] = []
        for number, stage in enumerate(self.stages, 1):
            contexts = run_stage(number, stage, queries, checked, contexts if number > 1 else None)
        return contexts

    def __repr__(self) -> str:
        """The stages, with the encoder of the one that computes something ahead of time."""
        ahead = self._reads_documents
        space = f", {ahead.memory_space}" if isinstance(ahead, OfflineCompressor) else ""
        return f"Pipeline([{', '.join(map(repr, self.stages))}]{space})"


def _unfolded(
    given: Sequence[Compressor | Mapping[str, Any]],
) -> Iterator[Compressor | Mapping[str, Any]]:
    """Put the stages of pipelines that only refine in their place: they read segments, which a pipeline does not."""
    for stage in given:
        own: Sequence[Compressor | Mapping[str, Any]] = ()
        if type(stage) is Pipeline:
            own = stage.stages
        elif isinstance(stage, Mapping) and find(stage["backend"]) is Pipeline:
            own = read_stage(stage)[2]["stages"]
        inner = list(_unfolded(own))
        if inner and all(map(refines, inner)):
            yield from inner
        else:
            yield stage


def _bound(stage: Compressor, counter: TokenCounter | None) -> Compressor:
    return stage.counting_with(counter) if isinstance(stage, ContextCompressor) and counter is not None else stage


def _rewritten(old: Any, change: Mapping[str, Any], stage: Compressor) -> Any:  # noqa: ANN401 (as the caller gave it)
    """The plain form of a stage whose options changed, without what the pipeline handed to it."""
    if not change:
        return old
    if not isinstance(old, Mapping) or stage.spec is None:
        return stage
    handed = [name for name in _SHARED if name not in old and name not in old.get("options", {})]
    options = {name: value for name, value in stage.spec.options.items() if name not in handed}
    return write_stage(replace(stage.spec, options=options))
