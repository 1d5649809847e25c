"""What a run of indexing did, and what it left out."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that was left out.

    Attributes:
        place: where it came from, e.g. ``corpus.jsonl:17``.
        reason: what is wrong with it.
        content: the record as it was read; None: it could not be kept.
        n_bytes: of the file that are done with it; for progress.
    """

    place: str
    reason: str
    content: str | None = None
    n_bytes: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class IndexSummary:
    """What a run has done so far, or did altogether.

    Attributes:
        store: what was written to, in words.
        n_documents: that were read, the rejected ones not among them.
        n_added: encoded and written.
        n_updated: whose vectors were there already, and whose id or metadata were written anew.
        n_present: that were there already.
        n_duplicates: of equal text and title as one before them.
        n_rejected: records that were left out.
        n_tokens: of the documents that were encoded.
        n_slots: vectors that were written.
        n_bytes_read: of the files, as far as they are done.
        seconds: since the run began.
        rejected: the first hundred of those left out.
        n_truncated: of those added, how many the model did not read to their end.
    """

    store: str
    n_documents: int = 0
    n_added: int = 0
    n_updated: int = 0
    n_present: int = 0
    n_duplicates: int = 0
    n_rejected: int = 0
    n_tokens: int = 0
    n_slots: int = 0
    n_bytes_read: int = 0
    seconds: float = 0.0
    rejected: tuple[Reject, ...] = ()
    n_truncated: int = 0

    @property
    def tokens_per_second(self) -> float:
        """Tokens that were encoded, by the time of the whole run."""
        return self.n_tokens / self.seconds if self.seconds > 0 else 0.0

    def __str__(self) -> str:
        """One line for people."""
        cut = f" ({self.n_truncated:,} not read to their end)" if self.n_truncated else ""
        parts = [f"{self.n_added:,} added{cut}"]
        for number, words in (
            (self.n_updated, "with new metadata"),
            (self.n_present, "there already"),
            (self.n_duplicates, "duplicates"),
            (self.n_rejected, "rejected"),
        ):
            parts += [f"{number:,} {words}"] if number else []
        total = f"{self.n_documents + self.n_rejected:,} records: {', '.join(parts)}"
        rate = f"; {self.n_tokens:,} tokens as {self.n_slots:,} vectors in {self.seconds:,.1f} s"
        return total + (
            f"{rate} ({self.tokens_per_second:,.0f} tokens/s)" if self.n_added else f" ({self.seconds:,.1f} s)"
        )
