"""COGs: everything a raster says about itself survives, and a digest changes when, and only when, the raster does."""

from __future__ import annotations

import os
from functools import partial

import numpy as np
import pytest
from rio_cogeo.cogeo import cog_validate

from products.chores import write_in_threads
from products.made import geobox
from unclouded.products.cog import Plane, is_cog, native_window, raster_digest, write_cog
from unclouded.raster import open_raster
from unclouded.sample import Window
from unclouded.workers import in_processes


def plane(dtype: str, shape=(70, 90), **changes) -> Plane:
    own = {
        "grid": geobox(*shape), "nodata": 0, "descriptions": ("B02 blue", "B8A"), "scales": (1e-4, 0.1 + 0.2),
        "offsets": (-0.1, 1 / 3), "tags": {"PROCESSING_BASELINE": "05.10", "NOTE": "ü = \"x\" <b>"},
    }  # fmt: skip
    return Plane(name="x", shape=shape, dtype=dtype, **(own | changes))


def pixels(dtype: str, shape, seed=0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    info = np.iinfo(dtype) if np.dtype(dtype).kind in "iu" else None
    full = (2, *shape)
    return rng.integers(info.min, info.max, full, dtype, endpoint=True) if info else rng.normal(size=full).astype(dtype)


def pieces(values, side=32):
    for row in range(0, values.shape[1], side):
        for col in range(0, values.shape[2], side):
            part = values[:, row : row + side, col : col + side]
            yield Window(row, col, *part.shape[1:]), part


@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [("uint8", 255), ("uint16", 0), ("int16", -32768), ("int32", None), ("float32", np.nan), ("float64", -9999.5)],
)
def test_everything_round_trips(tmp_path, dtype, nodata):
    asked, values = plane(dtype, nodata=nodata), pixels(dtype, (70, 90))
    write_cog(tmp_path / "a.tif", asked, pieces(values))
    with open_raster(tmp_path / "a.tif") as got:
        assert got.dtypes == (dtype, dtype) and got.crs.to_epsg() == 32631
        assert got.transform == asked.grid.affine
        assert got.nodata == nodata or (np.isnan(nodata) and np.isnan(got.nodata))
        assert got.scales == asked.scales and got.offsets == asked.offsets and got.descriptions == asked.descriptions
        assert asked.tags.items() <= got.tags().items()
        np.testing.assert_array_equal(got.read(), values)
    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]
    valid, errors, warnings = cog_validate(tmp_path / "a.tif", strict=True)
    assert valid and not errors and not warnings and is_cog(tmp_path / "a.tif")


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (1500, 3), (1100, 1030)])
def test_odd_shapes_are_valid_with_overviews_where_large(tmp_path, shape):
    values = pixels("uint16", shape)
    write_cog(tmp_path / "a.tif", plane("uint16", shape), pieces(values, 512))
    valid, errors, _ = cog_validate(tmp_path / "a.tif", strict=True)
    assert valid, errors
    with open_raster(tmp_path / "a.tif") as got:
        np.testing.assert_array_equal(got.read(), values)
        assert len(got.overviews(1)) == {700: 1, 1500: 2, 1100: 2}.get(max(shape), 0)


def test_class_rasters_keep_colours_names_and_nearest_overviews(tmp_path):
    shape = (1100, 1100)
    classes = ((0, "no data", (0, 0, 0)), (3, "other dates + SAR", (10, 20, 30)), (6, "refused", (200, 0, 1)))
    asked = plane(
        "uint8", shape, descriptions=("source",), classes=classes, overviews="nearest", scales=(), offsets=(), tags={}
    )
    values = np.random.default_rng(0).choice(np.array([0, 3, 6], np.uint8), (1, *shape))
    write_cog(tmp_path / "a.tif", asked, pieces(values, 500))
    with open_raster(tmp_path / "a.tif") as got:
        assert got.colormap(1)[3] == (10, 20, 30, 255) and got.colormap(1)[0][3] == 0
        assert got.tags(1)["class_3"] == "other dates + SAR"
        assert set(np.unique(got.read(1, out_shape=(275, 275)))) <= {0, 3, 6}


@pytest.mark.parametrize("even", [False, True])
def test_image_overviews_average_and_ignore_nodata(tmp_path, even):
    shape = (1024, 1024)
    values = np.full((2, *shape), 4000, np.uint16)
    values[:, ::2] = 2000
    values[:, :512, ::2] = 0
    write_cog(tmp_path / "a.tif", plane("uint16", shape), pieces(values, 512), even=even)
    with open_raster(tmp_path / "a.tif") as got:
        small = got.read(1, out_shape=(512, 512))
    assert set(np.unique(small)) == {3000}


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="threads are counted in /proc")
def test_several_threads_write_the_same_bytes(tmp_path):
    some = {}
    for count in (1, 2, 3):
        path = tmp_path / f"{count}.tif"
        some[count] = next(in_processes(partial(write_in_threads, path), [count], 1, apart=True))
        assert path.read_bytes() == (tmp_path / "1.tif").read_bytes()
    assert some[1] == 0 and some[2] >= 2


def test_a_digest_says_what_a_raster_holds_not_how(tmp_path):
    values = pixels("uint16", (70, 90))

    def digest(name, asked=None, data=values, side=32, **options):
        write_cog(tmp_path / name, plane("uint16") if asked is None else asked, pieces(data, side), **options)
        return raster_digest(tmp_path / name)

    first = digest("a.tif")
    assert digest("b.tif", side=17) == first and digest("runs.tif", even=True) == first
    assert digest("c.tif", compress="ZSTD") == first
    changed = values.copy()
    changed[1, 69, 89] += 1
    others = [
        digest("d.tif", data=changed),
        digest("e.tif", plane("uint16", nodata=1)),
        digest("f.tif", plane("uint16", scales=(1e-4, 0.3))),
        digest("g.tif", plane("uint16", offsets=(-0.1, 0.3))),
        digest("h.tif", plane("uint16", descriptions=("B02", "B8A"))),
        digest("i.tif", plane("uint16", tags={"PROCESSING_BASELINE": "05.09"})),
        digest("j.tif", plane("uint16", grid=geobox(70, 90, 20.0))),
        digest("k.tif", plane("int16"), data=values.view(np.int16)),
        digest("l.tif", plane("uint16", grid=None)),
    ]
    assert len({first, *others}) == 10
    assert digest("m.tif", plane("uint16", tags=plane("uint16").tags | {"TIFFTAG_DATETIME": "2020:01:01 00:00:00"})) == first


@pytest.mark.parametrize("factor", [1, 2, 3, 6])
def test_native_windows_of_neighbours_meet(factor):
    left, right = native_window(Window(12, 0, 13, 24), factor), native_window(Window(12, 24, 13, 7), factor)
    assert left.col + left.width == right.col
    assert left.row == 12 // factor and left.row + left.height == -(-25 // factor)
