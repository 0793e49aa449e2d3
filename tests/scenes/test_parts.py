"""Parts of what is there: some of the bands, an image without a date."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scenes.test_series import BANDS, box, dn, put
from unclouded.errors import InputMissing
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
