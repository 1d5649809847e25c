"""Stages in plain configuration form: how they are checked, loaded and written down."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ragcompress.composing.refining import ContextCompressor
from ragcompress.compressor import BackendInfo, Compressor, LoadSpec
from ragcompress.errors import OptionError, RagCompressError
from ragcompress.registry import find, load

_OWN = ("backend", "checkpoint", "options")


def describe(stage: object) -> str:
    """Name a stage in few words, for error messages.

    Args:
        stage: a compressor, its plain form, or whatever else came.

    Returns:
        The name of its backend, or of its type.
    """
    name = stage.get("backend") if isinstance(stage, Mapping) else getattr(stage, "name", None)
    return name if isinstance(name, str) and name else type(stage).__name__


@contextmanager
def named_stage(number: int, stage: object) -> Iterator[None]:
    """Say in an error of ours which stage it is about.

    Args:
        number: of the stage, from 1.
        stage: a compressor or its plain form.

    Yields:
        Nothing.

    Raises:
        RagCompressError: the same error, with the stage in front of its message.
    """
    try:
        yield
    except RagCompressError as error:
        error.args = (f"stage {number} ({describe(stage)}): {error}",)
        raise


def read_stage(stage: Mapping[str, Any]) -> tuple[str, str | None, dict[str, Any]]:
    """Read the plain form of a stage.

    >>> read_stage({"backend": "recomp-extractive", "top_k": 12})
    ('recomp-extractive', None, {'top_k': 12})

    Args:
        stage: ``backend``, ``checkpoint`` if there is one, and options of ``ragcompress.load``, beside these or in a
            dictionary ``options``.

    Returns:
        Backend, checkpoint and options.

    Raises:
        OptionError: it names no backend, or an option twice.
    """
    backend, checkpoint, options = (stage.get(name) for name in _OWN)
    if not isinstance(backend, str):
        raise OptionError(
            f"a dictionary with {', '.join(map(repr, stage)) or 'nothing in it'} names no backend.",
            hint="E.g. {'backend': 'token-budget', 'max_tokens': 200}.",
        )
    if options is not None and not isinstance(options, Mapping):
        raise OptionError(f"options must be a dictionary, got {type(options).__name__}.")
    beside = {name: value for name, value in stage.items() if name not in _OWN}
    if twice := sorted(set(beside) & set(options or {})):
        raise OptionError(f"{', '.join(twice)} stands both in options and beside them; name it once.")
    return backend, checkpoint, {**(options or {}), **beside}


def write_stage(spec: LoadSpec) -> dict[str, Any]:
    """Write down how a compressor was loaded.

    Args:
        spec: of the compressor.

    Returns:
        What ``read_stage`` reads.
    """
    own = {"backend": spec.backend} | ({} if spec.checkpoint is None else {"checkpoint": spec.checkpoint})
    if set(spec.options) & set(_OWN):  # an option of the backend that is called like one of ours
        return {**own, "options": dict(spec.options)}
    return {**own, **spec.options}


def check_stage(stage: Mapping[str, Any]) -> BackendInfo:
    """Check the plain form of a stage without loading anything.

    Args:
        stage: see ``read_stage``.

    Returns:
        What the stage will be.

    Raises:
        OptionError: an option does not exist or is out of range.
        UnknownBackendError: no such backend.
    """
    backend, _, options = read_stage(stage)
    found = find(backend)
    found.check_options(**options)
    return info_of(found, options)


def load_stage(stage: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> Compressor:
    """Load a stage.

    Args:
        stage: see ``read_stage``.
        defaults: options that hold unless the stage names them.

    Returns:
        The compressor.

    Raises:
        RagCompressError: see ``ragcompress.load``.
    """
    backend, checkpoint, options = read_stage(stage)
    return load(backend, checkpoint, **{**(defaults or {}), **options})


def info_of(backend: type[Compressor], options: Mapping[str, Any]) -> BackendInfo:
    """Say what a compressor will be, without loading it: a pipeline is what its stages make of it.

    Args:
        backend: as the registry finds it.
        options: for ``ragcompress.load``; checked already.

    Returns:
        What the loaded compressor's ``info`` will say.
    """
    from ragcompress.composing.pipeline import Pipeline

    if not issubclass(backend, Pipeline):
        return backend.info
    return backend.combined([_info(stage) for stage in options["stages"]])


def _info(stage: Compressor | Mapping[str, Any]) -> BackendInfo:
    if isinstance(stage, Compressor):
        return stage.info
    name, _, options = read_stage(stage)
    return info_of(find(name), options)


def check_stages(stages: object) -> list[BackendInfo]:
    """Check the stages of a pipeline without loading anything.

    Args:
        stages: what the caller gave.

    Returns:
        What each of them is or will be.

    Raises:
        OptionError: there is none, one is no stage, an option is wrong, or one that makes vectors is not the last.
    """
    if isinstance(stages, (str, bytes, Mapping)) or not isinstance(stages, Sequence):
        raise OptionError(
            f"stages must be a list of compressors or dictionaries, got {type(stages).__name__}.",
            hint="E.g. stages=[{'backend': 'recomp-extractive'}, {'backend': 'token-budget', 'max_tokens': 200}].",
        )
    if not stages:
        raise OptionError("a pipeline needs at least one stage, got none.")
    infos = []
    for number, stage in enumerate(stages, 1):
        if isinstance(stage, Mapping):
            with named_stage(number, stage):
                infos.append(check_stage(stage))
        elif isinstance(stage, Compressor):
            infos.append(stage.info)
        else:
            name = f" {stage!r}" if isinstance(stage, str) else ""
            raise OptionError(
                f"stage {number} is {type(stage).__name__}{name}; expected a compressor or a dictionary.",
                hint="E.g. {'backend': 'token-budget', 'max_tokens': 200}.",
            )
    for number, info in enumerate(infos[:-1], 1):
        if info.kind == "vectors":
            raise OptionError(
                f"stage {number} ({describe(stages[number - 1])}) makes vectors, which stage {number + 1} "
                f"({describe(stages[number])}) cannot read.",
                hint="Only the last stage may make vectors.",
            )
    return infos


def refines(stage: Compressor | Mapping[str, Any]) -> bool:
    """Say whether a stage reads segments rather than documents.

    Args:
        stage: a compressor or its plain form, checked already.

    Returns:
        True for a ``ContextCompressor``.
    """
    return issubclass(find(stage["backend"]) if isinstance(stage, Mapping) else type(stage), ContextCompressor)
