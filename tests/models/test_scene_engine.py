"""The default engine: what it must hold on any input, and every rung of its ladder on tiny cases with known answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from unclouded.errors import UsageError
from unclouded.models.scene_engine import CELL, Config, SceneEngine, smallest
from unclouded.sample import NO_AGE, Batch, Cover, Place, Sample, Source
from unclouded.scenes.scene import Scene

BANDS = ("B02", "B04", "B08", "B11")


def field_place(seed=0, side=72, dates=16, s1=True, cover=0.35, grid=None):
    """Fields whose colour follows one of six seasons, with clouds as discs: (sample with a target, truth (T, C, H, W))."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 6, (side // 8 + 1, side // 8 + 1)).repeat(8, 0).repeat(8, 1)[:side, :side]
    days = np.cumsum(rng.integers(4, 9, dates))
    season = 0.5 + 0.5 * np.sin(days[:, None] / 11 + np.arange(6) * 0.9)  # (T, kind)
    soil, leaf = np.array([0.10, 0.15, 0.22, 0.30]), np.array([0.03, 0.04, 0.42, 0.18])
    green = season[:, kind]  # (T, H, W)
    texture = 1 + 0.05 * rng.standard_normal((side, side))
    truth = (soil[:, None, None] * (1 - green[:, None]) + leaf[:, None, None] * green[:, None]) * texture
    rows, cols = np.indices((side, side))
    cloud = np.zeros((dates, side, side), np.float32)
    for t in range(dates):
        while cloud[t].mean() < (cover if t % 3 else 0.0):
            r, c, radius = rng.uniform(0, side), rng.uniform(0, side), rng.uniform(6, 14)
            cloud[t][(rows - r) ** 2 + (cols - c) ** 2 < radius**2] = 1
    s2 = np.where(cloud[:, None] > 0, 0.7, truth + 0.004 * rng.standard_normal(truth.shape)).astype(np.float32)
    t = dates // 2 + (1 if (dates // 2) % 3 == 0 else 0)
    radar = {}
    if s1:
        s1_days = days - 1
        dB = np.stack([-14 + 4 * green, -20 + 6 * green], 1) + rng.standard_normal((dates, 2, side, side))
        radar = {
            "s1": dB.astype(np.float32),
            "s1_valid": np.ones((dates, side, side), bool),
            "s1_dates": s1_days.astype("datetime64[D]"),
        }
    sample = Sample(
        place=Place(id="fields", bands=BANDS, level="L2A", grid=grid), s2=s2, s2_valid=np.ones_like(cloud, bool),
        s2_dates=days.astype("datetime64[D]"), cloud=cloud, target_date=days[t].astype("datetime64[D]"),
        target_index=t, **radar,
    )  # fmt: skip
    return sample, truth.astype(np.float32)


def restored(sample, **settings):
    return SceneEngine(Config(**settings))(Batch.stack([sample]))


def same(a, b):
    return all(
        torch.equal(getattr(a, n).nan_to_num(-9), getattr(b, n).nan_to_num(-9))
        for n in ("s2", "sigma", "source", "age", "support")
    )


def error(prediction, truth, at):
    return float(np.sqrt(((prediction.s2[0].numpy() - truth)[:, at] ** 2).mean()))


def only(sample, dates, **changes):
    """The sample with some of its dates."""
    at = list(dates)
    return replace(
        sample, s2=sample.s2[at], s2_valid=sample.s2_valid[at], s2_dates=sample.s2_dates[at], cloud=sample.cloud[at],
        target_index=at.index(sample.target_index), **changes,
    )  # fmt: skip


NO_S1 = {"s1": None, "s1_valid": None, "s1_dates": None}


def line_error(sample, truth):
    from unclouded.models import load

    hidden = sample.hidden()
    return error(load("linear")(Batch.stack([sample])), truth[sample.target_index], hidden)


@pytest.fixture(scope="module")
def place():
    return field_place()


@pytest.fixture(scope="module")
def plain(place):
    return restored(place[0])


# ------------------------------------------------------------------------------------------------------- what always holds


def test_it_restores_better_than_a_line_in_time_and_knows_how_well(place, plain):
    sample, truth = place
    hidden = sample.hidden()
    wrong = (plain.s2[0].numpy() - truth[sample.target_index])[:, hidden]
    assert error(plain, truth[sample.target_index], hidden) < 0.5 * line_error(sample, truth)
    inside = (np.abs(wrong) <= 1.645 * plain.sigma[0].numpy()[:, hidden]).mean()
    assert inside >= 0.85
    assert 3.29 * plain.sigma[0].numpy()[:, hidden].mean() < 12 * np.abs(wrong).mean()


def test_observed_pixels_pass_through_and_are_called_observed(place, plain):
    sample, _ = place
    seen = ~sample.hidden()
    assert np.array_equal(plain.s2[0].numpy()[:, seen], sample.s2[sample.target_index][:, seen])
    assert (plain.source[0].numpy()[seen] == Source.OBSERVED).all() and (plain.sigma[0].numpy()[:, seen] == 0).all()
    assert set(np.unique(plain.source[0].numpy()[~seen])) <= {Source.DATES, Source.DATES_SAR}


@pytest.mark.parametrize("poison", [np.nan, 0.0, 1e30, "random"])
def test_nothing_leaks_from_what_cannot_be_seen(place, plain, poison):
    sample, _ = place
    rng = np.random.default_rng(5)
    bad = rng.uniform(0, 1, sample.s2.shape).astype(np.float32) if poison == "random" else np.float32(poison)
    s2 = np.where(~sample.clear()[:, None], bad, sample.s2).astype(np.float32)
    batch = Batch.stack([sample])
    assert same(SceneEngine()(replace(batch, s2=torch.from_numpy(s2)[None])), plain)


def test_the_same_seed_gives_the_same_bits_and_global_randomness_is_untouched(place, plain):
    torch.manual_seed(3)
    np.random.seed(3)
    state, legacy = torch.get_rng_state(), np.random.get_state()[1].copy()
    assert same(restored(place[0]), plain)
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], legacy)


def test_the_order_of_dates_and_padding_do_not_matter(place, plain):
    batch = Batch.stack([place[0]])
    order = torch.from_numpy(np.random.default_rng(1).permutation(batch.s2.shape[1]))
    shuffled = replace(
        batch, s2=batch.s2[:, order], s2_valid=batch.s2_valid[:, order], s2_days=batch.s2_days[:, order],
        cloud=batch.cloud[:, order], target_index=torch.tensor([int((order == int(batch.target_index[0])).nonzero()[0, 0])]),
    )  # fmt: skip
    assert same(SceneEngine()(shuffled), plain)
    pad = lambda x, v: torch.cat([x, torch.full_like(x[:, :2], v)], 1)  # noqa: E731
    padded = replace(
        batch, s2=pad(batch.s2, 0), s2_valid=pad(batch.s2_valid, False), cloud=pad(batch.cloud, 1),
        s2_days=torch.cat([batch.s2_days, batch.s2_days[:, -1:].repeat(1, 2)], 1),
    )  # fmt: skip
    assert same(SceneEngine()(padded), plain)


def test_tiles_equal_the_whole_bit_for_bit():
    grid = GeoBox((150, 170), Affine(10, 0, 500000 + 370, 0, -10, 5000000 - 110), "EPSG:32631")
    sample, _ = field_place(seed=2, side=170, dates=11, cover=0.5)
    rows = slice(0, 150)
    cut = {n: getattr(sample, n)[..., rows, :] for n in ("s2", "s2_valid", "cloud", "s1", "s1_valid")}
    scene = Scene.of(replace(sample, place=replace(sample.place, grid=grid), **cut))
    engine = SceneEngine().adapt(scene, sample.target_date)
    whole = engine(Batch.stack([scene.read(target=sample.target_date)]))
    assert not whole.s2.isnan().any()
    for size, extra in ((64, 0), (50, 3)):
        for window in reversed(list(scene.blocks(size))):
            wide = engine.needs.outer(window, scene).grow(extra, scene.shape)
            part = engine(Batch.stack([scene.read(wide, target=sample.target_date)]))
            at = window.inside(wide).slices
            for name in ("s2", "sigma", "source", "age", "support"):
                found, expected = getattr(part, name)[(0, ..., *at)], getattr(whole, name)[(0, ..., *window.slices)]
                assert torch.equal(found, expected), (size, window, name)


def test_an_adapted_remover_answers_only_where_it_sees_far_enough():
    grid = GeoBox((300, 40), Affine(10, 0, 500000, 0, -10, 5000000), "EPSG:32631")
    sample, _ = field_place(seed=4, side=300, dates=9, s1=False)
    cut = {n: getattr(sample, n)[..., :40] for n in ("s2", "s2_valid", "cloud")}
    scene = Scene.of(replace(sample, place=replace(sample.place, grid=grid), **cut))
    engine = SceneEngine(Config(quality="fast")).adapt(scene, sample.target_date)
    narrow = next(iter(scene.blocks(40))).grow(20, scene.shape)
    part = engine(Batch.stack([scene.read(narrow, target=sample.target_date)]))
    assert part.s2.isnan().any()
    assert (part.source[0][part.s2[0, 0].isnan()] == Source.REFUSED).all()


def test_borders_of_the_cloud_are_no_seams(place, plain):
    sample, truth = place
    hidden = sample.hidden()
    across = (hidden[:, 1:] != hidden[:, :-1]).nonzero()
    step = lambda x: np.abs(np.diff(x, axis=2))[:, across[0], across[1]].mean()  # noqa: E731
    assert step(plain.s2[0].numpy()) == pytest.approx(step(sample_truth(sample, truth)), rel=0.10)


def sample_truth(sample, truth):
    """The target's truth with the observed pixels as observed: they carry the sensor's noise on both sides of the border."""
    seen = ~sample.hidden()
    return np.where(seen, sample.s2[sample.target_index], truth[sample.target_index])


@given(keys=st.lists(st.sampled_from([0.0, 0.25, 1.0, 7.5, 3e5]) | st.floats(0, 1), max_size=60), count=st.integers(1, 40))
def test_the_smallest_keys_are_those_that_sorting_gives(keys, count):
    expected = np.argsort(np.array(keys), kind="stable")[:count]
    assert sorted(smallest(np.array(keys, np.float64), count)) == sorted(expected)


def test_every_option_changes_the_result(place, plain):
    for change in ({"quality": "fast"}, {"quality": "best"}, {"causal": True}, {"radar": False}, {"seed": 1}):
        assert not torch.equal(restored(place[0], **change).s2, plain.s2), change


def test_causal_uses_earlier_dates_only(place):
    sample, _ = place
    later = sample.s2_dates > sample.target_date
    s2 = np.where(later[:, None, None, None], np.float32(0.9), sample.s2)
    changed = replace(sample, s2=s2, cloud=np.where(later[:, None, None], np.float32(0), sample.cloud))
    a, b = restored(sample, causal=True), restored(changed, causal=True)
    assert same(a, b)
    assert (a.age[0].numpy()[sample.hidden()] < 0).all()


# ------------------------------------------------------------------------------------------------------------- the ladder


def test_few_clear_pixels_let_the_prior_lead(place):
    sample, truth = place
    cloud = sample.cloud.copy()
    cloud[sample.target_index, 6:] = 1
    few = replace(sample, cloud=cloud)
    assert error(restored(few), truth[sample.target_index], few.hidden()) < line_error(few, truth)


def test_no_clear_pixel_on_the_date_leaves_base_and_prior(place):
    sample, truth = place
    cloud = sample.cloud.copy()
    cloud[sample.target_index] = 1
    blind = replace(sample, cloud=cloud)
    found = restored(blind)
    assert error(found, truth[sample.target_index], blind.hidden()) <= 1.02 * line_error(blind, truth)
    assert set(np.unique(found.source)) <= {Source.DATES, Source.DATES_SAR}
    assert not torch.equal(found.s2, restored(place[0]).s2)


def test_a_date_that_is_not_among_the_inputs_can_be_asked_for(place):
    sample, _ = place
    t = sample.target_index
    others = [i for i in range(len(sample.s2_dates)) if i != t]
    away = replace(
        sample, s2=sample.s2[others], s2_valid=sample.s2_valid[others], s2_dates=sample.s2_dates[others],
        cloud=sample.cloud[others], target_index=None,
    )  # fmt: skip
    cloud = sample.cloud.copy()
    cloud[t] = 1
    assert same(restored(away), restored(replace(sample, cloud=cloud)))


def test_one_other_date_is_carried_over_with_the_change_that_clear_pixels_show():
    """Truth: target = other date plus 0.05 everywhere. A copy is wrong by 0.05; one constant mends it."""
    rng = np.random.default_rng(0)
    ground = rng.uniform(0.1, 0.4, (2, 40, 40)).astype(np.float32)
    cloud = np.zeros((2, 40, 40), np.float32)
    cloud[1, :, 20:] = 1
    sample = Sample(
        place=Place(id="p", bands=("B04", "B08"), level="L1C"), s2=np.stack([ground, ground + np.float32(0.05)]),
        s2_valid=np.ones((2, 40, 40), bool), s2_dates=np.array(["2020-05-01", "2020-05-11"], "datetime64[D]"), cloud=cloud,
        target_date=np.datetime64("2020-05-11"), target_index=1,
    )  # fmt: skip
    found = restored(sample)
    hidden = sample.hidden()
    assert np.abs(found.s2[0].numpy() - ground - 0.05)[:, hidden].max() < 0.02
    assert (found.age[0].numpy()[hidden] == -10).all() and (found.support[0].numpy()[hidden] == 1).all()
    assert (found.source[0].numpy()[hidden] == Source.DATES).all()


def test_no_other_date_and_radar_that_tells_the_ground(place):
    sample, truth = place
    alone = only(sample, [sample.target_index])
    found, hidden = restored(alone), alone.hidden()
    assert (found.source[0].numpy()[hidden] == Source.SAR).all() and (found.age[0].numpy()[hidden] == NO_AGE).all()
    mean = sample.s2[sample.target_index][:, ~hidden].mean(1)
    flat = np.sqrt(((mean[:, None] - truth[sample.target_index][:, hidden]) ** 2).mean())
    assert error(found, truth[sample.target_index], hidden) < 0.8 * flat


def test_no_other_date_no_radar_continues_the_image():
    """A smooth ramp with a hole: kriging from the rim gives it back; the same image is named as the source."""
    rows, cols = np.indices((48, 48))
    ramp = (0.1 + 0.004 * rows + 0.002 * cols).astype(np.float32)
    cloud = np.zeros((1, 48, 48), np.float32)
    cloud[0, 20:28, 20:28] = 1
    sample = Sample(
        place=Place(id="ramp", bands=("B04",), level="L2A"), s2=ramp[None, None], s2_valid=np.ones((1, 48, 48), bool),
        s2_dates=np.array(["2020-05-11"], "datetime64[D]"), cloud=cloud,
        target_date=np.datetime64("2020-05-11"), target_index=0,
    )  # fmt: skip
    found, hidden = restored(sample), sample.hidden()
    assert (found.source[0].numpy()[hidden] == Source.SAME_IMAGE).all()
    assert np.abs(found.s2[0, 0].numpy() - ramp)[hidden].max() < 0.03
    assert (found.support[0].numpy()[hidden] == 0).all()


def test_pixels_that_no_other_date_shows_take_the_last_rungs(place):
    sample, _ = place
    cloud = sample.cloud.copy()
    cloud[:, 30:36, 30:36] = 1  # never clear
    found = restored(replace(sample, cloud=cloud))
    assert (found.source[0, 30:36, 30:36] == Source.SAR).all() and (found.age[0, 30:36, 30:36] == NO_AGE).all()
    cloud[sample.target_index] = 1
    blind = restored(replace(sample, cloud=cloud))
    assert (blind.source[0, 30:36, 30:36] == Source.PRIOR).all()
    assert (blind.sigma[0, :, 30:36, 30:36].mean() > 2 * blind.sigma[0, :, :20, :20].mean()).item()


@pytest.mark.parametrize("dates", [16, 5])
def test_a_place_that_never_changes_comes_back_as_it_is(place, dates):
    sample, _ = place
    still = only(sample, range(sample.target_index, sample.target_index - dates // 2, -1)[::-1], **NO_S1)
    still = replace(still, s2=np.full_like(still.s2, 0.2))
    found = restored(still)
    assert np.abs(found.s2.numpy() - 0.2).max() < 2e-3


def test_nothing_at_all_is_refused_never_invented(place):
    sample, _ = place
    found = restored(replace(sample, cloud=np.ones_like(sample.cloud)))
    assert found.s2.isnan().all() and (found.source == Source.REFUSED).all() and (found.age == NO_AGE).all()


def test_radar_is_named_only_where_it_moves_the_value(place):
    assert not (restored(place[0], radar=False).source == Source.DATES_SAR).any()
    assert not (restored(replace(place[0], **NO_S1)).source == Source.DATES_SAR).any()
    assert same(restored(place[0], radar=False), restored(replace(place[0], **NO_S1)))


def test_a_batch_without_a_date_is_a_usage_error(place):
    with pytest.raises(UsageError, match="no date"):
        SceneEngine()(replace(Batch.stack([place[0]]), target_day=None, target_index=None))


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (CELL + 1, 2)])
@pytest.mark.parametrize("bands", [1, 3])
def test_small_and_odd_shapes_and_any_number_of_bands(place, shape, bands):
    sample, _ = place
    h, w = shape
    cut = {n: getattr(sample, n)[..., :h, :w] for n in ("s2_valid", "cloud", "s1", "s1_valid")}
    tiny = replace(sample, s2=sample.s2[:, :bands, :h, :w], place=replace(sample.place, bands=BANDS[:bands]), **cut)
    cloud = tiny.cloud.copy()
    cloud[tiny.target_index, :, : max(w // 2, 1)] = 1
    found = restored(replace(tiny, cloud=cloud))
    assert found.s2.shape == (1, bands, h, w) and found.s2.dtype == torch.float32
    assert found.s2.isfinite().all() or (found.source[found.s2[:, 0].isnan()] == Source.REFUSED).all()


# ------------------------------------------------------------------------------------------------------- planted changes


def test_a_change_that_no_date_saw_is_flagged_by_a_wide_interval_or_missed(place):
    """A field burnt under the cloud, after its last clear date. It cannot be known: the miss rate is measured and bounded."""
    missed = []
    for seed in (0, 1, 2):
        sample, truth = field_place(seed=seed, s1=True)
        t, hidden = sample.target_index, sample.hidden()
        changed = truth[t].copy()
        changed[:, hidden] *= np.float32(0.85)  # a mild burn everywhere under the cloud
        found = restored(sample)
        inside = np.abs(found.s2[0].numpy() - changed)[:, hidden] <= 3 * found.sigma[0].numpy()[:, hidden]
        missed.append(1 - inside.mean())
    assert np.mean(missed) < 0.75


def test_classes_that_hide_count_as_hidden_and_nodata_too(place):
    sample, _ = place
    classes = np.where(sample.clear(), Cover.CLEAR, Cover.SHADOW).astype(np.uint8)
    classes[sample.target_index, :4, :4] = Cover.THIN
    scene = Scene.of(sample, classes=classes)
    found = SceneEngine().adapt(scene, sample.target_date)(Batch.stack([scene.read(target=sample.target_date)]))
    assert (found.source[0, :4, :4] != Source.OBSERVED).all()


# ------------------------------------------------------------------------------------------------------- simulated places


@pytest.mark.parametrize("seeds", [(5,), pytest.param((1, 2, 3, 4, 5), marks=pytest.mark.long)])
def test_on_simulated_places_it_beats_the_simple_ones_and_its_interval_holds(seeds):
    from unclouded.datasets.simulated import simulate
    from unclouded.models import load
    from unclouded.sample import HIDING

    inside, wrong, width = [], [], []
    for seed in seeds:
        place = simulate(seed=seed, size=(128, 128), dates=12)
        hidden = HIDING[place.cover]
        t = int(np.abs(hidden[1:-1].mean((1, 2)) - 0.5).argmin()) + 1
        scene = Scene.of(place.target(t)).with_masks(place.cover)
        batch = Batch.stack([scene.read(target=scene.dates[t])])
        at = hidden[t]
        found = SceneEngine().adapt(scene, scene.dates[t])(batch)
        for other in ("least-cloudy", "mosaic", "linear"):
            guess = load(other).adapt(scene, scene.dates[t])(batch)
            at_both = at & guess.s2[0, 0].isfinite().numpy()
            assert error(found, place.truth[t], at_both) < error(guess, place.truth[t], at_both), (seed, other)
        wrong.append(np.abs(found.s2[0].numpy() - place.truth[t])[:, at].ravel())
        sigma = found.sigma[0].numpy()[:, at].ravel()
        inside.append(wrong[-1] <= 1.645 * sigma)
        width.append(3.29 * sigma)
    # On two of the five a thin veil that the true masks leave out lies over the whole date: no rehearsal knows of it.
    assert (0.72 if len(seeds) > 1 else 0.60) <= np.concatenate(inside).mean() <= 0.95
    assert np.concatenate(width).mean() <= 4 * np.concatenate(wrong).mean()
