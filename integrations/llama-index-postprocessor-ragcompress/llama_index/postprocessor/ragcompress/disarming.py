"""Nodes without the handles that somebody wrote into them: a prompt would take these for genuine."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from llama_index.core.schema import BaseNode, MetadataMode, Node
from llama_index.postprocessor.ragcompress.counting import count_handles

from ragcompress import NOTE_KEY, ORIGINAL_KEY, copied_metadata, neutralise


def harmless(node: BaseNode) -> BaseNode:
    """Copy a node without the handles that somebody wrote into its text or metadata.

    Args:
        node: of any kind.

    Returns:
        A new one that may stand in a prompt.
    """
    made = copied(node)
    text = made.get_content(MetadataMode.NONE)
    if neutralise(text) != text:
        set_text(made, neutralise(text))
    disarm_templates(made)
    return made


def copied(node: BaseNode) -> BaseNode:
    """Copy deeply, without the handles that somebody wrote into the metadata.

    Args:
        node: of any kind.

    Returns:
        A new one. What an ``IndexNode`` points at is shared: a retriever, say, is no part of the node.
    """
    target = getattr(node, "obj", None)
    # Values that cannot be copied, a connection, say, are shared as well: they must not fail a query.
    metadata = copied_metadata(node.metadata)
    known = {id(node.metadata): metadata} | ({} if target is None else {id(target): target})
    made = copy.deepcopy(node, known)
    _disarm(made)
    return made


def _disarm(node: BaseNode) -> None:
    """Make handles harmless that somebody wrote into metadata which prompts show: they would be read as genuine."""
    hidden = {NOTE_KEY, ORIGINAL_KEY} & set(node.excluded_llm_metadata_keys)
    shown = {key: value for key, value in node.metadata.items() if key not in hidden}
    if neutralise(written := str(shown)) == written:
        return
    node.metadata = {
        neutralise(key): value if key in hidden else harmless_value(value) for key, value in node.metadata.items()
    }
    for name in ("excluded_llm_metadata_keys", "excluded_embed_metadata_keys"):
        setattr(node, name, [neutralise(key) for key in getattr(node, name)])


def disarm_templates(node: BaseNode) -> None:
    """Take LlamaIndex's own templates where those of a node make a handle, be it out of harmless pieces.

    Args:
        node: changes; its text and metadata are harmless, or written by us.
    """
    names = [name for name in ("metadata_template", "metadata_separator", "text_template") if hasattr(node, name)]
    own = {name: type(node).model_fields[name].default for name in names}
    if all(getattr(node, name) == template for name, template in own.items()):
        return
    n_genuine = count_handles(node.get_content(MetadataMode.NONE))
    for mode in (MetadataMode.LLM, MetadataMode.EMBED):
        try:
            n_found = count_handles(node.get_content(mode)), count_handles(node.get_metadata_str(mode))
        except (LookupError, ValueError, AttributeError):  # it shows nothing at all
            continue
        if n_found[0] > n_genuine or n_found[1]:
            for name, template in own.items():
                setattr(node, name, template)


def without_notes(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what an earlier compressor noted: of another text it is not true, and a file can write it as well.

    Args:
        metadata: of a node or a document.

    Returns:
        The others.
    """
    return {name: value for name, value in metadata.items() if name not in (NOTE_KEY, ORIGINAL_KEY)}


def harmless_value(value: Any) -> Any:  # noqa: ANN401 (metadata may hold anything)
    """Copy what metadata hold, without the handles that somebody wrote into it.

    Args:
        value: any.

    Returns:
        The same where there are none; where an object shows one, the text that it shows.
    """
    if isinstance(value, dict):
        found: Any = {harmless_value(key): harmless_value(each) for key, each in value.items()}
    elif isinstance(value, list):
        found = [harmless_value(each) for each in value]
    else:
        found = value
    # Prompts show what str() makes of a value.
    return found if neutralise(written := str(found)) == written else neutralise(written)


def set_text(node: BaseNode, text: str) -> None:
    """Replace the text, and forget what was true of the old one only: offsets and embeddings.

    Args:
        node: changes.
        text: the new one.
    """
    if isinstance(node, Node) and node.text_resource is not None:
        # set_content would lose the mimetype.
        node.text_resource = node.text_resource.model_copy(update={"text": text, "data": None, "embeddings": None})
    else:
        node.set_content(text)
    for name in ("embedding", "text_embedding", "start_char_idx", "end_char_idx"):
        if name in type(node).model_fields:
            setattr(node, name, None)
