"""Masks decided where they are looked at: the same classes as all of them at once, and nothing done where nobody looks."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from masks.fakes import ground, image, sample
from unclouded.bands import L2A
from unclouded.masks import detect as detecting
from unclouded.masks import screening
from unclouded.masks.detect import detect
from unclouded.masks.lazy import DECIDED, LazyMaps, mapped
from unclouded.masks.screening import screen
from unclouded.models.scene_engine import Config, SceneEngine
from unclouded.models.scene_store import purpose
from unclouded.models.scene_survey import looked_at
from unclouded.sample import Cover, Window
from unclouded.scenes.scene import MemorySource, Scene
from unclouded.workers import in_processes

SHAPE = (70, 84)
TARGET = 2


def series(seed: int = 0, **more) -> Scene:
    """Six dates of meadow and soil: clouds that SCL has, and one that it misses on the target and on another date each."""
    rng = np.random.default_rng(seed)
    cover = ground("meadow", SHAPE)
    cover[:, 40:] = "soil"
    s2 = np.stack([image(cover, L2A) * (1 + 0.02 * rng.standard_normal(SHAPE)) for _ in range(6)]).astype(np.float32)
    scl = np.full((6, *SHAPE), 4, np.uint8)
    cloud = image(ground("cloud", SHAPE), L2A)
    for date, spot in (
        (1, np.s_[5:15, 5:15]),
        (TARGET, np.s_[20:30, 18:30]),
        (TARGET, np.s_[50:62, 60:74]),
        (4, np.s_[10:24, 30:50]),
    ):
        s2[date][:, *spot] = cloud[:, *spot]
        scl[date][spot] = 4 if spot[0].start in (50, 10) else 9
    for date in (3, 4):  # missed there too: the target's is found only once that of date 3 is
        s2[date][:, 50:62, 60:74] = cloud[:, 50:62, 60:74]
    valid = np.ones((6, *SHAPE), bool)
    valid[3, :, :7] = False
    return Scene.of(sample(s2, level="L2A", scl=scl, s2_valid=valid, **more))


class OnTarget(MemorySource):
    """A mask file for the target only."""

    def given(self, i, window):
        return super().given(i, window) if i == TARGET else None


def with_file(scene: Scene, spot: tuple[slice, slice]) -> Scene:
    """The scene with a mask file that hides a spot of the target."""
    values = np.zeros((6, *SHAPE), np.float32)
    values[TARGET][spot] = 1
    return replace(scene, source=OnTarget(replace(scene.source.sample, given=values)))


def both(scene: Scene, **how) -> tuple[Scene, Scene]:
    """Decided at once, and lazily."""
    targets = [scene.dates[TARGET]]
    lazy = detect(scene, targets=targets, lazily=True, **how)
    assert isinstance(lazy.masks, LazyMaps)
    return detect(scene, targets=targets, **how), lazy


def done(scene: Scene) -> np.ndarray:
    """(T, H, W) what has been decided."""
    return mapped(scene.masks.maps) >= DECIDED


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 3), grow=st.sampled_from([0.0, 20.0, 45.0]), wanted=st.booleans(), final=st.booleans(),
    mask=st.sampled_from(["auto", "sixband"]), block=st.integers(16, 90), data=st.data(),
)  # fmt: skip
def test_any_window_in_any_order_is_what_all_at_once_is(seed, grow, wanted, final, mask, block, data):
    scene = with_file(series(seed), np.s_[30:40, 3:20]) if final else series(seed)
    at_once, lazy = both(scene, grow=grow, screen=wanted, mask=mask, block=block)
    for _ in range(3):
        row, col = data.draw(st.integers(0, SHAPE[0] - 1)), data.draw(st.integers(0, SHAPE[1] - 1))
        at = slice(row, data.draw(st.integers(row + 1, SHAPE[0]))), slice(col, data.draw(st.integers(col + 1, SHAPE[1])))
        dates = data.draw(st.sampled_from([slice(None), [1, 4], 3, TARGET]))
        np.testing.assert_array_equal(lazy.masks[(dates, *at)], at_once.masks[(dates, *at)])
    np.testing.assert_array_equal(np.stack(list(lazy.masks)), at_once.masks)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("mask", ["auto", "sixband"])
def test_strips_three_pixels_wide_are_what_all_at_once_is(axis, mask):
    at_once, lazy = both(series(), grow=45.0, mask=mask)
    for first in range(0, SHAPE[axis], 3):
        at = [slice(None)] * 3
        at[1 + axis] = slice(first, first + 3)
        np.testing.assert_array_equal(lazy.masks[tuple(at)], at_once.masks[tuple(at)])


def test_what_nobody_looks_at_is_not_decided():
    at_once, lazy = both(series())
    assert done(lazy)[TARGET].all() and not done(lazy)[[0, 1, 3, 4, 5]].any()
    window = Window(12, 20, 9, 30)
    lazy.read(window, target=lazy.dates[TARGET])
    seen = np.zeros(SHAPE, bool)
    seen[window.slices] = True
    np.testing.assert_array_equal(done(lazy)[0], seen)
    assert (lazy.masks[(4, *window.slices)] == Cover.THIN).any()  # the cloud that SCL missed on another date
    np.testing.assert_array_equal(lazy.masks[(4, *window.slices)], at_once.masks[(4, *window.slices)])


def test_a_mask_that_is_final_is_compared_with_nothing(monkeypatch):
    scene = with_file(series(), np.s_[3:5, 7:11])
    monkeypatch.setattr(detecting, "_read_lean", lambda *_: pytest.fail("other dates were read"))
    lazy = detect(scene, targets=[scene.dates[TARGET]], lazily=True)
    assert (lazy.masks[TARGET] == Cover.THICK).sum() == 8 and not done(lazy)[0].any()
    told = lazy.decisions["masks"]["dates"]
    assert told[str(scene.dates[TARGET])]["clear_detected"] == pytest.approx(1 - 8 / (SHAPE[0] * SHAPE[1]), abs=1e-6)
    assert told[str(scene.dates[0])] == {"detector": "scl", "why": "L2A with its scene classification", "final": False}


def test_the_record_of_the_restored_date_is_the_same():
    at_once, lazy = both(series())
    day = str(lazy.dates[TARGET])
    assert lazy.decisions["masks"]["dates"][day] == at_once.decisions["masks"]["dates"][day]
    assert lazy.decisions["masks"]["dates"][day]["screened_cloud"] > 0.02


def test_where_much_is_hidden_or_all_dates_are_restored_all_is_decided_at_once():
    scene = series()
    cloudy = np.asarray(scene.source.sample.scl).copy()
    cloudy[TARGET, : SHAPE[0] // 3] = 9
    much = Scene.of(replace(scene.source.sample, scl=cloudy))
    assert isinstance(detect(much, targets=[much.dates[TARGET]], lazily=True).masks, np.ndarray)
    assert isinstance(detect(scene, targets=list(scene.dates), lazily=True).masks, np.ndarray)
    assert isinstance(detect(scene, lazily=True).masks, np.ndarray)


def test_processes_share_what_is_decided(tmp_path):
    at_once = both(series())[0]
    lazy = detect(series(), targets=[at_once.dates[TARGET]], lazily=True, out=tmp_path / "masks.u8", workers=2)
    windows = [Window(0, 0, 40, 50), Window(20, 30, 50, 54), Window(10, 0, 30, 84)]
    seen = list(in_processes(copy.copy(lazy).read, windows, 2))
    plain = [at_once.read(window) for window in windows]
    for one in seen:
        assert any(np.array_equal(one.cloud, other.cloud) for other in plain)
    assert done(lazy)[0, :40, :50].all() and done(lazy)[5, 20:, 30:].all() and not done(lazy)[0, 45:, :29].any()
    np.testing.assert_array_equal(np.stack(list(lazy.masks)), at_once.masks)
    lazy.let_go()
    np.testing.assert_array_equal(np.stack(list(lazy.masks)), at_once.masks)
    assert isinstance(lazy.masks.maps, tuple)  # travels by name


def test_a_veil_hides_what_was_measured_and_nothing_of_the_original_changes():
    at_once, lazy = both(series())
    windows = [Window(0, 3, 20, 9), Window(60, 70, 10, 14)]
    plain, veiled = at_once.veiled(3, windows), lazy.veiled(3, windows)
    for at in (np.s_[3, 0:70, 0:84], np.s_[:, 5:66, 4:80], np.s_[3, 61:63, 71:72], np.s_[1, 0:30, 0:30]):
        np.testing.assert_array_equal(veiled.masks[at], plain.masks[at])
    twice = veiled.veiled(1, [Window(0, 0, 5, 5)])
    np.testing.assert_array_equal(np.stack(list(twice.masks)), plain.veiled(1, [Window(0, 0, 5, 5)]).masks)
    np.testing.assert_array_equal(np.stack(list(lazy.masks)), at_once.masks)
    assert (veiled.masks[3][:20, 3:7] == Cover.NODATA).all() and (veiled.masks[3][:20, 7:12] == Cover.THICK).all()


def test_a_scene_model_is_for_the_same_masks_however_they_were_decided():
    at_once, lazy = both(series())
    day = lazy.dates[TARGET]
    assert purpose(lazy, day, Config()) == purpose(at_once, day, Config())
    for date in (TARGET, 0):
        other = at_once.veiled(date, [Window(66, 80, 1, 1)])
        assert purpose(other, day, Config())["masks"] != purpose(at_once, day, Config())["masks"]


def test_the_study_decides_the_masks_of_its_sample_before_it_is_shared():
    lazy = both(series())[1]
    (window,) = looked_at(lazy, 0)  # a small scene: all of it
    SceneEngine().surveyed(lazy)
    assert window == lazy.window and done(lazy).all()


@given(seed=st.integers(0, 1000), data=st.data())
@settings(max_examples=20, deadline=None)
def test_screening_some_dates_finds_on_them_what_screening_all_does(seed, data):
    scene = series(seed)
    chosen = np.flatnonzero(data.draw(st.lists(st.booleans(), min_size=6, max_size=6)))
    trusted = np.array(data.draw(st.lists(st.booleans(), min_size=6, max_size=6)))
    clear = np.full((6, *SHAPE), Cover.CLEAR, np.uint8)
    pixel = (10.0, 10.0)
    whole, some = (screen(scene.read(), clear, pixel, trusted, wanted) for wanted in (None, chosen))
    np.testing.assert_array_equal(some[chosen], whole[chosen])
    assert not np.delete(some, chosen, 0).any() and whole[TARGET].any()


def test_the_wider_margin_is_for_restored_dates_only(monkeypatch):
    asked, true = [], screening.halo

    def told(pixel, trusted=True):
        asked.append(trusted)
        return true(pixel, trusted)

    monkeypatch.setattr(screening, "halo", told)
    scene = series()
    lazy = detect(scene, targets=[scene.dates[TARGET]], lazily=True)
    assert isinstance(lazy.masks, LazyMaps) and set(asked) == {True}
    asked.clear()
    assert lazy.masks[0].any() and set(asked) == {False}
