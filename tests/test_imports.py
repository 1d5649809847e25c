"""Who may import whom: the arrows of the architecture, read off the source files."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "ragcompress"
FRAMEWORKS = {
    "langchain",
    "langchain_core",
    "langchain_classic",
    "langchain_community",
    "llama_index",
    "haystack",
    "dspy",
}
HEAVY = {
    "torch", "transformers", "sentence_transformers", "peft", "numpy", "tokenizers", "huggingface_hub", "punkt",
    "lancedb", "pyarrow", "ray",
}  # fmt: skip
# Modules that compute, and so may import torch at their top. Whoever uses them imports them inside a function.
COMPUTING = {
    "latent/adapters", "latent/backbone", "latent/encoder", "latent/generation", "latent/reader", "latent/requests",
    "backends/recomp_extractive/onnx_model", "backends/provence/judging",
}  # fmt: skip
FILES = sorted(SOURCE.rglob("*.py"))


def imports(path, *, top_level=False):
    """Dotted names that a file imports; without those behind TYPE_CHECKING if only the top level counts."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module


def name_of(path):
    return path.relative_to(SOURCE).with_suffix("").as_posix()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_the_core_never_names_a_framework(path):
    # Peers are other people's compressors, to compare with: optional, and imported inside of functions.
    compared_with = path.is_relative_to(SOURCE / "evaluation" / "peers")
    assert not {name.split(".")[0] for name in imports(path, top_level=compared_with)} & FRAMEWORKS


def computes(path):
    return path.parent.name == "nn" or path.stem == "model" or name_of(path) in COMPUTING


@pytest.mark.parametrize("path", [path for path in FILES if not computes(path)], ids=name_of)
def test_light_modules_import_nothing_heavy(path):
    assert not {name.split(".")[0] for name in imports(path, top_level=True)} & HEAVY


def test_every_computing_module_exists():
    assert {name_of(path) for path in FILES} >= COMPUTING


@pytest.mark.parametrize("path", sorted((SOURCE / "nn").glob("*.py")), ids=name_of)
def test_bricks_know_only_torch(path):
    allowed = {"torch", *sys.stdlib_module_names}
    for name in imports(path):
        assert name.split(".")[0] in allowed or name.startswith("ragcompress.nn"), name


@pytest.mark.parametrize("path", sorted((SOURCE / "stores").glob("*.py")), ids=name_of)
def test_stores_know_memories_and_what_keeps_them(path):
    ours = {f"ragcompress.{name}" for name in ("memories", "types", "errors", "options")}
    for name in imports(path):
        known = name in ours or name.startswith("ragcompress.stores")
        assert known or name.split(".")[0] in {"lancedb", "pyarrow", "torch", *sys.stdlib_module_names}, name


@pytest.mark.parametrize("path", [path for path in FILES if name_of(path) in ("types", "errors")], ids=name_of)
def test_types_and_errors_import_nothing_of_ours_but_each_other(path):
    ours = {name for name in imports(path) if name.startswith("ragcompress")}
    assert ours <= {"ragcompress.errors", "ragcompress.html"}  # the HTML view is loaded when a notebook asks for it


@pytest.mark.parametrize("path", sorted((SOURCE / "backends").rglob("*.py")), ids=name_of)
def test_backends_do_not_import_each_other(path):
    own = path.relative_to(SOURCE / "backends").parts[0]
    for name in imports(path):
        if name.startswith("ragcompress.backends."):
            assert name.split(".")[2] == own, name


@pytest.mark.parametrize("path", [path for path in FILES if "latent" not in path.parts], ids=name_of)
def test_the_engine_is_used_by_latent_backends_alone(path):
    reaches = [name for name in imports(path) if name.startswith("ragcompress.latent")]
    assert not reaches or path.relative_to(SOURCE).parts[:2] in (
        ("backends", "pisco"),
        ("backends", "oscar"),
        ("backends", "clara"),
    )


# An evaluation is no part of the core: what it compares with may be a part of a backend.
@pytest.mark.parametrize("path", [p for p in FILES if not {"backends", "evaluation"} & set(p.parts)], ids=name_of)
def test_the_core_names_no_backend(path):
    assert not [name for name in imports(path) if name.startswith("ragcompress.backends.")]


PLUGINS = [
    (ROOT / "integrations/llama-index-postprocessor-ragcompress/llama_index", {"llama_index"}, "llama_index.core"),
    (ROOT / "integrations/langchain-ragcompress/langchain_ragcompress", {"langchain_core", "langchain_ragcompress"}, "langchain_core"),
]  # fmt: skip


@pytest.mark.parametrize(("folder", "frameworks", "core"), PLUGINS, ids=["llama-index", "langchain"])
def test_plugins_import_the_public_names_and_the_framework_core(folder, frameworks, core):
    files = sorted(folder.rglob("*.py"))
    assert files
    for path in files:
        for name in imports(path):
            top = name.split(".")[0]
            if path.name == "middleware.py" and name.startswith("langchain.agents.middleware"):
                continue  # of the extra [agents]; the module is imported by whoever uses it
            assert top in {
                "ragcompress",
                "pydantic",
                "typing_extensions",
                "annotationlib",
                *frameworks,
                *sys.stdlib_module_names,
            }, (
                path,
                name,
            )
            assert top != "ragcompress" or name == "ragcompress", f"{path} reaches into {name}"
            if top in frameworks:
                assert name.startswith((core, "llama_index.postprocessor.ragcompress", "langchain_ragcompress")), name


def test_llama_index_stays_a_namespace():
    folder = PLUGINS[0][0]
    assert not (folder / "__init__.py").exists()
    assert not (folder / "postprocessor" / "__init__.py").exists()
