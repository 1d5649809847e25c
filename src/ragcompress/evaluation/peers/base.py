"""What other people's code has in common here: documents in, a context of at most so many tokens out.

A peer is called through its own public interface, with its own defaults. Few of them know a budget in the reader's
tokens, so the one knob that each has is turned, question by question, until the output is the longest that fits.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any, ClassVar, Protocol, Self

from ragcompress.composing.lengths import output_length
from ragcompress.composing.refining import counted, measured, whole
from ragcompress.compressor import check_inputs
from ragcompress.evaluation.environment import versions_of
from ragcompress.options import check_range
from ragcompress.sentences import Splitter, split_sentences
from ragcompress.tokens import TokenCounter, encodable
from ragcompress.types import CompressedContext, Document, Layout, Source, TextSegment


class Written(Protocol):
    """What a language model wrote; ``ragcompress.evaluation.readers.base.Reading`` is one."""

    @property
    def text(self) -> str:
        """As it was written."""


class Completes(Protocol):
    """A language model; ``ragcompress.evaluation.readers.base.PromptReader`` is one."""

    def complete(self, prompts: Sequence[str], *, max_new_tokens: int) -> Sequence[Written]:
        """Go on with some prompts."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What a peer kept.

    Attributes:
        segments: in reading order.
        compress_ms: a single call of the peer, with the setting that was found.
        fit_ms: the search for that setting, which nobody pays in use.
    """

    segments: Sequence[TextSegment]
    compress_ms: float
    fit_ms: float = 0.0


class Peer(ABC):
    """Somebody else's compressor. One thread at a time.

    Attributes:
        name: for experiments and reports.
        about: one sentence on what it does.
        packages: what it needs, as pip names it, by the module that it is imported as.
        budgeted: whether it can be held to a number of tokens.
        config_class: its options, a frozen dataclass.
    """

    name: ClassVar[str] = ""
    about: ClassVar[str] = ""
    packages: ClassVar[dict[str, str]] = {}
    budgeted: ClassVar[bool] = True
    config_class: ClassVar[type[Any]]

    @classmethod
    def missing(cls) -> str | None:
        """Say why it cannot run here, without importing anything heavy.

        Returns:
            What is missing and how to get it; None: nothing is.
        """
        absent = [package for module, package in cls.packages.items() if not is_installed(module)]
        if not absent:
            return None
        return f"{cls.name} needs {' and '.join(absent)}. pip install 'ragcompress[peers]', or {' '.join(absent)}."

    @classmethod
    def versions(cls) -> dict[str, str]:
        """Say which versions are compared with.

        Returns:
            Versions by package, of those that are installed.
        """
        return versions_of(cls.packages.values())

    @classmethod
    @abstractmethod
    def load(cls, config: Any, reader: Completes | None) -> Self:  # noqa: ANN401 (of config_class)
        """Build it.

        Args:
            config: of ``config_class``.
            reader: of the run; for peers that need a language model.

        Returns:
            The peer.

        Raises:
            OptionError: an option does not go with what is there.
            CheckpointError: its weights cannot be found or do not fit.
        """

    def compress(
        self, question: str, documents: Sequence[Document], max_tokens: int | None, counter: TokenCounter
    ) -> CompressedContext:
        """Compress the documents of a question.

        Args:
            question: must not be blank.
            documents: (n_docs,); they are not changed. Peers see lone surrogates, which their code cannot encode, as
                U+FFFD.
            max_tokens: the most tokens of the written-out context, titles and separators included; None: whatever the
                peer keeps by its own default. A peer that is not ``budgeted`` takes no notice.
            counter: what a token is.

        Returns:
            What was kept, written out as everybody's. ``timings`` holds ``compress_ms``, a single call of the peer,
            and ``fit_ms``, the search for the setting that fits.

        Raises:
            InputError: the question is blank.
            OptionError: there is no limit, and the peer has no default.
        """
        check_range("max_tokens", max_tokens, at_least=0, whole=True)
        (own,) = check_inputs([question], [documents])
        clean = tuple(
            replace(each, text=encodable(each.text), title=None if each.title is None else encodable(each.title))
            for each in own
        )
        kept = self.keep(encodable(question), clean, max_tokens, counter)
        segments = [_restored(segment, own) for segment in kept.segments]
        context = counted(whole(question, own, counter), measured(segments, counter), counter)
        return replace(context, timings={"compress_ms": kept.compress_ms, "fit_ms": kept.fit_ms})

    @abstractmethod
    def keep(
        self, question: str, documents: tuple[Document, ...], max_tokens: int | None, counter: TokenCounter
    ) -> Kept:
        """Choose what is kept; see ``compress``, where the arguments have been checked."""


def _restored(segment: TextSegment, documents: Sequence[Document]) -> TextSegment:
    """Give a segment with a span the very text that stands there, lone surrogates and all."""
    if len(segment.sources) != 1 or segment.sources[0].start is None:
        return segment
    (source,) = segment.sources
    return replace(segment, text=documents[source.document].text[source.start : source.end])


class FittedPeer(Peer):
    """A peer with a knob, which is fitted by bisection for each question."""

    @abstractmethod
    def knob(
        self, question: str, documents: tuple[Document, ...], max_tokens: int, counter: TokenCounter
    ) -> Sequence[float]:
        """List the settings of the knob.

        Args:
            question: any.
            documents: (n_docs,).
            max_tokens: the limit, at least 1.
            counter: what a token is.

        Returns:
            Settings, in the order of how much they keep.
        """

    @abstractmethod
    def attempt(
        self, question: str, documents: tuple[Document, ...], setting: float | None, counter: TokenCounter
    ) -> list[TextSegment]:
        """Call the peer once.

        Args:
            question: any.
            documents: (n_docs,).
            setting: of the knob; None: the peer's default.
            counter: what a token is.

        Returns:
            What it kept, in reading order.
        """

    def remembering(self) -> AbstractContextManager[object]:
        """Keep what does not depend on the knob (vectors, say) from one attempt to the next, and no longer."""
        return nullcontext()

    def keep(
        self, question: str, documents: tuple[Document, ...], max_tokens: int | None, counter: TokenCounter
    ) -> Kept:
        """Turn the knob until the output is the longest that fits; see ``Peer.keep``."""
        setting: float | None = None
        fitting: list[TextSegment] = []
        fit_ms = 0.0
        if max_tokens is not None:
            begin = time.perf_counter()
            settings: Sequence[float] = ()

            def fits(setting: float) -> bool:
                nonlocal fitting
                segments = self.attempt(question, documents, setting, counter)
                if output_length(documents, segments, Layout(), counter) > max_tokens:
                    return False
                fitting = segments
                return True

            with self.remembering():
                settings = self.knob(question, documents, max_tokens, counter) if max_tokens else ()
                found = largest(len(settings), lambda index: fits(settings[index]))
            fit_ms = (time.perf_counter() - begin) * 1000
            if not settings:
                return Kept((), 0.0, fit_ms)
            setting = settings[max(found, 0)]
        begin = time.perf_counter()
        segments = self.attempt(question, documents, setting, counter)
        took = (time.perf_counter() - begin) * 1000
        return Kept(segments if max_tokens is None else fitting, took, fit_ms)


def largest(n: int, fits: Callable[[int], bool]) -> int:
    """Find the last index that fits, by bisection; where what fits is no run from the first on, one that fits.

    >>> largest(10, lambda index: index <= 6), largest(10, lambda index: False)
    (6, -1)

    Args:
        n: how many indices there are.
        fits: asked of a few of them; the last one it said yes to is the result.

    Returns:
        An index; -1: none.
    """
    below, above = -1, n
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (middle, above) if fits(middle) else (below, middle)
    return below


def is_installed(module: str) -> bool:
    """Say whether a module can be found, without importing it.

    Args:
        module: dotted; packages above it are imported.

    Returns:
        Whether it is there.
    """
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def sentences_of(documents: Iterable[Document], splitter: Splitter) -> list[TextSegment]:
    """Cut documents into sentences.

    Args:
        documents: (n_docs,).
        splitter: text -> spans.

    Returns:
        Segments, in the order of the documents.
    """
    return [
        TextSegment(document.text[start:end], (Source(index, start, end),))
        for index, document in enumerate(documents)
        for start, end in split_sentences(document.text, splitter)
    ]
