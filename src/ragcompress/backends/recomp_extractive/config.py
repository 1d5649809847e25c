"""Options of the extractive RECOMP compressor, and the published selection rules as presets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Literal

from ragcompress.errors import OptionError
from ragcompress.options import build_config, check_choice, check_range
from ragcompress.selection import SelectionConfig
from ragcompress.sentences import Splitter, get_splitter
from ragcompress.tokens import TokenCounter, get_token_counter
from ragcompress.types import Layout

SCORERS = ("dense", "bm25", "hybrid")

# Every published rule ranks by dot products alone.
_PUBLISHED = {"scorer": "dense", "hops": 1}
_SPACED = Layout(title="never", segment_separator=" ", document_separator=" ")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecompExtractiveConfig(SelectionConfig):
    """Options of ``recomp-extractive``; the limits and the order are those of ``SelectionConfig``.

    Attributes:
        scorer: ``"dense"``: the dot product of the vectors, as published; ``"bm25"``: the words shared with the
            question; ``"hybrid"``: the sum of both as z-scores over the query's candidates. None: ``"dense"`` with
            ``threshold`` and for checkpoints that compare raw dot products, as RECOMP's own do, which were trained
            for it; ``"hybrid"`` otherwise, and with ``hops=2``.
        hops: 2: after a first pass the words of the best sentence join the question's and the words are scored again;
            1: they are scored once. None: 2 with ``"hybrid"``, else 1.
        titles: what is scored: ``"prefix"``: ``Document.title``, a space, the sentence; ``"first_sentence"``: the
            first sentence of a document stands for its title, is put in front of every other one, and is always kept;
            ``"ignore"``: the sentence alone.
        normalize: scale vectors to length one before the dot product; None: as the checkpoint declares. RECOMP's own
            checkpoints declare nothing and so use the raw dot product; MiniLM declares it and loses much without.
        splitter: name of a sentence splitter, or any callable text -> spans.
        token_counter: what a token is: ``"encoder"`` (its vocabulary), ``"words"``, ``"characters"``, a tokenizer or
            any callable text -> int.
        layout: how the kept sentences are written out. Where titles in front of ``"each"`` one, or the separator
            between them, would make the result longer than the documents, titles are written once and separators are
            those of the documents; the result's own ``layout`` says so.
    """

    scorer: Literal["dense", "bm25", "hybrid"] | None = None
    hops: int | None = None
    titles: Literal["prefix", "first_sentence", "ignore"] = "prefix"
    normalize: bool | None = None
    splitter: str | Splitter = "punkt"
    token_counter: str | TokenCounter | Callable[[str], int] = "encoder"
    layout: Layout = Layout()

    # Selection rules as published (text of the papers and code); kept apart from the defaults, which repair them.
    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # Appendix of the paper: NLTK sentences of the top 5 documents, one for NQ and TriviaQA, two for HotpotQA.
        "paper": {
            **_PUBLISHED,
            "top_k": 1,
            "order": "score",
            "titles": "prefix",
            "normalize": False,
            "splitter": "punkt-plain",
            "layout": Layout("each", " ", " ", " "),
        },
        "bergen": {
            **_PUBLISHED,
            "top_k": 3,
            "order": "ascending",
            "pool": "document",
            "titles": "first_sentence",
            "normalize": False,
            "splitter": "punkt-plain",
            "layout": _SPACED,
        },
        # With a threshold BERGEN ranks nothing, and so keeps document order.
        "bergen-threshold": {
            **_PUBLISHED,
            "threshold": 30.0,
            "order": "document",
            "pool": "document",
            "titles": "first_sentence",
            "normalize": False,
            "splitter": "punkt-plain",
            "layout": _SPACED,
        },
        # Upstream first joins the documents, so that one of its units may reach over two of them; ours never does.
        "flashrag": {
            **_PUBLISHED,
            "top_k": 5,
            "titles": "ignore",
            "normalize": True,
            "splitter": "flashrag",
            "layout": _SPACED,
        },
    }

    def __post_init__(self) -> None:
        """Check names and ranges."""
        SelectionConfig.__post_init__(self)
        if isinstance(self.layout, Mapping):  # as read from a file
            object.__setattr__(self, "layout", build_config(Layout, self.layout))
        if not isinstance(self.layout, Layout):
            raise OptionError(f"layout must be a ragcompress.Layout or its fields, got {type(self.layout).__name__}.")
        self._check_scorer()
        check_choice("titles", self.titles, ("prefix", "first_sentence", "ignore"))
        if self.normalize not in (None, True, False):
            raise OptionError(
                f"normalize must be True, False or None (as the checkpoint declares), got {self.normalize!r}."
            )
        get_splitter(self.splitter)
        counters = ("encoder", "words", "characters")
        if isinstance(self.token_counter, str):
            check_choice("token_counter", self.token_counter, counters)
        else:
            get_token_counter(self.token_counter)

    def _check_scorer(self) -> None:
        if self.scorer is not None:
            check_choice("scorer", self.scorer, SCORERS)
        check_range("hops", self.hops, at_least=1, at_most=2, whole=True)
        if self.hops is not None:  # numpy's whole numbers become Python's, which JSON knows
            object.__setattr__(self, "hops", int(self.hops))
        if self.hops == 2 and self.scorer == "dense":
            raise OptionError(
                "hops=2 adds words to the question, which scorer='dense' does not read.",
                hint="Use scorer='hybrid' (or 'bm25'), or hops=1.",
            )
        if self.threshold is not None and (self.scorer in ("bm25", "hybrid") or self.hops == 2):
            came = f"scorer={self.scorer!r}" if self.scorer in ("bm25", "hybrid") else "hops=2"
            raise OptionError(
                f"threshold={self.threshold!r} is a limit for dot products and cannot go with {came}, whose scores "
                "only compare the candidates of one query.",
                hint="Use scorer='dense' with hops=1, or another limit: top_k, max_tokens, ratio.",
            )

    def ranking(self, *, trained_for_dot_product: bool) -> tuple[str, int]:
        """Settle what is left open as None.

        Args:
            trained_for_dot_product: whether the checkpoint compares raw dot products, as RECOMP's own do.

        Returns:
            Scorer and number of hops.
        """
        scorer = self.scorer
        if scorer is None:
            dense = self.threshold is not None or (trained_for_dot_product and self.hops != 2)
            scorer = "dense" if dense else "hybrid"
        return scorer, self.hops or (2 if scorer == "hybrid" else 1)

    def as_json(self) -> dict[str, Any]:
        """The options as JSON-safe values; ``layout`` keeps its preset's name only through its fields.

        Returns:
            What ``RecompExtractiveConfig(**values)`` accepts.

        Raises:
            OptionError: the splitter or the token counter is an object, which has no name in a file.
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in ("splitter", "token_counter"):
            if not isinstance(values[name], str):
                raise OptionError(f"{name} is an object and cannot be written to a file; name a built-in one instead.")
        return values | {"layout": asdict(self.layout)}
