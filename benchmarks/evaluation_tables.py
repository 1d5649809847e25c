"""Tables of the evaluation: what readers answer from what is kept, and what is kept of the support."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cells import share, table

RESULTS = Path(__file__).resolve().parent / "results" / "evaluation"
NAMES = {
    "hotpotqa_distractor.dev": "HotpotQA",
    "2wikimultihopqa.dev": "2WikiMultihopQA",
    "nq_open_20docs.dev": "Natural Questions",
    "musique_ans.dev": "MuSiQue",
    "pubmedqa_10docs.dev": "PubMedQA",
    "popqa_triviaqa_retrieved.dev": "PopQA, TriviaQA",
    "xquad_parallel6.dev": "XQuAD",
}
MEASURES = {
    "support_recall": "supporting sentences",
    "document_recall": "supporting passages",
    "answer_in_context": "a right answer",
}
COMPRESSORS = ("recomp-2", "recomp-4", "recomp-6", "recomp-8")
PEERS = {
    "recomp-6--langchain-embeddings-filter": "LangChain `EmbeddingsFilter`",
    "recomp-6--llama-index-optimizer": "LlamaIndex `SentenceEmbeddingOptimizer`",
    "recomp-6--trimwise": "trimwise",
}
MATCHED = {
    "recomp-6--bm25-sentences": "BM25 sentences",
    "recomp-6--first-tokens": "first tokens",
    "recomp-6--random-sentences": "random sentences",
    **PEERS,
}
Summaries = Mapping[str, Mapping[str, Mapping[str, Any]]]


def read_summaries(folder: Path = RESULTS) -> Summaries:
    """Read the summaries of all datasets.

    Args:
        folder: of the results.

    Returns:
        By dataset, in the order of ``NAMES``, and contestant.
    """
    found = {
        path.name: {each.stem: json.loads(each.read_text(encoding="utf-8")) for each in sorted(path.glob("*.json"))}
        for path in sorted(folder.glob("*"))
        if path.is_dir()
    }
    order = list(NAMES)
    return dict(sorted(found.items(), key=lambda pair: (order.index(_base(pair[0])), pair[0])))


def _base(dataset: str) -> str:
    return next(name for name in NAMES if dataset.startswith(name))


def title(dataset: str) -> str:
    """Name a dataset for people.

    >>> title("xquad_parallel6.dev.ar"), title("musique_ans.dev")
    ('XQuAD, ar', 'MuSiQue')

    Args:
        dataset: as its folder is called.

    Returns:
        The name.
    """
    base = _base(dataset)
    return NAMES[base] + dataset.removeprefix(base).replace(".", ", ")


def answers_table(summaries: Summaries) -> str:
    """What the reader answers.

    Args:
        summaries: of all datasets.

    Returns:
        Markdown; an empty string where nothing was answered.
    """
    answered = [name for name, own in summaries.items() if own.get("recomp-6", {}).get("n_answered")]
    if not answered:
        return ""
    rows = []
    labels = {"all-documents": "all documents", "no-context": "no context"}
    labels |= {name: f"{name.removeprefix('recomp-')} sentences" for name in COMPRESSORS}
    labels |= {name: f"as long as 6: {label}" for name, label in MATCHED.items()}
    for name, label in labels.items():
        cells = [_answers(summaries[dataset].get(name)) for dataset in answered]
        if any(cells):
            rows.append([label, *cells])
    n = {summaries[dataset]["all-documents"]["metrics"]["cover_match"]["n"] for dataset in answered}
    reader = summaries[answered[0]]["all-documents"]["reader"]
    header = ["tokens: right [difference to all documents]", *map(title, answered)]
    numbers = " or ".join(map(str, sorted(n)))
    return (
        f"Share of {numbers} questions whose answer contains a right one, read by `{reader}`; in brackets the 95 % "
        f"interval of the paired difference to all documents.\n\n{table(header, rows)}"
    )


def _answers(summary: Mapping[str, Any] | None) -> str:
    if summary is None or "cover_match" not in summary["metrics"]:
        return ""
    metrics, difference = summary["metrics"], summary["differences"].get("cover_match")
    text = f"{metrics['tokens']['mean']:,.0f}: {share(metrics['cover_match']['mean'])}"
    if difference is None or summary["contestant"] == "no-context":
        return text
    return f"{text} [{share(difference['low'])}, {share(difference['high'])}]"


def kept_table(summaries: Summaries, k: int = 6) -> str:
    """What is kept at as many tokens.

    Args:
        summaries: of all datasets.
        k: sentences.

    Returns:
        Markdown; an empty string without results.
    """
    own = f"recomp-{k}"
    rows = []
    baselines = ("bm25-sentences", "first-tokens", "random-sentences")
    for dataset, each in summaries.items():
        measure = primary(each)
        if own not in each or measure is None:
            continue
        compared = [each.get(f"{own}--{name}") for name in baselines]
        cells = [_kept(summary, measure) for summary in (each[own], *compared)]
        compression = each[own]["metrics"]["token_compression"]["mean"]
        label = f"{title(dataset)} ({each[own]['n_questions']}): {MEASURES[measure]}"
        rows.append([label, *cells, f"{compression:.1f} x"])
    header = ["share kept", f"{k} sentences", "BM25", "first tokens", "random", "compression"]
    return table(header, rows) if rows else ""


def peers_table(summaries: Summaries) -> str:
    """How other people's compressors do at the length of six sentences.

    Args:
        summaries: of all datasets.

    Returns:
        Markdown; an empty string where none was compared.
    """
    found = []
    for dataset, each in summaries.items():
        there = [name for name in PEERS if each.get(name, {}).get("metrics")]
        measure = primary(each)
        if not there or measure is None:
            continue
        ours = each["recomp-6"]["metrics"]["compress_ms"]["p50"]
        rows = []
        labels = {"recomp-6": "6 sentences", "recomp-6--bm25-sentences": MATCHED["recomp-6--bm25-sentences"], **PEERS}
        for name in ("recomp-6", "recomp-6--bm25-sentences", *there):
            metrics = each[name]["metrics"]
            right = share(metrics["cover_match"]["mean"]) if "cover_match" in metrics else ""
            time = f"{metrics['compress_ms']['p50'] / ours:.2f} x"
            rows.append([labels[name], f"{metrics['tokens']['mean']:,.0f}", _kept(each[name], measure), right, time])
        header = [
            "at most as long as 6 sentences",
            "tokens",
            f"{MEASURES[measure]} kept",
            "right",
            "whole call, over ours",
        ]
        n = each["recomp-6"]["n_questions"]
        about = f"{title(dataset)} ({n} questions); time is that of a whole call, nothing known of the passages:"
        found.append(f"{about}\n\n{table(header, rows)}")
    return "\n\n".join(found)


def _kept(summary: Mapping[str, Any] | None, measure: str) -> str:
    return "" if summary is None else share(summary["metrics"][measure]["mean"])


def primary(contestants: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Choose what is compared: the finest thing that the data know.

    Args:
        contestants: of one dataset.

    Returns:
        The name of a measure; None: there is none.
    """
    known: Sequence[str] = list(contestants.get("all-documents", {}).get("metrics", ()))
    return next((name for name in MEASURES if name in known), None)


def blocks(summaries: Summaries) -> list[str]:
    """Everything, for the page of the benchmarks.

    Args:
        summaries: of all datasets.

    Returns:
        Markdown blocks; none without results.
    """
    if not summaries:
        return []
    found = [answers_table(summaries), peers_table(summaries), *(kept_table(summaries, k) for k in (2, 4, 6, 8))]
    first = next(iter(next(iter(summaries.values())).values()))["environment"]
    found.append(f"Measured on: {first['processor']}, {first['cores']} cores, {first['date']}.")
    return [block for block in found if block]
