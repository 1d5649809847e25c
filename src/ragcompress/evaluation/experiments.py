"""What is compared: a compressor with its options and its peers, from a file, a dictionary or an object."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from ragcompress.compressor import Compressor
from ragcompress.errors import InputError, OptionError, unknown_name_message
from ragcompress.evaluation.baselines import ALL_DOCUMENTS, MATCHED, NO_CONTEXT
from ragcompress.options import check_choice

# Names become file names.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
YAML_ENDINGS = (".yaml", ".yml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """A compressor to evaluate, and what it is compared with at equal length.

    Attributes:
        name: of the contestant; letters, digits, ``.``, ``_`` and ``-``.
        compressor: an object, or its plain form: ``backend``, ``checkpoint`` if there is one, and options of
            ``ragcompress.load``.
        baselines: of ``first-tokens``, ``random-sentences`` and ``bm25-sentences``, each cut to this compressor's
            length, question by question.
        peers: other people's compressors at the same length: dictionaries with ``name`` and options, or names.
        answered: whether the reader is asked about ``"all"`` of these, about the ``"compressor"`` alone, about that and
            a list of baselines and peers, or about ``"none"``: reading takes most of the time of an evaluation.
    """

    name: str
    compressor: Compressor | Mapping[str, Any]
    baselines: Sequence[str] = tuple(MATCHED)
    peers: Sequence[str | Mapping[str, Any]] = field(default=())
    answered: Literal["all", "compressor", "none"] | Sequence[str] = "all"

    def __post_init__(self) -> None:
        """Check everything that can be wrong without loading anything.

        Raises:
            OptionError: a name does not exist or cannot be one, or an option is wrong.
            UnknownBackendError: no such backend.
        """
        _check_name(self.name, "an experiment")
        for name, value in (("baselines", self.baselines), ("peers", self.peers)):
            if isinstance(value, (str, Mapping)) or not isinstance(value, Sequence):
                raise OptionError(f"{name} must be a list, got {value!r}.")
        for baseline in self.baselines:
            if not isinstance(baseline, str) or baseline not in MATCHED:
                raise OptionError(unknown_name_message("baseline", baseline, list(MATCHED)))
        if not isinstance(self.compressor, Compressor):
            self._check_plain()
        from ragcompress.evaluation.peers import check_peer

        for peer in self.peers:
            label, name, options = read_peer(peer)
            _check_name(label, "a peer")
            check_peer(name, options)
        compared = [*self.baselines, *(read_peer(peer)[0] for peer in self.peers)]
        for label in compared:
            if compared.count(label) > 1:
                raise OptionError(f"{label!r} stands twice in {self.name!r}.", hint="Give a peer a label of its own.")
        if isinstance(self.answered, str):
            check_choice("answered", self.answered, ("all", "compressor", "none"))
        elif not isinstance(self.answered, Sequence):
            raise OptionError(
                f"answered must be 'all', 'compressor', 'none' or a list, got {self.answered!r}.",
                hint="YAML takes no, off and ~ for something else.",
            )
        else:
            for label in self.answered:
                if label not in compared:
                    raise OptionError(unknown_name_message("entry of answered", label, compared))

    def _check_plain(self) -> None:
        from ragcompress.composing.plain import check_stage

        if not isinstance(self.compressor, Mapping):
            raise OptionError(
                f"compressor must be a compressor or a dictionary, got {type(self.compressor).__name__}.",
                hint="E.g. {'backend': 'recomp-extractive', 'top_k': 6}.",
            )
        check_stage(self.compressor)


def _check_name(name: object, what: str) -> None:
    """Refuse a name that cannot be that of a file of results."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise OptionError(
            f"the name of {what} must be letters, digits, '.', '_' and '-', got {name!r}.",
            hint="It becomes the name of a file.",
        )
    if "--" in name or name.casefold() == "questions":
        raise OptionError(
            f"{what} cannot be called {name!r}.",
            hint="'--' stands between a compressor and what is cut to its length; 'questions' names another file.",
        )
    if name.casefold() in (NO_CONTEXT, ALL_DOCUMENTS):
        raise OptionError(f"the name {name!r} is that of a baseline.", hint=f"Name {what} otherwise.")


def read_peer(peer: str | Mapping[str, Any]) -> tuple[str, str, dict[str, Any]]:
    """Read the plain form of a peer.

    >>> read_peer({"name": "cross-encoder", "label": "reranker", "checkpoint": "models/reranker"})
    ('reranker', 'cross-encoder', {'checkpoint': 'models/reranker'})

    Args:
        peer: a name, or a dictionary with ``name``, options, and a ``label`` where one peer comes twice.

    Returns:
        Label (the name, if there is none), name and options.

    Raises:
        OptionError: it is neither.
    """
    if isinstance(peer, str):
        return peer, peer, {}
    if not isinstance(peer, Mapping) or not isinstance(peer.get("name"), str):
        raise OptionError(f"a peer is a name or a dictionary with a name, got {peer!r}.")
    options = {name: value for name, value in peer.items() if name not in ("name", "label")}
    return str(peer.get("label", peer["name"])), peer["name"], options


def read_experiment(path: str | Path) -> Experiment:
    """Read an experiment from a file of YAML.

    Args:
        path: of the file; its name is the experiment's unless that names itself.

    Returns:
        The experiment.

    Raises:
        InputError: the file cannot be read.
        OptionError: it names something that does not exist; says which file.
    """
    import yaml

    path = Path(path)
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        hint = (
            None
            if path.suffix in YAML_ENDINGS
            else f"A file of YAML is expected; a backend is {{'backend': '{path}'}}."
        )
        raise InputError(f"the experiment {path} does not exist.", hint=hint) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the experiment {path} cannot be read: {error}.") from error
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        where = f":{place.line + 1}" if place is not None else ""
        raise InputError(f"{path}{where}: not valid YAML: {getattr(error, 'problem', None) or error}.") from error
    return experiment_of(found, name=path.stem, place=str(path))


def experiment_of(found: object, *, name: str, place: str) -> Experiment:
    """Build an experiment from a dictionary.

    Args:
        found: fields of ``Experiment``; a list of stages in the place of the compressor is a pipeline.
        name: unless it names itself.
        place: for messages.

    Returns:
        The experiment.

    Raises:
        OptionError: it names something that does not exist; says where.
    """
    known = [each.name for each in fields(Experiment)]
    if not isinstance(found, Mapping) or "compressor" not in found:
        came = ", ".join(map(repr, found)) if isinstance(found, Mapping) else type(found).__name__
        raise OptionError(
            f"{place}: an experiment names a compressor, got {came}.",
            hint="E.g. compressor: {backend: recomp-extractive, top_k: 6}",
        )
    for key in found:
        if key not in known:
            raise OptionError(f"{place}: {unknown_name_message('field', key, known)}")
    compressor = found["compressor"]
    if isinstance(compressor, list):
        compressor = {"backend": "pipeline", "stages": compressor}
    try:
        return Experiment(**{"name": name, **found, "compressor": compressor})
    except OptionError as error:
        error.args = (f"{place}: {error}",)
        raise
