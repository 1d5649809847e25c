"""Construction, JSON, pickling, copying."""

import copy
import pickle
from pathlib import Path

import pytest
from langchain_ragcompress import RagCompressor
from pydantic import ValidationError

import ragcompress as rc


def test_nothing_is_loaded(monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError("something was loaded")

    monkeypatch.setattr("ragcompress.adapter.load", never)
    RagCompressor(checkpoint="/nowhere", top_k=3).as_runnable()


def test_options_are_merged():
    compressor = RagCompressor(options={"top_k": 3, "dtype": "float32"}, top_k=6, store="memory://docs")
    assert compressor.options == {"top_k": 6, "dtype": "float32", "store": "memory://docs"}
    assert RagCompressor(checkpoint=Path("a/b")).checkpoint == str(Path("a/b"))


def test_json_round_trip():
    compressor = RagCompressor(
        "recomp-extractive",
        checkpoint="some/where",
        options={"max_tokens": 90},
        on_error="pass_through",
        timeout=2.5,
        min_chars=10,
        title_key="headline",
        replace_score=True,
        keep_original=True,
        order="score",
    )
    restored = RagCompressor.model_validate_json(compressor.model_dump_json())
    assert restored == compressor
    assert (
        restored.model_dump()
        == compressor.model_dump()
        == {
            "backend": "recomp-extractive",
            "checkpoint": "some/where",
            "options": {"max_tokens": 90, "order": "score"},
            "on_error": "pass_through",
            "timeout": 2.5,
            "min_chars": 10,
            "title_key": "headline",
            "replace_score": True,
            "keep_original": True,
        }
    )
    assert restored._adapter.timeout == 2.5
    assert restored != RagCompressor()


def test_configuration_of_a_loaded_object_is_taken_from_it(fakes):
    loaded = fakes.Keywords()
    loaded.spec = rc.LoadSpec("recomp-extractive", "folder", {"top_k": 2})
    restored = RagCompressor.model_validate_json(RagCompressor(compressor=loaded).model_dump_json())
    assert (restored.backend, restored.checkpoint, restored.options) == ("recomp-extractive", "folder", {"top_k": 2})


def test_what_was_built_by_hand_is_not_written(fakes):
    compressor = RagCompressor(compressor=fakes.Keywords())
    for write in (compressor.model_dump_json, compressor.model_dump, lambda: compressor.model_dump(mode="json")):
        with pytest.raises(ValueError, match="Keywords that was built by hand has no configuration"):
            write()
    with pytest.raises(ValueError, match=r"cannot be written as JSON.*memory://NAME"):
        RagCompressor(store=rc.InMemoryStore()).model_dump_json()


def test_pickle_keeps_configuration():
    compressor = RagCompressor(top_k=2, timeout=3.0)
    restored = pickle.loads(pickle.dumps(compressor))
    assert restored == compressor
    assert restored._adapter.options == {"top_k": 2}
    assert copy.deepcopy(compressor) == compressor


def test_copies_follow_their_configuration(fakes):
    compressor = RagCompressor(top_k=2)
    changed = compressor.model_copy(update={"options": {"top_k": 5}, "timeout": 1.0})
    assert changed == RagCompressor(top_k=5, timeout=1.0)
    assert (changed._adapter.options, changed._adapter.timeout) == ({"top_k": 5}, 1.0)
    assert compressor.model_copy() == compressor
    by_hand = RagCompressor(compressor=fakes.Keywords())
    assert by_hand.model_copy() == by_hand
    assert by_hand != RagCompressor(compressor=fakes.Keywords())
    assert by_hand.model_copy(update={"min_chars": 9})._adapter.compressor is by_hand._adapter.compressor
    with pytest.raises(rc.OptionError):
        compressor.model_copy(update={"timeout": -1})


def test_assignment_is_refused():
    with pytest.raises(ValidationError, match="frozen"):
        RagCompressor().timeout = 3.0


def test_unknown_names_are_refused_closest_first(monkeypatch):
    monkeypatch.setattr("ragcompress.adapter.available", lambda: ("oscar", "pisco", "recomp-extractive"))
    with pytest.raises(rc.OptionError, match="unknown backend 'piscco'; known, closest first: 'pisco', 'oscar'"):
        RagCompressor("piscco")
    with pytest.raises(rc.OptionError, match="unknown on_error 'pass'; known, closest first: 'pass_through'"):
        RagCompressor(on_error="pass")
    with pytest.raises(ValidationError, match="closest first: 'pisco'"):
        RagCompressor.model_validate_json('{"backend": "piscco"}')


@pytest.mark.parametrize("bad", [{"timeout": 0}, {"min_chars": -1}, {"min_chars": 1.5}])
def test_numbers_out_of_range_are_refused(bad):
    with pytest.raises(rc.OptionError, match=next(iter(bad))):
        RagCompressor(**bad)


def test_object_and_options_exclude_each_other(fakes):
    with pytest.raises(rc.OptionError, match="give either"):
        RagCompressor(compressor=fakes.Keywords(), top_k=3)
    with pytest.raises(rc.OptionError, match=r"must be a ragcompress.Compressor, got str"):
        RagCompressor(compressor="recomp-extractive")
