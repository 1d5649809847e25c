"""Between LlamaIndex's nodes and ragcompress's documents; every node that goes out is a new one."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import Any

from llama_index.core.schema import BaseNode, ImageNode, MetadataMode, Node, NodeWithScore, TextNode
from llama_index.postprocessor.ragcompress.counting import holds_handle
from llama_index.postprocessor.ragcompress.disarming import copied, disarm_templates, harmless, set_text

from ragcompress import (
    NOTE_KEY,
    ORIGINAL_KEY,
    CompressedDocument,
    Document,
    InputTypeError,
    Outcome,
    attach_question,
    carries_handles,
    neutralise,
    note,
)

_NO_TEXT = Outcome(None, "no text")


def to_document(node: BaseNode, title_key: str) -> Document | None:
    """Read a node's text, without its metadata, which LlamaIndex writes into the prompt itself.

    Args:
        node: of any kind.
        title_key: metadata key of the title.

    Returns:
        The document; None if there is nothing to compress: the node has no text, or holds the handles of an earlier
        compressor.
    """
    text = node.get_content(MetadataMode.NONE)
    if not text.strip() or is_compressed(node):
        return None
    title = node.metadata.get(title_key)
    return Document(text, id=node.node_id, title=title if isinstance(title, str) and title.strip() else None)


def is_compressed(node: BaseNode) -> bool:
    """Whether an earlier compressor of ours put handles in the place of a node's text.

    Args:
        node: of any kind.

    Returns:
        True if it did; the node goes through any further compressor as it is.
    """
    # A loader may fill metadata with what it found in a file; which keys are hidden is no business of a file.
    if NOTE_KEY not in node.excluded_llm_metadata_keys:
        return False
    return carries_handles(node.get_content(MetadataMode.NONE), node.metadata)


class Assembly:
    """Builds the nodes that go out from those that came in and what a compressor made of them."""

    def __init__(
        self,
        nodes: Sequence[NodeWithScore],
        *,
        backend: str,
        title_key: str,
        replace_score: bool,
        keep_original: bool,
        documents: Sequence[Document] | None = None,
    ) -> None:
        """Read the nodes.

        Args:
            nodes: as they came in; they stay as they are.
            backend: name of the compressor.
            title_key: metadata key of the title.
            replace_score: put the compressor's score in the place of the retriever's.
            keep_original: keep the text that came in, in the metadata.
            documents: what the compressor has read of the nodes, one each; None: read here what there is to compress.
        """
        for place, item in enumerate(nodes):
            if not isinstance(item, NodeWithScore):
                raise InputTypeError(
                    f"nodes[{place}] is {type(item).__name__}; expected a NodeWithScore.",
                    hint="Wrap it: NodeWithScore(node=node).",
                )
        found = documents if documents is not None else [to_document(item.node, title_key) for item in nodes]
        read = list(enumerate(found))
        self.nodes = nodes
        self.documents = [document for _, document in read if document is not None]
        self._places = [place for place, document in read if document is not None]
        self._title_key = title_key
        self._backend = backend
        self._replace_score = replace_score
        self._keep_original = keep_original

    def build(self, outcome: Outcome, query: str | None) -> list[NodeWithScore]:
        """Build the nodes that go out.

        Args:
            outcome: what the compressor made of ``documents``.
            query: left beside handles, so that a reader knows it and can write the prompt that it was trained with.

        Returns:
            What was kept, in the order of the result. Nodes that were not compressed follow the node that they
            followed before.
        """
        items = self._built(outcome)
        for item in items:
            disarm_templates(item.node)
        if query is not None and query.strip():
            self._attach(query, items)
        return items

    def _built(self, outcome: Outcome) -> list[NodeWithScore]:
        if outcome.context is None:
            readable = set(self._places)
            return [
                self._passed(item, outcome if place in readable else _NO_TEXT) for place, item in enumerate(self.nodes)
            ]
        # Each with the places that it was made from.
        built: list[tuple[list[int], NodeWithScore]] = []
        for part in outcome.context.by_document():
            places = [self._places[document] for document in part.documents]
            build = self._compressed if len(places) == 1 else self._merged
            built.append((places, build([self.nodes[place] for place in places], part, outcome)))
        kept = {place for places, _ in built for place in places}
        document_at = {place: document for document, place in enumerate(self._places)}
        for place, item in enumerate(self.nodes):
            if place not in document_at:
                _insert(built, place, self._passed(item, _NO_TEXT))
            elif place not in kept and _has_media(item.node):
                # The picture was retrieved, whatever became of its caption.
                nothing = CompressedDocument((document_at[place],), (), "")
                _insert(built, place, self._compressed([item], nothing, outcome))
        return [item for _, item in built]

    def _attach(self, query: str, items: list[NodeWithScore]) -> None:
        """Leave the question beside the handles; changes the nodes, which are ours."""
        texts = [item.node.get_content(MetadataMode.NONE) for item in items]
        if not any(holds_handle(text) for text in texts):
            return
        beside = [
            text if holds_handle(text) else self._titled(item.node) for item, text in zip(items, texts, strict=True)
        ]
        for item, text, old in zip(items, attach_question(query, beside), texts, strict=True):
            if holds_handle(old) and text != old:
                set_text(item.node, text)

    def _titled(self, node: BaseNode) -> str:
        """A short text that stayed text, as a reader writes it into its own prompt."""
        document = to_document(node, self._title_key)
        if document is None:
            return ""
        return neutralise(f"{document.title}\n{document.text}") if document.title else document.text

    def _passed(self, item: NodeWithScore, outcome: Outcome) -> NodeWithScore:
        # The note of an earlier compressor says that its handles are genuine.
        if is_compressed(item.node):
            node = copied(item.node)
        else:
            node = harmless(item.node)
            _annotate(node, NOTE_KEY, note(outcome, None, self._backend))
        return item.model_copy(update={"node": node, "score": _plain(item.score)})

    def _compressed(self, items: list[NodeWithScore], part: CompressedDocument, outcome: Outcome) -> NodeWithScore:
        (item,) = items
        node = copied(item.node)
        original = node.get_content(MetadataMode.NONE)
        if part.text != original:
            set_text(node, part.text)
        _annotate(node, NOTE_KEY, note(outcome, part, self._backend))
        if self._keep_original:
            _annotate(node, ORIGINAL_KEY, original)
        return item.model_copy(update={"node": node, "score": self._score(items, part)})

    def _merged(self, items: list[NodeWithScore], part: CompressedDocument, outcome: Outcome) -> NodeWithScore:
        """Text that was written from several nodes belongs to none of them."""
        ids = [item.node.node_id for item in items]
        # Equal inputs give equal outputs, so the id is made from what the node says.
        node = TextNode(id_=str(uuid.uuid5(uuid.NAMESPACE_OID, json.dumps([ids, part.text]))), text=part.text)
        _annotate(node, NOTE_KEY, note(outcome, part, self._backend, ids))
        if self._keep_original:
            _annotate(node, ORIGINAL_KEY, "\n\n".join(item.node.get_content(MetadataMode.NONE) for item in items))
        return NodeWithScore(node=node, score=self._score(items, part))

    def _score(self, items: list[NodeWithScore], part: CompressedDocument) -> float | None:
        if self._replace_score and part.score is not None:
            return float(part.score)
        return max((float(item.score) for item in items if item.score is not None), default=None)


def _insert(built: list[tuple[list[int], NodeWithScore]], place: int, item: NodeWithScore) -> None:
    """Put a node behind the one that came in before it, or to the front if nothing is left of those."""
    before = [
        (max(earlier), index)
        for index, (places, _) in enumerate(built)
        if (earlier := [each for each in places if each < place])
    ]
    built.insert(max(before)[1] + 1 if before else 0, ([place], item))


def _annotate(node: BaseNode, key: str, value: str) -> None:
    """Write into the metadata what neither a prompt nor an embedding should see."""
    node.metadata[key] = value
    for keys in (node.excluded_llm_metadata_keys, node.excluded_embed_metadata_keys):
        if key not in keys:
            keys.append(key)


def _has_media(node: BaseNode) -> bool:
    """Whether a node is more than its text."""
    media: tuple[Any, ...] = ()
    if isinstance(node, Node):
        media = (node.image_resource, node.audio_resource, node.video_resource)
    elif isinstance(node, ImageNode):
        media = (node.image, node.image_path, node.image_url)
    return any(media)


def _plain(score: float | None) -> float | None:
    """A numpy number as Python's own, which JSON knows."""
    return None if score is None else float(score)
