"""Vocabularies of tiktoken, which downloads them on first use: found on disk, or the peer is skipped."""

from __future__ import annotations

import os
import tempfile
from importlib.util import find_spec
from pathlib import Path

# The names under which tiktoken keeps them.
_FILES = {
    "cl100k_base": "9b5ad71b2ce5302211f9c61530b329a4922fc6a4",
    "o200k_base": "fb374d419588a4632f3f557e76b4b70aebbca790",
}


def vocabulary_folder(name: str) -> Path | None:
    """Find a vocabulary: in tiktoken's own cache, else in the copy inside of llama-index-core.

    Args:
        name: of the vocabulary.

    Returns:
        The folder; None: it is nowhere.
    """
    own = next((os.environ[key] for key in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR") if key in os.environ), None)
    folders = [Path(own or tempfile.gettempdir()) / ("" if own else "data-gym-cache")]
    try:
        spec = find_spec("llama_index.core")
    except ModuleNotFoundError:
        spec = None
    if spec is not None and spec.origin is not None:
        folders.append(Path(spec.origin).parent / "_static" / "tiktoken_cache")
    return next((folder for folder in folders if (folder / _FILES[name]).is_file()), None)


def missing_vocabulary(peer: str, name: str) -> str | None:
    """Say why a peer that needs a vocabulary cannot run.

    Args:
        peer: its name.
        name: of the vocabulary.

    Returns:
        What is missing and how to get it; None: it is there.
    """
    if vocabulary_folder(name) is not None:
        return None
    return (
        f"{peer} needs tiktoken's vocabulary {name}, which is not on this machine. Where there is a network, "
        f"python -c \"import tiktoken; tiktoken.get_encoding('{name}')\" fetches it; pip install llama-index-core "
        "brings a copy."
    )


def load_vocabulary(name: str) -> None:
    """Have tiktoken read a vocabulary from disk; it keeps it for the life of the process.

    Args:
        name: of the vocabulary, which must be there.
    """
    import tiktoken

    folder = vocabulary_folder(name)
    assert folder is not None  # or the peer would have been skipped
    before = os.environ.get("TIKTOKEN_CACHE_DIR")
    os.environ["TIKTOKEN_CACHE_DIR"] = str(folder)
    try:
        tiktoken.get_encoding(name)
    finally:
        if before is None:
            del os.environ["TIKTOKEN_CACHE_DIR"]
        else:
            os.environ["TIKTOKEN_CACHE_DIR"] = before
