"""Means with their intervals: the bootstrap over questions (Efron and Tibshirani 1993, chapter 13: percentiles)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from ragcompress.evaluation.records import Estimate

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

N_RESAMPLES = 2_000
_ENDS = (2.5, 97.5)
# Draws are kept for so many questions (some thirty megabytes); for more, a few resamples are drawn at once.
_MOST_KEPT = 2_000
_AT_ONCE = 50


@lru_cache(maxsize=4)
def _shares(n: int, seed: int, n_resamples: int) -> npt.NDArray[np.float64]:
    """(n_resamples, n): how often each of n questions was drawn in each resample, over n."""
    import numpy as np

    source = np.random.default_rng(seed)
    drawn = source.integers(0, n, size=(n_resamples, n))
    return np.stack([np.bincount(row, minlength=n) for row in drawn]) / n


def _resampled(values: npt.NDArray[np.float64], seed: int, n_resamples: int) -> npt.NDArray[np.float64]:
    """(n_rows, n_questions) values -> (n_rows, n_resamples) means of questions drawn with replacement."""
    import numpy as np

    n = values.shape[1]
    if n <= _MOST_KEPT:  # the same draws serve every measure
        return values @ _shares(n, seed, n_resamples).T
    source = np.random.default_rng(seed)
    parts = []
    for start in range(0, n_resamples, _AT_ONCE):
        drawn = source.integers(0, n, size=(min(_AT_ONCE, n_resamples - start), n))
        parts.append(values[:, drawn].mean(axis=2))
    return np.concatenate(parts, axis=1)


def mean_estimate(
    values: Sequence[float], *, seed: int, times: bool = False, n_resamples: int = N_RESAMPLES
) -> Estimate:
    """Estimate a mean over questions.

    Args:
        values: (n_questions,), at least one.
        seed: of the resampling.
        times: whether median and 95th percentile are wanted, too.
        n_resamples: how many.

    Returns:
        The mean with its 95 % interval.
    """
    import numpy as np

    array = np.asarray(values, dtype=np.float64)
    low, high = np.percentile(_resampled(array[None], seed, n_resamples)[0], _ENDS)
    p50, p95 = np.percentile(array, (50, 95)) if times else (None, None)
    return Estimate(
        float(array.mean()), float(low), float(high), len(array),
        None if p50 is None else float(p50), None if p95 is None else float(p95),
    )  # fmt: skip


def ratio_estimate(
    above: Sequence[float], below: Sequence[float], *, seed: int, n_resamples: int = N_RESAMPLES
) -> Estimate | None:
    """Estimate ``sum(above) / sum(below)``, pairs drawn together.

    Args:
        above: (n_questions,), at least one.
        below: (n_questions,), not negative.
        seed: of the resampling.
        n_resamples: how many.

    Returns:
        The ratio with its 95 % interval; None where nothing is below.
    """
    import numpy as np

    pairs = np.asarray([above, below], dtype=np.float64)
    if not pairs[1].sum() > 0:
        return None
    means = _resampled(pairs, seed, n_resamples)
    # A draw with nothing below says that the ratio may be anything up to the largest that was seen.
    positive = means[1] > 0
    low, high = np.percentile(means[0][positive] / means[1][positive], _ENDS)
    return Estimate(float(pairs[0].sum() / pairs[1].sum()), float(low), float(high), pairs.shape[1])
