"""Morphology in metres against SciPy's own, and what it promises at borders."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from scipy import ndimage

from unclouded.masks import morphology as m
from unclouded.sample import Place

PIXEL = (10.0, 10.0)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 99),
    shape=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    metres=st.sampled_from([0, 5, 10, 25, 60]),
    pixel=st.sampled_from([(10.0, 10.0), (20.0, 20.0), (20.0, 7.0)]),
)
def test_growing_is_dilation_by_a_disk_in_metres(seed, shape, metres, pixel):
    mask = np.random.default_rng(seed).random(shape) < 0.05
    np.testing.assert_array_equal(m.grow(mask, metres, pixel), ndimage.binary_dilation(mask, m.disk(metres, pixel)))
    away = ndimage.distance_transform_edt(~np.pad(mask, 20), sampling=pixel)[20:-20, 20:-20]
    if mask.any():
        np.testing.assert_array_equal(m.grow(mask, metres, pixel), away <= metres + 1e-6)
    assert m.reach(metres, pixel) == max(metres // side for side in pixel)


def test_the_disk_is_in_metres_not_pixels():
    assert m.disk(20, PIXEL).sum() == 13  # dx^2 + dy^2 <= 4
    assert m.disk(20, (20.0, 20.0)).sum() == 5
    assert m.disk(19, (20.0, 20.0)).sum() == 1
    assert m.disk(20, (10.0, 5.0)).shape == (5, 9)


def test_open_and_close_keep_what_is_large():
    mask = np.zeros((20, 20), bool)
    mask[4:12, 4:12] = True
    bridge, gap = mask.copy(), mask.copy()
    bridge[7, 12:18], gap[7, 7] = True, False
    assert not m.opened(bridge, 10, PIXEL)[:, 13:].any()
    np.testing.assert_array_equal(m.opened(bridge, 10, PIXEL)[:, :12], m.opened(mask, 10, PIXEL)[:, :12])
    np.testing.assert_array_equal(m.closed(gap, 10, PIXEL), mask)
    full = np.ones((6, 6), bool)
    assert m.shrink(full, 20, PIXEL).all()  # outside the image nothing is said to be clear


def test_specks_go_and_holes_fill_by_area():
    mask = np.zeros((2, 12, 12), bool)
    mask[0, 1, 1:3] = mask[0, 5:8, 5:8] = True  # 200 and 900 square metres
    np.testing.assert_array_equal(m.drop_specks(mask, 900, PIXEL).sum((1, 2)), [9, 0])
    np.testing.assert_array_equal(m.drop_specks(mask, 901, PIXEL).sum((1, 2)), [0, 0])
    ring = np.ones((12, 12), bool)
    ring[5:7, 5:7] = False
    ring[0, 3:6] = False  # open to the border: no hole
    np.testing.assert_array_equal(m.fill_holes(ring, 401, PIXEL)[5:7, 5:7], True)
    np.testing.assert_array_equal(m.fill_holes(ring, 400, PIXEL), ring)
    assert not m.fill_holes(ring, 10_000, PIXEL)[0, 3:6].any()


@pytest.mark.parametrize(
    ("crs", "box", "resolution", "expected"),
    [
        ("EPSG:32631", (500_000, 5_600_000, 500_200, 5_600_100), 10, (10.0, 10.0)),
        ("EPSG:4326", (10.0, 59.9991, 10.001, 60.0009), 0.0001, (11.132, 5.566)),
    ],
)
def test_pixels_are_metres_in_any_crs(crs, box, resolution, expected):
    grid = GeoBox.from_bbox(box, crs, resolution=resolution)
    assert m.pixel_metres(Place(id="x", bands=("B02",), level="L2A", grid=grid)) == pytest.approx(expected, rel=1e-3)


def test_without_a_grid_the_finest_band_tells():
    assert m.pixel_metres(Place(id="x", bands=("B05", "B11"), level="L2A")) == (20.0, 20.0)
    assert m.pixel_metres(Place(id="x", bands=("B01", "B04"), level="L2A")) == (10.0, 10.0)


@settings(max_examples=40, deadline=None)
@given(shape=st.tuples(st.integers(1, 30), st.integers(1, 30)), factor=st.integers(1, 7))
def test_sums_over_cells_are_those_of_their_pixels(shape, factor):
    layer = np.random.default_rng(0).random(shape, dtype=np.float32)
    sums = m.cell_sums(layer, factor)
    assert sums.shape == tuple(-(-n // factor) for n in shape)
    for row, col in np.ndindex(sums.shape):
        cell = layer[row * factor : (row + 1) * factor, col * factor : (col + 1) * factor]
        assert sums[row, col] == pytest.approx(cell.sum(), rel=1e-6)
