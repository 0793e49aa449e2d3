"""Float reflectance without a nodata value: a pixel that is 0 in every band was not measured, 0 in one band is a value."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scenes.test_series import BANDS, box, dn, put
from unclouded.remove import remove_clouds
from unclouded.sample import Window
from unclouded.scenes.open import open_scene
from unclouded.scenes.scene import Scene

DAY = "2020-06-01"


def _true(seed: int = 0, size: tuple[int, int] = (24, 30)) -> tuple[np.ndarray, np.ndarray]:
    """Reflectance with an empty border, and where it was measured."""
    pixels = dn(seed, size=size).astype(np.float32) / np.float32(10_000)
    pixels[:, :, :7] = 0
    pixels[1, 4:8, 12:15] = 0  # a dark band is a value
    measured = np.ones(size, bool)
    measured[:, :7] = False
    return pixels, measured


def _stack(folder: Path, pixels: np.ndarray) -> Scene:
    put(folder / DAY / "s2.tif", pixels, nodata=None)
    return open_scene(folder, level="L2A")


def _singles(folder: Path, pixels: np.ndarray) -> Scene:
    for n, band in enumerate(BANDS):
        put(folder / DAY / f"{band}.tif", pixels[n], nodata=None, names=())
    return open_scene(folder, level="L2A")


@pytest.mark.parametrize("way", [_stack, _singles])
def test_zero_in_every_band_is_missing_and_in_one_band_a_value(tmp_path: Path, way) -> None:  # type: ignore[no-untyped-def]
    pixels, measured = _true()
    scene = way(tmp_path, pixels)
    np.testing.assert_array_equal(scene.read().s2_valid[0], measured)
    np.testing.assert_array_equal(scene.read().s2[0], pixels)
    assert scene.decisions["products"][0]["no_data"] == "0 in every band"
    np.testing.assert_array_equal(scene.only({"B03"}).read().s2_valid[0], measured)  # decided by all bands, also by the unread
    np.testing.assert_array_equal(scene.read(Window(3, 5, 6, 11)).s2_valid[0], measured[3:9, 5:16])
    layer = scene.source.layers(0)[0]
    np.testing.assert_array_equal(scene.source.counts(0, layer, scene.window), pixels)


@pytest.mark.parametrize("georeferenced", [True, False])
def test_bands_of_several_sizes_are_judged_together(tmp_path: Path, georeferenced: bool) -> None:
    pixels, measured = _true()
    coarse = pixels[:1, ::2, ::2].copy()
    coarse[0, 6, 10] = 0
    for n, band in enumerate(BANDS):
        put(tmp_path / DAY / f"{band}.tif", pixels[n], nodata=None, names=(), georeferenced=georeferenced)
    at = box(12, 15, 20) if georeferenced else None
    put(tmp_path / DAY / "B11.tif", coarse, nodata=None, names=(), grid=at, georeferenced=georeferenced)
    valid = open_scene(tmp_path, level="L2A").read().s2_valid[0]
    np.testing.assert_array_equal(valid[:, :6], False)  # column 6 is empty too, but the coarse pixel over it is not all so
    measured[12:14, 20:22] = georeferenced  # only bands that can be laid over each other can speak for each other
    np.testing.assert_array_equal(valid[:, 8:], measured[:, 8:])


@pytest.mark.parametrize("way", [_stack, _singles])
def test_on_another_grid_the_border_does_not_bleed(tmp_path: Path, way) -> None:  # type: ignore[no-untyped-def]
    pixels = np.full((4, 24, 30), 0.25, np.float32)
    pixels[:, :, :7] = 0
    way(tmp_path, pixels)
    for day in ("2020-06-11", "2020-06-21"):
        put(tmp_path / day / "s2.tif", dn(1), grid=box(24, 30, left=500_003, top=5_600_043))
    scene = open_scene(tmp_path, level="L2A")
    assert scene.decisions["grid"]["warped"] == [DAY]
    valid, values = scene.read().s2_valid[0], scene.read().s2[0]
    assert not valid[:, :6].any() and valid[2:-2, 8:-2].all()
    np.testing.assert_allclose(values[:, valid], 0.25, atol=1e-6)


def test_halves_of_a_swath_with_empty_sides(tmp_path: Path) -> None:
    whole = dn(0).astype(np.float32) / np.float32(10_000)
    for name, empty in (("west.tif", np.s_[..., 17:]), ("east.tif", np.s_[..., :12])):
        part = whole.copy()
        part[empty] = 0
        put(tmp_path / DAY / name, part, nodata=None)
    scene = open_scene(tmp_path, level="L2A")
    np.testing.assert_array_equal(scene.read().s2[0], whole)
    assert scene.read().s2_valid.all()
    np.testing.assert_array_equal(scene.source.counts(0, scene.source.layers(0)[0], scene.window), whole)


def test_an_empty_border_is_no_evidence_for_units_or_offset(tmp_path: Path) -> None:
    pixels = dn(0, low=1100).astype(np.float32)
    pixels[:, :, :20] = 0
    put(tmp_path / "2023-06-01" / "s2.tif", pixels, nodata=None)
    scene = open_scene(tmp_path, level="L2A")
    assert scene.decisions["offset"][0]["offset"] == -1000
    np.testing.assert_allclose(scene.read().s2[0, :, :, 20:], (pixels[:, :, 20:] - 1000) / 10_000, atol=1e-6)


def test_the_product_has_no_data_there(tmp_path: Path) -> None:
    pixels, measured = _true()
    put(tmp_path / "in" / DAY / "s2.tif", pixels, nodata=None)
    put(tmp_path / "in" / "2020-06-11" / "s2.tif", dn(3).astype(np.float32) / np.float32(10_000), nodata=None)
    done = remove_clouds(tmp_path / "in", tmp_path / "out", date=DAY, model="nearest", level="L2A")
    assert done.manifest["pixels"]["nodata"] == int((~measured).sum())
