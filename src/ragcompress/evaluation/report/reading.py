"""A folder of results, read and checked: only what was measured on the same data may stand in one table.

The layout is that of ``ragcompress.evaluation.records``. Questions and records may be absent, as they are where only
the summaries were kept; what cannot be shown then is said in the notes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from ragcompress.errors import InputError
from ragcompress.evaluation.questions import Question
from ragcompress.evaluation.records import QUESTIONS_FILE, Estimate, Record, Summary, read_summary
from ragcompress.evaluation.report.comparisons import remarks_on_comparisons
from ragcompress.evaluation.report.formatting import one_line
from ragcompress.evaluation.report.lines import read_questions, read_records

# What times depend on, as the environment of a summary names it.
_HARDWARE = ("processor", "cores", "threads", "accelerator")
_AGAIN = "Delete it and run the evaluation again."


@dataclass(frozen=True, slots=True)
class DatasetResults:
    """All contestants on one dataset.

    Attributes:
        name: of the dataset.
        summaries: one a contestant.
        questions: as they were evaluated; None: they were not kept.
        records: by contestant, then by the id of the question; contestants whose records were not kept are absent.
        notes: what a reader of the numbers must know, one sentence each.
        missing: records of the data that were left out, and peers that did not run and why, one sentence each.
    """

    name: str
    summaries: tuple[Summary, ...]
    questions: tuple[Question, ...] | None = None
    records: Mapping[str, Mapping[str, Record]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Results:
    """A folder of results.

    Attributes:
        folder: where they are.
        datasets: at least one, by name.
        files: every one that was read.
    """

    folder: Path
    datasets: tuple[DatasetResults, ...]
    files: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class _Entry:
    path: Path
    summary: Summary

    @property
    def records(self) -> Path:
        return self.path.with_suffix(".jsonl")


def read_results(folder: str | Path) -> Results:
    """Read a folder of results, or that of a single dataset.

    Args:
        folder: holds a folder for each dataset, or the summaries of one.

    Returns:
        What is there.

    Raises:
        InputError: there is no summary, a file is broken, or results do not belong into one table: different data,
            selections, readers (or settings of them), judges or counters under the name of one dataset.
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise InputError(f"{folder} {what}; a folder of results is expected.", hint="`ragcompress evaluate` makes one.")
    paths = sorted(folder.glob("*/*.json")) or sorted(folder.glob("*.json"))
    if not paths:
        raise InputError(
            f"there is no summary in {folder}; DATASET/NAME.json is expected.", hint="`ragcompress evaluate` writes it."
        )
    groups: dict[str, list[_Entry]] = {}
    for path in paths:
        summary = _summary(path)
        groups.setdefault(summary.dataset, []).append(_Entry(path, summary))
    datasets = tuple(_dataset(name, groups[name]) for name in sorted(groups))
    if not all(dataset.summaries for dataset in datasets):
        raise InputError(f"there is no summary in {folder} but of peers that did not run.", hint=_AGAIN)
    beside = {path.with_suffix(".jsonl") for path in paths} | {path.parent / QUESTIONS_FILE for path in paths}
    return Results(folder, datasets, (*paths, *sorted(path for path in beside if path.exists())))


def _summary(path: Path) -> Summary:
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:  # ValueError: also of bytes that are no UTF-8
        raise InputError(f"{path} is not JSON: {error}.", hint=_AGAIN) from error
    try:
        if not isinstance(written, dict):
            raise TypeError(f"it holds a {type(written).__name__}, expected an object")
        summary = read_summary(written)
        _check_types(summary)
    except KeyError as error:
        raise InputError(f"{path} is no summary of an evaluation: {error} is missing.", hint=_AGAIN) from error
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is no summary of an evaluation: {error}.", hint=_AGAIN) from error
    return summary


def _check_types(summary: Summary) -> None:
    """Raise TypeError for what a page could not be made of."""
    for name in ("contestant", "dataset", "sha256", "counter", "fingerprint"):
        if not isinstance(getattr(summary, name), str):
            raise TypeError(f"{name} is {getattr(summary, name)!r}, expected a string")
    for name in ("n_questions", "n_answered"):
        if not isinstance(getattr(summary, name), int):
            raise TypeError(f"{name} is {getattr(summary, name)!r}, expected a whole number")
    for name in ("settings", "selection", "environment", "failures", "compared_with"):
        if not isinstance(getattr(summary, name), Mapping):
            raise TypeError(f"{name} is {getattr(summary, name)!r}, expected an object")
    for name in ("reader_settings", "judge"):
        if not isinstance(getattr(summary, name), (Mapping, type(None))):
            raise TypeError(f"{name} is {getattr(summary, name)!r}, expected an object or null")
    if not all(isinstance(message, str) for message in summary.first_failures):
        raise TypeError(f"first_failures is {list(summary.first_failures)!r}, expected strings")
    for name in ("skipped", "source"):
        if not isinstance(getattr(summary, name), (str, type(None))):
            raise TypeError(f"{name} is {getattr(summary, name)!r}, expected a string or null")
    if not isinstance(summary.n_left_out, int):
        raise TypeError(f"n_left_out is {summary.n_left_out!r}, expected a whole number")
    if summary.kind not in ("baseline", "compressor", "peer"):
        raise TypeError(f"kind is {summary.kind!r}, expected 'baseline', 'compressor' or 'peer'")
    for metric, estimate in (*summary.metrics.items(), *summary.differences.items()):
        for each in fields(Estimate):
            number = getattr(estimate, each.name)
            if not isinstance(number, (int, float)) and not (number is None and each.name in ("p50", "p95")):
                raise TypeError(f"{each.name} of {metric} is {number!r}, expected a number")


def _dataset(name: str, found: Sequence[_Entry]) -> DatasetResults:
    entries = [entry for entry in found if entry.summary.skipped is None]
    again = "Compare results of one run, or report on them apart."
    _check_same(name, entries, "data of different sha256", lambda summary: summary.sha256, again)
    _check_same(name, entries, "different selections of questions", lambda summary: _json(summary.selection), again)
    _check_same(name, entries, "answers of different readers", lambda summary: summary.reader, again)
    _check_same(name, entries, "answers of a reader with different settings", _reader_settings, again)
    _check_same(name, entries, "answers under different judges", _judge, again)
    _check_same(name, entries, "lengths in different tokens", lambda summary: summary.counter, again)
    of: dict[str, Path] = {}
    for entry in entries:
        first = of.setdefault(entry.summary.contestant, entry.path)
        if first != entry.path:
            raise InputError(
                f"dataset {name!r}: contestant {entry.summary.contestant!r} is in {first} and in {entry.path}.",
                hint="Keep one of them.",
            )
    questions = next((path for entry in entries if (path := entry.path.parent / QUESTIONS_FILE).exists()), None)
    records = {
        entry.summary.contestant: read_records(entry.records, entry.summary.fingerprint)
        for entry in entries
        if entry.records.exists()
    }
    return DatasetResults(
        name=name,
        summaries=tuple(entry.summary for entry in entries),
        questions=None if questions is None else read_questions(questions),
        records={contestant: read for contestant, read in records.items() if read is not None},
        notes=(
            *_remarks_on_records(entries, records),
            *_remarks([entry.summary for entry in entries]),
        ),
        missing=(
            *_remark_on_data(max(entry.summary.n_left_out for entry in found)),
            *(
                f"{entry.summary.contestant} did not run: {one_line(entry.summary.skipped)}"
                for entry in found
                if entry.summary.skipped is not None
            ),
        ),
    )


def _check_same(
    name: str, entries: Sequence[_Entry], what: str, value: Callable[[Summary], str | None], hint: str
) -> None:
    """Refuse a dataset of which a value differs; None is like every other."""
    first: tuple[Path, str] | None = None
    for entry in entries:
        found = value(entry.summary)
        if found is None:
            continue
        if first is not None and found != first[1]:
            raise InputError(
                f"dataset {name!r} has {what}: {first[1]} in {first[0]}, {found} in {entry.path}.", hint=hint
            )
        first = first or (entry.path, found)


def _reader_settings(summary: Summary) -> str | None:
    """What answers depend on, if there are any."""
    return _json(summary.reader_settings) if summary.n_answered and summary.reader_settings is not None else None


def _judge(summary: Summary) -> str | None:
    """What judged answers; nobody, like no answer at all, leaves a column empty and mixes nothing."""
    return _json(summary.judge) if summary.n_answered and summary.judge is not None else None


def _json(value: Mapping[str, object]) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _remarks_on_records(entries: Sequence[_Entry], records: Mapping[str, object]) -> Iterator[str]:
    stale = [entry.records for entry in entries if records.get(entry.summary.contestant, "") is None]
    for path in stale:
        yield f"{path.name} is of another run than the summary beside it, and was left out."
    absent = [entry.summary.contestant for entry in entries if entry.summary.contestant not in records]
    if absent and records:
        yield f"Single questions were not kept of {', '.join(absent)}."


def _remark_on_data(n_left_out: int) -> Iterator[str]:
    if n_left_out:
        records = "1 record" if n_left_out == 1 else f"{n_left_out:,} records"
        yield f"{records} of the data could not be used: left out with --skip-bad."


def _remarks(summaries: Sequence[Summary]) -> Iterator[str]:
    for summary in summaries:
        failed = sum(summary.failures.values())
        if failed:
            steps = ", ".join(f"{step}: {n:,}" for step, n in summary.failures.items() if n)
            examples = "; ".join(map(one_line, summary.first_failures[:2]))
            yield f"{summary.contestant}: {failed:,} of {summary.n_questions:,} questions failed ({steps}). {examples}"
    yield from remarks_on_comparisons(summaries)
    numbers = sorted({summary.n_questions for summary in summaries})
    if len(numbers) > 1:
        yield f"Not all contestants saw the same number of questions: {', '.join(map(str, numbers))}."
    if len({_json({name: summary.environment.get(name) for name in _HARDWARE}) for summary in summaries}) > 1:
        yield "Not all contestants ran on the same hardware: their times cannot be compared."
