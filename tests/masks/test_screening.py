"""Screening over time: planted cloud and shadow are found; harvest, ploughing, snow and growth are not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from masks.fakes import ground, image, sample
from unclouded.bands import L2A
from unclouded.masks.detect import detect
from unclouded.masks.screening import grounds, halo, screen
from unclouded.sample import HIDING, Cover
from unclouded.scenes.scene import Scene

PIXEL = (10.0, 10.0)
SHAPE = (40, 44)
SPOT = (slice(10, 24), slice(12, 30))
DAYS = np.datetime64("2021-04-01") + 6 * np.arange(10)


def _mix(name: str, share: float) -> np.ndarray:
    return np.float32(share) * image(ground(name, (1, 1)), L2A)


def _series(first: str = "meadow", second: str | None = None, change: int = 5, seed: int = 0) -> np.ndarray:
    """Ten dates (T, C, H, W) of L2A that drift a little; the spot turns into `second` at date `change`."""
    rng = np.random.default_rng(seed)
    out = []
    for t in range(len(DAYS)):
        cover = ground(first, SHAPE)
        if second is not None and t >= change:
            cover[SPOT] = second
        light = 1 + 0.03 * rng.standard_normal() + 0.02 * rng.standard_normal(SHAPE)
        out.append(image(cover, L2A) * light)
    return np.stack(out).astype(np.float32)


def _screen(s2: np.ndarray, classes: np.ndarray | None = None, bands: tuple[str, ...] = L2A, days=DAYS) -> np.ndarray:
    keep = [L2A.index(b) for b in bands]
    clear = np.full((len(s2), *SHAPE), Cover.CLEAR, np.uint8)
    return screen(
        sample(s2[:, keep], level="L2A", bands=bands, days=days[: len(s2)]), clear if classes is None else classes, PIXEL
    )


@given(seed=st.integers(0, 10_000), dates=st.integers(2, 9), data=st.data())
def test_the_ground_of_some_dates_is_that_of_all(seed, dates, data):
    rng = np.random.default_rng(seed)
    layers = {part: rng.random((dates, 3, 5)).astype(np.float32) for part in ("blue", "nir")}
    seen, days = rng.random((dates, 3, 5)) < 0.7, np.sort(rng.choice(200, dates, replace=False))
    at = np.flatnonzero(data.draw(st.lists(st.booleans(), min_size=dates, max_size=dates)))
    whole, some = grounds(layers, seen, days), grounds(layers, seen, days, at)
    for part in layers:
        np.testing.assert_array_equal(some[part], whole[part][at])


def test_a_series_without_weather_stays_as_it_is():
    for name in ("meadow", "soil", "water", "snow", "roof"):
        assert not _screen(_series(name)).any(), name


@pytest.mark.parametrize("date", [0, 4, 9])
@pytest.mark.parametrize("name", ["meadow", "soil"])
def test_thin_cloud_is_found_at_any_date_and_nowhere_else(date, name):
    s2 = _series(name)
    s2[date][:, *SPOT] = 0.8 * s2[date][:, *SPOT] + _mix("cloud", 0.2)
    found = _screen(s2)
    assert (found[date][SPOT] == Cover.THIN).all()
    assert (found[date] > 0).mean() < 0.30  # the spot is 14 %, its margin of 20 m included 22 %
    assert not np.delete(found, date, axis=0).any()


@pytest.mark.parametrize("rows", [1, 7])
def test_screening_is_the_same_however_many_rows_are_compared_at_once(rows, monkeypatch):
    s2 = _series("meadow") * np.linspace(0.5, 2.5, SHAPE[0], dtype=np.float32)[:, None]
    s2[4][:, *SPOT], s2[7][:, 24:35, 12:30] = _mix("cloud", 1.0), 0.4 * s2[7][:, 24:35, 12:30]
    whole = _screen(s2)
    assert {Cover.THIN, Cover.SHADOW} <= set(np.unique(whole).tolist())
    monkeypatch.setattr("unclouded.masks.screening.STRIP", rows * len(DAYS) * SHAPE[1])
    np.testing.assert_array_equal(_screen(s2), whole)


@pytest.mark.parametrize("name", ["meadow", "soil"])
def test_shadow_is_found_and_its_penumbra(name):
    s2 = _series(name)
    s2[4][:, *SPOT] *= 0.4
    s2[4][:, 24:27, 12:30] *= 0.68
    found = _screen(s2)
    assert (found[4][SPOT] == Cover.SHADOW).all()
    assert (found[4][24:27, 12:30] == Cover.SHADOW).all()
    assert not np.delete(found, 4, axis=0).any()


@pytest.mark.parametrize(("first", "second"), [("meadow", "soil"), ("soil", "meadow"), ("soil", "water"), ("meadow", "turbid")])
def test_a_change_that_stays_is_ground(first, second):
    """Harvest, growth, flood: also on the very date of the change and the one before."""
    assert not _screen(_series(first, second)).any()


def test_bright_straw_for_one_date_between_crop_and_ploughing_is_not_cloud():
    s2 = _series("meadow", "soil")
    s2[5][:, *SPOT] = _mix("soil", 1.45)  # dry and bright, then ploughed
    assert not _screen(s2)[5][SPOT].any()


def test_one_snowy_date_is_not_cloud():
    s2 = _series("meadow")
    s2[4] = image(ground("snow", SHAPE), L2A)
    assert not _screen(s2)[4].any()


def test_a_missed_cloud_does_not_hide_the_next_one():
    s2 = _series("meadow")
    for date in (3, 5):
        s2[date][:, *SPOT] = 0.6 * s2[date][:, *SPOT] + _mix("cloud", 0.4)
    found = _screen(s2)
    assert (found[[3, 5]][:, *SPOT] == Cover.THIN).all()
    assert not found[4].any()  # nor is the clear date between them a shadow


@pytest.mark.parametrize("trusted", [False, True])
def test_nothing_beyond_the_halo_counts_and_less_would_not_do(trusted):
    s2 = np.repeat(_series("meadow")[:1], len(DAYS), axis=0)
    for columns, share in ((slice(6, 9), 0.3), (slice(9, 40), 0.05)):  # cloud, and haze far beyond its fringe
        s2[4][..., columns] = (1 - share) * s2[4][..., columns] + _mix("cloud", share)[0]
    asked = np.arange(10) == 4 if trusted else None

    def found(left: int) -> np.ndarray:
        part = sample(s2[..., left:], level="L2A", days=DAYS)
        return screen(part, np.full((10, *part.shape), Cover.CLEAR, np.uint8), PIXEL, asked)[4]

    whole, reach = found(0), halo(PIXEL, trusted)
    assert (whole[:, 4:21] == Cover.THIN).all() and not whole[:, 21:].any()
    differ = {left for left in range(SHAPE[1] - reach) if (found(left)[:, reach:] != whole[:, left + reach :]).any()}
    assert not differ
    assert trusted or (found(9)[:, reach - 5 :] != whole[:, 9 + reach - 5 :]).any()


def test_light_beyond_the_halo_of_other_dates_counts_on_a_trusted_one():
    s2 = np.repeat(_series("meadow")[:1], len(DAYS), axis=0)
    for columns, share in ((slice(6, 9), 0.3), (slice(9, 40), 0.05)):
        s2[4][..., columns] = (1 - share) * s2[4][..., columns] + _mix("cloud", share)[0]
    s2[4, L2A.index("B08"), :, 3] += 0.9  # stronger light near the cloud, five pixels from its far side

    def found(left: int) -> np.ndarray:
        part = sample(s2[..., left:], level="L2A", days=DAYS)
        return screen(part, np.full((10, *part.shape), Cover.CLEAR, np.uint8), PIXEL, np.arange(10) == 4)[4]

    assert not found(0)[:, 20].any() and (found(4)[:, 16] == Cover.THIN).any()
    assert halo(PIXEL, trusted=False) == 16 and halo(PIXEL) == 26


def test_only_what_was_called_clear_is_asked():
    s2 = _series("meadow")
    s2[4][:, *SPOT] = _mix("cloud", 1.0)
    classes = np.full((10, *SHAPE), Cover.CLEAR, np.uint8)
    classes[4][SPOT] = Cover.THICK
    assert not _screen(s2, classes)[4][SPOT].any()


def test_too_few_dates_and_too_few_observations_say_nothing():
    s2 = _series("meadow")
    s2[1] = 0.5 * s2[1] + 0.5 * image(ground("cloud", SHAPE), L2A)
    assert (_screen(s2)[1] > 0).all()
    assert not _screen(s2[:3]).any()
    assert not _screen(s2, days=np.datetime64("2021-01-01") + 90 * np.arange(10)).any()  # nothing near in time


def test_products_of_20_metres_find_thick_haze_and_shadow():
    bands = ("B05", "B06", "B07", "B8A", "B11", "B12")
    s2 = _series("meadow")
    s2[3][:, *SPOT] = 0.6 * s2[3][:, *SPOT] + _mix("cloud", 0.4)
    s2[6][:, *SPOT] *= 0.35
    found = _screen(s2, bands=bands)
    assert (found[3][SPOT] == Cover.THIN).all() and (found[6][SPOT] == Cover.SHADOW).all()
    assert not np.delete(found, [3, 6], axis=0).any()


def test_screening_is_off_for_a_short_series_and_says_so():
    s2 = _series("meadow")[:3]
    scl = np.full((3, *SHAPE), 4, np.uint8)
    scene = Scene.of(sample(s2, level="L2A", scl=scl))
    assert detect(scene).decisions["masks"]["screen"].startswith("off: 3 dates")
    assert detect(scene, screen=False).decisions["masks"]["screen"] == "off: not wanted"


@pytest.fixture(scope="module")
def belgium(data):
    from unclouded.scenes.open import open_scene

    return open_scene(data / "demo" / "worldcereal_belgium")


def test_the_real_dates_that_sen2cor_gets_wrong(belgium):
    """README of the samples: 06-10 is thin cloud nearly everywhere, 06-25 has cloud above and shadow below."""
    hidden = dict(zip(belgium.dates.astype(str), HIDING[detect(belgium).masks].mean((1, 2)), strict=True))
    plain = dict(zip(belgium.dates.astype(str), HIDING[detect(belgium, screen=False).masks].mean((1, 2)), strict=True))
    assert plain["2018-06-10"] < 0.20 and hidden["2018-06-10"] > 0.75  # measured 0.18 and 0.81
    assert plain["2018-06-25"] < 0.11 and hidden["2018-06-25"] > 0.35  # 0.10 and 0.40
    for clear in ("2018-05-26", "2018-06-23", "2018-06-28"):
        assert hidden[clear] - plain[clear] < 0.005, clear
    assert hidden["2018-06-03"] == pytest.approx(0.21, abs=0.02)  # the one real shadow, which Sen2Cor knows


def test_a_year_and_a_half_of_harvests_is_not_taken_for_weather(data):
    """The 31 dates of the longer series that are clear to the eye: what screening takes of them."""
    h5py = pytest.importorskip("h5py")
    folder = data / "worldcereal" / "00002806639B424A"
    with h5py.File(next(folder.glob("S2_L2A_10m*"))) as fine, h5py.File(next(folder.glob("S2_L2A_20m*"))) as coarse:
        start = np.datetime64("2017-08-04T10:53:28")
        days = (start + fine["timestamp"][:].astype("timedelta64[s]")).astype("datetime64[D]")
        swir, scl = (np.kron(coarse[n][:], np.ones((1, 2, 2), coarse[n].dtype)) for n in ("B11", "SCL"))
        s2 = np.stack([*(fine[n][:] for n in ("B02", "B04", "B08")), swir], axis=1).astype(np.float32) / 10_000
    scene = Scene.of(sample(s2, level="L2A", bands=("B02", "B04", "B08", "B11"), days=days, scl=scl.astype(np.uint8)))
    masks = detect(scene).decisions["masks"]["dates"]
    share = np.array([masks[d]["screened_cloud"] + masks[d]["screened_shadow"] for d in CLEAR_TO_THE_EYE])
    assert share.mean() < 0.01 and (share > 0.02).sum() <= 3, dict(zip(CLEAR_TO_THE_EYE, share, strict=True))


CLEAR_TO_THE_EYE = (
    "2017-08-27", "2017-11-02", "2017-11-22", "2017-12-17", "2018-01-16", "2018-01-19", "2018-01-26", "2018-02-08",
    "2018-02-18", "2018-02-25", "2018-02-28", "2018-03-25", "2018-04-19", "2018-05-04", "2018-05-06", "2018-05-09",
    "2018-05-26", "2018-06-23", "2018-06-28", "2018-06-30", "2018-07-05", "2018-07-08", "2018-07-15", "2018-08-02",
    "2018-08-07", "2018-09-23", "2018-09-28", "2018-10-06", "2018-10-08", "2018-10-13", "2018-10-28",
)  # fmt: skip
