"""The third-party plugin of examples/custom_backend, installed into a folder of its own, is found and keeps the contract."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "custom_backend"


def run(code_or_arguments, folder):
    environment = os.environ | {"PYTHONPATH": str(folder)}
    return subprocess.run(
        [sys.executable, *code_or_arguments], env=environment, capture_output=True, text=True, check=False, cwd=folder
    )


def test_installed_plugin_is_found_and_keeps_the_contract(tmp_path):
    # Without build isolation: the build backend is installed with the tests' own requirements, no network is needed.
    install = [
        "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check",
        "--target", str(tmp_path / "site"), str(EXAMPLE),
    ]  # fmt: skip
    installed = run(install, tmp_path)
    assert installed.returncode == 0, installed.stderr
    site = tmp_path / "site"
    code = (
        "import sys, ragcompress as rc; assert 'keywords' in rc.available();"
        "context = rc.load('keywords', top_k=1).compress('how long is the bridge', ['The sky is blue. The bridge is long.']);"
        "assert context.text == 'The bridge is long.', context.text;"
        "assert 'torch' not in sys.modules"
    )
    found = run(["-c", code], site)
    assert found.returncode == 0, found.stderr
    listed = run(["-m", "ragcompress", "backends", "--json"], site)
    assert '"keywords"' in listed.stdout, listed.stderr
    contract = run(["-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts=", str(EXAMPLE / "tests")], site)
    assert contract.returncode == 0, contract.stdout
    assert "23 passed, 2 skipped" in contract.stdout, contract.stdout
