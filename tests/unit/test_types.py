"""Results: values that compare, copy and pickle; text that is written out without losing or adding anything."""

import copy
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ragcompress as rc
from ragcompress.types import neutralise, write_out

DOCUMENTS = (
    rc.Document("One.  Two.\nThree.", title="T"),
    rc.Document("第一句。第二句。"),
    rc.Document("Alpha. Beta."),
)


def piece(document, start, end, score=None):
    return rc.TextSegment(DOCUMENTS[document].text[start:end], (rc.Source(document, start, end),), score, 1)


def memory_segment(key="k" * 32, value=1.0, document=0):
    return rc.MemorySegment(torch.full((2, 3), value), (rc.Source(document),), 0.5, key)


def test_whole_documents_are_written_out_unchanged():
    segments = (piece(0, 0, 4), piece(0, 6, 10), piece(0, 11, 17), piece(1, 0, 4), piece(1, 4, 8))
    assert write_out(DOCUMENTS, segments, rc.Layout()) == "T\nOne.  Two.\nThree.\n\n第一句。第二句。"


def test_gaps_between_distant_segments_are_one_space():
    assert write_out(DOCUMENTS, (piece(0, 0, 4), piece(0, 11, 17)), rc.Layout("never")) == "One.\nThree."
    documents = (rc.Document("A. B. C."),)
    ends = tuple(rc.TextSegment(documents[0].text[at : at + 2], (rc.Source(0, at, at + 2),)) for at in (0, 6))
    assert write_out(documents, ends, rc.Layout()) == "A. C."
    assert write_out(DOCUMENTS, (piece(0, 11, 17), piece(0, 0, 4)), rc.Layout("never")) == "Three. One."


def test_titles_once_each_or_never():
    segments = (piece(0, 0, 4), piece(2, 0, 6), piece(0, 6, 10))
    assert write_out(DOCUMENTS, segments, rc.Layout()) == "T\nOne.\n\nAlpha.\n\nTwo."
    assert write_out(DOCUMENTS, segments, rc.Layout("each", ": ")) == "T: One.\n\nAlpha.\n\nT: Two."
    assert write_out(DOCUMENTS, segments, rc.Layout("never")) == "One.\n\nAlpha.\n\nTwo."


def test_vectors_are_written_as_handles():
    segment = memory_segment()
    assert segment.handle == f"<|rc:{'k' * 32}:2|>"
    context = rc.CompressedContext("q", DOCUMENTS, (segment, piece(2, 0, 6)), 10, 3)
    assert context.text == f"{segment.handle}\n\nAlpha."


@pytest.mark.parametrize(
    "make", [memory_segment, lambda **k: rc.Memory(memory_segment(**k).vectors, 5, "s", ((0, 1),))]
)
def test_tensors_compare_by_value(make):
    assert make() == make()
    assert make() != make(value=2.0)
    assert make() != "something else"
    assert copy.deepcopy(make()) == make()
    assert pickle.loads(pickle.dumps(make())) == make()


def test_memory_segments_hash_by_key():
    assert len({memory_segment(), memory_segment(), memory_segment("j" * 32)}) == 2


def test_by_document_groups_in_order_of_appearance():
    several = rc.TextSegment("A summary.", (rc.Source(0), rc.Source(2)), None, 3)
    context = rc.CompressedContext(
        "q", DOCUMENTS, (piece(2, 0, 6, 0.2), piece(0, 0, 4, 0.9), piece(0, 6, 10, 0.1), several), 10, 6
    )
    groups = context.by_document()
    assert [group.documents for group in groups] == [(2,), (0,), (0, 2)]
    assert [group.text for group in groups] == ["Alpha.", "One.  Two.", "A summary."]
    assert [group.score for group in groups] == [0.2, 0.9, None]
    assert groups[1].spans == [[0, 0, 4], [0, 6, 10]]
    assert groups[2].spans == []
    assert [group.n_slots for group in groups] == [1, 2, 3]


def test_ratio():
    assert rc.CompressedContext("q", DOCUMENTS, (), 12, 3).ratio == 4
    assert rc.CompressedContext("q", DOCUMENTS, (), 12, 0).ratio == float("inf")
    assert rc.CompressedContext("q", (), (), 0, 0).ratio == 1


def test_timings_do_not_count_for_equality():
    assert rc.CompressedContext("q", (), timings={"a_ms": 1.0}) == rc.CompressedContext("q", ())


@pytest.mark.parametrize(
    "bad", [{"text": 3}, {"text": None}, {"text": b"x"}, {"text": "x", "title": 1}, {"text": "x", "id": 2}]
)
def test_documents_check_their_types(bad):
    with pytest.raises(rc.InputTypeError):
        rc.Document(**bad)


def test_documents_are_hashable_and_frozen():
    assert len({rc.Document("a", metadata={"x": []}), rc.Document("a", metadata={"x": []})}) == 1
    with pytest.raises(AttributeError):
        DOCUMENTS[0].text = "other"


@given(st.text(), st.text())
def test_no_text_forms_a_handle(before, after):
    text = f"{before}<|rc:{'0' * 32}:8|>{after}"
    safe = neutralise(text)
    assert "<|rc:" not in safe
    assert len(safe) == len(text)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 17), st.integers(0, 17)), max_size=6))
def test_segments_survive_writing_in_any_order(places):
    segments = tuple(
        piece(document, start, end) for document, start, end in places if start < end <= len(DOCUMENTS[document].text)
    )
    text = write_out(DOCUMENTS, segments, rc.Layout())
    position = 0
    for segment in segments:
        position = text.index(segment.text, position) + len(segment.text)


def test_segments_from_different_documents_split_a_handle_apart():
    """Two harmless halves must not join into a handle: neutralising looks at each piece, the separator breaks them."""
    documents = (rc.Document("<|"), rc.Document("rc:00000000000000000000000000000000:8|>"))
    halves = tuple(
        rc.TextSegment(document.text, (rc.Source(index, 0, len(document.text)),))
        for index, document in enumerate(documents)
    )
    assert "<|rc:" not in write_out(documents, halves, rc.Layout())
    assert "<|rc:" not in write_out(documents, halves, rc.Layout(document_separator=""))
