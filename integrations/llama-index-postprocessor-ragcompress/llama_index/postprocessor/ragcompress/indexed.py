"""Between LlamaIndex's nodes and the documents that an index of memories keeps."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import replace

from llama_index.core.schema import BaseNode, TextNode
from llama_index.core.vector_stores.utils import node_to_metadata_dict
from llama_index.postprocessor.ragcompress.disarming import without_notes
from llama_index.postprocessor.ragcompress.nodes import is_compressed, to_document
from llama_index.postprocessor.ragcompress.written import CONTENT_KEY, OWN_KEYS, read_node

from ragcompress import Document, InputError, InputTypeError, copied_metadata


def to_indexed(nodes: Sequence[BaseNode], title_key: str) -> list[Document]:
    """Write nodes as documents that remember what they were.

    Args:
        nodes: of any kind, with their full text; they stay as they are.
        title_key: metadata key of a node's title.

    Returns:
        One document a node. Its metadata hold the node as LlamaIndex's vector stores keep it, without the text, beside
        the node's own metadata, so that filters find these.

    Raises:
        InputTypeError: something is no node.
        InputError: a node holds handles in the place of text, or has no form as JSON.
    """
    _check_list(nodes)
    return [_to_indexed(node, place, title_key) for place, node in enumerate(nodes)]


def _check_list(nodes: object) -> None:
    if isinstance(nodes, (BaseNode, str)) or not isinstance(nodes, Iterable):
        raise InputTypeError(
            f"nodes is a single {type(nodes).__name__}; expected a list of nodes.", hint="Put it in a list."
        )


def _to_indexed(node: object, place: int, title_key: str) -> Document:
    if not isinstance(node, BaseNode):
        raise InputTypeError(
            f"nodes[{place}] is {type(node).__name__}; expected a node, e.g. TextNode.",
            hint="Of a NodeWithScore, hand over its node: [item.node for item in items].",
        )
    if is_compressed(node):
        raise InputError(
            f"nodes[{place}] ({node.node_id}) holds handles in the place of text, which cannot be encoded once more.",
            hint="Add the nodes as they were before a RagCompressPostprocessor or RagCompressRetriever.",
        )
    # Without a text there is nothing to encode; the summary of indexing will say so.
    document = to_document(node, title_key) or Document("", node.node_id)
    metadata = without_notes(node.metadata)
    bare = node.model_copy(update={"embedding": None, "metadata": metadata})
    bare.set_content("")
    try:
        json.dumps(metadata, allow_nan=False)
        written = node_to_metadata_dict(bare, remove_text=True)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"nodes[{place}] ({node.node_id}) cannot be written as JSON: {error}",
            hint="Metadata may hold strings, numbers, lists and the like. Of an IndexNode whose obj is a retriever, "
            "say, leave obj out, and hand it over as RagCompressRetriever(object_map={index_id: obj}).",
        ) from error
    # LlamaIndex adds doc_id and the like for filters; what the node itself says under such a name counts more.
    plain = {name: value for name, value in metadata.items() if name not in OWN_KEYS}
    return replace(document, metadata=written | plain)


def from_indexed(documents: Sequence[Document], title_key: str) -> list[BaseNode]:
    """Read documents back as nodes.

    Args:
        documents: that were found, each once; of ``to_indexed``, or from anywhere else, e.g. ``ragcompress index``.
        title_key: metadata key of a node's title.

    Returns:
        One new node a document, each with an id of its own: the document's, unless it has none or a document in front
        of it has the same one.
    """
    nodes: list[BaseNode] = []
    taken: set[str] = set()
    for document in documents:
        node = _written_node(document) or _plain_node(document)
        node.metadata = without_notes(copied_metadata(node.metadata))
        if document.title:
            node.metadata.setdefault(title_key, document.title)
        if node.node_id in taken:
            # Passages that go by the name of their source: LlamaIndex would take them for one node and drop the others.
            node.id_ = _derived_id(document)
        taken.add(node.node_id)
        nodes.append(node)
    return nodes


def _written_node(document: Document) -> BaseNode | None:
    if CONTENT_KEY not in document.metadata:
        return None
    try:
        node = read_node(document.metadata, document.text)
    except (ValueError, TypeError, RecursionError):  # somebody else's entry under LlamaIndex's key
        return None
    return node if node.node_id == document.id else None


def _plain_node(document: Document) -> TextNode:
    return TextNode(text=document.text, id_=document.id or _derived_id(document), metadata=dict(document.metadata))


def _derived_id(document: Document) -> str:
    """Equal documents have equal ids, in every process."""
    content = json.dumps([document.id, document.title, document.text])
    return str(uuid.uuid5(uuid.NAMESPACE_OID, content))
