"""Evaluate: what survives of the support and of the answers, on every development set, beside baselines and peers.

python benchmarks/evaluate.py [--limit N] [--answers N]

Experiments are in experiments/evaluation/, results in results/evaluation/: the summaries are in git; the records, which
hold passages, are not. A run that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "src")]
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import tables  # noqa: E402
from measures import common  # noqa: E402

if TYPE_CHECKING:
    from ragcompress.evaluation import Dataset, Experiment

EXPERIMENTS = HERE / "experiments" / "evaluation"
RESULTS = HERE / "results" / "evaluation"
LIMITED = HERE / "results-limited" / "evaluation"
# What the reader is asked about, and what is measured without it.
ANSWERED = ("hotpotqa_distractor.dev", "2wikimultihopqa.dev", "nq_open_20docs.dev")
OTHERS = ("musique_ans.dev", "pubmedqa_10docs.dev", "popqa_triviaqa_retrieved.dev", "xquad_parallel6.dev")
READER = "qwen2.5-coder-0.5b-instruct-q4.gguf"


def find_reader() -> Path:
    """Find the reader: in ``$RAGCOMPRESS_MODELS``, else in ``models`` in the system's temporary folder.

    Returns:
        Its file.

    Raises:
        MissingError: it is not there.
    """
    path = Path(os.environ.get("RAGCOMPRESS_MODELS") or Path(tempfile.gettempdir()) / "models") / READER
    if not path.is_file():
        raise common.MissingError(
            f"{READER} is not there: the data's tools/fetch_models.sh DIR qwen brings it, RAGCOMPRESS_MODELS names DIR."
        )
    return path


def read(names: tuple[str, ...], limit: int | None) -> list[Dataset]:
    """Read data; one with several languages becomes one for each.

    Args:
        names: of the files without ``.jsonl``.
        limit: at most so many questions of each; None: all.

    Returns:
        The datasets.
    """
    from ragcompress.evaluation import Selection, read_dataset

    found = []
    for name in names:
        whole = read_dataset(common.data_file(name), Selection(limit=limit if "xquad" not in name else None))
        for language in dict.fromkeys(question.language for question in whole.questions):
            own = tuple(question for question in whole.questions if question.language == language)
            if language is None:
                found.append(whole)
            else:
                selection = dataclasses.replace(whole.selection, limit=limit)
                found.append(
                    dataclasses.replace(whole, name=f"{name}.{language}", questions=own[:limit], selection=selection)
                )
    return found


def experiments(*, peers: bool) -> list[Experiment]:
    """Read experiments; their compressors share one encoder, and, but for the one with peers, what it has encoded.

    Args:
        peers: whether other people's compressors are compared.

    Returns:
        The experiments.
    """
    import ragcompress as rc
    from ragcompress.evaluation import read_experiment

    found = [read_experiment(path) for path in sorted(EXPERIMENTS.glob("*.yaml"))]
    base = rc.load("recomp-extractive", device="cpu", store=rc.InMemoryStore(max_bytes=None))
    compared = []
    for each in found:
        options = {name: own for name, own in each.compressor.items() if name != "backend"}  # type: ignore[union-attr]
        # Beside peers the whole call counts, nothing known of the documents.
        anew = {**each.compressor, "device": "cpu"}  # type: ignore[dict-item]
        compressor = anew if each.peers else base.with_options(**options)
        compared.append(dataclasses.replace(each, peers=each.peers if peers else (), compressor=compressor))
    return compared


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for.

    Args:
        arguments: None: those of the process.

    Returns:
        Exit status; 0 also where data or the reader is missing, which is said.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, help="at most so many questions; results go to results-limited/")
    parser.add_argument("--answers", type=int, default=60, help="so many questions of each set are answered (60)")
    given = parser.parse_args(arguments)
    try:
        answered, others = read(ANSWERED, given.limit), read(OTHERS, given.limit)
        path = find_reader()
        common.model_folder()
    except common.MissingError as error:
        print(f"evaluation: skipped, nothing was measured: {error}")
        return 0
    import ragcompress as rc
    from ragcompress.evaluation.readers import as_reader
    from ragcompress.evaluation.report import markdown

    # One question at a time, as a user asks; on a CPU larger batches are no faster.
    reader = as_reader(path, device="cpu", dtype="bfloat16", max_new_tokens=16, batch_tokens=1)
    out = RESULTS if given.limit is None else LIMITED / f"first-{given.limit}"
    begin = time.perf_counter()
    # Peers last: the search for the setting that fits a length takes them minutes a set, and one set shows how they do.
    for data, peers, n_answers in (
        (answered, False, given.answers),
        (others, False, 0),
        (answered[:1], True, given.answers),
    ):
        compared = experiments(peers=peers)
        rc.evaluate(data, compared, reader=reader, out=out, n_answers=n_answers, progress=_told, remark=print)
    (out / "README.md").write_text(markdown(out), encoding="utf-8")
    print(f"evaluation: {time.perf_counter() - begin:,.0f} s; results are in {out}")
    if given.limit is None:
        tables.main()
    return 0


def _told(dataset: str, contestant: str, n_done: int, n_all: int) -> None:
    if n_done >= n_all:
        print(f"{dataset}: {contestant}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
