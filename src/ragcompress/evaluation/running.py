"""One contestant, all questions: compress, count, answer, score, write down; and go on after an interruption."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ragcompress.composing.lengths import output_length
from ragcompress.errors import CheckpointError, InputError, MissingExtraError, OptionError
from ragcompress.evaluation import answers
from ragcompress.evaluation.baselines import all_documents, no_context
from ragcompress.evaluation.contestants import Compress, Compressed
from ragcompress.evaluation.judging import judge_each
from ragcompress.evaluation.operations import forward_flops
from ragcompress.evaluation.prompts import extract_answer
from ragcompress.evaluation.questions import Question
from ragcompress.evaluation.readers import Patience, read_each
from ragcompress.evaluation.readers.base import ContextReader, PromptReader, Reading
from ragcompress.evaluation.readers.failures import describe
from ragcompress.evaluation.record_files import RecordFile
from ragcompress.evaluation.records import Failure, KeptSegment, Record
from ragcompress.evaluation.support import support
from ragcompress.tokens import TokenCounter, WordCounter
from ragcompress.types import CompressedContext, MemorySegment, Segment, write_out
from ragcompress.view import visible

# Questions whose contexts are in memory at once, and answered together.
_AT_ONCE = 16
# After so many questions in a row that fail from the first on, the others would fail as well.
_HOPELESS = 5
# Longest message of a failure, in characters: what was raised may quote a whole prompt.
_MESSAGE_CHARS = 300


class HopelessError(InputError):
    """A contestant fails on one question after the other, from the first on."""


@dataclass(frozen=True, slots=True)
class Scale:
    """What contexts are measured and answered with.

    Attributes:
        counter: what a token is.
        reader: answers; None: nobody does.
        judge: says whether answers are right; None: nobody does.
        to_answer: ids of the questions that are answered.
        patience: decides when a reader or a judge that fails is asked no more; of the whole run.
    """

    counter: TokenCounter
    reader: ContextReader | None
    judge: PromptReader | None
    to_answer: frozenset[str]
    patience: Patience


def run_contestant(
    compress: Compress,
    questions: Sequence[Question],
    budgets: Mapping[str, int] | None,
    scale: Scale,
    file: RecordFile,
    advance: Callable[[int], None],
) -> list[Record]:
    """Let one contestant compress the passages of every question; a run that was interrupted goes on.

    Args:
        compress: what it does.
        questions: (n_questions,).
        budgets: the most tokens by question, of those that can be compared; None: no limit.
        scale: what the contexts are measured with.
        file: where records are, and go.
        advance: told how many questions are done.

    Returns:
        Records in the order of the questions.

    Raises:
        HopelessError: the first questions all fail; the message is that of the first.
        InputError: too many questions in a row cannot be read, or records cannot be written.
        RagCompressError: the very first question shows that an option, a package or a checkpoint is missing.
    """
    done = {record.id: record for record in file.read()}
    if any(record.answer is not None for record in done.values()):
        scale.patience.note(True)  # the reader has answered before
    wanted = [question for question in questions if budgets is None or question.id in budgets]
    advance(len(questions) - len(wanted) + sum(question.id in done for question in wanted))
    left = [question for question in wanted if question.id not in done]
    if left:
        # What is computed once in a process is nobody's latency, and what is wrong with the run is seen here.
        first = _compressed(compress, left[0], budgets)
        if isinstance(first, (OptionError, CheckpointError, MissingExtraError)):
            raise first
    file.begin(done[question.id] for question in wanted if question.id in done)
    for start in range(0, len(left), _AT_ONCE):
        group = left[start : start + _AT_ONCE]
        made = []
        for question in group:
            made.append(_compressed(compress, question, budgets))
            failed = [each for each in made if isinstance(each, Exception)]
            if not done and len(failed) == len(made) == min(_HOPELESS, len(left)):
                raise HopelessError(f"the first {len(made)} questions all fail: {describe(failed[0])}") from failed[0]
        records = _records(group, made, scale)
        file.append(records)
        done |= {record.id: record for record in records}
        advance(len(group))
    return [done[question.id] for question in wanted]


def _compressed(compress: Compress, question: Question, budgets: Mapping[str, int] | None) -> Compressed | Exception:
    try:
        return compress(question, None if budgets is None else budgets[question.id])
    except Exception as error:  # other people's code fails in its own ways; the run goes on with the next question
        return error


def _records(questions: Sequence[Question], made: Sequence[Compressed | Exception], scale: Scale) -> list[Record]:
    records = {}
    contexts: dict[str, CompressedContext] = {}
    by_id = {question.id: question for question in questions}
    asked = scale.to_answer if scale.reader is not None else frozenset()
    for question, each in zip(questions, made, strict=True):
        if isinstance(each, Exception):
            records[question.id] = _lost(question, each, answered=question.id in asked)
            continue
        records[question.id] = _measured(question, each, scale.counter)
        if question.id in asked:
            contexts[question.id] = each.context
    if scale.reader is not None and contexts:
        readings = read_each(scale.reader, list(contexts.values()), patience=scale.patience)
        for identifier, reading in zip(contexts, readings, strict=True):
            records[identifier] = _answered(by_id[identifier], records[identifier], reading, scale.reader)
    if scale.judge is not None:
        answered = [identifier for identifier in contexts if records[identifier].answer is not None]
        _judge([by_id[identifier] for identifier in answered], records, scale.judge, scale.patience)
    return [records[question.id] for question in questions]


def _lost(question: Question, error: Exception, *, answered: bool) -> Record:
    """A compressor that fails has kept nothing: leaving such questions out would flatter it."""
    metrics = {"answer_in_context": 0.0, **support(question, no_context(question, WordCounter()))}
    if answered:
        metrics |= {"exact_match": 0.0, "f1": 0.0, "cover_match": 0.0}
    return Record(question.id, metrics=metrics, failure=Failure("compress", _told(error)))


def _measured(question: Question, made: Compressed, counter: TokenCounter) -> Record:
    context, whole = made.context, all_documents(question, counter)
    metrics: dict[str, float] = {
        "tokens": output_length(context.documents, context.segments, context.layout, counter),
        "all_tokens": whole.n_slots,
        "all_characters": len(whole.text),
    }
    vectors = [segment for segment in context.segments if isinstance(segment, MemorySegment)]
    if vectors:
        metrics["slots"] = sum(segment.n_slots for segment in vectors)
    else:
        text = write_out(context.documents, context.segments, context.layout)
        metrics |= {"characters": len(text), "answer_in_context": answers.contains(text, question.answers)}
    optional = {"compress_ms": made.compress_ms, "added_ms": made.added_ms, "compress_flops": made.flops}
    metrics |= {name: value for name, value in optional.items() if value is not None}
    metrics |= support(question, context)
    return Record(question.id, tuple(_kept(segment, context) for segment in context.segments), metrics=metrics)


def _kept(segment: Segment, context: CompressedContext) -> KeptSegment:
    sources = tuple((source.document, source.start, source.end) for source in segment.sources)
    score = float(segment.score) if segment.score is not None and math.isfinite(segment.score) else None
    if isinstance(segment, MemorySegment):
        return KeptSegment(sources, None, score, segment.n_slots)
    (document, start, end) = sources[0] if len(sources) == 1 else (0, None, None)
    quoted = start is not None and context.documents[document].text[start:end] == segment.text
    return KeptSegment(sources, None if quoted else segment.text, score)


def _answered(question: Question, record: Record, reading: Reading | Exception, reader: ContextReader) -> Record:
    if isinstance(reading, Exception):
        return replace(record, failure=Failure("read", _told(reading)))
    answer = extract_answer(reading.text)
    metrics = {
        **record.metrics,
        "exact_match": answers.exact_match(answer, question.answers),
        "f1": answers.f1(answer, question.answers),
        "cover_match": answers.contains(answer, question.answers),
    }
    optional = {
        "prompt_tokens": reading.n_prompt_tokens,
        "new_tokens": reading.n_new_tokens,
        "prefill_ms": reading.prefill_ms,
        "read_ms": reading.total_ms,
    }
    metrics |= {name: float(value) for name, value in optional.items() if value is not None}
    if "added_ms" in metrics and "read_ms" in metrics:
        metrics["total_ms"] = metrics["added_ms"] + metrics["read_ms"]
    if reader.n_parameters is not None and "prompt_tokens" in metrics and "new_tokens" in metrics:
        n_positions = metrics["prompt_tokens"] + metrics["new_tokens"]
        metrics["read_flops"] = forward_flops(reader.n_parameters, n_positions)
    return replace(record, answer=answer, metrics=metrics)


def _judge(questions: Sequence[Question], records: dict[str, Record], reader: PromptReader, patience: Patience) -> None:
    """Add what a judge says of the answers; one that fails on a question is noted there."""
    given = [records[question.id].answer or "" for question in questions]
    for question, verdict in zip(questions, judge_each(reader, questions, given, patience=patience), strict=True):
        record = records[question.id]
        if isinstance(verdict, Exception):
            records[question.id] = replace(record, failure=Failure("judge", _told(verdict)))
        elif verdict is None:
            records[question.id] = replace(record, failure=Failure("judge", "it said neither yes nor no"))
        else:
            records[question.id] = replace(record, metrics={**record.metrics, "judge": verdict})


def _told(error: Exception) -> str:
    line = visible(describe(error))
    return line if len(line) <= _MESSAGE_CHARS else f"{line[: _MESSAGE_CHARS - 1]}…"
