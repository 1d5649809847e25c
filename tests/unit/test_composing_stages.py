"""The small stages: near-identical sentences are kept once, and a budget is a ceiling."""

import itertools
import pickle
import random
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ragcompress as rc
from ragcompress.composing import near_identical
from ragcompress.composing.near_identical import repeated_sets, repeated_vectors, shingles, similarity
from ragcompress.testing import DOCUMENTS, QUERIES, tiny

LONG = (
    "The stone bridge over the river was built by monks in the year 1357 after a flood had carried the wooden one away, "
    "and it has been repaired four times since then, as the chronicle of the town says."
)


def texts(context):
    return [segment.text for segment in context.segments]


def counting(context):
    return rc.get_token_counter(context.counter)(context.text)


# --- near-identical


@settings(max_examples=200)
@given(
    st.lists(st.frozensets(st.sampled_from("abcdefgh").map(lambda letter: (letter,)), max_size=8), max_size=25),
    st.sampled_from([0.0, 0.2, 1 / 3, 0.5, 2 / 3, 0.75, 0.8, 1.0]),
)
def test_sets_are_compared_as_if_every_pair_were(sets, threshold):
    kept, expected = [], []
    for each in sets:
        repeated = bool(each) and any(similarity(each, other) >= threshold - 1e-9 for other in kept)
        expected.append(repeated)
        kept += [each] if each and not repeated else []
    assert repeated_sets(sets, threshold) == expected


def test_thousands_of_sentences_are_not_compared_in_pairs(monkeypatch):
    source = random.Random(0)
    vocabulary = [f"w{number}" for number in range(3000)]
    sentences = [" ".join(source.choices(vocabulary, k=20)) for _ in range(4000)]
    # A common beginning is in every one of them, and must not make every one a candidate of every other.
    sets = [shingles("as of today we know that " + each, 3) for each in [*sentences, *sentences[:100]]]
    compared = itertools.count()

    def counted(left, right):
        next(compared)
        return similarity(left, right)

    monkeypatch.setattr(near_identical, "similarity", counted)
    flags = repeated_sets(sets, 0.8)
    assert flags == [False] * 4000 + [True] * 100
    assert next(compared) < 1000  # of eight million pairs


def test_vectors_are_compared_across_blocks():
    import torch

    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(600, 16, generator=generator)
    vectors[599], vectors[300], vectors[2] = vectors[0] * 3, vectors[299], -vectors[1]
    assert [index for index, flag in enumerate(repeated_vectors(vectors, 0.999)) if flag] == [300, 599]
    assert repeated_vectors(vectors[:1].repeat(3, 1), 1.0) == [False, True, True]
    assert repeated_vectors(vectors[:0], 0.5) == []


def test_what_is_dropped_is_no_reason_to_drop_more():
    import torch

    angle = torch.tensor([0.0, 0.5, 1.0])
    vectors = torch.stack([angle.cos(), angle.sin()], dim=1)
    # The second is near the first and the third near the second, which is gone by then.
    assert repeated_vectors(vectors, 0.85) == [False, True, False]


def test_shingles_of_scripts_without_spaces_are_runs_of_characters():
    assert len(shingles("这座石桥长四百米。", 3)) == 6
    assert shingles("!?", 3) == frozenset()


# --- Deduplicate


def test_near_identical_sentences_are_kept_once_across_documents():
    other = LONG.replace(" by monks", "").replace("The stone", "the stone")
    context = rc.Deduplicate(0.7).compress("", [f"First. {LONG}", f"Second! {other} Third."])
    assert texts(context) == [f"First. {LONG}", "Second!", "Third."]
    assert [segment.sources for segment in context.segments][1:] == [
        (rc.Source(1, 0, 7),),
        (rc.Source(1, len(other) + 9, len(other) + 15),),
    ]
    assert context.n_slots == counting(context) < context.n_tokens
    strict = rc.Deduplicate(0.99).compress("", [f"First. {LONG}", f"Second! {other} Third."])
    assert strict.n_slots == strict.n_tokens


def test_a_short_sentence_with_another_figure_is_another_sentence():
    documents = ["It was built in 1357.", "It was built in 1375."]
    assert texts(rc.Deduplicate().compress("", documents)) == documents
    assert texts(rc.Deduplicate().compress("", [documents[0], documents[0].upper()])) == documents[:1]


def test_without_repetitions_everything_stays_as_it_is():
    documents = [rc.Document(" One two.  Three four.\n\n|---|\n|---|\n", title="T"), "Five. ***", " \n"]
    context = rc.Deduplicate().compress("", documents)
    assert texts(context) == [" One two.  Three four.\n\n|---|\n|---|\n", "Five. ***"]
    assert context.n_slots == context.n_tokens == counting(context)


def test_the_better_one_is_kept_if_asked_for():
    documents = tuple(map(rc.Document, ("Same words here. Other.", "Same words here.")))
    segments = tuple(
        rc.TextSegment(documents[index].text[:end], (rc.Source(index, 0, end),), score)
        for index, end, score in ((0, 23, 0.1), (1, 16, 0.9))
    )
    context = rc.CompressedContext("q", documents, segments)
    (best,) = rc.Deduplicate(keep="best", min_words=0).refine([context])
    assert [(segment.text, segment.sources, segment.score) for segment in best.segments] == [
        ("Other.", (rc.Source(0, 17, 23),), 0.1),
        ("Same words here.", (rc.Source(1, 0, 16),), 0.9),
    ]
    (first,) = rc.Deduplicate(min_words=0).refine([context])
    assert texts(first) == ["Same words here. Other."]


def test_parts_of_a_summary_keep_all_its_sources():
    documents = (rc.Document("a"), rc.Document("b"))
    sources = (rc.Source(0), rc.Source(1))
    summary = rc.TextSegment("One thing. Other thing. One thing. Last.", sources, 0.5)
    (context,) = rc.Deduplicate().refine([rc.CompressedContext("q", documents, (summary,))])
    assert [(s.text, s.sources, s.score) for s in context.segments] == [
        ("One thing. Other thing.", sources, 0.5),
        ("Last.", sources, 0.5),
    ]
    assert context.text == "One thing. Other thing. Last."


class Letters:
    """Vectors of how often each letter comes."""

    def __init__(self):
        self.seen = []

    def encode(self, texts):
        import torch

        self.seen.append(list(texts))
        return torch.tensor([[float(text.lower().count(chr(97 + place))) for place in range(26)] for text in texts])


def test_an_encoder_sees_every_sentence_of_a_batch_once():
    encoder = Letters()
    stage = rc.Deduplicate(0.99, encoder=encoder, min_words=0)
    contexts = stage.compress_batch(["", ""], [["Listen now.", "Now silent."], ["Listen now.", "Bread."]])
    assert [texts(context) for context in contexts] == [["Listen now."], ["Listen now.", "Bread."]]
    assert encoder.seen == [["Listen now.", "Now silent.", "Bread."]]
    assert stage.compress("", [" "]).segments == ()
    assert stage.spec is None


def test_an_encoder_by_name_is_loaded_once_and_on_first_use(monkeypatch, tmp_path):
    tiny("recomp-extractive").save_pretrained(tmp_path / "tiny")
    loads = []
    real = rc.load
    monkeypatch.setattr("ragcompress.composing.plain.load", lambda *a, **k: loads.append(a) or real(*a, **k))
    named = {"backend": "recomp-extractive", "checkpoint": str(tmp_path / "tiny"), "device": "cpu"}
    stage = rc.Deduplicate(0.95, encoder=named)
    assert loads == []
    found = []
    threads = [threading.Thread(target=lambda: found.append(stage.compress("", DOCUMENTS))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1
    expected = rc.Deduplicate(0.95, encoder=tiny("recomp-extractive")).compress("", DOCUMENTS)
    assert all(texts(context) == texts(expected) for context in found)
    assert texts(pickle.loads(pickle.dumps(stage)).compress("", DOCUMENTS)) == texts(expected)
    assert stage.spec.options == {"threshold": 0.95, "encoder": named}
    assert stage.with_options(encoder=None).encoder is None


@pytest.mark.parametrize("shape", ["too few", "flat"])
def test_an_encoder_that_gives_something_else(shape):
    class Odd:
        def encode(self, texts):
            return [[1.0]] if shape == "too few" else [1.0] * len(texts)

    with pytest.raises(rc.OptionError, match="for 2 texts; expected a row"):
        rc.Deduplicate(encoder=Odd()).compress("", ["A first thing. A second thing."])


# --- TokenBudget


def scored(*pairs):
    documents = tuple(rc.Document(text) for text, _ in pairs)
    segments = tuple(
        rc.TextSegment(text, (rc.Source(index, 0, len(text)),), score) for index, (text, score) in enumerate(pairs)
    )
    return rc.CompressedContext("q", documents, segments)


def test_whole_segments_by_score_in_their_order():
    context = scored(
        ("one two", 0.1), ("three four five", 0.9), ("six seven eight nine", 0.8), ("ten", None), ("x", -5.0)
    )
    for limit, expected in [
        (3, ["three four five"]),
        (4, ["three four five", "x"]),
        (6, ["one two", "three four five", "x"]),
        (9, ["one two", "three four five", "six seven eight nine"]),
        (10, ["one two", "three four five", "six seven eight nine", "x"]),
        (11, ["one two", "three four five", "six seven eight nine", "ten", "x"]),
    ]:
        (kept,) = rc.TokenBudget(limit).refine([context])
        assert texts(kept) == expected, limit
        assert kept.n_slots == counting(kept) <= limit
        assert kept.n_tokens == 11


@settings(max_examples=150)
@given(
    st.lists(st.tuples(st.text(alphabet="ab .\n", max_size=40), st.sampled_from([None, "T", "a title"])), max_size=5),
    st.integers(1, 60),
    st.sampled_from(["words", "characters"]),
)
@pytest.mark.filterwarnings("ignore::ragcompress.EmptyResultWarning")
def test_the_ceiling_is_hard(documents, limit, counter):
    given_documents = [rc.Document(text, title=title) for text, title in documents]
    context = rc.TokenBudget(limit, token_counter=counter).compress("", given_documents)
    assert context.n_slots == counting(context) <= limit
    for segment in context.segments:
        (source,) = segment.sources
        assert given_documents[source.document].text[source.start : source.end] == segment.text


def test_where_nothing_fits_the_best_is_cut_at_a_sentence():
    context = scored(("One two. Three four. Five six seven.", 0.1), ("Aa bb cc. Dd ee ff. Gg.", 0.9))
    (kept,) = rc.TokenBudget(8).refine([context])
    assert [(segment.text, segment.sources, segment.score) for segment in kept.segments] == [
        ("Aa bb cc. Dd ee ff.", (rc.Source(1, 0, 19),), 0.9)
    ]
    with pytest.warns(rc.EmptyResultWarning, match="no sentence fits into 2 tokens"):
        (nothing,) = rc.TokenBudget(2).refine([context])
    assert nothing.segments == ()


def test_titles_and_separators_count():
    documents = [rc.Document("aaa", title="TT"), rc.Document("bbb", title="UU")]
    whole = "TT\naaa\n\nUU\nbbb"
    for limit, expected in [(len(whole), whole), (len(whole) - 1, "TT\naaa"), (6, "TT\naaa")]:
        assert rc.TokenBudget(limit, token_counter="characters").compress("", documents).text == expected
    with pytest.warns(rc.EmptyResultWarning):
        assert rc.TokenBudget(5, token_counter="characters").compress("", documents).text == ""


def test_a_context_that_fits_stays_as_it_is():
    ranker = tiny("recomp-extractive")
    context = ranker.compress(QUERIES[0], DOCUMENTS)
    (kept,) = rc.TokenBudget(10_000).counting_with(ranker.token_counter).refine([context])
    assert kept == context


# --- both


@pytest.mark.parametrize("stage", [rc.Deduplicate(), rc.TokenBudget(9)])
def test_vectors_cannot_be_refined(stage):
    context = tiny("pisco").compress("q", DOCUMENTS)
    with pytest.raises(rc.InputTypeError, match="holds vectors"):
        stage.refine([context])


def test_a_backend_says_in_its_class_that_it_has_an_encoder(monkeypatch):
    class Undeclared(rc.TokenBudget):
        def __init__(self):
            self.encoder = Letters()

    class Declared(Undeclared):
        encoder: Letters

    for each in ("plain", "encoders"):
        monkeypatch.setattr(f"ragcompress.composing.{each}.find", {"mine": Declared, "other": Undeclared}.__getitem__)
    monkeypatch.setattr("ragcompress.composing.plain.load", lambda *_names, **_options: Declared())
    assert isinstance(rc.Deduplicate(encoder={"backend": "mine", "max_tokens": 1}).encoder, Letters)
    with pytest.raises(rc.OptionError, match="'other' has no encoder"):
        rc.Deduplicate(encoder={"backend": "other", "max_tokens": 1})


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: rc.Deduplicate(1.5), ["threshold", "at most 1", "1.5"]),
        (lambda: rc.Deduplicate(-0.1), ["threshold", "at least 0"]),
        (lambda: rc.Deduplicate(float("nan")), ["threshold"]),
        (lambda: rc.Deduplicate(None), ["threshold", "None"]),
        (lambda: rc.Deduplicate("0.8"), ["threshold", "'0.8'"]),
        (lambda: rc.Deduplicate(keep="last"), ["keep", "'first'"]),
        (lambda: rc.Deduplicate(shingle_size=0), ["shingle_size", "at least 1"]),
        (lambda: rc.Deduplicate(shingle_size=None), ["shingle_size"]),
        (lambda: rc.Deduplicate(encoder="recomp"), ["'recomp'", "recomp-extractive"]),
        (lambda: rc.Deduplicate(encoder="provence"), ["'provence' has no encoder", "recomp-extractive"]),
        (lambda: rc.Deduplicate(encoder={"backend": "pisco", "checkpoint": "x"}), ["'pisco' has no encoder"]),
        (lambda: rc.Deduplicate(encoder=object()), ["object", "encode(texts)"]),
        (lambda: rc.Deduplicate(encoder=rc.TokenBudget(3)), ["TokenBudget", "encode(texts)"]),
        (lambda: rc.Deduplicate().with_options(encoder=Letters()), ["constructor"]),
        (lambda: rc.Deduplicate(splitter="sentences"), ["splitter"]),
        (lambda: rc.TokenBudget(0), ["max_tokens", "at least 1", "0"]),
        (lambda: rc.TokenBudget(-3), ["max_tokens"]),
        (lambda: rc.TokenBudget(2.5), ["max_tokens", "whole"]),
        (lambda: rc.TokenBudget(None), ["max_tokens", "None"]),
        (lambda: rc.TokenBudget(3, token_counter="tokens"), ["token counter", "'words'"]),
        (lambda: rc.load("token-budget"), ["max_tokens", "None"]),
        (lambda: rc.load("token-budget", max_token=3), ["'max_token'", "max_tokens"]),
        (lambda: rc.load("token-budget", "a/checkpoint", max_tokens=3), ["reads no checkpoint"]),
        (lambda: rc.load("deduplicate", threshold=2), ["threshold"]),
        (lambda: rc.TokenBudget(3).with_options(max_tokens=0), ["max_tokens"]),
    ],
)
def test_bad_options(make, said):
    with pytest.raises(rc.OptionError) as error:
        make()
    for each in said:
        assert each in str(error.value)


def test_specs_load_the_same_again():
    for stage in (rc.Deduplicate(0.7, keep="best"), rc.TokenBudget(9), rc.TokenBudget(9).with_options(max_tokens=12)):
        again = rc.load(stage.spec.backend, stage.spec.checkpoint, **stage.spec.options)
        assert again.config == stage.config
    assert rc.TokenBudget(9, token_counter=len).spec is None
