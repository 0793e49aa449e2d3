"""The classic solvers on tiny series with known answers, and what each of them must hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from unclouded.errors import UsageError
from unclouded.models import damped, harmonic, load, similar, softimpute, temporal, whittaker
from unclouded.sample import NO_AGE, Batch, Place, Sample, Source
from unclouded.scenes.scene import Scene

NAMES = ("damped", "whittaker", "harmonic", "soft-impute", "similar")


def series(values, days, clear=None, target=None, bands=("B04",)):
    """values (T, C, H, W) on `days`; the target date is not among the inputs unless it is one of them."""
    values = np.asarray(values, np.float32)
    clear = np.ones((len(values), *values.shape[2:]), bool) if clear is None else clear
    dates = (np.datetime64("2020-01-01") + np.asarray(days)).astype("datetime64[D]")
    day = np.datetime64("2020-01-01") + target
    index = np.flatnonzero(dates == day)
    return Sample(
        place=Place(id="p", bands=bands, level="L2A"), s2=values, s2_valid=np.ones_like(clear), s2_dates=dates,
        cloud=(~clear).astype(np.float32), target_date=day, target_index=int(index[0]) if len(index) else None,
    )  # fmt: skip


def line_series(slope=0.004, days=(0, 10, 20, 40, 50, 60), target=30, side=3):
    values = 0.1 + slope * np.asarray(days, float)[:, None, None, None] * np.ones((1, 1, side, side))
    return series(values, days, target=target), 0.1 + slope * target


def fill(remover, sample):
    return remover(Batch.stack([sample])).s2[0].numpy()


def varied(seed=0, side=20, dates=12):
    rng = np.random.default_rng(seed)
    rank = rng.uniform(0, 1, (3, side, side))
    shape = rng.uniform(0, 0.3, (dates, 2, 3))
    values = np.einsum("tck,khw->tchw", shape, rank) + 0.05
    clear = rng.uniform(0, 1, (dates, side, side)) < 0.8
    clear[5] = False
    return series(values, 7 * np.arange(dates), clear, 35, ("B04", "B08")), values[5]


@pytest.mark.parametrize("name", NAMES)
def test_a_constant_series_is_its_constant(name):
    sample, _ = line_series(slope=0.0, side=4)
    assert np.allclose(fill(load(name), sample), 0.1, atol=2e-3)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_leaks_and_a_pixel_never_seen_is_refused(name):
    sample, _ = varied()
    cloud = sample.cloud.copy()
    cloud[:, 0, 0] = 1
    sample = replace(sample, cloud=cloud)
    batch = Batch.stack([sample])
    plain = load(name)(batch)
    poisoned = torch.from_numpy(np.where(~sample.clear()[:, None], np.nan, sample.s2).astype(np.float32))[None]
    assert torch.equal(load(name)(replace(batch, s2=poisoned)).s2.nan_to_num(-9), plain.s2.nan_to_num(-9))
    assert plain.s2[0, :, 0, 0].isnan().all() and plain.source[0, 0, 0] == Source.REFUSED and plain.age[0, 0, 0] == NO_AGE
    rest = torch.ones(plain.source.shape[1:], dtype=torch.bool)
    rest[0, 0] = False
    assert plain.s2[0][:, rest].isfinite().all() and (plain.source[0][rest] == Source.DATES).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_window_of_the_scene_gives_what_the_whole_gives(name):
    sample, _ = varied()
    scene = Scene.of(sample)
    remover = load(name).adapt(scene, sample.target_date)
    whole = fill(remover, sample)
    for window in scene.blocks(7):
        part = fill(remover, scene.read(window, target=sample.target_date))
        assert np.allclose(part, whole[(..., *window.slices)], atol=2e-5)


@pytest.mark.parametrize("name", NAMES)
def test_causal_looks_only_back(name):
    sample, _ = varied()
    later = sample.s2_dates > sample.target_date
    changed = replace(sample, s2=np.where(later[:, None, None, None], np.float32(0.9), sample.s2))
    causal = load(name, {"causal": True})
    assert np.array_equal(fill(causal, sample), fill(causal, changed))
    assert not np.array_equal(fill(load(name), sample), fill(load(name), changed))


def test_damped_between_two_far_observations_is_their_line():
    """Two observations: precision of each side is 1 / (1 + days / damping), so the value is known in closed form."""
    sample = series(np.array([0.2, 0.6])[:, None, None, None] * np.ones((1, 1, 1, 1)), (0, 400), target=100)
    before, after = 1 / (1 + 100 / 10), 1 / (1 + 300 / 10)
    assert fill(damped.Damped(), sample)[0, 0, 0] == pytest.approx((0.2 * before + 0.6 * after) / (before + after), abs=1e-4)


def test_damped_is_the_solution_of_its_penalised_least_squares():
    rng = np.random.default_rng(3)
    days, x = np.array([0, 3, 10, 12, 30, 37]), rng.uniform(0, 1, 6)
    at, damping = 14, 10.0
    grid = np.sort(np.append(days, at))
    first = np.diff(np.eye(7), axis=0) / np.sqrt(np.diff(grid))[:, None]
    seen = grid != at
    exact = np.linalg.solve(np.diag(seen.astype(float)) + damping * first.T @ first, np.where(seen, np.insert(x, 4, 0), 0))
    sample = series(x[:, None, None, None], days, target=at)
    assert fill(damped.Damped(), sample)[0, 0, 0] == pytest.approx(exact[4], abs=1e-5)


def test_whittaker_reproduces_a_straight_line_and_solves_its_system():
    sample, expected = line_series()
    assert np.allclose(fill(whittaker.Whittaker(whittaker.Config(slope=0.0)), sample), expected, atol=1e-4)
    form = whittaker.roughness(np.array([0, 4, 9, 20]), 100.0, 0.0)
    assert np.abs(form @ np.array([0.0, 4.0, 9.0, 20.0])).max() < 1e-9  # a line has no bend
    parabola = np.array([0.0, 16.0, 81.0, 400.0])
    assert parabola @ form @ parabola == pytest.approx(100 * 4 * (4.5 + 8.0))  # z'' = 2 over the inner half-steps


def test_harmonic_finds_a_yearly_wave():
    days = np.arange(0, 730, 12)
    wave = lambda d: 0.3 + 0.1 * np.cos(2 * np.pi * d / 365.25) + 0.05 * np.sin(4 * np.pi * d / 365.25)  # noqa: E731
    sample = series(wave(days)[:, None, None, None], days, target=400)
    assert fill(harmonic.Harmonic(harmonic.Config(ridge=1e-4)), sample)[0, 0, 0] == pytest.approx(wave(400), abs=2e-3)
    rough = fill(harmonic.Harmonic(harmonic.Config(waves=1, ridge=1e-4)), sample)[0, 0, 0]
    assert abs(rough - wave(400)) > 0.01


def test_softimpute_completes_a_matrix_of_low_rank():
    sample, truth = varied()
    cloud = sample.cloud.copy()
    cloud[5, :, :10] = 0
    half = replace(sample, cloud=cloud)
    found = fill(softimpute.SoftImpute(softimpute.Config(rank=3, threshold=1e-4, iterations=200)), half)
    hidden = half.hidden()
    line = fill(load("linear"), half)
    wrong = lambda z: np.sqrt(((z - truth)[:, hidden] ** 2).mean())  # noqa: E731
    assert wrong(found) < 0.2 * wrong(line)


def test_similar_pixels_lend_their_departure():
    """Two kinds of pixels, told apart by their year; on the target one has jumped by 0.2. Half of each is hidden."""
    kind = np.indices((16, 16)).sum(0) % 2
    values = np.where(kind, 0.5, 0.2) + 0.1 * np.where(kind, 1, -1) * np.sin(np.arange(9))[:, None, None]
    values[4] = values[3:6:2].mean(0) + 0.2 * kind
    clear = np.ones((9, 16, 16), bool)
    clear[4, 8:] = False
    sample = series(values[:, None], 10 * np.arange(9), clear, 40)
    found = fill(similar.Similar(), sample)[0]
    assert np.abs(found - values[4])[8:].max() < 0.01


def test_neighbours_in_time_repeat_where_a_side_or_a_third_one_is_missing():
    clear = np.array([[1, 0], [0, 0], [1, 0], [0, 0], [1, 1]], bool)
    near = temporal.sides(clear, np.array([0, 5, 9, 12, 20]), 3, np.array([1, 1, 1, 0, 1], bool))
    assert near.before[:, 0].tolist() == [2, 0, 0] and near.after[:, 0].tolist() == [4, 4, 4]
    assert near.before[:, 1].tolist() == [4, 4, 4] and not near.has_before[0, 1]
    weight = temporal.share_before(np.array([0, 5, 9, 12, 20]), 3, near)
    assert weight == pytest.approx([8 / 11, 0.0])


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("internal-learning", {"drive": "radar"}, "one of: auto, s1, noise"),
        ("internal-learning", {"itertions": 3}, "did you mean iterations"),
        ("scene", {"quality": "bst"}, "did you mean best"),
        ("scene", {"seed": "one"}, "valid integer"),
        ("pcp", {"mask": 1}, "valid boolean"),
        ("linear", {"rule": "median"}, "makes 'linear' what it is"),
    ],
)
def test_settings_are_checked_before_anything_is_done(name, settings, words):
    with pytest.raises(UsageError, match=words):
        load(name, settings)
    good = load("internal-learning", {"widths": [8, 16], "rate": 1, "drive": "noise"})
    assert good.config.widths == (8, 16) and good.config.rate == 1.0 and good.config.passes == 20
