"""Files become documents, or an error that says which file, where, and what is wrong."""

import io
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragcompress.errors import InputError, OptionError
from ragcompress.reading import read_files
from ragcompress.types import Document

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "hotpotqa_distractor.dev.jsonl"


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return write


@pytest.fixture
def stdin(monkeypatch):
    def stdin(content):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))

    return stdin


def test_a_text_file_is_one_document_without_a_title(write):
    path = write("a.txt", "# not Markdown\nsecond line\n")
    assert read_files([path]) == [Document("# not Markdown\nsecond line\n", id=path, metadata={"path": path})]


@pytest.mark.parametrize(
    ("content", "title", "text"),
    [
        ("# Bridges #\n\nText.", "Bridges", "Text."),
        ("\n\n# Bridges\nText.", "Bridges", "Text."),
        ("Bridges\n=======\n\nText.", "Bridges", "Text."),
        ('---\nauthor: me\ntitle: "Bridges"\n---\n\nText.', "Bridges", "Text."),
        ("---\nauthor: me\n---\n# Bridges\nText.", "Bridges", "Text."),
        ("Text first.\n\n# Later", None, "Text first.\n\n# Later"),
        ("## Second level\nText.", None, "## Second level\nText."),
        ("#hashtag\nText.", None, "#hashtag\nText."),
        ("# Only a title\n", None, "# Only a title\n"),
        ("Text.", None, "Text."),
    ],
)
def test_markdown_has_a_title_only_if_it_declares_one(write, content, title, text):
    (document,) = read_files([write("a.md", content)])
    assert (document.title, document.text) == (title, text)
    assert content[document.metadata.get("offset", 0) :] == text


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\x00\ufeff"), max_size=40))
def test_offsets_point_into_the_file(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("read") / "a.md"
    path.write_text(content, encoding="utf-8", newline="")
    if content.strip():
        (document,) = read_files([path])
        assert content[document.metadata.get("offset", 0) :] == document.text


def test_json_lines_of_documents(write):
    path = write(
        "a.jsonl", '{"text": "one\u2028still one", "title": "T", "id": 7, "metadata": {"k": 1}}\n\n{"text": ""}\n'
    )
    assert read_files([path]) == [
        Document("one\u2028still one", id="7", title="T", metadata={"k": 1, "path": path}),
        Document("", id=f"{path}:3", metadata={"path": path}),
    ]


def test_json_lines_of_questions_with_documents(write):
    record = {"question": "?", "docs": [{"title": "A", "text": "one"}, {"title": None, "text": "two"}]}
    documents = read_files([write("a.jsonl", f"{json.dumps(record)}\n{json.dumps(record)}")])
    assert [(document.title, document.text) for document in documents] == [("A", "one"), (None, "two")] * 2


@pytest.mark.skipif(not DATA.is_file(), reason="the data of ../shared/data is not here")
def test_the_shared_data_is_read():
    documents = read_files([DATA])
    assert len(documents) > 2000
    assert all(document.title for document in documents)


def test_standard_input_is_text_or_json_lines(stdin):
    stdin("some text\n{not json}")
    assert read_files(["-"]) == [Document("some text\n{not json}", id="-", metadata={"path": "-"})]
    stdin('{"text": "one"}\n\n  {"text": "two"}\n')
    assert [document.text for document in read_files(["-"])] == ["one", "two"]
    with pytest.raises(OptionError, match="only once"):
        read_files(["-", "-"])


def test_line_endings_and_byte_order_marks(write):
    (document,) = read_files([write("a.txt", b"\xef\xbb\xbfone\r\ntwo\rthree")])
    assert document.text == "one\ntwo\nthree"
    (document,) = read_files([write("b.txt", "köln".encode("utf-16"))], encoding="utf-16")
    assert document.text == "köln"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "", "a.txt is empty"),
        ("a.txt", " \n ", "a.txt is empty"),
        ("a.txt", b"caf\xe9", r"a.txt is not utf-8: byte 0xe9 at offset 3 .*--encoding latin-1"),
        ("a.txt", b"ab\x00c", "looks like a binary file: it has a NUL at offset 2"),
        ("a.json", "[]", "one JSON value.*jq"),
        ("a.jsonl", '{"text": "x"}\n{"text": }', r"a.jsonl:2: not valid JSON: Expecting value at column 10"),
        ("a.jsonl", '["x"]', "a.jsonl:1: expected an object with a text, got a list"),
        ("a.jsonl", "[" * 200_000, "a.jsonl:1: not readable JSON"),
        ("a.jsonl", '{"body": "x", "url": "y"}', "a.jsonl:1: no 'text'; the keys are: 'body', 'url'"),
        ("a.jsonl", "{}", "a.jsonl:1: no 'text'; the keys are: none"),
        ("a.jsonl", '{"text": 3}', "text must be a string, got a number"),
        ("a.jsonl", '{"text": null}', "text must be a string, got null"),
        ("a.jsonl", '{"text": "", "title": []}', "title must be a string, got a list"),
        ("a.jsonl", '{"text": "", "id": true}', "id must be a string or a number, got a boolean"),
        ("a.jsonl", '{"text": "", "metadata": "m"}', "metadata must be an object, got a string"),
        ("a.jsonl", '{"docs": {}}', "docs must be a list of objects, got an object"),
        ("a.jsonl", '{"docs": [{"text": ""}, 1.5]}', r"a.jsonl:1: docs\[1\] must be an object with a text"),
        ("a.jsonl", '{"docs": [{"title": ""}]}', r"a.jsonl:1: docs\[0\]: no 'text'; the keys are: 'title'"),
    ],
)  # fmt: skip
def test_bad_files_are_refused_with_the_place(write, name, content, message):
    with pytest.raises(InputError, match=message):
        read_files([write(name, content)])


def test_empty_files_are_told_where_others_are_not(write, stdin):
    paths = [write("a.txt", ""), write("b.txt", "text"), write("c.jsonl", "\n")]
    told = []
    assert [document.text for document in read_files(paths, on_empty=told.append)] == ["text"]
    assert told == [f"{paths[0]} is empty.", f"{paths[2]} is empty."]
    with pytest.raises(InputError, match=r"a\.txt is empty"):  # of nobody who wants to hear of it
        read_files(paths)
    stdin(" ")
    with pytest.raises(InputError, match=r"all 2 files are empty: .*a\.txt, standard input"):
        read_files([paths[0], "-"], on_empty=pytest.fail)


def test_paths_that_are_no_files(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_files([tmp_path / "none.txt"])
    with pytest.raises(InputError, match=r"^[^:]* is a directory; files are expected. E.g. .*\*.md"):
        read_files([tmp_path])
    with pytest.raises(InputError, match="cannot be read"):
        read_files(["a\0b"])
    with pytest.raises(OptionError, match="unknown encoding 'utf-9'"):
        read_files([], encoding="utf-9")


@pytest.mark.parametrize(("content", "kind"), [(b"%PDF-1.7 text", "PDF"), (b"PK\x03\x04rest", "ZIP")])
def test_formats_that_look_like_text_are_named(tmp_path, content, kind):
    path = tmp_path / "file.txt"
    path.write_bytes(content)
    for encoding in ("utf-8", "latin-1"):
        with pytest.raises(InputError, match=kind):
            read_files([path], encoding=encoding)
