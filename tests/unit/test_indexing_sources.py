"""Files to records: a part at a time, with a place for each, whatever is in them."""

import datetime
import decimal
import io
import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ragcompress as rc
from ragcompress.indexing import lines as line_module
from ragcompress.indexing import parquet as parquet_module
from ragcompress.indexing.lines import read_lines
from ragcompress.indexing.sources import Sources
from ragcompress.indexing.windows import Record, Skipped
from ragcompress.reading import Fields

pa = pytest.importorskip("pyarrow", reason="needs ragcompress[store]")
parquet = pytest.importorskip("pyarrow.parquet")


def read(*paths, **options):
    found = Sources(paths, **options)
    records = list(found)
    assert sum(each.n_bytes for each in records) == found.n_bytes  # so that the bar reaches its end
    return [each for each in records if not isinstance(each, Skipped)]


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


@pytest.mark.parametrize(
    "encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf_32_be", "utf-8-sig", "gb18030"]
)
def test_lines_are_cut_in_any_encoding(tmp_path, encoding):
    # The byte of a line feed stands in several of these characters.
    texts = ["one \u0a41\u410a", "\u0a0a\u0a0d\U0001f60a", "three"]
    path = tmp_path / "a.jsonl"
    lines = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
    path.write_bytes(lines.encode(encoding) + "broken\n".encode(encoding))
    *records, bad = read(path, encoding=encoding)
    assert [each.document.text for each in records] == texts
    assert bad.place == f"{path}:4"


@pytest.mark.parametrize("order", ["le", "be"])
def test_a_byte_order_mark_says_how_to_read_what_follows(tmp_path, order):
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        '\ufeff{"text": "one"}\n'.encode(f"utf-16-{order}")
        + b"\xd8\xd8" * 2
        + '\n{"text": "two"}'.encode(f"utf-16-{order}")
    )
    one, bad, two = read(path, encoding="utf-16")
    assert (one.document.text, two.document.text) == ("one", "two")
    assert bad.reason.startswith("the line is not utf-16: ")


def test_a_long_line_of_wide_characters_does_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(line_module, "_MAX_LINE_BYTES", 1001)
    path = tmp_path / "a.jsonl"
    path.write_bytes(('{"text": "' + "x" * 50_000 + '"}\n{"text": "next"}\n').encode("utf-16"))
    long, following = read(path, encoding="utf-16")
    assert "longer than 1,001 bytes" in long.reason
    assert following.document.text == "next"


def test_an_empty_text_keeps_its_line(tmp_path):
    path = written(
        tmp_path / "a.jsonl", {"text": " ", "id": "x"}, {"docs": [{"text": ""}, {"text": "two"}]}, {"docs": []}
    )
    first, second, two = read(path)
    assert (first.reason, json.loads(first.content)) == ("the text is empty", {"text": " ", "id": "x"})
    assert second.place == f"{path}:2: docs[0]"
    assert two.document.text == "two"


def test_a_path_of_the_records_own_is_kept(tmp_path):
    path = written(tmp_path / "a.jsonl", {"text": "x", "metadata": {"path": "/their/own"}}, {"text": "y", "path": "more"})  # fmt: skip
    own, more = read(path, fields=Fields(more=("path",)))
    assert (own.document.metadata, more.document.metadata) == ({"path": "/their/own"}, {"path": "more"})
    assert read(path)[1].document.metadata == {"path": str(path)}


def test_a_byte_order_mark_and_windows_line_ends_are_no_part_of_the_text(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "one"}\r\n{"text": "two"}\r\n')
    assert [each.document.text for each in read(path)] == ["one", "two"]


def test_a_line_without_an_end_does_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(line_module, "_MAX_LINE_BYTES", 1000)
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


def test_links_to_folders_are_followed_and_circles_end(tmp_path):
    corpus, elsewhere = tmp_path / "corpus", tmp_path / "elsewhere"
    corpus.mkdir()
    elsewhere.mkdir()
    (corpus / "a.txt").write_text("here")
    (elsewhere / "b.txt").write_text("linked")
    (corpus / "link").symlink_to(elsewhere)
    (corpus / "twice").symlink_to(elsewhere)
    (elsewhere / "circle").symlink_to(corpus)
    assert [each.place for each in read(corpus)] == [str(corpus / "a.txt"), str(corpus / "link" / "b.txt")]


def test_what_cannot_be_read_in_a_folder_is_told(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("fine")
    (tmp_path / "b.txt").symlink_to(tmp_path / "nowhere")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.txt").write_text("behind a lock")
    os.mkfifo(tmp_path / "d.jsonl")
    plain = os.scandir

    def scandir(path):
        if str(path).endswith("sub"):
            raise PermissionError(13, "Permission denied", str(path))
        return plain(path)

    monkeypatch.setattr(os, "scandir", scandir)
    records = read(tmp_path)
    assert [each.document.text for each in records if isinstance(each, Record)] == ["fine"]
    assert {each.place: each.reason for each in records if isinstance(each, rc.Reject)} == {
        str(tmp_path / "b.txt"): "it is a link that leads nowhere.",
        str(tmp_path / "d.jsonl"): "it is no regular file.",
        str(tmp_path / "sub"): "the folder cannot be read: Permission denied.",
    }
    with pytest.raises(rc.InputError, match=r"holds no file that is read; .*sub: .*Permission denied"):
        Sources([tmp_path / "sub"])


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.parquet"])
def test_a_file_that_vanishes_is_told_and_the_others_are_read(tmp_path, name):
    parquet.write_table(pa.table({"text": ["one"]}), tmp_path / "a.parquet")
    written(tmp_path / "a.jsonl", {"text": "one"})
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "b.txt").write_text("fine")
    found = Sources([tmp_path / name, tmp_path / "b.txt"])
    (tmp_path / name).unlink()
    bad, fine = (each for each in found if not isinstance(each, Skipped))
    assert bad.place == str(tmp_path / name)
    assert fine.document.text == "fine"


def test_the_file_of_what_is_left_out_is_no_source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(Path("a.jsonl"), {"text": "one"})
    written(Path("rejects.jsonl"), {"text": "two"})
    Path("link.jsonl").symlink_to("rejects.jsonl")
    assert [each.place for each in read(".", rejects="rejects.jsonl")] == ["a.jsonl:1"]
    assert len(read(".", rejects="others.jsonl")) == 3
    with pytest.raises(rc.OptionError, match="would be overwritten"):
        Sources(["a.jsonl", "rejects.jsonl"], rejects="link.jsonl")


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
    assert json.loads(third.content)["id"] == 3
    with pytest.raises(rc.InputError, match=r"no column 'text'; its columns are 'contents', 'id'.*--text-field"):
        read(path)


def test_a_damaged_parquet_file_is_told_and_the_others_are_read(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 nonsense")
    parquet.write_table(pa.table({"text": ["fine"]}), tmp_path / "b.parquet")
    bad, fine = read(tmp_path)
    assert "cannot be read as Parquet" in bad.reason
    assert fine.document.text == "fine"


@pytest.mark.parametrize(
    "column",
    [
        pa.array([0, 2**62, 0, 0], pa.timestamp("us")),
        pa.array([0, 2**31 - 1, 0, 0], pa.date32()),
        pa.array([b"a", b"\xff", b"b", b"c"]).view(pa.string()),
    ],
    ids=["timestamp", "date", "string"],
)
def test_a_row_of_parquet_that_cannot_be_converted_takes_no_other_with_it(tmp_path, column):
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"text": ["one", "two", "three", "four"], "day": column}), path)
    one, bad, *others = read(path, fields=Fields(more=("day",)))
    assert [each.document.text for each in (one, *others)] == ["one", "three", "four"]
    assert bad.place == f"{path}:2"
    assert bad.reason.startswith("the row cannot be read: ")


class Odd(pa.lib.ArrowNotImplementedError):
    pass


@pytest.mark.parametrize("error", [Odd("no such kind"), OverflowError("too large"), KeyError("zone"), OSError("torn")])
def test_rows_that_cannot_be_decoded_are_counted_and_the_next_group_is_read(tmp_path, monkeypatch, error):
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"text": [str(number) for number in range(9)]}), path, row_group_size=3)
    plain = parquet.ParquetFile.iter_batches

    def iter_batches(self, *, row_groups, **options):
        for number, batch in enumerate(plain(self, row_groups=row_groups, **options)):
            if row_groups == [1] and number == 1:
                raise error
            yield batch

    monkeypatch.setattr(parquet_module, "_ROWS_AT_ONCE", 1)
    monkeypatch.setattr(parquet.ParquetFile, "iter_batches", iter_batches)
    records = read(path)
    assert [each.document.text for each in records if isinstance(each, Record)] == ["0", "1", "2", "3", "6", "7", "8"]
    assert records[4].place == f"{path}:5"
    assert records[4].reason.startswith("2 rows from here on cannot be read: ")


def test_a_damaged_part_of_a_parquet_file_leaves_the_other_parts(tmp_path):
    path = tmp_path / "a.parquet"
    table = pa.table({"text": [f"{number} " + "x" * 500 for number in range(300)]})
    parquet.write_table(table, path, row_group_size=100, compression="zstd", use_dictionary=False)
    column = parquet.ParquetFile(path).metadata.row_group(1).column(0)
    content = bytearray(path.read_bytes())
    content[column.data_page_offset : column.data_page_offset + column.total_compressed_size] = (
        b"\xff" * column.total_compressed_size
    )
    path.write_bytes(content)
    records = read(path)
    assert len([each for each in records if isinstance(each, Record)]) == 200
    assert [(each.place, each.reason[:11]) for each in records if isinstance(each, rc.Reject)] == [
        (f"{path}:101", "100 rows fr")
    ]


def test_a_parquet_file_without_rows_is_done(tmp_path):
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"text": pa.array([], pa.string())}), path)
    assert read(path) == []


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
    for each in read(path):
        assert isinstance(each, (Record, rc.Reject))
        if isinstance(each, Record):
            assert isinstance(each.document.text, str)
            assert isinstance(each.document.metadata, dict) and each.place  # noqa: PT018


def test_streams_are_read_to_their_end_without_a_final_line_end():
    (record,) = read_lines(io.BytesIO(b'{"text": "one"}'), "x", Fields(), "utf-8")
    assert record.document.text == "one"
