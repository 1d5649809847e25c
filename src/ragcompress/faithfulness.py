"""How well the documents support what was written about them: one score a sentence.

The built-in scorer is a cheap signal, not a proof: the likeness of a sentence to the document sentence closest to it.
It finds what was made up out of nothing; it does not find a wrong number in an otherwise copied sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ragcompress.compressor import Compressor, OfflineCompressor
from ragcompress.errors import InputError, OptionError
from ragcompress.types import Document

if TYPE_CHECKING:
    from torch import Tensor

# (sentences, documents) -> the support of each sentence, higher is better.
SupportScorer = Callable[[Sequence[str], Sequence[Document]], Sequence[float]]


class EncoderSupport:
    """Support as the cosine to the closest sentence of the documents, by the vectors of an extractive compressor."""

    def __init__(self, compressor: OfflineCompressor) -> None:
        """Take the compressor whose vectors are compared.

        Args:
            compressor: one with a vector a sentence; vectors of documents are kept in its store.
        """
        self.compressor = compressor

    def __call__(self, sentences: Sequence[str], documents: Sequence[Document]) -> list[float]:
        """Score sentences.

        Args:
            sentences: (n_sents,).
            documents: what they were written from.

        Returns:
            (n_sents,) cosines, from -1 to 1; 0 where there is nothing to compare with.
        """
        import torch

        known = [memory.vectors for memory in self.compressor.remember(documents).values() if len(memory.vectors)]
        if not known:
            return [0.0] * len(sentences)
        matrix = torch.cat(known)
        written = self.compressor.encode([Document(sentence) for sentence in sentences])
        return [best_cosine(memory.vectors, matrix) for memory in written]


def best_cosine(vectors: Tensor, others: Tensor) -> float:
    """Mean over rows of the cosine to the closest other row.

    Args:
        vectors: (n_vectors, width); none: 0.
        others: (n_others, width), at least one.

    Returns:
        From -1 to 1.
    """
    from ragcompress.nn.pooling import unit_length

    if not len(vectors):
        return 0.0
    cosines = unit_length(vectors.float()) @ unit_length(others.float()).T
    return float(cosines.max(dim=1).values.mean())


def support_scorer(spec: object) -> SupportScorer:
    """Turn an option into a scorer.

    Args:
        spec: the name of an extractive backend, such a compressor, or a function (sentences, documents) -> scores.

    Returns:
        The scorer; a backend named is loaded now.

    Raises:
        OptionError: it is none of these, or the compressor has no vectors of sentences.
    """
    if isinstance(spec, str):
        from ragcompress.registry import load

        spec = load(spec)
    if isinstance(spec, Compressor):
        if not isinstance(spec, OfflineCompressor) or spec.info.kind != "text":
            raise OptionError(
                f"faithfulness={spec.name!r} has no vectors of sentences to compare.",
                hint="Use 'recomp-extractive', or any function (sentences, documents) -> scores.",
            )
        return EncoderSupport(spec)
    if not callable(spec):
        raise OptionError(
            f"faithfulness must be a backend, a compressor or a function (sentences, documents) -> scores, "
            f"got {type(spec).__name__}."
        )
    return spec


def score_support(scorer: SupportScorer, sentences: Sequence[str], documents: Sequence[Document]) -> list[float]:
    """Ask a scorer, and check what came, since it may be anyone's.

    Args:
        scorer: see ``support_scorer``.
        sentences: (n_sents,).
        documents: what they were written from.

    Returns:
        (n_sents,) Python floats.

    Raises:
        InputError: the scorer gave another number of scores, or something that is no finite number.
    """
    given = scorer(sentences, documents)
    try:
        scores = [float(score) for score in given]
    except (TypeError, ValueError):
        scores = []
    if len(scores) != len(sentences) or any(score != score or abs(score) == float("inf") for score in scores):
        raise InputError(
            f"the faithfulness scorer gave {given!r:.80} for {len(sentences)} sentences; "
            "expected one finite number for each."
        )
    return scores
