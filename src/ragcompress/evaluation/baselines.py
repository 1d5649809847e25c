"""What anybody can do without a compressor: nothing, everything, or as many tokens as one kept, chosen simply."""

from __future__ import annotations

import hashlib
import random
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace

from ragcompress.backends.recomp_extractive.scoring import words
from ragcompress.composing.budget import TokenBudget
from ragcompress.composing.lengths import output_length
from ragcompress.composing.refining import counted, whole
from ragcompress.errors import EmptyResultWarning, MissingExtraError
from ragcompress.evaluation.answers import UNSPACED
from ragcompress.evaluation.questions import Question
from ragcompress.sentences import get_splitter, split_sentences
from ragcompress.tokens import TokenCounter, encodable
from ragcompress.types import CompressedContext, Source, TextSegment

NO_CONTEXT = "no-context"
# Lists of bm25s by the code of the language.
_STOP_WORDS = {
    "da": "DANISH", "de": "GERMAN", "en": "EN", "es": "SPANISH", "fr": "FRENCH", "it": "ITALIAN", "ko": "KOREAN",
    "nl": "DUTCH", "no": "NORWEGIAN", "pt": "PORTUGUESE", "ru": "RUSSIAN", "sv": "SWEDISH", "tr": "TURKISH",
    "zh": "CHINESE",
}  # fmt: skip
ALL_DOCUMENTS = "all-documents"


def no_context(question: Question, counter: TokenCounter) -> CompressedContext:
    """Keep nothing.

    Args:
        question: with its passages.
        counter: what a token is.

    Returns:
        A context without segments.
    """
    return counted(all_documents(question, counter), (), counter, n_slots=0)


def all_documents(question: Question, counter: TokenCounter) -> CompressedContext:
    """Keep everything.

    Args:
        question: with its passages.
        counter: what a token is.

    Returns:
        A segment for every passage that is not blank.
    """
    return whole(question.text, question.documents, counter)


def first_tokens(question: Question, max_tokens: int, counter: TokenCounter, seed: int) -> CompressedContext:
    """Keep the beginning, passage after passage, cut between words (characters, without spaces) where the limit is.

    Args:
        question: with its passages.
        max_tokens: of the written-out context.
        counter: what a token is.
        seed: not used.

    Returns:
        The context.
    """
    context = all_documents(question, counter)
    if context.n_slots <= max_tokens:
        return context
    kept: list[TextSegment] = []

    def length(*segments: TextSegment) -> int:
        return output_length(context.documents, (*kept, *segments), context.layout, counter)

    for segment in context.segments:
        assert isinstance(segment, TextSegment)  # documents as they are
        if length(segment) <= max_tokens:
            kept.append(segment)
            continue
        if (cut := _beginning(segment, max_tokens, length)) is not None:
            kept.append(cut)
        break
    return counted(context, kept, counter)


def _beginning(segment: TextSegment, max_tokens: int, length: Callable[..., int]) -> TextSegment | None:
    """As many words of a segment as fit; None: not even one does."""
    text, document = segment.text, segment.sources[0].document
    ends = [
        index
        for index in range(1, len(text) + 1)
        if index == len(text) or text[index].isspace() or UNSPACED.match(text[index])
    ]
    fitting, least, most = None, 0, len(ends)
    while least < most:
        middle = (least + most) // 2
        cut = replace(segment, text=text[: ends[middle]], sources=(Source(document, 0, ends[middle]),), n_tokens=None)
        if length(cut) <= max_tokens:
            fitting, least = cut, middle + 1
        else:
            most = middle
    return fitting


def random_sentences(question: Question, max_tokens: int, counter: TokenCounter, seed: int) -> CompressedContext:
    """Keep sentences drawn at random, in the order of the passages, as long as they fit.

    Args:
        question: with its passages.
        max_tokens: of the written-out context.
        counter: what a token is.
        seed: of the drawing; other questions draw others.

    Returns:
        The context.
    """
    digest = hashlib.sha256(encodable(f"{seed}:{question.id}").encode()).digest()
    source = random.Random(digest)  # noqa: S311 (nothing to guard)
    return _best(question, lambda sentences: [source.random() for _ in sentences], max_tokens, counter)


def bm25_sentences(question: Question, max_tokens: int, counter: TokenCounter, seed: int) -> CompressedContext:
    """Keep the sentences that share most words with the question, in the order of the passages, as long as they fit.

    The library bm25s scores each sentence behind its passage's title, with statistics of the question's passages and
    its own stop words of the question's language (English, as it does by default, where the data name none). Words are
    those of our own ranker: the library's tokenizer takes a Chinese clause for a word.

    Args:
        question: with its passages.
        max_tokens: of the written-out context.
        counter: what a token is.
        seed: not used.

    Returns:
        The context.

    Raises:
        MissingExtraError: bm25s is not installed.
    """
    return _best(question, lambda sentences: _bm25(question, sentences), max_tokens, counter)


# Of a result, ``compress_ms`` is the choice alone: nobody who keeps ten sentences pays for fitting another's length.
Baseline = Callable[[Question, int, TokenCounter, int], CompressedContext]
# Each is cut, question by question, to the length of the compressor that it is compared with.
MATCHED: dict[str, Baseline] = {
    "first-tokens": first_tokens,
    "random-sentences": random_sentences,
    "bm25-sentences": bm25_sentences,
}
# What a baseline needs, as pip names it.
NEEDED = {"bm25-sentences": ("bm25s",)}


def _best(
    question: Question,
    score: Callable[[Sequence[TextSegment]], Sequence[float]],
    max_tokens: int,
    counter: TokenCounter,
) -> CompressedContext:
    begin = time.perf_counter()
    splitter = get_splitter("punkt")
    sentences = [
        TextSegment(passage.document.text[start:end], (Source(index, start, end),))
        for index, passage in enumerate(question.passages)
        for start, end in split_sentences(passage.document.text, splitter)
    ]
    scored = [replace(each, score=float(value)) for each, value in zip(sentences, score(sentences), strict=True)]
    timings = {"compress_ms": (time.perf_counter() - begin) * 1000}
    context = counted(all_documents(question, counter), scored, counter)
    if max_tokens < 1:
        return replace(counted(context, (), counter, n_slots=0), timings=timings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EmptyResultWarning)  # where the compressor kept a word, no sentence may fit
        return replace(TokenBudget(max_tokens, token_counter=counter).refine([context])[0], timings=timings)


def _bm25(question: Question, sentences: Sequence[TextSegment]) -> Sequence[float]:
    try:
        import bm25s
        import bm25s.stopwords
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "the baseline bm25-sentences needs bm25s.", hint="pip install 'ragcompress[evaluation]'"
        ) from error
    if not sentences:
        return []
    name = _STOP_WORDS.get(question.language or "en")
    stop_words = frozenset() if name is None else frozenset(getattr(bm25s.stopwords, f"STOPWORDS_{name}"))

    def cut(text: str) -> list[str]:
        return [word for word in words(text) if word not in stop_words]

    documents = [passage.document for passage in question.passages]
    tokens = [cut(f"{documents[each.sources[0].document].title or ''} {each.text}") for each in sentences]
    asked = cut(question.text)
    if not any(tokens) or not asked:
        return [0.0] * len(sentences)
    engine = bm25s.BM25()
    engine.index(tokens, show_progress=False)
    return list(map(float, engine.get_scores(asked)))
