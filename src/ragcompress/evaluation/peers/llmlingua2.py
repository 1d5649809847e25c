"""LLMLingua-2 (Pan et al., arXiv 2403.12968), by its own package."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ragcompress.composing.excerpts import merge_spans
from ragcompress.devices import pick_device
from ragcompress.errors import CheckpointError, OptionError
from ragcompress.evaluation.peers.base import Completes, FittedPeer
from ragcompress.evaluation.peers.origins import find_in_order
from ragcompress.evaluation.peers.vocabularies import load_vocabulary, missing_vocabulary
from ragcompress.options import check_range
from ragcompress.tokens import TokenCounter
from ragcompress.types import Document, Source, TextSegment

if TYPE_CHECKING:
    from llmlingua import PromptCompressor  # type: ignore[import-not-found, import-untyped, unused-ignore]
    from torch import Tensor

_VOCABULARY = "cl100k_base"
_FAMILIES = ("xlm-roberta-large", "bert-base-multilingual-cased")
# Between words, and between a word and whether it was kept, in what the package says of them: in no text.
_BETWEEN, _LABEL = "\x1e", "\x1f"


@dataclass(frozen=True, slots=True, kw_only=True)
class LLMLingua2Config:
    """Options of ``llmlingua2``.

    Attributes:
        checkpoint: folder or hub id of a token classifier; required. The package tells the two families that it knows
            apart by the name of the folder, which must hold ``xlm-roberta-large`` or ``bert-base-multilingual-cased``.
        rate: share of the tokens that is kept where there is no limit of tokens; 0.5 is the package's own default.
        force_tokens: kept in any case; line ends and question marks, as in the package's documentation.
        device: ``"cuda"``, ``"mps"``, ``"cpu"``; None: the best there is.
    """

    checkpoint: str | None = None
    rate: float = 0.5
    force_tokens: Sequence[str] = ("\n", "?")
    device: str | None = None

    def __post_init__(self) -> None:
        """Check types and ranges."""
        if not isinstance(self.checkpoint, str) or not self.checkpoint:
            raise OptionError(
                f"llmlingua2: checkpoint must be a folder or a hub id, got {self.checkpoint!r}.",
                hint="E.g. checkpoint='microsoft/llmlingua-2-xlm-roberta-large-meetingbank'.",
            )
        check_range("rate", self.rate, at_least=0.01, at_most=1)
        forced = self.force_tokens
        if isinstance(forced, str) or not all(isinstance(token, str) and token for token in forced):
            raise OptionError(f"force_tokens must be a list of texts, got {forced!r}.")
        object.__setattr__(self, "force_tokens", tuple(forced))


class LLMLingua2(FittedPeer):
    """The words that a token classifier takes for the most informative; the question plays no part in it.

    Each document is compressed for itself, so the package's filter of whole documents, for which the question plays no
    part either, is not used. What is left of a document is a single segment, with the span of every run of words.

    Attributes:
        config: its options.
    """

    name: ClassVar[str] = "llmlingua2"
    about: ClassVar[str] = "LLMLingua-2: a token classifier drops words, whatever the question"
    packages: ClassVar[dict[str, str]] = {"llmlingua": "llmlingua"}
    config_class: ClassVar[type[Any]] = LLMLingua2Config

    def __init__(self, compressor: PromptCompressor, config: LLMLingua2Config) -> None:
        """Take built objects.

        Args:
            compressor: the package's, made with ``use_llmlingua2=True``.
            config: everything but its checkpoint and device.
        """
        self.config = config
        self._compressor = compressor

    @classmethod
    def missing(cls) -> str | None:
        """Say why it cannot run here; see ``Peer.missing``."""
        return super().missing() or missing_vocabulary(cls.name, _VOCABULARY)

    @classmethod
    def load(cls, config: LLMLingua2Config, reader: Completes | None) -> Self:
        """Load the model; see ``Peer.load``."""
        from ragcompress.checkpoints import contents, no_loading_bar, read_json, require, resolve

        assert config.checkpoint is not None  # checked by the config
        folder = resolve(config.checkpoint)
        if not any(family in str(folder) for family in _FAMILIES):
            raise CheckpointError(
                f"llmlingua tells by the folder's name which family a model is of, and {folder} says neither "
                f"{' nor '.join(_FAMILIES)}.",
                hint="Rename the folder.",
            )
        kinds = read_json(require(folder, ["config.json"], "the configuration")).get("architectures") or []
        if not any("ForTokenClassification" in kind for kind in kinds):
            raise CheckpointError(
                f"{config.checkpoint} holds {', '.join(kinds) or 'no architecture'}; LLMLingua-2 needs a token "
                "classifier."
            )
        load_vocabulary(_VOCABULARY)
        from llmlingua import PromptCompressor

        try:
            with no_loading_bar(), _own_randomness():
                compressor = PromptCompressor(
                    str(folder),
                    device_map=pick_device(config.device),
                    model_config={"trust_remote_code": False},  # the package's own default is to trust it
                    use_llmlingua2=True,
                )
        except Exception as error:  # transformers raises many kinds
            reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
            raise CheckpointError(
                f"llmlingua cannot read {config.checkpoint}: {reason}.", hint=contents(Path(folder))
            ) from error
        return cls(compressor, config)

    @contextmanager
    def remembering(self) -> Iterator[None]:
        """Classify each document once: the rate plays no part in it; see ``FittedPeer.remembering``."""
        model = self._compressor.model
        known: dict[bytes, Any] = {}

        def remembered(*, input_ids: Tensor, attention_mask: Tensor) -> Any:  # noqa: ANN401 (transformers' output)
            key = input_ids.cpu().numpy().tobytes()
            if key not in known:
                known[key] = model(input_ids=input_ids, attention_mask=attention_mask)
            return known[key]

        self._compressor.model = remembered
        try:
            yield
        finally:
            self._compressor.model = model

    def knob(
        self, question: str, documents: tuple[Document, ...], max_tokens: int, counter: TokenCounter
    ) -> Sequence[float]:
        """Rates in steps of a percent, which is what the package rounds to; see ``FittedPeer.knob``."""
        return [percent / 100 for percent in range(1, 101)] if any(each.text.strip() for each in documents) else []

    def attempt(
        self, question: str, documents: tuple[Document, ...], setting: float | None, counter: TokenCounter
    ) -> list[TextSegment]:
        """Compress each document at the same rate; see ``FittedPeer.attempt``."""
        rate = self.config.rate if setting is None else setting
        segments = []
        for index, document in enumerate(documents):
            if document.text.strip():
                made = self._compressor.compress_prompt(
                    [document.text], rate=rate, force_tokens=list(self.config.force_tokens),
                    return_word_label=True, word_sep=_BETWEEN, label_sep=_LABEL,
                )  # fmt: skip
                segments += _segment(
                    document.text, index, made["compressed_prompt"], made["fn_labeled_original_prompt"], rate
                )
        return segments


def _segment(text: str, document: int, written: str, labelled: str, rate: float) -> list[TextSegment]:
    if not written.strip():
        return []
    if written in text:
        start = text.index(written)
        return [TextSegment(written, (Source(document, start, start + len(written)),))]
    runs = [] if rate >= 1 else _runs(text, labelled)
    # A single span must hold the very text; where some words could not be found again, none of them says anything.
    sources = tuple(Source(document, *run) for run in runs) if len(runs) > 1 else (Source(document),)
    return [TextSegment(written, sources)]


def _runs(text: str, labelled: str) -> list[tuple[int, int]]:
    """Spans of the words that were kept, neighbours joined; none if a word is not in the text as it is."""
    pairs = [each.rpartition(_LABEL) for each in labelled.split(_BETWEEN)]
    spans = find_in_order(text, [word for word, _, _ in pairs])
    if spans is None:
        return []
    kept = [span for span, (_, _, label) in zip(spans, pairs, strict=True) if label == "1" and span[0] < span[1]]
    return merge_spans(text, kept)


@contextmanager
def _own_randomness() -> Iterator[None]:
    """Give the random numbers of the process back: the package seeds all of them."""
    import numpy as np
    import torch

    states = random.getstate(), np.random.get_state(), os.environ.get("PYTHONHASHSEED")
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        if states[2] is None:
            os.environ.pop("PYTHONHASHSEED", None)
        else:
            os.environ["PYTHONHASHSEED"] = states[2]
