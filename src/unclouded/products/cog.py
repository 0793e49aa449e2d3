"""Planes of pixels -> Cloud Optimized GeoTIFF through GDAL's own COG driver, and the digest that says what a raster holds.

The driver copies from an existing raster, so a plane is streamed window by window into a temporary tiled GeoTIFF first: no more
than one window is ever in memory.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from unclouded.raster import LOCKS, create_raster, open_raster, read
from unclouded.sample import Window

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox
    from rasterio.io import DatasetReader, DatasetWriter

RGB = tuple[int, int, int]
SIDE = 512  # pixels: of a tile
STRIP = 512  # rows per read of a whole raster: a row of its tiles
LEVEL = 1  # of DEFLATE, for images: half the time of the usual 6, and files larger by one in a hundred
LEVEL_OF_MAPS = 2  # for what is one value over wide areas: half the time of 1 there, no more elsewhere, and smaller files
TIMESTAMPS = ("TIFFTAG_DATETIME",)


@dataclass(frozen=True, kw_only=True)
class Plane:
    """How one raster of the product looks. `factor` is its pixel size over the scene's; empty tuples mean "not set"."""

    name: str  # the file is ID_<name>.tif
    shape: tuple[int, int]
    grid: GeoBox | None
    dtype: str
    nodata: float | None
    descriptions: tuple[str, ...]  # one per band
    factor: int = 1
    scales: tuple[float, ...] = ()
    offsets: tuple[float, ...] = ()
    tags: dict[str, str] = field(default_factory=dict)
    classes: tuple[tuple[int, str, RGB], ...] = ()  # code, name, colour
    overviews: Literal["nearest", "average"] = "average"
    level: int = LEVEL_OF_MAPS  # of DEFLATE

    def window(self, scene: Window) -> Window:
        """A window of the scene in the pixels of this plane; partly covered coarse pixels at the scene's edge count in."""
        return native_window(scene, self.factor)

    def bytes(self, window: Window) -> int:
        """Uncompressed bytes of a scene window."""
        at = self.window(window)
        return len(self.descriptions) * at.height * at.width * np.dtype(self.dtype).itemsize


def native_window(scene: Window, factor: int) -> Window:
    """A scene window in pixels `factor` times as large: outwards to whole pixels."""
    row, col = scene.row // factor, scene.col // factor
    bottom, right = -(-(scene.row + scene.height) // factor), -(-(scene.col + scene.width) // factor)
    return Window(row, col, bottom - row, right - col)


def write_cog(
    path: Path,
    plane: Plane,
    pieces: Iterable[tuple[Window, NDArray[Any]]],
    *,
    compress: str = "DEFLATE",
    even: bool = False,
    threads: int = 1,
) -> None:
    """Write a COG from pieces (window in the plane's pixels, array (C, h, w)) that together cover it once.

    Keeps dtype, CRS, transform, nodata, scale, offset, band descriptions, tags and colours. The temporary raster lies beside
    `path` and is removed in any case; `even`: the plane is mostly one value over large areas, of which it then keeps runs.
    `threads` deflate, the same bytes with any number. More than one only in a process that is never forked: GDAL keeps them.
    Raises OSError where the disk does not take it.
    """
    from rasterio._err import CPLE_BaseError
    from rasterio.enums import Resampling
    from rasterio.env import Env
    from rasterio.errors import RasterioError
    from rasterio.shutil import copy

    flat = path.with_name(path.name + ".flat")
    try:
        runs = "packbits" if even else None
        with Env(**LOCKS, **({"COMPRESS_OVERVIEW": runs} if runs else {})), _create(flat, plane, runs) as target:
            for at, pixels in pieces:
                target.write(pixels, window=_rio(at))
            if levels := overview_levels(plane.shape):  # unpacked, each from the one before: sooner than in the driver
                target.build_overviews(levels, Resampling[plane.overviews])
        with open_raster(flat) as source, Env(**LOCKS):
            copy(
                source, path, driver="COG", compress=compress, level=plane.level, predictor="YES", blocksize=SIDE,
                bigtiff="IF_SAFER", overview_resampling=plane.overviews, resampling="nearest", statistics="NO",
                **({"num_threads": threads} if threads > 1 else {}),
            )  # fmt: skip
    except (RasterioError, CPLE_BaseError) as error:
        raise OSError(errno.ENOSPC if nearly_full(path.parent) else errno.EIO, str(error), str(path)) from error
    finally:
        flat.unlink(missing_ok=True)


def overview_levels(shape: tuple[int, int]) -> list[int]:
    """How many times smaller each overview is: halves until an image fits into one tile."""
    levels: list[int] = []
    while max(shape) > SIDE * 2 ** len(levels):
        levels.append(2 ** (len(levels) + 1))
    return levels


def nearly_full(where: Path) -> bool:
    """Whether less than a mebibyte is left: GDAL reports a full disk in many ways."""
    return shutil.disk_usage(where).free < 1 << 20


def _create(path: Path, plane: Plane, compress: str | None) -> DatasetWriter:
    height, width = plane.shape
    target = create_raster(
        path, height=height, width=width, count=len(plane.descriptions), dtype=plane.dtype, grid=plane.grid,
        nodata=plane.nodata, compress=compress,
    )  # fmt: skip
    target.descriptions = plane.descriptions
    if plane.scales:
        target.scales = plane.scales
    if plane.offsets:
        target.offsets = plane.offsets
    target.update_tags(**plane.tags)
    if plane.classes:
        target.write_colormap(1, {code: (*rgb, 255 if code else 0) for code, _, rgb in plane.classes})
        target.update_tags(1, **{f"class_{code}": name for code, name, _ in plane.classes})
    return target


def _rio(at: Window) -> Any:
    from rasterio.windows import Window as RioWindow

    return RioWindow(at.col, at.row, at.width, at.height)


def is_cog(path: Path) -> bool:
    """Whether GDAL sees the layout of a COG, tiled, with overviews where the image is larger than a tile."""
    with open_raster(path) as source:
        laid_out = source.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") == "COG"
        large = max(source.shape) > SIDE
        return laid_out and (not large or bool(source.overviews(1)))


def raster_digest(path: Path, *, look: Callable[[int, NDArray[Any]], None] | None = None) -> str:
    """SHA-256 over pixels, georeferencing and tags of a raster; timestamps, compression and tiling stay out.

    The same inputs and options give the same digest, however often the run was stopped. Reads `STRIP` rows at a time, which has
    no influence on the digest, and shows them to `look` (first row, pixels (C, rows, W)) in passing.
    """
    with open_raster(path) as source:
        bands = [hashlib.sha256() for _ in source.indexes]
        for row in range(0, source.height, STRIP):
            strip = read(source, source.indexes, Window(row, 0, min(STRIP, source.height - row), source.width))
            for sha, band in zip(bands, strip, strict=True):
                sha.update(band)
            if look is not None:
                look(row, strip)
        whole = hashlib.sha256(json.dumps(_header(source), sort_keys=True).encode())
    for sha in bands:
        whole.update(sha.digest())
    return whole.hexdigest()


def _header(source: DatasetReader) -> dict[str, Any]:
    """What a raster says about itself, as JSON, numbers to the last bit (repr)."""
    return {
        "shape": [source.count, *source.shape],
        "dtypes": source.dtypes,
        "crs": source.crs.to_wkt() if source.crs else None,
        "transform": [repr(float(v)) for v in source.transform[:6]],
        "nodata": repr(source.nodata),
        "scales": [repr(float(v)) for v in source.scales],
        "offsets": [repr(float(v)) for v in source.offsets],
        "descriptions": source.descriptions,
        "tags": {k: v for k, v in source.tags().items() if k not in TIMESTAMPS},
        "bands": [source.tags(b) for b in source.indexes],
        "colours": {str(code): rgba for code, rgba in source.colormap(1).items()} if _has_colours(source) else {},
    }


def _has_colours(source: DatasetReader) -> bool:
    from rasterio.enums import ColorInterp

    return source.colorinterp[0] is ColorInterp.palette
