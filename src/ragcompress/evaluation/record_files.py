"""Records and summaries on disk: appended line by line, read again after an interruption, never half a summary."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ragcompress.errors import InputError
from ragcompress.evaluation.question_files import as_record
from ragcompress.evaluation.questions import Dataset
from ragcompress.evaluation.records import (
    FORMAT,
    QUESTIONS_FILE,
    Record,
    Summary,
    read_record,
    read_summary,
    record_as_json,
    summary_as_json,
)
from ragcompress.tokens import encodable


class RecordFile:
    """The records of one contestant.

    Attributes:
        path: of the file.
        fingerprint: of everything that the records depend on; those of another are written over.
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        """Name a file; nothing is read or written yet.

        Args:
            path: of the file.
            fingerprint: of everything that the records depend on.
        """
        self.path = path
        self.fingerprint = fingerprint

    def read(self) -> list[Record]:
        """Read what an earlier run has left.

        Returns:
            Records of questions that did not fail, each once; none if they are of another fingerprint. A last line that
            was not finished is left out.
        """
        try:
            lines = self.path.read_text(encoding="utf-8").split("\n")
        except (FileNotFoundError, UnicodeDecodeError):
            return []
        except OSError as error:
            raise InputError(f"{self.path} cannot be read: {error.strerror or error}.") from error
        found: dict[str, Record] = {}
        for number, line in enumerate(lines):
            try:
                entry = json.loads(line)
                if number == 0:
                    if entry.get("fingerprint") != self.fingerprint:
                        return []
                    continue
                record = read_record(entry)
            except (AttributeError, KeyError, TypeError, ValueError):
                if number == 0:
                    return []
                continue  # the line at which an earlier run was interrupted
            if record.failure is None:
                found[record.id] = record
        return list(found.values())

    def is_of_another_run(self) -> bool:
        """Whether records are there that are of another fingerprint, and would be written over."""
        try:
            with self.path.open(encoding="utf-8") as file:
                header, record = json.loads(file.readline()), file.readline()
        except (OSError, ValueError):
            return False
        return isinstance(header, dict) and header.get("fingerprint") != self.fingerprint and bool(record)

    def begin(self, records: Iterable[Record]) -> None:
        """Write the file anew, all or nothing.

        Args:
            records: that are kept.
        """
        header = json.dumps({"format": FORMAT, "fingerprint": self.fingerprint})
        write_whole(self.path, "\n".join([header, *map(_line, records), ""]))

    def append(self, records: Sequence[Record]) -> None:
        """Write more records.

        Args:
            records: at the end of the file.
        """
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write("".join(f"{_line(record)}\n" for record in records))
        except OSError as error:
            raise InputError(f"{self.path} cannot be written: {error.strerror or error}.") from error


def _line(record: Record) -> str:
    return json.dumps(record_as_json(record), ensure_ascii=True, allow_nan=False)


def write_whole(path: Path, text: str) -> None:
    """Write a file, all or nothing.

    Args:
        path: of the file.
        text: of it; lone surrogates are replaced.

    Raises:
        InputError: it cannot be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        try:
            draft.write_text(encodable(text), encoding="utf-8")
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}.") from error


def write_summary(folder: Path, summary: Summary) -> None:
    """Write a summary beside its records.

    Args:
        folder: of the dataset.
        summary: of one contestant.
    """
    write_whole(folder / f"{summary.contestant}.json", json.dumps(summary_as_json(summary), indent=2) + "\n")


def read_summaries(folder: Path) -> list[Summary]:
    """Read the summaries of one dataset.

    Args:
        folder: of the dataset; need not exist.

    Returns:
        The summaries, by name.

    Raises:
        InputError: one cannot be read; says which.
    """
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            found.append(read_summary(json.loads(path.read_text(encoding="utf-8"))))
        except (AttributeError, KeyError, TypeError, ValueError, OSError) as error:
            raise InputError(
                f"{path} is no summary of an evaluation: {type(error).__name__}: {error}.",
                hint="Move it away, or write the results elsewhere.",
            ) from error
    return found


def open_folder(out: Path, dataset: Dataset) -> Path:
    """Make the folder of a dataset, unless it holds results of other data.

    Args:
        out: of all results.
        dataset: its questions are written there.

    Returns:
        The folder.

    Raises:
        InputError: it holds results of other data, or cannot be made.
    """
    folder, selection = out / dataset.name, asdict(dataset.selection)
    for summary in read_summaries(folder):
        if summary.sha256 != dataset.sha256:
            raise InputError(
                f"{folder} holds results of other data: sha256 {summary.sha256}, now {dataset.sha256}.",
                hint="Write these elsewhere with --out, or move the old ones away.",
            )
        if dict(summary.selection) != selection:
            raise InputError(
                f"{folder} holds results of other questions or passages: {_shown(summary.selection)}, now "
                f"{_shown(selection)}.",
                hint="Write these elsewhere with --out, or move the old ones away.",
            )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the folder {folder} cannot be made: {error.strerror or error}.") from error
    lines = "".join(json.dumps(as_record(question), ensure_ascii=True) + "\n" for question in dataset.questions)
    write_whole(folder / QUESTIONS_FILE, lines)
    return folder


def _shown(selection: Any) -> str:  # noqa: ANN401 (a mapping read from a file)
    return json.dumps(dict(selection), sort_keys=True)
