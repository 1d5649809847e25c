"""The package trimwise: passages chosen by BM25 (or vectors, or both) and diversity, within a limit of its own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from ragcompress.composing.refining import whole
from ragcompress.errors import OptionError
from ragcompress.evaluation.peers.base import Completes, FittedPeer
from ragcompress.evaluation.peers.encoding import EncoderConfig, Encodes, Vectors
from ragcompress.evaluation.peers.vocabularies import load_vocabulary, missing_vocabulary
from ragcompress.options import check_choice
from ragcompress.tokens import TokenCounter
from ragcompress.types import Document, Layout, Source, TextSegment

_VOCABULARY = "o200k_base"
_WITH_VECTORS = ("semantic", "hybrid")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrimwiseConfig(EncoderConfig):
    """Options of ``trimwise``.

    Attributes:
        strategy: ``"lexical"`` is what its own default, ``"auto"``, does with a question; ``"semantic"`` and
            ``"hybrid"`` use our encoder; ``"structural"`` takes no notice of the question.
    """

    strategy: str = "auto"

    def __post_init__(self) -> None:
        """Check the names."""
        EncoderConfig.__post_init__(self)
        check_choice("strategy", self.strategy, ("auto", "structural", "lexical", "semantic", "hybrid"))


class Trimwise(FittedPeer):
    """What ``Trimmer.trim_context`` keeps of all documents under one limit, titles counted.

    It measures with the reader's counter, but marks what it leaves out and parts fragments by blank lines, where
    everybody's context is written without marks. So its limit is fitted, too, or it would be given less room.

    Attributes:
        config: its options.
    """

    name: ClassVar[str] = "trimwise"
    about: ClassVar[str] = "trimwise Trimmer.trim_context: passages by BM25 and diversity under a shared limit"
    packages: ClassVar[dict[str, str]] = {"trimwise": "trimwise"}
    config_class: ClassVar[type[Any]] = TrimwiseConfig

    def __init__(self, encoder: Encodes | None = None, config: TrimwiseConfig | None = None) -> None:
        """Take built objects.

        Args:
            encoder: gives the vectors, for the strategies that use some.
            config: None: the defaults.

        Raises:
            OptionError: the strategy needs an encoder.
        """
        from trimwise import TrimConfig, Trimmer  # type: ignore[import-not-found, unused-ignore]

        self.config = config or TrimwiseConfig()
        self._vectors = None if encoder is None else Vectors(encoder)
        load_vocabulary(_VOCABULARY)
        options = TrimConfig(token_encoding=_VOCABULARY)
        vectors = self._vectors
        if self.config.strategy not in _WITH_VECTORS:
            self._trimmer = Trimmer(options)
        elif vectors is None:
            raise OptionError(f"strategy={self.config.strategy!r} needs an encoder.")
        else:
            self._trimmer = Trimmer(
                options,
                embedding_callback=lambda query, passages: (
                    vectors.of([query], query=True)[0],
                    vectors.of(list(passages)),
                ),
            )

    @classmethod
    def missing(cls) -> str | None:
        """Say why it cannot run here; see ``Peer.missing``."""
        return super().missing() or missing_vocabulary(cls.name, _VOCABULARY)

    @classmethod
    def load(cls, config: TrimwiseConfig, reader: Completes | None) -> Self:
        """Load the encoder where one is needed; see ``Peer.load``."""
        return cls(config.load_encoder() if config.strategy in _WITH_VECTORS else None, config)

    def remembering(self) -> AbstractContextManager[object]:
        """Encode the passages once; see ``FittedPeer.remembering``."""
        return nullcontext() if self._vectors is None else self._vectors.remembered()

    def knob(
        self, question: str, documents: tuple[Document, ...], max_tokens: int, counter: TokenCounter
    ) -> Sequence[float]:
        """Limits from a little below ours up to everything; see ``FittedPeer.knob``."""
        everything = whole(question, documents, counter).n_slots
        return range(max(1, min(max_tokens, everything) * 3 // 4), everything + 1)

    def attempt(
        self, question: str, documents: tuple[Document, ...], setting: float | None, counter: TokenCounter
    ) -> list[TextSegment]:
        """Trim all documents under one limit; see ``FittedPeer.attempt``."""
        from trimwise import ContextSource

        if setting is None:
            raise OptionError("trimwise keeps nothing by default: it asks for a limit.", hint="Give max_tokens.")
        layout = Layout()
        trimmed = self._trimmer.trim_context(
            [
                ContextSource(
                    document.text, prefix=f"{document.title}{layout.title_separator}" if document.title else ""
                )
                for document in documents
            ],
            int(setting),
            query=question,
            strategy=self.config.strategy,
            token_counter=counter,
            separator=layout.document_separator,
        )
        return [
            segment
            for index, (document, row) in enumerate(zip(documents, trimmed.sources, strict=True))
            for span in row.spans
            for segment in _segment(document.text, index, span.start, span.end)
        ]


def _segment(text: str, document: int, start: int, end: int) -> list[TextSegment]:
    """A segment without the white space at the edges of a span; none if there is nothing else."""
    bare = text[start:end].strip()
    start = text.index(bare, start)
    return [TextSegment(bare, (Source(document, start, start + len(bare)),))] if bare else []
