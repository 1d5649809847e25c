"""What an evaluation leaves behind: one line a question, and one summary a contestant; both JSON.

A folder of results holds a folder for each dataset, with ``questions.jsonl`` (the questions as they were evaluated, in
the format of the data), and for each contestant ``NAME.jsonl`` (records) and ``NAME.json`` (summary).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

FORMAT = 1
QUESTIONS_FILE = "questions.jsonl"
ContestantKind = Literal["baseline", "compressor", "peer"]


@dataclass(frozen=True, slots=True)
class KeptSegment:
    """One segment of a compressed context, without the text that stands in a passage as it is.

    Attributes:
        sources: ``(document, start, end)`` of each, ends None together: the document as a whole.
        text: None: the text of the single source; else what was written.
        score: relevance; None: none.
        n_slots: memory slots; None: text.
    """

    sources: tuple[tuple[int, int | None, int | None], ...]
    text: str | None = None
    score: float | None = None
    n_slots: int | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a question has no result, or only a part of one.

    Attributes:
        step: where it happened.
        message: what was raised, with its type.
    """

    step: Literal["compress", "read", "judge"]
    message: str


@dataclass(frozen=True, slots=True)
class Record:
    """One question under one contestant.

    Attributes:
        id: of the question.
        segments: what was kept.
        answer: of the reader; None: it was not asked, or failed.
        metrics: numbers by the names of ``ragcompress.evaluation.measures.MEASURES``; one that cannot be told is
            absent.
        failure: None: all went well.
    """

    id: str
    segments: tuple[KeptSegment, ...] = ()
    answer: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over questions.

    Attributes:
        mean: the mean; of a compression ratio, the sum above over the sum below.
        low: lower end of its bootstrapped 95 % interval.
        high: upper end.
        n: how many questions it is a mean of.
        p50: median, of times; None else.
        p95: of times; None else.
    """

    mean: float
    low: float
    high: float
    n: int
    p50: float | None = None
    p95: float | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """All questions under one contestant.

    Attributes:
        contestant: its name, unique within the dataset.
        kind: what it is.
        matched_to: the contestant whose length each question was cut to; None: none.
        settings: compressor (or baseline, or peer) and its options, as the experiment names them.
        dataset: name of the data.
        sha256: of the data.
        selection: which questions and passages; fields of ``Selection``.
        n_questions: how many were evaluated.
        n_answered: how many the reader was asked.
        failures: how many questions failed, by step.
        first_failures: a few of them, each with the id of its question.
        reader: name of the reader; None: nothing was answered.
        reader_settings: what its answers depend on; None: nothing was answered.
        judge: the same of the judge; None: there was none.
        counter: what a token is.
        metrics: estimates by the names of ``ragcompress.evaluation.measures.MEASURES``.
        differences: the same minus those of all documents, over the questions that both have.
        peak_memory_mib: most memory of the process (of the device, on a GPU) while this contestant ran, with its own
            models, the reader's and everything else that is loaded; None: unknown.
        seed: of everything drawn.
        environment: versions of libraries, hardware, and the day.
        fingerprint: of everything that the records depend on.
        compared_with: fingerprints of what this was compared with, by name: all documents, and the contestant whose
            length it was cut to. Where that has another one now, the comparison is of the past.
        n_left_out: records of the data that could not be used.
        skipped: why a peer could not run, and has no metrics; None: it ran.
        source: of published data, where they come from and which part they are; None: a file, or an object.
        memory_before_mib: memory when it began, with everything loaded; None: unknown.
    """

    contestant: str
    kind: ContestantKind
    matched_to: str | None
    settings: Mapping[str, Any]
    dataset: str
    sha256: str
    selection: Mapping[str, Any]
    n_questions: int
    n_answered: int
    failures: Mapping[str, int]
    first_failures: tuple[str, ...]
    reader: str | None
    reader_settings: Mapping[str, Any] | None
    judge: Mapping[str, Any] | None
    counter: str
    metrics: Mapping[str, Estimate]
    differences: Mapping[str, Estimate]
    peak_memory_mib: float | None
    seed: int
    environment: Mapping[str, Any]
    fingerprint: str
    compared_with: Mapping[str, str]
    n_left_out: int = 0
    skipped: str | None = None
    source: str | None = None
    memory_before_mib: float | None = None


def record_as_json(record: Record) -> dict[str, Any]:
    """Describe a record as JSON-safe values.

    Args:
        record: any.

    Returns:
        What ``read_record`` reads; fields that hold nothing are left out.
    """
    segments = [
        {name: value for name, value in asdict(segment).items() if value is not None} for segment in record.segments
    ]
    written: dict[str, Any] = {"id": record.id, "segments": segments, "metrics": dict(record.metrics)}
    if record.answer is not None:
        written["answer"] = record.answer
    if record.failure is not None:
        written["failure"] = asdict(record.failure)
    return written


def read_record(written: Mapping[str, Any]) -> Record:
    """Read a record.

    Args:
        written: by ``record_as_json``.

    Returns:
        The record.

    Raises:
        KeyError: a field is missing.
        TypeError: a field holds something else.
    """
    failure = written.get("failure")
    return Record(
        id=written["id"],
        segments=tuple(
            KeptSegment(**{**segment, "sources": tuple(tuple(source) for source in segment["sources"])})
            for segment in written["segments"]
        ),
        answer=written.get("answer"),
        metrics=dict(written["metrics"]),
        failure=None if failure is None else Failure(**failure),
    )


def summary_as_json(summary: Summary) -> dict[str, Any]:
    """Describe a summary as JSON-safe values.

    Args:
        summary: any.

    Returns:
        What ``read_summary`` reads.
    """
    return {"format": FORMAT, **asdict(summary)}


def read_summary(written: Mapping[str, Any]) -> Summary:
    """Read a summary.

    Args:
        written: by ``summary_as_json``.

    Returns:
        The summary.

    Raises:
        ValueError: it has another format.
        KeyError: a field is missing.
        TypeError: a field holds something else.
    """
    if written.get("format") != FORMAT:
        raise ValueError(f"format {written.get('format')!r}, expected {FORMAT}")
    fields = {name: value for name, value in written.items() if name != "format"}
    for name in ("metrics", "differences"):
        fields[name] = {metric: Estimate(**estimate) for metric, estimate in fields[name].items()}
    fields["first_failures"] = tuple(fields["first_failures"])
    return Summary(**fields)
