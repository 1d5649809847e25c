"""A cross-encoder that ranks sentences: the obvious thing to do where its time does not matter."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ragcompress.composing.budget import TokenBudget
from ragcompress.composing.refining import counted, whole
from ragcompress.devices import pick_device
from ragcompress.errors import CheckpointError, EmptyResultWarning, OptionError
from ragcompress.evaluation.peers.base import Completes, Kept, Peer, sentences_of
from ragcompress.options import check_range
from ragcompress.selection import arrange, rank
from ragcompress.sentences import get_splitter
from ragcompress.tokens import TokenCounter
from ragcompress.types import Document, TextSegment

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossEncoderConfig:
    """Options of ``cross-encoder``.

    Attributes:
        checkpoint: folder or hub id of a cross-encoder that sentence-transformers reads; required.
        top_k: how many sentences are kept where there is no limit of tokens.
        titles: whether a document's title is put in front of its sentences for scoring, as ours does.
        splitter: name of a sentence splitter.
        batch_size: pairs scored at once.
        device: ``"cuda"``, ``"mps"``, ``"cpu"``; None: the best there is.
    """

    checkpoint: str | None = None
    top_k: int = 6
    titles: bool = True
    splitter: str = "punkt"
    batch_size: int = 32
    device: str | None = None

    def __post_init__(self) -> None:
        """Check names and ranges."""
        if not isinstance(self.checkpoint, str) or not self.checkpoint:
            raise OptionError(
                f"cross-encoder: checkpoint must be a folder or a hub id, got {self.checkpoint!r}.",
                hint="E.g. checkpoint='cross-encoder/ms-marco-MiniLM-L6-v2'.",
            )
        check_range("top_k", self.top_k, at_least=1, whole=True)
        check_range("batch_size", self.batch_size, at_least=1, whole=True)
        if not isinstance(self.titles, bool):
            raise OptionError(f"titles must be true or false, got {self.titles!r}.")
        get_splitter(self.splitter)


class CrossEncoderRanker(Peer):
    """The sentences that a cross-encoder scores highest, in the order of the documents.

    Attributes:
        config: its options.
    """

    name: ClassVar[str] = "cross-encoder"
    about: ClassVar[str] = "sentence-transformers CrossEncoder: the sentences that it scores highest with the question"
    packages: ClassVar[dict[str, str]] = {"sentence_transformers": "sentence-transformers"}
    config_class: ClassVar[type[Any]] = CrossEncoderConfig

    def __init__(self, model: CrossEncoder, config: CrossEncoderConfig) -> None:
        """Take built objects.

        Args:
            model: scores pairs of texts.
            config: everything but its checkpoint and device.
        """
        self.config = config
        self._model = model
        self._splitter = get_splitter(config.splitter)

    @classmethod
    def load(cls, config: CrossEncoderConfig, reader: Completes | None) -> Self:
        """Load the model; see ``Peer.load``."""
        from sentence_transformers import CrossEncoder

        from ragcompress.checkpoints import contents, no_loading_bar, resolve

        assert config.checkpoint is not None  # checked by the config
        folder = resolve(config.checkpoint)
        device = pick_device(config.device)
        try:
            with no_loading_bar():
                model = CrossEncoder(str(folder), device=device, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # transformers and sentence-transformers raise many kinds
            reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
            raise CheckpointError(
                f"{config.checkpoint} cannot be read as a cross-encoder: {reason}.", hint=contents(folder)
            ) from error
        if model.num_labels != 1:
            raise CheckpointError(
                f"{config.checkpoint} gives {model.num_labels} numbers for a pair; one that ranks gives a single one."
            )
        return cls(model, config)

    def keep(
        self, question: str, documents: tuple[Document, ...], max_tokens: int | None, counter: TokenCounter
    ) -> Kept:
        """Score all sentences, and keep the best that fit; see ``Peer.keep``."""
        begin = time.perf_counter()
        sentences = self._scored(question, documents)
        if max_tokens is None:
            best = rank([sentence.score or 0.0 for sentence in sentences])[: self.config.top_k]
            kept = [sentences[index] for index in arrange(best, "document")]
        elif max_tokens and sentences:
            context = counted(whole(question, documents, counter), sentences, counter)
            budget = TokenBudget(max_tokens, token_counter=counter, splitter=self._splitter)
            with warnings.catch_warnings():
                # The limit is somebody else's length; that nothing fits shows in the result, as with every peer.
                warnings.simplefilter("ignore", EmptyResultWarning)
                (cut,) = budget.refine([context])
            kept = [segment for segment in cut.segments if isinstance(segment, TextSegment)]
        else:
            kept = []
        return Kept(kept, (time.perf_counter() - begin) * 1000)

    def _scored(self, question: str, documents: tuple[Document, ...]) -> list[TextSegment]:
        sentences = sentences_of(documents, self._splitter)
        if not sentences:
            return []
        titles = [documents[sentence.sources[0].document].title for sentence in sentences]
        pairs = [
            (question, f"{title} {sentence.text}" if title and self.config.titles else sentence.text)
            for sentence, title in zip(sentences, titles, strict=True)
        ]
        scores = self._model.predict(pairs, batch_size=self.config.batch_size, show_progress_bar=False)
        return [replace(sentence, score=float(score)) for sentence, score in zip(sentences, scores, strict=True)]
