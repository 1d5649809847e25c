"""One stage of a pipeline: what it is handed, and how its result is led back to the original documents."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from ragcompress.composing.excerpts import Excerpt, excerpts, traced
from ragcompress.composing.lengths import output_length
from ragcompress.composing.plain import describe
from ragcompress.composing.refining import ContextCompressor, counted, whole
from ragcompress.compressor import Compressor
from ragcompress.errors import InputTypeError
from ragcompress.types import CompressedContext, Document, Stage, TextSegment


def run_stage(
    number: int,
    stage: Compressor,
    queries: Sequence[str],
    documents: Sequence[tuple[Document, ...]],
    contexts: Sequence[CompressedContext] | None,
) -> list[CompressedContext]:
    """Let all queries through one stage.

    Args:
        number: of the stage, from 1.
        stage: any compressor.
        queries: (n_queries,).
        documents: (n_queries,), the original documents.
        contexts: (n_queries,), of the stages before; None: this is the first.

    Returns:
        (n_queries,) contexts of the original documents.
    """
    for context in contexts or ():
        if not all(isinstance(segment, TextSegment) for segment in context.segments):
            raise InputTypeError(
                f"stage {number - 1} ({context.stages[-1].name}) made vectors, which stage {number} "
                f"({describe(stage)}) cannot read.",
                hint="A compressor that makes vectors says so in its info, and comes last.",
            )
    begin = time.perf_counter()
    made, reports = _through(stage, queries, documents, contexts)
    # A step is shared by the queries of a batch; each context says its share.
    took = (time.perf_counter() - begin) * 1000 / max(1, len(queries))
    step = "refine_ms" if isinstance(stage, ContextCompressor) else "compress_ms"
    reports = [report if report.timings else replace(report, timings={step: took}) for report in reports]
    label = f"{number}:{describe(stage)}_ms"
    return [
        _after(context, report, None if contexts is None else contexts[index], label, took)
        for index, (context, report) in enumerate(zip(made, reports, strict=True))
    ]


def _through(
    stage: Compressor,
    queries: Sequence[str],
    documents: Sequence[tuple[Document, ...]],
    contexts: Sequence[CompressedContext] | None,
) -> tuple[list[CompressedContext], list[Stage]]:
    """Results of one stage, led back to the original documents, and what it did."""
    if isinstance(stage, ContextCompressor):
        if contexts is None:
            pairs = zip(queries, documents, strict=True)
            contexts = [whole(query, own, stage.token_counter) for query, own in pairs]
        made = stage.refine(contexts)
        return made, [_report(stage, new, _given(old, stage)) for new, old in zip(made, contexts, strict=True)]
    if contexts is None:
        made = stage.compress_batch(queries, documents)
        return made, [_report(stage, context, context.n_tokens) for context in made]
    found = [excerpts(context) for context in contexts]
    made = stage.compress_batch(queries, [[excerpt.document for excerpt in own] for own in found])
    reports = [_report(stage, context, context.n_tokens) for context in made]
    return [_led_back(stage, *each) for each in zip(made, found, contexts, strict=True)], reports


def _given(context: CompressedContext, stage: Compressor) -> int:
    """Length of what a refining stage was given, in its own tokens."""
    counter = stage.token_counter
    if context.counter == counter.name:
        return context.n_slots
    return output_length(context.documents, context.segments, context.layout, counter)


def _report(stage: Compressor, context: CompressedContext, n_tokens: int) -> Stage:
    # What refines a context takes over its timings, which are of the stages before.
    timings = {} if isinstance(stage, ContextCompressor) else context.timings
    return Stage(describe(stage), n_tokens, context.n_slots, context.counter, timings)


def _led_back(
    stage: Compressor, made: CompressedContext, found: Sequence[Excerpt], before: CompressedContext
) -> CompressedContext:
    counter = stage.token_counter
    cut_off = {document for index in made.truncated_documents for document in found[index].documents}

    def led_back(*, cut: bool) -> CompressedContext:
        segments = [
            each for segment in made.segments for each in traced(segment, found, before.documents, counter, cut=cut)
        ]
        own = replace(before, segments=tuple(segments), layout=made.layout)
        # As a rule it is written as the stage saw it; then there is no need to count again.
        known = {"n_slots": made.n_slots} if made.counter == counter.name and own.text == made.text else {}
        return counted(
            own,
            segments,
            counter,
            space=made.space,
            truncated=made.truncated,
            truncated_documents=tuple(sorted(cut_off)),
            **known,
        )

    context = led_back(cut=True)
    # A title in front of every segment, say: parts of one may be longer than the whole, and a ceiling is a ceiling.
    return context if context.n_slots <= made.n_slots else led_back(cut=False)


def _after(
    context: CompressedContext, report: Stage, before: CompressedContext | None, label: str, took: float
) -> CompressedContext:
    """Add what the stages before have noted."""
    timings = {**({} if before is None else before.timings), label: took}
    if before is None:
        return replace(context, timings=timings, stages=(report,))
    return replace(
        context,
        timings=timings,
        stages=(*before.stages, report),
        truncated=before.truncated or context.truncated,
        truncated_documents=tuple(sorted({*before.truncated_documents, *context.truncated_documents})),
    )
