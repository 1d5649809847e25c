"""Everything that is compared, as one kind of thing: a name, and a way to compress the passages of a question."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ragcompress.compressor import Compressor, OfflineCompressor
from ragcompress.evaluation.baselines import (
    ALL_DOCUMENTS,
    MATCHED,
    NEEDED,
    NO_CONTEXT,
    all_documents,
    no_context,
)
from ragcompress.evaluation.environment import versions_of
from ragcompress.evaluation.experiments import Experiment, read_peer
from ragcompress.evaluation.identity import identity, weights_of
from ragcompress.evaluation.operations import count_parameters, forward_flops
from ragcompress.evaluation.questions import Question
from ragcompress.evaluation.records import ContestantKind
from ragcompress.tokens import TokenCounter
from ragcompress.types import CompressedContext

if TYPE_CHECKING:
    from ragcompress.evaluation.readers.base import ContextReader


@dataclass(frozen=True, slots=True)
class Compressed:
    """What a contestant made of one question's passages.

    Attributes:
        context: what is left.
        compress_ms: the whole call; None: a store knew a part of it.
        added_ms: the same without what a store keeps of the passages; None: that is not known.
        flops: estimated operations; None: unknown.
    """

    context: CompressedContext
    compress_ms: float | None
    added_ms: float | None = None
    flops: float | None = None


# A question, and the most tokens of its context where the contestant is cut to another's length.
Compress = Callable[[Question, int | None], Compressed]


@dataclass(frozen=True, slots=True)
class Ready:
    """A contestant that can begin.

    Attributes:
        compress: what it does.
        identity: of what it computes with, beside its settings.
    """

    compress: Compress
    identity: str = ""


class Loading:
    """Loads the compressors of experiments, and keeps the last one: two of seven billion weights may not fit.

    Attributes:
        device: of compressors in plain form that name none; None: the best there is.
    """

    def __init__(self, device: str | None = None) -> None:
        """Load nothing yet.

        Args:
            device: of compressors in plain form that name none.
        """
        self.device = device
        self._last: tuple[Experiment, Compressor] | None = None

    def compressor(self, experiment: Experiment) -> Compressor:
        """Load the compressor of an experiment.

        Args:
            experiment: any.

        Returns:
            The compressor.
        """
        from ragcompress.composing.plain import load_stage, read_stage

        if isinstance(experiment.compressor, Compressor):
            return experiment.compressor
        if self._last is None or self._last[0] is not experiment:
            self._last = None
            defaults = {} if self.device is None else {"device": self.device}
            compressor = load_stage(experiment.compressor, defaults)
            if "store" not in read_stage(experiment.compressor)[2] and getattr(compressor, "store", None) is not None:
                compressor.store = None  # type: ignore[attr-defined]  # documents are new to it, as to a first question
            self._last = (experiment, compressor)
        return self._last[1]


@dataclass(frozen=True, slots=True)
class Contestant:
    """One row of the result.

    Attributes:
        name: unique within a dataset.
        kind: what it is.
        settings: what its results depend on; JSON-safe.
        prepare: loads what it needs.
        matched_to: whose length each question is cut to; None: nobody's.
        answered: whether the reader is asked.
    """

    name: str
    kind: ContestantKind
    settings: Mapping[str, Any]
    prepare: Callable[[], Ready]
    matched_to: str | None = None
    answered: bool = True


def fixed_baselines(counter: TokenCounter) -> list[Contestant]:
    """Build the two ends of the scale.

    Args:
        counter: what a token is.

    Returns:
        No context, and all documents.
    """

    def ready(
        make: Callable[[Question, TokenCounter], CompressedContext],
    ) -> Callable[[], Ready]:
        return lambda: Ready(lambda question, _: Compressed(make(question, counter), 0.0, 0.0, 0.0))

    return [
        Contestant(NO_CONTEXT, "baseline", {"baseline": NO_CONTEXT}, ready(no_context)),
        Contestant(ALL_DOCUMENTS, "baseline", {"baseline": ALL_DOCUMENTS}, ready(all_documents)),
    ]


def contestants_of(
    experiment: Experiment, loading: Loading, *, counter: TokenCounter, seed: int, reader: ContextReader | None
) -> list[Contestant]:
    """Build the contestants of an experiment: its compressor, and what is cut to the same length.

    Args:
        experiment: what is compared.
        loading: loads its compressor.
        counter: what a token is.
        seed: of everything drawn.
        reader: of the run, for peers that need a language model.

    Returns:
        The compressor first. A peer that cannot be held to a length is cut to none.
    """
    from ragcompress.evaluation.peers import find_peer

    base, answered = experiment.name, experiment.answered

    def asked(label: str) -> bool:
        return label in answered if not isinstance(answered, str) else answered == "all"

    own = {"compressor": plain(experiment.compressor)}
    found = [
        Contestant(base, "compressor", own, lambda: _loaded(loading.compressor(experiment)), None, answered != "none")
    ]
    for name in experiment.baselines:
        make = _matched(name, counter, seed)
        found.append(Contestant(f"{base}--{name}", "baseline", {"baseline": name}, make, base, asked(name)))
    for peer in experiment.peers:
        label, name, options = read_peer(peer)
        prepare = _peer(name, options, counter, reader)
        settings = {"peer": name, **options}
        if find_peer(name).budgeted:
            found.append(Contestant(f"{base}--{label}", "peer", settings, prepare, base, asked(label)))
        else:
            found.append(Contestant(label, "peer", settings, prepare, None, asked(label)))
    return found


def plain(compressor: Compressor | Mapping[str, Any]) -> Any:  # noqa: ANN401 (JSON-safe)
    """Describe a compressor as JSON-safe values.

    Args:
        compressor: an object, or its plain form.

    Returns:
        The plain form where there is one, else how the object describes itself.
    """
    from ragcompress.composing.plain import write_stage

    if isinstance(compressor, Mapping):
        return _safe(compressor)
    return _safe(write_stage(compressor.spec)) if compressor.spec is not None else repr(compressor)


def _safe(value: object) -> Any:  # noqa: ANN401 (JSON-safe)
    if isinstance(value, Mapping):
        return {str(key): _safe(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [_safe(each) for each in value]
    return value if value is None or isinstance(value, (str, bool, int, float)) else f"<{type(value).__name__}>"


def _loaded(compressor: Compressor) -> Ready:
    n_parameters = count_parameters(compressor)
    # With a store, what a call takes depends on the calls before it.
    fresh = getattr(compressor, "store", None) is None

    def compress(question: Question, _: int | None) -> Compressed:
        begin = time.perf_counter()
        context = compressor.compress(question.text, question.documents)
        took = (time.perf_counter() - begin) * 1000
        n_read = context.n_tokens + compressor.token_counter(question.text)
        flops = forward_flops(n_parameters, n_read) if n_parameters else None
        ahead = _ahead_ms(compressor, context)
        return Compressed(context, took if fresh else None, max(0.0, took - ahead), flops)

    return Ready(compress, identity(compressor))


def _ahead_ms(compressor: Compressor, context: CompressedContext) -> float:
    """What a store would have kept of this call: the encoding of the passages, where the question plays no part."""
    stages = getattr(compressor, "stages", None)
    if stages and context.stages:
        compressor, timings = stages[0], context.stages[0].timings
    else:
        timings = context.timings
    return timings.get("encode_ms", 0.0) if isinstance(compressor, OfflineCompressor) else 0.0


def _matched(name: str, counter: TokenCounter, seed: int) -> Callable[[], Ready]:
    baseline = MATCHED[name]

    def compress(question: Question, max_tokens: int | None) -> Compressed:
        assert max_tokens is not None  # every matched contestant is given one
        context = baseline(question, max_tokens, counter, seed)
        took = context.timings.get("compress_ms", 0.0)
        return Compressed(context, took, took, 0.0)

    return lambda: Ready(compress, json.dumps(versions_of(NEEDED.get(name, ()))))


def _peer(
    name: str, options: Mapping[str, Any], counter: TokenCounter, reader: ContextReader | None
) -> Callable[[], Ready]:
    def prepare() -> Ready:
        from ragcompress.evaluation.peers import build_peer
        from ragcompress.evaluation.readers.base import PromptReader

        peer = build_peer(name, reader=reader if isinstance(reader, PromptReader) else None, **options)

        def compress(question: Question, max_tokens: int | None) -> Compressed:
            context = peer.compress(question.text, question.documents, max_tokens, counter)
            # Without the search for the setting that fits, which nobody pays in use.
            took = context.timings["compress_ms"]
            return Compressed(context, took, took)

        read_by = reader.settings() if reader is not None and not peer.budgeted else None
        return Ready(compress, f"{peer.versions()} {weights_of(peer)} {read_by}")

    return prepare
