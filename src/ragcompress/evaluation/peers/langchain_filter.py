"""LangChain's ``EmbeddingsFilter``."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ragcompress.errors import OptionError
from ragcompress.evaluation.peers.base import Completes, FittedPeer, sentences_of
from ragcompress.evaluation.peers.encoding import EncoderConfig, Encodes, Vectors
from ragcompress.options import check_range
from ragcompress.sentences import get_splitter
from ragcompress.tokens import TokenCounter
from ragcompress.types import Document, TextSegment

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings


@dataclass(frozen=True, slots=True, kw_only=True)
class LangChainFilterConfig(EncoderConfig):
    """Options of ``langchain-embeddings-filter``.

    Attributes:
        k: how many sentences are kept where there is no limit of tokens; 20 is the class's own default.
        splitter: name of a sentence splitter.
        titles: whether a sentence is scored behind the title of its document, as ours are.
    """

    k: int = 20
    splitter: str = "punkt"
    titles: bool = True

    def __post_init__(self) -> None:
        """Check names and ranges."""
        EncoderConfig.__post_init__(self)
        check_range("k", self.k, at_least=1, whole=True)
        get_splitter(self.splitter)
        if not isinstance(self.titles, bool):
            raise OptionError(f"titles must be true or false, got {self.titles!r}.")


class LangChainFilter(FittedPeer):
    """The sentences nearest to the question, each handed over as a document of its own, its title in front of it.

    The class returns the best first. Here they stand in the order of the documents, as everybody's do: what is
    compared is the choice.

    Attributes:
        config: its options.
    """

    name: ClassVar[str] = "langchain-embeddings-filter"
    about: ClassVar[str] = "LangChain EmbeddingsFilter over sentences: the nearest to the question, by embedding"
    packages: ClassVar[dict[str, str]] = {
        "langchain_classic": "langchain-classic",
        "langchain_community": "langchain-community",
    }
    config_class: ClassVar[type[Any]] = LangChainFilterConfig

    def __init__(self, encoder: Encodes, config: LangChainFilterConfig | None = None) -> None:
        """Take built objects.

        Args:
            encoder: gives the vectors.
            config: None: the defaults.
        """
        self.config = config or LangChainFilterConfig()
        self._splitter = get_splitter(self.config.splitter)
        self._vectors = Vectors(encoder)
        self._embeddings = _embeddings(self._vectors)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # langchain-community announces its end
            import_module("langchain_community.document_transformers.embeddings_redundant_filter")
            import_module("langchain_community.utils.math")

    @classmethod
    def load(cls, config: LangChainFilterConfig, reader: Completes | None) -> Self:
        """Load the encoder; see ``Peer.load``."""
        return cls(config.load_encoder(), config)

    def remembering(self) -> AbstractContextManager[object]:
        """Encode the sentences once; see ``FittedPeer.remembering``."""
        return self._vectors.remembered()

    def knob(
        self, question: str, documents: tuple[Document, ...], max_tokens: int, counter: TokenCounter
    ) -> Sequence[float]:
        """Every number of sentences; see ``FittedPeer.knob``."""
        return range(1, len(sentences_of(documents, self._splitter)) + 1)

    def attempt(
        self, question: str, documents: tuple[Document, ...], setting: float | None, counter: TokenCounter
    ) -> list[TextSegment]:
        """Let the class choose among all sentences; see ``FittedPeer.attempt``."""
        from langchain_classic.retrievers.document_compressors import EmbeddingsFilter
        from langchain_core.documents import Document as LangChainDocument

        sentences = sentences_of(documents, self._splitter)
        if not sentences:
            return []
        chosen = EmbeddingsFilter(
            embeddings=self._embeddings, k=self.config.k if setting is None else int(setting)
        ).compress_documents(
            [
                LangChainDocument(page_content=self._scored_text(sentence, documents), metadata={"sentence": number})
                for number, sentence in enumerate(sentences)
            ],
            question,
        )
        found = {
            int(each.metadata["sentence"]): float(each.state["query_similarity_score"])  # type: ignore[attr-defined]
            for each in chosen
        }
        return [_scored(sentences[number], score) for number, score in sorted(found.items())]

    def _scored_text(self, sentence: TextSegment, documents: Sequence[Document]) -> str:
        title = documents[sentence.sources[0].document].title if self.config.titles else None
        return f"{title}\n{sentence.text}" if title else sentence.text


def _scored(sentence: TextSegment, score: float) -> TextSegment:
    return TextSegment(sentence.text, sentence.sources, score)


def _embeddings(vectors: Vectors) -> Embeddings:
    from langchain_core.embeddings import Embeddings

    class SharedEmbeddings(Embeddings):
        """The shared vectors behind LangChain's interface."""

        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            """Embed texts in one call."""
            return vectors.of(texts)

        def embed_query(self, text: str) -> list[float]:
            """Embed a question."""
            return vectors.of([text], query=True)[0]

    return SharedEmbeddings()
