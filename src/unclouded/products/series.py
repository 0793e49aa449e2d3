"""All dates as one Zarr v3 group: finished products, date by date and strip by strip, into arrays (time, band, y, x).

Chunks lie in files of their own (no shards), each with a checksum, and empty ones are written too, so that a missing chunk is
always an error. The group is built beside its place and put there by one rename.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import unclouded
from unclouded.errors import InputUnsupported, UsageError
from unclouded.products.journal import disk_errors, sync_folder
from unclouded.products.product import Product
from unclouded.raster import open_raster, read
from unclouded.sample import Window

CHUNK = 512  # pixels a side
RASTERS = ("source", "mask", "sigma", "age")


def write_zarr(products: Sequence[Product], path: Path, *, overwrite: bool = False) -> Path:
    """Products of one place -> a Zarr v3 group at `path`, with one array per kind of raster, counts as in the COGs.

    Needs zarr (pip install 'unclouded[zarr]'). Raises UsageError (no products, no zarr, something is there already),
    InputUnsupported where the dates are stored differently, OutputFailed.
    """
    check_zarr(path, overwrite=overwrite)
    import zarr

    if not products:
        raise UsageError("There is no product to write to Zarr.")
    ordered = sorted(products, key=lambda product: product.date)
    staging = path.with_name(path.name + ".staging")
    with disk_errors(path):
        shutil.rmtree(staging, ignore_errors=True)
        group = zarr.open_group(str(staging), mode="w", zarr_format=3, attributes=_about(ordered))
        days = np.array([np.datetime64(product.date, "D") for product in ordered]).astype(np.int64)
        _coordinate(group, "time", days, {"units": "days since 1970-01-01", "calendar": "proleptic_gregorian"})
        for name in _names(ordered[0]):
            _stack(group, name, ordered)
        shutil.rmtree(path, ignore_errors=True)
        os.rename(staging, path)
        sync_folder(path.absolute().parent)
    return path


def check_zarr(path: Path, *, overwrite: bool = False) -> None:
    """Whether `write_zarr` may write there, before the work that its products take. Only a group of ours is replaced.

    Raises UsageError.
    """
    if find_spec("zarr") is None:
        raise UsageError("zarr is not installed.", do="pip install 'unclouded[zarr]'.")
    if not path.exists():
        return
    if not overwrite:
        raise UsageError("There is something of this name already.", where=path, do="use --overwrite to replace it.")
    try:
        ours = "unclouded" in json.loads((path / "zarr.json").read_text())["attributes"]
    except (OSError, ValueError, KeyError, TypeError):
        ours = False
    if not ours:
        raise UsageError("What is here was not written by unclouded and stays.", where=path, do="choose another name.")


def _names(product: Product) -> list[str]:
    return [name for name in product.files if name.startswith("clear")] + list(RASTERS)


def _about(products: Sequence[Product]) -> dict[str, Any]:
    return {
        "unclouded": unclouded.__version__,
        "products": [{"date": str(p.date), "id": p.id, "digest": p.manifest["digest"]} for p in products],
    }


def _stack(group: Any, name: str, products: Sequence[Product]) -> None:
    """One raster of every product as an array (time, band, y, x)."""
    first = _header(products[0], name)
    for product in products[1:]:
        if name not in product.files or repr(_header(product, name)) != repr(first):  # NaN is not equal to itself
            raise InputUnsupported(
                f"The dates cannot be one array: {name} of {product.date} is stored otherwise than that of {products[0].date}.",
                why="type, nodata, scale, bands or grid differ.", do="keep the COGs, or write such dates apart.",
            )  # fmt: skip
    from zarr.codecs import ZstdCodec

    bands, height, width = first["shape"]
    suffix = _grid(group, name, first)
    empty = np.dtype(first["dtype"]).type(first["nodata"] or 0)
    array = group.create_array(
        name, shape=(len(products), bands, height, width), chunks=(1, 1, min(CHUNK, height), min(CHUNK, width)),
        dtype=first["dtype"], fill_value=empty, compressors=ZstdCodec(level=3, checksum=True),
        dimension_names=("time", f"band_{name}", f"y{suffix}", f"x{suffix}"), config={"write_empty_chunks": True},
        attributes={key: first[key] for key in ("bands", "crs", "transform", "scales", "offsets", "nodata")},
    )  # fmt: skip
    for t, product in enumerate(products):
        with open_raster(product.files[name]) as source:
            for row in range(0, height, CHUNK):
                strip = Window(row, 0, min(CHUNK, height - row), width)
                array[t, :, row : row + strip.height] = read(source, source.indexes, strip)


def _grid(group: Any, name: str, header: dict[str, Any]) -> str:
    """Which coordinates a raster has: "" those of the scene, else the suffix of its resolution. Made where they are new."""
    _, height, width = header["shape"]
    a, _, c, _, e, f = header["transform"]
    suffix = name.removeprefix("clear") if name.startswith("clear") else ""
    if f"y{suffix}" not in group:
        _coordinate(group, f"y{suffix}", f + e * (np.arange(height) + 0.5), {"crs": header["crs"]})
        _coordinate(group, f"x{suffix}", c + a * (np.arange(width) + 0.5), {"crs": header["crs"]})
    return suffix


def _coordinate(group: Any, name: str, values: np.ndarray[Any, Any], attributes: dict[str, Any]) -> None:
    array = group.create_array(
        name, shape=values.shape, dtype=values.dtype, chunks=values.shape, dimension_names=(name,), attributes=attributes,
        config={"write_empty_chunks": True},
    )  # fmt: skip
    array[:] = values


def _header(product: Product, name: str) -> dict[str, Any]:
    with open_raster(product.files[name]) as source:
        return {
            "shape": [source.count, *source.shape], "dtype": source.dtypes[0], "nodata": source.nodata,
            "bands": list(source.descriptions), "scales": list(source.scales), "offsets": list(source.offsets),
            "crs": source.crs.to_wkt() if source.crs else None, "transform": list(source.transform[:6]),
        }  # fmt: skip
