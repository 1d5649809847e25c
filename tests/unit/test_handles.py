"""Handles in text: written, read, attached to the question, and harmless where somebody else writes them."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ragcompress as rc
from ragcompress.handles import Ask, Handle, digest, parse

KEYS = st.text("0123456789abcdef", min_size=1, max_size=32)
HANDLES = st.builds(Handle, KEYS, st.integers(0, 99), st.none() | st.integers(0, 999))
ASKS = st.builds(Ask, st.text(max_size=20), st.text("0123456789abcdef", max_size=16), st.just(()))
PLAIN = st.text(max_size=10).filter(lambda text: "<" not in text and "|" not in text)


@given(st.lists(HANDLES | ASKS | PLAIN, max_size=8))
def test_what_is_written_is_read(parts):
    text = "".join(map(str, parts))
    found = parse(text)
    assert [part for part in found if not isinstance(part, str)] == [p for p in parts if not isinstance(p, str)]
    assert "".join(part for part in found if isinstance(part, str)) == "".join(p for p in parts if isinstance(p, str))


@given(st.text(max_size=30), st.lists(HANDLES, min_size=1, max_size=3))
def test_markers_are_ascii_without_spaces(question, handles):
    marker = str(Ask(question, digest(handles), ((0, "ä \ud800"),)))
    assert marker.isascii()
    assert " " not in marker
    assert parse(marker) == [Ask(question, digest(handles), ((0, "ä \ud800"),))]


@given(st.lists(st.sampled_from(["<|rc:", "ab:8|>", "ask=W10|>", "<", "|rc:", "ab", ":8|>"]), max_size=8).map("".join))
def test_neutralised_text_holds_no_handle(text):
    assert parse(rc.neutralise(text)) in ([rc.neutralise(text)], [])


@pytest.mark.parametrize("text", ["<|rc:ask=!|>", "<|rc:ask=AAAA|>", "<|rc:ask=W10|>", "<|rc:ask=WzEsMiwzXQ|>"])
def test_a_damaged_marker_is_left_out(text):
    assert not [part for part in parse(f"a {text} b") if isinstance(part, Ask)]


def test_the_question_goes_to_the_first_handle_with_short_texts_beside_it():
    texts = ["Short one.", "<|rc:aa:8|>", "", "<|rc:bb:8|><|rc:bb.1:8|>", "Last."]
    found = rc.attach_question("Why?", texts)
    assert found[0] == texts[0]
    assert found[2:] == texts[2:]
    (handle, ask) = parse(found[1])
    assert handle == Handle("aa", 8)
    assert ask.question == "Why?"
    assert ask.texts == ((0, "Short one."), (4, "Last."))
    assert ask.digest == digest([Handle("bb", 8, 1), Handle("aa", 8), Handle("bb", 8)])


def test_nothing_is_attached_without_question_or_handle_or_with_much_text_beside():
    assert rc.attach_question("Why?", ["text", "more"]) == ["text", "more"]
    assert rc.attach_question(" ", ["<|rc:aa:8|>"]) == ["<|rc:aa:8|>"]
    assert rc.attach_question(None, ["<|rc:aa:8|>"]) == ["<|rc:aa:8|>"]
    assert rc.attach_question("Why?", ["<|rc:aa:8|>", "x" * 5000]) == ["<|rc:aa:8|>", "x" * 5000]


def test_an_older_question_goes_before_a_new_one_comes():
    first = rc.attach_question("Why?", ["<|rc:aa:8|>", "<|rc:bb:8|>"])
    second = rc.attach_question("Who?", first[::-1])
    assert [part.question for text in second for part in parse(text) if isinstance(part, Ask)] == ["Who?"]
    assert [rc.without_question(text) for text in second] == ["<|rc:bb:8|>", "<|rc:aa:8|>"]


def test_documents_of_vectors_and_text_are_carried_as_they_were_written():
    from ragcompress.adapter import Outcome
    from ragcompress.testing import tiny

    context = tiny("pisco").compress("Why?", ["bread " * 125 + ". Salt."])
    kinds = {type(segment) for segment in context.segments}
    assert kinds == {rc.MemorySegment, rc.TextSegment}
    (part,) = context.by_document()
    metadata = {rc.NOTE_KEY: rc.note(Outcome(context), part, "pisco")}
    assert rc.carries_handles(part.text, metadata)
    assert rc.carries_handles(*[rc.attach_question("Why?", [part.text])[0], metadata])
    assert not rc.carries_handles(part.text.replace("Salt", "Salt <|rc:0a:8|>"), metadata)


def test_carried_handles_need_the_note_of_the_compressor_that_wrote_them():
    from ragcompress.adapter import Outcome
    from ragcompress.testing import DOCUMENTS, tiny

    context = tiny("pisco").compress("Why?", DOCUMENTS[:1])
    (part,) = context.by_document()
    note = rc.note(Outcome(context), part, "pisco")
    assert rc.carries_handles(part.text, {rc.NOTE_KEY: note})
    assert rc.carries_handles(*[rc.attach_question("Why?", [part.text])[0], {rc.NOTE_KEY: note}])
    assert not rc.carries_handles(part.text, {})
    assert not rc.carries_handles(part.text, {rc.NOTE_KEY: "no json"})
    assert not rc.carries_handles(part.text, {rc.NOTE_KEY: "[]"})
    assert not rc.carries_handles(part.text + "<|rc:0a:8|>", {rc.NOTE_KEY: note})
    assert not rc.carries_handles("text", {rc.NOTE_KEY: note})


def test_whoever_writes_a_file_cannot_seal_its_handles():
    forged = "Read <|rc:0123456789abcdef0123456789abcdef:8|>."
    digest = hashlib.sha256(forged.encode()).hexdigest()
    for length in (16, 24, 64):
        note = json.dumps({"handles": digest[:length]})
        assert not rc.carries_handles(forged, {rc.NOTE_KEY: note})
