"""``ragcompress.evaluate``: does the answer survive, and what does it cost?"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragcompress import __version__
from ragcompress.compressor import Compressor
from ragcompress.errors import CheckpointError, InputError, MissingExtraError, OptionError
from ragcompress.evaluation.baselines import ALL_DOCUMENTS
from ragcompress.evaluation.contestants import Contestant, contestants_of, fixed_baselines, load_compressor
from ragcompress.evaluation.environment import environment, peak_memory_mib, reset_peak_memory
from ragcompress.evaluation.experiments import Experiment, experiment_of, read_experiment
from ragcompress.evaluation.question_files import dataset_of, read_dataset
from ragcompress.evaluation.questions import Dataset, Selection
from ragcompress.evaluation.record_files import RecordFile, open_folder, read_summaries, write_summary
from ragcompress.evaluation.records import FORMAT, Record, Summary
from ragcompress.evaluation.running import Scale, run_contestant
from ragcompress.evaluation.summarising import estimates, failures, paired_differences
from ragcompress.options import check_range

if TYPE_CHECKING:
    from ragcompress.evaluation.readers.base import ContextReader

AnyData = str | Path | Dataset
AnyExperiment = Experiment | Compressor | Mapping[str, Any] | str | Path
OWN_READER = "own"


def evaluate(
    data: AnyData | Sequence[AnyData],
    experiments: AnyExperiment | Sequence[AnyExperiment],
    *,
    reader: object = None,
    judge: object = None,
    out: str | Path = "results",
    limit: int | None = None,
    n_docs: int | None = None,
    gold_only: bool = False,
    shuffle_docs: int | None = None,
    n_answers: int | None = None,
    counter: object = None,
    device: str | None = None,
    seed: int = 0,
    skip_bad: bool = False,
    progress: Callable[[str, str, int, int], None] | None = None,
    remark: Callable[[str], None] | None = None,
) -> list[Summary]:
    """Compress the passages of questions, answer with what is left, and measure both; see the documentation.

    Run it again after an interruption, or with more experiments: only what is missing is done.

    Args:
        data: files of questions, names of published datasets, or what ``read_dataset`` gives.
        experiments: what is compared: ``Experiment``, compressors, dictionaries (plain forms of compressors, or of
            experiments), files of YAML.
        reader: answers: a path or hub id, ``"openai:MODEL"``, ``"own"`` (that of the one latent compressor), an LLM
            object of LangChain or LlamaIndex, a ``ContextReader``; None: nobody answers.
        judge: says whether answers are right; as ``reader``, but not ``"own"``. None: nobody does.
        out: folder of the results.
        limit: only the first so many questions of each dataset.
        n_docs: only the first so many passages of each question.
        gold_only: only the passages that support the answer.
        shuffle_docs: seed of an order of the passages; None: as they are.
        n_answers: only the first so many questions are answered; None: all; 0: none, and lengths are still in the
            tokens of the reader.
        counter: what a token is; None: a token of the reader, a word without one.
        device: of compressors in plain form and of a reader given as a string; None: the best there is.
        seed: of everything drawn.
        skip_bad: leave out records that cannot be used, rather than stop before any work is done.
        progress: told dataset, contestant, questions done, questions in all.
        remark: told what was left out, in a line each.

    Returns:
        A summary for each dataset and contestant.

    Raises:
        InputError: data cannot be used, or the folder holds results of other data.
        OptionError: an option, an experiment or a reader does not exist or cannot be combined.
        RagCompressError: a compressor or a reader cannot be loaded.
    """
    from ragcompress.evaluation.readers import as_reader
    from ragcompress.evaluation.readers.base import PromptReader
    from ragcompress.tokens import get_token_counter

    check_range("n_answers", n_answers, at_least=0, whole=True)
    check_range("seed", seed, at_least=0, whole=True)
    selection = Selection(limit, n_docs, gold_only, shuffle_docs)
    compared = _experiments(experiments)
    datasets = _datasets(data, selection, skip_bad=skip_bad)
    _check_vectors(compared, reader)
    if reader == OWN_READER:
        (latent,) = compared
        loaded = load_compressor(latent.compressor, device)
        compared = [Experiment(name=latent.name, compressor=loaded, baselines=latent.baselines, peers=latent.peers)]
        answering: ContextReader | None = as_reader(loaded.reader())
    else:
        answering = as_reader(reader, device=device)
    judging = as_reader(judge, device=device)
    if judging is not None and not isinstance(judging, PromptReader):
        raise OptionError("the judge must be a language model that reads a prompt.")
    chosen = get_token_counter("words" if counter is None else counter)
    if answering is not None and counter is None:
        chosen = answering.token_counter
    selected = asdict(selection)
    folders = [open_folder(Path(out), dataset, selected) for dataset in datasets]
    summaries: list[Summary] = []
    for dataset, folder in zip(datasets, folders, strict=True):
        for line in dataset.skipped:
            (remark or _ignored)(f"left out: {line}")
        answered = frozenset(question.id for question in dataset.questions[:n_answers]) if answering else frozenset()
        scale = Scale(chosen, answering, judging, answered)
        run = _Run(dataset, folder, scale, selected, seed, progress or _ignored, remark or _ignored)
        contestants = fixed_baselines(chosen)
        for experiment in compared:
            contestants += contestants_of(experiment, counter=chosen, seed=seed, reader=answering, device=device)
        summaries += run.all(contestants)
    return summaries


def _ignored(*_: object) -> None:
    """Nobody is told."""


def _experiments(given: AnyExperiment | Sequence[AnyExperiment]) -> list[Experiment]:
    many = isinstance(given, Sequence) and not isinstance(given, str)
    listed: list[Any] = list(given) if many else [given]  # type: ignore[arg-type]
    found = [_experiment(each) for each in listed]
    if not found:
        raise OptionError("there is no experiment; name at least one compressor.")
    names = [each.name for each in found]
    for name in names:
        if names.count(name) > 1:
            raise OptionError(f"two experiments are called {name!r}.", hint="Give each a name of its own.")
    return found


def _experiment(given: AnyExperiment) -> Experiment:
    if isinstance(given, Experiment):
        return given
    if isinstance(given, Compressor):
        return Experiment(name=given.name, compressor=given)
    if isinstance(given, Mapping):
        if "compressor" in given:
            return experiment_of(given, name="experiment", place="the experiment")
        return Experiment(name=str(given.get("backend")), compressor=given)
    if isinstance(given, (str, Path)):
        return read_experiment(given)
    raise OptionError(
        f"an experiment is a compressor, a dictionary or a file, got {type(given).__name__}.",
        hint="E.g. {'backend': 'recomp-extractive', 'top_k': 6}.",
    )


def _datasets(given: AnyData | Sequence[AnyData], selection: Selection, *, skip_bad: bool) -> list[Dataset]:
    found = []
    for each in [given] if isinstance(given, (str, Path, Dataset)) else list(given):
        found.append(each if isinstance(each, Dataset) else _read(each, selection, skip_bad=skip_bad))
    if not found:
        raise InputError("there is no data; name at least one file.")
    names = [dataset.name for dataset in found]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two datasets are called {name!r}.", hint="Rename one of the files.")
    return found


def _read(data: str | Path, selection: Selection, *, skip_bad: bool) -> Dataset:
    """A file, or a published dataset by its name."""
    if isinstance(data, str) and not Path(data).suffix and not Path(data).exists():
        from ragcompress.evaluation.hub import load_named

        loaded = load_named(data, limit=None if selection.gold_only else selection.limit, skip_bad=skip_bad)
        dataset = dataset_of(data, loaded.records, selection, skip_bad=skip_bad)
        return replace(dataset, skipped=(*loaded.skipped, *dataset.skipped))
    return read_dataset(data, selection, skip_bad=skip_bad)


def _check_vectors(experiments: Sequence[Experiment], reader: object) -> None:
    from ragcompress.composing.plain import info_of, read_stage
    from ragcompress.registry import find

    vectors = []
    for each in experiments:
        if isinstance(each.compressor, Compressor):
            info = each.compressor.info
        else:
            backend, _, options = read_stage(each.compressor)
            info = info_of(find(backend), options)
        vectors += [each.name] if info.kind == "vectors" else []
    if reader == OWN_READER:
        if len(experiments) != 1 or not vectors:
            raise OptionError(
                "reader='own' is the decoder of a latent compressor: it needs exactly one experiment, with such a one.",
                hint="Evaluate each latent compressor by itself; for text name a model.",
            )
    elif vectors and reader is not None and isinstance(reader, str):
        raise OptionError(
            f"{vectors[0]} makes vectors, which {reader} cannot read.", hint="Its decoder does: reader='own'."
        )


class _Run:
    """All contestants on one dataset."""

    def __init__(
        self,
        dataset: Dataset,
        folder: Path,
        scale: Scale,
        selection: Mapping[str, Any],
        seed: int,
        progress: Callable[[str, str, int, int], None],
        remark: Callable[[str], None],
    ) -> None:
        self.dataset = dataset
        self.folder = folder
        self.scale = scale
        self.selection = selection
        self.seed = seed
        self.progress = progress
        self.remark = remark
        self.environment = environment()
        self.records: dict[str, list[Record]] = {}
        self.fingerprints: dict[str, str] = {}

    def all(self, contestants: Sequence[Contestant]) -> list[Summary]:
        """Run contestants one after the other; what is matched to another comes after it."""
        found = []
        for contestant in contestants:
            try:
                found.append(self.one(contestant))
            except (CheckpointError, MissingExtraError, OptionError) as error:
                if contestant.kind != "peer":
                    raise
                self.remark(f"{contestant.name} was skipped: {error}")
        return found

    def one(self, contestant: Contestant) -> Summary:
        """Run one contestant and write its summary."""
        fingerprint = self._fingerprint(contestant)
        self.fingerprints[contestant.name] = fingerprint
        n_all = len(self.dataset.questions)
        n_done = 0

        def advance(more: int) -> None:
            nonlocal n_done
            n_done += more
            self.progress(self.dataset.name, contestant.name, n_done, n_all)

        budgets = None
        if contestant.matched_to is not None:
            others = self.records[contestant.matched_to]
            budgets = {each.id: int(each.metrics["tokens"]) for each in others if "tokens" in each.metrics}
        reset_peak_memory()
        file = RecordFile(self.folder / f"{contestant.name}.jsonl", fingerprint)
        earlier = [each for each in read_summaries(self.folder) if each.fingerprint == fingerprint]
        n_known = len(file.read())
        scale = self.scale if contestant.answered else replace(self.scale, reader=None, judge=None)
        records = run_contestant(contestant.prepare, self.dataset.questions, budgets, scale, file, advance)
        self.records[contestant.name] = records
        if earlier and n_known == len(records):  # nothing was left to do, and so nothing to say of this machine
            return earlier[0]
        counts, first = failures(records)
        summary = Summary(
            contestant=contestant.name,
            kind=contestant.kind,
            matched_to=contestant.matched_to,
            settings=contestant.settings,
            dataset=self.dataset.name,
            sha256=self.dataset.sha256,
            selection=self.selection,
            n_questions=len(records),
            n_answered=sum(record.answer is not None for record in records),
            failures=counts,
            first_failures=first,
            reader=None if scale.reader is None else scale.reader.name,
            counter=self.scale.counter.name,
            metrics=estimates(records, seed=self.seed),
            differences=paired_differences(records, self.records[ALL_DOCUMENTS], seed=self.seed)
            if contestant.name != ALL_DOCUMENTS
            else {},
            peak_memory_mib=peak_memory_mib(),
            seed=self.seed,
            environment=self.environment,
            fingerprint=fingerprint,
        )
        write_summary(self.folder, summary)
        return summary

    def _fingerprint(self, contestant: Contestant) -> str:
        reader, judge = self.scale.reader, self.scale.judge
        depends = {
            "format": FORMAT,
            "version": __version__,
            "contestant": contestant.settings,
            "matched_to": None if contestant.matched_to is None else self.fingerprints[contestant.matched_to],
            "sha256": self.dataset.sha256,
            "selection": self.selection,
            "counter": self.scale.counter.name,
            "reader": None if reader is None else reader.settings(),
            "judge": None if judge is None else judge.settings(),
            "n_answers": len(self.scale.to_answer) if contestant.answered else 0,
            "seed": self.seed,
        }
        return hashlib.sha256(json.dumps(depends, sort_keys=True, default=repr).encode()).hexdigest()
