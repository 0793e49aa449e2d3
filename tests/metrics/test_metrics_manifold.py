from __future__ import annotations

import numpy as np
import pytest

from unclouded.metrics.manifold import Manifold, precision_recall


def test_equal_sets_are_perfect():
    features = np.random.default_rng(0).normal(size=(700, 8))
    assert precision_recall(features, features) == (1, 1)
    assert Manifold(1, 1).f1 == 1


def test_far_sets_share_nothing():
    rng = np.random.default_rng(1)
    found = precision_recall(rng.normal(size=(50, 4)), rng.normal(size=(60, 4)) + 100)
    assert found == (0, 0)
    assert found.f1 == 0


def test_by_hand_on_a_line():
    real = np.array([[0.0], [1], [2], [10]])
    generated = np.array([[0.5], [2.4], [30]])
    # k = 2 with itself: the radius is the distance to the nearest other: 1, 1, 1, 8
    found = precision_recall(real, generated, k=2)
    assert found.precision == pytest.approx(2 / 3)  # 0.5 and 2.4 lie within 1 of a real sample; 30 is 20 from 10
    # generated radii: 1.9, 1.9, 27.6; 0, 1, 2 lie near 0.5 or 2.4; 10 is within 27.6 of 30
    assert found.recall == pytest.approx(1)
    assert found.f1 == pytest.approx(0.8)


def test_counting_itself_shifts_k_by_one():
    rng = np.random.default_rng(2)
    real, generated = rng.normal(size=(80, 5)), rng.normal(size=(90, 5)) * 1.4
    assert precision_recall(real, generated, k=4) == precision_recall(real, generated, k=3, itself_counts=False)
    assert precision_recall(real, generated, k=2) != precision_recall(real, generated, k=10)


def test_collapsed_generator_has_precision_without_recall():
    rng = np.random.default_rng(3)
    real = rng.normal(size=(200, 3)) * 5
    collapsed = real[:1] + rng.normal(size=(50, 3)) * 1e-3
    found = precision_recall(real, collapsed)
    assert found.precision == 1
    assert found.recall < 0.05


def test_empty_and_small_sets():
    assert np.isnan(precision_recall(np.empty((0, 3)), np.ones((4, 3)))).all()
    assert precision_recall(np.zeros((1, 3)), np.zeros((2, 3)), k=10) == (1, 1)
