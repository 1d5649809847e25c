"""What is measured, under which names: one table that the runner fills and the report reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Measure:
    """One number of a question.

    Attributes:
        label: for tables.
        unit: ``"share"``: from 0 to 1, shown in percent; ``"ratio"``: times; ``"tokens"``, ``"characters"``,
            ``"slots"``, ``"ms"``, ``"flops"``.
        better: which way is better; None: neither.
        about: one sentence that says what it is.
    """

    label: str
    unit: Literal["share", "ratio", "tokens", "characters", "slots", "ms", "flops"]
    better: Literal["high", "low"] | None
    about: str


MEASURES: dict[str, Measure] = {
    "exact_match": Measure("exact match", "share", "high", "the answer is a right one, after SQuAD's normalisation"),
    "f1": Measure("F1", "share", "high", "overlap of the words of the answer and of the nearest right one"),
    "cover_match": Measure("contains", "share", "high", "a right answer stands in the answer, in whole words"),
    "judge": Measure("judge", "share", "high", "a language model takes the answer for right"),
    "support_recall": Measure(
        "sentence recall", "share", "high", "supporting sentences of which at least half was kept"
    ),
    "support_precision": Measure("sentence precision", "share", "high", "kept sentences that support the answer"),
    "support_f1": Measure("sentence F1", "share", "high", "harmonic mean of the two"),
    "all_support": Measure("all sentences", "share", "high", "every supporting sentence was kept"),
    "document_recall": Measure("passage recall", "share", "high", "supporting passages of which something was kept"),
    "answer_in_context": Measure(
        "answer kept", "share", "high", "a right answer stands in the context, in whole words"
    ),
    "tokens": Measure("tokens", "tokens", "low", "length of the context in the reader's tokens and memory slots"),
    "all_tokens": Measure("tokens before", "tokens", None, "length of all documents, in the reader's tokens"),
    "token_compression": Measure("token compression", "ratio", "high", "tokens before / tokens, over all questions"),
    "characters": Measure("characters", "characters", "low", "length of the context's text, in characters"),
    "all_characters": Measure("characters before", "characters", None, "length of all documents, in characters"),
    "character_compression": Measure(
        "character compression", "ratio", "high", "characters before / characters, over all questions"
    ),
    "slots": Measure("memory slots", "slots", "low", "places that vectors take in the reader's input"),
    "compress_ms": Measure(
        "compression", "ms", "low", "a whole call of the compressor, nothing known of the documents"
    ),
    "added_ms": Measure(
        "added latency", "ms", "low", "the same without what a store keeps of the documents, encoded ahead of time"
    ),
    "prompt_tokens": Measure("prompt", "tokens", "low", "length of the whole prompt, examples included"),
    "new_tokens": Measure("answer length", "tokens", None, "tokens that the reader wrote"),
    "prefill_ms": Measure("prefill", "ms", "low", "the reader's time to its first token, a share of its batch's"),
    "read_ms": Measure("reading", "ms", "low", "the reader's whole time, a share of its batch's"),
    "total_ms": Measure("in all", "ms", "low", "added latency and reading together"),
    "compress_flops": Measure("compressor's operations", "flops", "low", "estimated; see the documentation"),
    "read_flops": Measure("reader's operations", "flops", "low", "estimated; see the documentation"),
}
