"""Rows of published data sets -> records in the format of our files: pure functions, one for each shape.

The shapes are those that the data sets' authors have published. None of the mappings could be compared with the hub
while they were written; they were tested on rows written by hand. A row of another shape raises: nothing is guessed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ragcompress.errors import InputError

Row = Mapping[str, Any]
Json = dict[str, Any]


def with_sentences(row: Row) -> Json:
    """Map a row of HotpotQA (distractor) or 2WikiMultihopQA: passages in sentences, and which of those support.

    Args:
        row: ``id`` or ``_id``, ``question``, ``answer``, ``context`` and ``supporting_facts``; these two as columns,
            as pairs (the authors' own files), or as pairs written in JSON.

    Returns:
        A record.

    Raises:
        InputError: a supporting fact names a passage or a sentence that is not there.
    """
    passages = _pairs(row["context"], "title", ("sentences", "content"))
    supporting: dict[str, set[int]] = {}
    for title, sentence in _pairs(row["supporting_facts"], "title", ("sent_id",)):
        supporting.setdefault(title, set()).add(int(sentence))
    docs = []
    for title, sentences in passages:
        # Of two passages with one title the first is meant.
        chosen = sorted(supporting.pop(title, ()))
        if chosen and not 0 <= chosen[0] <= chosen[-1] < len(sentences):
            raise InputError(f"supporting_facts names sentence {chosen[-1]} of {title!r}, which has {len(sentences)}.")
        text, spans = _joined(sentences)
        docs.append(
            {
                "title": title, "text": text, "sentence_spans": spans,
                "is_supporting": bool(chosen), "supporting_sentences": chosen,
            }
        )  # fmt: skip
    if supporting:
        raise InputError(f"supporting_facts names {next(iter(supporting))!r}, which is no passage of the question.")
    return {"id": _id(row), "question": row["question"], "answers": _answers(row["answer"]), "docs": docs}


def musique(row: Row) -> Json:
    """Map a row of MuSiQue (answerable): passages, and which of those support.

    Args:
        row: ``id``, ``question``, ``answer``, ``answer_aliases``, and ``paragraphs`` with ``title``,
            ``paragraph_text`` and ``is_supporting``.

    Returns:
        A record.

    Raises:
        InputError: the question is one that cannot be answered.
    """
    if row.get("answerable", True) is False:
        raise InputError("the question cannot be answered from its passages.")
    docs = [
        {"title": each["title"], "text": each["paragraph_text"], "is_supporting": bool(each["is_supporting"])}
        for each in _rows(row["paragraphs"])
    ]
    answers = _answers(row["answer"], row.get("answer_aliases"))
    return {"id": _id(row), "question": row["question"], "answers": answers, "docs": docs}


def triviaqa(row: Row) -> Json:
    """Map a row of TriviaQA (rc): whole pages of Wikipedia, then whole pages that a search found.

    Args:
        row: ``question_id``, ``question``, ``answer`` with ``value`` and ``aliases``, ``entity_pages`` with ``title``
            and ``wiki_context``, ``search_results`` with ``title`` and ``search_context``.

    Returns:
        A record; the data does not say which pages support the answer.
    """
    pages = [(each["title"], each["wiki_context"]) for each in _rows(row["entity_pages"])]
    pages += [(each["title"], each["search_context"]) for each in _rows(row["search_results"])]
    docs = [{"title": title, "text": text} for title, text in pages if text.strip()]
    answers = _answers(row["answer"]["value"], row["answer"].get("aliases"))
    return {"id": _id(row), "question": row["question"], "answers": answers, "docs": docs}


def retrieved(row: Row) -> Json:
    """Map a row of the general shape that retrievers write: a question, answers and passages.

    Args:
        row: ``question`` or ``query``; ``answers``, ``answer``, ``golden_answers`` or ``possible_answers``, the last
            as a list in JSON; ``ctxs``, ``positive_passages`` and ``negative_passages``, or ``docs``.

    Returns:
        A record; it says which passages support the answer where the row does.
    """
    question = row["question"] if "question" in row else row["query"]
    key = next((key for key in ("answers", "answer", "golden_answers", "possible_answers") if key in row), "answers")
    if row.get("docs"):
        docs = [dict(each) for each in _rows(row["docs"])]
    elif row.get("ctxs"):
        docs = [_passage(each) for each in _rows(row["ctxs"])]
    else:
        groups = [(True, row.get("positive_passages") or ()), (False, row.get("negative_passages") or ())]
        docs = [{**_passage(each), "is_supporting": kind} for kind, group in groups for each in _rows(group)]
    answers = _read(row[key]) if key == "possible_answers" else row[key]
    return {"id": _id(row), "question": question, "answers": _answers(answers), "docs": docs}


def _id(row: Row) -> str | None:
    return next((str(row[key]) for key in ("id", "_id", "question_id", "query_id") if row.get(key) is not None), None)


def _passage(each: Row) -> Json:
    return {"title": each.get("title") or "", "text": each["text"]}


def _answers(*given: Any) -> list[str]:
    """Answers, the first one first, each once, blank ones left out."""
    texts = [text for each in given if each is not None for text in ([each] if isinstance(each, str) else each)]
    return list(dict.fromkeys(text for text in texts if text.strip()))


def _read(value: Any) -> Any:  # noqa: ANN401 (whatever it holds)
    """A list that a data set keeps as text."""
    return json.loads(value) if isinstance(value, str) and value.startswith("[") else value


def _rows(value: Any) -> list[Row]:  # noqa: ANN401 (of either form)
    """A list of objects; ``datasets`` shows some as an object of lists."""
    if isinstance(value, Mapping):
        names = list(value)
        return [dict(zip(names, cells, strict=True)) for cells in zip(*value.values(), strict=True)]
    return list(value)


def _pairs(value: Any, first: str, second: Sequence[str]) -> list[tuple[str, Any]]:  # noqa: ANN401 (of any form)
    """Pairs, whether as columns, as pairs or as pairs written in JSON."""
    value = _read(value)
    if isinstance(value, Mapping):
        column = next((name for name in second if name in value), second[0])
        return list(zip(value[first], value[column], strict=True))
    return [(left, right) for left, right in value]


def _joined(sentences: Sequence[str]) -> tuple[str, list[list[int]]]:
    """Write sentences as one text, with a space between two that have none, and say where each of them stands."""
    text, spans = "", []
    for sentence in sentences:
        bare = sentence.strip()
        if text and bare:
            text += " "
        spans.append([len(text), len(text) + len(bare)])
        text += bare
    return text, spans
