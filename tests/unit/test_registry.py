"""Names to backends: entry points only, one import at a time, and errors that say which names exist."""

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

import ragcompress as rc
from ragcompress import registry

GROUP = registry.GROUP


def pretend(monkeypatch, *entries):
    monkeypatch.setattr(registry, "entry_points", lambda group: [EntryPoint(n, v, group) for n, v in entries])


def test_built_ins_are_available():
    assert "recomp-extractive" in rc.available()
    assert rc.available() == tuple(sorted(rc.available()))


def test_unknown_backends_list_the_closest_first(monkeypatch):
    pretend(monkeypatch, ("pisco", "x:Y"), ("recomp-extractive", "x:Y"), ("recomp-abstractive", "x:Y"))
    with pytest.raises(rc.UnknownBackendError, match=r"'recomp-extractiv'.*first: 'recomp-extractive', 'recomp-abst"):
        rc.load("recomp-extractiv")
    assert issubclass(rc.UnknownBackendError, ValueError)


@pytest.mark.parametrize(
    ("target", "error", "words"),
    [
        ("no_such_module_at_all:Thing", rc.MissingExtraError, ["no_such_module_at_all"]),
        ("json:JSONDecoder", rc.OptionError, ["json:JSONDecoder", "no Compressor subclass"]),
        ("json:nothing_there", rc.OptionError, ["nothing_there"]),
    ],
)
def test_broken_plugins(monkeypatch, target, error, words):
    pretend(monkeypatch, ("broken", target))
    with pytest.raises(error) as raised:
        registry.find("broken")
    for word in ["broken", *words]:
        assert word in str(raised.value)


def test_two_packages_claiming_one_name(monkeypatch):
    pretend(monkeypatch, ("same", "one:A"), ("same", "two:B"))
    with pytest.raises(rc.UnknownBackendError, match=r"one:A and two:B"):
        registry.find("same")


def test_one_target_listed_twice_is_no_conflict(monkeypatch):
    target = "ragcompress.backends.recomp_extractive:RecompExtractive"
    pretend(monkeypatch, ("same", target), ("same", target))
    assert registry.find("same").name == "recomp-extractive"


def test_finding_a_backend_does_not_import_torch():
    code = "import sys, ragcompress as rc; rc.find('recomp-extractive'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_weightless_backends_take_options_by_name(monkeypatch):
    class Plain(rc.Compressor):
        def __init__(self, size=1):
            self.size = size

        def compress_batch(self, queries, documents):
            return []

    monkeypatch.setattr(registry, "find", lambda name: Plain)
    assert rc.load("plain", size=4).size == 4
    assert rc.load("plain").spec == rc.LoadSpec("plain")
    with pytest.raises(rc.OptionError, match=r"'sizes'.*'size'"):
        rc.load("plain", sizes=4)
    with pytest.raises(rc.OptionError, match="reads no checkpoint"):
        rc.load("plain", "some/where")
    with pytest.raises(rc.OptionError, match="has no options"):
        rc.load("plain").with_options(size=3)


def test_base_is_refused_where_it_means_nothing(tmp_path):
    from ragcompress.testing import tiny

    tiny("recomp-extractive").save_pretrained(tmp_path / "tiny")
    with pytest.raises(rc.OptionError, match="'base'"):
        rc.load("recomp-extractive", tmp_path / "tiny", base="other")


def test_spec_follows_with_options(tmp_path):
    from ragcompress.testing import tiny

    tiny("recomp-extractive").save_pretrained(tmp_path / "tiny")
    loaded = rc.load("recomp-extractive", tmp_path / "tiny", device="cpu", top_k=3, titles="ignore")
    changed = loaded.with_options(max_tokens=50)
    assert changed.spec.options == {"device": "cpu", "max_tokens": 50, "titles": "ignore"}
    assert (loaded.config.top_k, loaded.spec.options["top_k"]) == (3, 3)
    again = rc.load(changed.spec.backend, changed.spec.checkpoint, **changed.spec.options)
    assert again.config == changed.config


def test_the_lazy_names_and_the_typed_names_agree():
    import ast
    import inspect

    tree = ast.parse(inspect.getsource(rc))
    typed = {
        alias.asname
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ragcompress.")
        for alias in node.names
    }
    assert typed == set(rc._MODULE_OF)
    for name in rc.__all__:
        assert getattr(rc, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = rc.nonsense
