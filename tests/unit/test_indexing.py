"""Encoding a corpus ahead of time: once, resumable, whatever is wrong with single records."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

import ragcompress as rc
from ragcompress.backends.clara import Clara
from ragcompress.indexing import local, windows
from ragcompress.indexing.sources import Sources
from ragcompress.indexing.targets import IndexTarget, StoreTarget, open_target
from ragcompress.indexing.windows import Record, Skipped
from ragcompress.latent.tiny import tiny_clara
from ragcompress.testing import tiny

pytest.importorskip("lancedb", reason="needs ragcompress[store]")

sys.path.insert(0, str(Path(__file__).parent))
from indexing_fakes import SPACE, Hashing, corpus, hashed


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    monkeypatch.setattr(windows, "WINDOW_DOCUMENTS", 8)


def opened(folder, **options):
    return rc.MemoryIndex(folder, space=SPACE, **options)


def contents(folder):
    index = opened(folder)
    keys = index.keys()
    memories = index.get(keys, space=SPACE)
    return index.documents(keys), {
        key: each.vectors.numpy().tobytes() for key, each in zip(keys, memories, strict=True)
    }


def encoded(compressor):
    return [text for call in compressor.calls for text in call]


# What a run does.


def test_every_document_is_encoded_and_kept(tmp_path):
    compressor, documents = Hashing(), corpus(20)
    summary = rc.index(compressor, documents, tmp_path / "index")
    assert (summary.n_documents, summary.n_added, summary.n_tokens, summary.n_slots) == (20, 20, 80, 40)
    assert (summary.n_present, summary.n_duplicates, summary.n_rejected, summary.n_updated) == (0, 0, 0, 0)
    index = opened(tmp_path / "index")
    found = index.documents([compressor.memory_key(document) for document in documents])
    assert list(found.values()) == documents
    hit = index.search(hashed(documents[7].text), 1)[0]
    assert hit.document == documents[7]
    assert hit.score == pytest.approx(1)


def test_a_second_run_does_nothing_and_a_third_what_is_new(tmp_path):
    rc.index(Hashing(), corpus(20), tmp_path / "index")
    compressor = Hashing()
    summary = rc.index(compressor, corpus(20), tmp_path / "index")
    assert compressor.calls == []
    assert (summary.n_added, summary.n_present, summary.n_tokens) == (0, 20, 0)
    summary = rc.index(compressor, corpus(30), tmp_path / "index")
    assert (summary.n_added, summary.n_present) == (10, 20)
    assert sorted(encoded(compressor)) == sorted(document.text for document in corpus(10, start=20))


def test_equal_documents_are_encoded_once_wherever_they_stand(tmp_path):
    compressor = Hashing()
    documents = [*corpus(10), *corpus(10), rc.Document("text 3 of many", title="title 3", id="another")]
    summary = rc.index(compressor, documents, tmp_path / "index")
    assert (summary.n_documents, summary.n_added, summary.n_duplicates) == (21, 10, 11)
    assert len(encoded(compressor)) == 10
    # The first one counts.
    assert {each.id for each in contents(tmp_path / "index")[0].values()} == {f"id {i}" for i in range(10)}


def test_new_ids_and_metadata_are_written_without_encoding_again(tmp_path):
    rc.index(Hashing(), corpus(10), tmp_path / "index")
    before = contents(tmp_path / "index")[1]
    changed = [rc.Document(each.text, f"new {each.id}", each.title, {"n": 7}) for each in corpus(10)]
    compressor = Hashing()
    summary = rc.index(compressor, changed, tmp_path / "index")
    assert (summary.n_updated, summary.n_added, summary.n_present) == (10, 0, 0)
    assert compressor.calls == []
    documents, after = contents(tmp_path / "index")
    assert after == before
    assert sorted(each.id for each in documents.values()) == sorted(each.id for each in changed)
    assert len(opened(tmp_path / "index").search(hashed("anything"), 20, where={"n": 7})) == 10
    assert rc.index(compressor, changed, tmp_path / "index").n_present == 10


def test_documents_may_be_strings_and_come_from_a_generator(tmp_path):
    summary = rc.index(Hashing(), (f"string {i}" for i in range(20)), tmp_path / "index")
    assert summary.n_added == 20


def test_progress_is_told_after_each_portion(tmp_path):
    told = []
    final = rc.index(Hashing(), corpus(20), tmp_path / "index", progress=told.append)
    assert [each.n_added for each in told] == [8, 16, 20]
    assert final.n_added == 20
    assert str(final).startswith("20 records: 20 added; 80 tokens as 40 vectors in ")


def test_little_that_is_missing_among_much_is_gathered_into_full_portions(tmp_path):
    rc.index(Hashing(), corpus(64)[::2], tmp_path / "index")
    compressor = Hashing()
    assert rc.index(compressor, corpus(64), tmp_path / "index").n_added == 32
    assert [len(call) for call in compressor.calls] == [8, 8, 8, 8]


def test_a_run_that_failed_leaves_whole_portions_and_the_next_has_the_same_batches(tmp_path):
    whole, half, rest = Hashing(), Hashing(), Hashing()
    rc.index(whole, corpus(60), tmp_path / "whole")
    plain = half.encode

    def failing(documents):
        if len(half.calls) == 4:
            raise RuntimeError("the plug was pulled")
        return plain(documents)

    half.encode = failing
    with pytest.raises(RuntimeError, match="plug"):
        rc.index(half, corpus(60), tmp_path / "halves")
    assert len(opened(tmp_path / "halves")) == 32
    rc.index(rest, corpus(60), tmp_path / "halves")
    assert half.calls + rest.calls == whole.calls
    assert contents(tmp_path / "whole") == contents(tmp_path / "halves")


def test_batches_and_bits_are_those_of_an_uninterrupted_run_with_a_real_model(tmp_path, monkeypatch):
    clara = tiny("clara")
    documents = [rc.Document("some words in a row " * (1 + i % 7), id=str(i), title=f"T{i}") for i in range(24)]
    rc.index(clara, documents, tmp_path / "whole")
    for n in (8, 16, 24):
        rc.index(clara, documents[:n], tmp_path / "parts")
    whole, parts = rc.open_index(clara, tmp_path / "whole"), rc.open_index(clara, tmp_path / "parts")
    keys = whole.keys()
    assert keys == parts.keys()
    for mine, other in zip(*(each.get(keys, space=clara.space) for each in (whole, parts)), strict=True):
        assert torch.equal(mine.vectors, other.vectors)


# Where to.


def test_a_searching_compressor_gets_an_index_and_others_a_store(tmp_path):
    assert isinstance(open_target(Hashing(), tmp_path / "a"), IndexTarget)
    assert isinstance(open_target(tiny("clara"), tmp_path / "b"), IndexTarget)
    assert isinstance(open_target(tiny("pisco"), f"lancedb://{tmp_path / 'c'}"), StoreTarget)
    assert isinstance(open_target(Hashing(), "memory://indexing"), StoreTarget)
    assert isinstance(open_target(Hashing(), rc.InMemoryStore()), StoreTarget)


def test_a_store_serves_the_compressor_afterwards(tmp_path):
    pisco = tiny("pisco")
    documents = [rc.Document("a text of some words that says a lot " * 5 + str(i)) for i in range(12)]
    assert rc.index(pisco, documents, str(tmp_path / "store")).n_added == 12
    assert rc.index(pisco, documents, str(tmp_path / "store")).n_present == 12
    pisco.store = rc.LanceDBStore(tmp_path / "store")
    pisco.encode = None  # nothing is left to encode
    assert pisco.compress("?", documents).n_slots > 0


def test_vectors_are_stored_in_the_number_format_asked_for(tmp_path):
    rc.index(Hashing(), corpus(4), tmp_path / "index", dtype="float16")
    assert opened(tmp_path / "index").dtype == "float16"
    with pytest.raises(rc.SpaceMismatchError, match="float16"):
        rc.index(Hashing(), corpus(4), tmp_path / "index", dtype="int8")
    assert rc.index(Hashing(), corpus(4), tmp_path / "index").n_present == 4


def test_an_index_of_another_checkpoint_or_with_other_settings_is_refused(tmp_path):
    rc.index(Hashing(settings={"titles": "prefix"}), corpus(4), tmp_path / "index")
    with pytest.raises(rc.SpaceMismatchError, match=r"hashing@1.*other@2|other@2.*hashing@1") as error:
        rc.index(Hashing(space="other@2"), corpus(4), tmp_path / "index")
    assert "ragcompress index SOURCE" in str(error.value)
    with pytest.raises(rc.SpaceMismatchError, match="titles"):
        rc.index(Hashing(settings={"titles": "ignore"}), corpus(4), tmp_path / "index")
    with pytest.raises(rc.SpaceMismatchError, match="other@2"):
        rc.index(Hashing(space="other@2"), corpus(4), opened(tmp_path / "index"))
    assert len(opened(tmp_path / "index")) == 4


# What cannot be used.


def test_a_document_that_cannot_be_encoded_is_left_out_and_the_rest_is_kept(tmp_path, caplog):
    documents = [*corpus(5), rc.Document("unreadable", id="bad one"), *corpus(5, start=5)]
    summary = rc.index(Hashing(), documents, tmp_path / "index")
    assert (summary.n_added, summary.n_rejected, summary.n_documents) == (10, 1, 10)
    (reject,) = summary.rejected
    assert reject == rc.Reject("bad one", "'unreadable' cannot be encoded.", "unreadable")
    assert "left out: bad one" in caplog.text


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (rc.Document("overflow", id="x"), "NaN or infinity"),
        (rc.Document("fine", id="x", metadata={"day": object()}), "'day' cannot be kept"),
        (rc.Document("fine", id="x", metadata={"n": float("nan")}), "'n' cannot be kept"),
        (rc.Document("  \n", id="x"), "the text is empty"),
    ],
)
def test_what_an_index_cannot_keep_is_left_out_with_the_reason(tmp_path, document, reason):
    summary = rc.index(Hashing(), [*corpus(3), document], tmp_path / "index", rejects=tmp_path / "rejects.jsonl")
    assert (summary.n_added, summary.n_rejected) == (3, 1)
    (line,) = (tmp_path / "rejects.jsonl").read_text().splitlines()
    assert json.loads(line)["place"] == "x"
    assert reason in json.loads(line)["reason"]
    assert len(opened(tmp_path / "index")) == 3


def test_a_run_removes_the_rejects_of_the_one_before(tmp_path):
    path = tmp_path / "rejects.jsonl"
    for bad in ([rc.Document(" ")], [rc.Document(" ")], [], []):
        rc.index(Hashing(), [*corpus(3), *bad], tmp_path / "index", rejects=path)
        assert path.exists() == bool(bad)
        assert not bad or path.read_text().count("\n") == 1
    path.touch()
    rc.index(Hashing(), corpus(3), tmp_path / "index", rejects=path)
    assert not path.exists()
    (tmp_path / "link").symlink_to(path)
    rc.index(Hashing(), [rc.Document(" ")], tmp_path / "index", rejects=tmp_path / "link")
    rc.index(Hashing(), corpus(3), tmp_path / "index", rejects=os.devnull)
    assert (tmp_path / "link").read_text().count("\n") == 1


@pytest.mark.parametrize("content", ["years of work\n", '{"place": "Rome", "text": "x"}\n', "5\n", "[[]]", "\x00", " "])
def test_a_file_of_something_else_is_never_replaced_by_rejects(tmp_path, content):
    (tmp_path / "rejects.jsonl").write_text(content)
    with pytest.raises(rc.OptionError, match="no rejects: it would be overwritten"):
        rc.index(Hashing(), [rc.Document(" ")], tmp_path / "index", rejects=tmp_path / "rejects.jsonl")
    assert (tmp_path / "rejects.jsonl").read_text() == content


def test_rejects_never_replace_a_source(tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"place": "p", "reason": "r", "record": "x"}\n')
    (tmp_path / "link.jsonl").symlink_to(path)
    for rejects in (path, tmp_path / "link.jsonl"):
        with pytest.raises(rc.OptionError, match="one of the files to read"):
            rc.index(Hashing(), Sources([path]), tmp_path / "index", rejects=rejects)
    assert path.stat().st_size


def test_new_metadata_that_cannot_be_kept_leaves_the_old(tmp_path):
    rc.index(Hashing(), corpus(3), tmp_path / "index")
    changed = [rc.Document(each.text, each.id, each.title, {"n": float("nan")}) for each in corpus(3)[:1]]
    summary = rc.index(Hashing(), [*changed, *corpus(3)[1:]], tmp_path / "index")
    assert (summary.n_updated, summary.n_present, summary.n_rejected) == (0, 2, 1)
    assert sorted(each.metadata["n"] for each in contents(tmp_path / "index")[0].values()) == [0, 1, 2]


def test_a_good_document_is_no_duplicate_of_a_rejected_one(tmp_path):
    bad = rc.Document("equal", id="bad", metadata={"day": object()})
    documents = [bad, *corpus(20), rc.Document("equal", id="good"), rc.Document("equal", id="late")]
    summary = rc.index(Hashing(), documents, tmp_path / "index")
    assert [each.place for each in summary.rejected] == ["bad"]
    assert (summary.n_added, summary.n_duplicates) == (21, 1)
    assert "good" in {each.id for each in contents(tmp_path / "index")[0].values()}


@pytest.mark.parametrize(
    "metadata", [{1: "x", "a": "y"}, {"a": {1: "x", "b": "y"}}, {None: 1}, ["no", "mapping"], None], ids=str
)
def test_odd_metadata_is_a_reject_whether_or_not_the_document_is_there(tmp_path, metadata):
    odd = rc.Document("odd one", id="odd", metadata=metadata)
    for there in (False, True):
        if there:
            rc.index(Hashing(), [rc.Document("odd one", id="odd")], tmp_path / "index")
        summary = rc.index(Hashing(), [*corpus(3), odd], tmp_path / "index")
        assert [each.place for each in summary.rejected] == ["odd"]
        assert "metadata" in summary.rejected[0].reason
    assert len(opened(tmp_path / "index")) == 4


def test_metadata_that_nests_too_deeply_is_a_reject(tmp_path):
    deep = []
    for _ in range(5000):
        deep = [deep]
    summary = rc.index(Hashing(), [rc.Document("x", id="deep", metadata={"n": deep}), *corpus(3)], tmp_path / "index")
    assert (summary.n_added, [each.place for each in summary.rejected]) == (3, ["deep"])


@pytest.mark.parametrize("moment", ["stale", "refresh"])
def test_a_document_that_is_deleted_while_it_is_compared_is_encoded_again(tmp_path, monkeypatch, moment):
    rc.index(Hashing(), corpus(10), tmp_path / "index")
    changed = [rc.Document(each.text, f"new {each.id}", each.title) for each in corpus(10)]
    plain = getattr(IndexTarget, moment)

    def late(self, documents):
        if documents:
            opened(tmp_path / "index").delete([Hashing().memory_key(changed[3])])
        monkeypatch.setattr(IndexTarget, moment, plain)
        return plain(self, documents)

    monkeypatch.setattr(IndexTarget, moment, late)
    summary = rc.index(Hashing(), changed, tmp_path / "index")
    assert (summary.n_documents, summary.n_updated, summary.n_added) == (10, 9, 1)
    assert {each.id for each in contents(tmp_path / "index")[0].values()} == {each.id for each in changed}


def test_a_corpus_of_which_nothing_can_be_read_ends_the_run_early(tmp_path):
    read = 0

    def documents():
        nonlocal read
        for read in range(1, 100_000):
            yield rc.Document(" ", id=str(read))

    rejects = tmp_path / "rejects.jsonl"
    with pytest.raises(rc.InputError, match=r"none of the first 10,000 records"):
        rc.index(Hashing(), documents(), tmp_path / "index", rejects=rejects)
    assert read == 10_000
    assert rejects.read_text().count("\n") == 10_000


def test_bad_records_that_come_first_do_not_end_a_good_run(tmp_path):
    bad = (rc.Document(" ", id=str(number)) for number in range(9_999))
    summary = rc.index(Hashing(), [*bad, *corpus(3)], tmp_path / "index")
    assert (summary.n_added, summary.n_rejected) == (3, 9_999)


def test_a_model_that_can_encode_nothing_ends_the_run_early(tmp_path):
    compressor = Hashing()
    documents = [rc.Document(f"overflow {number}") for number in range(5_000)]
    with pytest.raises(rc.InputError, match=r"none of the first 104 records can be used, e.g. .*NaN or infinity"):
        rc.index(compressor, documents, tmp_path / "index")
    assert len(encoded(compressor)) < 200


def test_what_is_empty_keeps_its_record(tmp_path):
    (reject,) = rc.index(Hashing(), [rc.Document(" \n", id="x")], tmp_path / "index").rejected
    assert (reject.reason, reject.content) == ("the text is empty", " \n")


def test_documents_that_are_not_read_to_their_end_are_counted(tmp_path):
    documents = [*corpus(9), *(rc.Document(f"too long {number}") for number in range(3))]
    summary = rc.index(Hashing(), documents, tmp_path / "index")
    assert summary.n_truncated == 3
    assert str(summary).startswith("12 records: 12 added (3 not read to their end); ")
    assert rc.index(Hashing(), documents, tmp_path / "index").n_truncated == 0


def test_no_documents_are_no_error_and_make_an_index_that_finds_nothing(tmp_path):
    assert rc.index(Hashing(), [], tmp_path / "index").n_documents == 0
    assert opened(tmp_path / "index").search(hashed("?"), 5) == []


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"documents": "one text"}, rc.InputTypeError, "single str"),
        ({"documents": rc.Document("x")}, rc.InputTypeError, "single Document"),
        ({"documents": 7}, rc.InputTypeError, "single int"),
        ({"documents": [7]}, rc.InputTypeError, r"documents\[0\]"),
        ({"engine": "spark"}, rc.OptionError, "engine"),
        ({"workers": 2}, rc.OptionError, "engine='ray'"),
        ({"workers": 0}, rc.OptionError, "workers"),
        ({"ray_address": "auto"}, rc.OptionError, "engine='ray'"),
        ({"dtype": "int7"}, rc.OptionError, "dtype"),
        ({"rejects": "no such folder/rejects.jsonl"}, rc.OptionError, "no file in a directory"),
        ({"compressor": tiny("oscar")}, rc.InputTypeError, "before the question"),
        ({"store": rc.InMemoryStore(), "dtype": "int8"}, rc.OptionError, "store that is open"),
        ({"compressor": Clara(tiny_clara(query_reasoner=False)), "store": "open"}, rc.OptionError, "query reasoner"),
        ({"compressor": tiny("pisco"), "store": "open"}, rc.OptionError, "there to be searched"),
        ({"store": ""}, rc.OptionError, "empty"),
        ({"store": 5}, rc.InputTypeError, "store must be"),
        ({"store": "ftp://somewhere"}, rc.OptionError, "ftp"),
    ],
)
def test_wrong_arguments_are_refused(tmp_path, changes, error, message):
    arguments = {"compressor": Hashing(), "documents": corpus(2), "store": tmp_path / "index"} | changes
    if arguments["store"] == "open":
        arguments["store"] = rc.MemoryIndex(tmp_path / "index", space=arguments["compressor"].space)
    with pytest.raises(error, match=message):
        rc.index(**arguments)


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(rc.OptionError, match=r"thesis\.txt"):
        rc.index(Hashing(), corpus(2), tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_device_without_memory_says_what_to_do(tmp_path):
    compressor = Hashing()

    def encode(documents):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")

    compressor.encode = encode
    with pytest.raises(rc.OptionError, match="batch_tokens"):
        rc.index(compressor, corpus(2), tmp_path / "index")


def test_a_store_that_fails_ends_the_run_and_keeps_what_it_had():
    class Full(rc.InMemoryStore):
        def put(self, memories):
            if len(self) >= 16:
                raise rc.InputError("there is no room left.")
            super().put(memories)

    store, compressor = Full(), Hashing()
    with pytest.raises(rc.InputError, match="no room"):
        rc.index(compressor, corpus(800), store)
    assert len(store) == 16
    assert len(compressor.calls) <= 4  # it is noticed at once, not at the end


# In other processes.

SCRIPT = """
import sys
sys.path.insert(0, {here!r})
import ragcompress as rc
from ragcompress.backends.clara import Clara
from indexing_fakes import Hashing, corpus
from ragcompress.indexing import windows
windows.WINDOW_DOCUMENTS = 8
rc.index(Hashing(seconds={seconds}), corpus({n}), {folder!r}, progress=lambda summary: print(summary.n_added, flush=True))
"""


def started(folder, n, seconds=0.0):
    script = SCRIPT.format(here=str(Path(__file__).parent), seconds=seconds, n=n, folder=str(folder))
    return subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    )


def test_a_run_that_is_killed_is_gone_on_with(tmp_path):
    process = started(tmp_path / "index", 400, seconds=0.003)
    while int(process.stdout.readline() or 0) < 80:
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    compressor = Hashing()
    summary = rc.index(compressor, corpus(400), tmp_path / "index")
    assert summary.n_present >= 80
    assert summary.n_present % 8 == 0  # whole portions
    assert summary.n_added == 400 - summary.n_present > 0
    rc.index(Hashing(), corpus(400), tmp_path / "whole")
    assert contents(tmp_path / "index") == contents(tmp_path / "whole")


def test_several_processes_may_index_into_one_place(tmp_path):
    processes = [started(tmp_path / "index", 160) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    for process in processes:
        process.stdout.close()
    rc.index(Hashing(), corpus(160), tmp_path / "whole")
    assert contents(tmp_path / "index") == contents(tmp_path / "whole")


# Reading ahead.


def test_what_is_read_ahead_comes_in_order_and_with_its_error():
    def items():
        yield from range(5)
        raise KeyError("five")

    ahead = local.ahead(items(), 2)
    assert [next(ahead) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(KeyError, match="five"):
        next(ahead)


def test_only_so_much_is_read_ahead_and_nothing_after_the_end():
    n_read = 0

    def items():
        nonlocal n_read
        for n_read in range(1, 1000):
            yield str(n_read)

    ahead = local.ahead(items(), 2)
    assert next(ahead) == "1"
    time.sleep(0.1)
    assert n_read <= 4
    ahead.close()
    time.sleep(2 * local._POLL_SECONDS)
    assert "ragcompress-read" not in {thread.name for thread in threading.enumerate()}


def test_a_source_that_never_ends_does_not_hold_up_an_error(tmp_path):
    stuck = threading.Event()

    def documents():
        yield from corpus(16)
        stuck.wait(60)

    compressor = Hashing()
    compressor.encode = None
    begin = time.monotonic()
    with pytest.raises(TypeError):
        rc.index(compressor, documents(), tmp_path / "index")
    assert time.monotonic() - begin < 30
    stuck.set()


def test_portions_are_bounded_by_characters(monkeypatch, tmp_path):
    monkeypatch.setattr(windows, "WINDOW_CHARS", 100)
    compressor = Hashing()
    # A document that is larger by itself has a portion to itself, so that each portion fits into one commit.
    rc.index(compressor, [*(str(i) * 40 for i in range(5)), "x" * 500, "y", "z"], tmp_path / "index")
    assert [len(call) for call in compressor.calls] == [2, 2, 1, 1, 2]


def test_sizes_of_records_are_added_up_whatever_becomes_of_them(tmp_path):
    records = [Record(document, str(number), 100) for number, document in enumerate(corpus(20))]
    others = [rc.Reject("x", "bad", n_bytes=10), Record(rc.Document(" "), "y", 10), Skipped(1)]
    assert rc.index(Hashing(), [*records, *records[:3], *others], tmp_path / "index").n_bytes_read == 2321
    assert rc.index(Hashing(), [Skipped(5)], tmp_path / "index").n_bytes_read == 5


def test_the_size_of_a_reject_is_no_part_of_what_it_says():
    assert rc.Reject("x", "bad", n_bytes=10) == rc.Reject("x", "bad")
