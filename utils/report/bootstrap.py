"""How sure a difference of two methods is: the paired bootstrap (Efron and Tibshirani 1993, chapter 13).

Shapes: R runs, N images of a test set.
"""

from collections.abc import Sequence

import numpy as np

RESAMPLES = 10_000
SEED = 0
LEVEL = 0.95


def shares(rng: np.random.Generator, count: int) -> np.ndarray:
    """The share of each of `count` things in each resample, (RESAMPLES, count): draws over `count`."""
    return rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES) / count


def interval(method: Sequence[np.ndarray], reference: Sequence[np.ndarray]) -> tuple[float, float] | None:
    """The percentile interval of mean(method) - mean(reference), averaged over test sets.

    Both get the same resampled images, drawn within each test set; their runs, where there are several, are resampled
    independently of each other, and are the same in all test sets. None where a test set has a single image, of which
    nothing can be resampled.

    Args:
        method: for each test set the figures of its images, (R, N).
        reference: the same of what it is compared with, (R', N).
    """
    if any(figures.shape[1] < 2 for figures in method):
        return None
    rng = np.random.default_rng(SEED)
    runs, others = shares(rng, len(method[0])), shares(rng, len(reference[0]))
    of_sets = []
    for ours, theirs in zip(method, reference, strict=True):
        by_image = runs @ ours - others @ theirs
        of_sets.append((by_image * shares(rng, ours.shape[1])).sum(axis=1))
    differences = np.mean(of_sets, axis=0)
    low, high = np.quantile(differences, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
