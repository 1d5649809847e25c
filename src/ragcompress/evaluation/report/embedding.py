"""Single questions, as the page carries them: those that changed first, small, and with nothing a browser could run."""

from __future__ import annotations

import base64
import gzip
import json
import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ragcompress.evaluation.baselines import ALL_DOCUMENTS, NO_CONTEXT
from ragcompress.evaluation.questions import Question
from ragcompress.evaluation.records import KeptSegment, Record
from ragcompress.evaluation.report.contestants import in_order
from ragcompress.evaluation.report.formatting import one_line
from ragcompress.evaluation.report.reading import DatasetResults
from ragcompress.view import LEVELS, visible

# Of one passage; a page is looked at, and nobody looks at more.
MAX_PASSAGE_CHARS = 20_000
_RIGHT = 0.5


def embedded(dataset: DatasetResults, n_questions: int) -> str | None:
    """Pack the questions of a dataset.

    Args:
        dataset: any.
        n_questions: the most of them.

    Returns:
        JSON, compressed and in base64, which holds no character that means something in HTML; None: there is nothing
        to show.
    """
    if not dataset.questions or not dataset.records or not n_questions:
        return None
    chosen = chosen_questions(dataset, n_questions)
    names = [summary.contestant for summary in in_order(dataset.summaries) if summary.contestant in dataset.records]
    units = [_units(question) for question in chosen]
    content = {
        "n_left_out": len(dataset.questions) - len(chosen),
        "questions": [_question(question, places) for question, places in zip(chosen, units, strict=True)],
        "contestants": names,
        "records": [
            [
                _record(dataset.records[name].get(question.id), places)
                for question, places in zip(chosen, units, strict=True)
            ]
            for name in names
        ],
    }
    packed = gzip.compress(json.dumps(safe(content), allow_nan=False, separators=(",", ":")).encode(), mtime=0)
    return base64.b64encode(packed).decode("ascii")


def chosen_questions(dataset: DatasetResults, n_questions: int) -> list[Question]:
    """Choose first what changed under the most contestants, or, without answers, lost the most.

    Args:
        dataset: with questions.
        n_questions: the most of them.

    Returns:
        The questions, in the order of the data.
    """
    questions = dataset.questions or ()
    changes = [_n_changes(dataset, question.id) for question in questions]
    ranked = sorted(range(len(questions)), key=lambda index: (-changes[index], index))
    return [questions[index] for index in sorted(ranked[:n_questions])]


def _n_changes(dataset: DatasetResults, identifier: str) -> float:
    before = dataset.records.get(ALL_DOCUMENTS, {}).get(identifier)
    changes = 0.0
    for name, records in dataset.records.items():
        record = records.get(identifier)
        if record is None or name in (ALL_DOCUMENTS, NO_CONTEXT):
            continue
        if record.failure is not None:
            changes += 1
        elif before is not None and {"cover_match"} <= set(before.metrics) & set(record.metrics):
            changes += (before.metrics["cover_match"] >= _RIGHT) != (record.metrics["cover_match"] >= _RIGHT)
        elif evidence := [name for name in ("support_recall", "document_recall") if name in record.metrics]:
            changes += 1 - record.metrics[evidence[0]]
        else:
            changes += 1 - record.metrics.get("answer_in_context", 1.0)
    return changes


def safe(value: Any) -> Any:  # noqa: ANN401 (JSON)
    """Make values fit for strict JSON and for a browser: no NaN, no control characters, no lone surrogates.

    Args:
        value: of strings, numbers, sequences and mappings.

    Returns:
        The same; what is no number becomes None.
    """
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, Mapping):
        return {visible(str(key)): safe(each) for key, each in value.items()}
    if isinstance(value, Sequence):
        return [safe(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (bool, int, float)) else visible(str(value))


class _Units:
    """Characters as Python counts them -> UTF-16 code units, as a browser counts them."""

    def __init__(self, text: str) -> None:
        self.n_chars = len(text)
        self._wide = [] if text.isascii() else [place for place, char in enumerate(text) if ord(char) > 0xFFFF]

    def span(self, start: int, end: int) -> list[int]:
        ends = (min(max(0, place), self.n_chars) for place in (start, end))
        return [place + bisect_left(self._wide, place) for place in ends]


def _units(question: Question) -> list[_Units]:
    return [_Units(passage.document.text[:MAX_PASSAGE_CHARS]) for passage in question.passages]


def _question(question: Question, units: Sequence[_Units]) -> dict[str, Any]:
    documents = []
    for passage, places in zip(question.passages, units, strict=True):
        text = passage.document.text
        documents.append(
            {
                "title": passage.document.title or "",
                "text": text[:MAX_PASSAGE_CHARS],
                "n_left_out": max(0, len(text) - MAX_PASSAGE_CHARS),
                "supporting": bool(passage.supporting),
                "gold": [places.span(start, end) for start, end in passage.gold or ()],
            }
        )
    return {
        "id": question.id,
        "text": question.text,
        "answers": question.answers,
        "language": question.language or "",
        "documents": documents,
    }


def _record(record: Record | None, units: Sequence[_Units]) -> dict[str, Any] | None:
    if record is None:
        return None
    level = _levels(record.segments)
    return {
        "answer": record.answer,
        "metrics": {name: _short(value) for name, value in record.metrics.items()},
        "failure": None if record.failure is None else [record.failure.step, one_line(record.failure.message)],
        "segments": [
            {
                "sources": list(_sources(segment, units)),
                "text": segment.text,
                "score": None if segment.score is None else _short(segment.score),
                "n_slots": segment.n_slots,
                "level": level(segment.score),
            }
            for segment in record.segments
        ],
    }


def _sources(segment: KeptSegment, units: Sequence[_Units]) -> Iterator[list[int]]:
    """Document, start and end in a browser's units; a document as a whole has no start and end."""
    for document, start, end in segment.sources:
        # A backend may be wrong about its sources; the page is where one looks for such a thing, so it must not fail.
        if 0 <= document < len(units):
            whole = start is None or end is None
            yield [document] if whole else [document, *units[document].span(start or 0, end or 0)]


def _levels(segments: Sequence[KeptSegment]) -> Callable[[float | None], int]:
    """How strongly each score is shaded, as in the library's own view of a result."""
    scores = [segment.score for segment in segments if segment.score is not None and math.isfinite(segment.score)]
    low, high = (min(scores), max(scores)) if scores else (0.0, 0.0)

    def level(score: float | None) -> int:
        width = high / 2 - low / 2
        if score is None or math.isnan(score) or not width > 0:
            return (LEVELS + 1) // 2
        return 1 + round((LEVELS - 1) * min(max((score / 2 - low / 2) / width, 0.0), 1.0))

    return level


def _short(value: float) -> float:
    """Four digits are more than a page shows, but for what was counted."""
    return value if not math.isfinite(value) or value == int(value) else float(f"{value:.4g}")
