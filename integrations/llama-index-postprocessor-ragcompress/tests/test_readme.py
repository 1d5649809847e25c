"""The examples of the README, one after the other, on small models."""

import ast
import inspect
import re
from pathlib import Path

import pytest
from llama_index.core import MockEmbedding, Settings
from llama_index.core.llms import MockLLM

import ragcompress as rc
from ragcompress.testing import tiny

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture
def settings(monkeypatch):
    """What LlamaIndex holds for the whole process."""
    for name, value in (("_llm", MockLLM()), ("_embed_model", MockEmbedding(8)), ("_prompt_helper", None)):
        monkeypatch.setattr(Settings, name, value)


async def test_examples(minilm, settings, tmp_path, clara_folder):
    pytest.importorskip("lancedb")
    tiny("pisco").save_pretrained(tmp_path / "pisco")
    small = {
        "naver/pisco-mistral": str(tmp_path / "pisco"),
        "apple/CLaRa-7B-E2E/compression-16": clara_folder,
        "lancedb://corpus": f"lancedb://{tmp_path}/corpus",
    }
    names = {}
    answers = {}
    for block in re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL):
        if block.startswith(">>>"):
            continue
        for published, ours in small.items():
            block = block.replace(published, ours)
        ran = eval(compile(block, str(README), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
        if inspect.iscoroutine(ran):
            await ran
        answers[rc.read_note(names["response"].source_nodes[0].metadata)["backend"]] = str(names["response"])
    assert list(answers) == ["recomp-extractive", "pisco", "clara"]
    assert "Keepers built the lighthouse in 1820." in answers["recomp-extractive"]
    assert [item.text for item in names["nodes"]] == [names["text"]], "the last ones are those of the pipeline"
