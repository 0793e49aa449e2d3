"""Files named one by one: what belongs together is one image, as in a folder; nothing is dropped silently."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scenes.test_series import BANDS, box, dn, put
from unclouded.errors import InputMissing, UsageError
from unclouded.scenes.open import open_scene

DAYS = ("20200601", "20200611")


def _bands(folder: Path, name: str, seed: int, bands: tuple[str, ...] = BANDS) -> list[Path]:
    pixels = dn(seed, len(bands))
    return [put(folder / f"{name}{band}.tif", pixels[n], names=()) for n, band in enumerate(bands)]


def _scl(path: Path, code: int = 4) -> Path:
    return put(path, np.full((24, 30), code, np.uint8), names=(), nodata=None)


def test_one_file_per_band_named_one_by_one_is_as_in_a_folder(tmp_path: Path) -> None:
    files = [file for n, day in enumerate(DAYS) for file in _bands(tmp_path, f"S2_{day}_", n)]
    files += [_scl(tmp_path / f"S2_{day}_SCL.tif", 4 + n) for n, day in enumerate(DAYS)]
    for scene in (open_scene(files[::-1]), open_scene([*files[:3], *files[3:], files[0]]), open_scene(tmp_path)):
        assert [str(d) for d in scene.dates] == ["2020-06-01", "2020-06-11"] and scene.place.bands == BANDS
        sample = scene.read()
        np.testing.assert_array_equal(sample.s2, np.stack([dn(0), dn(1)]).astype(np.float32) / np.float32(10_000))
        assert sample.scl is not None and sample.scl[:, 0, 0].tolist() == [4, 5]
    assert open_scene(files).place.id == "S2_20200601"


def test_bands_without_a_date_in_their_names_are_one_image(tmp_path: Path) -> None:
    files = [*_bands(tmp_path, "a_", 0), _scl(tmp_path / "scl.tif")]
    scene = open_scene(files, undated=True)
    assert scene.place.bands == BANDS and scene.read().scl is not None
    other = [*_bands(tmp_path, "b_", 1), *_bands(tmp_path / "2020-06-01", "", 2), *_bands(tmp_path / "2020-06-11", "", 3)]
    with pytest.raises(InputMissing, match="a_B02 has no date"):  # two images in one folder: told apart by their names
        open_scene([*files[:4], *other], undated=True)
    scene = open_scene(other[4:], level="L2A")  # a folder named as a date dates its files
    assert [str(d) for d in scene.dates] == ["2020-06-01", "2020-06-11"] and scene.place.id == "2020-06-01"
    np.testing.assert_array_equal(scene.read().s2[1], dn(3).astype(np.float32) / np.float32(10_000))


def test_scl_and_mask_go_with_their_image_or_are_refused(tmp_path: Path) -> None:
    first, second = (put(tmp_path / f"x_{day}.tif", dn(n), tags={"LEVEL": "L2A"}) for n, day in enumerate(DAYS))
    scl, mask = _scl(tmp_path / "scl.tif"), _scl(tmp_path / "cloud_mask.tif", 1)
    sample = open_scene([scl, first, mask]).read()
    assert sample.scl is not None and (sample.scl == 4).all() and sample.given is not None and (sample.given == 1).all()
    with pytest.raises(UsageError, match=r"(scl|cloud_mask)\.tif belongs to none of the images"):
        open_scene([first, second, scl])
    named = _scl(tmp_path / "20200611_mask.tif", 1)
    given = open_scene([first, second, named]).read().given
    assert given is not None and np.isnan(given[0]).all() and (given[1] == 1).all()


def test_stacks_of_one_day_are_images_of_their_own_with_their_own_masks(tmp_path: Path) -> None:
    day, files = DAYS[0], []
    for n, (name, left) in enumerate((("a", 500_000), ("b", 500_200))):
        at = box(24, 30, left=left)
        files.append(put(tmp_path / f"{name}_{day}.tif", dn(n), grid=at, tags={"LEVEL": "L2A"}))
        mask = np.full((24, 30), n, np.uint8)
        files.append(put(tmp_path / f"{name}_{day}_mask.tif", mask, grid=at, names=(), nodata=None))
    scene = open_scene(files)
    assert scene.shape == (24, 50) and scene.decisions["dates"][0]["mosaic"] == [f"b_{day}", f"a_{day}"]
    given = scene.read().given
    assert given is not None and (given[0, :, :20] == 0).all() and (given[0, :, 20:] == 1).all()
    put(files[0], dn(0).astype(np.int16), grid=box(24, 30), tags={"LEVEL": "L2A"})  # stored otherwise: one is chosen and told
    assert open_scene(files).decisions["dates"][0]["left"] == [f"a_{day}"]
