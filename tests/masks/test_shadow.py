"""Shadows from geometry on a fake plain: clouds of known height, forest and water where no shadow falls."""

from __future__ import annotations

from dataclasses import replace
from math import cos, radians, sin, tan

import numpy as np
import pytest
from odc.geo.geobox import GeoBox

from masks.fakes import ground, image, poisoned, sample
from unclouded.bands import L2A
from unclouded.masks import shadow
from unclouded.masks.detect import detect, sun_of
from unclouded.masks.sun import sun_over
from unclouded.sample import Cover, Place
from unclouded.scenes.scene import Scene

SHAPE = (220, 240)
DAY = np.datetime64("2021-08-20")
SUN = 157.5, 40.0  # azimuth and zenith, degrees: what the calendar says, within its error
GRID = GeoBox.from_bbox((500_000, 5_600_000, 500_000 + 10 * SHAPE[1], 5_600_000 + 10 * SHAPE[0]), "EPSG:32631", resolution=10)
CLOUDS = ((110, 80, 9, 700.0), (150, 150, 14, 700.0), (190, 60, 7, 900.0), (120, 200, 11, 800.0))  # row, col, radius, height


def _disk(row: float, col: float, radius: float) -> np.ndarray:
    y, x = np.ogrid[: SHAPE[0], : SHAPE[1]]
    return np.hypot(y - row, x - col) <= radius


def _fake(grid=GRID, decisions=None, deep: float = 0.35, conifers: bool = True):
    """The scene, where its clouds are, and where their shadows fall."""
    cover = ground("meadow", SHAPE)
    cover[:, 100:125] = "soil"
    cover[:30, :30], cover[200:, 200:] = "water", "water"
    cloud, dark = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    away = radians(SUN[0] + 180)
    for row, col, radius, height in CLOUDS:
        metres = height * tan(radians(SUN[1])) / 10
        cloud |= _disk(row, col, radius)
        dark |= _disk(row - cos(away) * metres, col + sin(away) * metres, radius)
    dark &= ~cloud
    s2 = image(cover, L2A)
    s2[:, 150:165, 30:90] *= 0.55 if conifers else 1.0  # conifers: dark, but no cloud throws its shadow there
    s2 = np.where(dark & (cover != "water"), s2 * np.float32(deep), s2)
    s2 = np.where(cloud, image(ground("cloud", SHAPE), L2A), s2)
    place = Place(id="plain", bands=L2A, level="L2A", grid=grid)
    made = replace(sample(s2, level="L2A", days=[DAY]), place=place)
    return replace(Scene.of(made), decisions=decisions or {}), cloud, dark & (cover != "water")


def _shares(found: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    return (found & truth).sum() / max(1, found.sum()), (found & truth).sum() / truth.sum()


SAID = {"products": [{"date": str(DAY), "sun_azimuth": SUN[0], "sun_zenith": SUN[1]}]}


@pytest.mark.parametrize(("grid", "decisions"), [(GRID, SAID), (GRID, None), (None, SAID), (None, None)])
def test_shadows_are_found_with_the_sun_known_computed_or_read_from_the_image(grid, decisions):
    scene, cloud, dark = _fake(grid, decisions)
    out = detect(scene, mask="sixband", grow=0)
    found = out.masks[0]
    precision, recall = _shares(found == Cover.SHADOW, dark)
    assert precision > 0.97 and recall > 0.93, (precision, recall)
    np.testing.assert_array_equal(found == Cover.THICK, cloud)
    record = out.decisions["masks"]["dates"][str(DAY)]["shadows"]
    assert record["placed"] == len(CLOUDS)
    assert record["sun_known"] is (grid is not None or decisions is not None)
    assert abs(record["sun_azimuth"] - SUN[0]) < 10


def test_the_sun_is_taken_from_metadata_before_the_calendar():
    scene, _, _ = _fake(decisions=SAID)
    assert sun_of(scene, 0) == SUN
    bare, _, _ = _fake()
    assert sun_of(bare, 0) == sun_over(bare.place, DAY) != SUN
    lost = {"products": [{"date": str(DAY), "sun_azimuth": float("nan"), "sun_zenith": float("nan")}]}
    assert sun_of(_fake(decisions=lost)[0], 0) == sun_over(bare.place, DAY)


def test_dark_ground_without_a_cloud_before_the_sun_is_no_shadow():
    scene, _, dark = _fake(decisions=SAID)
    found = detect(scene, mask="sixband", grow=0).masks[0] == Cover.SHADOW
    assert not found[150:165, 30:90][~dark[150:165, 30:90]].any()
    assert not found[:30, :30].any() and not found[200:, 200:].any()  # water


def test_without_cloud_or_contrast_there_is_no_shadow():
    clear = Scene.of(sample(image(ground("meadow", SHAPE), L2A), level="L2A"))
    out = detect(clear, mask="sixband")
    assert (out.masks == Cover.CLEAR).all()
    assert out.decisions["masks"]["dates"]["2020-06-01"]["shadows"] == {"placed": 0}
    pale, _, _ = _fake(deep=0.95, conifers=False)
    assert not (detect(pale, mask="sixband", grow=0).masks == Cover.SHADOW).any()


def test_it_is_the_same_however_the_scene_is_cut():
    scene, _, _ = _fake()
    whole = detect(scene, mask="sixband").masks
    for block in (64, 101):
        np.testing.assert_array_equal(detect(scene, mask="sixband", block=block).masks, whole)


def test_what_lies_under_unmeasured_pixels_never_counts():
    scene, _, _ = _fake()
    clean = scene.read()
    valid = np.ones((1, *SHAPE), bool)
    valid[0, 40:80, 90:140] = False
    results = []
    for value in (np.nan, 0.0, 1e30):
        dirty = Scene.of(poisoned(replace(clean, s2_valid=valid), value))
        results.append(detect(dirty, mask="sixband").masks)
        np.testing.assert_array_equal(results[-1], results[0])
    np.testing.assert_array_equal(results[0] == Cover.NODATA, ~valid)


def test_the_overview_of_a_full_tile_stays_small():
    assert shadow.factor_of((10_980, 10_980), (10.0, 10.0)) == 8
    assert shadow.factor_of((5490, 5490), (20.0, 20.0)) == 4
    assert shadow.factor_of((512, 512), (10.0, 10.0)) == 2
    assert shadow.factor_of((64, 64), (60.0, 60.0)) == 1


def test_shadows_fall_away_from_the_sun():
    offsets = shadow.shifts(150.0, (200.0, 2000.0), (20.0, 20.0))
    assert (offsets[:, 0] < 0).all() and (offsets[:, 1] < 0).all()  # sun in the south-east: up and to the left
    metres = np.hypot(*offsets.T) * 20
    assert metres.min() >= 190 and metres.max() <= 2040
    north = shadow.shifts(30.0, (200.0, 2000.0), (20.0, 20.0))
    assert (north[:, 0] > 0).all() and (north[:, 1] < 0).all()


def test_clouds_outside_the_scene_throw_shadows_into_it():
    """A shadow whose cloud lies beyond the southern border: found by the distance usual on the date, if it is deep."""
    scene, _, dark = _fake(decisions=SAID)
    before = scene.read()
    s2 = before.s2.copy()
    lake = np.s_[195:215, 100:130]
    s2[0][:, *lake] = image(ground("meadow", SHAPE), L2A)[:, *lake] * np.float32(0.3)
    edge = replace(scene, source=Scene.of(replace(before, s2=s2)).source)
    found = detect(edge, mask="sixband", grow=0).masks[0] == Cover.SHADOW
    assert found[lake].mean() > 0.99 and not (detect(scene, mask="sixband", grow=0).masks[0] == Cover.SHADOW)[lake].any()
    assert (found & dark).sum() / dark.sum() > 0.93
