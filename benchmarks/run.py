"""Run experiments: one file of options in, one file of numbers out, both in git.

python benchmarks/run.py [EXPERIMENT ...] [--limit N]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "src")]
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import tables  # noqa: E402
from measures import common, find  # noqa: E402

EXPERIMENTS = HERE / "experiments"
RESULTS = HERE / "results"
LIMITED = HERE / "results-limited"


def read_experiment(path: Path) -> tuple[str, Any]:
    """Read the options of an experiment.

    Args:
        path: of the JSON file.

    Returns:
        Name of the benchmark, and its ``Options``.

    Raises:
        ValueError: an unknown benchmark or option.
    """
    values = json.loads(path.read_text(encoding="utf-8"))
    benchmark = values.pop("benchmark")
    options = find(benchmark).Options
    known = {field.name for field in dataclasses.fields(options)}
    if unknown := sorted(set(values) - known):
        raise ValueError(
            f"{path.name}: {benchmark} has no option {', '.join(unknown)}; known: {', '.join(sorted(known))}."
        )
    return benchmark, options(**{key: tuple(each) if isinstance(each, list) else each for key, each in values.items()})


def limited(options: Any, limit: int | None) -> Any:  # noqa: ANN401 (the benchmark's own options)
    """Use fewer questions and rounds.

    Args:
        options: of an experiment.
        limit: at most so many questions, and two rounds; None: as they are.

    Returns:
        The options to run.
    """
    if limit is None:
        return options
    changes: dict[str, Any] = {}
    for name, most in (("questions", limit), ("singles", limit), ("rounds", 2), ("distinct", limit),
                       ("documents", 100 * limit), ("sized", 100), ("encoded", 10 * limit),
                       ("timed", limit)):  # fmt: skip
        if hasattr(options, name):
            given = getattr(options, name)
            changes[name] = most if given is None else min(given, most)
    for name, most in (("per_prompt", 1), ("batches", 0)):
        if hasattr(options, name):
            changes[name] = getattr(options, name)[:most]
    if hasattr(options, "corpora"):
        changes["corpora"] = tuple(dict.fromkeys(min(each, 1000 * limit) for each in options.corpora))
    for name in ("queries", "stored_queries"):
        if hasattr(options, name):
            changes[name] = (limit, 2 * limit)
    return dataclasses.replace(options, **changes)


def run(path: Path, limit: int | None) -> dict[str, Any]:
    """Run one experiment.

    Args:
        path: of its JSON file.
        limit: see ``limited``.

    Returns:
        Options, environment and results, JSON-safe.

    Raises:
        MissingError: data or a package is not there.
    """
    benchmark, options = read_experiment(path)
    options = limited(options, limit)
    environment = common.environment()
    dataset = getattr(options, "dataset", None)
    data: Any = None
    if dataset is not None:
        data = read_from(dataset)
    elif hasattr(options, "datasets"):
        data = [read_from(each) for each in options.datasets]
    begin = time.perf_counter()
    results = find(benchmark).run(options)
    environment["load_average_after"] = [round(value, 2) for value in os.getloadavg()]
    return {
        "benchmark": benchmark,
        "options": dataclasses.asdict(options),
        "data": data,
        "environment": environment,
        "seconds": round(time.perf_counter() - begin),
        "results": common.rounded(results),
    }


def read_from(dataset: str) -> dict[str, str]:
    """Say which data are read.

    Args:
        dataset: name of the data file without ``.jsonl``.

    Returns:
        Its name and hash.

    Raises:
        MissingError: it is not there.
    """
    return {"name": dataset, "sha256": common.sha256(common.data_file(dataset))}


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for.

    Args:
        arguments: None: those of the process.

    Returns:
        Exit status; 0 also where data or a package is missing, which is said.
    """
    names = sorted(path.stem for path in EXPERIMENTS.glob("*.json"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", nargs="*", help=f"one of {', '.join(names)}; all by default")
    parser.add_argument("--limit", type=int, help=f"at most so many questions; results go to {LIMITED.name}/")
    given = parser.parse_args(arguments)
    if unknown := sorted(set(given.experiment) - set(names)):
        parser.error(f"no experiment {', '.join(unknown)}; known: {', '.join(names)}")
    logging.getLogger("sentence_transformers").setLevel(logging.WARNING)
    folder = LIMITED if given.limit is not None else RESULTS
    folder.mkdir(exist_ok=True)
    for name in given.experiment or names:
        try:
            result = run(EXPERIMENTS / f"{name}.json", given.limit)
        except common.MissingError as error:
            print(f"{name}: skipped, nothing was measured: {error}")
            continue
        text = json.dumps(result, indent=2, ensure_ascii=False) + "\n"
        (folder / f"{name}.json").write_text(text, encoding="utf-8")
        print(f"{name}: {result['seconds']} s")
        for target in result["results"]["targets"]:
            print(f"  {tables.target_line(target)}")
    if given.limit is None:
        tables.main()
    return 0


if __name__ == "__main__":
    sys.exit(main())
