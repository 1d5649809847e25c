"""Folders of results as an evaluation writes them, made of invented sentences."""

import json

from ragcompress.evaluation.question_files import question_of
from ragcompress.evaluation.questions import Dataset, Selection
from ragcompress.evaluation.record_files import RecordFile, open_folder, write_summary
from ragcompress.evaluation.records import Estimate, Failure, KeptSegment, Record, Summary
from ragcompress.evaluation.summarising import estimates, failures, paired_differences

RIVERS = ("Ammer", "Bode", "Cossa", "Dahme", "Eider", "Fulda", "Gera", "Havel")
SELECTION = {"limit": None, "n_docs": None, "gold_only": False, "shuffle_docs": None}
ENVIRONMENT = {
    "processor": "a processor", "cores": 2, "threads": 1, "accelerator": None, "versions": {"ragcompress": "0.6"},
}  # fmt: skip


def question(number, **more):
    """A question with two passages, of which the second supports the answer."""
    river = RIVERS[number % len(RIVERS)]
    other = f"Nobody has measured the {river} lately. It is wet."
    passage = f"The {river} rises in the hills. It is {100 + number} km long. Ducks live there."
    start = passage.index("It is")
    entry = {
        "id": f"q{number}",
        "question": f"How long is the {river}?",
        "answers": [f"{100 + number} km"],
        "docs": [
            {"title": "Rain", "text": other, "is_supporting": False, "sentence_spans": [[0, len(other)]], "supporting_sentences": []},
            {
                "title": river, "text": passage, "is_supporting": True,
                "sentence_spans": [[0, start - 1], [start, passage.index(" Ducks")], [passage.index("Ducks"), len(passage)]],
                "supporting_sentences": [1],
            },
        ],
    }  # fmt: skip
    return question_of({**entry, **more})


def record(each, right, *, n_tokens=10, kept=((1, 0, 30, 0.5),), answer=None, segments=None, added_ms=5.0, **more):
    """What became of a question: passages' spans with scores, and an answer that is right (1), wrong (0) or absent (None)."""
    metrics = {"tokens": n_tokens, "all_tokens": 40, "added_ms": added_ms, "support_recall": float(n_tokens > 8)}
    if right is not None:
        metrics |= {
            "cover_match": float(right),
            "f1": right * 0.8,
            "exact_match": 0.0,
            "total_ms": added_ms + 100 + n_tokens,
        }
        answer = answer if answer is not None else (each.answers[0] if right else "nobody knows")
    made = tuple(KeptSegment(((document, start, end),), score=score) for document, start, end, score in kept)
    return Record(each.id, made if segments is None else segments, answer, metrics | more.pop("metrics", {}), **more)


def summary(name, records, everything, **more):
    """Summarise records as the runner does."""
    counts, first = failures(records)
    fields = {
        "contestant": name, "kind": "compressor", "matched_to": None, "settings": {"compressor": {"backend": name}},
        "dataset": "rivers", "sha256": "ab" * 32, "selection": SELECTION, "n_questions": len(records),
        "n_answered": sum(each.answer is not None for each in records), "failures": counts, "first_failures": first,
        "reader": "tiny-reader", "reader_settings": {"name": "tiny-reader", "max_new_tokens": 16}, "judge": None, "counter": "words", "metrics": estimates(records, seed=0),
        "differences": paired_differences(records, everything, seed=0), "peak_memory_mib": 321.0, "seed": 7,
        "environment": ENVIRONMENT, "fingerprint": f"print of {name}",
        "compared_with": {},
    }  # fmt: skip
    return Summary(**{**fields, **more})


def write_dataset(folder, questions, contestants, *, name="rivers", **more):
    """Write a dataset: ``contestants`` is a mapping from names to (kind, matched_to, records)."""
    dataset = Dataset(name, tuple(questions), "ab" * 32, Selection())
    place = open_folder(folder, dataset)
    everything = contestants["all-documents"][2] if "all-documents" in contestants else []
    for contestant, (kind, matched_to, records) in contestants.items():
        others = {matched_to, "all-documents"} & set(contestants) - {contestant}
        fields = {"compared_with": {other: f"print of {other}" for other in sorted(others)}, **more}
        made = summary(contestant, records, everything, kind=kind, matched_to=matched_to, dataset=name, **fields)
        RecordFile(place / f"{contestant}.jsonl", made.fingerprint).begin(records)
        write_summary(place, made)
    return place


def rivers(folder, n=12, **more):
    """A dataset on which compression breaks question 0, mends question 1, and fails on question 2."""
    questions = [question(number) for number in range(n)]
    whole = [(0, 0, 49, None), (1, 0, 60, None)]
    every = [record(each, number != 1, n_tokens=40, kept=whole, added_ms=0.0) for number, each in enumerate(questions)]
    short = [
        record(each, number != 0, kept=((1, 0, 29, 0.1), (1, 30, 48, 0.9))) for number, each in enumerate(questions)
    ]
    short[2] = Record("q2", failure=Failure("compress", "ValueError: the bridge is closed"))
    first = [
        record(each, number % 2, kept=((0, 0, 30, None),), n_tokens=7, added_ms=0.1)
        for number, each in enumerate(questions)
    ]
    nothing = [record(each, 0, n_tokens=0, kept=(), added_ms=0.0) for each in questions]
    return write_dataset(
        folder, questions,
        {
            "all-documents": ("baseline", None, every), "no-context": ("baseline", None, nothing),
            "ranker-2": ("compressor", None, short), "ranker-10": ("compressor", None, every),
            "ranker-2--first-tokens": ("baseline", "ranker-2", first),
            "ranker-2--trimmer": ("peer", "ranker-2", short),
        },
        **more,
    )  # fmt: skip


def change(path, **fields):
    """Change fields of a summary on disk."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def estimate(mean, low, high, n=100):
    """An estimate over a hundred questions."""
    return Estimate(mean, low, high, n)
