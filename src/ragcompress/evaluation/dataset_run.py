"""All contestants on one dataset: records first, then summaries, which follow from the records alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ragcompress.errors import CheckpointError, MissingExtraError, OptionError, RagCompressError
from ragcompress.evaluation.baselines import ALL_DOCUMENTS, NO_CONTEXT
from ragcompress.evaluation.contestants import Contestant, Ready
from ragcompress.evaluation.environment import COMMON, environment, peak_memory_mib, reset_peak_memory
from ragcompress.evaluation.identity import code_hash, hash_of, questions_hash
from ragcompress.evaluation.questions import Dataset
from ragcompress.evaluation.record_files import RecordFile, read_summaries, write_summary
from ragcompress.evaluation.records import FORMAT, Record, Summary
from ragcompress.evaluation.running import HopelessError, Scale, run_contestant
from ragcompress.evaluation.summarising import estimates, failures, paired_differences

Told = Callable[[str, str, int, int], None]


class DatasetRun:
    """All contestants on one dataset.

    Attributes:
        dataset: the questions.
        folder: of its results.
        scale: what contexts are measured and answered with.
    """

    def __init__(
        self,
        dataset: Dataset,
        folder: Path,
        scale: Scale,
        *,
        seed: int,
        restart: bool,
        progress: Told,
        remark: Callable[[str], None],
    ) -> None:
        """Begin with nothing done.

        Args:
            dataset: the questions.
            folder: of its results.
            scale: what contexts are measured and answered with.
            seed: of everything drawn.
            restart: whether earlier records are thrown away.
            progress: told dataset, contestant, questions done, questions in all.
            remark: told what was skipped.
        """
        self.dataset = dataset
        self.folder = folder
        self.scale = scale
        self._seed = seed
        self._restart = restart
        self._progress = progress
        self._remark = remark
        self._environment = environment()
        self._earlier = {each.contestant: each for each in read_summaries(folder)}
        self._records: dict[str, list[Record]] = {}
        self._fingerprints: dict[str, str] = {}
        self._memory: dict[str, tuple[float | None, float | None]] = {}
        self._told_of_others = False
        self._n_new: dict[str, int] = {}
        self._n_known: dict[str, int] = {}

    def run(self, contestants: Sequence[Contestant]) -> list[Summary]:
        """Run contestants one after the other.

        Args:
            contestants: no context and all documents first; what is cut to another's length behind that.

        Returns:
            A summary each, all documents first; that of a peer that cannot run says why.
        """
        ends = {each.name: each for each in contestants[:2]}
        # Whether a reader can be read at all is seen without a context, which is short enough for any.
        for name in (NO_CONTEXT, ALL_DOCUMENTS):
            self._run(ends[name], ends[name].prepare())
        found = [self._summarise(ends[name]) for name in (ALL_DOCUMENTS, NO_CONTEXT)]
        for contestant in contestants[2:]:
            if contestant.kind != "peer":
                self._run(contestant, contestant.prepare())
                found.append(self._summarise(contestant))
            elif (error := self._try(contestant)) is None:
                found.append(self._summarise(contestant))
            else:
                self._remark(f"{contestant.name} was skipped: {error}")
                found.append(self._skipped(contestant, error))
        self._tell_of_earlier()
        return found

    def _tell_of_earlier(self) -> None:
        """Say what was taken over: that nothing was done again is otherwise only seen by the clock."""
        n_whole = sum(known > 0 and not self._n_new[name] for name, known in self._n_known.items())
        n_part = sum(known > 0 and self._n_new[name] > 0 for name, known in self._n_known.items())
        if n_whole or n_part:
            part = f", and of {n_part:,} in part" if n_part else ""
            self._remark(f"{self.dataset.name}: the records of {n_whole:,} contestants were there already{part}")

    def _try(self, peer: Contestant) -> RagCompressError | None:
        """Run a peer; gives why it cannot run. What the reader or the disk fails at is not the peer's fault."""
        try:
            ready = peer.prepare()
        except RagCompressError as error:
            return error
        try:
            self._run(peer, ready)
        except (CheckpointError, HopelessError, MissingExtraError, OptionError) as error:
            return error
        return None

    def _run(self, contestant: Contestant, ready: Ready) -> None:
        """Bring the records of a contestant together."""
        fingerprint = self._fingerprint(contestant, ready.identity)
        self._fingerprints[contestant.name] = fingerprint
        n_all, n_done = len(self.dataset.questions), 0

        def advance(more: int) -> None:
            nonlocal n_done
            n_done += more
            self._progress(self.dataset.name, contestant.name, n_done, n_all)

        budgets = None
        if contestant.matched_to is not None:
            others = self._records[contestant.matched_to]
            budgets = {each.id: int(each.metrics["tokens"]) for each in others if "tokens" in each.metrics}
        file = RecordFile(self.folder / f"{contestant.name}.jsonl", fingerprint)
        n_known = 0 if self._restart else len(file.read())
        if not self._restart and not self._told_of_others and file.is_of_another_run():
            self._told_of_others = True
            self._remark(
                f"{self.dataset.name}: records of another run (options, reader, weights, code, libraries or machine "
                f"differ) are written over, beginning with {contestant.name}; --out elsewhere keeps them"
            )
        if self._restart:
            file.begin(())
        before = reset_peak_memory()
        scale = self.scale if contestant.answered else replace(self.scale, reader=None, judge=None)
        records = run_contestant(ready.compress, self.dataset.questions, budgets, scale, file, advance)
        self._records[contestant.name] = records
        self._n_new[contestant.name] = len(records) - n_known
        self._n_known[contestant.name] = n_known
        self._memory[contestant.name] = (before, peak_memory_mib())

    def _summarise(self, contestant: Contestant) -> Summary:
        name = contestant.name
        records, fingerprint = self._records[name], self._fingerprints[name]
        counts, first = failures(records)
        reader = self.scale.reader if contestant.answered else None
        judge = self.scale.judge if contestant.answered else None
        beside = [other for other in (ALL_DOCUMENTS, contestant.matched_to) if other is not None and other != name]
        summary = replace(
            self._empty(contestant, fingerprint),
            n_questions=len(records),
            n_answered=sum(record.answer is not None for record in records),
            failures=counts,
            first_failures=first,
            reader=None if reader is None else reader.name,
            reader_settings=None if reader is None else reader.settings(),
            judge=None if judge is None else judge.settings(),
            metrics=estimates(records, seed=self._seed),
            differences=paired_differences(records, self._records[ALL_DOCUMENTS], seed=self._seed)
            if name != ALL_DOCUMENTS
            else {},
            memory_before_mib=self._memory[name][0],
            peak_memory_mib=self._memory[name][1],
            compared_with={other: self._fingerprints[other] for other in beside},
        )
        earlier = self._earlier.get(name)
        if earlier is not None and earlier.fingerprint == fingerprint and not self._n_new[name]:
            # Nothing was left to do, and so there is nothing to say of today's memory.
            summary = replace(
                summary,
                memory_before_mib=earlier.memory_before_mib,
                peak_memory_mib=earlier.peak_memory_mib,
                environment=earlier.environment,
            )
        write_summary(self.folder, summary)
        return summary

    def _skipped(self, contestant: Contestant, error: RagCompressError) -> Summary:
        """Note why a peer has no results; those of an earlier run stay."""
        # What is missing is said in full; of what a question made it raise the type: the message may quote a passage,
        # and summaries hold none.
        told = isinstance(error, (CheckpointError, MissingExtraError, OptionError))
        why = " ".join(str(error).split()) if told else ":".join(str(error).split(":")[:2])
        summary = replace(self._empty(contestant, self._fingerprint(contestant, "")), skipped=why)
        earlier = self._earlier.get(contestant.name)
        if earlier is None or earlier.skipped is not None:
            write_summary(self.folder, summary)
        return summary

    def _empty(self, contestant: Contestant, fingerprint: str) -> Summary:
        """What is known of a contestant before anything is measured."""
        return Summary(
            contestant=contestant.name,
            kind=contestant.kind,
            matched_to=contestant.matched_to,
            settings=contestant.settings,
            dataset=self.dataset.name,
            sha256=self.dataset.sha256,
            selection=asdict(self.dataset.selection),
            n_questions=0,
            n_answered=0,
            failures={},
            first_failures=(),
            reader=None,
            reader_settings=None,
            judge=None,
            counter=self.scale.counter.name,
            metrics={},
            differences={},
            peak_memory_mib=None,
            seed=self._seed,
            environment=self._environment,
            fingerprint=fingerprint,
            compared_with={},
            n_left_out=len(self.dataset.skipped),
            source=self.dataset.source,
        )

    def _fingerprint(self, contestant: Contestant, identity: str) -> str:
        reader, judge = self.scale.reader, self.scale.judge
        matched = contestant.matched_to
        # A package that somebody else computes with changes nothing here; peers name their own.
        where: dict[str, Any] = {name: value for name, value in self._environment.items() if name != "date"}
        where["versions"] = {name: found for name, found in where["versions"].items() if name in COMMON}
        asked: Mapping[str, Any] = {}
        if contestant.answered:
            asked = {
                "reader": None if reader is None else reader.settings(),
                "judge": None if judge is None else judge.settings(),
                "to_answer": len(self.scale.to_answer),
            }
        return hash_of(
            {
                "format": FORMAT,
                "code": code_hash(),
                "environment": where,
                "contestant": contestant.settings,
                "identity": identity,
                "matched_to": None if matched is None else self._fingerprints[matched],
                "questions": questions_hash(self.dataset),
                "sha256": self.dataset.sha256,
                "counter": self.scale.counter.name,
                "seed": self._seed,
                **asked,
            }
        )
