"""A language model as judge: whether an answer says the same as a right one, in whatever words."""

from __future__ import annotations

from collections.abc import Sequence

from ragcompress.errors import InputError, OptionError
from ragcompress.evaluation.prompts import judge_prompt, read_verdict
from ragcompress.evaluation.questions import Question
from ragcompress.evaluation.readers.base import PromptReader
from ragcompress.evaluation.readers.failures import Patience, raised

# A verdict is a word; some models say "The answer is" first.
_MAX_NEW_TOKENS = 16


def judge(reader: PromptReader, questions: Sequence[Question], answers_given: Sequence[str]) -> list[float | None]:
    """Ask a language model which answers are right.

    Args:
        reader: any that reads prompts.
        questions: with their right answers.
        answers_given: one a question; an empty one is wrong without being asked about.

    Returns:
        1: right; 0: wrong; None: the judge said neither yes nor no.

    Raises:
        OptionError: the reader reads no prompts.
        InputError: the numbers of questions and answers differ, or the reader refuses a prompt.
    """
    return raised(judge_each(reader, questions, answers_given))


def judge_each(
    reader: PromptReader,
    questions: Sequence[Question],
    answers_given: Sequence[str],
    *,
    patience: Patience | None = None,
) -> list[float | Exception | None]:
    """Do the same, with errors in their places.

    Args:
        reader: see ``judge``.
        questions: see ``judge``.
        answers_given: see ``judge``.
        patience: how many failures in a row are too many; None: five.

    Returns:
        See ``judge``; or what was raised for a question.

    Raises:
        OptionError: the reader reads no prompts.
        InputError: the numbers of questions and answers differ, or too many in a row failed.
    """
    if not isinstance(reader, PromptReader):
        raise OptionError(
            f"{type(reader).__name__} cannot judge: it reads no prompts.",
            hint="A judge is a Hugging Face model, an endpoint, or a language model of LangChain or LlamaIndex.",
        )
    if len(questions) != len(answers_given):
        raise InputError(f"{len(answers_given)} answers came for {len(questions)} questions.")
    asked = [place for place, answer in enumerate(answers_given) if answer.strip()]
    prompts = [judge_prompt(questions[place].text, questions[place].answers, answers_given[place]) for place in asked]
    outcomes = reader.complete_each(prompts, max_new_tokens=_MAX_NEW_TOKENS, patience=patience)
    verdicts: list[float | Exception | None] = [0.0] * len(questions)
    for place, outcome in zip(asked, outcomes, strict=True):
        if isinstance(outcome, Exception):
            verdicts[place] = outcome
        else:
            right = read_verdict(outcome.text)
            verdicts[place] = None if right is None else float(right)
    return verdicts
