"""Refining stages lose nothing that was not asked for: no figure, no neighbour of a repetition, no room."""

import importlib.util
import warnings
from pathlib import Path

import pytest

import ragcompress as rc
from ragcompress.composing.near_identical import words
from ragcompress.testing import DOCUMENTS, tiny

_SPEC = importlib.util.spec_from_file_location("composing_stages", Path(__file__).with_name("composing_stages.py"))
toys = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(toys)


def texts(context):
    return [segment.text for segment in context.segments]


# --- near-identical


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The temperature is -5 °C.", "The temperature is 5 °C."),
        ("The share fell by \u22125 points.", "The share fell by 5 points."),
        ("C++ is a language for systems.", "C# is a language for systems."),
        ("It costs $5 a day.", "It costs €5 a day."),
        ("Here x < y holds always.", "Here x > y holds always."),
        ("Here x != y holds always.", "Here x = y holds always."),
        ("The answer is 1.5 here today.", "The answer is 1-5 here today."),
        ("The answer is 1.5 here today.", "The answer is 15 here today."),
        ("The rate is now 5% here.", "The rate is now 5 here."),
        ("यह बहुत अच्छा बड़ा दिन है।", "यह बहुत अच्छा बड़ा दीन है।"),
    ],
)
def test_sentences_that_differ_in_a_sign_are_different(one, other):
    assert texts(rc.Deduplicate(1.0).compress("", [one, other])) == [one, other]
    assert texts(rc.Deduplicate(1.0).compress("", [f"{one} {other}"])) == [f"{one} {other}"]


def test_case_and_what_divides_words_do_not_count():
    assert words("The well-known 'Bridge' (in 1990), it\u2019s \u201cred\u201d \u2014 once!") == words(
        "the well known bridge in 1990 it's red once"
    )
    assert words("दिन है") == ("दिन", "है")
    assert words("cafe\u0301") == words("caf\u00e9")
    assert words("covid-19, 2019-20, v1.2.3, 1990.") == ("covid", "19", "2019-20", "v1.2.3", "1990")


def test_a_short_sentence_says_another_thing_under_another_title():
    documents = [
        rc.Document("It opened in 1990. Ferries ran before.", title="North bridge"),
        rc.Document("It opened in 1990. It is red. It is red.", title="South bridge"),
    ]
    expected = [documents[0].text, "It opened in 1990. It is red."]
    assert texts(rc.Deduplicate().compress("", documents)) == expected
    assert texts(rc.Deduplicate(encoder=tiny("recomp-extractive"), threshold=1.0).compress("", documents)) == expected
    assert texts(rc.Deduplicate(min_words=0).compress("", documents)) == [documents[0].text, "It is red."]
    assert texts(rc.Deduplicate(0.0).compress("", ["One here.", "Two there."])) == ["One here.", "Two there."]
    with pytest.raises(rc.OptionError, match="min_words"):
        rc.Deduplicate(min_words=None)


# --- Deduplicate


def test_what_the_splitter_leaves_out_stays():
    repeated = "The second sentence is here now!"
    context = rc.Deduplicate(splitter="flashrag").compress(
        "", [repeated, f"Yes! {repeated} No! A third thing is there!"]
    )
    assert texts(context) == [repeated, "Yes!", "No! A third thing is there!"]


def test_parts_of_several_spans_point_at_their_document_only():
    document = rc.Document("aaa bbb. ccc ddd. eee fff.")
    sources = (rc.Source(0, 0, 8), rc.Source(0, 18, 26))
    segment = rc.TextSegment("aaa bbb. eee fff. Aaa bbb.", sources, 1.0)
    context = rc.CompressedContext("q", (document,), (segment,))
    (budget,) = rc.TokenBudget(3).refine([context])
    assert [(each.text, each.sources) for each in budget.segments] == [("aaa bbb.", (rc.Source(0),))]
    (unique,) = rc.Deduplicate().refine([context])
    assert [(each.text, each.sources) for each in unique.segments] == [("aaa bbb. eee fff.", (rc.Source(0),))]

    class Joined(toys.Toy):
        info = rc.BackendInfo(needs_query=False)

        def segments(self, query, documents):
            return [segment]

    read = rc.Pipeline([Joined(), toys.Windows(9)]).compress("q", [document])
    assert [each.sources for each in read.segments] == [(rc.Source(0),)] * 3
    whole = rc.Pipeline([Joined(), toys.Windows(100)]).compress("q", [document])
    assert {source for each in whole.segments for source in each.sources} == set(sources)


def test_copies_name_their_own_encoder(monkeypatch, tmp_path):
    given = rc.Deduplicate(0.5, encoder=tiny("recomp-extractive"))
    assert given.with_options(encoder=None).encoder is None
    assert given.with_options(threshold=0.6).encoder is given.encoder
    tiny("recomp-extractive").save_pretrained(tmp_path / "tiny")
    loads = []
    real = rc.load
    monkeypatch.setattr("ragcompress.composing.plain.load", lambda *a, **k: loads.append(a) or real(*a, **k))
    named = {"backend": "recomp-extractive", "checkpoint": str(tmp_path / "tiny"), "device": "cpu"}
    adapter = rc.Adapter([{"backend": "deduplicate", "encoder": named}, {"backend": "token-budget", "max_tokens": 30}])
    for change in ([{}, {"max_tokens": 20}], [{"threshold": 0.9}, {}], [{"threshold": 0.7}, {}]):
        adapter.compress("q", DOCUMENTS, {"stages": change})
    assert [name for name, *_ in loads].count("recomp-extractive") == 1
    stage = rc.Deduplicate(encoder=named)
    assert stage.with_options(encoder={**named, "dtype": "float32"}).encoder is not stage.encoder


# --- TokenBudget


def test_another_segment_is_cut_where_the_first_has_no_sentence_that_fits():
    long = " ".join(["word"] * 100) + "."
    short = " ".join(f"Sentence number {number} is short." for number in range(20))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kept = rc.TokenBudget(50).compress("", [long, short])
        titled = rc.TokenBudget(20).compress("", [rc.Document("Short one.", title="t " * 30), rc.Document(short)])
    assert (kept.n_slots, [each.sources[0].document for each in kept.segments]) == (48, [1])
    # Five words and a full stop each.
    assert titled.n_slots == 18
    with pytest.warns(rc.EmptyResultWarning):
        assert rc.TokenBudget(4).compress("", [long, short]).segments == ()


def test_room_that_separators_took_is_filled_again():
    parts = ["a" * 10, "b" * 88, "c" * 20]
    segments = tuple(
        rc.TextSegment(text, (rc.Source(index, 0, len(text)),), score)
        for index, (text, score) in enumerate(zip(parts, (0.9, 0.8, 0.7), strict=True))
    )
    context = rc.CompressedContext("q", tuple(map(rc.Document, parts)), segments)
    (kept,) = rc.TokenBudget(98, token_counter="characters").refine([context])
    assert texts(kept) == [parts[0], parts[2]]
    assert kept.n_slots == len(kept.text) == 32
