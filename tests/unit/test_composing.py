"""Pipelines: sources lead back to the original documents, lengths are those of the originals, errors name the stage."""

import copy
import importlib.util
import pickle
import subprocess
import sys
from pathlib import Path
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ragcompress as rc
from ragcompress.composing.excerpts import excerpts, merge_spans
from ragcompress.composing.lengths import document_lengths
from ragcompress.testing import DOCUMENTS, QUERIES, same_context, tiny
from ragcompress.tiny import tiny_tokenizer

_SPEC = importlib.util.spec_from_file_location("composing_stages", Path(__file__).with_name("composing_stages.py"))
toys = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(toys)
Windows, Shouting, Cutting, words = toys.Windows, toys.Shouting, toys.Cutting, toys.words


def places(context):
    """(document, character) that a result keeps, white space left out."""
    return {
        (source.document, place)
        for segment in context.segments
        for source in segment.sources
        for place in range(source.start, source.end)
        if not context.documents[source.document].text[place].isspace()
    }


texts = st.lists(
    st.text(alphabet="ab .\n\u3002\u00e9", max_size=60).map(lambda text: text + "."), min_size=1, max_size=4
)
refining = st.one_of(
    st.builds(rc.TokenBudget, st.integers(1, 30)),
    st.builds(rc.Deduplicate, st.sampled_from([0.0, 0.3, 0.8, 1.0]), keep=st.sampled_from(["first", "best"])),
)
windows = st.builds(Windows, st.integers(1, 12), st.integers(1, 3), st.integers(0, 1), st.booleans())


@settings(max_examples=150)
@given(texts, st.lists(st.one_of(windows, windows, refining), min_size=1, max_size=4))
@pytest.mark.filterwarnings("ignore::ragcompress.EmptyResultWarning")
def test_sources_stay_relative_to_the_originals_through_every_stage(documents, stages):
    kept = {(index, place) for index, text in enumerate(documents) for place, c in enumerate(text) if not c.isspace()}
    for n_stages in range(1, len(stages) + 1):
        context = rc.Pipeline(stages[:n_stages]).compress("q", documents)
        assert context.documents == tuple(map(rc.Document, documents))
        for segment in context.segments:
            (source,) = segment.sources
            assert documents[source.document][source.start : source.end] == segment.text
        assert places(context) <= kept  # no stage brings back what an earlier one left out
        kept = places(context)
        assert (context.n_slots, context.n_tokens) == (words(context.text), sum(map(words, documents)))
        if isinstance(stages[n_stages - 1], rc.TokenBudget):
            assert context.n_slots <= stages[n_stages - 1].config.max_tokens
        assert [stage.name for stage in context.stages] == [stage.name for stage in stages[:n_stages]]


@settings(max_examples=100)
@given(texts, windows, windows)
def test_a_stage_reads_exactly_what_the_stage_before_kept(documents, first, second):
    kept = first.compress("q", documents)
    context = rc.Pipeline([first, second]).compress("q", documents)
    read = {piece for document in second.seen[0] for piece in document.text.split()}
    assert "".join(sorted("".join(read))) == "".join(sorted("".join(set(read))))
    assert sum(len("".join(document.text.split())) for document in second.seen[0]) == len(places(kept))
    written = second.compress("q", second.seen[0])
    # As the stage wrote it, and so as long; white space that was somewhere else in between is not compared.
    assert context.text.split() == written.text.split()


def test_spans_merge_over_white_space_only():
    text = "One. Two.  Three. Four."
    assert merge_spans(text, [(11, 17), (0, 4), (5, 9)]) == [(0, 17)]
    assert merge_spans(text, [(0, 4), (11, 17), (2, 6)]) == [(0, 6), (11, 17)]


def test_an_excerpt_is_the_kept_text_under_the_same_title():
    document = rc.Document("One. Two.\nThree. Four.", id="d", title="T", metadata={"page": 1})
    segments = [
        rc.TextSegment(document.text[start:end], (rc.Source(1, start, end),))
        for start, end in ((17, 22), (0, 4), (10, 16))
    ]
    found = excerpts(rc.CompressedContext("q", (rc.Document("x"), document), tuple(segments)))
    assert [each.document for each in found] == [rc.Document("One.\nThree. Four.", "d", "T", {"page": 1})]
    assert [piece.sources for piece in found[0].pieces] == [(rc.Source(1, 0, 4),), (rc.Source(1, 10, 22),)]


def test_a_document_that_is_kept_as_a_whole_is_handed_on_itself():
    document = rc.Document(" One. Two. ")
    segment = rc.TextSegment("One. Two.", (rc.Source(0, 1, 10),))
    (found,) = excerpts(rc.CompressedContext("q", (document,), (segment,)))
    assert found.document is document


def test_a_span_over_several_pieces_becomes_a_segment_for_each():
    text = "aaaa bbbb cccc dddd"
    context = rc.Pipeline([Windows(5, every=2), Windows(100)]).compress("q", [text])
    assert [segment.text for segment in context.segments] == ["aaaa ", "cccc "]
    assert [segment.sources for segment in context.segments] == [(rc.Source(0, 0, 5),), (rc.Source(0, 10, 15),)]
    assert [segment.n_tokens for segment in context.segments] == [1, 1]
    assert context.text == "aaaa  cccc "


def test_parts_that_would_be_written_longer_stay_one_segment():
    class Titled(Windows):
        fields = MappingProxyType({"layout": rc.Layout(title="each")})

    document = rc.Document("aaaa bbbb cccc dddd", title="a title of some length")
    context = rc.Pipeline([Windows(5, every=2), Titled(100)]).compress("q", [document])
    (segment,) = context.segments
    assert segment.sources == (rc.Source(0, 0, 5), rc.Source(0, 10, 15))
    assert context.n_slots == words(context.text) == 7


def test_sentences_of_a_summary_point_at_everything_it_was_written_from():
    documents = ["one two three.", "four five six.", "seven eight nine."]
    context = rc.Pipeline([Windows(8), Shouting(), Windows(11, every=2)]).compress("q", documents)
    everything = tuple(rc.Source(index) for index in range(3))
    assert (context.segments[0].text, context.segments[0].sources) == ("ONE TWO THR", everything)
    assert all(segment.sources == everything for segment in context.segments)
    assert context.stages[-1].n_tokens == words("ONE TWO THREE. FOUR FIVE SIX. SEVEN EIGHT NINE.")


def test_a_summary_of_one_document_has_no_span():
    document = "one two three. four five six."
    for stages in ([Windows(10, every=2), Shouting()], [Shouting(), Windows(8)], [Windows(10), Shouting(), Windows(9)]):
        for segment in rc.Pipeline(stages).compress("q", [document]).segments:
            assert segment.sources == (rc.Source(0),)


def test_a_text_that_was_written_from_several_spans_stays_as_it_was_written():
    class Rewriting(Shouting):
        def segments(self, query, documents):
            places = (rc.Source(0, 0, 3), rc.Source(1, 4, 8))
            return [
                rc.TextSegment("ONE AND FIVE", places, 0.5, 3),
                rc.TextSegment("two", (rc.Source(0, 4, 7),), 0.1, 1),
            ]

    documents = ["one two three", "four five"]
    for last in (Windows(100), rc.Deduplicate()):
        context = rc.Pipeline([Rewriting(), last]).compress("q", documents)
        assert [(each.text, each.sources) for each in context.segments] == [
            ("ONE AND FIVE", (rc.Source(0, 0, 3), rc.Source(1, 4, 8))),
            ("two", (rc.Source(0, 4, 7),)),
        ]


def test_quotations_joined_by_one_stage_come_apart_again_in_the_next():
    class Joining(Shouting):
        def segments(self, query, documents):
            places = (rc.Source(0, 0, 3), rc.Source(0, 8, 13))
            return [rc.TextSegment("one three", places, 0.5, 2)]

    context = rc.Pipeline([Joining(), Windows(100)]).compress("q", ["one two three"])
    assert [(each.text, each.sources) for each in context.segments] == [
        ("one", (rc.Source(0, 0, 3),)),
        ("three", (rc.Source(0, 8, 13),)),
    ]


def test_summaries_and_quotations_of_one_document_go_on_together():
    class Both(Shouting):
        def segments(self, query, documents):
            text = documents[0].text
            return [
                rc.TextSegment("WRITTEN", (rc.Source(0),), None, 1),
                rc.TextSegment(text[4:7], (rc.Source(0, 4, 7),), None, 1),
            ]

    kept = rc.Pipeline([Both(), Windows(8)]).compress("q", ["one two three"])
    assert [(each.text, each.sources) for each in kept.segments] == [
        ("WRITTEN ", (rc.Source(0),)),
        ("two", (rc.Source(0, 4, 7),)),
    ]
    together = rc.Pipeline([Both(), Windows(100)]).compress("q", ["one two three"])
    assert [(each.text, each.sources) for each in together.segments] == [
        ("WRITTEN two", (rc.Source(0), rc.Source(0, 4, 7)))
    ]


def test_documents_of_which_nothing_was_kept_do_not_shift_the_others():
    class Third(Windows):
        def segments(self, query, documents):
            return [each for each in Windows.segments(self, query, documents) if each.sources[0].document == 2]

    last = Cutting()
    context = rc.Pipeline([Third(100), last]).compress("q", ["one", "two", "three", "four"])
    assert last.seen == [(rc.Document("three"),)]
    assert [segment.sources for segment in context.segments] == [(rc.Source(2, 0, 5),)]
    assert context.truncated
    assert context.truncated_documents == (2,)
    assert context.n_tokens == 4
    assert context.document_tokens == (1, 1, 1, 1)


def test_what_any_stage_cut_off_is_said():
    context = rc.Pipeline([Cutting(), Windows(3)]).compress("q", ["one two", "three"])
    assert (context.truncated, context.truncated_documents) == (True, (0,))


def test_a_stage_that_keeps_nothing_leaves_nothing_to_the_next():
    context = rc.Pipeline([Windows(5, first=1), Windows(5), rc.TokenBudget(5)]).compress("q", ["one"])
    assert (context.segments, context.text, context.n_slots, context.n_tokens) == ((), "", 0, 1)
    assert [(stage.n_tokens, stage.n_slots) for stage in context.stages] == [(1, 0), (0, 0), (0, 0)]


def test_stages_say_what_they_did_and_how_long_it_took():
    pipeline = rc.Pipeline([tiny("recomp-extractive").with_options(top_k=6), Windows(40), rc.TokenBudget(20)])
    context = pipeline.compress(QUERIES[0], DOCUMENTS)
    first = pipeline.stages[0].compress(QUERIES[0], DOCUMENTS)
    assert [stage.name for stage in context.stages] == ["recomp-extractive", "windows", "token-budget"]
    assert (context.stages[0].n_tokens, context.stages[0].n_slots) == (first.n_tokens, first.n_slots)
    assert context.stages[1].n_tokens == sum(words(d.text) + words(d.title or "") for d in pipeline.stages[1].seen[0])
    assert context.stages[2].n_tokens == context.stages[1].n_slots > context.stages[2].n_slots == context.n_slots
    assert [stage.counter for stage in context.stages] == [first.counter, "words", "words"]
    assert set(context.stages[0].timings) == {"encode_ms", "select_ms"}
    assert list(context.timings) == ["1:recomp-extractive_ms", "2:windows_ms", "3:token-budget_ms"]
    assert all(value >= 0 for value in context.timings.values())


def test_lengths_are_those_of_the_originals_in_the_last_counter():
    first, last = tiny("recomp-extractive").with_options(top_k=3), tiny("recomp-extractive")
    last = last.with_options(top_k=2, token_counter="characters")
    context = rc.Pipeline([first, last]).compress(QUERIES[0], DOCUMENTS)
    alone = last.compress(QUERIES[0], DOCUMENTS)
    for name in ("n_tokens", "document_tokens", "counter", "layout"):
        assert getattr(context, name) == getattr(alone, name), name


def test_what_was_written_anew_may_be_longer_in_another_counter_which_the_lengths_say():
    class Hyphenating(Shouting):
        def segments(self, query, documents):
            return [rc.TextSegment("a-b-c", (rc.Source(0),), None, 5)]

    # Five characters of eight, but five words of one: the originals would bring back what the summary left out.
    for last in (rc.TokenBudget(9, token_counter="words"), rc.Deduplicate(token_counter="words")):
        context = rc.Pipeline([Hyphenating(), last]).compress("q", ["abcdefgh"])
        assert (context.text, context.n_tokens, context.n_slots, context.counter) == ("a-b-c", 1, 5, "words")
    with pytest.warns(rc.EmptyResultWarning):  # a ceiling holds for them, too
        assert rc.Pipeline([Hyphenating(), rc.TokenBudget(4)]).compress("q", ["abcdefgh"]).text == ""


def test_refining_stages_count_as_the_stage_before():
    ranker = tiny("recomp-extractive")
    pipeline = rc.Pipeline([ranker, rc.Deduplicate(), rc.TokenBudget(30), rc.TokenBudget(9, token_counter="words")])
    names = [stage.token_counter.name for stage in pipeline.stages]
    assert names == [ranker.token_counter.name] * 3 + ["words"]
    assert pipeline.token_counter.name == "words"
    assert rc.TokenBudget(30).token_counter.name == "words"


def test_vocabularies_of_one_name_are_two():
    ranker = tiny("recomp-extractive").with_options(top_k=6)
    larger = tiny_tokenizer()
    larger.add_tokens(["stone bridge", "lighthouse"])
    same = rc.get_token_counter(larger)
    same.vocabulary = ranker.token_counter.vocabulary
    for last in (rc.TokenBudget(500, token_counter=same), rc.Deduplicate(token_counter=same)):
        context = rc.Pipeline([ranker, last]).compress(QUERIES[0], DOCUMENTS)
        assert context.n_slots == same(context.text) < ranker.token_counter(context.text)
        assert context.stages[1].n_tokens == context.n_slots
        assert context.document_tokens == document_lengths(DOCUMENTS, same)


def test_kind_query_space_and_reader_are_those_of_the_stages():
    text = rc.Pipeline([rc.Deduplicate(), rc.TokenBudget(9)])
    assert (text.info.kind, text.info.needs_query, text.space) == ("text", False, None)
    assert text.compress("", ["One."]).text == "One."
    asked = rc.Pipeline([tiny("recomp-extractive"), rc.TokenBudget(9)])
    assert asked.info.needs_query
    with pytest.raises(rc.InputError, match="query is empty"):
        asked.compress(" ", ["One."])
    with pytest.raises(rc.OptionError, match="no reader"):
        asked.reader()
    last = tiny("pisco")
    last.store = rc.InMemoryStore()
    latent = rc.Pipeline([tiny("recomp-extractive"), last])
    assert (latent.info.kind, latent.space, latent.store) == ("vectors", last.space, last.store)
    assert rc.Pipeline.info.kind == "text"  # of the class: no instance changes it
    context = latent.compress(QUERIES[0], DOCUMENTS)
    assert context.space == last.space
    expected = last.compress(
        QUERIES[0], [each.document for each in excerpts(latent.stages[0].compress(QUERIES[0], DOCUMENTS))]
    )
    reader = latent.reader(max_new_tokens=6)
    assert reader.answer([context]) == last.reader(max_new_tokens=6).answer([expected])
    assert reader.complete(context.text)  # its handles are found in the store


def test_vectors_of_several_pieces_name_all_of_them():
    text = "aaaa bbbb cccc dddd " * 20
    context = rc.Pipeline([Windows(5, every=2), tiny("pisco")]).compress("q", [text])
    (segment, *_) = context.segments
    assert isinstance(segment, rc.MemorySegment)
    assert len(segment.sources) > 1
    assert not any(set(text[source.start : source.end]) & {"b", "d"} for source in segment.sources)


def test_remembering_reaches_the_stage_that_reads_the_documents():
    ranker = tiny("recomp-extractive")
    ranker.store = rc.InMemoryStore()
    pipeline = rc.Pipeline([rc.Deduplicate(), ranker, tiny("recomp-extractive")])
    assert len(pipeline.remember(DOCUMENTS)) == len(DOCUMENTS) == len(ranker.store)
    assert pipeline.store is ranker.store
    pipeline.compress(QUERIES[0], DOCUMENTS)
    assert len(ranker.store) == len(DOCUMENTS)  # nothing was new to it
    assert rc.Pipeline([Windows(9), ranker]).remember(DOCUMENTS) == {}
    assert rc.Pipeline([Windows(9)]).store is None
    with pytest.raises(rc.OptionError, match="nothing to store"):
        rc.Pipeline([Windows(9)]).store = rc.InMemoryStore()
    outer = rc.Pipeline([pipeline, rc.TokenBudget(40)])
    assert outer.remember(DOCUMENTS).keys() == pipeline.remember(DOCUMENTS).keys()


def test_a_store_of_its_own_is_not_that_of_copies_or_of_the_stages_given():
    store, other = rc.InMemoryStore(), rc.InMemoryStore()
    for name in ("recomp-extractive", "pisco"):
        given_stage = tiny(name)
        given_stage.store = store
        pipeline = rc.Pipeline([rc.Deduplicate(), given_stage])
        nested = rc.Pipeline([pipeline, rc.TokenBudget(40)]) if name != "pisco" else pipeline
        for copied in (nested.with_options(), copy.copy(nested)):
            copied.store = other
            assert copied.store is other
            copied.compress(QUERIES[0], DOCUMENTS)
            assert given_stage.store is pipeline.store is nested.store is store
    assert len(other)
    assert not len(store)


def test_a_pipeline_in_a_pipeline():
    stages = [tiny("recomp-extractive").with_options(top_k=6), Windows(30), rc.TokenBudget(25)]
    nested = rc.Pipeline([rc.Pipeline(stages[:2]), stages[2]]).compress(QUERIES[0], DOCUMENTS)
    assert same_context(nested, rc.Pipeline(stages).compress(QUERIES[0], DOCUMENTS))
    assert [stage.name for stage in nested.stages] == ["pipeline", "token-budget"]


def test_copies_and_pickles_do_the_same():
    pipeline = rc.Pipeline([tiny("recomp-extractive"), rc.Deduplicate(0.7), rc.TokenBudget(30)])
    expected = pipeline.compress(QUERIES[0], DOCUMENTS)
    for other in (copy.copy(pipeline), pickle.loads(pickle.dumps(pipeline))):
        assert same_context(other.compress(QUERIES[0], DOCUMENTS), expected)
    assert "recomp-extractive@" in repr(pipeline)
    assert "max_tokens=30" in repr(pipeline)


def test_options_change_stage_by_stage():
    pipeline = rc.Pipeline([tiny("recomp-extractive").with_options(top_k=6), rc.TokenBudget(30)])
    other = pipeline.with_options(stages=[{"top_k": 1, "token_counter": "characters"}, {"max_tokens": 100}])
    assert [stage.config.max_tokens for stage in other.stages] == [None, 100]
    assert other.stages[0].encoder is pipeline.stages[0].encoder
    assert other.token_counter.name == other.stages[1].token_counter.name == "characters"  # of the new stage before
    assert pipeline.stages[0].config.top_k == 6
    assert pipeline.token_counter.name != "characters"
    assert pipeline.with_options().stages[0] is pipeline.stages[0]
    assert pipeline.with_options().stages[1].config == pipeline.stages[1].config


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"top_k": 3}, ["'top_k'", "stages=[{}, {...}]"]),
        ({"stages": [{}]}, ["1 entries for 2 stages"]),
        ({"stages": {}}, ["list of dictionaries"]),
        ({"stages": [{}, {"max_token": 3}]}, ["stage 2 (token-budget)", "max_tokens"]),
        ({"stages": [{"top_k": 0}, {}]}, ["stage 1 (recomp-extractive)", "top_k"]),
    ],
)
def test_wrong_changes(options, said):
    pipeline = rc.Pipeline([tiny("recomp-extractive"), rc.TokenBudget(30)])
    with pytest.raises(rc.OptionError) as error:
        pipeline.with_options(**options)
    for each in said:
        assert each in str(error.value)


def test_importing_it_imports_nothing_heavy():
    code = (
        "import sys, ragcompress.composing;"
        "sys.exit(', '.join({'torch', 'transformers', 'numpy', 'punkt', 'tokenizers'} & set(sys.modules)) or None)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
