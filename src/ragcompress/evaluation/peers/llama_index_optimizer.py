"""LlamaIndex's ``SentenceEmbeddingOptimizer``."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ragcompress.evaluation.peers.base import Completes, FittedPeer
from ragcompress.evaluation.peers.encoding import EncoderConfig, Encodes, Vectors
from ragcompress.evaluation.peers.origins import chosen_sentences, find_in_order
from ragcompress.options import check_range
from ragcompress.tokens import TokenCounter
from ragcompress.types import Document, Source, TextSegment

if TYPE_CHECKING:
    from llama_index.core.base.embeddings.base import BaseEmbedding


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaIndexOptimizerConfig(EncoderConfig):
    """Options of ``llama-index-optimizer``.

    Attributes:
        percentile: share of each document's sentences that is kept where there is no limit of tokens.
        context: sentences that are kept on either side of each; 1 is the class's own default.
    """

    percentile: float = 0.5
    context: int = 1

    def __post_init__(self) -> None:
        """Check ranges."""
        EncoderConfig.__post_init__(self)
        check_range("percentile", self.percentile, at_least=0, at_most=1)
        check_range("context", self.context, at_least=0, whole=True)


class LlamaIndexOptimizer(FittedPeer):
    """The sentences nearest to the question, document by document, in the class's own order.

    Without a limit this is the class as it is, with ``percentile_cutoff``. A limit is met with its other knob,
    ``threshold_cutoff``: one similarity for all documents, above which sentences are kept. A share of each document
    moves in steps of whole documents, and keeps a document of which it should keep nothing whole. A document without
    a sentence above the threshold, for which the class raises, is left out.

    The class scores the sentences of a node's text, so that they are scored without the title of their document:
    there is no place where each of them could be given one. Other peers, and ours, rank title and sentence.

    Attributes:
        config: its options.
    """

    name: ClassVar[str] = "llama-index-optimizer"
    about: ClassVar[str] = "LlamaIndex SentenceEmbeddingOptimizer: each document's nearest sentences, by embedding"
    packages: ClassVar[dict[str, str]] = {"llama_index.core": "llama-index-core"}
    config_class: ClassVar[type[Any]] = LlamaIndexOptimizerConfig

    def __init__(self, encoder: Encodes, config: LlamaIndexOptimizerConfig | None = None) -> None:
        """Take built objects.

        Args:
            encoder: gives the vectors.
            config: None: the defaults.
        """
        from llama_index.core.utils import globals_helper

        self.config = config or LlamaIndexOptimizerConfig()
        self._vectors = Vectors(encoder)
        self._embedding = _embedding(self._vectors)
        self._split = globals_helper.punkt_tokenizer.tokenize

    @classmethod
    def load(cls, config: LlamaIndexOptimizerConfig, reader: Completes | None) -> Self:
        """Load the encoder; see ``Peer.load``."""
        return cls(config.load_encoder(), config)

    def remembering(self) -> AbstractContextManager[object]:
        """Encode each document once; see ``FittedPeer.remembering``."""
        return self._vectors.remembered()

    def knob(
        self, question: str, documents: tuple[Document, ...], max_tokens: int, counter: TokenCounter
    ) -> Sequence[float]:
        """Every similarity that occurs, and one below all, from the highest on; see ``FittedPeer.knob``.

        The class keeps what is above the threshold: each setting keeps a sentence more than the one before, or
        several that are equally near. The highest keeps nothing, and is left out.
        """
        from llama_index.core.indices.query.embedding_utils import get_top_k_embeddings

        # By the functions that the class calls, so that no rounding can part its numbers from these.
        query = self._embedding.get_agg_embedding_from_queries([question])
        found = {
            float(similarity)
            for document in documents
            if document.text.strip()
            for similarity in get_top_k_embeddings(
                query, self._vectors.of(self._split(document.text)), similarity_fn=self._embedding.similarity
            )[0]
        }
        descending = sorted(found, reverse=True)
        return [*descending[1:], descending[-1] - 1] if descending else []

    def attempt(
        self, question: str, documents: tuple[Document, ...], setting: float | None, counter: TokenCounter
    ) -> list[TextSegment]:
        """Let the class shorten a node for each document; see ``FittedPeer.attempt``."""
        from llama_index.core.postprocessor import SentenceEmbeddingOptimizer
        from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

        optimizer = SentenceEmbeddingOptimizer(
            embed_model=self._embedding,
            percentile_cutoff=self.config.percentile if setting is None else None,
            threshold_cutoff=setting,
            tokenizer_fn=self._split,
            context_before=self.config.context,
            context_after=self.config.context,
        )
        query = QueryBundle(question)  # takes up the question's vector, which is made once
        segments = []
        for index, document in enumerate(documents):
            if not document.text.strip():
                continue
            # One at a time: a document without a sentence above the threshold makes the class raise for all.
            node = NodeWithScore(node=TextNode(text=document.text))
            try:
                optimizer.postprocess_nodes([node], query_bundle=query)
            except ValueError as error:
                if setting is None or "zero sentences" not in str(error):
                    raise
                continue
            segments += self._segments(document.text, index, node.node.get_content())
        return segments

    def _segments(self, text: str, document: int, joined: str) -> list[TextSegment]:
        sentences = self._split(text)
        spans = find_in_order(text, sentences)
        chosen = None if spans is None else chosen_sentences(joined, sentences)
        if spans is None or chosen is None:
            return [TextSegment(joined, (Source(document),))]
        return [TextSegment(sentences[index], (Source(document, *spans[index]),)) for index in chosen]


def _embedding(vectors: Vectors) -> BaseEmbedding:
    from llama_index.core.base.embeddings.base import BaseEmbedding

    class Embedding(BaseEmbedding):
        """The shared vectors behind LlamaIndex's interface."""

        def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
            return vectors.of(texts)

        def _get_text_embedding(self, text: str) -> list[float]:
            return vectors.of([text])[0]

        def _get_query_embedding(self, query: str) -> list[float]:
            return vectors.of([query], query=True)[0]

        async def _aget_query_embedding(self, query: str) -> list[float]:
            return self._get_query_embedding(query)

    return Embedding()
