"""What checkpoints want in front of queries and of sentences, and where they say so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ragcompress import pretrained
from ragcompress.checkpoints import logger, read_json

# Asked for by model cards, declared in no file: query, document.
MODEL_CARD_PROMPTS = {
    f"intfloat/{name}": ("query: ", "passage: ")
    for name in (
        "multilingual-e5-small",
        "multilingual-e5-base",
        "multilingual-e5-large",
        "e5-small-v2",
        "e5-base-v2",
        "e5-large-v2",
    )
}
_DOCUMENT_NAMES = ("document", "passage", "corpus")
# The hub's own cache names the repository in its path.
_CACHED = re.compile(r"models--([^/\\]+)--([^/\\]+)[/\\]snapshots[/\\]")


def read_prompts(
    folder: Path, checkpoint: str | Path | None = None, *, query: str | None = None, document: str | None = None
) -> tuple[str, str]:
    """Find what a checkpoint wants in front of queries and of sentences.

    Nothing is guessed from a name that is merely alike: a folder that seems to be a copy of a checkpoint whose card
    asks for prompts gets none, and the log says so.

    Args:
        folder: of a checkpoint.
        checkpoint: the hub id that the folder came from, if it did.
        query: the caller's own; None: the checkpoint's.
        document: likewise.

    Returns:
        Both prompts; empty for RECOMP's checkpoints.
    """
    path = folder / "config_sentence_transformers.json"
    declared: dict[str, str] = (read_json(path).get("prompts") or {}) if path.is_file() else {}
    known = MODEL_CARD_PROMPTS.get(_repository(folder, checkpoint))
    own_query, own_document = known or ("", "")
    own_query = declared.get("query") or own_query
    own_document = next((declared[name] for name in _DOCUMENT_NAMES if declared.get(name)), own_document)
    open_ones = query is None or document is None
    # What we saved ourselves says truly that there are none.
    saved = (folder / pretrained.SETTINGS_FILE).is_file()
    if open_ones and known is None and not any(declared.values()) and not saved:
        _warn_of_a_copy(folder)
    return own_query if query is None else query, own_document if document is None else document


def _repository(folder: Path, checkpoint: str | Path | None) -> str:
    cached = _CACHED.search(f"{folder}/")
    return f"{cached[1]}/{cached[2]}" if cached else str(checkpoint)


def _warn_of_a_copy(folder: Path) -> None:
    full = {short: name for name in MODEL_CARD_PROMPTS for short in (name, name.rsplit("/", 1)[-1])}
    original = next((full[name] for name in _names(folder) if name in full), None)
    if original is None:
        return
    query, document = MODEL_CARD_PROMPTS[original]
    logger.warning(
        "%s seems to be %s or made from it, whose card asks for %r in front of questions and %r in front of sentences; "
        "the folder declares no prompts, and none are used. Name them: query_prompt=%r, document_prompt=%r; or '' for "
        "both, if it was trained without.",
        folder, original, query, document, query, document,
    )  # fmt: skip


def _names(folder: Path) -> Iterator[str]:
    """What a folder, its configuration and its card call the model, and the one that it was made from."""
    yield folder.resolve().name
    config = read_json(folder / "config.json") if (folder / "config.json").is_file() else None
    yield str(config.get("_name_or_path")) if isinstance(config, dict) else ""
    card = _card(folder / "README.md")
    bases = card.get("base_model")
    yield from map(str, bases if isinstance(bases, list) else [bases])
    results = card.get("model-index")
    yield from (
        str(each.get("name")) for each in (results if isinstance(results, list) else ()) if isinstance(each, dict)
    )


def _card(path: Path) -> dict[str, Any]:
    from huggingface_hub import metadata_load

    try:
        return (metadata_load(path) if path.is_file() else None) or {}
    except Exception:  # a card is written for people: whatever is in it, the model can be loaded
        return {}
