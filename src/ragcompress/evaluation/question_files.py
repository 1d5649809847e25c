"""Files to questions: every record is checked before any work is done.

One JSON object a line: ``id``, ``question``, ``answers``, ``docs`` (``title``, ``text``, and, where the data says so,
``is_supporting``, ``sentence_spans`` and ``supporting_sentences``), ``lang``. Other keys are ignored.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ragcompress.errors import InputError
from ragcompress.evaluation.questions import Dataset, Passage, Question, Selection, Span
from ragcompress.tokens import encodable
from ragcompress.types import Document

EVERYTHING = Selection()
# So many are shown of what is wrong with a file.
_MOST_SHOWN = 10
_FORMAT_HINT = 'Expected: {"id", "question", "answers": [...], "docs": [{"title", "text"}, ...]} a line.'


def read_dataset(path: str | Path, selection: Selection = EVERYTHING, *, skip_bad: bool = False) -> Dataset:
    """Read and check a file of questions.

    Args:
        path: of JSON Lines.
        selection: which questions and passages are evaluated.
        skip_bad: whether records that cannot be used are left out; else the first of them are named and nothing is
            read.

    Returns:
        The questions.

    Raises:
        InputError: the file cannot be read, a record cannot be used (with file, line and field), or nothing is left.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except IsADirectoryError as error:
        raise InputError(f"{path} is a directory; a file of JSON Lines is expected.") from error
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist.") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise InputError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8: byte 0x{content[error.start]:02x} at offset {error.start:,} ({error.reason})."
        ) from error
    # Not splitlines(): JSON strings may hold U+2028 and other separators as they are.
    lines = ((f"{path.name}:{number}", line) for number, line in enumerate(text.split("\n"), start=1) if line.strip())
    digest = hashlib.sha256(content).hexdigest()
    return _dataset(path.name.removesuffix(".jsonl"), _parsed(lines), digest, selection, skip_bad=skip_bad)


def dataset_of(
    name: str, records: Iterable[Mapping[str, Any]], selection: Selection = EVERYTHING, *, skip_bad: bool = False
) -> Dataset:
    """Check questions that do not come from a file.

    Args:
        name: of the data.
        records: objects as in a file.
        selection: which questions and passages are evaluated.
        skip_bad: see ``read_dataset``.

    Returns:
        The questions.

    Raises:
        InputError: see ``read_dataset``.
    """
    digest = hashlib.sha256()

    def placed() -> Iterator[tuple[str, Any]]:
        for number, record in enumerate(records, start=1):
            digest.update(json.dumps(record, sort_keys=True, default=str).encode() + b"\n")
            yield f"{name}:{number}", record

    dataset = _dataset(name, placed(), "", selection, skip_bad=skip_bad)
    return replace(dataset, sha256=digest.hexdigest())


def as_record(question: Question) -> dict[str, Any]:
    """Describe a question in the format of the data.

    Args:
        question: any.

    Returns:
        A JSON-safe object that ``question_of`` reads.
    """
    docs = []
    for passage in question.passages:
        entry: dict[str, Any] = {"title": passage.document.title or "", "text": passage.document.text}
        if passage.supporting is not None:
            entry["is_supporting"] = passage.supporting
        if passage.sentences is not None:
            entry["sentence_spans"] = [list(span) for span in passage.sentences]
        if passage.supporting_sentences is not None:
            entry["supporting_sentences"] = list(passage.supporting_sentences)
        docs.append(entry)
    record: dict[str, Any] = {
        "id": question.id, "question": question.text, "answers": list(question.answers), "docs": docs,
    }  # fmt: skip
    return record if question.language is None else {**record, "lang": question.language}


def question_of(record: object) -> Question:
    """Check a record.

    Args:
        record: an object as in a file.

    Returns:
        The question.

    Raises:
        InputError: a field is missing or holds something else; says which.
    """
    if not isinstance(record, Mapping):
        raise InputError(f"expected an object, got {type(record).__name__}.")
    identifier = record.get("id")
    if isinstance(identifier, int) and not isinstance(identifier, bool):
        identifier = str(identifier)
    if not isinstance(identifier, str) or not identifier:
        raise InputError(f"id must be a string, got {_shown(record, 'id')}.")
    text = record.get("question")
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"question must be a text, got {_shown(record, 'question')}.")
    answers = record.get("answers")
    if not isinstance(answers, Sequence) or isinstance(answers, str) or not answers:
        raise InputError(f"answers must be a list with at least one answer, got {_shown(record, 'answers')}.")
    for number, answer in enumerate(answers):
        if not isinstance(answer, str) or not answer.strip():
            raise InputError(f"answers[{number}] must be a text, got {answer!r}.")
    docs = record.get("docs")
    if not isinstance(docs, Sequence) or isinstance(docs, str) or not docs:
        raise InputError(f"docs must be a list with at least one passage, got {_shown(record, 'docs')}.")
    language = record.get("lang")
    if language is not None and not isinstance(language, str):
        raise InputError(f"lang must be a string, got {_shown(record, 'lang')}.")
    passages = tuple(_passage(entry, f"docs[{number}]") for number, entry in enumerate(docs))
    return Question(identifier, text, tuple(answers), passages, language)


def _passage(entry: object, place: str) -> Passage:
    if not isinstance(entry, Mapping):
        raise InputError(f"{place} must be an object with title and text, got {type(entry).__name__}.")
    text, title = entry.get("text"), entry.get("title")
    if not isinstance(text, str):
        raise InputError(f"{place}.text must be a string, got {_shown(entry, 'text')}.")
    if title is not None and not isinstance(title, str):
        raise InputError(f"{place}.title must be a string, got {_shown(entry, 'title')}.")
    supporting = entry.get("is_supporting")
    if supporting is not None and not isinstance(supporting, bool):
        raise InputError(f"{place}.is_supporting must be true or false, got {supporting!r}.")
    sentences = _spans(entry, place, len(text))
    chosen = entry.get("supporting_sentences")
    if chosen is not None:
        if not isinstance(chosen, Sequence) or isinstance(chosen, str):
            raise InputError(
                f"{place}.supporting_sentences must be a list, got {_shown(entry, 'supporting_sentences')}."
            )
        n_sents = len(sentences or ())
        for index in chosen:
            if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < n_sents:
                raise InputError(f"{place}.supporting_sentences names {index!r}; there are {n_sents} sentence_spans.")
        chosen = tuple(chosen)
    return Passage(Document(text, title=title or None), supporting, sentences, chosen)


def _spans(entry: Mapping[str, Any], place: str, length: int) -> tuple[Span, ...] | None:
    given = entry.get("sentence_spans")
    if given is None:
        return None
    spans = []
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise InputError(f"{place}.sentence_spans must be a list, got {_shown(entry, 'sentence_spans')}.")
    for number, span in enumerate(given):
        pair = list(span) if isinstance(span, Sequence) and not isinstance(span, str) else []
        whole = len(pair) == 2 and all(isinstance(end, int) and not isinstance(end, bool) for end in pair)
        if not whole or not 0 <= pair[0] <= pair[1] <= length:
            raise InputError(
                f"{place}.sentence_spans[{number}] must be [start, end] within the {length:,} characters, got {span!r}."
            )
        spans.append((pair[0], pair[1]))
    return tuple(spans)


def _shown(record: Mapping[str, Any], field: str) -> str:
    if field not in record:
        keys = ", ".join(repr(key) for key in record) or "none"
        return f"none; the keys are: {keys}"
    written = repr(record[field])
    return written if len(written) < 80 else f"{written[:77]}..."


def _parsed(lines: Iterable[tuple[str, str]]) -> Iterator[tuple[str, Any]]:
    for place, line in lines:
        try:
            yield place, json.loads(line)
        except json.JSONDecodeError as error:
            yield place, InputError(f"not valid JSON: {error.msg} at column {error.colno}.")
        except (ValueError, RecursionError) as error:  # a number of thousands of digits; brackets without end
            yield place, InputError(f"not readable JSON: {error}.")


def _dataset(
    name: str, records: Iterable[tuple[str, Any]], digest: str, selection: Selection, *, skip_bad: bool
) -> Dataset:
    questions: list[Question] = []
    places: dict[str, str] = {}
    wrong: list[str] = []
    for place, record in records:
        try:
            if isinstance(record, InputError):
                raise record
            question = question_of(record)
            if question.id in places:
                raise InputError(f"the id {question.id!r} is taken by {places[question.id]}.")
        except InputError as error:
            wrong.append(f"{place}: {error}")
            continue
        places[question.id] = place
        questions.append(question)
    if wrong and not skip_bad:
        more = f"\n… and {len(wrong) - _MOST_SHOWN:,} more" if len(wrong) > _MOST_SHOWN else ""
        listed = "\n".join(wrong[:_MOST_SHOWN])
        raise InputError(f"{listed}{more}\n{_FORMAT_HINT} --skip-bad leaves such records out.")
    if not questions:
        raise InputError(f"{name} holds no question that can be used.", hint=wrong[0] if wrong else _FORMAT_HINT)
    chosen = _selected(questions, selection)
    if not chosen:
        raise InputError(f"no question of {name} names passages that support its answer, so gold_only leaves none.")
    return Dataset(name, tuple(chosen), digest, selection, tuple(wrong))


def _selected(questions: Sequence[Question], selection: Selection) -> list[Question]:
    chosen = list(questions)
    if selection.gold_only:
        pairs = [(each, tuple(p for p in each.passages if p.supporting)) for each in chosen]
        chosen = [replace(each, passages=passages) for each, passages in pairs if passages]
    if selection.n_docs is not None:  # before their order is drawn: the first are those that a retriever found best
        chosen = [replace(each, passages=each.passages[: selection.n_docs]) for each in chosen]
    if selection.shuffle_docs is not None:
        chosen = [_shuffled(each, selection.shuffle_docs) for each in chosen]
    return chosen[: selection.limit]


def _shuffled(question: Question, seed: int) -> Question:
    passages = list(question.passages)
    # By the id, so that a question's order does not depend on the questions before it.
    random.Random(encodable(f"{seed}:{question.id}")).shuffle(passages)  # noqa: S311 (nothing to guard)
    return replace(question, passages=tuple(passages))
