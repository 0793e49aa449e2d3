"""The main job on SAFE products: one COG per native resolution, the same ground whatever the baseline, zips in place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from make.safe import CRS, LEFT, TOP, make_safe, zipped
from unclouded.errors import InputCorrupt
from unclouded.products.product import Product
from unclouded.raster import create_raster, open_raster
from unclouded.remove import remove_clouds
from unclouded.sample import HIDING, Source

DAYS = ("20220603", "20220608", "20220613")
DAY = "2022-06-13"


def products(folder: Path, **options) -> list[Path]:
    return [make_safe(folder, day=day, seed=5, holes=False, **options) for day in DAYS]


def run(paths, out, **options) -> Product:
    mask = out.with_suffix(".mask.tif")  # hidden where the other dates are clear
    hidden = np.zeros((120, 120), np.uint8)
    hidden[60:85, 30:71] = 1
    grid = GeoBox((120, 120), Affine(10, 0, LEFT, 0, -10, TOP), CRS)
    mask.parent.mkdir(parents=True, exist_ok=True)
    with create_raster(mask, height=120, width=120, count=1, dtype="uint8", grid=grid) as file:
        file.write(hidden, 1)
    found = remove_clouds(paths, out, **{"date": DAY, "model": "nearest", "mask": mask, "screen": False, **options})
    assert isinstance(found, Product)
    return found


def read(product: Product, name: str) -> np.ndarray:
    with open_raster(next(product.folder.glob(f"*_{name}.tif"))) as file:
        return file.read()


def stored(safe: Path, band: str, metres: int) -> np.ndarray:
    with open_raster(next(safe.rglob(f"*_{band}_{metres}m.jp2"))) as file:
        return file.read(1)


def test_one_image_per_native_resolution_and_observed_counts_are_the_files_own(tmp_path):
    safes = products(tmp_path / "in")
    product = run(safes, tmp_path / "out")
    assert {p.name.split("_")[-1] for p in product.clear} == {"10m.tif", "20m.tif", "60m.tif"}
    hidden = HIDING[read(product, "mask")[0]]
    assert 0 < hidden.mean() < 0.6 and (read(product, "source")[0][hidden] == Source.DATES).all()
    for metres, band in ((10, "B04"), (20, "B11"), (60, "B09")):
        image = read(product, f"clear_{metres}m")
        with open_raster(next(product.folder.glob(f"*_clear_{metres}m.tif"))) as file:
            at = [name.upper() for name in file.descriptions].index(band)
            assert file.transform.a == metres and file.nodata == 0
        given = stored(safes[2], band, metres)
        k = metres // 10
        untouched = ~hidden.reshape(hidden.shape[0] // k, k, hidden.shape[1] // k, k).any((1, 3))
        assert untouched.any() and np.array_equal(image[at][untouched], given[untouched])
        assert np.array_equal(image[at], given)  # the ground is the same on all dates, so even rebuilt pixels come back


def test_before_and_after_the_offset_the_ground_is_the_same(tmp_path):
    old = products(tmp_path / "old", baseline="03.01", offset=None)
    new = products(tmp_path / "new", baseline="05.10", offset=-1000)
    a, b = (run(safes, tmp_path / name) for safes, name in ((old, "a"), (new, "b")))
    assert np.array_equal(read(a, "clear_10m") + 1000, read(b, "clear_10m"))
    assert np.array_equal(read(a, "sigma"), read(b, "sigma"))


def test_a_zip_is_read_in_place_and_gives_the_same_rasters(tmp_path):
    safes = products(tmp_path / "in")
    plain = run(safes, tmp_path / "a", place="x").manifest["rasters"]
    assert run([zipped(safe) for safe in safes], tmp_path / "b", place="x").manifest["rasters"] == plain


def test_one_resolution_when_asked(tmp_path):
    safes = products(tmp_path / "in")
    product = run(safes, tmp_path / "out", resolution=10)
    (path,) = product.clear
    with open_raster(path) as file:
        assert file.count == 12 and file.transform.a == 10
        swir = file.read([d.upper() for d in file.descriptions].index("B11") + 1)
    assert np.array_equal(swir, stored(safes[2], "B11", 20).repeat(2, 0).repeat(2, 1))


def test_a_flipped_bit_is_seen_by_the_digest_and_nothing_is_written(tmp_path):
    safes = products(tmp_path / "in")
    image = next(safes[0].rglob("*_B04_10m.jp2"))
    data = bytearray(image.read_bytes())
    data[-200] ^= 1
    image.write_bytes(data)
    with pytest.raises(InputCorrupt, match="B04"):
        run(safes, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert run(safes, tmp_path / "out", verify=False).manifest["decisions"]["verified"] != {}
