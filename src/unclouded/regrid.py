"""Rasters read onto another pixel grid: cut where both share a lattice, warped where they do not.

Validity is resampled apart from the values, so that missing pixels never bleed into measured ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from unclouded.errors import InputUnsupported
from unclouded.raster import LOCKS, grid_of, read_along
from unclouded.sample import Window

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox
    from rasterio.io import DatasetReader

Resampling = Literal["nearest", "bilinear"]
Prepare = Callable[[NDArray[Any], NDArray[np.bool_]], tuple[NDArray[Any], NDArray[np.bool_]]]
Empty = Callable[[NDArray[Any], Window], NDArray[np.bool_]]  # pixels (C, h, w) of a window of a raster -> not measured (h, w)


def lattice_step(source: GeoBox, target: GeoBox) -> tuple[int, int, int] | None:
    """How two grids on one lattice lie: (factor, row, col); None if they share none (1 % of a pixel is forgiven).

    A source pixel is `factor` x `factor` target pixels; the target begins at (row, col) of the source, in target pixels.
    """
    if source.crs != target.crs:
        return None
    a, b = source.affine, target.affine
    factor = round(a.a / b.a)
    row, col = (b.f - a.f) / b.e, (b.c - a.c) / b.a
    span = max(*target.shape, *source.shape)
    drift = max(abs(a.a / b.a - factor), abs(a.e / b.e - factor)) * span
    if factor < 1 or max(abs(row - round(row)), abs(col - round(col)), drift) > 0.01:
        return None
    return factor, round(row), round(col)


def read_onto(
    dataset: DatasetReader,
    bands: Sequence[int],
    target: GeoBox | Window,
    *,
    missing: Sequence[float] | None = (),
    resampling: Resampling = "nearest",
    prepare: Prepare | None = None,
    empty: Empty | None = None,
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Bands of a raster on a target grid: values (C, h, w) and validity (C, h, w). A Window reads the raster's own pixels.

    A value is valid if it is finite and none of `missing`; ground outside the raster is not. Grids that share a lattice are
    read without interpolation (coarser pixels repeated); others are warped, values and validity apart: 'bilinear' gives
    float32 from valid pixels only, valid where at least half of the weight is. Invalid values are 0; with `missing` None
    nothing is judged and values inside the raster are as stored. `prepare` turns stored pixels and their validity into
    those to be interpolated (decibel into power); it is called only where grids differ.
    Raises InputCorrupt, InputUnsupported (a raster without CRS onto a grid with one).
    """
    if isinstance(target, Window):
        return _shifted(dataset, bands, 1, target, missing, empty)
    source = grid_of(dataset)
    if source is None:
        raise InputUnsupported(
            f"{Path(dataset.name).name} has no coordinate reference system.", where=dataset.name,
            why="the other inputs have one, so it cannot be laid over them.", do="assign one: gdal_edit.py -a_srs EPSG:n FILE",
        )  # fmt: skip
    step = lattice_step(source, target)
    if step is not None:
        factor, row, col = step
        return _shifted(dataset, bands, factor, Window(row, col, *target.shape), missing, empty)
    return _warped(dataset, bands, source, target, missing or (), resampling, prepare, empty)


def valid_where(values: NDArray[Any], missing: Sequence[float]) -> NDArray[np.bool_]:
    """Which values are measured: finite and none of `missing`."""
    valid = np.isfinite(values) if values.dtype.kind == "f" else np.ones(values.shape, bool)
    for value in missing:
        if np.isfinite(value):
            valid &= values != value
    return valid


def _shifted(
    dataset: DatasetReader,
    bands: Sequence[int],
    factor: int,
    at: Window,
    missing: Sequence[float] | None,
    empty: Empty | None = None,
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """A window counted in pixels 1/factor the raster's size, which may reach outside the raster."""
    kind, shape = np.result_type(*dataset.dtypes), (len(bands), at.height, at.width)
    top, left = max(at.row, 0), max(at.col, 0)
    bottom = min(at.row + at.height, dataset.height * factor)
    right = min(at.col + at.width, dataset.width * factor)
    if top >= bottom or left >= right:
        return np.zeros(shape, kind), np.zeros(shape, bool)
    row, col = top // factor, left // factor
    own = Window(row, col, -(-bottom // factor) - row, -(-right // factor) - col)
    stored = read_along(dataset, bands, own)
    fine = stored if factor == 1 else stored.repeat(factor, 1).repeat(factor, 2)
    cut = slice(top - row * factor, bottom - row * factor), slice(left - col * factor, right - col * factor)
    part = fine[:, *cut]
    known = np.ones(part.shape, bool) if missing is None else valid_where(part, missing)
    if empty is not None and (lost := empty(stored, own)).any():
        known &= ~lost.repeat(factor, 0).repeat(factor, 1)[cut]
    if not known.all():
        part = np.where(known, part, part.dtype.type(0))
    if part.shape == shape:
        return part.astype(kind, copy=False), known
    values, valid = np.zeros(shape, kind), np.zeros(shape, bool)
    inside = (slice(None), slice(top - at.row, bottom - at.row), slice(left - at.col, right - at.col))
    values[inside], valid[inside] = part, known
    return values, valid


def _warped(
    dataset: DatasetReader,
    bands: Sequence[int],
    source: GeoBox,
    target: GeoBox,
    missing: Sequence[float],
    resampling: Resampling,
    prepare: Prepare | None,
    empty: Empty | None,
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    smooth = resampling == "bilinear"
    kind = np.dtype(np.float32) if smooth else np.result_type(*dataset.dtypes)
    values = np.zeros((len(bands), *target.shape), kind)
    valid = np.zeros(values.shape, bool)
    at = _needed(source, target)
    if at is None:
        return values, valid
    stored, known = _shifted(dataset, bands, 1, at, missing, empty)
    if prepare is not None:
        stored, known = prepare(stored, known)
    near = source[at.slices]
    scale = _scale(source, target)
    for n in range(len(bands)):
        weight = _reproject(known[n].astype(np.float32), near, target, resampling, scale)
        valid[n] = np.nan_to_num(weight) >= 0.5
        pixels = np.where(known[n], stored[n], np.nan) if smooth else stored[n]
        warped = _reproject(pixels.astype(kind, copy=False), near, target, resampling, scale)
        if smooth:
            valid[n] &= np.isfinite(warped)
        values[n] = np.where(valid[n], warped, 0)
    return values, valid


def _reproject(
    pixels: NDArray[Any], source: GeoBox, target: GeoBox, resampling: Resampling, scale: tuple[float, float]
) -> NDArray[Any]:
    from rasterio.env import Env
    from rasterio.warp import Resampling as Method
    from rasterio.warp import reproject

    smooth = pixels.dtype.kind == "f"
    out = np.full(target.shape, np.nan if smooth else 0, pixels.dtype)
    with Env(**LOCKS):
        reproject(
            pixels, out, src_transform=source.affine, src_crs=str(source.crs), dst_transform=target.affine,
            dst_crs=str(target.crs), src_nodata=np.nan if smooth else None, dst_nodata=np.nan if smooth else None,
            resampling=Method[resampling], num_threads=1, tolerance=0, init_dest_nodata=smooth,
            XSCALE=str(scale[0]), YSCALE=str(scale[1]),  # else guessed from the window, and windows would not agree
        )  # fmt: skip
    return out


def _needed(source: GeoBox, target: GeoBox) -> Window | None:
    """The part of the source that bears on the target, with a margin for the kernel; None if they do not meet."""
    assert source.crs is not None
    box, a = target.boundingbox.to_crs(source.crs), source.affine
    left, right = (box.left - a.c) / a.a, (box.right - a.c) / a.a
    top, bottom = (box.top - a.f) / a.e, (box.bottom - a.f) / a.e
    margin = 4 + math.ceil(2 / min(_scale(source, target)))
    whole = Window(0, 0, *source.shape)
    row, col = max(math.floor(top) - margin, 0), max(math.floor(left) - margin, 0)
    end_row, end_col = min(math.ceil(bottom) + margin, whole.height), min(math.ceil(right) + margin, whole.width)
    return Window(row, col, end_row - row, end_col - col) if end_row > row and end_col > col else None


def _scale(source: GeoBox, target: GeoBox) -> tuple[float, float]:
    """Source pixel size in target pixels (x, y), at most 1; taken at the source's centre, so the same for every window."""
    from rasterio.warp import transform

    height, width = source.shape
    a = source.affine
    x, y = a.c + a.a * width / 2, a.f + a.e * height / 2
    xs, ys = transform(str(source.crs), str(target.crs), [x, x + a.a, x], [y, y, y + a.e])
    cols, rows = np.array(xs) / target.affine.a, np.array(ys) / target.affine.e
    across = float(np.hypot(cols[1] - cols[0], rows[1] - rows[0]))
    down = float(np.hypot(cols[2] - cols[0], rows[2] - rows[0]))
    return (across if across < 0.95 else 1.0), (down if down < 0.95 else 1.0)
