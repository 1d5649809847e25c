"""LangChain's ``LLMChainExtractor``."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ragcompress.errors import OptionError
from ragcompress.evaluation.peers.base import Completes, Kept, Peer
from ragcompress.evaluation.peers.origins import quoted
from ragcompress.options import check_range
from ragcompress.tokens import TokenCounter
from ragcompress.types import Document

if TYPE_CHECKING:
    from langchain_core.language_models.llms import LLM


@dataclass(frozen=True, slots=True, kw_only=True)
class LangChainExtractorConfig:
    """Options of ``langchain-llm-extractor``.

    Attributes:
        max_new_tokens: the most that is quoted of one document, in the reader's tokens.
    """

    max_new_tokens: int = 256

    def __post_init__(self) -> None:
        """Check the range."""
        check_range("max_new_tokens", self.max_new_tokens, at_least=1, whole=True)


class LangChainExtractor(Peer):
    """A language model is asked, document by document, to quote what is relevant.

    What it quotes truly has its span; what it made up has its document alone. Nothing holds all documents together to
    a number of tokens: ``max_new_tokens`` only ends what is written about one of them, so that the context is as long
    as it comes, whatever the limit of the others.

    Attributes:
        config: its options.
    """

    name: ClassVar[str] = "langchain-llm-extractor"
    about: ClassVar[str] = "LangChain LLMChainExtractor: the reader quotes what is relevant of each document"
    packages: ClassVar[dict[str, str]] = {"langchain_classic": "langchain-classic"}
    budgeted: ClassVar[bool] = False
    config_class: ClassVar[type[Any]] = LangChainExtractorConfig

    def __init__(self, reader: Completes, config: LangChainExtractorConfig | None = None) -> None:
        """Take built objects.

        Args:
            reader: the language model that is asked.
            config: None: the defaults.
        """
        from langchain_classic.retrievers.document_compressors import LLMChainExtractor

        self.config = config or LangChainExtractorConfig()
        self._extractor = LLMChainExtractor.from_llm(_language_model(reader, self.config.max_new_tokens))

    @classmethod
    def load(cls, config: LangChainExtractorConfig, reader: Completes | None) -> Self:
        """Take the reader of the run; see ``Peer.load``."""
        if not callable(getattr(reader, "complete", None)):
            came = "there is none" if reader is None else f"{type(reader).__name__} reads no prompts"
            raise OptionError(
                f"{cls.name} asks the reader of the evaluation, and {came}.",
                hint="Name a reader that is a language model, or leave this peer out.",
            )
        assert reader is not None  # it has complete
        return cls(reader, config)

    def keep(
        self, question: str, documents: tuple[Document, ...], max_tokens: int | None, counter: TokenCounter
    ) -> Kept:
        """Ask about one document after the other; see ``Peer.keep``."""
        from langchain_core.documents import Document as LangChainDocument

        begin = time.perf_counter()
        extracted = self._extractor.compress_documents(
            [
                LangChainDocument(page_content=document.text, metadata={"document": index})
                for index, document in enumerate(documents)
                if document.text.strip()
            ],
            question,
        )
        took = (time.perf_counter() - begin) * 1000
        return Kept(
            [
                segment
                for each in extracted
                for segment in quoted(
                    documents[each.metadata["document"]].text, each.metadata["document"], each.page_content
                )
            ],
            took,
        )


def _language_model(reader: Completes, max_new_tokens: int) -> LLM:
    from langchain_core.language_models.llms import LLM

    class ReaderLLM(LLM):
        """The reader behind LangChain's interface."""

        @property
        def _llm_type(self) -> str:
            return "ragcompress-reader"

        def _call(self, prompt: str, stop: list[str] | None = None, *_: Any, **__: Any) -> str:
            return reader.complete([prompt], max_new_tokens=max_new_tokens)[0].text

    return ReaderLLM()
