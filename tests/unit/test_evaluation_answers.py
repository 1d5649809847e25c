"""Answers against independent implementations, and what was kept against spans counted character by character."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ragcompress.evaluation import answers
from ragcompress.evaluation.operations import count_parameters, forward_flops
from ragcompress.evaluation.questions import Passage, Question
from ragcompress.evaluation.records import KeptSegment, Record
from ragcompress.evaluation.statistics import mean_estimate, ratio_estimate
from ragcompress.evaluation.summarising import estimates, paired_differences
from ragcompress.evaluation.support import kept_sentences, sentence_support, support
from ragcompress.types import CompressedContext, Document, Source, TextSegment

WORDS = st.sampled_from(
    ["the", "The", "a", "An", "bridge", "Bridge.", "1357", "(1357)", "Karlův", "most", "U.S.", "-", "'s"]
)
TEXTS = st.lists(WORDS, max_size=6).map(" ".join) | st.text(max_size=12)


@given(TEXTS, st.lists(TEXTS, min_size=1, max_size=3))
def test_exact_match_and_f1_are_those_of_torchmetrics(answer, right):
    from torchmetrics.functional.text import squad

    theirs = squad(
        [{"prediction_text": answer, "id": "1"}],
        [{"answers": {"answer_start": [0] * len(right), "text": right}, "id": "1"}],
    )
    assert answers.exact_match(answer, right) == pytest.approx(theirs["exact_match"].item() / 100)
    assert answers.f1(answer, right) == pytest.approx(theirs["f1"].item() / 100, abs=1e-6)


@given(TEXTS, TEXTS)
def test_what_contains_an_answer_contains_its_characters_and_what_equals_it_contains_it(answer, right):
    if answers.contains(answer, [right]):
        wanted = answers.normalise(right) or right.strip().lower()
        assert wanted in answers.normalise(answer) or wanted in answer.lower()
    if answers.normalise(right) and answers.exact_match(answer, [right]):
        assert answers.contains(answer, [right])


@pytest.mark.parametrize(
    ("text", "right", "found"),
    [
        ("It was finished in 1402.", ["1402"], 1.0),
        ("14022 people", ["1402"], 0.0),
        ("not known", ["no"], 0.0),
        ("The answer is the Charles Bridge!", ["Bridge", "charles bridge"], 1.0),
        ("它建于一三五七年。", ["一三五七"], 1.0),
        ("the", ["The"], 1.0),
        ("", ["1402"], 0.0),
    ],
)
def test_contains_looks_for_whole_words_where_there_are_words(text, right, found):
    assert answers.contains(text, right) == found


SPANS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=6)


@given(SPANS, SPANS)
def test_a_sentence_is_kept_if_half_of_its_characters_are(sentences, kept):
    sentences = [(min(pair), max(pair)) for pair in sentences]
    kept = [(min(pair), max(pair)) for pair in kept]
    characters = {place for start, end in kept for place in range(start, end)}
    wanted = {
        index
        for index, (start, end) in enumerate(sentences)
        if end > start and 2 * len(characters & set(range(start, end))) >= end - start
    }
    assert kept_sentences(sentences, kept) == wanted


def passage(text, *, sentences, gold):
    return Passage(Document(text), bool(gold), tuple(sentences), tuple(gold))


PASSAGES = (
    passage("a" * 30, sentences=[(0, 10), (10, 20), (20, 30)], gold=[0, 2]),
    passage("b" * 20, sentences=[(0, 10), (10, 20)], gold=[]),
)


def test_support_counts_sentences():
    found = sentence_support(PASSAGES, [[(0, 10)], [(0, 10), (14, 20)]])
    assert found == {"support_recall": 0.5, "support_precision": 1 / 3, "support_f1": 0.4, "all_support": 0.0}
    everything = sentence_support(PASSAGES, [[(0, 30)], []])
    assert everything == {
        "support_recall": 1.0, "support_precision": pytest.approx(2 / 3), "support_f1": 0.8, "all_support": 1.0,
    }  # fmt: skip
    assert sentence_support(PASSAGES, [[], []])["support_precision"] == 0.0


def context_of(*sources):
    documents = tuple(each.document for each in PASSAGES)
    return CompressedContext("q", documents, tuple(TextSegment("x", tuple(own)) for own in sources))


def test_what_a_context_cannot_tell_is_not_told():
    question = Question("1", "q", ("a",), PASSAGES)
    assert support(question, context_of([Source(0, 0, 10)]))["document_recall"] == 1.0
    assert support(question, context_of([Source(1, 0, 10)]))["document_recall"] == 0.0
    summary = support(question, context_of([Source(0), Source(1)]))
    assert summary == {}
    assert support(question, context_of([Source(0)])) == {"document_recall": 1.0}
    unknown = Question("1", "q", ("a",), (Passage(Document("a")), Passage(Document("b"))))
    assert support(unknown, context_of([Source(0, 0, 1)])) == {}


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution():
    values = [float(index % 2) for index in range(400)]
    found = mean_estimate(values, seed=0)
    assert found.mean == 0.5
    assert found.n == 400
    deviation = 1.96 * math.sqrt(0.25 / 400)
    assert found.low == pytest.approx(0.5 - deviation, abs=0.006)
    assert found.high == pytest.approx(0.5 + deviation, abs=0.006)
    assert found == mean_estimate(values, seed=0)
    assert found.p50 is None


def test_many_questions_are_drawn_as_few_are(monkeypatch):
    from ragcompress.evaluation import statistics

    values = [float(index % 7) for index in range(100)]
    few = mean_estimate(values, seed=3)
    monkeypatch.setattr(statistics, "_MOST_KEPT", 10)
    many = mean_estimate(values, seed=3)
    assert (many.low, many.high) == (pytest.approx(few.low), pytest.approx(few.high))


def test_times_have_percentiles():
    found = mean_estimate([float(each) for each in range(101)], seed=0, times=True)
    assert (found.p50, found.p95) == (50.0, 95.0)


def test_a_ratio_is_one_of_sums():
    found = ratio_estimate([10.0, 30.0], [5.0, 5.0], seed=0)
    assert (found.mean, found.low, found.high) == (4.0, 2.0, 6.0)
    assert ratio_estimate([10.0], [0.0], seed=0) is None


def test_weights_are_counted_once_and_embeddings_are_not():
    linear = torch.nn.Linear(3, 4)
    model = torch.nn.Sequential(torch.nn.Embedding(100, 3), linear, linear)
    assert count_parameters(model) == 16
    from ragcompress.testing import tiny

    compressor = tiny("recomp-extractive")
    wanted = sum(
        weight.numel()
        for module in compressor.encoder.model.modules()
        if not isinstance(module, torch.nn.Embedding)
        for weight in module.parameters(recurse=False)
    )
    assert count_parameters(compressor) == wanted > 0
    assert count_parameters(tiny("token-budget")) == 0


@pytest.mark.parametrize("tied", [True, False])
def test_the_matrix_that_chooses_words_is_an_embedding_tied_or_not(tied):
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=50, tie_word_embeddings=tied, **shape))
    assert count_parameters(model) == model.model.num_parameters() - 50 * 8


def test_a_kind_of_context_that_does_not_tell_what_was_kept_has_no_measure_of_it():
    told = {"support_recall": 0.5, "answer_in_context": 1.0}
    empty = Record("1", metrics={"support_recall": 0.0, "answer_in_context": 0.0, "tokens": 0})
    written = Record(
        "2", (KeptSegment(((0, None, None),), "A summary."),), metrics={"answer_in_context": 1.0, "tokens": 4}
    )
    quoted = Record("3", (KeptSegment(((0, 0, 5),)),), metrics={**told, "tokens": 4})
    assert set(estimates([empty, written], seed=0)) == {"answer_in_context", "tokens"}
    assert estimates([empty, written], seed=0)["answer_in_context"].n == 2
    assert estimates([empty, quoted], seed=0)["support_recall"].mean == 0.25
    assert estimates([empty], seed=0)["support_recall"].mean == 0.0
    assert set(paired_differences([empty, written], [quoted, replace(quoted, id="1")], seed=0)) == {
        "answer_in_context",
        "tokens",
    }


def test_operations_are_two_a_weight_and_position():
    assert forward_flops(10, 3) == 60.0
