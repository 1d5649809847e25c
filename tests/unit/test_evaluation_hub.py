"""Data sets by name: rows in the shapes that their authors have published, and what happens without a network."""

import json
import sys
from types import ModuleType

import pytest

from ragcompress.errors import InputError, MissingExtraError, OptionError
from ragcompress.evaluation import hub
from ragcompress.evaluation.hub import NAMED, load_named, parse_name, record_of
from ragcompress.evaluation.question_files import question_of

HOTPOT = {
    "id": "5a7a06935542990198eaf050",
    "question": "Which town has the older bridge?",
    "answer": "Ashford",
    "type": "comparison",
    "level": "medium",
    "supporting_facts": {"title": ["Ashford", "Ashford", "Brookton"], "sent_id": [2, 0, 1]},
    "context": {
        "title": ["Carswell", "Ashford", "Brookton"],
        "sentences": [
            ["Carswell is a hill."],
            ["Ashford is a town.", " It lies on a river. ", " Its bridge is from 1480."],
            ["Brookton is a town.", "", "Its bridge is new."],
        ],
    },
}
MUSIQUE = {
    "id": "2hop__1_2",
    "question": "Who founded the town with the old bridge?",
    "answer": "Ada Ashford",
    "answer_aliases": ["Ada", "Ada Ashford"],
    "answerable": True,
    "question_decomposition": [],
    "paragraphs": [
        {"idx": 0, "title": "Carswell", "paragraph_text": "Carswell is a hill.", "is_supporting": False},
        {"idx": 1, "title": "Ashford", "paragraph_text": "Ada Ashford founded it.", "is_supporting": True},
    ],
}
TRIVIA = {
    "question_id": "qw_1",
    "question": "Which town has a bridge from 1480?",
    "entity_pages": {
        "doc_source": ["Wikipedia"], "filename": ["Ashford.txt"], "title": ["Ashford"],
        "wiki_context": ["Ashford is a town."],
    },
    "search_results": {
        "description": ["", ""], "filename": ["1", "2"], "rank": [0, 1], "title": ["Bridges", "Empty"],
        "url": ["", ""], "search_context": ["The bridge of Ashford is from 1480.", "  "],
    },
    "answer": {"value": "Ashford", "aliases": ["Ashford", "Ashford, Kent"], "normalized_aliases": ["ashford"]},
}  # fmt: skip
NQ = {"question": "which town has an old bridge", "answer": ["Ashford"]}
POPQA = {
    "id": 4222362, "subj": "Ashford", "prop": "founder", "question": "Who founded Ashford?",
    "possible_answers": '["Ada Ashford", "Ada"]',
}  # fmt: skip


def serve(monkeypatch, rows):
    """Let rows come from the hub; returns what was asked of it."""
    asked = []

    def open_rows(repository, config, split, revision, *, streaming):
        asked.append((repository, config, split, revision, streaming))
        return iter(rows)

    monkeypatch.setattr(hub, "open_rows", open_rows)
    return asked


def test_hotpotqa_becomes_passages_with_sentences_and_which_of_them_support(monkeypatch):
    asked = serve(monkeypatch, [HOTPOT])
    (record,) = load_named("hotpotqa").records
    assert asked == [("hotpotqa/hotpot_qa", "distractor", "validation", None, False)]
    assert (record["id"], record["answers"]) == ("hotpotqa-5a7a06935542990198eaf050", ["Ashford"])
    ashford, brookton = question_of(record).passages[1:]
    assert ashford.document.text == "Ashford is a town. It lies on a river. Its bridge is from 1480."
    assert [ashford.document.text[start:end] for start, end in ashford.gold] == [
        "Ashford is a town.",
        "Its bridge is from 1480.",
    ]
    assert brookton.document.text == "Brookton is a town. Its bridge is new."
    assert [brookton.document.text[start:end] for start, end in brookton.sentences][1:] == ["", "Its bridge is new."]
    assert [passage.supporting for passage in question_of(record).passages] == [False, True, True]


def test_the_authors_own_pairs_and_pairs_written_in_json_are_the_same_record():
    context = list(zip(*HOTPOT["context"].values(), strict=True))
    facts = list(zip(*HOTPOT["supporting_facts"].values(), strict=True))
    pairs = {**HOTPOT, "context": context, "supporting_facts": facts}
    written = {**HOTPOT, "context": json.dumps(context), "supporting_facts": json.dumps(facts)}
    own = {"_id": written.pop("id"), **written}
    named = NAMED["2wikimultihopqa"]
    assert record_of(named, HOTPOT) == record_of(named, pairs) == record_of(named, own)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"title": ["Ashford"], "sent_id": [3]}, "names sentence 3 of 'Ashford', which has 3"),
        ({"title": ["Dover"], "sent_id": [0]}, "names 'Dover', which is no passage"),
    ],
)
def test_support_that_is_not_there_is_refused(facts, message):
    with pytest.raises(InputError, match=message):
        record_of(NAMED["hotpotqa"], {**HOTPOT, "supporting_facts": facts})


def test_musique_becomes_passages_and_which_of_them_support(monkeypatch):
    serve(monkeypatch, [MUSIQUE])
    question = question_of(load_named("musique").records[0])
    assert question.answers == ("Ada Ashford", "Ada")
    assert [passage.supporting for passage in question.passages] == [False, True]
    assert question.passages[1].gold is None
    with pytest.raises(InputError, match="cannot be answered"):
        record_of(NAMED["musique"], {**MUSIQUE, "answerable": False})


def test_triviaqa_becomes_pages_of_wikipedia_and_of_the_search(monkeypatch):
    asked = serve(monkeypatch, [TRIVIA])
    question = question_of(load_named("triviaqa").records[0])
    assert asked[0][:3] == ("mandarjoshi/trivia_qa", "rc", "validation")
    assert [document.title for document in question.documents] == ["Ashford", "Bridges"]
    assert question.answers == ("Ashford", "Ashford, Kent")
    assert {passage.supporting for passage in question.passages} == {None}


def test_columns_may_come_as_rows():
    pages = [{"title": "Ashford", "wiki_context": "Ashford is a town."}]
    record = record_of(NAMED["triviaqa"], {**TRIVIA, "entity_pages": pages, "search_results": []})
    assert record["docs"] == [{"title": "Ashford", "text": "Ashford is a town."}]


@pytest.mark.parametrize("name", ["nq", "popqa"])
def test_questions_without_passages_are_refused_before_the_hub_is_asked(monkeypatch, name):
    asked = serve(monkeypatch, [NQ])
    with pytest.raises(
        InputError,
        match=r"holds questions without passages\. Write the questions with the passages.*NAME=REPOSITORY\[:CONFIG\]",
    ):
        load_named(name)
    assert not asked


def test_passages_may_come_from_another_repository(monkeypatch):
    passages = [{"id": "1", "title": "Ashford", "text": "An old bridge.", "score": "1.5", "has_answer": True}]
    asked = serve(monkeypatch, [{**NQ, "ctxs": passages}, {**POPQA, "ctxs": passages}])
    first, second = load_named("nq", repository="someone/nq-retrieved", split="dev", revision="v1").records
    assert asked == [("someone/nq-retrieved", None, "dev", "v1", False)]
    assert (first["id"], second["id"]) == ("nq-dev-1", "nq-4222362")
    assert (first["answers"], second["answers"]) == (["Ashford"], ["Ada Ashford", "Ada"])
    assert first["docs"] == [{"title": "Ashford", "text": "An old bridge."}]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("nq", ("nq", None, None)),
        ("nq=my/nq", ("nq", "my/nq", None)),
        ("nq=my/nq:top20", ("nq", "my/nq", "top20")),
        ("nq=data", ("nq", "data", None)),
        ("nq=./with:colon/rows", ("nq", "./with:colon/rows", None)),
        ("nq=C:\\data\\nq", ("nq", "C:\\data\\nq", None)),
        ("nq=C:/data/nq:top20", ("nq", "C:/data/nq", "top20")),
        ("nq=my/nq=2", ("nq", "my/nq=2", None)),
    ],
)
def test_a_name_may_say_where_the_rows_are(text, parts):
    assert parse_name(text) == parts


@pytest.mark.parametrize("text", ["nq=", "nq= ", "=my/nq", "nq=my/nq:", "nq=:top20"])
def test_a_name_with_a_part_left_out_is_refused(text):
    with pytest.raises(OptionError, match=r"expected NAME=REPOSITORY\[:CONFIG\], got 'n?q?="):
        load_named(text)


def test_questions_are_read_with_passages_from_the_repository_that_the_name_says(monkeypatch):
    asked = serve(monkeypatch, [{**NQ, "ctxs": [{"title": "Ashford", "text": "An old bridge."}]}])
    data = load_named("nq=someone/nq-retrieved:top20", limit=3)
    assert asked == [("someone/nq-retrieved", "top20", "validation", None, True)]
    assert (data.records[0]["id"], data.repository) == ("nq-validation-1", "someone/nq-retrieved")
    load_named("hotpotqa=someone/copy")
    assert asked[1][:2] == ("someone/copy", None)


def test_a_repository_is_named_once_and_for_a_known_data_set():
    for more in ({"repository": "someone/other"}, {"config": "top20"}):
        with pytest.raises(OptionError, match=r"'nq=someone/nq' names a repository, and repository= or config= came"):
            load_named("nq=someone/nq", **more)
    with pytest.raises(OptionError, match=r"unknown data set 'qn'; known, closest first: 'nq'"):
        load_named("qn=someone/nq")


def test_rows_without_passages_are_refused(monkeypatch):
    serve(monkeypatch, [NQ])
    with pytest.raises(InputError, match=r"nq:1: the row has no passage\. Write the questions with"):
        load_named("nq", repository="someone/nq")


def test_positive_passages_support_and_negative_ones_do_not():
    row = {
        "query_id": "7", "query": "which town?", "answers": ["Ashford"],
        "positive_passages": [{"docid": "1", "title": "Ashford", "text": "An old bridge."}],
        "negative_passages": [{"docid": "2", "title": "Dover", "text": "A harbour."}],
    }  # fmt: skip
    question = question_of({**record_of(NAMED["nq"], row)})
    assert (question.id, question.text) == ("7", "which town?")
    assert [passage.supporting for passage in question.passages] == [True, False]


def test_records_of_our_own_format_are_taken_as_they_are():
    docs = [{"title": "Ashford", "text": "An old bridge.", "is_supporting": True, "supporting_sentences": None}]
    assert record_of(NAMED["popqa"], {"id": "1", "question": "?", "answers": ["a"], "docs": docs})["docs"] == docs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"context": None}, "another shape"),
        ({"context": {"title": ["Ashford"], "sentences": []}}, "another shape"),
        ({"supporting_facts": {"title": ["Ashford"]}}, "no field 'sent_id'"),
        ({"answer": " "}, "no answer"),
        ({"answer": None}, "no answer"),
        ({"context": {"title": [], "sentences": []}, "supporting_facts": []}, "no passage"),
    ],
)
def test_a_row_of_another_shape_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        record_of(NAMED["hotpotqa"], {**HOTPOT, **change})


def test_a_missing_field_is_named_beside_those_that_are_there():
    row = {name: value for name, value in HOTPOT.items() if name != "context"}
    with pytest.raises(InputError, match="no field 'context'; its fields are: 'id', 'question'"):
        record_of(NAMED["hotpotqa"], row)


def test_bad_rows_stop_the_work_or_are_left_out_and_named(monkeypatch):
    rows = [{**HOTPOT, "answer": ""}, HOTPOT, {"question": "?"}]
    serve(monkeypatch, rows)
    with pytest.raises(InputError, match=r"hotpotqa:1: the row has no answer\.\nhotpotqa:3: .*\n--skip-bad leaves"):
        load_named("hotpotqa")
    serve(monkeypatch, rows)
    data = load_named("hotpotqa", skip_bad=True)
    assert len(data.records) == 1
    assert [each.split(": ")[0] for each in data.skipped] == ["hotpotqa:1", "hotpotqa:3"]
    serve(monkeypatch, rows[:1])
    with pytest.raises(InputError, match=r"no question that can be used\. hotpotqa:1"):
        load_named("hotpotqa", skip_bad=True)


def test_a_limit_reads_no_further(monkeypatch):
    def rows():
        yield HOTPOT
        raise AssertionError("read on")

    asked = serve(monkeypatch, [])
    monkeypatch.setattr(hub, "open_rows", lambda *given, streaming: asked.append(streaming) or rows())
    assert len(load_named("hotpotqa", limit=1).records) == 1
    assert asked == [True]


def fake_datasets(monkeypatch, load_dataset):
    module = ModuleType("datasets")
    module.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", module)


def test_an_unreachable_hub_says_what_to_do(monkeypatch):
    def load_dataset(*_, **__):
        raise ConnectionError("Couldn't reach the Hub.\nTraceback")

    fake_datasets(monkeypatch, load_dataset)
    with pytest.raises(
        InputError,
        match=r"musique could not be read from dgslibisey/MuSiQue \(validation\): ConnectionError: Couldn't reach the "
        r"Hub\. Without a network, pass a file of JSON Lines, or a folder that holds a copy: musique=FOLDER\.",
    ):
        load_named("musique")


def test_a_connection_lost_on_the_way_says_what_to_do(monkeypatch):
    def load_dataset(*_, **__):
        yield HOTPOT
        raise TimeoutError

    fake_datasets(monkeypatch, load_dataset)
    with pytest.raises(InputError, match="TimeoutError"):
        load_named("hotpotqa")


def test_the_library_is_asked_for_the_split_and_for_no_code(monkeypatch):
    asked = []
    fake_datasets(monkeypatch, lambda *given, **options: asked.append((given, options)) or [HOTPOT])
    load_named("hotpotqa", split="train", limit=3, revision="abc")
    assert asked == [
        (("hotpotqa/hotpot_qa", "distractor"), {"split": "train", "revision": "abc", "streaming": True}),
    ]  # fmt: skip


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'ragcompress\[evaluation\]'"):
        load_named("hotpotqa")


def test_unknown_names_are_refused_with_the_closest_first():
    with pytest.raises(OptionError, match="unknown data set 'hotpot'; known, closest first: 'hotpotqa'"):
        load_named("hotpot")
    with pytest.raises(OptionError, match="limit must be"):
        load_named("hotpotqa", limit=0)


def test_a_folder_is_read_by_the_library_itself(tmp_path):
    pytest.importorskip("datasets", reason="needs ragcompress[evaluation]")
    (tmp_path / "validation.jsonl").write_text(json.dumps(MUSIQUE) + "\n", encoding="utf-8")
    for given in (load_named("musique", repository=str(tmp_path), limit=1), load_named(f"musique={tmp_path}", limit=1)):
        (record,) = given.records
        assert question_of(record).passages[1].document.text == "Ada Ashford founded it."
