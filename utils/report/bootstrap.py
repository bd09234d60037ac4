"""How sure a difference of two methods is: the paired bootstrap (Efron and Tibshirani 1993, chapter 13).

Shapes: R runs, N images.
"""

import numpy as np

RESAMPLES = 10_000
SEED = 0
LEVEL = 0.95


def shares(rng: np.random.Generator, count: int) -> np.ndarray:
    """The share of each of `count` things in each resample, (RESAMPLES, count): draws over `count`."""
    return rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES) / count


def interval(method: np.ndarray, reference: np.ndarray) -> tuple[float, float] | None:
    """The percentile interval of mean(method) - mean(reference), (R, N) and (R', N) figures of the same images.

    Both get the same resampled images; their runs, where there are several, are resampled independently. None for a
    single image, of which nothing can be resampled.
    """
    rng = np.random.default_rng(SEED)
    images = method.shape[1]
    if images < 2:
        return None
    by_image = shares(rng, len(method)) @ method - shares(rng, len(reference)) @ reference
    differences = (by_image * shares(rng, images)).sum(axis=1)
    low, high = np.quantile(differences, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
