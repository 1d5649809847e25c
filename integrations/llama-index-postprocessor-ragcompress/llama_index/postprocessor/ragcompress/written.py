"""Nodes read back from what LlamaIndex writes of them, which a file can write as well: little of it is believed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from llama_index.core.schema import BaseNode, ImageNode, IndexNode, Node, TextNode
from llama_index.postprocessor.ragcompress.disarming import harmless, harmless_value, without_notes

# Where LlamaIndex's own way of writing a node as metadata puts everything that is no plain metadata,
CONTENT_KEY = "_node_content"
OWN_KEYS = (CONTENT_KEY, "_node_type")
# and where it puts the id of a node's source, so that filters find it.
_SOURCE_KEYS = ("document_id", "doc_id", "ref_doc_id")

_KINDS: dict[str, type[TextNode | Node]] = {kind.class_name(): kind for kind in (TextNode, IndexNode, ImageNode, Node)}
# No class of its own choice, no vectors, no path of this machine: these would be opened for whoever wrote the file.
_EVERY_KIND = (
    "relationships",
    "excluded_embed_metadata_keys",
    "excluded_llm_metadata_keys",
    "metadata_separator",
    "mimetype",
    "start_char_idx",
    "end_char_idx",
)
_ONE_KIND: dict[type, tuple[str, ...]] = {IndexNode: ("index_id",), ImageNode: ("image", "image_mimetype")}
_RESOURCES = ("image_resource", "audio_resource", "video_resource")
_TEMPLATES = {"metadata_template": {"{key}", "{value}"}, "text_template": {"{metadata_str}", "{content}"}}


def read_node(metadata: Mapping[str, Any], text: str) -> BaseNode:
    """Read a node from the metadata of a document.

    Args:
        metadata: of the document, what LlamaIndex wrote among them.
        text: of the document.

    Returns:
        The node. Its metadata are those of the document.

    Raises:
        ValueError: there is no node, or none that can be read; as are the others.
        TypeError: see above.
        RecursionError: see above.
    """
    written = harmless_value(json.loads(metadata[CONTENT_KEY]))
    if not isinstance(written, dict) or not isinstance(own := written.get("metadata", {}), dict):
        raise ValueError("somebody else's entry under LlamaIndex's key")
    node = _built(written, metadata.get("_node_type"), text)
    source = node.ref_doc_id or "None"
    added = {name for name in _SOURCE_KEYS if name not in own and metadata.get(name) == source}
    plain = {name: value for name, value in metadata.items() if name not in OWN_KEYS and name not in added}
    plain |= {name: own[name] for name in OWN_KEYS if name in own}
    node.metadata = {name: plain[name] for name in dict.fromkeys([*own, *plain]) if name in plain}
    return node


def _built(written: dict[str, Any], kind_name: object, text: str) -> BaseNode:
    """Without metadata."""
    kind = _KINDS.get(str(kind_name), TextNode)
    names = ("id_", *_EVERY_KIND, *_ONE_KIND.get(kind, ()))
    fields = {name: written[name] for name in names if name in written and name in kind.model_fields}
    fields |= {name: written[name] for name, known in _TEMPLATES.items() if _is_plain(written.get(name), known)}
    if kind is ImageNode and _is_remote(written.get("image_url")):
        fields["image_url"] = written["image_url"]
    if kind is Node:
        fields |= {name: _resource(written[name]) for name in _RESOURCES if written.get(name)}
    node = kind(**fields)
    node.set_content(text)
    if isinstance(node, IndexNode):
        node.obj = _target(written.get("obj"))
    return node


def _target(written: object) -> BaseNode | None:
    """What an ``IndexNode`` stands for: LlamaIndex goes on to it by itself, past everything else that disarms texts."""
    data = written.get("__data__") if isinstance(written, dict) else None
    if not isinstance(data, dict) or not isinstance(metadata := data.get("metadata", {}), dict):
        return None
    resource = data.get("text_resource")
    text = resource.get("text") if isinstance(resource, dict) else data.get("text")
    node = _built(data, data.get("class_name"), text or "")
    node.metadata = without_notes(metadata)
    return harmless(node)


def _is_plain(template: object, fields: set[str]) -> bool:
    """Whether a template only says where things go: one that says how could ask for a gigabyte of blanks."""
    if not isinstance(template, str):
        return False
    found = re.findall(r"\{[^{}]*\}|[{}]", template)
    return set(found) <= fields and len(set(found)) == len(found)


def _resource(written: object) -> dict[str, Any] | None:
    if not isinstance(written, dict) or not _is_remote(written.get("url")):
        return None
    return {name: written[name] for name in ("url", "mimetype") if name in written}


def _is_remote(address: object) -> bool:
    return isinstance(address, str) and address.startswith(("https://", "http://"))
