"""Series of GeoTIFFs: layouts, dates, bands, levels, offsets, areas; real values against the files themselves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from unclouded.errors import (
    InputCorrupt,
    InputMissing,
    InputsContradict,
    InputUnsupported,
    RefusedForSafety,
    UncloudedError,
    UsageError,
)
from unclouded.raster import create_raster, open_raster
from unclouded.remove import remove_clouds
from unclouded.sample import Window
from unclouded.scenes.describe import describe
from unclouded.scenes.open import open_scene

CRS = "EPSG:32631"
BANDS = ("B02", "B03", "B04", "B08")


def box(height: int, width: int, step: float = 10, left: float = 500_000, top: float = 5_600_040) -> GeoBox:
    return GeoBox((height, width), Affine(step, 0, left, 0, -step, top), CRS)


def put(
    path: Path, pixels: Any, *, grid: GeoBox | None = None, names: tuple[str, ...] = BANDS, nodata: float | None = 0,
    georeferenced: bool = True, tags: dict[str, str] | None = None, scale: tuple[float, float] | None = None,
) -> Path:  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.asarray(pixels)
    pixels = pixels if pixels.ndim == 3 else pixels[None]
    place = grid or (box(*pixels.shape[1:]) if georeferenced else None)
    with create_raster(
        path, height=pixels.shape[1], width=pixels.shape[2], count=len(pixels), dtype=pixels.dtype.name, grid=place,
        nodata=nodata, descriptions=names[: len(pixels)] if names else (), tags=tags,
    ) as target:  # fmt: skip
        target.write(pixels)
        if scale:
            target.scales, target.offsets = (scale[0],) * len(pixels), (scale[1],) * len(pixels)
    return path


def dn(seed: int, bands: int = 4, size: tuple[int, int] = (24, 30), low: int = 50) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, 5000, (bands, *size)).astype(np.uint16)


@pytest.fixture
def series(tmp_path: Path) -> Path:
    folder = tmp_path / "field"
    for n, day in enumerate(("2020-06-11", "2020-06-01", "2020-06-21")):
        put(folder / day / "s2.tif", dn(n), tags={"LEVEL": "L2A"})
    return folder


# -- real data -----------------------------------------------------------------------------------------------------


def test_real_series_equals_the_files(data: Path) -> None:
    folder = data / "demo" / "worldcereal_belgium"
    scene = open_scene(folder)
    assert (len(scene.dates), scene.shape, scene.place.level, scene.place.id) == (12, (64, 64), "L2A", "worldcereal_belgium")
    assert scene.s1_dates is not None
    assert str(scene.s1_dates[scene.decisions["pairing"].index(scene.decisions["pairing"][6])]) == "2018-06-14"
    sample = scene.read(target=np.datetime64("2018-06-13"))
    assert sample.target_index == 6
    for i, day in enumerate(scene.dates):
        with open_raster(folder / str(day) / "s2.tif") as s2, open_raster(folder / str(day) / "scl.tif") as classes:
            stored = s2.read()
            assert np.array_equal(sample.s2[i], stored.astype(np.float32) / np.float32(10_000))
            assert np.array_equal(scene.source.counts(i, scene.source.layers(i)[0], scene.window), stored)
            assert sample.scl is not None
            assert np.array_equal(sample.scl[i], classes.read(1))
    assert sample.s2_valid.all()
    assert sample.s1 is not None
    for k in range(12):
        with open_raster(folder / str(scene.dates[k]) / "s1.tif") as s1:
            assert np.array_equal(sample.s1[k], s1.read())
    assert {note["offset"] for note in scene.decisions["offset"]} == {0.0}
    assert [row["days"] for row in scene.decisions["pairing"]] == [0, -2, 1, 2, 0, -1, 1, 0, 0, -2, 1, -1]


@pytest.mark.parametrize(
    ("file", "level", "offset"),
    [
        ("S2L1C/433D_629L_3_1.tif", "L1C", -1000.0), ("S2L2A/433D_629L_3_1.tif", "L2A", -1000.0),
        ("S2L1C/637U_59R_1_3.tif", "L1C", 0.0), ("S2L2A/637U_59R_1_3.tif", "L2A", 0.0),
        ("S2L1C/38D_378R_2_3.tif", "L1C", 0.0), ("S2L2A/38D_378R_2_3.tif", "L2A", 0.0),
    ],
)  # fmt: skip
def test_offset_of_real_sites_without_metadata(data: Path, file: str, level: str, offset: float) -> None:
    scene = open_scene(data / "terramind" / file)
    assert scene.place.level == level
    assert scene.decisions["offset"][0]["offset"] == offset


def test_native_resolutions_of_a_real_patch(data: Path) -> None:
    patch = next(p for p in sorted((data / "bigearthnet").rglob("S2*")) if p.is_dir() and any(p.glob("*_B02.tif")))
    scene = open_scene(patch)
    assert scene.shape == (120, 120)
    assert [(layer.factor, layer.shape) for layer in scene.source.layers(0)] == [(1, (120, 120)), (2, (60, 60)), (6, (20, 20))]
    sample = scene.read()
    with open_raster(next(patch.glob("*_B11.tif"))) as stored:
        expected = stored.read(1).repeat(2, 0).repeat(2, 1) / np.float32(10_000)
    assert np.array_equal(sample.s2[0, scene.place.bands.index("B11")], expected)


# -- layouts, dates, bands -----------------------------------------------------------------------------------------


def test_dates_are_sorted_and_windows_are_crops(series: Path) -> None:
    scene = open_scene(series)
    assert [str(d) for d in scene.dates] == ["2020-06-01", "2020-06-11", "2020-06-21"]
    whole, part = scene.read(), scene.read(Window(3, 5, 9, 20))
    assert np.array_equal(part.s2, whole.crop(Window(3, 5, 9, 20)).s2)
    assert np.array_equal(whole.s2[0], dn(1).astype(np.float32) / np.float32(10_000))
    assert scene.place.bands == BANDS


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_manifest_out_of_order(tmp_path: Path, kind: str) -> None:
    rows = []
    for n, day in enumerate(("2021-03-09", "2021-03-01", "2021-03-05")):
        put(tmp_path / "images" / f"{n}.tif", dn(n))
        put(tmp_path / "masks" / f"{n}.tif", np.full((24, 30), n, np.uint8), names=(), nodata=None)
        rows.append({"date": day, "s2": f"images/{n}.tif", "mask": f"masks/{n}.tif"})
    path = tmp_path / f"series.{kind}"
    lines = ["date,s2,mask"] + [",".join(row.values()) for row in rows]
    path.write_text("\n".join(lines) if kind == "csv" else json.dumps(rows))
    scene = open_scene(path, level="L2A")
    assert [str(d) for d in scene.dates] == ["2021-03-01", "2021-03-05", "2021-03-09"]
    sample = scene.read()
    assert sample.given is not None
    assert [float(m.mean()) for m in sample.given] == [1, 2, 0]
    assert np.array_equal(sample.s2[0, 0], dn(1)[0].astype(np.float32) / np.float32(10_000))


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        ("date,s2\n2021-03-01,nope.tif\n", InputMissing, r"row 1: there is no file nope\.tif"),
        ("date,s2\n2021-13-01,a.tif\n", InputCorrupt, "row 1: '2021-13-01' is not a date"),
        ("a,b\n1,2\n", InputUnsupported, "not a manifest"),
        ("", InputUnsupported, "not a manifest"),
        ("date,s2,slc\n2021-03-01,a.tif,b.tif\n", UsageError, "did you mean 'scl'"),
        ("Date,S2,masks\n2021-03-01,a.tif,b.tif\n", UsageError, "did you mean 'mask'"),
        ("date,s2\n2021-03-01,http://x.org/a.tif\n", RefusedForSafety, "not a local file"),
    ],
)
def test_broken_manifests(tmp_path: Path, text: str, error: type[UncloudedError], match: str) -> None:
    put(tmp_path / "a.tif", dn(0))
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(error, match=match):
        open_scene(tmp_path / "m.csv")


def test_further_columns_may_stand_in_a_manifest(tmp_path: Path) -> None:
    put(tmp_path / "a.tif", dn(0))
    (tmp_path / "m.csv").write_text("date,s2,state,cloud_cover,notes\n2021-03-01,a.tif,Bavaria,3,clear\n")
    assert [str(d) for d in open_scene(tmp_path / "m.csv", level="L2A").dates] == ["2021-03-01"]


def test_dates_from_names_and_tags(tmp_path: Path) -> None:
    files = [
        put(tmp_path / "T31UES_20210305T105031.tif", dn(0)),
        put(tmp_path / "x_2021-03-01_y.tif", dn(1)),
        put(tmp_path / "tagged.tif", dn(2), tags={"TIFFTAG_DATETIME": "2021:03:03 10:50:31"}),
        put(tmp_path / "also.tif", dn(3), tags={"datetime": "2021-03-09T10:41:51.000000000"}),
    ]
    scene = open_scene(files, level="L2A")
    assert [str(d) for d in scene.dates] == ["2021-03-01", "2021-03-03", "2021-03-05", "2021-03-09"]
    with pytest.raises(InputMissing, match="has no date"):
        open_scene(put(tmp_path / "plain.tif", dn(0)))


def test_one_file_per_band_at_several_resolutions(tmp_path: Path) -> None:
    fine, mid, coarse = dn(1, 1, (24, 36)), dn(2, 1, (12, 18)), dn(3, 1, (4, 6))
    put(tmp_path / "2020-06-01" / "T31UES_B02_10m.tif", fine, names=())
    put(tmp_path / "2020-06-01" / "B8A.tif", mid, grid=box(12, 18, 20), names=())
    put(tmp_path / "2020-06-01" / "b1.tif", coarse, grid=box(4, 6, 60), names=())
    scene = open_scene(tmp_path, level="L2A")
    assert scene.place.bands == ("B01", "B02", "B8A")
    got = scene.read().s2[0] * 10_000
    assert np.allclose(got[0], coarse[0].repeat(6, 0).repeat(6, 1))
    assert np.allclose(got[1], fine[0])
    assert np.allclose(got[2], mid[0].repeat(2, 0).repeat(2, 1))
    assert [layer.name for layer in scene.source.layers(0)] == ["10m", "20m", "60m"]
    odd = scene.read(Window(5, 7, 11, 13))
    assert np.array_equal(odd.s2[0], scene.read().s2[0][:, 5:16, 7:20])


def test_bands_select_or_name(tmp_path: Path, series: Path) -> None:
    scene = open_scene(series, bands=["nir", "B2"])
    assert scene.place.bands == ("B08", "B02")
    assert np.array_equal(scene.read().s2[0, 1], dn(1)[0].astype(np.float32) / np.float32(10_000))
    assert scene.source.layers(0)[0].bands == ("B02", "B08")  # stored in the order of the file
    with pytest.raises(InputMissing, match="has no band B11"):
        open_scene(series, bands=["B11"])
    bare = put(tmp_path / "bare_20200601.tif", dn(0), names=())
    with pytest.raises(InputUnsupported, match="4 bands without names"):
        open_scene(bare)
    assert open_scene(bare, bands=BANDS, level="L2A").place.bands == BANDS


def test_dates_with_different_bands_are_not_passed_over_but_can_be_cut_to_what_they_share(series: Path) -> None:
    put(series / "2020-07-01" / "s2.tif", dn(9, 2), names=("B04", "B03"))
    with pytest.raises(InputsContradict, match="2020-07-01 has B04, B03") as caught:
        open_scene(series)
    assert "--bands B03,B04" in caught.value.do
    scene = open_scene(series, bands=["B03", "B04"])
    assert scene.place.bands == ("B03", "B04")
    assert np.array_equal(scene.read().s2[3, 0], dn(9, 2)[1].astype(np.float32) / np.float32(10_000))


def test_datetime_filters(series: Path) -> None:
    assert [str(d) for d in open_scene(series, datetime="2020-06-05/..").dates] == ["2020-06-11", "2020-06-21"]
    assert [str(d) for d in open_scene(series, datetime="2020-06-11").dates] == ["2020-06-11"]
    with pytest.raises(InputMissing, match="lies within"):
        open_scene(series, datetime="2019-01-01/2019-02-01")
    with pytest.raises(UsageError):
        open_scene(series, datetime="soon")


# -- numbers -------------------------------------------------------------------------------------------------------


def test_nodata_without_a_declaration_is_zero(tmp_path: Path) -> None:
    pixels = dn(0).astype(np.int16)
    pixels[2, 4, 5] = 0
    scene = open_scene(put(tmp_path / "a_20200601.tif", pixels, nodata=None), level="L2A")
    valid = scene.read().s2_valid[0]
    assert not valid[4, 5]
    assert valid.sum() == valid.size - 1
    (layer,) = scene.source.layers(0)
    assert (layer.nodata, layer.dtype) == (None, "int16")
    assert np.array_equal(scene.source.counts(0, layer, scene.window), pixels)


def test_scale_and_offset_tags_are_obeyed_and_round_trip(tmp_path: Path) -> None:
    path = put(tmp_path / "a_20230601.tif", dn(0) + 1000, scale=(1e-4, -0.1))
    scene = open_scene(path, level="L2A")
    assert np.allclose(scene.read().s2[0] * 10_000, dn(0), atol=1e-2)
    (layer,) = scene.source.layers(0)
    assert (layer.scale_tags, layer.offset_tags) == ((1e-4,) * 4, (-0.1,) * 4)
    assert layer.offset == (-1000.0,) * 4
    assert "scale and offset tags" in scene.decisions["offset"][0]["evidence"]


def test_float_reflectance_and_float_counts(tmp_path: Path) -> None:
    true = dn(0).astype(np.float32) / 10_000
    one = put(tmp_path / "r_20200601.tif", true, nodata=np.nan)
    two = put(tmp_path / "c_20200602.tif", true * 10_000, nodata=-1.0)
    got = open_scene([one, two], level="L2A").read()
    assert np.allclose(got.s2[0], true)
    assert np.allclose(got.s2[1], true)
    assert got.s2_valid.all()


def test_baseline_tag_unless_pixels_say_it_is_gone(tmp_path: Path) -> None:
    tags = {"s2:processing_baseline": "05.09"}
    carried = open_scene(put(tmp_path / "a_20230601.tif", dn(0) + 1000, tags=tags), level="L2A")
    assert carried.decisions["offset"][0]["offset"] == -1000
    assert np.allclose(carried.read().s2[0] * 10_000, dn(0), atol=1e-2)
    removed = open_scene(put(tmp_path / "b_20230601.tif", dn(0), tags=tags), level="L2A")
    assert removed.decisions["offset"][0]["offset"] == 0
    assert any("already removed" in text for text in removed.decisions["warnings"])
    old = open_scene(put(tmp_path / "c_20230601.tif", dn(0), tags={"PROCESSING_BASELINE": "03.01"}), level="L2A")
    assert old.decisions["offset"][0]["offset"] == 0


def test_counts_that_carry_the_offset_silently_are_seen(tmp_path: Path) -> None:
    clean = open_scene(put(tmp_path / "a_20230601.tif", dn(0)), level="L2A")
    assert clean.decisions["offset"][0]["offset"] == 0
    carried = open_scene(put(tmp_path / "b_20230601.tif", dn(0) + 1000), level="L2A")
    assert carried.decisions["offset"][0]["offset"] == -1000
    assert any("--offset none" in text for text in carried.decisions["warnings"])
    assert np.array_equal(carried.read().s2, clean.read().s2)


def test_a_cloudy_date_alone_does_not_fake_an_offset(series: Path) -> None:
    put(series / "2020-06-15" / "s2.tif", dn(7, low=1500))  # cloud everywhere, older than 2022: the clear dates speak for it
    assert {note["offset"] for note in open_scene(series).decisions["offset"]} == {0.0}


@pytest.mark.parametrize("offset", ["maybe", "nan", 1e9])
def test_offset_option_is_checked(series: Path, offset: str | float) -> None:
    with pytest.raises(UsageError, match="--offset"):
        open_scene(series, offset=offset)


def test_levels(tmp_path: Path, series: Path) -> None:
    assert open_scene(series).decisions["level"]["evidence"] == "2020-06-21: tag says L2A"
    assert open_scene(series, level="L1C").place.level == "L1C"
    put(series / "2020-07-01" / "s2.tif", dn(4), tags={"LEVEL": "L1C"})
    with pytest.raises(InputsContradict, match="mixes processing levels"):
        open_scene(series)
    unknown = open_scene(put(tmp_path / "u_20200601.tif", dn(0)))
    assert unknown.place.level == "L2A"
    assert any("--level" in text for text in unknown.decisions["warnings"])
    thirteen = open_scene(put(tmp_path / "v_20200601.tif", dn(0, 13), names=()))
    assert (thirteen.place.level, len(thirteen.place.bands)) == ("L1C", 13)


# -- grids ---------------------------------------------------------------------------------------------------------


def test_a_date_with_another_extent_is_shifted_not_warped(series: Path) -> None:
    put(series / "2020-07-01" / "s2.tif", dn(5), grid=box(24, 30, left=500_050, top=5_600_010), tags={"LEVEL": "L2A"})
    scene = open_scene(series)
    sample = scene.read()
    assert np.array_equal(sample.s2[3][:, 3:, 5:], dn(5)[:, :-3, :-5].astype(np.float32) / np.float32(10_000))
    assert not sample.s2_valid[3, :3].any()
    assert not sample.s2_valid[3, :, :5].any()
    assert scene.decisions["grid"]["warped"] == []
    (layer,) = scene.source.layers(3)
    counts = scene.source.counts(3, layer, scene.window)
    assert np.array_equal(counts[:, 3:, 5:], dn(5)[:, :-3, :-5])
    assert (counts[:, :3] == 0).all()
    assert layer.grid == scene.place.grid


def test_a_date_on_another_lattice_is_warped_and_said_so(series: Path) -> None:
    flat = np.full((4, 30, 40), 3000, np.uint16)
    put(series / "2020-07-01" / "s2.tif", flat, grid=box(30, 40, left=499_967, top=5_600_063), tags={"LEVEL": "L2A"})
    scene = open_scene(series)
    assert scene.decisions["grid"]["warped"] == ["2020-07-01"]
    assert any("interpolated" in text for text in scene.decisions["warnings"])
    sample = scene.read()
    assert sample.s2_valid[3].all()
    assert np.allclose(sample.s2[3], 0.3)
    (layer,) = scene.source.layers(3)
    assert (scene.source.counts(3, layer, scene.window) == 3000).all()
    assert layer.scale_tags == layer.offset_tags == ()


def test_a_warped_date_keeps_the_numbers_that_its_counts_are_read_with(series: Path) -> None:
    grid, flat = box(30, 40, left=499_967, top=5_600_063), np.full((4, 30, 40), 4000, np.uint16)
    put(series / "2020-07-01" / "s2.tif", flat, grid=grid, tags={"LEVEL": "L2A"}, scale=(1e-4, -0.1))
    scene = open_scene(series)
    (layer,) = scene.source.layers(3)
    assert layer.scale_tags == (1e-4,) * 4 and layer.offset_tags == (-0.1,) * 4 and layer.offset == (-1000.0,) * 4
    assert (scene.source.counts(3, layer, scene.window) == 4000).all() and np.allclose(scene.read().s2[3], 0.3)


def test_another_place_and_missing_coordinates(series: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    for n, day in enumerate(("2020-06-01", "2020-06-11")):
        put(bare / day / "s2.tif", dn(n), georeferenced=False)
    scene = open_scene(bare, level="L2A")
    assert scene.place.grid is None
    assert np.array_equal(scene.read(Window(2, 3, 4, 5)).s2[1], dn(1)[:, 2:6, 3:8].astype(np.float32) / np.float32(10_000))
    put(bare / "2020-06-21" / "s2.tif", dn(2, size=(24, 31)), georeferenced=False)
    with pytest.raises(InputsContradict, match="no coordinate reference"):
        open_scene(bare)
    put(series / "2020-07-01" / "s2.tif", dn(2), georeferenced=False)
    with pytest.raises(InputsContradict, match="no coordinate reference"):
        open_scene(series)
    put(series / "2020-07-01" / "s2.tif", dn(2), grid=box(24, 30, left=700_000))
    with pytest.raises(InputsContradict, match="another place"):
        open_scene(series)


def test_bands_of_several_sizes_without_coordinates(tmp_path: Path) -> None:
    fine, coarse = dn(1, 1, (24, 36)), dn(2, 1, (12, 18))
    put(tmp_path / "2020-06-01" / "B02.tif", fine, names=(), georeferenced=False)
    put(tmp_path / "2020-06-01" / "B11.tif", coarse, names=(), georeferenced=False)
    scene = open_scene(tmp_path, level="L2A")
    got = scene.read(Window(3, 5, 10, 12)).s2[0] * 10_000
    assert np.allclose(got[0], fine[0, 3:13, 5:17])
    assert np.allclose(got[1], coarse[0].repeat(2, 0).repeat(2, 1)[3:13, 5:17])
    assert [layer.name for layer in scene.source.layers(0)] == ["10m", "20m"]
    assert np.array_equal(scene.source.counts(0, scene.source.layers(0)[1], Window(1, 2, 3, 4)), coarse[:, 1:4, 2:6])


def test_one_pixel_and_all_nodata(tmp_path: Path) -> None:
    one = open_scene(put(tmp_path / "p_20200601.tif", np.full((4, 1, 1), 700, np.uint16)), level="L2A")
    assert one.read().s2[0].ravel().tolist() == pytest.approx([0.07] * 4)
    none = open_scene(put(tmp_path / "n_20200601.tif", np.zeros((4, 5, 6), np.uint16)), level="L2A")
    assert not none.read().s2_valid.any()
    assert none.decisions["offset"][0]["offset"] == 0


# -- areas ---------------------------------------------------------------------------------------------------------


def test_area_as_box_geojson_and_wkt(series: Path, tmp_path: Path) -> None:
    ring = [(500_031, 5_599_899), (500_031, 5_599_961), (500_109, 5_599_961), (500_109, 5_599_899), (500_031, 5_599_899)]
    polygon = {"type": "Polygon", "coordinates": [ring]}
    named = {"type": "FeatureCollection", "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32631"}},
             "features": [{"type": "Feature", "properties": {}, "geometry": polygon}]}  # fmt: skip
    file = tmp_path / "area.geojson"
    file.write_text(json.dumps(named))
    wkt = "SRID=32631;POLYGON((" + ", ".join(f"{x} {y}" for x, y in ring) + "))"
    whole = open_scene(series).read()
    for options in ({"aoi": file}, {"aoi": json.dumps(named)}, {"aoi": wkt}, {"bbox": (*ring[0], *ring[2], CRS)}):
        scene = open_scene(series, **options)  # type: ignore[arg-type]
        assert scene.shape == (8, 8)
        assert np.array_equal(scene.read().s2, whole.s2[:, :, 7:15, 3:11])
        assert scene.place.origin == (round(-5_600_040 / 10) + 7, 50_003)
    degrees = open_scene(series, bbox=(3.0005, 50.5, 3.0012, 50.6))
    assert degrees.shape[0] == 24
    assert degrees.shape[1] < 8


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"bbox": (10, 10, 11, 11)}, InputsContradict),
        ({"bbox": (3, 51, 2, 52)}, UsageError),
        ({"bbox": (3, 51, 4)}, UsageError),
        ({"bbox": (500_000, 5_600_000, 500_100, 5_600_100)}, UsageError),
        ({"aoi": "nope.geojson"}, InputMissing),
        ({"aoi": "{broken"}, InputCorrupt),
        ({"aoi": "POLYGON((1 2"}, InputCorrupt),
        ({"aoi": "POLYGON((1 2, 2 2, 2 3, 1 2))", "bbox": (1, 2, 3, 4)}, UsageError),
    ],
)
def test_broken_areas(series: Path, options: dict[str, Any], error: type[UncloudedError]) -> None:
    with pytest.raises(error):
        open_scene(series, **options)


# -- masks, broken files, description ------------------------------------------------------------------------------


def test_mask_for_one_date_or_all(series: Path, tmp_path: Path) -> None:
    mask = put(tmp_path / "m.tif", np.arange(720, dtype=np.uint16).reshape(24, 30) % 2, names=(), nodata=None)
    one = open_scene(series, given={"2020-06-11": mask}).read()
    assert one.given is not None
    assert np.isnan(one.given[0]).all()
    assert one.given[1, 0, :4].tolist() == [0, 1, 0, 1]
    every = open_scene(series, given=mask).read()
    assert every.given is not None
    assert np.isfinite(every.given).all()
    with pytest.raises(InputMissing, match="2020-06-12"):
        open_scene(series, given={"2020-06-12": mask})


def test_broken_inputs_are_named(series: Path, tmp_path: Path) -> None:
    with pytest.raises(InputMissing, match="no file or folder"):
        open_scene(tmp_path / "nowhere")
    with pytest.raises(RefusedForSafety):
        open_scene("http://x.org/series")
    (tmp_path / "void").mkdir()
    with pytest.raises(InputMissing, match="void holds no images"):
        open_scene(tmp_path / "void")
    file = series / "2020-06-11" / "s2.tif"
    shutil.copy(file, tmp_path / "keep.tif")
    file.write_text("<VRTDataset rasterXSize='1' rasterYSize='1'/>")
    with pytest.raises(RefusedForSafety, match="a VRT"):
        open_scene(series)
    file.write_bytes((tmp_path / "keep.tif").read_bytes()[:300])
    with pytest.raises(InputCorrupt, match=r"s2\.tif is damaged"):
        open_scene(series)
    file.write_bytes((tmp_path / "keep.tif").read_bytes()[:-100])  # only the last pixels are cut off: seen before they are read
    with pytest.raises(InputCorrupt, match=r"s2\.tif is damaged"):
        open_scene(series)


def test_describe_a_series_a_file_and_something_else(series: Path, tmp_path: Path) -> None:
    found = describe(series)
    assert json.loads(json.dumps(found)) == found
    assert (found["sensor"], found["level"], found["bands"], found["size"]) == ("Sentinel-2", "L2A", list(BANDS), [24, 30])
    assert [d["date"] for d in found["dates"]] == ["2020-06-01", "2020-06-11", "2020-06-21"]
    other = describe(put(tmp_path / "elevation.tif", np.ones((4, 4), np.float32), names=("height",), nodata=None))
    assert (other["sensor"], other["bands"]) == ("unknown", ["height"])
    classes = np.array([[4, 8, 9, 10], [3, 11, 0, 4]], np.uint8)
    told = describe(put(tmp_path / "scl.tif", classes, names=("SCL",)))
    assert told["cover"] == {"cloud": 0.2857, "cirrus": 0.1429, "shadow": 0.1429, "snow": 0.1429, "nodata": 0.125}


def test_the_grid_is_that_of_the_date_to_restore(series: Path, tmp_path: Path) -> None:
    grid, own = box(24, 30, left=499_967, top=5_600_063), dn(5)
    put(series / "2020-07-01" / "s2.tif", own, grid=grid, tags={"LEVEL": "L2A"})
    scene = open_scene(series, on="2020-07-01")
    assert scene.place.grid == grid and "2020-07-01" not in scene.decisions["grid"]["warped"]
    assert len(scene.decisions["grid"]["warped"]) == 3
    made = remove_clouds(series, tmp_path / "out", date="2020-07-01", model="linear", mask=put(
        tmp_path / "mask.tif", (np.arange(720).reshape(1, 24, 30) < 200).astype(np.uint8), grid=grid, names=(), nodata=None
    ))  # fmt: skip
    with open_raster(made.files["clear"]) as file:
        assert file.transform == grid.affine
        np.testing.assert_array_equal(file.read().reshape(4, -1)[:, 200:], own.reshape(4, -1)[:, 200:])
