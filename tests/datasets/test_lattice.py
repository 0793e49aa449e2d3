"""Random fields: the same for every window, unit variance, smooth, and honest geometry of Voronoi cells."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unclouded.datasets.lattice import Cells, fractal, fractal_at, hashed, key, normal_pair, smooth, smooth_at, uniform

ROWS, COLS = np.arange(-40, 120), np.arange(2000, 2200)
_windows = st.tuples(st.integers(0, 120), st.integers(0, 160), st.integers(1, 40), st.integers(1, 40))


@settings(max_examples=25, deadline=None)
@given(_windows)
def test_a_window_of_any_field_is_the_crop_of_the_whole(window: tuple[int, int, int, int]) -> None:
    r, c, h, w = window
    rows, cols = ROWS[r : r + h], COLS[c : c + w]
    cut = np.s_[r : r + len(rows), c : c + len(cols)]
    assert np.array_equal(fractal(5, rows, cols, 33), fractal(5, ROWS, COLS, 33)[cut])
    assert np.array_equal(normal_pair(5, rows, cols)[1], normal_pair(5, ROWS, COLS)[1][cut])
    r2, c2 = (a.astype(np.float32) for a in np.meshgrid(ROWS, COLS, indexing="ij"))
    assert np.array_equal(fractal_at(5, r2[cut], c2[cut], 33), fractal_at(5, r2, c2, 33)[cut])
    whole, part = Cells(5, r2, c2, 30), Cells(5, r2[cut], c2[cut], 30)
    assert np.array_equal(part.id, whole.id[cut]) and np.array_equal(part.edge, whole.edge[cut])


def test_moments_of_the_fields() -> None:
    rows, cols = np.arange(1500), np.arange(1500)
    field = smooth(key("a"), rows, cols, 12)
    assert abs(field.mean()) < 0.03
    assert field.std() == pytest.approx(1, abs=0.05)
    assert fractal(key("b"), rows, cols, 12).std() == pytest.approx(1, abs=0.06)
    a, b = normal_pair(key("c"), rows, cols)
    assert a.mean() == pytest.approx(0, abs=0.005) and a.std() == pytest.approx(1, abs=0.005)
    assert np.mean(b**4) == pytest.approx(3, abs=0.05)  # normal, not uniform sums
    assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.005
    assert abs(np.corrcoef(a[:-1].ravel(), a[1:].ravel())[0, 1]) < 0.005
    u = uniform(key("d"), rows[:, None], cols[None, :])
    assert u.min() >= 0 and u.max() < 1
    assert np.histogram(u, 10)[0].std() / u.size < 1e-3


def test_slopes_are_the_differences_of_the_field() -> None:
    rows, cols = np.arange(80), np.arange(70)
    field = fractal(3, rows, cols, 40, octaves=2)
    down, right = (fractal(3, rows, cols, 40, octaves=2, slope=s) for s in ("row", "col"))
    assert down[1:-1] == pytest.approx((field[2:] - field[:-2]) / 2, abs=0.004)
    assert right[:, 1:-1] == pytest.approx((field[:, 2:] - field[:, :-2]) / 2, abs=0.004)


def test_points_on_the_lattice_have_the_values_of_the_lattice() -> None:
    r2, c2 = (a.astype(np.float32) for a in np.meshgrid(ROWS, COLS, indexing="ij"))
    assert smooth_at(9, r2, c2, 21.5) == pytest.approx(smooth(9, ROWS, COLS, 21.5), abs=1e-5)


def test_cells_are_the_nearest_points_and_edges_lie_half_way() -> None:
    r2, c2 = (a.astype(np.float32) for a in np.meshgrid(np.arange(200), np.arange(200), indexing="ij"))
    cells = Cells(1, r2, c2, 40)
    points = {i: (cells.row[cells.id == i][0], cells.col[cells.id == i][0]) for i in np.unique(cells.id)}
    spots = np.array(list(points.values()))
    distance = np.hypot(r2[..., None] - spots[:, 0], c2[..., None] - spots[:, 1])
    assert np.hypot(r2 - cells.row, c2 - cells.col) == pytest.approx(distance.min(-1), abs=1e-3)
    across = cells.id[:, 1:] != cells.id[:, :-1]
    assert cells.edge[:, 1:][across].max() <= 1.0 + 1e-3  # one step from another cell
    assert cells.edge.min() >= 0


def test_keys_differ_and_last() -> None:
    assert key(0, "sky") != key(0, "ski") and key(1, "sky") != key(0, "sky")
    assert key(7, "sky", "2024-05-01") == key(7, "sky", "2024-05-01")
    assert key("") == 0x811C9DC5 and key("a") == 0xE40C292C  # FNV-1a test vectors: the same on every machine
    bits = hashed(key("place"), np.array([0, 1, -5]), np.array([7, 7, 7]))
    assert bits.tolist() == [1440538403, 2574856952, 2310409770]  # a change here makes every simulated place another
