"""``ragcompress index``: from files to a corpus that is searched, and what it says on the way."""

import io
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import ragcompress as rc
from ragcompress import cli_index, registry, terminal
from ragcompress.__main__ import main
from ragcompress.backends.clara import Clara
from ragcompress.indexing import windows
from ragcompress.latent.tiny import tiny_clara
from ragcompress.testing import tiny

pytest.importorskip("lancedb", reason="needs ragcompress[store]")


GOLDEN = Path(__file__).parents[1] / "parity" / "goldens" / "clara-e2e-tiny"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint") / "clara-tiny"
    tiny("clara").save_pretrained(folder)
    return str(folder)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def corpus(n, name="corpus.jsonl", *more):
    lines = [json.dumps({"text": f"text {i} says something of interest " * 3, "id": f"d{i}"}) for i in range(n)]
    with open(name, "w") as file:
        file.write("\n".join([*lines, *more]) + "\n")
    return name


def run(checkpoint, *sources, store="lancedb://corpus", **flags):
    options = [part for name, value in flags.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    return main(["index", *sources, "--backend", "clara", "--checkpoint", checkpoint, "--store", store, *options])


def test_a_corpus_is_indexed_and_found_again(checkpoint, capsys):
    assert run(checkpoint, corpus(20)) == 0
    out, err = capsys.readouterr()
    assert out.startswith("20 records: 20 added; ")
    assert out.endswith(f"index {os.getcwd()}/corpus\n")
    assert err == ""
    clara = rc.load("clara", checkpoint)
    context = clara.retrieve("what is of interest?", rc.open_index(clara, "corpus"), 3)
    assert [document.metadata["path"] for document in context.documents] == ["corpus.jsonl"] * 3
    assert clara.reader(max_new_tokens=2).answer([context])
    assert not os.path.exists("rejects.jsonl")


def test_the_same_command_does_only_what_is_missing(checkpoint, capsys):
    run(checkpoint, corpus(20))
    capsys.readouterr()
    assert run(checkpoint, corpus(25)) == 0
    assert capsys.readouterr().out.startswith("25 records: 5 added, 20 there already; ")
    assert run(checkpoint, corpus(25)) == 0
    assert capsys.readouterr().out.startswith("25 records: 0 added, 25 there already (")


def test_bad_records_go_into_a_file_and_are_told(checkpoint, capsys):
    assert run(checkpoint, corpus(5, "corpus.jsonl", '{"tex": 1}', "oops", "{}", "[]"), rejects="left out.jsonl") == 0
    out, err = capsys.readouterr()
    assert out.startswith("9 records: 5 added, 4 rejected; ")
    assert "left out: corpus.jsonl:6: no 'text'; the keys are: 'tex'." in err
    assert err.count("left out:") == 3
    assert err.endswith("4 records were left out, with the reason in left out.jsonl\n")
    entries = [json.loads(line) for line in Path("left out.jsonl").read_text().splitlines()]
    assert [entry["place"] for entry in entries] == [f"corpus.jsonl:{line}" for line in (6, 7, 8, 9)]
    assert entries[0]["record"] == '{"tex": 1}'


def test_the_summary_can_be_json(checkpoint, capsys):
    options = ["--backend", "clara", "--checkpoint", checkpoint, "--store", "corpus", "--json"]
    assert main(["index", corpus(3), *options]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["n_added"], summary["n_rejected"], summary["rejected"]) == (3, 0, [])


def test_fields_and_number_format_can_be_named(checkpoint):
    with open("rows.jsonl", "w") as file:
        file.write('{"body": "some words to read", "name": "N", "key": 5, "lang": "en", "year": 1999}\n')
    flags = {"text_field": "body", "title_field": "name", "id_field": "key", "metadata_field": "lang"}
    assert run(checkpoint, "rows.jsonl", store_dtype="int8", **flags) == 0
    index = rc.open_index(rc.load("clara", checkpoint), "corpus")
    assert index.dtype == "int8"
    (document,) = index.documents(index.keys()).values()
    assert (document.text, document.title, document.id) == ("some words to read", "N", "5")
    assert document.metadata == {"lang": "en", "path": "rows.jsonl"}


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_field_that_no_record_has_is_told_once(checkpoint, capsys, suffix):
    rows = [{"text": f"text {i}", "language": "en", "year": i, "lang_id": 3} for i in range(3)]
    if suffix == "parquet":
        pyarrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pyarrow.Table.from_pylist(rows), "rows.parquet")
    else:
        Path("rows.jsonl").write_text("\n".join(map(json.dumps, [*rows, {"text": "other", "source": "s"}])))
    arguments = [f"rows.{suffix}", "--metadata-field", "lang", "--metadata-field", "year"]
    assert run(checkpoint, *arguments) == 0
    err = capsys.readouterr().err
    assert err.startswith("warning: no record has --metadata-field 'lang'; the names in them, closest first: 'lang")
    assert "'language'" in err
    assert err.count("\n") == 1
    Path("nested.jsonl").write_text('{"text": "some text", "metadata": {"lang": "en"}}')
    assert run(checkpoint, "nested.jsonl", metadata_field="lang") == 0
    assert capsys.readouterr().err == ""  # it is kept with the others
    Path("a.txt").write_text("no record")
    assert run(checkpoint, "a.txt", metadata_field="lang") == 0
    assert "closest first: none" in capsys.readouterr().err


def test_options_of_the_backend_change_what_is_encoded(checkpoint, capsys):
    assert run(checkpoint, corpus(2), option="titles=ignore", batch_tokens=64) == 0
    assert run(checkpoint, corpus(2)) == 2
    err = capsys.readouterr().err
    assert "titles: 'ignore' there, 'prefix' asked for" in err
    assert f"corpus.jsonl --store lancedb://corpus-2 --backend clara --checkpoint {checkpoint}\n" in err


def test_the_command_for_another_place_is_the_one_that_was_typed(checkpoint, capsys):
    run(checkpoint, corpus(2))
    os.mkdir("a folder")
    corpus(2, "a folder/more.jsonl")
    capsys.readouterr()
    arguments = ["a folder", "corpus.jsonl", "--backend", "clara", "--checkpoint", checkpoint, "--store", "corpus/",
                 "--metadata-field", "lang", "--metadata-field", "the year", "--option", "titles=ignore", "--batch-tokens", "64",
                 "--rejects", "left out.jsonl", "--json"]  # fmt: skip
    assert main(["index", *arguments]) == 2
    command = capsys.readouterr().err.splitlines()[0].partition("a new place: ")[2]
    typed = shlex.split(command)
    assert typed[:2] == ["ragcompress", "index"]
    assert len(typed) == 2 + len(arguments)
    arguments[arguments.index("corpus/")] = "corpus-2"
    assert sorted(typed[2:]) == sorted(arguments)
    capsys.readouterr()
    assert main(typed[1:]) == 0
    assert json.loads(capsys.readouterr().out)["n_added"] == 2


def test_what_a_worker_says_of_its_checkpoint_is_no_advice_to_name_another_place(checkpoint, monkeypatch, capsys):
    def fail(*_, **__):
        raise rc.SpaceMismatchError("a worker loaded something else.", hint="Name a checkpoint that is the same.")

    monkeypatch.setattr("ragcompress.indexing.index", fail)
    assert run(checkpoint, corpus(2)) == 2
    assert (
        capsys.readouterr().err.strip().endswith("a worker loaded something else. Name a checkpoint that is the same.")
    )


def test_a_second_run_over_a_folder_leaves_out_its_own_rejects(checkpoint, capsys):
    corpus(3, "corpus.jsonl", "oops")
    for words in ("4 records: 3 added, 1 rejected", "4 records: 3 there already, 1 rejected"):
        assert run(checkpoint, ".", store="lancedb://store/corpus") == 0
        assert capsys.readouterr().out.replace("0 added, ", "").startswith(words)
    corpus(3)
    assert run(checkpoint, ".", store="lancedb://store/corpus") == 0
    assert not os.path.exists("rejects.jsonl")


def test_a_checkpoint_that_cannot_search_says_so(tmp_path, capsys):
    Clara(tiny_clara(query_reasoner=False)).save_pretrained(tmp_path / "base")
    assert run(str(tmp_path / "base"), corpus(2)) == 0
    out, err = capsys.readouterr()
    assert "store " in out
    assert err.startswith("what is kept here serves other retrievers alone: ")
    assert "query reasoner" in err
    assert err.count("\n") == 1


def test_an_index_of_another_checkpoint_names_both_and_the_command_that_builds_another(checkpoint, capsys):
    run(checkpoint, corpus(2))
    capsys.readouterr()
    other = str(GOLDEN)
    assert run(other, "corpus.jsonl") == 2
    err = capsys.readouterr().err
    spaces = [rc.load("clara", each).space for each in (checkpoint, other)]
    assert spaces[0] != spaces[1]
    assert all(space in err for space in spaces)
    assert f"ragcompress index corpus.jsonl --store lancedb://corpus-2 --backend clara --checkpoint {other}\n" in err  # fmt: skip
    assert len(rc.open_index(rc.load("clara", checkpoint), "corpus")) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.jsonl"], "nowhere.jsonl does not exist"),
        (["corpus.jsonl", "--backend", "oscar"], "computes nothing before the question is known"),
        (["corpus.jsonl", "--backend", "klara"], "unknown backend 'klara'; known, closest first: 'clara'"),
        (["corpus.jsonl", "--engine", "spark"], "engine"),
        (["corpus.jsonl", "--workers", "0"], "workers"),
        (["corpus.jsonl", "--store", "memory://x"], "would end with this process"),
        (["corpus.jsonl", "--store", "ftp://x"], "no store has the address 'ftp://x'"),
        (["corpus.jsonl", "--store", "home"], "home is a folder of something else"),
        (["corpus.jsonl", "--store-dtype", "int7"], "int7"),
        (["corpus.jsonl", "--rejects", "corpus.jsonl"], "is one of the files to read and would be overwritten"),
        (["corpus.jsonl", "--rejects", "link.jsonl"], "is one of the files to read and would be overwritten"),
        (["corpus.jsonl", "--rejects", "home/thesis.jsonl"], "no rejects: it would be overwritten"),
        (["corpus.jsonl", "--rejects", "nowhere/rejects.jsonl"], "no file in a directory that exists"),
        (["corpus.jsonl", "--option", "tops=3"], "unknown option 'tops'"),
        (["corpus.jsonl", "--option", "store=x"], "has a flag: --store"),
        (["corpus.jsonl", "--batch-tokens", "0"], "batch_tokens"),
        (["corpus.jsonl", "--encoding", "utf-9"], "utf-9"),
        (["-", "-"], "only once"),
        ([], "Missing argument"),
    ],
)
def test_what_is_wrong_is_said_before_a_model_is_loaded(monkeypatch, capsys, arguments, message):
    corpus(1)
    os.mkdir("home")
    corpus(1, "home/thesis.jsonl")
    os.symlink("corpus.jsonl", "link.jsonl")
    monkeypatch.setattr(registry, "load", lambda *_, **__: pytest.fail("loaded"))
    given = [] if "--backend" in arguments else ["--backend", "clara"]
    given += [] if "--store" in arguments else ["--store", "corpus"]
    assert main(["index", *arguments, *given]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_ray_that_is_missing_is_said_before_a_model_is_loaded(monkeypatch, capsys):
    monkeypatch.setattr(registry, "load", lambda *_, **__: pytest.fail("loaded"))
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["index", corpus(1), "--backend", "clara", "--store", "corpus", "--engine", "ray"]) == 3
    assert "pip install 'ragcompress[distributed]'" in capsys.readouterr().err


def test_a_corpus_without_records_is_an_error(checkpoint, monkeypatch, capsys):
    open("empty.jsonl", "w").close()
    assert run(checkpoint, "empty.jsonl") == 2
    assert "there is nothing to index in empty.jsonl." in capsys.readouterr().err
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        assert run(checkpoint, "empty.jsonl", "-") == 2
    assert "there is nothing to index in empty.jsonl, the standard input." in capsys.readouterr().err
    with open("bad.jsonl", "w") as file:
        file.write("{}\n")
    assert run(checkpoint, "bad.jsonl") == 2
    assert "none of 1 records can be used: bad.jsonl:1: no 'text'" in capsys.readouterr().err


def test_a_folder_of_something_else_is_refused(checkpoint, capsys):
    os.mkdir("home")
    corpus(1, "home/thesis.jsonl")
    assert run(checkpoint, "home", store="home") == 2
    assert "home is a folder of something else" in capsys.readouterr().err
    assert os.listdir("home") == ["thesis.jsonl"]


def test_how_far_it_is_is_written_where_there_is_no_terminal(checkpoint, monkeypatch, capsys):
    monkeypatch.setattr(windows, "WINDOW_DOCUMENTS", 4)
    monkeypatch.setattr(cli_index, "_SECONDS_BETWEEN_LINES", 0.0)
    run(checkpoint, corpus(12))
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(",")[0] for line in lines] == ["4 documents", "8 documents", "12 documents"]
    assert "tokens/s" in lines[1]
    assert "minutes left" in lines[1]


def test_a_terminal_shows_a_bar(checkpoint, monkeypatch):
    from rich.console import Console

    told = []
    monkeypatch.setattr("rich.console.Console", lambda **_: Console(force_terminal=True, file=io.StringIO()))
    monkeypatch.setattr("rich.progress.Progress.update", lambda self, task, **values: told.append(values))
    assert run(checkpoint, corpus(12, "corpus.jsonl", "oops", "", "\n")) == 0
    assert told[-1]["completed"] == os.path.getsize("corpus.jsonl")
    assert told[-1]["description"].startswith("13 documents, ")


SLOW = """
import sys, time
from ragcompress.indexing import windows
windows.WINDOW_DOCUMENTS = 4
from ragcompress.latent.offline import LatentOfflineCompressor
plain = LatentOfflineCompressor.encode
def encode(self, documents):
    time.sleep(0.2)
    return plain(self, documents)
LatentOfflineCompressor.encode = encode
from ragcompress.__main__ import main
from ragcompress.backends.clara import Clara
sys.exit(main(sys.argv[1:]))
"""


def test_an_interrupted_command_keeps_what_it_wrote_and_goes_on(checkpoint, capsys):
    arguments = ["index", corpus(60), "--backend", "clara", "--checkpoint", checkpoint, "--store", "corpus"]
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, *arguments], stderr=subprocess.PIPE, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    )  # fmt: skip
    clara = rc.load("clara", checkpoint)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        time.sleep(0.2)
        if os.path.isdir("corpus/index.lance") and len(rc.open_index(clara, "corpus")) >= 8:
            break
    process.send_signal(signal.SIGINT)
    err = process.communicate()[1]
    assert process.returncode == 130
    assert "interrupted; what was written is kept, and the same command goes on from there" in err
    assert "Traceback" not in err
    assert main(arguments) == 0
    n_present = len(rc.open_index(clara, "corpus"))
    assert n_present == 60
    out = capsys.readouterr().out
    assert "there already" in out


def test_the_command_reads_a_pipe(checkpoint):
    lines = Path(corpus(5)).read_text()
    command = [sys.executable, "-m", "ragcompress", "index", "-", "--backend", "clara", "--checkpoint", checkpoint, "--store", "corpus"]  # fmt: skip
    done = subprocess.run(
        command, input=lines, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("5 records: 5 added; ")
    assert done.stderr == ""


def test_bars_for_a_pipe_have_no_end(monkeypatch):
    class Pipe:
        n_bytes = None

    monkeypatch.setattr(terminal, "tell", pytest.fail)
    with cli_index._shown(Pipe()) as show:
        show(rc.IndexSummary("x", n_documents=1))
