"""What every framework plugin shares: plain configuration, loading on first use, failing open."""

import asyncio
import json
import pickle
import time

import pytest

import ragcompress as rc
from ragcompress.testing import DOCUMENTS, QUERIES, same_context, tiny


class Scripted(rc.Compressor):
    name = "scripted"

    def __init__(self, error=None, seconds=0.0):
        self.error = error
        self.seconds = seconds

    def compress_batch(self, queries, documents):
        time.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        return [rc.CompressedContext(query, tuple(each)) for query, each in zip(queries, documents, strict=True)]


@pytest.fixture
def saved(tmp_path):
    tiny("recomp-extractive").save_pretrained(tmp_path / "tiny")
    return str(tmp_path / "tiny")


def test_nothing_is_loaded_until_the_first_call(saved, monkeypatch):
    loads = []
    monkeypatch.setattr("ragcompress.adapter.load", lambda *a, **k: loads.append((a, k)) or tiny("recomp-extractive"))
    adapter = rc.Adapter("recomp-extractive", saved, {"top_k": 4})
    assert adapter.compress(QUERIES[0], []).reason == "no documents"
    assert loads == []
    adapter.compress(QUERIES[0], DOCUMENTS)
    adapter.compress(QUERIES[1], DOCUMENTS)
    assert loads == [(("recomp-extractive", saved), {"top_k": 4})]


def test_results_are_the_compressors_own(saved):
    adapter = rc.Adapter("recomp-extractive", saved, {"top_k": 4, "device": "cpu"})
    expected = tiny("recomp-extractive").compress(QUERIES[0], DOCUMENTS)
    assert same_context(adapter.compress(QUERIES[0], DOCUMENTS).context, expected)
    assert same_context(asyncio.run(adapter.acompress(QUERIES[0], DOCUMENTS)).context, expected)


@pytest.mark.parametrize("query", [None, "", "  "])
def test_without_a_query_documents_pass(query):
    outcome = rc.Adapter(compressor=Scripted()).compress(query, DOCUMENTS)
    assert outcome == rc.Outcome(None, "no query")


def test_small_contexts_pass():
    adapter = rc.Adapter(compressor=Scripted(), min_chars=100)
    assert adapter.compress("q", [rc.Document("x" * 99)]).reason == "fewer than min_chars=100 characters"
    assert adapter.compress("q", [rc.Document("x" * 100)]).reason is None


def test_errors_are_raised_by_default():
    with pytest.raises(ZeroDivisionError):
        rc.Adapter(compressor=Scripted(ZeroDivisionError("oh"))).compress("q", DOCUMENTS)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_fail_open(asynchronous):
    adapter = rc.Adapter(compressor=Scripted(ZeroDivisionError("oh")), on_error="pass_through")
    with pytest.warns(rc.PassThroughWarning, match="ZeroDivisionError: oh"):
        outcome = asyncio.run(adapter.acompress("q", DOCUMENTS)) if asynchronous else adapter.compress("q", DOCUMENTS)
    assert outcome == rc.Outcome(None, "ZeroDivisionError: oh")


@pytest.mark.parametrize("asynchronous", [False, True])
def test_timeouts(asynchronous):
    adapter = rc.Adapter(compressor=Scripted(seconds=0.5), timeout=0.05)
    with pytest.raises(rc.CompressionTimeoutError, match=r"timeout=0\.05"):
        asyncio.run(adapter.acompress("q", DOCUMENTS)) if asynchronous else adapter.compress("q", DOCUMENTS)
    assert rc.Adapter(compressor=Scripted(), timeout=5).compress("q", DOCUMENTS).reason is None


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("timeout", [None, 5])
def test_a_timeout_of_the_compressors_own_is_not_ours(asynchronous, timeout):
    adapter = rc.Adapter(compressor=Scripted(TimeoutError("of the network")), timeout=timeout)
    with pytest.raises(TimeoutError, match="of the network"):
        asyncio.run(adapter.acompress("q", DOCUMENTS)) if asynchronous else adapter.compress("q", DOCUMENTS)


def test_wrong_options_are_raised_even_when_failing_open(saved):
    for options in ({"tok_k": 4}, {"top_k": 1, "ratio": 3}, {"preset": ["paper"]}):
        with pytest.raises(rc.OptionError, match=r"top_k|'paper'"):
            rc.Adapter("recomp-extractive", saved, options, on_error="pass_through")
    adapter = rc.Adapter("recomp-extractive", saved, {"device": "cuda:99"}, on_error="pass_through")
    with pytest.raises(rc.OptionError, match="device"):
        adapter.compress("q", DOCUMENTS)


def test_blank_documents_load_nothing(tmp_path):
    adapter = rc.Adapter(checkpoint=str(tmp_path / "nowhere"))
    assert adapter.compress("q", [rc.Document(" "), rc.Document("")]).reason == "no text"
    assert adapter.compress("", DOCUMENTS).reason == "no query"


def test_a_failing_load_passes_through_too(tmp_path):
    adapter = rc.Adapter(checkpoint=str(tmp_path / "nowhere"), on_error="pass_through")
    with pytest.warns(rc.PassThroughWarning, match="does not exist"):
        assert "does not exist" in adapter.compress("q", DOCUMENTS).reason


def test_pickles_carry_configuration_not_weights(saved):
    adapter = rc.Adapter("recomp-extractive", saved, {"top_k": 4, "device": "cpu"})
    context = adapter.compress(QUERIES[0], DOCUMENTS).context
    content = pickle.dumps(adapter)
    assert len(content) < 1000
    assert same_context(pickle.loads(content).compress(QUERIES[0], DOCUMENTS).context, context)


def test_a_loaded_compressor_is_pickled_as_its_configuration(saved):
    adapter = rc.Adapter(compressor=rc.load("recomp-extractive", saved, top_k=4, device="cpu"))
    assert json.loads(json.dumps(adapter.configuration())) == {
        "backend": "recomp-extractive", "checkpoint": saved, "options": {"top_k": 4, "device": "cpu"},
    }  # fmt: skip
    content = pickle.dumps(adapter)
    assert len(content) < 1000
    named = rc.Adapter(compressor=rc.load("recomp-extractive", saved, store="memory://pickled"))
    assert len(pickle.dumps(named)) < 1000
    context = adapter.compress(QUERIES[0], DOCUMENTS).context
    assert same_context(pickle.loads(content).compress(QUERIES[0], DOCUMENTS).context, context)


def test_a_compressor_built_by_hand_is_pickled_with_its_weights():
    adapter = rc.Adapter(compressor=tiny("recomp-extractive"))
    context = adapter.compress(QUERIES[0], DOCUMENTS).context
    assert same_context(pickle.loads(pickle.dumps(adapter)).compress(QUERIES[0], DOCUMENTS).context, context)
    with pytest.raises(rc.OptionError, match="built by hand"):
        adapter.configuration()


def test_options_that_are_objects_have_no_written_form(saved):
    adapter = rc.Adapter("recomp-extractive", saved, {"store": rc.InMemoryStore()})
    with pytest.raises(rc.OptionError, match="memory://NAME"):
        adapter.configuration()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"backend": "recomp"}, ["'recomp'", "recomp-extractive"]),
        ({"on_error": "ignore"}, ["on_error", "'raise'"]),
        ({"timeout": 0}, ["timeout"]),
        ({"min_chars": -1}, ["min_chars"]),
        ({"compressor": "recomp-extractive"}, ["compressor", "str"]),
        ({"options": ["x"]}, ["options", "list"]),
        ({"options": {"checkpoint": "x"}}, ["checkpoint"]),
        ({"compressor": Scripted(), "options": {"top_k": 3}}, ["either", "with_options"]),
        ({"compressor": Scripted(), "backend": [{"backend": "token-budget", "max_tokens": 9}]}, ["stages", "either"]),
        ({"backend": [{"backend": "token-budget", "max_tokens": 9}], "checkpoint": "x"}, ["'x'", "stage"]),
        (
            {
                "backend": "pipeline",
                "checkpoint": "x",
                "options": {"stages": [{"backend": "token-budget", "max_tokens": 9}]},
            },
            ["'x'", "stage"],
        ),
    ],
)
def test_bad_configuration(arguments, words):
    with pytest.raises(rc.OptionError) as error:
        rc.Adapter(**arguments)
    for word in words:
        assert word in str(error.value)


def test_nobody_changes_the_configuration_from_outside():
    stages, store = [{"backend": "token-budget", "max_tokens": 9}], rc.InMemoryStore()
    adapters = [rc.Adapter(stages), rc.Adapter("pipeline", options={"stages": stages})]
    stages[0]["max_tokens"] = 0
    for adapter in adapters:
        adapter.configuration()["options"]["stages"][0]["max_tokens"] = -1
        assert adapter.options == {"stages": [{"backend": "token-budget", "max_tokens": 9}]}
    assert rc.Adapter("recomp-extractive", options={"store": store}).options["store"] is store


def test_filling_the_store():
    compressor = tiny("recomp-extractive")
    compressor.store = rc.InMemoryStore()
    adapter = rc.Adapter(compressor=compressor)
    assert adapter.remember([*DOCUMENTS, *DOCUMENTS]) == len(DOCUMENTS) == len(compressor.store)
    assert adapter.remember([]) == 0
    assert rc.Adapter(compressor=Scripted()).remember(DOCUMENTS) == 0


def test_notes_are_flat_json():
    context = tiny("recomp-extractive").compress(QUERIES[0], DOCUMENTS)
    outcome = rc.Outcome(context)
    for part in context.by_document():
        metadata = {rc.NOTE_KEY: rc.note(outcome, part, "recomp-extractive")}
        assert isinstance(metadata[rc.NOTE_KEY], str)
        entry = rc.read_note(metadata)
        text = context.documents[part.documents[0]].text
        assert [text[start:end] for start, end in entry["spans"]] == [segment.text for segment in part.segments]
        assert entry["n_slots"] <= entry["n_tokens"] <= entry["context_n_tokens"]
        assert len(entry["scores"]) == len(entry["spans"])
    assert rc.read_note({}) == {}
    assert rc.read_note({rc.NOTE_KEY: rc.note(rc.Outcome(None, "why"), None, "b")}) == {
        "backend": "b",
        "skipped": "why",
    }


def test_notes_of_several_sources():
    documents = (rc.Document("a"), rc.Document("b"))
    documents = (rc.Document("unused"), *documents)
    segment = rc.TextSegment("ab", (rc.Source(1), rc.Source(2, 0, 1)), None, 1)
    context = rc.CompressedContext("q", documents, (segment,), 3, 1, counter="words", document_tokens=(1, 1, 1))
    (part,) = context.by_document()
    entry = json.loads(rc.note(rc.Outcome(context), part, "b", ["id-a", None]))
    assert (entry["source_ids"], entry["spans"], entry["n_tokens"]) == (["id-a", None], [[1, 0, 1]], 2)
