"""``ragcompress.evaluate``: does the answer survive, and what does it cost?"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ragcompress.composing.plain import info_of, read_stage
from ragcompress.compressor import Compressor
from ragcompress.errors import InputError, MissingExtraError, OptionError
from ragcompress.evaluation.baselines import NEEDED
from ragcompress.evaluation.contestants import Contestant, Loading, contestants_of, fixed_baselines
from ragcompress.evaluation.dataset_run import DatasetRun
from ragcompress.evaluation.environment import versions_of
from ragcompress.evaluation.experiments import Experiment, experiment_of, read_experiment
from ragcompress.evaluation.question_files import dataset_of, read_dataset
from ragcompress.evaluation.questions import Dataset, Selection
from ragcompress.evaluation.readers import Patience, as_reader
from ragcompress.evaluation.readers.base import ContextReader, PromptReader
from ragcompress.evaluation.record_files import open_folder
from ragcompress.evaluation.records import Summary
from ragcompress.evaluation.running import Scale
from ragcompress.options import check_range
from ragcompress.registry import find
from ragcompress.tokens import get_token_counter

AnyData = str | Path | Dataset
AnyExperiment = Experiment | Compressor | Mapping[str, Any] | str | Path
OWN_READER = "own"


def evaluate(
    data: AnyData | Sequence[AnyData],
    experiments: AnyExperiment | Sequence[AnyExperiment],
    *,
    reader: object = None,
    reader_options: Mapping[str, Any] | None = None,
    judge: object = None,
    judge_options: Mapping[str, Any] | None = None,
    out: str | Path = "results",
    limit: int | None = None,
    n_docs: int | None = None,
    gold_only: bool = False,
    shuffle_docs: int | None = None,
    split: str | None = None,
    n_answers: int | None = None,
    counter: object = None,
    device: str | None = None,
    seed: int = 0,
    skip_bad: bool = False,
    restart: bool = False,
    progress: Callable[[str, str, int, int], None] | None = None,
    remark: Callable[[str], None] | None = None,
) -> list[Summary]:
    """Compress the passages of questions, answer with what is left, and measure both; see the documentation.

    Run it again after an interruption, or with more experiments: only what is missing is done. Records are used again
    only where nothing that they depend on has changed: questions, options, weights, libraries, machine, and the code of
    this library. What a compressor does that was built by hand nobody can know, so it always begins anew.

    Args:
        data: files of questions, names of published datasets, or what ``read_dataset`` gives.
        experiments: what is compared: ``Experiment``, compressors, dictionaries (plain forms of compressors, or of
            experiments), files of YAML.
        reader: answers: a path or hub id, ``"openai:MODEL"``, ``"own"`` (that of the one latent compressor), an LLM
            object of LangChain or LlamaIndex, a ``ContextReader``; None: nobody answers.
        reader_options: of the reader, where it is given as a string: ``base_url``, ``dtype``, ``max_new_tokens``, ...
        judge: says whether answers are right; as ``reader``, but not ``"own"``. None: nobody does.
        judge_options: as ``reader_options``.
        out: folder of the results.
        limit: only the first so many questions of each dataset; a ``Dataset`` has its own selection.
        n_docs: only the first so many passages of each question.
        gold_only: only the passages that support the answer.
        shuffle_docs: seed of an order of the passages; None: as they are.
        split: of published datasets, e.g. ``"test"``; None: the one with answers that nobody trains on.
        n_answers: only the first so many questions are answered; None: all; 0: none, and lengths are still in the
            tokens of the reader.
        counter: what a token is; None: a token of the reader, a word without one.
        device: of compressors in plain form and of a reader given as a string; None: the best there is.
        seed: of everything drawn.
        skip_bad: leave out records that cannot be used, rather than stop before any work is done.
        restart: throw away what an earlier run has left, rather than go on with it.
        progress: told dataset, contestant, questions done, questions in all.
        remark: told what was left out, in a line each.

    Returns:
        A summary for each dataset and contestant.

    Raises:
        InputError: data cannot be used, or the folder holds results of other data.
        OptionError: an option, an experiment or a reader does not exist or cannot be combined.
        RagCompressError: a compressor or a reader cannot be loaded.
    """
    check_range("n_answers", n_answers, at_least=0, whole=True)
    check_range("seed", seed, at_least=0, whole=True)
    compared = _experiments(experiments)
    selection = Selection(limit, n_docs, gold_only, shuffle_docs)
    _check_packages(compared)
    datasets = _datasets(data, selection, split=split, skip_bad=skip_bad)
    _check_readers(compared, reader, reader_options, judge, judge_options)
    loading = Loading(device)
    answering, judging = _readers(compared, loading, reader, reader_options, judge, judge_options)
    chosen = get_token_counter("words" if counter is None else counter)
    if answering is not None and counter is None:
        chosen = answering.token_counter
    contestants = fixed_baselines(chosen)
    for experiment in compared:
        contestants += contestants_of(experiment, loading, counter=chosen, seed=seed, reader=answering)
    contestants = _named_once(contestants)
    folders = [open_folder(Path(out), dataset) for dataset in datasets]
    patience = Patience()
    summaries: list[Summary] = []
    for dataset, folder in zip(datasets, folders, strict=True):
        for line in dataset.skipped:
            (remark or _ignored)(f"left out: {line}")
        answered = frozenset(question.id for question in dataset.questions[:n_answers]) if answering else frozenset()
        scale = Scale(chosen, answering, judging, answered, patience)
        run = DatasetRun(
            dataset, folder, scale, seed=seed, restart=restart, progress=progress or _ignored, remark=remark or _ignored
        )
        summaries += run.run(contestants)
    return summaries


def _readers(
    experiments: Sequence[Experiment],
    loading: Loading,
    reader: object,
    reader_options: Mapping[str, Any] | None,
    judge: object,
    judge_options: Mapping[str, Any] | None,
) -> tuple[ContextReader | None, PromptReader | None]:
    """Build what answers and what judges."""
    if reader == OWN_READER:
        compressor = loading.compressor(experiments[0])
        answering = as_reader(compressor.reader(), **(reader_options or {}))
    else:
        answering = as_reader(reader, **{**_device(reader, loading.device), **(reader_options or {})})
    judging = as_reader(judge, **{**_device(judge, loading.device), **(judge_options or {})})
    if judging is not None and not isinstance(judging, PromptReader):
        raise OptionError("the judge must be a language model that reads a prompt.")
    for each in (answering, judging):
        _check_settings(each)
    vectors = _vector_names(experiments)
    if vectors and isinstance(answering, PromptReader):
        raise OptionError(
            f"{vectors[0]} makes vectors, which {answering.name} cannot read.", hint="Its decoder does: reader='own'."
        )
    return answering, judging


def _check_settings(reader: ContextReader | None) -> None:
    """Refuse settings that tell no two readers apart, or that cannot be written down."""
    if reader is None:
        return
    settings = reader.settings()
    try:
        json.dumps(settings, allow_nan=False)
        told = isinstance(settings, Mapping) and bool(settings)
    except (TypeError, ValueError, RecursionError):
        told = False
    if not told:
        raise OptionError(
            f"settings() of the reader {type(reader).__name__} gave {settings!r:.80}; expected a dictionary of "
            "strings, numbers and the like.",
            hint="Say what its answers depend on, or leave settings() out: then they are never used again.",
        )


def _device(reader: object, device: str | None) -> dict[str, Any]:
    """The device of a reader whose weights are loaded here."""
    return {"device": device} if isinstance(reader, (str, Path)) and device is not None else {}


def _named_once(contestants: Sequence[Contestant]) -> list[Contestant]:
    """Refuse two that would be written into one file; a peer that stands in several experiments runs once."""
    found: dict[str, Contestant] = {}
    for each in contestants:
        other = found.setdefault(each.name.casefold(), each)
        alike = (other.kind, other.settings, other.matched_to) == ("peer", each.settings, each.matched_to)
        if other is not each and not (each.kind == "peer" and alike):
            raise OptionError(
                f"two contestants are called {each.name!r}.", hint="Name experiments and labels of peers otherwise."
            )
        found[each.name.casefold()] = replace(other, answered=other.answered or each.answered)
    return list(found.values())


def _check_packages(experiments: Sequence[Experiment]) -> None:
    """Refuse a baseline that cannot run before anything is read: its compressor's answers may have been dear."""
    for baseline in dict.fromkeys(name for each in experiments for name in each.baselines):
        absent = [package for package in NEEDED.get(baseline, ()) if not versions_of((package,))]
        if absent:
            raise MissingExtraError(
                f"the baseline {baseline} needs {' and '.join(absent)}.", hint="pip install 'ragcompress[evaluation]'"
            )


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


def _datasets(
    given: AnyData | Sequence[AnyData], selection: Selection, *, split: str | None, skip_bad: bool
) -> list[Dataset]:
    found: list[Dataset] = []
    listed = [given] if isinstance(given, (str, Path, Dataset)) else list(given)
    if split is not None and not any(map(_is_name, listed)):
        raise OptionError(f"split {split!r} is of published datasets, and there is none.", hint="Leave it out.")
    for each in listed:
        if isinstance(each, Dataset) and selection not in (Selection(), each.selection):
            raise OptionError(
                f"{each.name} was selected already: {each.selection}, and not {selection}.",
                hint="Select when it is read: read_dataset(path, Selection(...)).",
            )
        if not isinstance(each, (str, Path, Dataset)):
            raise InputError(
                f"data are files, names or a Dataset, got {type(each).__name__}.",
                hint="Records become one: dataset_of('name', records), from ragcompress.evaluation.",
            )
        found.append(each if isinstance(each, Dataset) else _read(each, selection, split, skip_bad=skip_bad))
    if not found:
        raise InputError("there is no data; name at least one file.")
    names = [dataset.name for dataset in found]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two datasets are called {name!r}.", hint="Rename one of the files.")
    return found


def _is_name(data: AnyData) -> bool:
    """Whether it is a published dataset's, and not a file's."""
    from ragcompress.evaluation.hub import NAMED

    if not isinstance(data, str) or Path(data).exists():
        return False
    return data.partition("=")[0] in NAMED or not Path(data).suffix


def _read(data: str | Path, selection: Selection, split: str | None, *, skip_bad: bool) -> Dataset:
    """A file, or a published dataset by its name."""
    from ragcompress.evaluation.hub import load_named

    if isinstance(data, str) and _is_name(data):
        limit = None if selection.gold_only else selection.limit
        loaded = load_named(data, split=split, limit=limit, skip_bad=skip_bad)
        dataset = dataset_of(data.partition("=")[0], loaded.records, selection, skip_bad=skip_bad)
        return replace(dataset, skipped=(*loaded.skipped, *dataset.skipped), source=loaded.source)
    return read_dataset(data, selection, skip_bad=skip_bad)


def _vector_names(experiments: Sequence[Experiment]) -> list[str]:
    """Experiments whose compressors make vectors."""
    found = []
    for each in experiments:
        if isinstance(each.compressor, Compressor):
            info = each.compressor.info
        else:
            backend, _, options = read_stage(each.compressor)
            info = info_of(find(backend), options)
        found += [each.name] if info.kind == "vectors" else []
    return found


def _check_readers(
    experiments: Sequence[Experiment],
    reader: object,
    reader_options: Mapping[str, Any] | None,
    judge: object,
    judge_options: Mapping[str, Any] | None,
) -> None:
    """Refuse what cannot be, before anything is loaded."""
    if reader is None and judge is not None:
        raise OptionError("a judge needs answers, and so a reader.", hint="Name one, e.g. reader='models/qwen.gguf'.")
    for what, given, options in (("reader", reader, reader_options), ("judge", judge, judge_options)):
        if given is None and options:
            raise OptionError(
                f"{', '.join(options)} came without a {what}.", hint=f"Name the {what}, or leave them out."
            )
    vectors = _vector_names(experiments)
    if judge == OWN_READER:
        raise OptionError("the judge must be a language model that reads a prompt.")
    if reader == OWN_READER and (len(experiments) != 1 or not vectors):
        raise OptionError(
            "reader='own' is the decoder of a latent compressor: it needs exactly one experiment, with such a one.",
            hint="Evaluate each latent compressor by itself; for text name a model.",
        )
    if vectors and isinstance(reader, str) and reader != OWN_READER:
        raise OptionError(
            f"{vectors[0]} makes vectors, which {reader} cannot read.", hint="Its decoder does: reader='own'."
        )
