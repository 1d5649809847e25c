"""Records and summaries on disk."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ragcompress as rc
from ragcompress.evaluation import Selection
from ragcompress.evaluation.question_files import dataset_of
from ragcompress.evaluation.record_files import RecordFile, open_folder, read_summaries, write_summary
from ragcompress.evaluation.records import (
    Estimate,
    Failure,
    KeptSegment,
    Record,
    Summary,
    read_record,
    read_summary,
    record_as_json,
    summary_as_json,
)

SEGMENTS = st.builds(
    KeptSegment,
    sources=st.lists(st.tuples(st.integers(0, 9), st.none(), st.none()) | st.tuples(*[st.integers(0, 9)] * 3)).map(
        tuple
    ),
    text=st.none() | st.text(max_size=9),
    score=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    n_slots=st.none() | st.integers(0, 9),
)
RECORDS = st.builds(
    Record,
    id=st.text(min_size=1, max_size=5),
    segments=st.lists(SEGMENTS, max_size=3).map(tuple),
    answer=st.none() | st.text(max_size=9),
    metrics=st.dictionaries(st.sampled_from(["f1", "tokens"]), st.floats(allow_nan=False, allow_infinity=False)),
    failure=st.none() | st.builds(Failure, st.sampled_from(["compress", "read", "judge"]), st.text(max_size=9)),
)


@given(RECORDS)
def test_a_record_is_read_as_it_was_written(record):
    assert read_record(json.loads(json.dumps(record_as_json(record)))) == record


def summary(**changes):
    fields = {
        "contestant": "c", "kind": "compressor", "matched_to": None, "settings": {"a": 1}, "dataset": "d",
        "sha256": "0" * 64, "selection": {"limit": None}, "n_questions": 2, "n_answered": 0, "failures": {"read": 1},
        "first_failures": ("1: x",), "reader": None, "counter": "words", "metrics": {"f1": Estimate(0.5, 0.1, 0.9, 2)},
        "differences": {}, "reader_settings": None, "judge": None, "compared_with": {}, "peak_memory_mib": None, "seed": 0, "environment": {}, "fingerprint": "f",
    }  # fmt: skip
    return Summary(**(fields | changes))


def test_a_summary_is_read_as_it_was_written(tmp_path):
    write_summary(tmp_path, summary())
    assert read_summaries(tmp_path) == [summary()]
    assert read_summary(json.loads(json.dumps(summary_as_json(summary())))) == summary()
    with pytest.raises(ValueError, match="format 99, expected 1"):
        read_summary({"format": 99})


def test_a_file_goes_on_where_it_was_interrupted(tmp_path):
    file = RecordFile(tmp_path / "c.jsonl", "print")
    assert file.read() == []
    done, failed = Record("1", metrics={"f1": 1.0}), Record("2", failure=Failure("read", "no"))
    file.begin([])
    file.append([done, failed, Record("3")])
    with file.path.open("a") as half:
        half.write('{"id": "4", "segm')
    assert file.read() == [done, Record("3")]
    assert RecordFile(file.path, "another").read() == []
    file.begin([done])
    assert len(file.path.read_text().splitlines()) == 2
    assert not [each for each in tmp_path.iterdir() if each != file.path]


@pytest.mark.parametrize("content", ["", "nonsense", "[]", '"x"', "{}", '{"fingerprint": "other"}\n{"id": "1"}'])
def test_records_of_something_else_are_begun_anew(tmp_path, content):
    path = tmp_path / "c.jsonl"
    path.write_text(content)
    assert RecordFile(path, "print").read() == []


def test_a_folder_takes_results_of_one_kind_of_data(tmp_path):
    records = [{"id": "1", "question": "q", "answers": ["a"], "docs": [{"text": "t"}]}]
    dataset = dataset_of("d", records)
    selection = {"limit": None, "n_docs": None, "gold_only": False, "shuffle_docs": None}
    folder = open_folder(tmp_path, dataset)
    assert json.loads((folder / "questions.jsonl").read_text())["question"] == "q"
    write_summary(folder, summary(sha256=dataset.sha256, selection=selection))
    assert open_folder(tmp_path, dataset) == folder
    other = dataset_of("d", [{**records[0], "question": "other"}])
    with pytest.raises(rc.InputError) as caught:
        open_folder(tmp_path, other)
    assert dataset.sha256 in str(caught.value)
    assert other.sha256 in str(caught.value)
    with pytest.raises(rc.InputError, match=r'other questions or passages: \{.*"limit": null.*\}, now \{.*"limit": 3'):
        open_folder(tmp_path, dataset_of("d", records, Selection(limit=3)))
    (folder / "c.json").write_text("{")
    with pytest.raises(rc.InputError, match=r"c\.json is no summary of an evaluation"):
        open_folder(tmp_path, dataset)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    dataset = dataset_of("d", [{"id": "1", "question": "q", "answers": ["a"], "docs": [{"text": "t"}]}])
    (tmp_path / "out").write_text("a file")
    with pytest.raises(rc.InputError, match="cannot be made"):
        open_folder(tmp_path / "out", dataset)
