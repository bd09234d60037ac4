"""How certain the difference between two methods is.

Over images by the paired bootstrap (Efron and Tibshirani 1993, chapter 13), over runs by Student's t.

Shapes: R runs, N images of a test set.
"""

from collections.abc import Sequence

import numpy as np

RESAMPLES = 10_000
SEED = 0
LEVEL = 0.95
MIN_IMAGES = 5  # of a test set; resamples of fewer hardly differ


def shares(rng: np.random.Generator, count: int) -> np.ndarray:
    """The share of each of `count` things in each resample, (RESAMPLES, count): draws over `count`."""
    return rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES) / count


def interval(method: Sequence[np.ndarray], reference: Sequence[np.ndarray]) -> tuple[float, float] | None:
    """The percentile interval of mean(method) - mean(reference), averaged over test sets.

    Both get the same resampled images, drawn within each test set. The error of a mean over runs is added as Student's
    t: resampling would cover far less than `LEVEL`, since there are few runs. None where a test set has fewer than
    `MIN_IMAGES`, or where nothing varies, so that an interval would say nothing.

    Args:
        method: for each test set the figures of its images, (R, N).
        reference: the same of what it is compared with, (R', N).
    """
    if any(figures.shape[1] < MIN_IMAGES for figures in method):
        return None
    rng = np.random.default_rng(SEED)
    of_sets = []
    for ours, theirs in zip(method, reference, strict=True):
        by_image = ours.mean(axis=0) - theirs.mean(axis=0)
        of_sets.append(shares(rng, len(by_image)) @ by_image)
    differences = np.mean(of_sets, axis=0) + errors_of_runs(rng, run_means(method), run_means(reference))
    low, high = np.quantile(differences, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return (float(low), float(high)) if low < high else None


def run_means(figures: Sequence[np.ndarray]) -> np.ndarray:
    """The mean of each run over images and then over test sets, (R,)."""
    return np.mean([of_set.mean(axis=1) for of_set in figures], axis=0)


def errors_of_runs(rng: np.random.Generator, ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Draws of the error of mean(ours) - mean(theirs), (RESAMPLES,): of the two-sample t with pooled variance.

    Zero where both are single runs, which do not tell how runs vary.

    Args:
        ours, theirs: a figure of each run, (R,) and (R',).
    """
    freedom = len(ours) + len(theirs) - 2
    if not freedom:
        return np.zeros(RESAMPLES)
    pooled = (ours.var() * len(ours) + theirs.var() * len(theirs)) / freedom
    return rng.standard_t(freedom, RESAMPLES) * np.sqrt(pooled * (1 / len(ours) + 1 / len(theirs)))
