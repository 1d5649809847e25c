"""Baselines: they keep what they say, within the length that they are given."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragcompress.composing.lengths import output_length
from ragcompress.evaluation import baselines
from ragcompress.evaluation.question_files import question_of
from ragcompress.tokens import get_token_counter

WORDS = get_token_counter("words")
TEXTS = [
    "The bridge was built in 1357. It has sixteen arches. People walk over it.",
    "Clocks are round. The clock of the town hall is from 1410. It shows the moon.",
    "",
]
QUESTION = question_of(
    {
        "id": "7",
        "question": "When was the bridge built?",
        "answers": ["1357"],
        "docs": [{"title": f"Title {number}", "text": text} for number, text in enumerate(TEXTS)],
    }
)


def length(context, counter=WORDS):
    return output_length(context.documents, context.segments, context.layout, counter)


def test_the_two_ends_of_the_scale():
    everything, nothing = (make(QUESTION, WORDS) for make in (baselines.all_documents, baselines.no_context))
    assert everything.text == f"Title 0\n{TEXTS[0]}\n\nTitle 1\n{TEXTS[1]}"
    assert everything.n_slots == length(everything)
    assert nothing.text == ""
    assert nothing.n_slots == 0
    assert nothing.n_tokens == everything.n_tokens > 0


@pytest.mark.parametrize("name", baselines.MATCHED)
@given(max_tokens=st.integers(0, 60), counter=st.sampled_from(["words", "characters"]), seed=st.integers(0, 3))
def test_no_baseline_is_longer_than_it_may_be_and_all_quote(name, max_tokens, counter, seed):
    counter = get_token_counter(counter)
    context = baselines.MATCHED[name](QUESTION, max_tokens, counter, seed)
    assert context.n_slots == length(context, counter) <= max_tokens
    for segment in context.segments:
        (source,) = segment.sources
        assert TEXTS[source.document][source.start : source.end] == segment.text
    assert context == baselines.MATCHED[name](QUESTION, max_tokens, counter, seed)


@given(st.integers(4, 50))
def test_first_tokens_are_a_beginning_that_no_word_fits_behind(max_tokens):
    context = baselines.first_tokens(QUESTION, max_tokens, WORDS, 0)
    everything = baselines.all_documents(QUESTION, WORDS)
    assert everything.text.startswith(context.text)
    assert length(everything) <= max_tokens or max_tokens - length(context) <= 4  # a title and a separator, say


def test_random_sentences_differ_by_seed_and_question():
    def chosen(seed, identifier="7"):
        question = type(QUESTION)(identifier, QUESTION.text, QUESTION.answers, QUESTION.passages)
        return baselines.random_sentences(question, 12, WORDS, seed).text

    assert chosen(0) == chosen(0)
    assert len({chosen(seed) for seed in range(20)}) > 2
    assert len({chosen(0, str(number)) for number in range(20)}) > 2


def test_bm25_finds_the_sentence_that_shares_words():
    context = baselines.bm25_sentences(QUESTION, 10, WORDS, 0)
    assert context.text == "Title 0\nThe bridge was built in 1357."
    empty = question_of(
        {"id": "1", "question": "?", "answers": ["a"], "docs": [{"text": "It ended. He left."}, {"text": " "}]}
    )
    assert baselines.bm25_sentences(empty, 3, WORDS, 0).text == "It ended."


def test_bm25_without_its_library_says_what_to_install(monkeypatch):
    import sys

    import ragcompress as rc

    monkeypatch.setitem(sys.modules, "bm25s", None)
    with pytest.raises(rc.MissingExtraError, match=r"pip install 'ragcompress\[evaluation\]'"):
        baselines.bm25_sentences(QUESTION, 10, WORDS, 0)
