"""Pipelines of stages that refine, of stages that no registry knows, and of stages that are not what they say."""

import pickle

import pytest

import ragcompress as rc
from ragcompress.testing import DOCUMENTS, QUERIES, same_context, tiny


def test_stages_that_refine_say_their_own_time_only():
    stages = [tiny("recomp-extractive"), rc.Deduplicate(), rc.TokenBudget(30)]
    context = rc.Pipeline(stages).compress(QUERIES[0], DOCUMENTS)
    assert [set(stage.timings) for stage in context.stages] == [
        {"encode_ms", "select_ms"},
        {"refine_ms"},
        {"refine_ms"},
    ]
    alone = rc.Pipeline([rc.Deduplicate()]).compress("", DOCUMENTS)
    assert [set(stage.timings) for stage in alone.stages] == [{"refine_ms"}]


def test_pipelines_that_only_refine_are_unfolded():
    first = tiny("recomp-extractive").with_options(top_k=8)
    flat = rc.Pipeline([first, rc.Deduplicate(), rc.TokenBudget(25)])
    plain = [{"backend": "deduplicate"}, {"backend": "token-budget", "max_tokens": 25}]
    expected = flat.compress(QUERIES[0], DOCUMENTS)
    for inner in (
        rc.Pipeline([rc.Deduplicate(), rc.Pipeline([rc.TokenBudget(25)])]),
        {"backend": "pipeline", "stages": plain},
        {"backend": "pipeline", "stages": [plain[0], rc.Pipeline(plain[1:])]},
    ):
        nested = rc.Pipeline([first, inner])
        found = nested.compress(QUERIES[0], DOCUMENTS)
        assert same_context(found, expected)
        assert [each.score for each in found.segments] == [each.score for each in expected.segments]
        assert [stage.counter for stage in found.stages] == [first.token_counter.name] * 3
        assert nested.with_options(stages=[{}, {}, {"max_tokens": 9}]).stages[2].config.max_tokens == 9
    outer = rc.Pipeline([{"backend": "pipeline", "stages": plain}, plain[1]])
    assert outer.spec.options == {"stages": [*plain, plain[1]]}


class Renamed(rc.TokenBudget):
    name = "my-budget"


class Everything(rc.TokenBudget):
    def refine(self, contexts):
        return list(contexts)


class Outer(rc.Pipeline):
    pass


@pytest.mark.parametrize("stage", [Renamed(5), Everything(5)])
def test_a_class_that_is_not_registered_has_no_written_form(stage):
    assert stage.spec is None
    pipeline = rc.Pipeline([rc.Deduplicate(), stage])
    assert pipeline.spec is None
    adapter = rc.Adapter(compressor=pipeline)
    documents = [rc.Document("one two. three four five six seven eight nine.")]
    again = pickle.loads(pickle.dumps(adapter))
    assert again.compress("q", documents).context.text == adapter.compress("q", documents).context.text
    assert Outer([rc.TokenBudget(5)]).spec is None
    assert rc.TokenBudget(5).spec is not None


class Plain(rc.ContextCompressor):
    """Without options."""

    name = "plain"
    info = rc.BackendInfo(needs_query=False)

    def refine(self, contexts):
        return list(contexts)


def test_a_stage_without_options_can_be_loaded():
    Plain.check_options()
    assert Plain.from_pretrained(device="cpu").compress("", ["One."]).text == "One."
    with pytest.raises(rc.OptionError, match="threshold"):
        Plain.from_pretrained(threshold=3)


class Claims(rc.Compressor):
    """Says that it makes text, and makes vectors."""

    name = "claims"
    info = rc.BackendInfo(kind="text", needs_query=False)

    def compress_batch(self, queries, documents):
        return tiny("pisco").compress_batch(["q"] * len(queries), documents)


@pytest.mark.parametrize("last", [rc.TokenBudget(9), tiny("recomp-extractive"), Plain()])
def test_vectors_in_the_middle_are_refused(last):
    with pytest.raises(rc.InputTypeError, match=r"stage 1 \(claims\) made vectors, which stage 2"):
        rc.Pipeline([Claims(), last]).compress("q", DOCUMENTS)
