"""The simulated place: lazy in space, deterministic, physical, and its truth is the truth."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unclouded.bands import L1C
from unclouded.datasets import radar
from unclouded.datasets.climates import CLIMATES, CROP, CROPS, SURFACES
from unclouded.datasets.ground import _parcel_states
from unclouded.datasets.lattice import key
from unclouded.datasets.simulated import (
    Event,
    LandCover,
    SimulatedPlace,
    SimulatedSource,
    hold,
    make_world,
    simulate,
    write_series,
)
from unclouded.datasets.sky import sun
from unclouded.errors import UsageError
from unclouded.raster import open_raster, read
from unclouded.sample import HIDING, Cover, Window
from unclouded.scenes.scene import Layer, Scene, reflectance_of
from unclouded.units import to_reflectance

ALL = {"cover": [0.3, 0.5, 0.6, 1.0], "kinds": ["cumulus", "bank", "cirrus", None], "dates": 4}


@pytest.fixture(scope="module")
def place() -> SimulatedPlace:
    return simulate(seed=11, size=(160, 160), dates=10, step=18, start="2024-03-10")


def _ndvi(image: np.ndarray, bands: tuple[str, ...]) -> np.ndarray:
    red, nir = image[..., bands.index("B04"), :, :], image[..., bands.index("B08"), :, :]
    return (nir - red) / (nir + red)


# -- a window is the crop of the whole ---------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["L2A", "L1C"])
def whole(request: pytest.FixtureRequest) -> tuple[SimulatedSource, SimulatedPlace]:
    source = SimulatedSource(
        make_world(size=(130, 150), seed=3, level=request.param, climate="snow", start="2024-04-10", origin=(5, -4000), **ALL)
    )
    return source, hold(source)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 129), st.integers(0, 149), st.integers(1, 60), st.integers(1, 60), st.integers(0, 3))
def test_a_window_is_the_crop_of_the_whole_bit_for_bit(whole, row: int, col: int, height: int, width: int, i: int) -> None:
    source, place = whole
    at = Window(row, col, min(height, 130 - row), min(width, 150 - col))
    cut = (..., *at.slices)
    assert np.array_equal(source.s2(i, at)[0], place.sample.s2[i][cut])
    assert np.array_equal(source.truth(i, at), place.truth[i][cut])
    assert np.array_equal(source.cover(i, at), place.cover[i][cut])
    assert np.array_equal(source.cloud(i, at), place.sample.cloud[i][cut])
    assert np.array_equal(source.s1(i, at)[0], place.sample.s1[i][cut])
    assert np.array_equal(source.landcover(at), place.landcover[cut])
    if place.sample.scl is not None:
        assert np.array_equal(source.scl(i, at), place.sample.scl[i][cut])


def test_a_tile_sized_place_is_read_window_by_window() -> None:
    source = SimulatedSource(make_world(size=(10980, 10980), dates=2, cover=0.5))
    s2, valid = source.s2(1, Window(10900, 10950, 80, 30))
    assert s2.shape == (10, 80, 30) and valid.all() and np.isfinite(s2).all() and s2.std() > 0.01
    assert source.place.grid.shape == (10980, 10980)


# -- seeds -------------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bits_and_another_does_not() -> None:
    state = np.random.get_state()[1].copy()
    a, b, c = (simulate(seed=s, size=(40, 40), dates=3) for s in (5, 5, 6))
    assert np.array_equal(a.sample.s2, b.sample.s2) and np.array_equal(a.sample.s1, b.sample.s1)
    assert not np.array_equal(a.truth, c.truth) and not np.array_equal(a.landcover, c.landcover)
    assert np.array_equal(np.random.get_state()[1], state)


# -- the truth ---------------------------------------------------------------------------------------------------------


def test_the_truth_does_not_depend_on_clouds() -> None:
    clear, cloudy = (simulate(seed=2, size=(60, 60), dates=3, cover=c) for c in (0.0, 0.9))
    assert np.array_equal(clear.truth, cloudy.truth)
    assert np.abs(cloudy.sample.s2 - cloudy.truth).mean() > 0.05 > 0.005 > np.abs(clear.sample.s2 - clear.truth).mean()


@pytest.mark.parametrize("level", ["L2A", "L1C"])
def test_without_clouds_only_noise_and_rounding_part_image_and_truth(level: str) -> None:
    place = simulate(seed=4, size=(90, 90), dates=2, cover=0.0, level=level)
    error = place.sample.s2 - place.truth
    assert abs(error.mean()) < 2e-4
    sigma = 0.0008 + 0.004 * place.truth
    assert (error / sigma).std() == pytest.approx(1, abs=0.06)
    assert (place.cover == Cover.CLEAR).all() and place.sample.cloud.max() == 0


def test_hidden_means_changed_and_clear_means_nearly_unchanged() -> None:
    place = simulate(seed=8, size=(160, 160), dates=6, cover=0.5)
    change = np.abs(place.sample.s2 - place.truth)[:, place.sample.place.bands.index("B02")]
    hidden = HIDING[place.cover]
    assert np.array_equal(hidden, ~place.sample.clear())  # the mask and the class table say the same
    assert np.quantile(change[~hidden], 0.99) < 0.03  # what is left of thin haze below the threshold
    thick = place.cover == Cover.THICK
    assert np.quantile(change[thick], 0.05) > 0.10


def test_every_class_occurs_where_it_must() -> None:
    place = simulate(seed=8, size=(160, 160), dates=3, cover=0.5, kinds=["cumulus", "cirrus", "bank"])
    assert {Cover.CLEAR, Cover.THICK, Cover.SHADOW} <= set(np.unique(place.cover[0]))
    assert set(np.unique(place.cover[1])) <= {Cover.CLEAR, Cover.THIN, Cover.THICK}  # cirrus casts no shadow we could see
    winter = simulate(seed=2, size=(120, 120), dates=1, cover=0.0, climate="snow")
    assert (winter.cover == Cover.SNOW).mean() > 0.2
    assert (simulate(seed=8, size=(60, 60), dates=1, cover=0.0, climate="snow", start="2024-07-01").cover == Cover.CLEAR).all()


@pytest.mark.parametrize("asked", [0.1, 0.35, 0.6, 0.85])
@pytest.mark.parametrize("kind", ["cumulus", "bank", "cirrus"])
def test_cover_is_as_asked(kind: str, asked: float) -> None:
    source = SimulatedSource(make_world(seed=13, size=(200, 200), dates=2, cover=asked, kinds=kind))
    got = [HIDING[source.cover(i, Window(0, 0, 200, 200))].mean() for i in range(2)]
    assert got == pytest.approx([asked, asked], abs=0.05)


def test_a_sky_full_of_cirrus_is_still_thin() -> None:
    place = simulate(seed=4, size=(120, 120), dates=1, cover=1.0, kinds="cirrus")
    assert HIDING[place.cover].mean() > 0.99 and np.median(place.source.look(0, Window(0, 0, 120, 120)).total()) < 6
    assert np.corrcoef(place.sample.s2[0, 6].ravel(), place.truth[0, 6].ravel())[0, 1] > 0.5  # the ground shines through


def test_the_default_covers_have_clear_and_covered_dates_for_every_seed() -> None:
    for seed in range(20):
        covers = np.array(make_world(seed=seed, dates=12).covers)
        assert (covers < 0.05).sum() >= 2 and (covers > 0.97).sum() >= 2 and ((covers > 0.2) & (covers < 0.9)).sum() >= 2
    assert len({make_world(seed=s, dates=12).covers for s in range(5)}) == 5


# -- light -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("latitude", [50.0, -35.0])
def test_the_sun_stands_east_of_the_meridian_at_half_past_ten(latitude: float) -> None:
    light = sun(np.datetime64("2024-03-20"), latitude)
    assert np.sin(light.azimuth) > 0.2  # east
    assert (np.cos(light.azimuth) < 0) == (latitude > 0)  # south of a northern place, north of a southern one
    assert np.degrees(light.zenith) == pytest.approx(53.6 if latitude > 0 else 40.8, abs=1.0)


def test_shadows_lie_away_from_the_sun() -> None:
    """Where the dark pixels match the clouds best, measured by correlation, is height x tan(zenith) away from the sun."""
    size = 400
    source = SimulatedSource(make_world(seed=21, size=(size, size), dates=1, cover=0.25, kinds="cumulus", classes="none"))
    view, light = source.look(0, Window(0, 0, size, size)), source._skies[0].light
    cloud, dark = view.total() > 2, view.light < 0.6
    twice = (2 * size, 2 * size)
    match = np.fft.irfft2(np.fft.rfft2(dark - dark.mean(), twice) * np.conj(np.fft.rfft2(cloud - cloud.mean(), twice)), twice)
    down, right = (int(n) - 2 * size * (n > size) for n in np.unravel_index(match.argmax(), match.shape))
    far = source._skies[0].layers[0].height / 10 * np.tan(light.zenith)
    assert (down, right) == pytest.approx((np.cos(light.azimuth) * far, -np.sin(light.azimuth) * far), abs=8)
    assert down < -20 and right < -20  # a northern morning: the sun in the south-east, shadows to the north-west


def test_shadows_are_dark_and_bluish() -> None:
    place = simulate(seed=21, size=(256, 256), dates=1, cover=0.25, kinds="cumulus")
    bands = place.sample.place.bands
    deep = (place.source.look(0, Window(0, 0, 256, 256)).light < 0.2) & (place.cover[0] == Cover.SHADOW)
    left = [
        np.median(place.sample.s2[0, bands.index(b)][deep] / place.truth[0, bands.index(b)][deep])
        for b in ("B02", "B08", "B11")
    ]
    assert left[0] > left[1] > left[2] and left[1] == pytest.approx(0.23, abs=0.06)


def test_cirrus_shows_in_b10_and_low_cloud_does_not() -> None:
    place = simulate(seed=5, size=(120, 120), dates=3, level="L1C", cover=[0.7, 0.7, 0.0], kinds=["cirrus", "cumulus", None])
    b10 = place.sample.s2[:, L1C.index("B10")]
    high, low = place.cover[0] != Cover.CLEAR, place.cover[1] == Cover.THICK
    assert np.median(b10[0][high]) > 0.02 and np.median(b10[1][low]) < 0.004 and b10[2].max() < 0.006
    assert "B10" not in simulate(size=(12, 12), dates=1).sample.place.bands


def test_clouds_are_bright_and_ice_is_darker_in_the_short_wave_infrared() -> None:
    place = simulate(seed=5, size=(120, 120), dates=2, cover=[0.8, 1.0], kinds=["cirrus", "overcast"])
    bands = place.sample.place.bands
    blue, swir = (place.sample.s2[:, bands.index(b)] for b in ("B02", "B12"))
    thick = place.cover[1] == Cover.THICK
    assert thick.mean() > 0.9 and np.median(blue[1][thick]) > 0.4
    assert np.median((swir / blue)[1][thick]) > 0.45
    added = (place.sample.s2 - place.truth)[0]
    ice = added[bands.index("B02")] > 0.08
    assert ice.mean() > 0.1 and np.median((added[bands.index("B12")] / added[bands.index("B02")])[ice]) < 0.5


def test_toa_is_bluer_than_the_ground_and_dark_where_water_vapour_absorbs() -> None:
    low, top = (
        simulate(seed=6, size=(60, 60), dates=1, cover=0.0, level=level, bands=b)
        for level, b in (("L2A", L2A_ALL), ("L1C", L1C))
    )
    mean = {name: top.truth[0, n].mean() for n, name in enumerate(L1C)}
    base = {name: low.truth[0, n].mean() for n, name in enumerate(L2A_ALL)}
    assert mean["B01"] - base["B01"] > 0.06 and mean["B02"] - base["B02"] > 0.03 and abs(mean["B12"] - base["B12"]) < 0.02
    assert mean["B09"] < 0.6 * base["B09"] and mean["B10"] < 0.003


L2A_ALL = tuple(b for b in L1C if b != "B10")


# -- the ground --------------------------------------------------------------------------------------------------------


def test_coarse_bands_come_at_their_own_resolution() -> None:
    place = simulate(seed=3, size=(60, 66), dates=2, bands=("B01", "B02", "B05", "B09", "B11"), cover=0.4)
    for values in (place.sample.s2, place.truth):
        for n, factor in ((0, 6), (2, 2), (3, 6), (4, 2)):
            blocks = values[:, n].reshape(2, 60 // factor, factor, 66 // factor, factor)
            assert np.array_equal(blocks, np.broadcast_to(blocks[:, :, :1, :, :1], blocks.shape))
        fine = values[:, 1].reshape(2, 30, 2, 33, 2)
        assert not np.array_equal(fine, np.broadcast_to(fine[:, :, :1, :, :1], fine.shape))
    native = simulate(seed=3, size=(60, 66), dates=2, bands=("B02",), cover=0.4)
    assert np.array_equal(native.truth[:, 0], place.truth[:, 1])  # a band does not depend on its company


def test_a_wheat_field_greens_and_fades() -> None:
    source = SimulatedSource(make_world(seed=11, size=(160, 160), dates=12, step=20, start="2024-02-10", cover=0.0, s1=False))
    at = Window(0, 0, 160, 160)
    wheat = source._ground(source._aligned(at)[0]).crop_names()[1:-1, 1:-1][:160, :160] == "winter wheat"
    wheat &= source.landcover(at) == LandCover.CROP
    assert wheat.sum() > 500
    ndvi = np.array([np.median(_ndvi(source.truth(i, at), source.place.bands)[wheat]) for i in range(12)])
    top = int(ndvi.argmax())
    assert 4 <= top <= 7 and ndvi[top] > 0.75  # 30 April to 29 June
    assert ndvi[0] < 0.55 and ndvi[-1] < 0.45
    assert (np.diff(ndvi[: top + 1]) > -0.02).all() and ndvi[9] < ndvi[7]


@pytest.mark.parametrize(
    ("crop", "doy", "green", "dry", "flood"),
    [
        ("winter wheat", 20, 0.30, 0.0, 0),  # autumn-sown: some green in winter
        ("winter wheat", 150, 0.95, 0.0, 0),
        ("winter wheat", 198, 0.03, 0.78, 0),  # ripe: straw, not yet harvested
        ("winter wheat", 207, 0.0, 0.57, 0),  # stubble
        ("winter wheat", 252, 0.0, 0.07, 0),
        ("maize", 120, 0.0, 0.0, 0),
        ("maize", 220, 0.93, 0.01, 0),
        ("single rice", 160, 0.05, 0.0, 0.92),
        ("single rice", 150, 0.02, 0.0, 0),
        ("olives", 200, 0.42, 0.0, 0),
    ],
)
def test_crops_keep_their_calendars(crop: str, doy: int, green: float, dry: float, flood: float) -> None:
    none, full, late = np.zeros(1), np.ones(1, np.float32), np.ones(1, np.float32)  # no lag, full vigour, no catch crop
    state = _parcel_states(CROP[crop], doy, none, full, late)[:, 0]
    assert state[0] == pytest.approx(green, abs=0.03)
    assert state[1] == pytest.approx(dry, abs=0.04)
    assert state[3] == pytest.approx(flood, abs=0.01)
    delayed = _parcel_states(CROP[crop], doy + 9, none + 9, full, late)[:, 0]
    assert delayed == pytest.approx(state)  # a late field is the same field later


def test_fields_of_one_crop_differ_and_their_texture_lasts(place: SimulatedPlace) -> None:
    source = place.source
    ground = source._ground(source._aligned(Window(0, 0, *place.sample.shape))[0])
    parcel = ground.parcel[1:-1, 1:-1][:160, :160]
    ndvi = _ndvi(place.truth, place.sample.place.bands)
    ids, sizes = np.unique(parcel[place.landcover == LandCover.CROP], return_counts=True)
    assert len(ids) > 60 and np.median(sizes) > 30
    inside = [ndvi[3:5, parcel == i] for i in ids[np.argsort(sizes)[-20:]]]
    between = np.std([v.mean() for v in inside])
    within = np.mean([v[0].std() for v in inside])
    assert between > 2 * within > 0.01
    lasting = np.mean([np.corrcoef(v)[0, 1] for v in inside])
    assert lasting > 0.5


@pytest.mark.parametrize("climate", list(CLIMATES))
def test_values_are_plausible_in_every_climate(climate: str) -> None:
    place = simulate(seed=1, size=(128, 128), dates=4, step=40, climate=climate, cover=0.0)
    bands, cover = place.sample.place.bands, place.landcover
    assert place.truth.min() >= 0 and place.truth.max() < 1.05
    visible = place.truth[:, :3].mean()
    assert 0.04 < visible < (0.35 if climate == "snow" else 0.12)
    assert len(np.unique(cover)) >= 5
    vv, vh = place.sample.s1[:, 0], place.sample.s1[:, 1]
    assert -15 < vv.mean() < -8 and 4 < (vv - vh).mean() < 9
    summer = place.truth[2]
    if (water := cover == LandCover.WATER).sum() > 50:
        assert np.median(summer[bands.index("B08")][water]) < 0.12
    wood = (cover == LandCover.CONIFER) | (cover == LandCover.DECIDUOUS)
    assert np.median(vh[:, wood]) > np.median(vh[:, cover == LandCover.CROP]) + 1


def test_radar_and_optics_see_the_same_rain() -> None:
    """Bare soil: a wetter day is darker in B11 and brighter in VV."""
    days = [str(d) for d in np.datetime64("2024-03-01") + 3 * np.arange(12)]
    source = SimulatedSource(make_world(seed=2, size=(120, 120), dates=days, cover=0.0, s1_every=3))
    at = Window(0, 0, 120, 120)
    outer, _ = source._aligned(at)
    wet = [float(source._ground(outer).moisture(np.datetime64(d)).mean()) for d in days]
    bare = source._mixture(outer, np.datetime64(days[0])).inner()
    soil = (bare.share("soil") + bare.share("wet soil"))[:120, :120] > 0.6
    assert soil.sum() > 300 and np.std(wet) > 0.08
    b11 = [np.median(source.truth(i, at)[source.place.bands.index("B11")][soil]) for i in range(12)]
    days_k = [int(np.flatnonzero(source.world.s1_dates == np.datetime64(d) - 1)[0]) for d in days]
    vv = [np.mean(source.s1(k, at)[0][0][soil]) for k in days_k]
    wet_before = [float(source._ground(outer).moisture(np.datetime64(d) - 1).mean()) for d in days]
    assert np.corrcoef(wet, b11)[0, 1] < -0.8 and np.corrcoef(wet_before, vv)[0, 1] > 0.8


def test_rice_stands_under_water_before_it_grows() -> None:
    source = SimulatedSource(make_world(seed=3, size=(150, 150), dates=["2024-04-25", "2024-06-10"], climate="rice", cover=0.0))
    at = Window(0, 0, 150, 150)
    outer, inside = source._aligned(at)
    flooded = source._mixture(outer, np.datetime64("2024-04-25")).inner().share("turbid")[inside.slices] > 0.6
    flooded &= source.landcover(at) != LandCover.WATER
    assert flooded.mean() > 0.15
    ndvi = [np.median(_ndvi(source.truth(i, at), source.place.bands)[flooded]) for i in (0, 1)]
    assert ndvi[0] < 0.3 < 0.7 < ndvi[1]
    vv = [np.median(source.s1(k, at)[0][0][flooded]) for k in (0, 8)]
    assert vv[1] - vv[0] > 3


def test_a_fire_and_a_building_change_both_sensors_from_their_day_on() -> None:
    common = {"seed": 9, "size": (80, 80), "dates": 4, "step": 12, "start": "2024-06-01", "cover": 0.0, "s1_every": 12}
    plain = simulate(**common)
    disc = np.hypot(*np.meshgrid(np.arange(80) - 40, np.arange(80) - 40, indexing="ij")) < 10
    for kind, band, rises in (("fire", "B08", False), ("building", "B02", True)):
        struck = simulate(events=[Event(kind=kind, day=np.datetime64("2024-06-20"), radius=14)], **common)
        n = plain.sample.place.bands.index(band)
        change = (struck.truth - plain.truth)[:, n][:, disc].mean(1)
        assert change[:2] == pytest.approx([0, 0], abs=1e-7)
        assert (change[2:] > 0.05).all() if rises else (change[2:] < -0.05).all()
        far = np.s_[..., :10, :10]
        assert np.array_equal(struck.truth[far], plain.truth[far])
        backscatter = (struck.sample.s1 - plain.sample.s1)[:, 1][:, disc].mean(1)
        assert abs(backscatter[0]) < 1e-5 and (backscatter[-1] > 3 if rises else backscatter[-1] < -0.5)
    mown = simulate(events=[Event(kind="harvest", day=np.datetime64("2024-06-20"), radius=30)], **common)
    fall = (_ndvi(mown.truth, mown.sample.place.bands) - _ndvi(plain.truth, plain.sample.place.bands))[2]
    assert np.median(fall[disc & (plain.landcover == LandCover.CROP)]) < -0.15


def test_the_tables_are_whole() -> None:
    assert all(len(s.spectrum) == 13 and min(s.spectrum) > 0 and max(s.spectrum) < 1 and s.vh < s.vv for s in SURFACES)
    names = {s.name for s in SURFACES}
    assert {c.leaf for c in CROPS} <= names
    for climate in CLIMATES.values():
        assert sum(share for _, share in climate.crops) == pytest.approx(1)


# -- radar -------------------------------------------------------------------------------------------------------------


def test_speckle_has_the_looks_and_the_correlation_of_a_ground_range_image() -> None:
    image = radar.speckle(key(1), np.arange(500), np.arange(500))
    assert image.mean() == pytest.approx(1, abs=0.01)
    assert image.mean() ** 2 / image.var() == pytest.approx(4.4, abs=0.15)
    next_to = np.corrcoef(image[:, 1:].ravel(), image[:, :-1].ravel())[0, 1]
    apart = np.corrcoef(image[:, 5:].ravel(), image[:, :-5].ravel())[0, 1]
    assert next_to == pytest.approx(0.315, abs=0.03) and abs(apart) < 0.02
    skew = np.mean((image - 1) ** 3) / image.std() ** 3
    assert skew == pytest.approx(2 / np.sqrt(4.4), abs=0.15)  # that of a gamma distribution


def test_two_orbits_differ_for_good_and_two_passes_of_one_orbit_do_not() -> None:
    place = simulate(seed=14, size=(120, 120), dates=12, climate="mediterranean", cover=0.0, s1_every=6)
    s1, orbits = place.sample.s1, place.sample.s1_orbits
    assert set(orbits.tolist()) == {radar.ASCENDING, radar.DESCENDING}
    assert (np.diff(place.sample.s1_dates).astype(int) == 6).all()
    means = [s1[orbits == o][:, 0] for o in (radar.ASCENDING, radar.DESCENDING)]
    halves = [(m[0::2].mean(0), m[1::2].mean(0)) for m in means]
    same = np.corrcoef(halves[0][0].ravel(), halves[0][1].ravel())[0, 1]
    other = np.corrcoef(halves[0][0].ravel(), halves[1][0].ravel())[0, 1]
    assert same > other + 0.05


# -- scene classes -----------------------------------------------------------------------------------------------------


def test_exact_scene_classes_are_right_and_realistic_ones_err_as_sen2cor_does() -> None:
    common = {"seed": 12, "size": (160, 160), "dates": 6, "cover": 0.5}
    exact, real = (simulate(classes=c, **common) for c in ("exact", "realistic"))
    assert np.array_equal(exact.sample.s2, real.sample.s2)
    seen = [np.isin(p.sample.scl, (3, 7, 8, 9, 10)) for p in (exact, real)]
    hidden = HIDING[exact.cover]
    missed = [(hidden & ~s).sum() / hidden.sum() for s in seen]
    assert missed[0] < 0.04 and 0.04 < missed[1] < 0.5
    assert (np.isin(real.sample.scl, (8, 9)) & (real.cover == Cover.CLEAR)).any()  # roofs taken for clouds
    blocks = real.sample.scl.reshape(6, 80, 2, 80, 2)
    assert np.array_equal(blocks, np.broadcast_to(blocks[:, :, :1, :, :1], blocks.shape))
    assert simulate(classes="none", size=(12, 12), dates=1).sample.scl is None


# -- files and options -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0.0, -1000.0])
def test_a_written_series_reads_back_as_it_was(tmp_path: Path, offset: float) -> None:
    place = simulate(seed=7, size=(70, 90), dates=3, offset=offset, cover=[0.0, 0.5, 1.0])
    write_series(place, tmp_path / "series", truth=tmp_path / "truth", block=64)
    assert sorted(p.name for p in (tmp_path / "series").iterdir()) == [str(d) for d in place.sample.s2_dates]
    paired, _ = place.sample.paired()
    for i, day in enumerate(place.sample.s2_dates):
        at = tmp_path / "series" / str(day)
        with open_raster(at / "s2.tif") as s2:
            assert s2.descriptions == place.sample.place.bands and s2.dtypes[0] == "uint16" and s2.nodata == 0
            assert s2.transform == place.sample.place.grid.affine and s2.crs.to_epsg() == 32631
            back, valid = to_reflectance(read(s2, range(1, 11)), offset=offset)
        assert valid.all() and np.array_equal(back, place.sample.s2[i])
        with open_raster(at / "s1.tif") as s1, open_raster(at / "scl.tif") as scl:
            assert s1.descriptions == ("VV", "VH") and np.array_equal(read(s1, [1, 2]), paired[i])
            assert np.array_equal(read(scl, [1])[0], place.sample.scl[i])
        with open_raster(tmp_path / "truth" / f"{day}.tif") as truth:
            assert np.array_equal(read(truth, range(1, 11)), place.truth[i])


def test_the_offset_moves_counts_not_reflectance() -> None:
    at = Window(0, 0, 30, 30)
    old, new = (SimulatedSource(make_world(seed=7, size=(30, 30), dates=1, cover=0.0, offset=o)) for o in (0.0, -1000.0))
    layer = new.layers(0)[0]
    assert layer.offset == (-1000.0,) * 10 and layer.quantification == 10_000
    assert np.array_equal(
        new.counts(0, layer, at).astype(int) - old.counts(0, old.layers(0)[0], at), np.full((10, 30, 30), 1000)
    )
    assert np.array_equal(new.s2(0, at)[0], old.s2(0, at)[0])


def test_a_scene_reads_a_simulated_source_like_any_other() -> None:
    source = SimulatedSource(make_world(seed=7, size=(40, 50), dates=3))
    scene = Scene(
        place=source.place, shape=source.world.shape, dates=source.world.dates, source=source,
        s1_dates=source.world.s1_dates, s1_orbits=source.world.s1_orbits,
    )  # fmt: skip
    place, at = hold(source), Window(7, 11, 20, 30)
    read, whole = scene.read(at), place.sample.crop(at)
    for name in ("s2", "s2_valid", "s1", "scl"):
        assert np.array_equal(getattr(read, name), getattr(whole, name))
    assert read.place.grid == whole.place.grid and read.place.origin == whole.place.origin
    stored = source.layers(0)[0]
    assert np.array_equal(reflectance_of(source.counts(0, stored, at), stored)[0], whole.s2[0])
    as_layer = Layer(**{f.name: getattr(stored, f.name) for f in fields(Layer)})
    assert as_layer.shape == (40, 50) and as_layer.bands == source.place.bands


def test_the_target_carries_its_truth(place: SimulatedPlace) -> None:
    sample = place.target(3)
    assert sample.target_index == 3 and sample.target_date == place.sample.s2_dates[3]
    assert np.array_equal(sample.target, place.truth[3]) and sample.target_valid.all()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"climate": "mars"}, "temperate, mediterranean"),
        ({"level": "L2A", "bands": ("B02", "B10")}, "no band B10"),
        ({"dates": 3, "cover": [0.1, 0.2]}, r"one per date \(3\)"),
        ({"cover": 1.4}, "lies in"),
        ({"dates": ["2024-05-02", "2024-05-01"]}, "ascending"),
        ({"dates": 0}, "at least one pixel"),
        ({"size": (0, 5)}, "at least one pixel"),
    ],
)
def test_impossible_options_are_refused_in_words(options: dict, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        make_world(**options)


def test_one_pixel_is_a_place() -> None:
    place = simulate(size=(1, 1), dates=1, cover=1.0)
    assert place.sample.s2.shape == (1, 10, 1, 1) and place.sample.s1.shape[1:] == (2, 1, 1) and HIDING[place.cover].all()
