"""The intervals of a report, against what statistics packages make of the same figures."""

import numpy as np
import pytest
import scipy.stats

from utils.report import bootstrap


def test_the_interval_of_single_runs_is_scipys_paired_bootstrap() -> None:
    rng = np.random.default_rng(3)
    reference = rng.normal(28, 3, (1, 50))
    method = reference + rng.normal(0.05, 0.1, (1, 50))
    samples = ((method - reference)[0],)
    expected = scipy.stats.bootstrap(samples, np.mean, method="percentile", n_resamples=10_000, rng=0)
    assert bootstrap.interval([method], [reference]) == pytest.approx(tuple(expected.confidence_interval), abs=2e-3)


def test_the_interval_of_repeated_runs_knows_of_their_spread() -> None:
    images = np.linspace(20, 30, 50)
    runs, others = np.array([0.1, 0.12, 0.17, 0.05]), np.array([-0.1, 0.1, 0.02])
    expected = scipy.stats.ttest_ind(runs, others).confidence_interval(bootstrap.LEVEL)
    method, reference = images + runs[:, None], images + others[:, None]
    assert bootstrap.interval([method], [reference]) == pytest.approx(tuple(expected), abs=5e-3)
    assert bootstrap.interval([images[None]], [images[None]]) is None, "it would say nothing"


def test_a_single_run_is_believed_to_vary_like_those_that_it_is_compared_with() -> None:
    images = np.linspace(20, 30, 50)
    reference = images + np.array([[-0.1], [0.1]])
    low, high = bootstrap.interval([images[None]], [reference]) or (0.0, 0.0)
    half = scipy.stats.t.ppf(0.975, df=1) * np.sqrt(0.02 * (1 + 1 / 2))
    assert (low, high) == pytest.approx((-half, half), rel=0.1)


def test_the_interval_over_test_sets_weighs_them_alike() -> None:
    rng = np.random.default_rng(3)
    few, many = rng.normal(28, 3, (1, 5)), rng.normal(28, 3, (1, 90))
    better = few + rng.normal(0.05, 0.1, (1, 5))
    low, high = bootstrap.interval([better], [few]) or (0.0, 0.0)
    assert bootstrap.interval([better, many + 0.3], [few, many]) == pytest.approx(((low + 0.3) / 2, (high + 0.3) / 2))


def test_few_images_have_no_interval() -> None:
    rng = np.random.default_rng(3)
    few, enough = rng.normal(28, 3, (2, 4)), rng.normal(28, 3, (2, 5))
    assert bootstrap.interval([few], [few - 1]) is None
    assert bootstrap.interval([few, enough], [few - 1, enough - 1]) is None
    assert bootstrap.interval([enough], [enough - 1]) is not None
