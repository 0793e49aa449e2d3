from __future__ import annotations

import re

import pytest
from defusedxml import ElementTree

from unclouded.evaluation import charts


def parsed(svg):
    return ElementTree.fromstring(f"<all>{svg}</all>")


@pytest.mark.parametrize(
    ("values", "zero", "ticks"),
    [
        ([0.0, 1.0], False, [0, 0.25, 0.5, 0.75, 1]), ([31.0, 38.0], False, [30, 32, 34, 36, 38]),
        ([2.0, 7.0], True, [0, 2, 4, 6, 8]), ([], False, [0, 0.25, 0.5, 0.75, 1]),
        ([-0.01, 0.01], False, [-0.01, -0.005, 0, 0.005, 0.01]),
    ],
)  # fmt: skip
def test_axes_have_round_ticks_around_the_values(values, zero, ticks):
    assert charts.Axis.over(values, zero=zero).ticks == pytest.approx(ticks)


def test_equal_values_still_have_an_axis():
    axis = charts.Axis.over([0.3, 0.3])
    assert axis.low < 0.3 < axis.high


def test_lines_break_where_a_number_is_missing():
    svg = charts.lines({"a": [1.0, 2.0, None, 3.0, 4.0]}, list("vwxyz"), up="dB")
    assert svg.count("<polyline") == 2
    assert svg.count("<circle") == 4
    parsed(svg)


def test_bars_start_at_zero_and_have_their_height():
    svg = charts.bars({"a": [1.0, -0.5], "b": [0.5, None]}, ["B01", "B02"], up="bias")
    heights = [float(h) for h in re.findall(r'height="([\d.]+)"', svg)]
    assert heights == pytest.approx([2 * heights[2], heights[2], heights[2]], abs=0.2)
    parsed(svg)


def test_a_bar_far_beyond_the_rest_is_cut_and_says_its_value():
    svg = charts.bars({"a": [*[1.0] * 12, 500.0]}, [str(k) for k in range(13)], up="x")
    assert ">500<" in svg
    heights = [float(h) for h in re.findall(r'height="([\d.]+)"', svg)]
    assert heights[-1] <= charts.BOTTOM - charts.TOP + 0.1
    assert heights[0] > 0.4 * heights[-1]
    assert ">500<" not in charts.bars({"a": [100.0, 200.0, 500.0]}, list("abc"), up="x")


def test_curves_with_a_diagonal_share_one_scale():
    svg = charts.curves({"m": ([0.0, 0.02], [0.0, 0.06])}, up="found", along="stated", diagonal=True)
    root = parsed(svg)
    assert root.find(".//line[@class='equal']") is not None
    (points,) = re.findall(r'points="([^"]+)"', svg)
    x, y = map(float, points.split()[-1].split(","))
    across, along = (x - charts.LEFT) / (charts.RIGHT - charts.LEFT), (charts.BOTTOM - y) / (charts.BOTTOM - charts.TOP)
    assert along == pytest.approx(3 * across, rel=0.01)


def test_names_are_escaped():
    svg = charts.lines({"<b>&": [1.0]}, ["<i>"], up="<u>")
    assert "<b>" not in svg and "<i>" not in svg and "<u>" not in svg
    parsed(svg)
