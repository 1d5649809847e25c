"""What results depend on, in one hash: records of another state of things are never used again."""

from __future__ import annotations

import hashlib
import json
import sys
import uuid
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from ragcompress.checkpoints import fingerprint_tensors
from ragcompress.compressor import Compressor
from ragcompress.evaluation.operations import modules_of
from ragcompress.evaluation.question_files import as_record
from ragcompress.evaluation.questions import Dataset

# What shows results and computes none.
_SHOWING = ("cli", "__main__", "terminal", "html", "view", "evaluation/report")


def identity(compressor: Compressor) -> str:
    """Identify what a compressor computes with.

    Args:
        compressor: any.

    Returns:
        A hash of how it was loaded and of its weights; of one that was built by hand, which nobody can compare with
        another, a new one each time.
    """
    if compressor.spec is None:
        return f"built by hand {uuid.uuid4().hex}"
    settings = f"{_foreign_code(type(compressor))}{compressor.config!r}"
    return weights_of(compressor, settings) or settings


def weights_of(thing: object, settings: str = "") -> str:
    """Identify the weights that an object computes with.

    Args:
        thing: a compressor, or a peer.
        settings: what else it depends on.

    Returns:
        A hash; an empty string where there are no weights.
    """
    tensors = {
        f"{number}.{name}": tensor
        for number, module in enumerate(modules_of(thing))
        for name, tensor in module.state_dict().items()
    }
    return fingerprint_tensors(tensors, settings=settings) if tensors else ""


def _foreign_code(kind: type) -> str:
    """Identify the code of a backend that is not ours, as far as the file of its class goes, and its package."""
    package = kind.__module__.partition(".")[0]
    if package == "ragcompress":
        return ""
    module = sys.modules.get(kind.__module__)
    path = getattr(module, "__file__", None)
    code = hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16] if path and Path(path).is_file() else ""
    return f"{kind.__module__} {getattr(sys.modules.get(package), '__version__', '')} {code} "


def hash_of(depends: Mapping[str, Any]) -> str:
    """Hash everything that records depend on.

    Args:
        depends: by name; JSON-safe.

    Returns:
        64 hexadecimal digits.
    """
    return hashlib.sha256(json.dumps(depends, sort_keys=True, default=repr).encode()).hexdigest()


def questions_hash(dataset: Dataset) -> str:
    """Hash the questions and passages that are evaluated.

    Args:
        dataset: any.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for question in dataset.questions:
        digest.update(json.dumps(as_record(question), sort_keys=True).encode())
    return digest.hexdigest()


@cache
def code_hash() -> str:
    """Hash the library's own code, as far as it computes results: the version alone says little while it is written.

    Returns:
        16 hexadecimal digits.
    """
    root = Path(str(files("ragcompress")))
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if not name.startswith(_SHOWING):
            digest.update(name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
