"""Options of Provence, and the published behaviour as presets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Literal

from ragcompress.backends.provence.rounding import ROUNDINGS, Rounding
from ragcompress.errors import OptionError
from ragcompress.options import build_config, check_choice, check_range
from ragcompress.sentences import Splitter, get_splitter
from ragcompress.tokens import TokenCounter, get_token_counter
from ragcompress.types import Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenceConfig:
    """Options of ``provence``.

    Attributes:
        threshold: from 0 to 1; the higher, the less is kept. 0.1 is the published cautious value, 0.5 the aggressive
            one (0.3 and 0.7 for the multilingual models).
        rounding: when a sentence is kept: ``"binary-mean"``: the share of its tokens with a keep probability above the
            threshold is above the threshold (the released code); ``"probability-mean"``: the mean probability is;
            ``"majority"``: more than half of the tokens are above it (the paper's prose).
        top_k: keep the documents with the highest scores; None: all.
        reorder: documents best first; False: as they came.
        min_sentences: keep at least so many sentences of every document, whatever the threshold says.
        titles: ``"document"``: ``Document.title`` is read as an additional first sentence, and written by ``layout``;
            ``"first_sentence"``: the first sentence of the text is the title; ``"ignore"``: neither.
        always_keep_title: with ``"first_sentence"``, keep the title where anything else is kept.
        title_window: what counts as anything else: ``"any"`` sentence, or one of the ``"first"`` window.
        score_window: the score of a document of several windows is that of its ``"first"`` one, or the ``"best"``.
        long_sentences: sentences that no window holds are cut: ``"pieces"``: each is kept or not; ``"whole"``: all are
            kept if one is.
        max_length: tokens of a window, special tokens included; None: as the checkpoint (512; 8192 multilingual).
        normalize_query: lower case and no ASCII punctuation, as the published models were trained.
        text_mode: ``"original"``: sentences as they stand in the document, with their spans; ``"decoded"``: token ids
            turned back into one text a document, which loses white space, unknown characters and the spans.
        splitter: name of a sentence splitter, or any callable text -> spans.
        token_counter: what a token is: ``"encoder"`` (its vocabulary), ``"words"``, ``"characters"``, a tokenizer or
            any callable text -> int.
        layout: how the kept sentences are written out. Where titles in front of ``"each"`` one, or the separator
            between them, would make the result longer than the documents, titles are written once and separators are
            those of the documents; the result's own ``layout`` says so.
    """

    threshold: float = 0.1
    rounding: Rounding = "binary-mean"
    top_k: int | None = None
    reorder: bool = False
    min_sentences: int = 0
    titles: Literal["document", "first_sentence", "ignore"] = "document"
    always_keep_title: bool = False
    title_window: Literal["any", "first"] = "any"
    score_window: Literal["first", "best"] = "first"
    long_sentences: Literal["pieces", "whole"] = "pieces"
    max_length: int | None = None
    normalize_query: bool = True
    text_mode: Literal["original", "decoded"] = "original"
    splitter: str | Splitter = "punkt"
    token_counter: str | TokenCounter | Callable[[str], int] = "encoder"
    layout: Layout = Layout()

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # The released inference code with its default arguments.
        "upstream": {
            "titles": "first_sentence",
            "title_window": "first",
            "text_mode": "decoded",
            "splitter": "punkt-plain",
            "layout": Layout("never", " ", " "),
        },
        # What two later re-implementations do instead.
        "prob-mean": {"rounding": "probability-mean"},
    }

    def __post_init__(self) -> None:
        """Check names and ranges."""
        if isinstance(self.layout, Mapping):  # as read from a file
            object.__setattr__(self, "layout", build_config(Layout, self.layout))
        if not isinstance(self.layout, Layout):
            raise OptionError(f"layout must be a ragcompress.Layout or its fields, got {type(self.layout).__name__}.")
        for name in ("threshold", "min_sentences"):
            if getattr(self, name) is None:
                raise OptionError(f"{name} must be a number, got None.")
        check_range("threshold", self.threshold, at_least=0, at_most=1)
        check_range("top_k", self.top_k, at_least=1, whole=True)
        check_range("min_sentences", self.min_sentences, at_least=0, whole=True)
        check_range("max_length", self.max_length, at_least=16, whole=True)
        for name, kind in (("threshold", float), ("top_k", int), ("min_sentences", int), ("max_length", int)):
            if getattr(self, name) is not None:  # numpy's numbers become Python's, which JSON knows
                object.__setattr__(self, name, kind(getattr(self, name)))
        check_choice("rounding", self.rounding, ROUNDINGS)
        check_choice("titles", self.titles, ("document", "first_sentence", "ignore"))
        check_choice("title_window", self.title_window, ("any", "first"))
        check_choice("score_window", self.score_window, ("first", "best"))
        check_choice("long_sentences", self.long_sentences, ("pieces", "whole"))
        check_choice("text_mode", self.text_mode, ("original", "decoded"))
        for name in ("reorder", "always_keep_title", "normalize_query"):
            if not isinstance(getattr(self, name), bool):
                raise OptionError(f"{name} must be True or False, got {getattr(self, name)!r}.")
        get_splitter(self.splitter)
        if isinstance(self.token_counter, str):
            check_choice("token_counter", self.token_counter, ("encoder", "words", "characters"))
        else:
            get_token_counter(self.token_counter)

    def as_json(self) -> dict[str, Any]:
        """The options as JSON-safe values.

        Returns:
            What ``ProvenceConfig(**values)`` accepts.

        Raises:
            OptionError: the splitter or the token counter is an object, which has no name in a file.
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in ("splitter", "token_counter"):
            if not isinstance(values[name], str):
                raise OptionError(f"{name} is an object and cannot be written to a file; name a built-in one instead.")
        return values | {"layout": asdict(self.layout)}
