"""Files to records: a part at a time, with a place for each, whatever is in them."""

import datetime
import decimal
import io
import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ragcompress as rc
from ragcompress.indexing import sources as module
from ragcompress.indexing.sources import Sources
from ragcompress.indexing.windows import Record
from ragcompress.reading import Fields

pa = pytest.importorskip("pyarrow", reason="needs ragcompress[store]")
parquet = pytest.importorskip("pyarrow.parquet")


def read(*paths, **options):
    return list(Sources(paths, **options))


def written(path, *lines):
    path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
    return path


def test_json_lines_are_read_with_their_places(tmp_path):
    path = written(tmp_path / "a.jsonl", {"text": "one", "id": 7, "title": "T", "metadata": {"n": 1}}, "\n", {"text": "two"})  # fmt: skip
    first, second = read(path)
    assert first.document == rc.Document("one", "7", "T", {"n": 1, "path": str(path)})
    assert (second.document.id, second.place) == (f"{path}:3", f"{path}:3")


def test_lists_of_documents_and_single_ones_may_be_mixed(tmp_path):
    path = written(
        tmp_path / "a.jsonl", {"question": "?", "docs": [{"text": "one"}, {"text": "two"}]}, {"text": "three"}
    )
    records = read(path)
    assert [each.document.text for each in records] == ["one", "two", "three"]
    assert records[1].place == f"{path}:1: docs[1]"
    assert sum(each.n_bytes for each in records) == path.stat().st_size


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("oops\n", "not valid JSON"),
        ('{"tex": 1}\n', "no 'text'; the keys are: 'tex'"),
        ('{"text": 5}\n', "text must be a string, got a number"),
        ('{"text": null}\n', "text must be a string, got null"),
        ('{"text": "x", "title": ["y"]}\n', "title must be a string, got a list"),
        ('{"text": "x", "id": true}\n', "id must be"),
        ('{"text": "x", "metadata": 3}\n', "metadata must be"),
        ('["text"]\n', "expected an object"),
        ('{"docs": "x"}\n', "docs must be a list"),
        ('{"docs": [3]}\n', r"docs\[0\] must be an object"),
        ('{"text": "\\', "not valid JSON"),
        ("[" * 100_000 + "\n", "not readable JSON"),
    ],
)
def test_a_bad_line_is_told_with_its_place_and_the_rest_is_read(tmp_path, line, reason):
    path = written(tmp_path / "a.jsonl", {"text": "before"}, line, *([] if "\n" not in line else [{"text": "after"}]))
    before, bad, *after = read(path)
    assert isinstance(bad, rc.Reject)
    assert bad.place.startswith(f"{path}:2")
    assert __import__("re").search(reason, bad.reason)
    assert not bad.reason.startswith(str(path))
    assert bad.content == line.rstrip("\n")
    assert before.document.text == "before"
    assert len(after) == line.count("\n")


def test_bytes_of_another_encoding_are_told_and_can_be_read_with_it(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes('{"text": "plain"}\n{"text": "café"}\n'.encode("latin-1"))
    first, second = read(path)
    assert isinstance(first, Record)
    assert "utf-8" in second.reason
    assert read(path, encoding="latin-1")[1].document.text == "café"


def test_a_byte_order_mark_and_windows_line_ends_are_no_part_of_the_text(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "one"}\r\n{"text": "two"}\r\n')
    assert [each.document.text for each in read(path)] == ["one", "two"]


def test_a_line_without_an_end_does_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MAX_LINE_BYTES", 1000)
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "' + "x" * 50_000 + '"}\n{"text": "next"}\n')
    long, following = read(path)
    assert "longer than 1,000 bytes" in long.reason
    assert following.document.text == "next"


def test_a_large_file_is_read_a_part_at_a_time(tmp_path):
    path = tmp_path / "a.jsonl"
    line = json.dumps({"text": "x" * 1000}) + "\n"
    path.write_text(line * 20_000)
    tracemalloc.start()
    assert sum(1 for _ in Sources([path])) == 20_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


def test_folders_are_searched_in_order_and_say_what_they_do_not_read(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x.txt").write_text("hidden")
    (tmp_path / "b" / "z.md").write_text("# Title\n\nBody of it.\n")
    (tmp_path / "a.txt").write_text("plain text")
    (tmp_path / "c.PDF").write_text("%PDF")
    written(tmp_path / "d.jsonl", {"text": "line"})
    found = Sources([tmp_path])
    assert found.remark == "not read: 1 .pdf"
    records = list(found)
    assert [each.document.text.strip() for each in records] == ["plain text", "line", "Body of it."]
    assert records[2].document.title == "Title"
    assert records[2].document.metadata == {"path": str(tmp_path / "b" / "z.md"), "offset": 9}
    assert sum(each.n_bytes for each in records) == found.n_bytes


def test_a_text_that_cannot_be_read_is_told_and_the_others_are(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00 no text")
    (tmp_path / "b.txt").write_text("  \n")
    (tmp_path / "c.txt").write_text("fine")
    first, second, third = read(tmp_path)
    assert (first.place, second.place) == (str(tmp_path / "a.txt"), str(tmp_path / "b.txt"))
    assert "is empty" in second.reason
    assert third.document.text == "fine"


def test_parquet_is_read_by_its_columns(tmp_path):
    path = tmp_path / "a.parquet"
    table = pa.table(
        {
            "contents": ["one", "two", None],
            "id": [1, 2, 3],
            "title": ["T", None, None],
            "day": [datetime.date(2024, 5, 1)] * 3,
            "price": [decimal.Decimal("1.50")] * 3,
            "vector": [[0.0] * 100] * 3,
        }
    )
    parquet.write_table(table, path)
    fields = Fields(text="contents", more=("day", "price"))
    first, second, third = read(path, fields=fields)
    assert first.document == rc.Document("one", "1", "T", {"day": "2024-05-01", "price": 1.5, "path": str(path)})
    assert second.document.title is None
    assert (third.place, third.reason) == (f"{path}:3", "contents must be a string, got null.")
    with pytest.raises(rc.InputError, match=r"no column 'text'; its columns are 'contents', 'id'.*--text-field"):
        read(path)


def test_a_damaged_parquet_file_is_told_and_the_others_are_read(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 nonsense")
    parquet.write_table(pa.table({"text": ["fine"]}), tmp_path / "b.parquet")
    bad, fine = read(tmp_path)
    assert "cannot be read as Parquet" in bad.reason
    assert fine.document.text == "fine"


def test_parquet_needs_pyarrow(tmp_path, monkeypatch):
    parquet.write_table(pa.table({"text": ["fine"]}), tmp_path / "b.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(rc.MissingExtraError, match=r"ragcompress\[store\]"):
        Sources([tmp_path / "b.parquet"])


def test_the_standard_input_is_json_lines():
    script = "from ragcompress.indexing.sources import Sources; print([type(each).__name__ for each in Sources(['-'])])"
    lines = '{"text": "one"}\nno JSON\n{"text": "two"}\n'
    done = subprocess.run([sys.executable, "-c", script], input=lines, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['Record', 'Reject', 'Record']"


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        ([], rc.OptionError, "no source"),
        (["-", "-"], rc.OptionError, "only once"),
        (["nowhere.jsonl"], rc.InputError, "does not exist"),
        (["paper.pdf"], rc.InputError, r"kind that is not read; known are \.jsonl"),
        (["empty"], rc.InputError, "holds no file that is read; it holds 1 .pdf"),
        (["/dev/null"], rc.InputError, "no regular file"),
    ],
)
def test_sources_that_cannot_be_read_are_refused_before_anything_is_done(tmp_path, monkeypatch, names, error, message):
    monkeypatch.chdir(tmp_path)
    Path("paper.pdf").write_text("%PDF")
    Path("empty").mkdir()
    Path("empty/x.pdf").write_text("%PDF")
    with pytest.raises(error, match=message):
        Sources(names)


def test_an_unknown_encoding_is_refused(tmp_path):
    with pytest.raises(rc.OptionError, match="utf-9"):
        Sources([written(tmp_path / "a.jsonl", {"text": "x"})], encoding="utf-9")


VALUES = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=6)  # fmt: skip


@given(st.lists(st.one_of(st.binary(max_size=30), st.fixed_dictionaries({"text": VALUES}, optional={"title": VALUES, "id": VALUES, "metadata": VALUES, "docs": VALUES}).map(lambda each: json.dumps(each).encode())), max_size=8))  # fmt: skip
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_content_of_a_file_ends_the_reading(tmp_path, lines):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join(lines))
    for each in Sources([path]):
        assert isinstance(each, (Record, rc.Reject))
        if isinstance(each, Record):
            assert isinstance(each.document.text, str)
            assert isinstance(each.document.metadata, dict) and each.place  # noqa: PT018


def test_streams_are_read_to_their_end_without_a_final_line_end():
    found = Sources.__new__(Sources)
    found.fields, found.encoding = Fields(), "utf-8"
    (record,) = found._lines(io.BytesIO(b'{"text": "one"}'), "x")
    assert record.document.text == "one"
