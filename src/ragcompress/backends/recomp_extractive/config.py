"""Options of the extractive RECOMP compressor, and the published selection rules as presets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Literal

from ragcompress.errors import OptionError
from ragcompress.options import build_config, check_choice
from ragcompress.selection import SelectionConfig
from ragcompress.sentences import Splitter, get_splitter
from ragcompress.tokens import TokenCounter, get_token_counter
from ragcompress.types import Layout

_SPACED = Layout(title="never", segment_separator=" ", document_separator=" ")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecompExtractiveConfig(SelectionConfig):
    """Options of ``recomp-extractive``; the limits and the order are those of ``SelectionConfig``.

    Attributes:
        titles: what is scored: ``"prefix"``: ``Document.title``, a space, the sentence; ``"first_sentence"``: the
            first sentence of a document stands for its title, is put in front of every other one, and is always kept;
            ``"ignore"``: the sentence alone.
        normalize: scale vectors to length one before the dot product; None: as the checkpoint declares. RECOMP's own
            checkpoints declare nothing and so use the raw dot product; MiniLM declares it and loses much without.
        splitter: name of a sentence splitter, or any callable text -> spans.
        token_counter: what a token is: ``"encoder"`` (its vocabulary), ``"words"``, ``"characters"``, a tokenizer or
            any callable text -> int.
        layout: how the kept sentences are written out.
    """

    titles: Literal["prefix", "first_sentence", "ignore"] = "prefix"
    normalize: bool | None = None
    splitter: str | Splitter = "punkt"
    token_counter: str | TokenCounter | Callable[[str], int] = "encoder"
    layout: Layout = Layout()

    # Selection rules as published (text of the papers and code); kept apart from the defaults, which repair them.
    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # Appendix of the paper: NLTK sentences of the top 5 documents, one for NQ and TriviaQA, two for HotpotQA.
        "paper": {
            "top_k": 1,
            "order": "score",
            "titles": "prefix",
            "normalize": False,
            "splitter": "punkt-plain",
            "layout": Layout("each", " ", " ", " "),
        },
        "bergen": {
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
