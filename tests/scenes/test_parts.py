"""Parts of what is there: some of the bands, an image without a date."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scenes.test_series import BANDS, CRS, box, dn, put
from unclouded.errors import InputMissing, UsageError
from unclouded.raster import open_raster
from unclouded.remove import remove_clouds
from unclouded.sample import Window
from unclouded.scenes.open import open_scene
from unclouded.scenes.scene import Scene


def test_a_scene_with_some_of_its_bands_reads_only_those(tmp_path: Path) -> None:
    for n, day in enumerate(("2018-05-21", "2018-05-26")):
        pixels = dn(n)
        pixels[3, :5] = 0  # B08 measured nothing there
        put(tmp_path / day / "s2.tif", pixels)
        put(tmp_path / day / "B11.tif", dn(n + 5, 1, (12, 15)), grid=box(12, 15, 20), names=("B11",))
        (tmp_path / day / "s2.tif").rename(tmp_path / day / "x.tif")
        for k, band in enumerate(BANDS):
            put(tmp_path / day / f"{band}.tif", pixels[k], names=(band,))
        (tmp_path / day / "x.tif").unlink()
    scene = open_scene(tmp_path)
    whole, window = scene.read(), Window(2, 3, 11, 14)
    for bands in (("B02", "B11"), ("B04",), ("B08", "B03")):
        part = scene.only(bands)
        kept = tuple(b for b in scene.place.bands if b in bands)
        at = [scene.place.bands.index(b) for b in kept]
        assert part.place.bands == kept
        np.testing.assert_array_equal(part.read().s2, whole.s2[:, at])
        np.testing.assert_array_equal(part.read(window).s2, whole.crop(window).s2[:, at])
        assert part.read().s2_valid[0, 0].all() == ("B08" not in bands)  # measured is measured in the bands that are left
    for band in ("B03", "B04", "B08", "B11"):
        (tmp_path / "2018-05-21" / f"{band}.tif").unlink()
    assert scene.only({"B02"}).read().s2.shape == (2, 1, 24, 30)  # the others are not opened
    assert scene.only(scene.place.bands) is scene


def test_some_bands_of_any_other_source_and_of_images_without_coordinates(tmp_path: Path) -> None:
    put(tmp_path / "2018-05-21" / "B04.tif", dn(1, 1), names=("B04",), georeferenced=False)
    put(tmp_path / "2018-05-21" / "B11.tif", dn(2, 1, (12, 15)), names=("B11",), georeferenced=False)
    scene = open_scene(tmp_path)
    whole = scene.read()
    np.testing.assert_array_equal(scene.only({"B11"}).read().s2, whole.s2[:, 1:])
    held = Scene.of(whole).only({"B04"})
    np.testing.assert_array_equal(held.read().s2, whole.s2[:, :1])
    assert held.source.scl(0, held.window) is None and held.source.given(0, held.window) is None


def test_a_single_image_may_lack_a_date_where_none_is_needed(tmp_path: Path) -> None:
    file = put(tmp_path / "field.tif", dn(0))
    with pytest.raises(InputMissing, match="has no date"):
        open_scene(file)
    scene = open_scene(file, undated=True)
    assert scene.shape == (24, 30) and scene.decisions["products"][0]["undated"] is True
    dated = open_scene(put(tmp_path / "field_20180521.tif", dn(0)), undated=True)
    assert "undated" not in dated.decisions["products"][0]
    with pytest.raises(InputMissing, match="has no date"):
        open_scene([file, put(tmp_path / "other.tif", dn(1))], undated=True)


def test_without_a_date_the_sun_is_not_known(tmp_path: Path) -> None:
    from unclouded.masks.detect import sun_of

    scene = open_scene(put(tmp_path / "field.tif", dn(0)), undated=True)
    assert sun_of(scene, 0) is None
    assert sun_of(replace(scene, decisions={}), 0) is not None


# -- an area that is no box ----------------------------------------------------------------------------------------

TRIANGLE = "SRID=32631;POLYGON((500031 5599899, 500031 5599961, 500109 5599899, 500031 5599899))"


def test_pixels_that_an_area_does_not_touch_are_not_measured(tmp_path: Path) -> None:
    for n, day in enumerate(("2018-05-21", "2018-05-26")):
        put(tmp_path / day / "s2.tif", dn(n))
    scene, boxed = open_scene(tmp_path, aoi=TRIANGLE), open_scene(tmp_path, bbox=(500031, 5599899, 500109, 5599961, CRS))
    assert scene.shape == boxed.shape == (8, 8)  # rows from y 5599970, columns from x 500030
    row, col = np.mgrid[:8, :8]
    left, bottom = 500_030 + 10 * col, 5_599_960 - 10 * row
    touched = (left - 500_031) / 78 + (bottom - 5_599_899) / 62 <= 1  # the corner nearest to the right angle is inside
    valid = scene.read().s2_valid
    np.testing.assert_array_equal(valid, np.broadcast_to(touched, valid.shape))
    assert boxed.read().s2_valid.all() and 0.5 < touched.mean() < 0.8
    np.testing.assert_array_equal(scene.read(Window(2, 1, 5, 6)).s2_valid, valid[:, 2:7, 1:7])
    assert "outline" in scene.decisions["grid"] and "outline" not in boxed.decisions["grid"]
    other = open_scene(tmp_path, aoi=TRIANGLE.replace("500109 5599899", "500109 5599902"))
    assert other.decisions["grid"] != scene.decisions["grid"]  # another area is another job
    assert open_scene(tmp_path, aoi="SRID=32631;POINT(500045 5599905)").read().s2_valid.all()


def test_the_product_of_an_area_ends_at_its_outline(tmp_path: Path) -> None:
    for n, day in enumerate(("2018-05-21", "2018-05-26", "2018-05-31")):
        put(tmp_path / "in" / day / "s2.tif", dn(n, low=2000))
        clouds = np.zeros((24, 30), np.uint8)
        clouds[10:20, 4:8] = n == 1
        put(tmp_path / "in" / day / "mask.tif", clouds, names=(), nodata=None)
    done = remove_clouds(tmp_path / "in", tmp_path / "out", date="2018-05-26", aoi=TRIANGLE, model="nearest")
    folder = Path(done.folder)
    inside = open_scene(tmp_path / "in", aoi=TRIANGLE).read().s2_valid[1]
    with open_raster(next(folder.glob("*_clear.tif"))) as clear, open_raster(next(folder.glob("*_source.tif"))) as source:
        assert ((clear.read() != 0).all(axis=0) == inside).all()
        assert ((source.read(1) != 0) == inside).all() and (source.read(1) > 1).any()
    with pytest.raises(UsageError, match="outside the --aoi"):
        remove_clouds(tmp_path / "in", tmp_path / "no", date="2018-05-26", aoi=TRIANGLE, fill_nodata=True)
