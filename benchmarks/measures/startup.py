"""Startup: ``import ragcompress`` and ``ragcompress --help`` in fresh processes, over a bare interpreter."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

from measures import common

IMPORT = "import time; begin = time.perf_counter(); import ragcompress; print(time.perf_counter() - begin)"
MODULES = "import sys, ragcompress; print(' '.join(sorted(sys.modules)))"
HEAVY = ("torch", "transformers", "sentence_transformers", "numpy", "llama_index", "langchain_core", "typer")


@dataclass(frozen=True, slots=True)
class Options:
    """What varies between experiments.

    Attributes:
        rounds: fresh processes of each kind.
    """

    rounds: int = 15


def run(options: Options) -> dict[str, Any]:
    """Measure.

    Args:
        options: of the experiment.

    Returns:
        Results with ``targets``.
    """
    commands = {"bare": ["-c", "pass"], "import": ["-c", IMPORT], "help": ["-m", "ragcompress", "--help"]}
    has_cli = (common.ROOT / "src" / "ragcompress" / "__main__.py").is_file()
    if not has_cli:
        del commands["help"]
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    inside: list[float] = []
    for turn in range(options.rounds + 1):
        for name, arguments in commands.items():
            begin = time.perf_counter()
            output = _python(arguments)
            taken = time.perf_counter() - begin
            if turn == 0:  # fills the disk cache and writes the byte code
                continue
            seconds[name].append(taken)
            if name == "import":
                inside.append(float(output))
    loaded = set(_python(["-c", MODULES]).split())
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    imported = statistics.median(inside)
    targets = [
        common.target("import ragcompress", imported, 0.15, "s"),
        common.target("torch imported by it", float("torch" in loaded), 0.0, "modules"),
    ]
    if has_cli:
        targets.append(common.target("ragcompress --help, whole process", medians["help"], 0.5, "s"))
    return {
        "seconds": medians,
        "import_inside_seconds": imported,
        "heavy_modules_imported": [name for name in HEAVY if name in loaded],
        "targets": targets,
    }


def _python(arguments: list[str]) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=True, env=os.environ | {"NO_COLOR": "1"}
    )
    return done.stdout.strip()
