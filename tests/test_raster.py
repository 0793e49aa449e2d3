"""The gateway: what it refuses, what sidecars cannot do, and that regridding neither shifts nor bleeds."""

from __future__ import annotations

import os
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from unclouded import raster
from unclouded.errors import InputCorrupt, InputMissing, InputUnsupported, RefusedForSafety
from unclouded.raster import create_raster, grid_of, open_raster, opened, read, read_along, reading_along, zip_path
from unclouded.regrid import lattice_step, read_onto
from unclouded.sample import Window
from unclouded.scenes.source import cut

CRS = "EPSG:32631"


def box(height: int, width: int, step: float = 10, left: float = 500_000, top: float = 5_600_000, crs: str = CRS) -> GeoBox:
    return GeoBox((height, width), Affine(step, 0, left, 0, -step, top), crs)


def write(path: Path, pixels: np.ndarray, grid: GeoBox | None, nodata: float | None = None, **more: object) -> Path:
    bands = pixels if pixels.ndim == 3 else pixels[None]
    with create_raster(
        path, height=bands.shape[1], width=bands.shape[2], count=len(bands), dtype=bands.dtype.name, grid=grid, nodata=nodata,
        **more,  # type: ignore[arg-type]
    ) as target:  # fmt: skip
        target.write(bands)
    return path


@pytest.fixture
def tiles(tmp_path: Path) -> Path:
    """Two bands of 64 x 420 pixels in tiles of 16."""
    pixels = np.random.default_rng(2).integers(1, 9000, (2, 64, 420)).astype(np.uint16)
    return write(tmp_path / "tiles.tif", pixels, box(64, 420), 0, block=16)


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    return write(
        tmp_path / "noise.tif", np.random.default_rng(1).integers(1, 9000, (2, 70, 90)).astype(np.uint16), box(70, 90), 0
    )


# -- what is opened ------------------------------------------------------------------------------------------------


def test_round_trip(tmp_path: Path) -> None:
    pixels = np.arange(24, dtype=np.int16).reshape(1, 4, 6)
    path = write(tmp_path / "a.tif", pixels, box(4, 6), -1, descriptions=("B02",), tags={"LEVEL": "L2A"}, compress="deflate")
    with open_raster(path) as dataset:
        assert dataset.driver == "GTiff"
        assert np.array_equal(read(dataset, [1]), pixels)
        assert np.array_equal(read(dataset, [1], Window(1, 2, 2, 3)), pixels[:, 1:3, 2:5])
        assert (dataset.nodata, dataset.descriptions, dataset.tags()["LEVEL"]) == (-1, ("B02",), "L2A")
        assert grid_of(dataset) == box(4, 6)


@pytest.mark.parametrize(
    "path", ["http://x.org/a.tif", "https://x.org/a.tif", "s3://b/a.tif", "/vsicurl/http://x.org/a.tif", "/vsimem/a.tif",
             "/vsizip/vsicurl/a.zip/a.tif", "/vsizip/{/vsicurl/http://x/a.zip}/a.tif", "zip://a.zip!a.tif", "file:///etc/passwd",
             "/vsizip/{/a.zip}/../b.tif", "vrt://a.tif"],
)  # fmt: skip
def test_addresses_are_refused(path: str) -> None:
    with pytest.raises(RefusedForSafety):
        open_raster(path)


def test_connection_strings_are_only_file_names() -> None:
    for text in ("GTIFF_DIR:1:a.tif", "MEM:::DATAPOINTER=1", 'STACIT:"a.json"'):
        with pytest.raises(InputMissing):
            open_raster(text)


def test_a_vrt_in_disguise_is_refused_also_after_a_warp(noise: Path, tmp_path: Path) -> None:
    disguised = tmp_path / "B02.tif"
    disguised.write_text(
        f"<VRTDataset rasterXSize='90' rasterYSize='70'><VRTRasterBand dataType='UInt16' band='1'><SimpleSource>"
        f"<SourceFilename>{noise}</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    read_onto(opened(noise), [1], box(10, 10, step=7.3), resampling="bilinear")
    with pytest.raises(RefusedForSafety, match=r"B02.tif is not a GeoTIFF or JPEG 2000 file but a VRT"):
        open_raster(disguised)


def test_missing_empty_zeroed_and_damaged_files(noise: Path, tmp_path: Path) -> None:
    with pytest.raises(InputMissing, match=r"no\.tif"):
        open_raster(tmp_path / "no.tif")
    (tmp_path / "empty.tif").write_bytes(b"")
    (tmp_path / "zeros.tif").write_bytes(bytes(1000))
    (tmp_path / "head.tif").write_bytes(noise.read_bytes()[:200])
    for name in ("empty.tif", "zeros.tif", "head.tif"):
        with pytest.raises(InputCorrupt, match=name):
            open_raster(tmp_path / name)


def test_a_truncated_file_is_named_when_the_block_is_read(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 9999, (1, 600, 600)).astype(np.uint16)
    whole = write(tmp_path / "whole.tif", pixels, box(600, 600), compress="deflate").read_bytes()
    short = tmp_path / "short.tif"
    short.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(InputCorrupt, match=r"short.tif is damaged"):
        read(open_raster(short), [1])


def test_text_that_is_none_is_damage(noise: Path) -> None:
    named = write(noise.parent / "named.tif", np.ones((2, 9, 9), np.uint8), box(9, 9), descriptions=("B02", "B03"))
    named.write_bytes(named.read_bytes().replace(b"B02", b"B\xff2"))
    with pytest.raises(InputCorrupt, match=r"named.tif is damaged") as caught:
        open_raster(named)
    assert "can't decode" in caught.value.why
    noise.write_bytes(noise.read_bytes().replace(b"WGS 84 /", b"WGS \x80\x80\x80\x80"))
    with suppress(InputCorrupt), open_raster(noise) as dataset:  # GDAL may know the system by its code
        assert dataset.crs.to_epsg() == 32631


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_mutants_raise_only_our_errors(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.getbasetemp() / "mutants"
    folder.mkdir(exist_ok=True)
    good = folder / "good.tif"
    if not good.exists():
        write(good, np.random.default_rng(0).integers(0, 99, (2, 40, 40)).astype(np.uint16), box(40, 40), 0, compress="deflate")
    content = bytearray(good.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, 500))] = data.draw(st.integers(0, 255))
    mutant = folder / "mutant.tif"
    mutant.write_bytes(content)
    with suppress(InputCorrupt, InputUnsupported, RefusedForSafety), open_raster(mutant) as dataset:
        grid_of(dataset)
        read(dataset, list(dataset.indexes))


def test_sidecars_change_nothing(noise: Path) -> None:
    def seen() -> tuple[object, ...]:
        with open_raster(noise) as d:
            return d.nodata, d.scales, d.crs.to_epsg(), tuple(d.transform), d.read().tobytes(), d.read_masks(1).tobytes()

    before = seen()
    (noise.parent / "noise.tif.aux.xml").write_text(
        "<PAMDataset><SRS>EPSG:3857</SRS><PAMRasterBand band='1'><NoDataValue>77</NoDataValue><Scale>2</Scale>"
        "</PAMRasterBand></PAMDataset>"
    )
    (noise.parent / "noise.tfw").write_text("1\n0\n0\n-1\n0\n0\n")
    write(noise.parent / "noise.tif.msk", np.zeros((70, 90), np.uint8), None)
    assert seen() == before


@pytest.mark.parametrize(
    ("limit", "value", "match"), [("MAX_SIDE", 80, "a side"), ("MAX_BANDS", 1, "bands"), ("MAX_BYTES", 1000, "GiB"),
                                  ("MAX_BLOCK_BYTES", 1000, "retile")],
)  # fmt: skip
def test_size_limits(noise: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, match: str) -> None:
    monkeypatch.setattr(raster, limit, value)
    with pytest.raises(RefusedForSafety, match=match):
        open_raster(noise)


def test_a_bomb_is_refused_but_an_empty_tile_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.zeros((1, 2000, 2000), np.uint16)
    empty = write(tmp_path / "empty.tif", pixels, None, compress="deflate")
    monkeypatch.setattr(raster, "MAX_RATIO", 50)
    open_raster(empty).close()
    pixels[0, 0, :] = np.arange(2000)
    bomb = write(tmp_path / "bomb.tif", pixels, None, compress="deflate")
    with pytest.raises(RefusedForSafety, match="expands"):
        open_raster(bomb)


@pytest.mark.parametrize("transform", [Affine(10, 0, 0, 0, 10, 0), Affine(10, 2, 0, 2, -10, 0)])
def test_south_up_and_rotated_grids_are_unsupported(tmp_path: Path, transform: Affine) -> None:
    path = write(tmp_path / "r.tif", np.ones((4, 4), np.uint8), GeoBox((4, 4), transform, CRS))
    with pytest.raises(InputUnsupported, match="rotated or not north-up"):
        grid_of(open_raster(path))


def test_no_crs_is_no_grid_and_cannot_be_laid_onto_one(tmp_path: Path) -> None:
    dataset = open_raster(write(tmp_path / "bare.tif", np.ones((4, 4), np.uint8), None))
    assert grid_of(dataset) is None
    with pytest.raises(InputUnsupported, match="no coordinate reference"):
        read_onto(dataset, [1], box(4, 4))
    values, valid = read_onto(dataset, [1], Window(-1, 2, 3, 4))
    assert values[0].tolist() == [[0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0]]
    assert np.array_equal(valid[0], values[0] == 1)


def test_zip_members(noise: Path, tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        target.write(noise, "x/noise.tif")
    with open_raster(zip_path(archive, "x/noise.tif")) as inside, open_raster(noise) as outside:
        assert np.array_equal(read(inside, [1, 2]), read(outside, [1, 2]))
    with pytest.raises(InputMissing, match="no member"):
        open_raster(zip_path(archive, "x/other.tif"))
    archive.write_bytes(archive.read_bytes()[:-30])
    with pytest.raises(InputCorrupt):
        open_raster(zip_path(archive, "x/noise.tif"))


@pytest.mark.parametrize("name", ["../up.tif", "/abs.tif", "a\\..\\b.tif"])
def test_zips_that_point_outside_are_refused(tmp_path: Path, name: str) -> None:
    archive = tmp_path / "bad.zip"
    with zipfile.ZipFile(archive, "w") as target:
        target.writestr("good.tif", b"x")
        target.writestr(name, b"x")
    with pytest.raises(RefusedForSafety, match="outside"):
        open_raster(zip_path(archive, "good.tif"))


def test_zip_bomb_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "bomb.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("a.tif", bytes(3 * 2**20))
    with pytest.raises(RefusedForSafety, match="expands"):
        open_raster(zip_path(archive, "a.tif"))


def test_open_files_are_kept_and_reopened_when_they_change(noise: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = opened(noise)
    assert opened(noise) is first
    write(noise, np.full((1, 70, 90), 5, np.uint16), box(70, 90))
    os.utime(noise, ns=(1, 1))
    assert read(opened(noise), [1]).min() == 5
    monkeypatch.setattr(raster, "MAX_OPEN", 2)
    for n in range(4):
        opened(write(noise.parent / f"{n}.tif", np.ones((3, 3), np.uint8), None))
    assert len(raster._opened.datasets) == 2


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_reading_along_gives_what_reading_gives(tiles: Path, data: st.DataObject) -> None:
    dataset = opened(tiles)
    for _ in range(data.draw(st.integers(2, 6))):
        row, col = data.draw(st.integers(0, 60)), data.draw(st.integers(0, 400))
        at = Window(row, col, data.draw(st.integers(1, 64 - row)), data.draw(st.integers(1, 420 - col)))
        bands = data.draw(st.sampled_from([[1, 2], [2], [2, 1]]))
        np.testing.assert_array_equal(read_along(dataset, bands, at), read(dataset, bands, at))


def test_windows_side_by_side_decode_each_tile_once(tiles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []

    def told(dataset: object, bands: object, window: Window) -> np.ndarray:
        decoded.extend(range(window.col // 16, -(-(window.col + window.width) // 16)))
        return read(dataset, bands, window)  # type: ignore[arg-type]

    monkeypatch.setattr(raster, "read", told)
    windows = [Window(3, col, 40, 150) for col in range(0, 261, 50)]  # each shares 100 columns with the next
    for at in [*windows, windows[-1]._replace(row=5, height=20)]:
        read_along(opened(tiles), [1, 2], at)
    assert decoded == list(range(25))
    read_along(opened(tiles), [1, 2], Window(2, 300, 40, 40))  # a row above: nothing of it is kept
    assert decoded[25:] == [18, 19, 20, 21]


def test_what_is_kept_beside_a_window_is_bounded_and_goes_with_its_file(
    tiles: Path, noise: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = Window(0, 0, 64, 32)
    monkeypatch.setattr(raster, "_opened", raster._Opened())
    monkeypatch.setattr(raster, "MAX_BESIDE", 64 * 32 * 2)
    for bands in ([1], [2], [1, 2]):
        read_along(opened(tiles), bands, at)
    dataset = opened(tiles)
    assert list(raster._opened.strips[dataset]) == [(1,)]
    with suppress(KeyError), reading_along():
        raise KeyError
    assert not raster._opened.strips[dataset]
    read_along(dataset, [1], at)
    write(tiles, np.full((2, 64, 420), 7, np.uint16), box(64, 420), block=16)
    os.utime(tiles, ns=(1, 1))
    assert (read_along(opened(tiles), [1], at) == 7).all()
    monkeypatch.setattr(raster, "MAX_OPEN", 1)
    opened(noise)
    assert list(raster._opened.strips) == list(raster._opened.datasets.values()) == [opened(noise)]


# -- regridding ----------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.integers(-20, 80),
    st.integers(-20, 100),
    st.integers(1, 60),
    st.integers(1, 60),
    st.sampled_from(["same", "coarse", "warp"]),
)
def test_a_window_is_a_crop_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, row: int, col: int, height: int, width: int, how: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "windows.tif"
    if not path.exists():
        pixels = np.random.default_rng(3).integers(0, 9000, (1, 70, 90)).astype(np.uint16)
        pixels[0, 20:30, 40:60] = 0
        write(path, pixels, box(70, 90), 0)
    target = {"same": box(200, 220, left=499_500, top=5_600_400), "coarse": box(400, 400, step=5, left=499_905, top=5_600_050),
              "warp": box(200, 220, step=6.3, left=499_903, top=5_600_051)}[how]  # fmt: skip
    row, col = max(row, 0), max(col, 0)
    values, valid = read_onto(opened(path), [1], target, missing=(0,), resampling="bilinear")
    part, known = read_onto(
        opened(path), [1], cut(target, Window(row, col, height, width)), missing=(0,), resampling="bilinear"
    )
    at = (0, slice(row, row + height), slice(col, col + width))
    assert np.array_equal(known[0], valid[at])
    assert np.allclose(part[0], values[at], rtol=1e-5, atol=1e-2)


def test_an_impulse_stays_where_it_is(tmp_path: Path) -> None:
    pixels = np.zeros((21, 21), np.float32)
    pixels[10, 7] = 1
    dataset = opened(write(tmp_path / "i.tif", pixels, box(21, 21)))
    fine, _ = read_onto(dataset, [1], box(42, 42, step=5))  # repeated: a block of 2 x 2
    assert np.argwhere(fine[0] == 1).tolist() == [[20, 14], [20, 15], [21, 14], [21, 15]]
    half, _ = read_onto(dataset, [1], box(20, 20, left=500_005, top=5_599_995), resampling="bilinear")
    expected = np.zeros((20, 20))
    expected[9:11, 6:8] = 0.25
    assert np.abs(half[0] - expected).max() < 1e-6
    third, _ = read_onto(dataset, [1], box(63, 63, step=10 / 3, left=500_000.001), resampling="bilinear")
    rows, cols = np.nonzero(third[0] > 1e-3)
    weights = third[0][rows, cols]
    assert np.average(rows + 0.5, weights=weights) / 3 == pytest.approx(10.5, abs=1e-3)  # the centre of pixel (10, 7)
    assert np.average(cols + 0.5, weights=weights) / 3 == pytest.approx(7.5, abs=1e-3)


@pytest.mark.parametrize(("degrees", "worst"), [(0.0001, 0.6), (0.0003, 3.0)])  # finer than the source; coarser along y
def test_a_ramp_survives_another_crs(tmp_path: Path, degrees: float, worst: float) -> None:
    rows, cols = np.mgrid[:300, :300].astype(np.float32)
    source = box(300, 300, step=20, left=490_000, top=5_603_000)
    ramps = np.stack([source.affine.c + 20 * (cols + 0.5), source.affine.f - 20 * (rows + 0.5)]) - [[[5e5]], [[5.6e6]]]
    dataset = opened(write(tmp_path / "ramp.tif", ramps.astype(np.float32), source))
    target = GeoBox.from_bbox((2.87, 50.53, 2.9, 50.55), "EPSG:4326", resolution=degrees)
    values, valid = read_onto(dataset, [1, 2], target, resampling="bilinear")
    from rasterio.warp import transform

    lon = target.affine.c + target.affine.a * (np.arange(target.shape[1]) + 0.5)
    lat = target.affine.f + target.affine.e * (np.arange(target.shape[0]) + 0.5)
    xs, ys = transform("EPSG:4326", CRS, np.tile(lon, len(lat)), np.repeat(lat, len(lon)))
    assert valid.all()
    errors = np.stack([values[0].ravel() + 5e5 - xs, values[1].ravel() + 5.6e6 - ys])  # metres, at 20 m pixels
    assert np.abs(errors).max() < worst
    assert np.abs(errors.mean(1)).max() < 0.1  # no shift


def test_missing_pixels_never_bleed(tmp_path: Path) -> None:
    pixels = np.full((40, 40), 5000, np.uint16)
    pixels[10:20, 10:20] = 0
    dataset = opened(write(tmp_path / "hole.tif", pixels, box(40, 40), 0))
    target = box(60, 60, step=6.1, left=500_003, top=5_599_996)
    values, valid = read_onto(dataset, [1], target, missing=(0,), resampling="bilinear")
    assert set(np.unique(np.round(values[0][valid[0]], 2))) == {5000.0}
    lost = (~valid[0]).sum() * 6.1**2 / 100  # in source pixels
    assert lost == pytest.approx(100, abs=12)


def test_nan_under_invalid_pixels_changes_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    pixels = rng.normal(0, 1, (30, 30)).astype(np.float32)
    results = []
    for name, poison in (("nan", np.nan), ("low", -9999.0)):
        pixels[5:9, 5:9] = poison
        dataset = opened(write(tmp_path / f"{name}.tif", pixels, box(30, 30)))
        results.append(read_onto(dataset, [1], box(40, 40, step=7.7, left=500_001), missing=(-9999.0,), resampling="bilinear"))
    assert np.array_equal(results[0][0], results[1][0])
    assert np.array_equal(results[0][1], results[1][1])


def test_classes_are_never_mixed(tmp_path: Path) -> None:
    board = np.where(np.indices((30, 30)).sum(0) % 2, 3, 9).astype(np.uint8)
    dataset = opened(write(tmp_path / "c.tif", board, box(30, 30)))
    values, valid = read_onto(dataset, [1], box(50, 50, step=4.9, left=500_011, top=5_599_987))
    assert set(np.unique(values[valid])) == {3, 9}
    fine, _ = read_onto(dataset, [1], box(60, 60, step=5))
    assert np.array_equal(fine[0], board.repeat(2, 0).repeat(2, 1))


def test_coarsening_averages(tmp_path: Path) -> None:
    board = np.where(np.indices((60, 60)).sum(0) % 2, 2.0, 4.0).astype(np.float32)
    dataset = opened(write(tmp_path / "b.tif", board, box(60, 60)))
    values, _ = read_onto(dataset, [1], box(10, 10, step=60), resampling="bilinear")
    assert np.abs(values - 3).max() < 0.1


def test_lattices() -> None:
    assert lattice_step(box(9, 9), box(4, 4, left=500_020, top=5_599_970)) == (1, 3, 2)
    assert lattice_step(box(9, 9, step=20), box(9, 9, left=500_010)) == (2, 0, 1)
    assert lattice_step(box(9, 9), box(9, 9, left=500_003)) is None
    assert lattice_step(box(9, 9), box(9, 9, step=20)) is None
    assert lattice_step(box(9, 9), box(9, 9, crs="EPSG:32632")) is None


def test_an_address_that_no_file_can_have_is_damage(tmp_path):
    path = tmp_path / "far.tif"
    path.write_bytes(b"II+\0" + (8).to_bytes(2, "little") + bytes(2) + b"\xff" * 8)
    with pytest.raises(InputCorrupt, match="damaged"):
        open_raster(path)


def test_a_process_keeps_little_of_decoded_rasters():
    assert os.environ["GDAL_CACHEMAX"] == "64"
