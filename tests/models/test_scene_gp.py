"""The processes' kernels against their formulas, and the directions in which pixels are compared."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from unclouded.models import scene_gp

Floats = NDArray[np.float32]


def draw(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_likeness_is_a_gaussian_of_the_distance() -> None:
    f, g = draw(40, 7), draw(30, 7, seed=1)
    wanted = np.exp(-(cdist(f, g) ** 2) / (2 * scene_gp.ALIKE * 3.0))
    np.testing.assert_allclose(scene_gp.alike(f, g, 3.0), wanted, atol=2e-6)


def test_the_local_kernel_is_its_formula() -> None:
    f, g = draw(40, 7), draw(30, 7, seed=1)
    rng = np.random.default_rng(2)
    xy, uv = (rng.integers(-128, 128, (n, 2)).astype(np.float32) for n in (40, 30))
    uv[0] = xy[0]
    near = np.exp(-cdist(xy, uv) / scene_gp.LENGTH)
    wanted = scene_gp.SPACE * near**3 + (scene_gp.LIKE + scene_gp.BOTH * near) * scene_gp.alike(f, g, 3.0)
    np.testing.assert_allclose(scene_gp._local(g, uv, 3.0)(f, xy), wanted, atol=3e-6)


@pytest.mark.parametrize("count", [1, 255, 256, 257, 700])
def test_strips_change_nothing(count: int) -> None:
    process = scene_gp.Sparse(draw(50, 5), draw(50, 3, seed=1), 4.0)
    f = draw(count, 5, seed=2)
    k = scene_gp.alike(f, process.centres, 4.0)
    means, most = process(f)
    np.testing.assert_allclose(means, k @ process.weights, atol=1e-5)
    np.testing.assert_allclose(most, k.max(1), atol=1e-6)


def test_the_local_process_returns_to_clear_pixels_and_fades_far_from_them() -> None:
    f, xy = np.zeros((3, 2), np.float32), np.array([[0, 0], [0, 90], [90, 0]], np.float32)
    y = np.array([[0.2], [-0.1], [0.1]], np.float32)
    new, at = np.array([[0, 0], [9, 9]], np.float32), np.array([[0, 0], [60, 60]], np.float32)
    means, closest = scene_gp.local(f, xy, y, np.full(3, 1e3, np.float32), new, at, 1.0)
    assert means[0, 0] == pytest.approx(0.2, abs=0.01) and abs(means[1, 0]) < 0.002
    assert closest[0] == pytest.approx(1, abs=1e-5) and closest[1] < 0.01


def test_directions_keep_the_distances_in_fewer_columns() -> None:
    f = draw(4, 500)[[0, 1, 2, 3, 0, 1, 2, 3, 0, 1]] * np.linspace(0.5, 2, 10, dtype=np.float32)[:, None]
    f += 0.01 * draw(10, 500, seed=1)
    turn = scene_gp.directions(f)
    assert turn.shape == (10, 4)
    np.testing.assert_allclose(turn.T @ turn, np.eye(4), atol=1e-5)
    np.testing.assert_allclose(cdist((turn.T @ f).T, (turn.T @ f).T), cdist(f.T, f.T), atol=0.1)
    left = f - turn @ (turn.T @ f)
    assert left.var(1).sum() <= (1 - scene_gp.KEPT) * f.var(1).sum()
