from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from unclouded.bands import L1C
from unclouded.errors import InputMissing, RecordError, UsageError
from unclouded.evaluation.bootstrap import holm, interval, paired
from unclouded.evaluation.protocols import (
    DrawnByCover,
    References,
    Transplants,
    blended,
    clear_and_cloudy,
    shifted_radar,
    stitch,
    transplanted,
)
from unclouded.metrics.areas import FIFTHS
from unclouded.metrics.average import POOL_ALL
from unclouded.metrics.pixel import Mae, Psnr, Rmse
from unclouded.sample import Place, Sample

DAY = np.datetime64("2018-07-17", "D")


def states_of(errors):
    return np.stack([np.asarray(errors, float), np.ones(len(errors))], 1)


def test_interval_covers_the_mean_as_often_as_it_says():
    """40 regions of 5 equal images: in 300 repetitions the 90 % interval holds the true mean about 90 times in 100."""
    rng = np.random.default_rng(0)
    regions = [f"r{k // 5}" for k in range(200)]
    inside = 0
    for n in range(300):
        errors = np.repeat(rng.gamma(4.0, 0.25, 40), 5)
        low, high = interval(Mae(), states_of(errors), regions, level=0.9, draws=300, seed=n)
        inside += low <= 1.0 <= high
    assert 0.83 <= inside / 300 <= 0.95


def test_regions_are_drawn_not_images():
    """Equal images within regions carry no more than one each: the interval must not shrink with their number."""
    errors = np.array([1.0, 2, 3, 4, 5, 6])
    few = interval(Mae(), states_of(errors), list("abcdef"), seed=1)
    many = interval(Mae(), states_of(np.repeat(errors, 50)), [r for r in "abcdef" for _ in range(50)], seed=1)
    assert few == pytest.approx(many)


def test_pooled_intervals_agree_with_the_slow_way():
    errors = np.array([1.0, 4, 9, 16])
    fast = interval(Rmse(), states_of(errors), list("aabb"), pooled=POOL_ALL, seed=3)
    slow = interval(Rmse(), states_of(errors), list("aabb"), pooled=4, seed=3)
    assert fast == pytest.approx(slow)
    assert fast.low == pytest.approx(np.sqrt(2.5)) and fast.high == pytest.approx(np.sqrt(12.5))


def test_one_region_has_no_interval():
    assert np.isnan(interval(Mae(), states_of([1, 2, 3]), ["a"] * 3)).all()
    found = paired(np.array([1.0, 2]), np.array([0.0, 0]), ["a", "a"])
    assert found.mean == 1.5 and np.isnan(found.p)


NOTHING = [0.0, 0.0]  # the sums of an image without a pixel of the area


@pytest.mark.parametrize("pooled", [1, 2, POOL_ALL])
def test_a_region_without_a_value_is_no_region(pooled):
    """Only region a has hidden pixels: there is no interval. With b, it is that of a and b alone."""
    one = np.array([[1.0, 1], [3, 1], NOTHING, NOTHING, NOTHING])
    assert np.isnan(interval(Mae(), one, list("aabbc"), pooled=pooled)).all()
    two = np.array([[1.0, 1], [3, 1], [5, 1], NOTHING, NOTHING, NOTHING])
    found = interval(Mae(), two, list("aabccd"), pooled=pooled, seed=2)
    assert found == pytest.approx(interval(Mae(), two[:3], list("aab"), pooled=pooled, seed=2))
    assert found.low == 2 and found.high == 5


def test_a_region_of_equal_images_only_is_no_region_either():
    """PSNR of an exact copy is infinite: no mean over drawn regions holds it."""
    assert np.isnan(interval(Psnr(), np.array([[1.0, 100], [0, 100]]), ["a", "b"])).all()


def test_paired_by_hand():
    found = paired(np.array([2.0, 3, 4, np.nan]), np.array([1.0, 1, 1, 1]), ["a", "b", "c", "c"])
    assert (found.mean, found.images, found.wins) == (2, 3, 1)
    assert found.p == 2 / 2**3
    even = paired(np.array([1.0, -1]), np.zeros(2), ["a", "b"])
    assert even.p == 1
    assert paired(np.array([np.nan]), np.array([1.0]), ["a"]).images == 0


def test_paired_p_is_uniform_between_equals():
    rng = np.random.default_rng(1)
    regions = [f"r{k}" for k in range(20)]
    p = [paired(rng.normal(size=20), rng.normal(size=20), regions, seed=n, draws=10).p for n in range(60)]
    assert np.mean(np.array(p) < 0.25) == pytest.approx(0.25, abs=0.15)


def test_paired_finds_a_small_difference_that_all_regions_share():
    rng = np.random.default_rng(2)
    hard = rng.normal(30, 5, 100)  # images differ far more than models
    regions = [f"r{k // 10}" for k in range(100)]
    found = paired(hard + 0.2 + rng.normal(0, 0.1, 100), hard, regions)
    assert found.p == 2 / 2**10
    assert found.interval.low > 0.1


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, float("nan")])[0] == 0.5
    assert holm([]) == []


def series(dates=3, side=8):
    rng = np.random.default_rng(0)
    cloud = np.zeros((dates, side, side), np.float32)
    cloud[0, :4] = 1
    cloud[1:2, :6] = 0.5
    return Sample(
        place=Place(id="P", bands=L1C, level="L1C"), s2=rng.random((dates, 13, side, side), dtype=np.float32),
        s2_valid=np.ones((dates, side, side), bool), s2_dates=DAY + np.array([0, 13, 25])[:dates], cloud=cloud,
        s1=rng.normal(-12, 2, (1, 2, side, side)).astype(np.float32), s1_valid=np.ones((1, side, side), bool),
        s1_dates=np.array([DAY + 1]), target_date=DAY, target_index=0,
    )  # fmt: skip


@pytest.mark.parametrize(("rows", "cols"), [(0, 0), (1, 0), (-2, 1), (2, -2), (9, 0)])
def test_shifted_radar(rows, cols):
    before = series()
    after = shifted_radar(before, rows, cols)
    for r in range(8):
        for c in range(8):
            inside = 0 <= r - rows < 8 and 0 <= c - cols < 8
            assert after.s1_valid[0, r, c] == inside
            if inside:
                np.testing.assert_array_equal(after.s1[0, :, r, c], before.s1[0, :, r - rows, c - cols])
    with pytest.raises(InputMissing):
        shifted_radar(replace(before, s1=None, s1_valid=None, s1_dates=None), 1, 1)


def test_blending_the_most_cloudy_over_the_least():
    before = series()
    after = blended(before)
    assert after.target_index == 2 and after.target_date == before.s2_dates[2]
    np.testing.assert_array_equal(after.target, before.s2[2])
    np.testing.assert_allclose(after.s2[2][:, :6], (before.s2[2] + before.s2[1])[:, :6] / 2, rtol=1e-6)  # alpha 0.5
    np.testing.assert_array_equal(after.s2[2][:, 6:], before.s2[2][:, 6:])
    np.testing.assert_array_equal(after.cloud[2], before.cloud[1])
    np.testing.assert_array_equal(after.s2[:2], before.s2[:2])
    assert after.hidden().sum() == 6 * 8
    with pytest.raises(RecordError, match="equally cloudy"):
        blended(series(dates=1))
    with pytest.raises(RecordError, match="equally cloudy"):
        blended(replace(before, cloud=np.zeros_like(before.cloud)))


def test_blending_takes_nothing_from_what_was_not_measured():
    before = series()
    valid, s2 = before.s2_valid.copy(), before.s2.copy()
    valid[1, :, 0], s2[1, :, :, 0] = False, np.nan
    after = blended(replace(before, s2=s2, s2_valid=valid))
    assert np.isfinite(after.s2[2][:, 6:]).all() and after.s2_valid[2, 6:].all()  # no cloud, so nothing is laid over them
    assert not after.s2_valid[2, :6, 0].any()


def test_transplants_are_a_data_set():
    before = series(dates=3)
    assert clear_and_cloudy(before) == ()  # the only clear date is the last
    turned = replace(before, cloud=before.cloud[[0, 2, 1]])
    pairs = clear_and_cloudy(turned)
    assert pairs == ((1, 0),)
    data = Transplants(turned, pairs)
    assert len(data) == 1
    np.testing.assert_array_equal(data[0].s2[1], transplanted(turned, 1, 0).s2[1])
    assert data[0].place.id == "P@2018-07-30<2018-07-17"
    with pytest.raises(RecordError, match="itself"):
        transplanted(before, 1, 1)


def test_references_at_intervals():
    data = References(series(), cloudy=0, clear=(1, 2))
    assert len(data) == 2
    near, far = data[0], data[1]
    assert [int((s.target_date - s.s2_dates[0]).astype(int)) for s in (near, far)] == [13, 25]
    np.testing.assert_array_equal(far.target, series().s2[2])
    np.testing.assert_array_equal(near.s2, series().s2[:1])
    assert near.target_valid.sum() == 2 * 8  # the reference's own cloud is no truth
    assert near.place.id == "P@2018-07-30"


def test_patches_drawn_by_cover():
    covers = np.random.default_rng(0).random(500)
    drawn = DrawnByCover(covers, FIFTHS, each=20)
    found = np.histogram(covers[drawn.chosen], FIFTHS)[0]
    np.testing.assert_array_equal(found, [20] * 5)
    np.testing.assert_array_equal(drawn.chosen, DrawnByCover(covers, FIFTHS, each=20).chosen)
    assert (drawn.chosen != DrawnByCover(covers, FIFTHS, each=20, seed=1).chosen).any()
    assert len(DrawnByCover(np.array([0.1, 0.1, np.nan, 0.9]), FIFTHS).chosen) == 3


def test_stitching_gives_the_scene_back():
    scene = np.random.default_rng(0).random((2, 30, 41)).astype(np.float32)
    origins = [(r, c) for r in (0, 7, 14) for c in (0, 12, 25)]
    patches = [scene[:, r : r + 16, c : c + 16] for r, c in origins]
    patches[8] = np.full_like(patches[8], np.nan)  # refused: its neighbours fill what they share
    found = stitch(patches, [(r + 100, c - 50) for r, c in origins])
    assert found.shape == scene.shape
    seen = np.isfinite(found).all(0)
    np.testing.assert_allclose(found[:, seen], scene[:, seen], rtol=1e-6)
    assert 0 < (~seen).sum() < 16 * 16
    with pytest.raises(UsageError):
        stitch(patches, origins[:2])
