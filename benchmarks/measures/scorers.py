"""Scorers: what each way of ranking sentences keeps, on every data set, English and not.

Vectors are computed once for each text and shared by every ranking, which changes no result.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from measures import common, metrics
from measures.quality import CachingEncoder

if TYPE_CHECKING:
    from ragcompress import CompressedContext

RECALL_ASKED = {"6": 0.78, "8": 0.84}
ASKED_OF = "hotpotqa_distractor.dev"


@dataclass(frozen=True, slots=True)
class Options:
    """What varies between experiments.

    Attributes:
        datasets: names of data files without ``.jsonl``.
        questions: how many of each; None: all.
        top_k: numbers of sentences.
        rankings: name -> options of the compressor; the others are compared with the one called ``default``.
        threads: of torch; None: its own choice.
        seed: of the bootstrap.
    """

    datasets: tuple[str, ...]
    questions: int | None = None
    top_k: tuple[int, ...] = (4, 6, 8)
    rankings: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"default": {}})
    threads: int | None = None
    seed: int = 0


def run(options: Options) -> dict[str, Any]:
    """Measure.

    Args:
        options: of the experiment.

    Returns:
        Results with ``targets``.
    """
    from ragcompress import InMemoryStore
    from ragcompress.backends.recomp_extractive import RecompExtractive

    threads = common.set_threads(options.threads)
    encoder = CachingEncoder(common.load_encoder())
    results: dict[str, Any] = {}
    for dataset in options.datasets:
        base = RecompExtractive(encoder, store=InMemoryStore(max_bytes=None))
        with common.data_file(dataset).open(encoding="utf-8") as lines:
            records = [json.loads(line) for line in lines]
        for language in sorted({record.get("lang", "en") for record in records}):
            own = [record for record in records if record.get("lang", "en") == language][: options.questions]
            key = dataset if len(own) == len(records[: options.questions]) else f"{dataset}, {language}"
            questions = list(zip(own, common.questions_of(own), strict=True))
            rows = {
                name: {
                    str(k): [
                        judge(record, base.with_options(top_k=k, **given).compress(question.text, question.documents()))
                        for record, question in questions
                    ]
                    for k in options.top_k
                }
                for name, given in options.rankings.items()
            }
            results[key] = {
                "questions": len(own),
                "rankings": {
                    name: {k: summary(each, rows["default"][k], options.seed) for k, each in by_k.items()}
                    for name, by_k in rows.items()
                },
            }
    asked = results.get(ASKED_OF, {}).get("rankings", {}).get("default", {})
    return {
        "threads": threads,
        "datasets": results,
        "targets": [
            common.target(f"gold sentences of HotpotQA among {k}", asked[k]["sentences"], limit, "share", at_most=False)
            for k, limit in RECALL_ASKED.items()
            if k in asked
        ],
    }


def judge(record: Mapping[str, Any], context: CompressedContext) -> dict[str, float]:
    """See what was kept of one question's documents.

    Args:
        record: of the data file.
        context: what was kept.

    Returns:
        ``sentences``: share of the gold sentences; ``documents``: share of the supporting documents of which anything
        was kept; ``answers``: 1 if an answer stands in the kept text. What the data set does not mark is left out.
    """
    spans: list[list[metrics.Span]] = [[] for _ in record["docs"]]
    for segment in context.segments:
        for source in segment.sources:
            assert source.start is not None
            assert source.end is not None
            spans[source.document].append((source.start, source.end))
    found: dict[str, float] = {}
    gold = [
        [tuple(document["sentence_spans"][index]) for index in document.get("supporting_sentences") or ()]
        for document in record["docs"]
    ]
    if any(gold):
        found["sentences"] = metrics.judge(gold, spans, [len(document["text"]) for document in record["docs"]]).recall
    supporting = [
        bool(kept)
        for document, kept in zip(record["docs"], spans, strict=True)
        if document.get("is_supporting") or document.get("has_answer")
    ]
    if supporting:
        found["documents"] = sum(supporting) / len(supporting)
    answers = [answer for answer in record["answers"] if answer.lower() not in ("yes", "no", "maybe", "")]
    if answers:
        kept_text = "\n".join(segment.text for segment in context.segments).casefold()
        found["answers"] = float(any(answer.casefold() in kept_text for answer in answers))
    return found


def summary(rows: Sequence[Mapping[str, float]], default: Sequence[Mapping[str, float]], seed: int) -> dict[str, Any]:
    """Average over questions, with the 95 % interval of the difference from the default.

    Args:
        rows: (n_questions,) of one ranking.
        default: (n_questions,) of the default.
        seed: of the bootstrap.

    Returns:
        JSON-safe numbers, for each of what ``judge`` found.
    """
    result: dict[str, Any] = {}
    for name in ("sentences", "documents", "answers"):
        pairs = [(row[name], other[name]) for row, other in zip(rows, default, strict=True) if name in row]
        if pairs:
            result[name] = metrics.mean([value for value, _ in pairs])
            result[f"{name}_minus_default_interval"] = metrics.interval(
                [value - other for value, other in pairs], seed=seed
            )
    return result
