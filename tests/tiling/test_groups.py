"""Rectangles around what is wanted: nothing missed, nothing far away read, few where many would cost more."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from unclouded.sample import Window
from unclouded.tiling.groups import groups

BLOCK = Window(768, 1536, 768, 768)


def margin(halo: int) -> Callable[[Window], Window]:
    return lambda part: part.grow(halo, (4000, 4000))


def wanted(*spots: tuple[int, int, int, int]) -> np.ndarray:
    out = np.zeros((768, 768), bool)
    for top, left, height, width in spots:
        out[top : top + height, left : left + width] = True
    return out


def test_one_group_is_its_own_rectangle():
    assert groups(wanted((100, 200, 30, 40)), BLOCK, margin(98)) == [Window(868, 1736, 30, 40)]


def test_what_lies_far_apart_stays_apart_and_what_lies_near_is_read_once():
    far = groups(wanted((0, 0, 20, 20), (700, 700, 20, 20)), BLOCK, margin(98))
    assert far == [Window(768, 1536, 20, 20), Window(1468, 2236, 20, 20)]
    near = groups(wanted((0, 0, 20, 20), (150, 0, 20, 20)), BLOCK, margin(98))
    assert near == [Window(768, 1536, 170, 20)]
    assert len(groups(wanted((0, 0, 20, 20), (150, 0, 20, 20)), BLOCK, margin(0))) == 2


spots = st.lists(
    st.tuples(st.integers(0, 750), st.integers(0, 750), st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=9
)


@given(spots, st.sampled_from([0, 3, 98]))
def test_every_wanted_pixel_is_held_and_no_more_is_read_than_of_one_box(found, halo):
    mask = wanted(*found)
    held, read = np.zeros_like(mask), 0
    for window in groups(mask, BLOCK, margin(halo)):
        at = window.inside(BLOCK)
        assert at.row >= 0 and at.col >= 0 and at.row + at.height <= 768 and at.col + at.width <= 768
        held[at.slices] = True
        read += (window.height + 2 * halo) * (window.width + 2 * halo)
    assert (held | ~mask).all()
    rows, cols = np.nonzero(mask)
    assert read <= (np.ptp(rows) + 1 + 2 * halo) * (np.ptp(cols) + 1 + 2 * halo) or len(groups(mask, BLOCK, margin(halo))) > 1
