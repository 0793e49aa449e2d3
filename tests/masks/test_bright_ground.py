"""Bright ground in a series is not cloud; a place under clouds on most dates is not bright ground. Dry mountains in B10."""

from __future__ import annotations

import numpy as np
import pytest

from masks.fakes import SPECTRA, ground, image, sample
from unclouded.bands import L1C, L2A
from unclouded.masks import screening, sixband
from unclouded.masks.detect import detect
from unclouded.sample import HIDING, Cover
from unclouded.scenes.scene import Scene

SHAPE = (40, 44)
ROOF = (slice(10, 24), slice(12, 30))  # 25 000 square metres
DAYS = np.datetime64("2021-04-01") + 6 * np.arange(12)
WHITE = 0.65 * image(ground("cloud", (1, 1)), L2A)  # what a white roof is to the six-band rule


def _series(dates: int = 12, seed: int = 0) -> np.ndarray:
    """A white roof in a meadow (T, C, H, W), a little different on every date, as roofs under another sun are."""
    rng = np.random.default_rng(seed)
    light = 1 + 0.03 * rng.standard_normal((dates, 1, 1, 1))
    s2 = np.stack([image(ground("meadow", SHAPE), L2A)] * dates)
    s2[:, :, *ROOF] = WHITE
    return (s2 * light * (1 + 0.01 * rng.standard_normal((dates, 1, *SHAPE)))).astype(np.float32)


def _scene(s2: np.ndarray, **more) -> Scene:
    return Scene.of(sample(s2, level="L2A", days=DAYS[: len(s2)], **more))


def test_the_usual_reflectance_is_the_median_of_what_was_counted():
    rng = np.random.default_rng(0)
    layer = rng.random((9, 400)).astype(np.float32)
    layer[1:][rng.random((8, 400)) < 0.5] = np.nan  # odd and even numbers, down to one
    np.testing.assert_array_equal(screening._median(layer), np.nanmedian(layer, axis=0))


def test_a_white_roof_is_cloud_on_one_date_and_ground_in_a_series():
    s2 = _series()
    assert np.isin(detect(_scene(s2[:1])).masks[0][ROOF], (Cover.THICK, Cover.THIN)).all()
    out = detect(_scene(s2))
    assert (out.masks == Cover.CLEAR).all()
    record = out.decisions["masks"]
    assert record["bright_ground"] == "on"
    share = 14 * 18 / (SHAPE[0] * SHAPE[1])
    assert [day["bright_ground"] for day in record["dates"].values()] == pytest.approx([share] * 12, abs=1e-5)


def test_weather_over_the_roof_stays_hidden_and_so_does_its_shadow():
    s2 = _series()
    s2[3][:, *ROOF] = 1.4 * WHITE  # a brighter cloud
    s2[5] *= np.array([0.5 if name in ("B01", "B02") else 0.4 for name in L2A], np.float32)[:, None, None]  # all in shadow
    classes = detect(_scene(s2)).masks
    assert HIDING[classes[3][ROOF]].all()
    assert HIDING[classes[5]].all()
    assert not HIDING[np.delete(classes, [3, 5], axis=0)].any()


def test_the_mixed_pixels_around_a_roof_do_not_keep_its_margin_hidden():
    s2, rng = _series(), np.random.default_rng(1)
    rim = np.zeros(SHAPE, bool)
    rim[9:25, 11:31] = True
    rim[ROOF] = False
    share = rng.uniform(0.4, 1.0, (12, 1, int(rim.sum())))  # another mixture on every date
    s2[:, :, rim] = share * WHITE[:, 0] + (1 - share) * s2[:, :, rim]
    classes = detect(_scene(s2), grow=0).masks
    assert not HIDING[classes].any()


@pytest.mark.parametrize("clear", [[], [0, 1]])
def test_a_place_under_clouds_of_every_kind_stays_hidden(clear):
    """All dates cloudy, or all but two: also where most clouds are about alike, dark ground was seen beneath them."""
    rng = np.random.default_rng(2)
    bright = rng.uniform(0.4, 1.2, 12) if not clear else np.full(12, 0.65)
    s2 = (bright[:, None, None, None] * image(ground("cloud", SHAPE), L2A)).astype(np.float32)
    s2[clear] = image(ground("meadow", SHAPE), L2A)
    classes = detect(_scene(s2), grow=0).masks
    cloudy = [t for t in range(12) if t not in clear]
    assert HIDING[classes[cloudy]].all()


def test_a_short_series_and_one_without_screening_release_nothing_and_say_so():
    few = detect(_scene(_series(5)))
    assert HIDING[few.masks[0][ROOF]].all()
    assert few.decisions["masks"]["bright_ground"] == "off: 5 dates, it takes 6"
    off = detect(_scene(_series()), screen=False)
    assert HIDING[off.masks[0][ROOF]].all() and off.decisions["masks"]["bright_ground"] == "off: not wanted"


def test_a_mask_file_is_not_overruled():
    given = np.zeros((12, *SHAPE), np.float32)
    given[:, *ROOF] = 1
    out = detect(_scene(_series(), given=given), grow=0)
    assert (out.masks[:, *ROOF] == Cover.THICK).all()


@pytest.mark.parametrize("block", [7, 19])
def test_it_does_not_depend_on_blocks(block):
    s2 = _series()
    s2[2][:, 18:34, 20:40] = 1.4 * WHITE
    s2[4:, :, 11:15, 13:20] *= np.linspace(0.7, 1.3, 8, dtype=np.float32)[:, None, None, None]
    whole = detect(_scene(s2), grow=20)
    np.testing.assert_array_equal(detect(_scene(s2), grow=20, block=block).masks, whole.masks)


def test_nothing_is_asked_of_products_without_a_blue_band_that_it_cannot_tell():
    bands = ("B05", "B8A", "B11")
    at = [L2A.index(b) for b in bands]
    lean = sample(_series()[:, at], level="L2A", bands=bands, days=DAYS)
    classes = np.full((12, *SHAPE), Cover.CLEAR, np.uint8)
    assert not screening.bright_ground(lean, classes, (10.0, 10.0)).any()
    classes[:, *ROOF] = Cover.THICK
    released = screening.bright_ground(lean, classes, (10.0, 10.0))
    assert released[:, *ROOF].all() and released.sum() == 12 * 14 * 18


# -- dry mountains in B10 ------------------------------------------------------------------------------------------

DRY = {  # B09 lets four fifths of the light through, and B10 some of it: ground as seen through a tenth of the usual vapour
    "rock": dict(zip(L1C, (0.14, 0.14, 0.16, 0.19, 0.22, 0.24, 0.26, 0.28, 0.30, 0.24, 0.030, 0.33, 0.28), strict=True)),
    "firn": dict(zip(L1C, (0.85, 0.85, 0.82, 0.80, 0.79, 0.77, 0.76, 0.75, 0.72, 0.58, 0.035, 0.08, 0.06), strict=True)),
}


def _mountain(name: str, cirrus: float = 0.0, bands: tuple[str, ...] = L1C):
    s2 = np.zeros((len(bands), 20, 24), np.float32)
    for n, band in enumerate(bands):
        s2[n] = DRY[name][band] + cirrus
    return sample(s2, bands=bands)


@pytest.mark.parametrize(("name", "cover"), [("rock", Cover.CLEAR), ("firn", Cover.SNOW)])
def test_a_high_dry_mountain_that_shows_in_b10_is_not_cirrus(name, cover):
    assert (sixband.sixband(_mountain(name)).classes == cover).all()
    without = tuple(b for b in L1C if b != "B09")  # nothing tells how dry the air is: as documented
    assert np.isin(sixband.sixband(_mountain(name, bands=without)).classes, (Cover.THIN, Cover.THICK)).all()


def test_a_mountain_of_light_and_dark_rock_is_not_cirrus_either():
    light = np.random.default_rng(0).uniform(0.3, 1.2, (20, 24)).astype(np.float32)
    rock = _mountain("rock").s2[0] * light
    assert (sixband.sixband(sample(rock)).classes == Cover.CLEAR).all()


def test_cirrus_is_found_over_low_ground_as_before_and_over_a_dry_mountain_once_it_is_thicker():
    for name in ("meadow", "soil", "water"):
        low = image(ground(name, (20, 24)))
        limit = sixband.cirrus_limit(sample(low))
        assert np.max(limit) < 1.05 * sixband.CIRRUS, name
        low[L1C.index("B10")] = 0.013
        assert (sixband.sixband(sample(low)).classes == Cover.THIN).all(), name
    assert (sixband.sixband(_mountain("rock", cirrus=0.08)).classes == Cover.THIN).all()
    assert SPECTRA["cirrus"][L1C.index("B10")] > sixband.CIRRUS
