"""Questions with their retrieved passages and what is known of the right answer."""

from __future__ import annotations

from dataclasses import dataclass

from ragcompress.errors import InputError
from ragcompress.options import check_range
from ragcompress.types import Document

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Passage:
    """A retrieved passage.

    Attributes:
        document: title and text.
        supporting: whether it is needed for the answer; None: the data does not say.
        sentences: the dataset's own sentences, as spans of the text; None: it has none.
        supporting_sentences: indices of those that are needed for the answer; None: the data does not say.
    """

    document: Document
    supporting: bool | None = None
    sentences: tuple[Span, ...] | None = None
    supporting_sentences: tuple[int, ...] | None = None

    @property
    def gold(self) -> tuple[Span, ...] | None:
        """Spans of the sentences that are needed; None: the data does not say."""
        if self.sentences is None or self.supporting_sentences is None:
            return None
        return tuple(self.sentences[index] for index in self.supporting_sentences)


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its passages.

    Attributes:
        id: unique within its dataset.
        text: the question.
        answers: right ones, at least one.
        passages: in the order of retrieval, best first.
        language: code of the language, e.g. ``"de"``; None: the data does not say.
    """

    id: str
    text: str
    answers: tuple[str, ...]
    passages: tuple[Passage, ...]
    language: str | None = None

    @property
    def documents(self) -> tuple[Document, ...]:
        """What a compressor is given."""
        return tuple(passage.document for passage in self.passages)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which questions and passages are evaluated.

    Attributes:
        limit: only the first so many questions; None: all.
        n_docs: only the first so many passages of each; None: all.
        gold_only: only the passages that support the answer: what an oracle would have retrieved. Questions of which
            the data names none are left out.
        shuffle_docs: seed of an order of those passages that is drawn for each question; None: as they are.
    """

    limit: int | None = None
    n_docs: int | None = None
    gold_only: bool = False
    shuffle_docs: int | None = None

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            OptionError: a value is out of range.
        """
        check_range("limit", self.limit, at_least=1, whole=True)
        check_range("docs", self.n_docs, at_least=1, whole=True)
        check_range("shuffle_docs", self.shuffle_docs, at_least=0, whole=True)


@dataclass(frozen=True, slots=True)
class Dataset:
    """Questions to evaluate with.

    Attributes:
        name: of the data, without a folder or an ending.
        questions: those selected, at least one.
        sha256: of the data as they were read, before anything was selected.
        selection: which of them are evaluated.
        skipped: why records were left out, each with file and line.
        source: of published data, where they come from and which part they are; None: a file, or an object.
    """

    name: str
    questions: tuple[Question, ...]
    sha256: str
    selection: Selection = Selection()
    skipped: tuple[str, ...] = ()
    source: str | None = None

    def __post_init__(self) -> None:
        """Check the name, which becomes that of a folder.

        Raises:
            InputError: it cannot be one.
        """
        if not self.name or self.name.startswith(".") or any(character in "/\\:\0\n" for character in self.name):
            raise InputError(f"a dataset cannot be called {self.name!r}.", hint="It becomes the name of a folder.")
