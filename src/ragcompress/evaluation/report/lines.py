"""The JSON Lines of a folder of results: questions, and what became of each under one contestant."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ragcompress.errors import InputError
from ragcompress.evaluation.question_files import question_of
from ragcompress.evaluation.questions import Question
from ragcompress.evaluation.records import FORMAT, Record, read_record


def read_questions(path: Path) -> tuple[Question, ...]:
    """Read the questions as they were evaluated.

    Args:
        path: of the file.

    Returns:
        The questions, in its order.

    Raises:
        InputError: a line is broken; says which and how.
    """
    questions = []
    for place, written in _objects(path):
        try:
            questions.append(question_of(written))
        except InputError as error:
            raise InputError(f"{place}: {error}") from error
    return tuple(questions)


def read_records(path: Path, fingerprint: str) -> dict[str, Record] | None:
    """Read what became of each question under one contestant.

    Args:
        path: of the file.
        fingerprint: of the summary beside it.

    Returns:
        Records by the id of the question; None: they are of another run than the summary.

    Raises:
        InputError: a line is broken; says which and how.
    """
    lines = _objects(path)
    _, header = next(lines, ("", {}))
    if header.get("format") != FORMAT or header.get("fingerprint") != fingerprint:
        return None
    records = {}
    for place, written in lines:
        try:
            record = read_record(written)
            _check(record)
        except KeyError as error:
            raise InputError(f"{place} is no record of a question: {error} is missing.") from error
        except (TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{place} is no record of a question: {error}.") from error
        records[record.id] = record
    return records


def _check(record: Record) -> None:
    """Raise TypeError for what a page could not be made of."""
    strings = [("id", record.id), ("answer", record.answer or "")]
    strings += [("text", segment.text or "") for segment in record.segments]
    if record.failure is not None:
        strings += [("step of the failure", record.failure.step), ("message", record.failure.message)]
    for name, value in strings:
        if not isinstance(value, str):
            raise TypeError(f"{name} is {value!r}, expected a string")
    numbers = [*record.metrics.items(), *(("score", segment.score or 0) for segment in record.segments)]
    for name, number in numbers:
        if not isinstance(number, (int, float)):
            raise TypeError(f"{name} is {number!r}, expected a number")
    for source in (source for segment in record.segments for source in segment.sources):
        document, start, end = source
        if not isinstance(document, int) or not all(isinstance(place, (int, type(None))) for place in (start, end)):
            raise TypeError(f"a source is {list(source)!r}, expected [document, start, end]")


def _objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a file, each with its place, for messages."""
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    written = json.loads(line)
                except (ValueError, RecursionError) as error:
                    if not line.endswith("\n"):
                        # An interrupted run leaves half a line, and writes it anew when it goes on.
                        return
                    raise InputError(f"{path}:{number} is not JSON: {error}.") from error
                if not isinstance(written, dict):
                    raise InputError(f"{path}:{number} holds a {type(written).__name__}, expected an object.")
                yield f"{path}:{number}", written
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error.reason} at byte {error.start:,}.") from error
