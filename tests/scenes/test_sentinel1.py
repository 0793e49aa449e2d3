"""Radar: units, missing pixels, polarisations, calibration, orbits, pairing, and other places."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from unclouded.errors import InputMissing, InputsContradict, InputUnsupported, UsageError
from unclouded.raster import create_raster
from unclouded.scenes.describe import describe
from unclouded.scenes.open import open_scene
from unclouded.scenes.scene import Scene

SIZE = (32, 40)


def grid(shape: tuple[int, int] = SIZE, *, step: float = 10, left: float = 500_000, top: float = 5_600_040) -> GeoBox:
    return GeoBox(shape, Affine(step, 0, left, 0, -step, top), "EPSG:32631")


def put(path: Path, pixels: Any, at: GeoBox | None, names: tuple[str, ...] = ("VV", "VH"), *, nodata: float | None = None,
        tags: dict[str, str] | None = None) -> Path:  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.asarray(pixels)
    with create_raster(
        path, height=pixels.shape[1], width=pixels.shape[2], count=len(pixels), dtype=pixels.dtype.name, grid=at,
        nodata=nodata, descriptions=names, tags=tags,
    ) as target:  # fmt: skip
        target.write(pixels)
    return path


def db(seed: int = 0, shape: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).normal([[[-9]], [[-16]]], 2, (2, *shape)).astype(np.float32)


def power(values: np.ndarray) -> np.ndarray:
    return (10 ** (values.astype(np.float64) / 10)).astype(np.float32)


@pytest.fixture
def s2(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(9).integers(50, 4000, (2, *SIZE)).astype(np.uint16)
    for day in ("2020-06-01", "2020-06-11"):
        put(tmp_path / "s2" / day / "s2.tif", pixels, grid(), ("B02", "B04"), nodata=0, tags={"LEVEL": "L2A"})
    return tmp_path / "s2"


def radar(s2: Path, *files: Path, **options: Any) -> Scene:
    return open_scene(s2, list(files), **options)


def test_linear_and_decibel_are_equal(s2: Path, tmp_path: Path) -> None:
    one = radar(s2, put(tmp_path / "db_20200601.tif", db(), grid()))
    two = radar(s2, put(tmp_path / "lin_20200601.tif", power(db()), grid()))
    assert [s.decisions["radar"][0]["unit"] for s in (one, two)] == ["db", "linear"]
    first, second = one.read(), two.read()
    assert first.s1 is not None
    assert second.s1 is not None
    assert np.array_equal(first.s1[0], db())
    assert np.abs(first.s1 - second.s1).max() < 1e-4
    assert first.s1_valid is not None
    assert first.s1_valid.all()


def test_linear_and_decibel_are_equal_on_another_grid(s2: Path, tmp_path: Path) -> None:
    at = grid((60, 70), step=9.7, left=499_901, top=5_600_133)
    values = db(1, (60, 70))
    first = radar(s2, put(tmp_path / "db_20200601.tif", values, at)).read()
    second = radar(s2, put(tmp_path / "lin_20200601.tif", power(values), at)).read()
    assert first.s1 is not None
    assert second.s1 is not None
    assert first.s1_valid is not None
    assert first.s1_valid.all()
    assert np.abs(first.s1 - second.s1).max() < 1e-3


def test_interpolation_is_of_power(s2: Path, tmp_path: Path) -> None:
    values = np.full((2, 33, 41), -20, np.float32)
    values[:, :, ::2] = -10
    at = grid((33, 41), left=499_995, top=5_600_045)
    got = radar(s2, put(tmp_path / "a_20200601.tif", values, at)).read().s1
    assert got is not None
    assert np.allclose(got, 10 * np.log10((0.1 + 0.01) / 2), atol=1e-4)  # -12.6 dB, not -15


def test_given_unit_overrules_a_guess(s2: Path, tmp_path: Path) -> None:
    bright = put(tmp_path / "a_20200601.tif", np.full((2, *SIZE), 3, np.float32), grid())  # all above 0: looks linear
    assert np.allclose(radar(s2, bright).source.s1(0, radar(s2, bright).window)[0], 10 * np.log10(3), atol=1e-4)
    said = radar(s2, bright, s1_unit="db")
    assert np.allclose(said.source.s1(0, said.window)[0], 3)
    assert said.decisions["radar"][0]["unit_evidence"] == "--s1-unit db"
    with pytest.raises(UsageError, match="--s1-unit"):
        radar(s2, bright, s1_unit="watt")


def test_a_unit_that_the_values_contradict_is_refused(s2: Path, tmp_path: Path) -> None:
    in_db = put(tmp_path / "db_20200601.tif", db(), grid())
    in_power = put(tmp_path / "lin_20200601.tif", power(db()), grid())
    with pytest.raises(InputsContradict, match=r"--s1-unit linear does not fit the values of db_20200601\.tif") as caught:
        radar(s2, in_db, s1_unit="linear")
    assert caught.value.code == 13 and "decibels" in caught.value.why and "give db" in caught.value.do
    with pytest.raises(InputsContradict, match=r"--s1-unit db does not fit the values of lin_20200601\.tif"):
        radar(s2, in_power, s1_unit="db")
    assert radar(s2, in_db, s1_unit="db").decisions["radar"][0]["unit"] == "db"
    assert radar(s2, in_power, s1_unit="linear").decisions["radar"][0]["unit"] == "linear"
    noisy = power(db())
    noisy[:, ::5] = -0.001  # noise taken off: a guess says dB, the option says better
    file = put(tmp_path / "noisy_20200601.tif", noisy, grid())
    assert radar(s2, file).decisions["radar"][0]["unit"] == "db"
    assert radar(s2, file, s1_unit="linear").decisions["radar"][0]["unit"] == "linear"
    empty = put(tmp_path / "empty_20200601.tif", np.zeros((2, *SIZE), np.float32), grid())
    assert radar(s2, empty, s1_unit="linear").decisions["radar"][0]["unit"] == "linear"


@pytest.mark.parametrize("unit", ["db", "linear"])
@pytest.mark.parametrize("shift", [0.0, 3.3])
def test_missing_pixels_never_become_values(s2: Path, tmp_path: Path, unit: str, shift: float) -> None:
    values = db(2) if unit == "db" else power(db(2))
    hole = np.zeros(SIZE, bool)
    for n, poison in enumerate((np.nan, 0.0, -9999.0, -32768.0, np.inf, -np.inf)):
        values[:, 2 + 4 * n : 4 + 4 * n, 5:9] = poison
        hole[2 + 4 * n : 4 + 4 * n, 5:9] = True
    scene = radar(s2, put(tmp_path / "a_20200601.tif", values, grid(left=500_000 + shift)))
    got, valid = scene.source.s1(0, scene.window)
    assert np.isfinite(got).all()
    assert (got[:, ~valid] == 0).all()
    inside = got[:, valid]
    assert inside.min() > -30  # nothing dark was made of nothing
    assert inside.max() < 0
    if shift == 0:
        assert np.array_equal(valid, ~hole)
    else:
        assert (~valid & hole).sum() >= 0.6 * hole.sum()


def test_one_zero_decibel_band_is_a_value_but_a_zero_border_is_not(s2: Path, tmp_path: Path) -> None:
    values = db(3)
    values[0, 3, 4] = 0.0
    values[:, :, :6] = 0.0
    scene = radar(s2, put(tmp_path / "a_20200601.tif", values, grid()))
    got, valid = scene.source.s1(0, scene.window)
    assert not valid[:, :6].any()
    assert valid[:, 6:].all()
    values[0, 3, 10] = 0.0
    scene = radar(s2, put(tmp_path / "b_20200601.tif", values, grid()))
    got, valid = scene.source.s1(0, scene.window)
    assert valid[3, 10]
    assert got[0, 3, 10] == 0


def test_declared_nodata(s2: Path, tmp_path: Path) -> None:
    values = db(4)
    values[:, 5, 5] = -99
    scene = radar(s2, put(tmp_path / "a_20200601.tif", values, grid(), nodata=-99))
    assert (~scene.source.s1(0, scene.window)[1]).sum() == 1


def test_polarisations_by_name_order_or_not_at_all(s2: Path, tmp_path: Path) -> None:
    values = db(5)
    swapped = radar(s2, put(tmp_path / "a_20200601.tif", values[::-1], grid(), ("Sigma0_VH_db", "Sigma0_VV_db")))
    assert np.array_equal(swapped.source.s1(0, swapped.window)[0], values)
    bare = radar(s2, put(tmp_path / "b_20200601.tif", values, grid(), ()))
    assert np.array_equal(bare.source.s1(0, bare.window)[0], values)
    assert any("taken as VV, VH in this order" in text for text in bare.decisions["warnings"])
    with pytest.raises(InputUnsupported, match="does not have VV and VH"):
        radar(s2, put(tmp_path / "c_20200601.tif", values, grid(), ("HH", "HV")))
    with pytest.raises(InputUnsupported, match="does not have VV and VH"):
        radar(s2, put(tmp_path / "d_20200601.tif", values[:1], grid(), ("VV",)))


def test_one_file_per_polarisation(s2: Path, tmp_path: Path) -> None:
    values = db(6)
    put(tmp_path / "r" / "2020-06-02" / "x_VH.tif", values[1:], grid(), ())
    put(tmp_path / "r" / "2020-06-02" / "x_VV.tif", values[:1], grid(), ())
    scene = radar(s2, tmp_path / "r")
    assert scene.s1_dates is not None
    assert [str(d) for d in scene.s1_dates] == ["2020-06-02"]
    assert np.array_equal(scene.source.s1(0, scene.window)[0], values)


def test_gamma0_is_converted_only_with_an_incidence_angle(s2: Path, tmp_path: Path) -> None:
    values = db(7)
    angle = np.full((1, *SIZE), 46, np.float32)
    file = put(tmp_path / "a_20200601.tif", np.concatenate([values, angle]), grid(), ("VV", "VH", "incidence_angle"))
    as_sigma = radar(s2, file)
    assert np.array_equal(as_sigma.source.s1(0, as_sigma.window)[0], values)
    as_gamma = radar(s2, file, s1_calibration="gamma0")
    shift = 10 * np.log10(np.cos(np.radians(46)))
    assert np.abs(as_gamma.source.s1(0, as_gamma.window)[0] - values - shift).max() < 1e-4
    assert as_gamma.decisions["radar"][0]["converted_to_sigma0"] is True
    bare = radar(s2, put(tmp_path / "b_20200601.tif", values, grid(), tags={"CALIBRATION": "gamma0"}))
    assert np.array_equal(bare.source.s1(0, bare.window)[0], values)
    assert (bare.decisions["radar"][0]["calibration"], bare.decisions["radar"][0]["converted_to_sigma0"]) == ("gamma0", False)
    assert any("no incidence angle" in text for text in bare.decisions["warnings"])


def test_orbits_from_tags_and_names(s2: Path, tmp_path: Path) -> None:
    name = "S1A_IW_GRDH_1SDV_20200601T173953_20200601T174018_039156_049F13_6FF8.tif"
    files = [
        put(tmp_path / name, db(), grid()),
        put(tmp_path / "b_20200611_ASC.tif", db(), grid(), tags={"sat:relative_orbit": "37"}),
    ]
    scene = radar(s2, *files)
    assert scene.s1_orbits is not None
    assert scene.s1_orbits.tolist() == [59, 37]  # (39156 - 73) mod 175 + 1
    assert [r["direction"] for r in scene.decisions["radar"]] == [None, "ascending"]


def test_pairing_and_gaps(s2: Path, tmp_path: Path) -> None:
    days = ("20200528", "20200606", "20200616", "20200701")
    scene = radar(s2, *(put(tmp_path / f"r_{day}.tif", db(), grid()) for day in days))
    assert scene.s1_dates is not None
    assert [str(d) for d in scene.s1_dates] == ["2020-05-28", "2020-06-06", "2020-06-16"]  # July is too far from everything
    rows = scene.decisions["pairing"]
    assert [(row["s1"], row["days"]) for row in rows] == [("2020-05-28", -4), ("2020-06-06", -5)]
    assert all("days apart" in row["warning"] for row in rows)
    tight = radar(s2, *(tmp_path / f"r_{day}.tif" for day in days), max_s1_gap=4)
    assert [row["s1"] for row in tight.decisions["pairing"]] == ["2020-05-28", None]
    assert tight.s1_dates is not None
    assert len(tight.s1_dates) == 1
    none = radar(s2, *(tmp_path / f"r_{day}.tif" for day in days), max_s1_gap=0)
    assert none.s1_dates is None
    assert none.read().s1 is None
    with pytest.raises(UsageError):
        open_scene(s2, max_s1_gap=-1)


def test_the_usual_direction_is_preferred_at_equal_gaps(s2: Path, tmp_path: Path) -> None:
    for day, way in (("20200530", "ASC"), ("20200603", "DES"), ("20200611", "DES")):
        put(tmp_path / f"r_{day}_{way}.tif", db(), grid())
    scene = radar(s2, *sorted(tmp_path.glob("r_*.tif")))
    assert scene.decisions["pairing"][0]["s1"] == "2020-06-03"
    assert scene.decisions["pairing"][0]["direction"] == "descending"


def test_radar_beside_the_images_with_its_own_time(s2: Path) -> None:
    put(s2 / "2020-06-01" / "s1.tif", db(1), grid(), tags={"ACQUISITION_UTC": "2020-06-02T17:40:46"})
    put(s2 / "2020-06-11" / "s1.tif", db(2), grid())
    scene = open_scene(s2)
    assert scene.s1_dates is not None
    assert [str(d) for d in scene.s1_dates] == ["2020-06-02", "2020-06-11"]
    assert any("the date of its folder is used" in text for text in scene.decisions["warnings"])
    put(s2 / "2020-06-11" / "s1.tif", db(1), grid(), tags={"ACQUISITION_UTC": "2020-06-02T17:40:46"})
    assert open_scene(s2, max_s1_gap=20).source.radars[1:] == ()  # type: ignore[attr-defined]  # one acquisition, held once


def test_another_place_and_no_coordinates(s2: Path, tmp_path: Path) -> None:
    far = put(tmp_path / "a_20200601.tif", db(), grid(left=700_000))
    with pytest.raises(InputsContradict, match="another place"):
        radar(s2, far)
    bare = put(tmp_path / "b_20200601.tif", db(), None)
    with pytest.raises(InputsContradict, match="cannot be laid over"):
        radar(s2, bare)


def test_partial_cover_is_invalid_not_zero(s2: Path, tmp_path: Path) -> None:
    scene = radar(s2, put(tmp_path / "a_20200601.tif", db(), grid(left=500_200)))
    got, valid = scene.source.s1(0, scene.window)
    assert not valid[:, :20].any()
    assert valid[:, 20:].all()
    assert np.array_equal(got[:, :, 20:], db()[:, :, :20])


def test_no_radar_among_the_radar_inputs(s2: Path, tmp_path: Path) -> None:
    (tmp_path / "void").mkdir()
    with pytest.raises(InputMissing):
        open_scene(s2, tmp_path / "void")
    with pytest.raises(InputMissing, match="has no date"):
        radar(s2, put(tmp_path / "undated.tif", db(), grid()))


def test_describe_radar(tmp_path: Path) -> None:
    told = describe(put(tmp_path / "vv_vh.tif", power(db()), grid()))
    assert (told["sensor"], told["unit"], told["date"], told["bands"]) == ("Sentinel-1", "linear", None, ["VV", "VH"])
