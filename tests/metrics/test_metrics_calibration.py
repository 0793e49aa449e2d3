from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unclouded.metrics import calibration as c
from unclouded.metrics.pair import Pair, measure


def honest(seed=0, shape=(4, 120, 120), factor=1.0):
    """A pair whose sigma is the true one, times `factor`."""
    rng = np.random.default_rng(seed)
    sigma = np.exp(rng.normal(-4, 0.7, shape)).astype(np.float32)
    target = rng.random(shape).astype(np.float32)
    return Pair(target + (sigma * rng.normal(size=shape)).astype(np.float32), target, sigma=factor * sigma)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95])
def test_coverage_of_a_true_sigma(level):
    assert measure(c.Coverage(level), honest()) == pytest.approx(level, abs=0.01)


def test_interval_widths():
    assert c.interval_width(0.9) == pytest.approx(1.6449, abs=1e-4)
    assert c.interval_width(0.6827) == pytest.approx(1, abs=1e-3)


def test_without_sigma_there_is_no_number():
    pair = Pair(np.zeros((1, 4, 4)), np.ones((1, 4, 4)))
    for metric in (c.Coverage(), c.Spread(), c.Uce()):
        assert np.isnan(measure(metric, pair))


def test_ence_is_zero_for_truth_and_one_half_for_doubled_sigma():
    for factor, expected in ((1.0, 0.0), (2.0, 0.5)):
        pair = honest(factor=factor)
        assert c.ence(pair.sigma, pair.error) == pytest.approx(expected, abs=0.03)
        assert measure(c.Spread(), pair) == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_histograms_agree_with_the_exact_functions(factor):
    pair = honest(seed=3, factor=factor)
    sums = c.Spread().state(pair)
    assert c.Spread().value(sums) == pytest.approx(c.ence(pair.sigma, pair.error), abs=0.03)
    exact, binned = c.sparsification(pair.sigma, pair.error), c.Spread().sparsification(sums)
    np.testing.assert_allclose(binned.by_sigma, exact.by_sigma, atol=0.01)
    np.testing.assert_allclose(binned.by_oracle, exact.by_oracle, atol=0.01)
    assert binned.ause == pytest.approx(exact.ause, abs=0.005)
    assert c.Spread.median_sigma(sums) == pytest.approx(np.median(pair.sigma), rel=0.12)


def test_spread_adds_up_over_images():
    a, b = honest(1), honest(2)
    joined = Pair(
        np.concatenate([a.prediction, b.prediction], 1), np.concatenate([a.target, b.target], 1),
        sigma=np.concatenate([a.sigma, b.sigma], 1),
    )  # fmt: skip
    np.testing.assert_allclose(c.Spread().state(a) + c.Spread().state(b), c.Spread().state(joined), rtol=1e-6)


def test_sparsification_by_hand():
    error, sigma = np.array([1.0, 2, 3, 4]), np.array([4.0, 3, 2, 1])  # the order is the worst there is
    found = c.sparsification(sigma, error, np.array([0, 0.5]))
    rms = np.sqrt(30 / 4)
    np.testing.assert_allclose(found.by_sigma, [1, np.sqrt((9 + 16) / 2) / rms])
    np.testing.assert_allclose(found.by_oracle, [1, np.sqrt((1 + 4) / 2) / rms])
    perfect = c.sparsification(error, error)
    assert perfect.ause == pytest.approx(0)
    assert perfect.ause_share == pytest.approx(0)
    rng = np.random.default_rng(0)
    useless = c.sparsification(rng.random(20_000), rng.normal(size=20_000))
    assert useless.ause_share == pytest.approx(1, abs=0.05)


def test_published_uce_lets_errors_cancel_and_the_corrected_one_does_not():
    sigma = np.full(1000, 0.1)
    error = np.tile([0.5, -0.5], 500)  # five times worse than stated
    assert c.uce_as_published(np.full(1000, 0.01), np.zeros(1000)).uce == pytest.approx(0.1)  # signed means are 0
    assert c.uce_corrected(sigma, error).uce == pytest.approx(0.4)


def test_published_bins_leave_the_last_to_the_largest_alone():
    variance = np.linspace(0, 1, 101)
    error = np.where(variance == 1, 7.0, np.sqrt(variance))
    found = c.uce_as_published(variance, error)
    assert found.uce == pytest.approx(6 / 101, abs=0.01)
    assert found.auce == pytest.approx(6 / 20, abs=0.02)


def test_empty_sets():
    nothing = np.empty(0)
    assert np.isnan(c.ence(nothing, nothing))
    assert np.isnan(c.uce_as_published(nothing, nothing)).all()
    assert np.isnan(c.uce_corrected(nothing, nothing)).all()
    assert np.isnan(c.sparsification(nothing, nothing).ause)
    assert np.isnan(c.discarded(nothing, nothing)).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 400))
def test_ause_is_never_negative(seed, count):
    rng = np.random.default_rng(seed)
    assert c.sparsification(rng.random(count), rng.normal(size=count)).ause >= -1e-12
