"""Indexing: ``ragcompress.index`` over the encoder alone, a second run over the first, and Ray over one process."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measures import common, latent_models

if TYPE_CHECKING:
    from ragcompress import Document, IndexSummary, LanceDBStore
    from ragcompress.compressor import OfflineCompressor

INDEX, ENCODER = "ragcompress.index", "encoder alone"
LOCAL, RAY = "local", "ray"
_WARM_UP = 8
_COMPARED_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Options:
    """What varies between experiments.

    Attributes:
        datasets: names of data files without ``.jsonl``, whose different passages are taken in this order.
        part: ``"overhead"``: over the encoder alone; ``"resume"``: a second run over the first; ``"ray"``: two engines.
        encoded: passages of a run with the latent model (overhead).
        documents: passages of a run with MiniLM.
        base: see ``latent_models.base_folder`` (overhead, resume).
        dtype: of its weights.
        workers: of Ray.
        rounds: repetitions; the first run of ``"resume"`` happens once.
        threads: of torch; None: its own choice. Workers of Ray share the cores.
        seed: of the adapters.
    """

    datasets: tuple[str, ...]
    part: str
    encoded: int = 320
    documents: int = 640
    base: str = "smollm2"
    dtype: str = "bfloat16"
    workers: int = 2
    rounds: int = 2
    threads: int | None = None
    seed: int = 0


def run(options: Options) -> dict[str, Any]:
    """Measure.

    Args:
        options: of the experiment.

    Returns:
        Results with ``targets``.

    Raises:
        MissingError: data, a model, lancedb or ray is not there.
        ValueError: there is no such part.
    """
    from ragcompress import LanceDBStore, MissingExtraError

    parts = {"overhead": _overhead, "resume": _resume, "ray": _ray}
    if options.part not in parts:
        raise ValueError(f"indexing has no part {options.part!r}; known: {', '.join(parts)}.")
    threads = common.set_threads(options.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            LanceDBStore(folder / "empty")
        except MissingExtraError as error:
            raise common.MissingError(str(error)) from error
        return {"threads": threads, "part": options.part, **parts[options.part](folder, options)}


def _minilm() -> OfflineCompressor:
    import ragcompress

    return ragcompress.load("recomp-extractive", str(common.model_folder()), device="cpu")  # type: ignore[return-value]


def _over(above: Sequence[float], below: Sequence[float]) -> dict[str, Any]:
    """Two contestants that took turns: the medians divided, and the ratio of each round."""
    return {
        "value": statistics.median(above) / statistics.median(below),
        "rounds": [one / other for one, other in zip(above, below, strict=True)],
    }


# What the engine costs beside the encoder.


def _overhead(folder: Path, options: Options) -> dict[str, Any]:
    from ragcompress.backends.clara import Clara

    model = latent_models.clara_like(options.base, dtype=options.dtype, seed=options.seed)
    passages = common.read_passages(options.datasets, max(options.encoded, options.documents))
    label = f"clara, {options.base}"
    minilm = _minilm()
    compressors = {
        label: _over_encoder(
            folder / "clara", Clara(model), model.encoder, passages[: options.encoded], options.rounds
        ),
        "recomp-extractive, MiniLM": _over_encoder(
            folder / "minilm",
            minilm,
            minilm.encoder,  # type: ignore[attr-defined]
            passages[: options.documents],
            options.rounds,
        ),
    }
    ratio = compressors[label]["over_encoder_alone"]["value"]
    return {
        "model": latent_models.describe(model),
        "compressors": compressors,
        "targets": [common.target(f"{INDEX}, local engine, over the encoder alone ({options.base})", ratio, 1.1, "x")],
    }


class Recorder:
    """Stands in front of a method: notes its time, and its arguments if they are wanted."""

    def __init__(self, owner: Any, name: str) -> None:  # noqa: ANN401 (anything with methods)
        """Replace the method on this one object.

        Args:
            owner: of the method.
            name: of the method.
        """
        self._owner, self._name = owner, name
        self._method = getattr(owner, name)
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self.seconds = 0.0
        setattr(owner, name, self)

    def __call__(self, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401 (whatever the method takes and gives)
        """Call the method."""
        self.calls.append((arguments, named))
        begin = time.perf_counter()
        try:
            return self._method(*arguments, **named)
        finally:
            self.seconds += time.perf_counter() - begin

    def remove(self) -> None:
        """Bring the method back."""
        delattr(self._owner, self._name)


def _over_encoder(
    folder: Path,
    compressor: OfflineCompressor,
    encoder: Any,  # noqa: ANN401 (of sentences or of memory tokens)
    documents: list[Document],
    rounds: int,
) -> dict[str, Any]:
    """Whole runs take turns with the encoder's own calls of the first one, made again with equal arguments."""
    import ragcompress

    ragcompress.index(compressor, documents[:_WARM_UP], folder / "warm-up")
    seconds: dict[str, list[float]] = {INDEX: [], ENCODER: []}
    inside: dict[str, list[float]] = {"encoder": [], "split, tokenise, count": [], "everything else": []}
    calls: list[Any] = []
    for turn in range(rounds):
        for name in (INDEX, ENCODER) if turn % 2 == 0 else (ENCODER, INDEX):
            if name == ENCODER:
                begin = time.perf_counter()
                for arguments, named in calls:
                    encoder.encode(*arguments, **named)
                seconds[name].append(time.perf_counter() - begin)
                continue
            inner, outer = Recorder(encoder, "encode"), Recorder(compressor, "encode")
            begin = time.perf_counter()
            summary = ragcompress.index(compressor, documents, folder / str(turn))
            taken = time.perf_counter() - begin
            seconds[name].append(taken)
            inner.remove()
            outer.remove()
            assert summary.n_added == len(documents)
            calls = calls or inner.calls
            for step, value in zip(
                inside, (inner.seconds, outer.seconds - inner.seconds, taken - outer.seconds), strict=True
            ):
                inside[step].append(value)
    return {
        "documents": len(documents),
        "tokens_of_a_document": summary.n_tokens / summary.n_added,
        "portions": len(calls),
        "seconds": {name: statistics.median(each) for name, each in seconds.items()},
        "over_encoder_alone": _over(seconds[INDEX], seconds[ENCODER]),
        "seconds_inside": {step: statistics.median(each) for step, each in inside.items()},
    }


# A second run.


def _resume(folder: Path, options: Options) -> dict[str, Any]:
    """Two runs of the command over one file; it says itself how long it took after the model was loaded."""
    documents = common.read_passages(options.datasets, options.documents)
    file = folder / "corpus.jsonl"
    with file.open("w", encoding="utf-8") as lines:
        for document in documents:
            lines.write(json.dumps({"title": document.title, "text": document.text}) + "\n")
    first_whole, first = _command(file, folder / "store", options.threads)
    again = [_command(file, folder / "store", options.threads) for _ in range(options.rounds)]
    assert first["n_added"] == len(documents)
    assert all(each["n_present"] == len(documents) and not each["n_added"] for _, each in again)
    second_whole = statistics.median(whole for whole, _ in again)
    second = statistics.median(each["seconds"] for _, each in again)
    ratios = {"without loading": second / first["seconds"], "whole command": second_whole / first_whole}
    name = f"second run of a finished index of {len(documents):,} documents, over the first"
    return {
        "documents": len(documents),
        "tokens_of_a_document": first["n_tokens"] / first["n_added"],
        "seconds": {
            "first run": {"without loading": first["seconds"], "whole command": first_whole},
            "second run": {"without loading": second, "whole command": second_whole},
        },
        "second_over_first": ratios,
        "searchable_index": _resume_index(folder / "index", documents, options),
        "targets": [common.target(name, ratios["without loading"], 0.05, "x")],
    }


def _command(file: Path, store: Path, threads: int | None) -> tuple[float, dict[str, Any]]:
    """Run ``ragcompress index`` in a fresh process.

    Returns:
        Seconds of the whole process, and the summary that it writes.
    """
    settings = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    if threads is not None:
        settings["OMP_NUM_THREADS"] = str(threads)
    named = {
        "--store": store,
        "--backend": "recomp-extractive",
        "--checkpoint": common.model_folder(),
        "--device": "cpu",
        "--rejects": file.with_name("rejects.jsonl"),
    }
    flags = [str(each) for pair in named.items() for each in pair]
    command = [sys.executable, "-m", "ragcompress", "index", str(file), *flags, "--json"]
    begin = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=settings)
    seconds = time.perf_counter() - begin
    summary: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return seconds, summary


def _resume_index(folder: Path, documents: list[Document], options: Options) -> dict[str, Any]:
    """A second run over an index that can be searched, which compares ids and metadata, too.

    To encode so many passages takes too long here: random memories of the right shape stand under the right keys.
    """
    import torch

    from ragcompress import Memory, index, open_index
    from ragcompress.backends.clara import Clara

    model = latent_models.clara_like(options.base, dtype=options.dtype, seed=options.seed)
    clara = Clara(model)
    shape = (len(model.slot_tokens), model.decoder.width)
    generator = torch.Generator().manual_seed(options.seed)
    found = open_index(clara, folder, create=True)
    found.add(
        {
            clara.memory_key(document): (
                document,
                Memory(
                    torch.randn(shape, generator=generator).to(model.decoder.dtype),
                    100,
                    clara.memory_space,
                    ((0, len(document.text)),) * shape[0],
                ),
            )
            for document in documents
        }
    )
    seconds = []
    for _ in range(options.rounds):
        begin = time.perf_counter()
        summary = index(clara, documents, found)
        seconds.append(time.perf_counter() - begin)
        assert summary.n_present == len(documents)
        assert not summary.n_added
    return {"memories": "random", "slots": shape[0], "width": shape[1], "seconds": statistics.median(seconds)}


# Ray.


def _ray(folder: Path, options: Options) -> dict[str, Any]:
    from ragcompress import LanceDBStore, MissingExtraError
    from ragcompress.indexing.on_ray import require_ray

    try:
        require_ray()
    except MissingExtraError as error:
        raise common.MissingError(str(error)) from error
    documents = common.read_passages(options.datasets, options.documents)
    compressor = _minilm()
    compressor.encode(documents[:_WARM_UP])
    runs: dict[str, list[EngineRun]] = {LOCAL: [], RAY: []}
    for turn in range(options.rounds):
        for engine in (LOCAL, RAY) if turn % 2 == 0 else (RAY, LOCAL):
            place = folder / f"{engine}-{turn}"
            runs[engine].append(_engine_run(place, compressor, documents, engine, options.workers))
    wholes = {engine: [each.seconds for each in own] for engine, own in runs.items()}
    whole = _over(wholes[RAY], wholes[LOCAL])
    results: dict[str, Any] = {
        "documents": len(documents),
        "portions": runs[LOCAL][0].n_portions,
        "workers": options.workers,
        "seconds": {engine: statistics.median(each) for engine, each in wholes.items()},
        "seconds_to_the_first_portion": {
            engine: statistics.median(each.first for each in own) for engine, own in runs.items()
        },
        "ray_over_local": {"with its start": whole},
        "contents": _compared(
            *(LanceDBStore(folder / f"{engine}-0") for engine in (LOCAL, RAY)), space=compressor.memory_space
        ),
    }
    name = f"Ray, {options.workers} workers, over the local engine, its start included"
    targets = [common.target(name, whole["value"], 1.0, "x")]
    steady = [each.steady for each in runs[RAY]]
    if all(steady):
        # The local engine has no start: its whole run is its steady state.
        ratio = _over([float(each) for each in steady if each], [each / len(documents) for each in wholes[LOCAL]])
        results["ray_over_local"]["steady state"] = ratio
        results["milliseconds_of_a_document"] = {
            LOCAL: 1000 * statistics.median(wholes[LOCAL]) / len(documents),
            RAY: 1000 * statistics.median(float(each) for each in steady if each),
        }
        targets.append(common.target("the same, from the first finished portions on", ratio["value"], 1.0, "x"))
    return results | {"targets": targets}


@dataclass(frozen=True, slots=True)
class EngineRun:
    """One run of an engine.

    Attributes:
        seconds: of the whole call.
        first: until the first portion was finished.
        steady: seconds a document after as many portions as workers were finished; None: there were no more.
        n_portions: how many there were.
    """

    seconds: float
    first: float
    steady: float | None
    n_portions: int


def _engine_run(
    folder: Path, compressor: OfflineCompressor, documents: list[Document], engine: str, workers: int
) -> EngineRun:
    import ragcompress

    begin = time.perf_counter()
    finished: list[tuple[float, int]] = []

    def note(summary: IndexSummary) -> None:
        finished.append((time.perf_counter() - begin, summary.n_added))

    summary = ragcompress.index(
        compressor,
        documents,
        folder,
        engine=engine,
        workers=workers if engine == RAY else None,
        progress=note,
    )
    seconds = time.perf_counter() - begin
    assert summary.n_added == len(documents)
    steady = None
    if len(finished) > workers:
        (since, n_before), (until, n_all) = finished[workers - 1], finished[-1]
        steady = (until - since) / (n_all - n_before)
    return EngineRun(seconds, finished[0][0], steady, len(finished))


def _compared(one: LanceDBStore, other: LanceDBStore, *, space: str) -> dict[str, Any]:
    """What two stores hold, bit by bit."""
    import torch

    keys = one.keys()
    equal_keys = keys == other.keys()
    n_equal, n_besides, largest = 0, 0, 0.0
    for begin in range(0, len(keys) if equal_keys else 0, _COMPARED_AT_ONCE):
        part = keys[begin : begin + _COMPARED_AT_ONCE]
        for left, right in zip(one.get(part, space=space), other.get(part, space=space), strict=True):
            assert left is not None
            assert right is not None
            n_equal += torch.equal(left.vectors, right.vectors)
            about = [(each.n_tokens, each.spans, each.truncated, each.space) for each in (left, right)]
            n_besides += about[0] == about[1]
            if left.vectors.shape == right.vectors.shape and left.vectors.numel():
                norms = left.vectors.norm(dim=1).clamp_min(1e-12)
                largest = max(largest, float(((left.vectors - right.vectors).norm(dim=1) / norms).max()))
    return {
        "documents": len(keys),
        "equal_keys": equal_keys,
        "equal_bits": n_equal / len(keys),
        "equal_spans_and_lengths": n_besides / len(keys),
        "largest_difference_over_norm": largest,
    }
