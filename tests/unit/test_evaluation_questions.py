"""Questions from files: what is read, what is refused and where it says so."""

import hashlib
import json

import pytest

import ragcompress as rc
from ragcompress.evaluation import Selection, dataset_of, read_dataset
from ragcompress.evaluation.question_files import as_record, question_of


def record(identifier="1", **changes):
    docs = [
        {"title": "Bridge", "text": "Built in 1357. Long.", "is_supporting": True, "sentence_spans": [[0, 14], [15, 20]],
         "supporting_sentences": [0]},
        {"title": "", "text": "Other.", "is_supporting": False, "sentence_spans": [[0, 6]], "supporting_sentences": []},
    ]  # fmt: skip
    return {"id": identifier, "question": "When?", "answers": ["1357"], "docs": docs, "license": "x"} | changes


def write(path, *records):
    path.write_text("".join(f"{each if isinstance(each, str) else json.dumps(each)}\n" for each in records))
    return path


def test_a_file_becomes_questions(tmp_path):
    path = write(tmp_path / "bridges.dev.jsonl", record(), "", record("2", lang="de"))
    dataset = read_dataset(path)
    assert dataset.name == "bridges.dev"
    assert dataset.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    first, second = dataset.questions
    assert first.passages[0].gold == ((0, 14),)
    assert first.passages[1].document == rc.Document("Other.")
    assert (first.language, second.language) == (None, "de")


def test_a_question_goes_into_a_record_and_back():
    question = question_of(record(lang="de"))
    assert question_of(json.loads(json.dumps(as_record(question)))) == question
    bare = question_of({"id": 7, "question": "q", "answers": ["a"], "docs": [{"text": "t"}]})
    assert question_of(as_record(bare)) == bare
    assert bare.id == "7"


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("{nonsense", "data.jsonl:2: not valid JSON: Expecting property name enclosed in double quotes at column 2."),
        ("[1]", "data.jsonl:2: expected an object, got list."),
        (record("1"), "data.jsonl:2: the id '1' is taken by data.jsonl:1."),
        (record(None), "data.jsonl:2: id must be a string, got None."),
        (record("2", question=" "), "data.jsonl:2: question must be a text, got ' '."),
        (record("2", answers=[]), "data.jsonl:2: answers must be a list with at least one answer, got []."),
        (record("2", answers="1357"), "answers must be a list with at least one answer, got '1357'."),
        (record("2", answers=["a", ""]), "data.jsonl:2: answers[1] must be a text, got ''."),
        ({"id": "2", "question": "q", "answers": ["a"]}, "docs must be a list with at least one passage, got none; the keys are: 'id', 'question', 'answers'."),
        (record("2", docs=[]), "docs must be a list with at least one passage, got []."),
        (record("2", docs=["text"]), "data.jsonl:2: docs[0] must be an object with title and text, got str."),
        (record("2", docs=[{"text": 3}]), "docs[0].text must be a string, got 3."),
        (record("2", docs=[{"text": "t", "title": 3}]), "docs[0].title must be a string, got 3."),
        (record("2", docs=[{"text": "t", "is_supporting": 1}]), "docs[0].is_supporting must be true or false, got 1."),
        (record("2", docs=[{"text": "t", "sentence_spans": [[0, 2]]}]), "docs[0].sentence_spans[0] must be [start, end] within the 1 characters, got [0, 2]."),
        (record("2", docs=[{"text": "t", "sentence_spans": [[0]]}]), "docs[0].sentence_spans[0] must be"),
        (record("2", docs=[{"text": "t", "sentence_spans": 1}]), "docs[0].sentence_spans must be a list, got 1."),
        (record("2", docs=[{"text": "t", "supporting_sentences": [0]}]), "docs[0].supporting_sentences names 0; there are 0 sentence_spans."),
        (record("2", lang=3), "lang must be a string, got 3."),
    ],
)  # fmt: skip
def test_a_bad_record_is_named_with_file_line_and_field(tmp_path, bad, message):
    path = write(tmp_path / "data.jsonl", record(), bad, record("3"))
    with pytest.raises(rc.InputError) as caught:
        read_dataset(path)
    assert message in str(caught.value)
    assert "--skip-bad" in str(caught.value)
    dataset = read_dataset(path, skip_bad=True)
    assert [question.id for question in dataset.questions] == ["1", "3"]
    assert len(dataset.skipped) == 1
    assert message in dataset.skipped[0]


def test_many_bad_records_are_counted(tmp_path):
    path = write(tmp_path / "data.jsonl", *(["nonsense"] * 25), record())
    with pytest.raises(rc.InputError, match="and 15 more"):
        read_dataset(path)
    path = write(tmp_path / "data.jsonl", "nonsense")
    with pytest.raises(rc.InputError, match=r"data holds no question that can be used\. data\.jsonl:1: not valid JSON"):
        read_dataset(path, skip_bad=True)


def test_files_that_are_none_are_refused(tmp_path):
    with pytest.raises(rc.InputError, match="does not exist"):
        read_dataset(tmp_path / "none.jsonl")
    with pytest.raises(rc.InputError, match="is a directory"):
        read_dataset(tmp_path)
    (tmp_path / "latin.jsonl").write_bytes(b'{"id": "\xe9"}')
    with pytest.raises(rc.InputError, match="is not UTF-8: byte 0xe9 at offset 8"):
        read_dataset(tmp_path / "latin.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(rc.InputError, match="empty holds no question"):
        read_dataset(tmp_path / "empty.jsonl")


def test_a_selection_takes_questions_and_passages():
    records = [record(str(number)) for number in range(5)]
    assert len(dataset_of("d", records, Selection(limit=2)).questions) == 2
    assert all(len(each.passages) == 1 for each in dataset_of("d", records, Selection(n_docs=1)).questions)
    gold = dataset_of("d", [*records, record("x", docs=[{"text": "t"}])], Selection(gold_only=True))
    assert [[each.supporting for each in question.passages] for question in gold.questions] == [[True]] * 5
    with pytest.raises(rc.InputError, match="no question of d names passages"):
        dataset_of("d", [record("x", docs=[{"text": "t"}])], Selection(gold_only=True))
    for wrong in ({"limit": 0}, {"n_docs": 0}, {"shuffle_docs": -1}):
        with pytest.raises(rc.OptionError):
            Selection(**wrong)


def test_a_drawn_order_is_that_of_seed_and_question_alone():
    docs = [{"text": str(number)} for number in range(20)]
    records = [record(str(number), docs=docs) for number in range(3)]
    texts = [
        [[each.document.text for each in question.passages] for question in dataset_of("d", own, Selection(shuffle_docs=seed)).questions]
        for own, seed in ((records, 1), (records, 1), (records, 2), (records[1:], 1))
    ]  # fmt: skip
    assert texts[0] == texts[1] != texts[2]
    assert texts[3] == texts[0][1:]
    assert texts[0][0] != texts[0][1]
    assert sorted(texts[0][0]) == sorted(str(number) for number in range(20))
    (first, *_) = dataset_of("d", records, Selection(n_docs=5, shuffle_docs=1)).questions
    assert sorted(each.document.text for each in first.passages) == ["0", "1", "2", "3", "4"]


def test_the_hash_is_of_the_data_and_not_of_the_selection():
    records = [record(str(number)) for number in range(3)]
    assert dataset_of("d", records).sha256 == dataset_of("e", records, Selection(limit=1)).sha256
    assert dataset_of("d", records).sha256 != dataset_of("d", records[:2]).sha256
