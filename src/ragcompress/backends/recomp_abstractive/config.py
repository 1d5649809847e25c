"""Options of the abstractive RECOMP compressor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Literal

from ragcompress.compressor import Compressor
from ragcompress.errors import OptionError
from ragcompress.faithfulness import SupportScorer
from ragcompress.options import build_config, check_choice, check_range
from ragcompress.sentences import Splitter, get_splitter
from ragcompress.tokens import TokenCounter, get_token_counter
from ragcompress.types import Layout

_PLAIN = Layout(title="never", segment_separator=" ")
_LEAST_SOURCE = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class RecompAbstractiveConfig:
    """Options of ``recomp-abstractive``.

    Attributes:
        max_source_tokens: the most tokens that the model reads of question and documents together, at least 32.
        max_summary_tokens: the most tokens of a summary, the decoder's start token included, as published; at least 2.
        per_document: summarise every document on its own; each summary then has one source.
        on_long: documents that are longer than the model reads: ``"truncate"``: the rest is not read, which the result
            says; ``"split"``: they are read in several parts, each of which has a summary.
        keep_cue: cut the documents in front of the closing ``Summary:``; published code cuts the cue off with them.
        on_empty: nothing was written: ``"drop"``: the result is empty; ``"keep_best"``: the first document that is not
            blank is kept as it is, since retrievers put the best first.
        titles: ``"prefix"``: ``Document.title`` is read in front of the text; ``"ignore"``: it is not read.
        faithfulness: what scores the sentences of a summary by their support in the documents: the name of an
            extractive backend, such a compressor, or a function (sentences, documents) -> scores. None: nothing does.
        min_support: sentences with a lower score are unsupported.
        unsupported: what becomes of them: ``"keep"``: they stay, and ``RecompAbstractive.unsupported`` lists them;
            ``"drop"``: they are left out.
        splitter: where documents are cut and summaries are scored: the name of a sentence splitter, or any callable
            text -> spans.
        token_counter: what a token is: ``"model"`` (its vocabulary), ``"words"``, ``"characters"``, a tokenizer or any
            callable text -> int.
        layout: how the summaries are written out.
    """

    max_source_tokens: int = 1024
    max_summary_tokens: int = 512
    per_document: bool = False
    on_long: Literal["truncate", "split"] = "truncate"
    keep_cue: bool = True
    on_empty: Literal["drop", "keep_best"] = "drop"
    titles: Literal["prefix", "ignore"] = "prefix"
    faithfulness: str | Compressor | SupportScorer | None = None
    min_support: float = 0.5
    unsupported: Literal["keep", "drop"] = "keep"
    splitter: str | Splitter = "punkt"
    token_counter: str | TokenCounter | Callable[[str], int] = "model"
    layout: Layout = _PLAIN

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # The released script: an over-long source loses its end, the cue included.
        "upstream": {"keep_cue": False, "titles": "ignore"},
        "bergen": {"keep_cue": False, "titles": "ignore", "max_source_tokens": 512},
    }

    def __post_init__(self) -> None:
        """Check names and ranges."""
        check_range("max_source_tokens", self.max_source_tokens, at_least=_LEAST_SOURCE, whole=True)
        check_range("max_summary_tokens", self.max_summary_tokens, at_least=2, whole=True)
        check_range("min_support", self.min_support)
        for name in ("max_source_tokens", "max_summary_tokens", "min_support"):
            if getattr(self, name) is None:
                raise OptionError(f"{name} must be a number, got None.")
        check_choice("on_long", self.on_long, ("truncate", "split"))
        check_choice("on_empty", self.on_empty, ("drop", "keep_best"))
        check_choice("titles", self.titles, ("prefix", "ignore"))
        check_choice("unsupported", self.unsupported, ("keep", "drop"))
        for name in ("per_document", "keep_cue"):
            if not isinstance(getattr(self, name), bool):
                raise OptionError(f"{name} must be True or False, got {getattr(self, name)!r}.")
        if self.faithfulness is None and self.unsupported == "drop":
            raise OptionError(
                "unsupported='drop' needs scores.", hint="Set faithfulness='recomp-extractive', or a function."
            )
        scorer = self.faithfulness
        if not (scorer is None or isinstance(scorer, (str, Compressor)) or callable(scorer)):
            raise OptionError(
                "faithfulness must be a backend's name, a compressor or a function (sentences, documents) -> scores, "
                f"got {type(scorer).__name__}."
            )
        if isinstance(self.layout, Mapping):  # as read from a file
            object.__setattr__(self, "layout", build_config(Layout, self.layout))
        if not isinstance(self.layout, Layout):
            raise OptionError(f"layout must be a ragcompress.Layout or its fields, got {type(self.layout).__name__}.")
        get_splitter(self.splitter)
        if isinstance(self.token_counter, str):
            check_choice("token_counter", self.token_counter, ("model", "words", "characters"))
        else:
            get_token_counter(self.token_counter)

    def as_json(self) -> dict[str, Any]:
        """The options as JSON-safe values.

        Returns:
            What ``RecompAbstractiveConfig(**values)`` accepts.

        Raises:
            OptionError: an option is an object, which has no name in a file.
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in ("splitter", "token_counter", "faithfulness"):
            if values[name] is not None and not isinstance(values[name], str):
                raise OptionError(f"{name} is an object and cannot be written to a file; name a built-in one instead.")
        return values | {"layout": asdict(self.layout)}
