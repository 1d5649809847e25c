"""``ragcompress evaluate`` and ``report``: from a file of questions to a page, and what is said on the way."""

import json
from pathlib import Path

import pytest

from ragcompress.__main__ import main


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def questions(n=6, name="towers.jsonl", *more):
    records = [
        {
            "id": str(number),
            "question": f"When was tower {number} built?",
            "answers": [str(1300 + number)],
            "docs": [{"title": "Weather", "text": "It rains often. The hills are green."},
                     {"title": f"Tower {number}", "text": f"It was built in {1300 + number}. It is tall.", "is_supporting": True}],
        }
        for number in range(n)
    ]  # fmt: skip
    Path(name).write_text("".join(f"{line}\n" for line in [*map(json.dumps, records), *more]))
    return name


BACKEND = ("--backend", "token-budget", "--option", "max_tokens=12")


def test_a_compressor_is_evaluated_and_reported(capsys):
    assert main(["evaluate", questions(), *BACKEND]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == "towers:"
    assert [line.split()[0] for line in lines[1:]] == [
        "all-documents", "no-context", "token-budget", "token-budget--first-tokens", "token-budget--random-sentences",
        "token-budget--bm25-sentences",
    ]  # fmt: skip
    assert "tokens 22, token compression 1.0×, passage recall 100.0 %" in lines[1]
    assert "towers: token-budget: 6 questions" in err
    assert err.endswith("results are in results; to look at them: ragcompress report results --out report.html\n")
    assert main(["report", "results", "--out", "page.html"]) == 0
    assert "token-budget" in Path("page.html").read_text()
    capsys.readouterr()
    assert main(["report", "results", "--markdown"]) == 0
    assert "token-budget" in capsys.readouterr().out


def test_experiments_that_a_shell_writes_out_are_experiments(capsys):
    for name in ("a", "b"):
        Path(f"{name}.yaml").write_text("compressor: {backend: token-budget, max_tokens: 12}\nbaselines: []\n")
    assert main(["evaluate", questions(), "--experiment", "a.yaml", "b.yaml", "--json", "--limit", "2"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["contestant"] for each in found] == ["all-documents", "no-context", "a", "b"]
    assert {each["n_questions"] for each in found} == {2}


def test_a_peer_that_is_not_there_is_said(capsys, monkeypatch):
    from ragcompress.evaluation.peers.trimming import Trimwise

    monkeypatch.setattr(Trimwise, "packages", {"no_such_module_here": "trimwise"})
    assert main(["evaluate", questions(), *BACKEND, "--peer", "trimwise"]) == 0
    assert "  token-budget--trimwise          skipped: trimwise needs trimwise. pip install" in capsys.readouterr().out


def test_a_language_model_answers_and_judges(capsys, tmp_path_factory):
    from tests.unit.evaluation_models import byte_tokenizer, tiny_llama

    folder = tmp_path_factory.mktemp("model") / "tiny-llama"
    tiny_llama().save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    flags = ["--reader", str(folder), "--judge", str(folder), "--reader-option", "max_new_tokens=2", "--answers", "2"]
    assert main(["evaluate", questions(3), *BACKEND, "--json", *flags]) == 0
    found = {each["contestant"]: each for each in json.loads(capsys.readouterr().out)}
    ours = found["token-budget"]
    assert (ours["n_answered"], ours["metrics"]["tokens"]["n"], ours["metrics"]["f1"]["n"]) == (2, 3, 2)
    assert ours["reader"] == "tiny-llama"
    assert ours["metrics"]["read_flops"]["mean"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "there is nothing to evaluate. Name --backend recomp-extractive"),
        (["--checkpoint", "x"], "--checkpoint, --option and --peer belong to --backend"),
        (["--backend", "nonsense"], "unknown backend 'nonsense'"),
        ([*BACKEND, "--peer", "nobody"], "unknown peer 'nobody'"),
        ([*BACKEND, "--reader", "nonsense:x"], "unknown kind of reader 'nonsense'"),
        ([*BACKEND, "--reader", "no/such"], "there is no folder 'no/such'"),
        ([*BACKEND, "--tokens", "syllables"], "unknown token counter 'syllables'"),
        ([*BACKEND, "--limit", "0"], "limit must be"),
        (["--experiment", "none.yaml"], "the experiment none.yaml does not exist"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(arguments, message, capsys):
    assert main(["evaluate", questions(), *arguments]) in (2, 3)
    assert message in capsys.readouterr().err
    assert not Path("results").exists()


def test_bad_records_stop_the_run_or_are_left_out(capsys):
    questions(3, "towers.jsonl", "nonsense")
    assert main(["evaluate", "towers.jsonl", *BACKEND]) == 2
    assert "towers.jsonl:4: not valid JSON" in capsys.readouterr().err
    assert not Path("results").exists()
    assert main(["evaluate", "towers.jsonl", *BACKEND, "--skip-bad"]) == 0
    assert "left out: towers.jsonl:4: not valid JSON" in capsys.readouterr().err


def test_an_interrupted_run_says_that_it_goes_on(monkeypatch, capsys):
    from ragcompress.evaluation import dataset_run

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(dataset_run, "write_summary", interrupted)
    assert main(["evaluate", questions(3), *BACKEND]) == 130
    assert "interrupted; what was written is kept, and the same command goes on from there" in capsys.readouterr().err


def test_results_of_other_data_are_not_mixed(capsys):
    assert main(["evaluate", questions(3), *BACKEND]) == 0
    assert main(["evaluate", questions(4), *BACKEND]) == 2
    assert "towers holds results of other data: sha256" in capsys.readouterr().err
    assert main(["evaluate", questions(3), *BACKEND, "--docs", "1"]) == 2
    assert "holds results of other questions or passages" in capsys.readouterr().err
