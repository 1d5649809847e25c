"""Options that all latent backends share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

from ragcompress.errors import OptionError
from ragcompress.options import check_choice, check_range
from ragcompress.sentences import Splitter, get_splitter

# The published code cuts every document at its limit, reads no titles, and encodes however little there is.
_AS_PUBLISHED: Mapping[str, Any] = {"on_long": "truncate", "titles": "ignore", "short_documents": "memory"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentConfig:
    """What is read of a document, and how the published prompt is written.

    Attributes:
        titles: ``"prefix"``: the title, a line end, the text (at the head of every chunk); ``"ignore"``.
        on_long: what happens beyond the compressor's length: ``"chunk"``: as many chunks as it takes, each a segment
            with its own span; ``"truncate"``: the rest is not read, as published.
        short_documents: a text of no more tokens than its memory would have slots stays ``"text"``, since the
            output must not be longer than the input; ``"memory"``: is encoded all the same, as published.
        max_length: tokens that the compressor reads of a chunk (and the question with it); None: as published, 128.
        splitter: where chunks may end.
        question: ``"hub"``: ``Question:`` without a space, as the released class writes it; ``"spaced"``: with one,
            as the models were trained and measured. Only PISCO and OSCAR of 2025 know the difference.
        repetition_penalty: of the readers made from here; ``"base"``: what the base model's generation config says.
    """

    titles: Literal["prefix", "ignore"] = "prefix"
    on_long: Literal["chunk", "truncate"] = "chunk"
    short_documents: Literal["text", "memory"] = "text"
    max_length: int | None = None
    splitter: str | Splitter = "punkt"
    question: Literal["hub", "spaced"] = "hub"
    repetition_penalty: float | Literal["base"] = 1.0

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "upstream": {**_AS_PUBLISHED, "question": "hub", "repetition_penalty": "base"},
        "bergen": {**_AS_PUBLISHED, "question": "spaced", "repetition_penalty": "base"},
    }

    def __post_init__(self) -> None:
        """Check names and ranges.

        Raises:
            OptionError: a value does not exist or is out of range.
        """
        check_choice("titles", self.titles, ("prefix", "ignore"))
        check_choice("on_long", self.on_long, ("chunk", "truncate"))
        check_choice("short_documents", self.short_documents, ("text", "memory"))
        check_choice("question", self.question, ("hub", "spaced"))
        check_range("max_length", self.max_length, at_least=8, whole=True)
        if self.repetition_penalty != "base":
            check_range("repetition_penalty", self.repetition_penalty, at_least=0.01)
        get_splitter(self.splitter)

    def as_json(self) -> dict[str, Any]:
        """The options as JSON-safe values.

        Returns:
            What the config class accepts.

        Raises:
            OptionError: the splitter is an object, which has no name in a file.
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        if not isinstance(values["splitter"], str):
            raise OptionError("splitter is an object and cannot be written to a file; name a built-in one instead.")
        return values
