"""Parts of one day: halves of a swath on one grid, neighbouring tiles; what does not go together is chosen from."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from scenes.test_sentinel2 import make_safe
from scenes.test_series import BANDS, box, dn, put
from unclouded.errors import InputUnsupported
from unclouded.raster import open_raster
from unclouded.remove import remove_clouds
from unclouded.sample import Window
from unclouded.scenes.open import open_scene
from unclouded.scenes.scratch import unpacked

DAY, LATER = "2018-05-21", "2018-05-26"


def _halves(folder: Path, whole: np.ndarray, names: tuple[str, str] = ("west.tif", "east.tif")) -> None:
    """Two swaths on one grid: columns below 17 and from 12 on."""
    for name, empty in zip(names, (np.s_[..., 17:], np.s_[..., :12]), strict=True):
        part = whole.copy()
        part[empty] = 0
        put(folder / name, part)


def test_halves_of_a_swath_are_one_date(tmp_path: Path) -> None:
    whole = dn(0)
    _halves(tmp_path / "in" / DAY, whole)
    put(tmp_path / "in" / LATER / "s2.tif", dn(1))
    put(tmp_path / "whole" / DAY / "s2.tif", whole)
    scene, expected = open_scene(tmp_path / "in"), open_scene(tmp_path / "whole")
    assert [str(d) for d in scene.dates] == [DAY, LATER]
    note = scene.decisions["dates"][0]
    assert note["date"] == DAY and note["mosaic"] == ["east.tif", "west.tif"]
    assert f"{DAY}: put together from east.tif, west.tif" in scene.decisions["warnings"]
    np.testing.assert_array_equal(scene.read(only=[0]).s2, expected.read().s2)
    assert scene.read(only=[0]).s2_valid.all()
    window, layer = Window(3, 9, 12, 15), scene.source.layers(0)[0]
    np.testing.assert_array_equal(scene.source.counts(0, layer, window), whole[:, 3:15, 9:24])
    np.testing.assert_array_equal(scene.only({"B04"}).read(window).s2[0], expected.read(window).s2[0, 2:3])


def test_halves_with_one_file_per_band_are_one_date(tmp_path: Path) -> None:
    whole = dn(0)
    for name, empty in (("west", np.s_[..., 17:]), ("east", np.s_[..., :12])):
        part = whole.copy()
        part[empty] = 0
        for n, band in enumerate(BANDS):
            put(tmp_path / DAY / f"{name}_{band}.tif", part[n], names=())
    scene = open_scene(tmp_path, level="L2A")
    np.testing.assert_array_equal(scene.read().s2[0], whole.astype(np.float32) / np.float32(10_000))
    assert scene.read().s2_valid.all()
    np.testing.assert_array_equal(scene.only({"B04"}).read().s2[0], scene.read().s2[0, 2:3])


def test_where_neither_half_has_data_there_is_none(tmp_path: Path) -> None:
    whole = dn(0)
    whole[:, :6] = 0
    whole[2, 10, 3] = 0  # one band only
    _halves(tmp_path / DAY, whole)
    scene = open_scene(tmp_path)
    np.testing.assert_array_equal(scene.read().s2_valid[0], (whole != 0).all(axis=0))
    layer = scene.source.layers(0)[0]
    np.testing.assert_array_equal(scene.source.counts(0, layer, scene.window), whole)


def test_neighbouring_tiles_make_a_wider_scene_with_their_classes_and_masks(tmp_path: Path) -> None:
    left, right = dn(0), dn(1)
    for n, (name, pixels, at) in enumerate((("a", left, 500_000), ("b", right, 500_200))):
        folder, grid = tmp_path / f"{DAY}_{name}", box(24, 30, left=at)
        put(folder / "s2.tif", pixels, grid=grid)
        put(folder / "scl.tif", np.full((24, 30), 4 + n, np.uint8), grid=grid, names=("SCL",))
        put(folder / "mask.tif", np.full((24, 30), n, np.uint8), grid=grid, names=(), nodata=None)
    scene = open_scene(tmp_path)
    assert scene.shape == (24, 50) and len(scene.dates) == 1
    assert scene.decisions["dates"][0]["mosaic"] == [f"{DAY}_b", f"{DAY}_a"]
    counts = scene.source.counts(0, scene.source.layers(0)[0], scene.window)
    np.testing.assert_array_equal(counts[..., 20:], right)  # the last name lies above
    np.testing.assert_array_equal(counts[..., :20], left[..., :20])
    sample = scene.read()
    assert sample.scl is not None and sample.given is not None
    assert (sample.scl[0, :, :20] == 4).all() and (sample.scl[0, :, 20:] == 5).all()
    assert (sample.given[0, :, :20] == 0).all() and (sample.given[0, :, 20:] == 1).all()
    assert len(scene.decisions["files"]) == 6  # all of them decide the pixels


def test_a_mosaic_is_restored_bit_for_bit(tmp_path: Path) -> None:
    whole = dn(0, low=2000)
    _halves(tmp_path / "in" / DAY, whole)
    clouds = np.zeros((24, 30), np.uint8)
    clouds[5:12, 10:20] = 1
    put(tmp_path / "in" / DAY / "mask.tif", clouds, names=(), nodata=None)
    put(tmp_path / "in" / LATER / "s2.tif", dn(1, low=2000))
    put(tmp_path / "in" / LATER / "mask.tif", np.zeros((24, 30), np.uint8), names=(), nodata=None)
    done = remove_clouds(tmp_path / "in", tmp_path / "out", date=DAY, model="nearest")
    with open_raster(done.clear[0]) as file:
        clear = file.read()
    np.testing.assert_array_equal(clear[:, clouds == 0], whole[:, clouds == 0])
    assert (clear[:, clouds == 1] != whole[:, clouds == 1]).any() and (clear != 0).all()
    assert done.manifest["decisions"]["dates"][0]["mosaic"] == ["east.tif", "west.tif"]


def test_what_is_stored_otherwise_or_lies_elsewhere_is_not_mixed(tmp_path: Path) -> None:
    put(tmp_path / f"{DAY}_a" / "s2.tif", dn(0))
    put(tmp_path / f"{DAY}_b" / "s2.tif", dn(1).astype(np.int16), grid=box(24, 30, left=500_200))
    put(tmp_path / f"{DAY}_c" / "s2.tif", dn(2), grid=box(24, 30, left=503_000))
    put(tmp_path / f"{DAY}_d" / "s2.tif", dn(3), grid=box(24, 30, left=500_005))
    scene = open_scene(tmp_path)
    assert scene.shape == (24, 30)
    assert scene.decisions["dates"] == [
        {"date": DAY, "kept": f"{DAY}_d", "left": [f"{DAY}_c", f"{DAY}_b", f"{DAY}_a"],
         "why": "newest baseline, then most data, then name"}
    ]  # fmt: skip
    put(tmp_path / "two" / DAY / "a.tif", dn(0))
    put(tmp_path / "two" / DAY / "b.tif", dn(1).astype(np.int16), grid=box(24, 30, left=500_200))
    with pytest.raises(InputUnsupported, match="several files of one date"):
        open_scene(tmp_path / "two")


def test_granules_of_one_tile_and_day_are_joined_and_unpacked(tmp_path: Path) -> None:
    day = "20220613"
    first = make_safe(tmp_path, day=day, seed=1, nodata_percentage=40)
    second = make_safe(tmp_path, day=day, seed=1, processed="20250101T000000", nodata_percentage=60)
    scene = open_scene([first, second])
    assert scene.decisions["dates"][0]["mosaic"] == [first.name, second.name]
    alone = open_scene(first)
    np.testing.assert_array_equal(scene.read().s2, alone.read().s2)  # the same pixels: nothing to add, nothing changed
    (tmp_path / "scratch").mkdir()
    decoded, expected = unpacked(scene, tmp_path / "scratch"), scene.read().s2
    shutil.rmtree(first)
    shutil.rmtree(second)
    np.testing.assert_array_equal(decoded.read().s2, expected)  # both have been decoded
