"""All dates as one Zarr v3 group: the counts of the COGs, checksums, nothing half there."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from batch.fields import write_field
from unclouded.cli import app
from unclouded.errors import InputUnsupported, OutputFailed, UsageError
from unclouded.products import series as series_module
from unclouded.products.series import write_zarr
from unclouded.raster import create_raster, grid_of, open_raster
from unclouded.remove import remove_clouds

zarr = pytest.importorskip("zarr")


@pytest.fixture(scope="module")
def products(tmp_path_factory):
    home = tmp_path_factory.mktemp("zarr")
    return remove_clouds(write_field(home / "field"), home / "out", all_dates=True, model="linear", screen=False)


def test_arrays_hold_what_the_cogs_hold(tmp_path, products, monkeypatch):
    monkeypatch.setattr(series_module, "CHUNK", 32)
    group = zarr.open_group(str(write_zarr(products[::-1], tmp_path / "series.zarr")), mode="r")
    assert sorted(group.array_keys()) == ["age", "clear", "mask", "sigma", "source", "time", "x", "y"]
    for name in ("clear", "sigma", "source", "mask", "age"):
        for t, product in enumerate(products):
            with open_raster(product.files[name]) as file:
                assert np.array_equal(group[name][t], file.read()), (name, t)
    clear = group["clear"]
    assert clear.metadata.dimension_names == ("time", "band_clear", "y", "x") and clear.attrs["bands"] == ["B02", "B04", "B08"]
    assert clear.chunks == (1, 1, 32, 32) and clear.shards is None
    assert (group["time"][:] == [18262, 18267, 18272]).all() and group["time"].attrs["units"] == "days since 1970-01-01"
    assert (group["x"][0], group["x"][1], group["y"][0]) == (500_005, 500_015, 5_599_995)
    meta = json.loads((tmp_path / "series.zarr" / "clear" / "zarr.json").read_text())
    assert meta["zarr_format"] == 3 and {"name": "zstd", "configuration": {"level": 3, "checksum": True}} in meta["codecs"]
    chunks = [path for path in (tmp_path / "series.zarr" / "clear" / "c").rglob("*") if path.is_file()]
    assert len(chunks) == 3 * 3 * 2 * 3  # dates, bands, 60 rows, 66 columns: empty ones too


def test_a_flipped_bit_is_noticed(tmp_path, products):
    path = write_zarr(products, tmp_path / "series.zarr")
    chunk = path / "clear" / "c" / "0" / "0" / "0" / "0"
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 4
    chunk.write_bytes(data)
    with pytest.raises(RuntimeError, match=r"(?i)checksum|corrupt|decompress"):
        _ = zarr.open_group(str(path), mode="r")["clear"][0, 0]


def test_what_is_there_stays_and_what_fails_leaves_nothing(tmp_path, products, monkeypatch):
    path = write_zarr(products, tmp_path / "series.zarr")
    with pytest.raises(UsageError, match="already"):
        write_zarr(products, path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(series_module, "read", full)
    with pytest.raises(OutputFailed, match="disk is full"):
        write_zarr(products, path, overwrite=True)
    assert zarr.open_group(str(path), mode="r")["clear"].shape == (3, 3, 60, 66)
    with pytest.raises(UsageError, match="no product"):
        write_zarr([], tmp_path / "none.zarr")


def test_dates_that_are_stored_otherwise_are_refused(tmp_path, products):
    other = remove_clouds(
        write_field(tmp_path / "other", size=(60, 72)), tmp_path / "o", date="2020-01-01", model="linear", screen=False
    )
    with pytest.raises(InputUnsupported, match="stored otherwise"):
        write_zarr([*products[1:], other], tmp_path / "series.zarr")
    assert not (tmp_path / "series.zarr").exists()


def test_only_a_group_of_ours_is_replaced_and_that_is_said_before_the_work(tmp_path, products):
    series = write_field(tmp_path / "field")
    held = sorted(path for path in series.rglob("*") if path.is_file())
    for path in (series, tmp_path / "file.zarr"):
        (tmp_path / "file.zarr").write_text("mine")
        with pytest.raises(UsageError, match="not written by unclouded"):
            write_zarr(products, path, overwrite=True)
        done = CliRunner().invoke(
            app,
            ["remove", str(series), "--date", "2020-01-06", "-o", str(tmp_path / "out"), "--zarr", str(path), "--overwrite"],
        )
        assert isinstance(done.exception, UsageError) and not (tmp_path / "out").exists()
    assert sorted(path for path in series.rglob("*") if path.is_file()) == held
    ours = write_zarr(products, tmp_path / "ours.zarr")
    assert write_zarr(products[:1], ours, overwrite=True) == ours and zarr.open_group(str(ours), mode="r")["time"].shape == (1,)


def test_float_images_without_data_as_nan(tmp_path):
    series = write_field(tmp_path / "field")
    for path in series.rglob("s2.tif"):
        with open_raster(path) as file:
            counts, grid, names = file.read(), grid_of(file), file.descriptions
        values = counts / np.float32(10_000)
        values[:, :3] = np.nan
        with create_raster(path, height=60, width=66, count=3, dtype="float32", grid=grid, nodata=np.nan, descriptions=names,
                           tags={"PROCESSING_LEVEL": "L2A"}) as file:  # fmt: skip
            file.write(values.astype(np.float32))
    made = remove_clouds(series, tmp_path / "out", all_dates=True, model="linear", screen=False)
    clear = zarr.open_group(str(write_zarr(made, tmp_path / "s.zarr")), mode="r")["clear"]
    assert np.isnan(clear.fill_value) and np.isnan(clear[:, :, :3]).all()
    with open_raster(made[1].files["clear"]) as file:
        np.testing.assert_array_equal(clear[1], file.read())
