"""Cut and blend: an identity comes back, every pixel counts, regions do not matter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from unclouded.errors import UsageError
from unclouded.sample import Window
from unclouded.tiling.blend import Blender
from unclouded.tiling.grid import cut, overlaps, starts, weights

sizes = st.integers(1, 70)


@settings(deadline=None, max_examples=150)
@given(sizes, sizes, st.integers(1, 40), st.integers(0, 12), st.integers(0, 2**31))
def test_identity_through_cut_and_blend(h, w, tile, halo, seed):
    assume(tile > 2 * halo)
    scene = np.random.default_rng(seed).normal(size=(2, h, w)).astype(np.float32)
    blender = Blender(Window(0, 0, h, w), (h, w), halo, 2)
    weight = np.zeros((h, w))
    for t in cut((h, w), tile, halo):
        blender.add(t, scene[(slice(None), *t.slices)])
        weight[t.slices] += weights(t, (h, w), halo)
    assert (weight > 0).all()
    assert np.abs(blender.result()[0] - scene).max() <= 1e-6


@settings(deadline=None, max_examples=60)
@given(st.integers(20, 60), st.integers(20, 60), st.integers(9, 20), st.integers(0, 4), st.data())
def test_a_region_gives_the_same_bits_as_the_whole(h, w, tile, halo, data):
    rng = np.random.default_rng(h * 100 + w)
    guesses = {t: rng.normal(size=(1, t.height, t.width)).astype(np.float32) for t in cut((h, w), tile, halo)}
    whole = Blender(Window(0, 0, h, w), (h, w), halo, 1, codes=1)
    for n, (t, guess) in enumerate(guesses.items()):
        whole.add(t, guess, np.full((1, t.height, t.width), n))
    row, col = data.draw(st.integers(0, h - 5)), data.draw(st.integers(0, w - 5))
    region = Window(row, col, data.draw(st.integers(1, h - row)), data.draw(st.integers(1, w - col)))
    part = Blender(region, (h, w), halo, 1, codes=1)
    order = list(guesses)
    for t in cut((h, w), tile, halo, region):
        part.add(t, guesses[t], np.full((1, t.height, t.width), order.index(t)))
    assert np.array_equal(part.result()[0], whole.result()[0][(slice(None), *region.slices)])
    assert np.array_equal(part.result()[1], whole.result()[1][(slice(None), *region.slices)])


def test_the_last_partial_tile_is_kept_and_flush():
    assert starts(100, 32, 4) == [0, 24, 48, 68]
    assert starts(20, 32, 4) == [0]
    assert overlaps((100, 20), 32, 4) == 8


def test_borders_of_the_scene_have_full_weight():
    first = weights(Window(0, 0, 16, 16), (40, 40), 4)
    assert first[0, 0] == 1 and first[15, 0] == pytest.approx(1 / 9) and first[15, 15] == pytest.approx(1 / 81)


def test_a_halo_without_core_is_refused():
    with pytest.raises(UsageError, match="no core"):
        cut((10, 10), 8, 4)


def test_refused_pixels_stay_refused_and_uncovered_ones_are_nan():
    blender = Blender(Window(0, 0, 2, 4), (2, 4), 0, 1)
    blender.add(Window(0, 0, 2, 2), np.array([[[1, np.nan], [2, 3]]], np.float32))
    assert np.array_equal(blender.result()[0][0], [[1, np.nan, np.nan, np.nan], [2, 3, np.nan, np.nan]], equal_nan=True)
