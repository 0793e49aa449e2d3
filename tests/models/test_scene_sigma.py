"""How wrong a guess may be: slopes and scales of rehearsals whose error is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from unclouded.models.scene_sigma import OWN, Rehearsed, joined, learned

SLOPE = 0.7


def rehearsed(scale: float, trust: float, seed: int) -> Rehearsed:
    """Gaussian errors (2, 4000) of size scale * exp(SLOPE * clue)."""
    rng = np.random.default_rng(seed)
    clue = rng.normal(size=(1, 2, 4000))
    return Rehearsed(scale * np.exp(SLOPE * clue[0]) * rng.normal(size=(2, 4000)), clue, trust)


def test_slope_and_mean_scale_are_found():
    others = [rehearsed(5.0, 1.0, 0), rehearsed(20.0, 3.0, 1)]
    sigma = learned(others, None)
    assert sigma.weights[0] == pytest.approx(SLOPE / 1.05, rel=0.03)  # the ridge takes a twentieth of the clue's variance
    assert sigma.constant == pytest.approx((np.log(5.0) + 3 * np.log(20.0)) / 4, abs=0.06)


def test_how_dates_differ_does_not_bend_the_slope():
    one, other = rehearsed(5.0, 1.0, 0), rehearsed(20.0, 1.0, 1)
    shifted = replace(other, clues=other.clues + 3)
    assert learned([one, shifted], None).weights == pytest.approx(learned([one, other], None).weights, rel=1e-5)


def test_the_date_itself_counts_against_all_others_together():
    others, own = [rehearsed(1.0, 0.5, 0), rehearsed(1.0, 1.5, 1)], rehearsed(4.0, 99.0, 2)
    assert learned(others, own).constant == pytest.approx(np.log(4.0) * OWN / (1 + OWN), abs=0.06)
    assert learned([], own).constant == pytest.approx(np.log(4.0), abs=0.06)


def test_doubt_raises_the_scale_by_how_much_dates_differ_unless_the_date_speaks():
    others, own = [rehearsed(0.5, 1.0, 0), rehearsed(2.0, 1.0, 1)], rehearsed(1.0, 1.0, 2)
    raised = learned(others, None, 1.0).constant - learned(others, None).constant
    assert raised == pytest.approx(np.log(2.0), abs=0.03)  # scales log 0.5 and log 2: one standard deviation
    assert np.array_equal(learned(others, own, 1.0).constant, learned(others, own).constant)


def test_parts_of_a_rehearsal_are_one():
    a, b = rehearsed(1.0, 1.0, 0), rehearsed(1.0, 1.0, 1)
    both = joined([a, b])
    assert np.array_equal(both.error, np.concatenate([a.error, b.error], 1)) and both.clues.shape == (1, 2, 8000)
