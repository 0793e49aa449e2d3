from __future__ import annotations

import numpy as np
import pytest

from unclouded.metrics.areas import AREAS, FIFTHS, TENTHS, Areas, adaptive_target, bin_names, bin_of
from unclouded.sample import Cover

CLASSES = np.array(
    [[[Cover.CLEAR, Cover.THICK, Cover.SHADOW, Cover.THIN]], [[Cover.CLEAR, Cover.SNOW, Cover.THICK, Cover.OTHER]]], np.uint8
)


def test_areas_of_two_inputs():
    areas = Areas.of(CLASSES, 0)
    expected = {
        "hidden": [0, 1, 1, 1], "clear": [1, 0, 0, 0], "shadow": [0, 0, 1, 0], "cloud": [0, 1, 0, 1],
        "covered_in_all": [0, 0, 1, 1], "covered_in_any": [0, 1, 1, 1],
        "seen_in_any": [1, 1, 0, 0], "seen_in_all": [1, 0, 0, 0],
    }  # fmt: skip
    for name, mask in expected.items():
        np.testing.assert_array_equal(areas.named(name), [np.array(mask, bool)], err_msg=name)
    assert areas.named("all") is None
    assert set(expected) | {"all"} == set(AREAS)
    assert areas.cover == 0.75
    assert Areas.of(CLASSES, 1).cover == 0.5
    with pytest.raises(KeyError, match="no area 'sky'"):
        areas.named("sky")


def test_parts_make_the_whole():
    areas = Areas.of(np.random.default_rng(0).integers(0, 7, (3, 20, 20)).astype(np.uint8), 2)
    assert ((areas.cloud ^ areas.shadow) == areas.hidden).all()
    assert ((areas.named("clear") ^ areas.hidden) == areas.measured).all()
    assert ((areas.covered_in_all & areas.measured) <= areas.hidden).all()
    assert (areas.hidden <= areas.covered_in_any).all()


def test_what_was_not_measured_is_neither_hidden_nor_clear():
    """Pixels: never measured; measured hidden, or clear, on the other date only; hidden, or clear, on both."""
    nothing, clear, thick = Cover.NODATA, Cover.CLEAR, Cover.THICK
    classes = np.array([[[nothing, nothing, nothing, thick, clear]], [[nothing, thick, clear, thick, clear]]], np.uint8)
    expected = {
        "hidden": [0, 0, 0, 1, 0], "clear": [0, 0, 0, 0, 1], "covered_in_all": [0, 1, 0, 1, 0],
        "covered_in_any": [0, 1, 0, 1, 0], "seen_in_any": [0, 0, 1, 0, 1], "seen_in_all": [0, 0, 1, 0, 1],
    }  # fmt: skip
    for name, mask in expected.items():
        np.testing.assert_array_equal(Areas.of(classes, 0).named(name), [np.array(mask, bool)], err_msg=name)
    assert Areas.of(classes, 0).cover == 0.5


def test_adaptive_target():
    hidden = np.array([[True, False]])
    found = adaptive_target(np.full((2, 1, 2), 1.0), np.full((2, 1, 2), 5.0), hidden)
    np.testing.assert_array_equal(found, [[[1, 5]], [[1, 5]]])


@pytest.mark.parametrize(
    ("share", "expected"), [(0, 0), (0.099, 0), (0.1, 1), (0.55, 5), (0.999, 9), (1.0, 9), (np.nan, -1), (1.2, -1)]
)
def test_bins_are_closed_on_the_left_and_the_last_on_both(share, expected):
    assert bin_of(share, TENTHS) == expected


def test_bin_names():
    assert bin_names(FIFTHS) == ("0-20 %", "20-40 %", "40-60 %", "60-80 %", "80-100 %")
    assert len(bin_names(TENTHS)) == 10
