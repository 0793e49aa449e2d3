"""Synthetic clouds: the ground survives as the target, the mask is true, the seed decides, every method keeps its promise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from unclouded.bands import L1C
from unclouded.datasets import synthetic
from unclouded.datasets.simulated import SimulatedPlace, simulate
from unclouded.errors import InputMissing, InputUnsupported
from unclouded.sample import Place, Sample, as_days


@pytest.fixture(scope="module")
def place() -> SimulatedPlace:
    covers, kinds = [0.0, 0.35, 0.0, 0.5, 1.0], [None, "cumulus", None, "bank", "overcast"]
    return simulate(seed=6, size=(120, 120), dates=5, cover=covers, kinds=kinds, level="L1C", s1=False)


METHODS = {
    "perlin": lambda s, seed: synthetic.perlin(s, seed=seed, date=2),
    "cut_out": lambda s, seed: synthetic.cut_out(s, [s], seed=seed, date=2),
    "transplanted": lambda s, seed: synthetic.transplanted(s, seed=seed, date=2),
    "physical": lambda s, seed: synthetic.physical(s, seed=seed, date=2),
}


@pytest.mark.parametrize("name", METHODS)
def test_the_ground_is_kept_the_mask_is_true_and_the_seed_decides(place: SimulatedPlace, name: str) -> None:
    method, before = METHODS[name], place.sample.s2.copy()
    one, same, other = (method(place.sample, seed) for seed in (1, 1, 2))
    assert np.array_equal(place.sample.s2, before)  # the input is not touched
    assert one.target_index == 2 and one.target_date == place.sample.s2_dates[2]
    assert np.array_equal(one.target, place.sample.s2[2])
    assert np.array_equal(one.s2, same.s2) and np.array_equal(one.cloud, same.cloud)
    assert not np.array_equal(one.s2, other.s2)
    others = [0, 1, 3, 4]
    assert np.array_equal(one.s2[others], before[others]) and np.array_equal(one.cloud[others], place.sample.cloud[others])
    change = np.abs(one.s2[2] - one.target).max(0)
    assert 0.02 < (one.cloud[2] >= 0.5).mean() < 0.98
    assert change[one.cloud[2] < 0.02].max() < 0.03  # a 60 m pixel beside a cloud gets its share of it
    assert np.median(change[one.cloud[2] > 0.9]) > 0.04


def test_perlin_whitens_all_bands_evenly_and_covers_as_asked(place: SimulatedPlace) -> None:
    for cover in (0.0, 0.2, 0.7, 1.0):
        done = synthetic.perlin(place.sample, seed=3, cover=cover, date=0)
        alpha = done.cloud[0]
        assert (alpha >= 0.5).mean() == pytest.approx(cover, abs=0.01)
        assert np.allclose(done.s2[0], alpha + (1 - alpha) * done.target, atol=1e-6)


def test_soft_maps_drop_what_is_not_more_than_a_half_and_blur_by_two_pixels() -> None:
    probability = np.zeros((41, 41), np.float32)
    probability[20, 20], probability[5, 5] = 0.8, 0.5
    soft = synthetic.soften(probability)
    assert soft[:12, :12].max() < 1e-3  # 0.5 is not above 0.5
    assert soft[20, 20] == pytest.approx(0.8 / (2 * np.pi * 4), rel=0.01)  # the peak of a Gaussian of sigma 2
    assert soft[20, 22] / soft[20, 20] == pytest.approx(np.exp(-0.5), rel=0.01)
    assert soft.sum() == pytest.approx(0.8, rel=1e-3)


def test_copied_clouds_lie_on_the_target_by_their_own_soft_map() -> None:
    rng = np.random.default_rng(0)
    cloudy, clear = rng.random((1, 13, 40, 40), np.float32), rng.random((13, 40, 40), np.float32)
    cloud = (rng.random((1, 40, 40)) > 0.7).astype(np.float32)
    pair = Sample(
        place=Place(id="pair", bands=L1C, level="L1C"), s2=cloudy, s2_valid=np.ones((1, 40, 40), bool),
        s2_dates=as_days(["2018-07-01"]), cloud=cloud, target=clear,
    )  # fmt: skip
    done = synthetic.copied(pair)
    alpha = synthetic.soften(cloud[0])
    assert np.allclose(done.s2[0], alpha * cloudy[0] + (1 - alpha) * clear, atol=1e-6)
    assert np.array_equal(done.cloud[0], alpha) and np.array_equal(done.target, clear)
    with pytest.raises(InputMissing, match="clear target"):
        synthetic.copied(replace(pair, target=None))


def test_cut_outs_hide_the_ground_completely_and_reach_the_cover(place: SimulatedPlace) -> None:
    for cover in (0.15, 0.5):
        done = synthetic.cut_out(place.sample, [place.sample], seed=4, cover=cover, date=0)
        assert cover <= (done.cloud[0] >= 0.5).mean() < cover + 0.5
    again = synthetic.cut_out(replace(place.sample, s2=place.sample.s2 + np.float32(0)), [place.sample], seed=4, date=0)
    darker = place.sample.s2.copy()
    darker[0] *= np.float32(0.5)
    other_ground = synthetic.cut_out(replace(place.sample, s2=darker), [place.sample], seed=4, date=0)
    core = again.cloud[0] == 1
    assert core.mean() > 0.05 and np.array_equal(again.s2[0][:, core], other_ground.s2[0][:, core])
    thick = np.sort(np.unique(place.sample.s2[[1, 3, 4], 1][place.sample.cloud[[1, 3, 4]] >= 0.9]))
    assert np.isin(again.s2[0, 1][core], thick).mean() > 0.7  # pixels of real clouds, but where rims overlap
    assert again.s2[0, 1][core].min() > 0.15  # and no shadows among them


def test_donors_must_have_clouds_and_the_same_bands(place: SimulatedPlace) -> None:
    clear = replace(place.sample, cloud=np.zeros_like(place.sample.cloud))
    with pytest.raises(InputMissing, match="No donor has a thick cloud"):
        synthetic.cut_out(place.sample, [clear], seed=1)
    with pytest.raises(InputMissing, match="No other date"):
        synthetic.transplanted(clear, seed=1)
    foreign = simulate(size=(40, 40), dates=1, cover=1.0).sample
    with pytest.raises(InputUnsupported, match="B10"):
        synthetic.cut_out(place.sample, [foreign], seed=1)
    with pytest.raises(InputMissing, match="no date 7"):
        synthetic.physical(place.sample, seed=1, date=7)


def test_transplanted_clouds_are_those_of_another_date(place: SimulatedPlace) -> None:
    done = synthetic.transplanted(place.sample, seed=2, date=0, cover=(0.3, 0.6))
    whole = done.cloud[0] > 0.999
    turns = [
        np.rot90(m, k, axes=(-2, -1))
        for d in (1, 3)
        for m in (place.sample.s2[d], place.sample.s2[d][..., ::-1])
        for k in range(4)
    ]
    off = [np.abs(t[:, whole] - done.s2[0][:, whole]).max() for t in turns]
    assert min(off) < 1e-3 and whole.mean() > 0.05


def test_physical_clouds_obey_their_laws(place: SimulatedPlace) -> None:
    wide = simulate(seed=6, size=(300, 300), dates=1, cover=0.0, level="L1C", s1=False).sample
    low = synthetic.physical(wide, seed=5, kind="cumulus", cover=0.3)
    high = synthetic.physical(place.sample, seed=5, kind="cirrus", cover=0.6, date=0)
    assert (low.cloud[0] >= 0.5).mean() == pytest.approx(0.3, abs=0.05)
    b10, b02, b08, b12 = (L1C.index(b) for b in ("B10", "B02", "B08", "B12"))
    change = [s.s2[0] - s.target for s in (low, high)]
    assert change[1][b10][high.cloud[0] > 0.9].mean() > 0.02 > 10 * abs(change[0][b10]).mean()
    shadow = change[0][b08] < -0.05
    bright = change[0][b02] > 0.15
    assert shadow.mean() > 0.03 and bright.mean() > 0.03
    twice = (600, 600)
    match = np.fft.irfft2(
        np.fft.rfft2(shadow - shadow.mean(), twice) * np.conj(np.fft.rfft2(bright - bright.mean(), twice)), twice
    )
    down, right = (int(n) - 600 * (n > 300) for n in np.unravel_index(match.argmax(), match.shape))
    assert down < 0 and right < 0  # north-west of the cloud on a northern morning
    cirrus = high.cloud[0] > 0.7
    assert (change[1][b12][cirrus] < change[1][b02][cirrus]).mean() > 0.9
    blocks = change[0][L1C.index("B11")].reshape(150, 2, 150, 2)
    assert np.allclose(blocks, blocks[:, :1, :, :1], atol=1e-6)  # a 20 m band sees the mean over 20 m


def test_the_target_of_a_pair_is_the_ground_and_what_was_hidden_is_no_truth(place: SimulatedPlace) -> None:
    clouded = synthetic.perlin(place.target(3), seed=1)
    assert clouded.target_index == 3 and np.array_equal(clouded.target, place.truth[3]) and clouded.target_valid.all()
    from_image = synthetic.perlin(place.sample, seed=1, date=3)
    assert np.array_equal(from_image.target_valid, place.sample.clear()[3])
    assert synthetic.perlin(place.sample, seed=1).target_index == 4  # by default the last date


def test_scene_classes_follow_the_new_clouds() -> None:
    sample = simulate(seed=1, size=(40, 40), dates=2, cover=0.0, s1=False, classes="exact").sample
    done = synthetic.perlin(sample, seed=1, date=0, cover=0.5)
    assert (done.scl[0][done.cloud[0] >= 0.5] == 9).all() and np.array_equal(done.scl[1], sample.scl[1])
    assert not (sample.scl[0] == 9).any()
