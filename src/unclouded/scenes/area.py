"""Which part of the images is wanted: a polygon or a box -> a window, snapped outwards to whole coarse pixels."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unclouded.errors import InputCorrupt, InputMissing, InputsContradict, InputUnsupported, UsageError
from unclouded.sample import Window

if TYPE_CHECKING:
    from odc.geo.crs import CRS
    from odc.geo.geobox import GeoBox
    from odc.geo.geom import Geometry

MAX_AREA_FILE = 64 * 2**20
DEGREES = "EPSG:4326"
_GEOMETRIES = ("POINT", "LINESTRING", "POLYGON", "MULTI", "GEOMETRYCOLLECTION")


def geometry(aoi: str | PathLike[str] | None, bbox: Sequence[float | str] | None) -> Geometry | None:
    """The area asked for, with its CRS (longitude and latitude unless it says otherwise); None for everything.

    Raises UsageError (no box, both given, coordinates beyond the globe), InputMissing, InputCorrupt (neither GeoJSON nor WKT),
    InputUnsupported (empty, too large a file, unknown CRS).
    """
    if aoi is not None and bbox is not None:
        raise UsageError("--aoi and --bbox exclude each other.")
    if bbox is not None:
        return _box(bbox)
    return None if aoi is None else _read(aoi)


def area_note(aoi: str | PathLike[str] | None, bbox: Sequence[float | str] | None) -> str | None:
    """What is recorded of the area asked for: enough to tell another one; None for everything. Raises as `geometry` does."""
    shape = geometry(aoi, bbox)
    if shape is None:
        return None
    return f"{shape.geom_type}, SHA-256 {hashlib.sha256(f'{shape.crs} {shape.wkt}'.encode()).hexdigest()[:16]}"


def _box(bbox: Sequence[float | str]) -> Geometry:
    from odc.geo import geom

    crs = str(bbox[4]) if len(bbox) == 5 else DEGREES
    left, bottom, right, top = (float(v) for v in bbox[:4]) if len(bbox) in (4, 5) else (math.nan,) * 4
    degrees = crs == DEGREES and not (min(left + 180, 180 - right) >= 0 and min(bottom + 90, 90 - top) >= 0)
    if not all(map(math.isfinite, (left, bottom, right, top))) or left >= right or bottom >= top or degrees:
        raise UsageError(
            f"--bbox {','.join(map(str, bbox))} is not a box.", why="expected west,south,east,north in degrees "
            "(or in the units of a CRS given as fifth part, EPSG:n), west < east and south < north.",
        )  # fmt: skip
    return geom.box(left, bottom, right, top, crs=_crs(crs, "--bbox"))


def _read(aoi: str | PathLike[str]) -> Geometry:
    text = str(aoi).strip()
    where = "--aoi"
    if not text.startswith("{") and not text.upper().startswith((*_GEOMETRIES, "SRID=")):
        file = Path(text)
        where = str(file)
        if not file.is_file():
            raise InputMissing(f"There is no file {text}.", do="give --aoi a GeoJSON or WKT file, or the text itself.")
        if file.stat().st_size > MAX_AREA_FILE:
            raise InputUnsupported(f"{file.name} is larger than {MAX_AREA_FILE >> 20} MiB.", where=file)
        text = file.read_text("utf-8-sig", errors="replace").strip()
    shape = _from_json(text, where) if text.startswith("{") else _from_wkt(text, where)
    if shape.is_empty:
        raise InputUnsupported("The area of interest is empty.", where=where)
    box = shape.boundingbox
    if shape.crs == DEGREES and (max(-box.bottom, box.top) > 90 or max(-box.left, box.right) > 360):
        raise UsageError(
            "The area of interest reaches beyond the globe.", where=where,
            why=f"it covers {box.left:.6g}..{box.right:.6g} degrees of longitude, {box.bottom:.6g}..{box.top:.6g} of latitude.",
            do="give longitude, latitude, or the CRS of other coordinates: SRID=32631;POLYGON(...), or 'crs' in GeoJSON.",
        )  # fmt: skip
    return shape


def _crs(text: str, where: str) -> CRS:
    """Raises InputUnsupported for a name that PROJ does not know."""
    from odc.geo.crs import CRS
    from pyproj.exceptions import CRSError

    try:
        return CRS(text)
    except CRSError as error:
        raise InputUnsupported(
            f"The area's coordinate reference system '{text[:80]}' is not known.", where=where, do="name one as EPSG:n."
        ) from error


def _from_json(text: str, where: str) -> Geometry:
    from odc.geo import geom
    from shapely import force_2d  # type: ignore[import-untyped]
    from shapely.errors import ShapelyError  # type: ignore[import-untyped]
    from shapely.geometry import shape  # type: ignore[import-untyped]

    try:
        found = json.loads(text)
        named = (found.get("crs") or {}).get("properties", {}).get("name", "")
        crs = DEGREES if not named or "CRS84" in named else "EPSG:" + named.rsplit(":", 1)[-1]
        shapes = [force_2d(shape(part)) for part in _geometries(found)]
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, ShapelyError) as error:
        raise InputCorrupt("The area of interest is not GeoJSON.", where=where, why=str(error)[:200]) from error
    if not shapes:
        raise InputUnsupported("The area of interest is empty.", where=where, why="no feature of it has a geometry.")
    known = _crs(crs, where)
    whole = geom.unary_union([geom.Geometry(part, known) for part in shapes])
    assert whole is not None  # it is for no shapes at all only
    return whole


def _geometries(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The geometries of GeoJSON; a feature may have none ("geometry": null) and is passed over."""
    shapes = [f["geometry"] for f in found["features"]] if "features" in found else [found.get("geometry", found)]
    return [shape for shape in shapes if shape is not None]


def _from_wkt(text: str, where: str) -> Geometry:
    from odc.geo import geom
    from shapely import force_2d, wkt
    from shapely.errors import ShapelyError

    head, _, body = text.partition(";")
    crs, plain = (f"EPSG:{head[5:].strip()}", body) if head.upper().startswith("SRID=") else (DEGREES, text)
    known = _crs(crs, where)
    try:
        return geom.Geometry(force_2d(wkt.loads(plain)), known)
    except (ShapelyError, ValueError) as error:
        raise InputCorrupt("The area of interest is not WKT.", where=where, why=str(error)[:200]) from error


def outline_of(shape: Geometry | None, grid: GeoBox | None) -> Geometry | None:
    """The area in the grid's CRS, where it is more than the box around it; None where the window says it all."""
    if shape is None or grid is None or grid.crs is None or shape.geom_type == "Point":
        return None
    return shape.to_crs(grid.crs, resolution=math.inf)


def inside(outline: Geometry, grid: GeoBox) -> NDArray[np.bool_]:
    """The pixels (h, w) of a grid that an area in its CRS touches."""
    from rasterio.features import rasterize

    touched = rasterize(
        [(outline.geom, 1)], out_shape=grid.shape, transform=grid.affine, fill=0, dtype="uint8", all_touched=True
    )
    return touched.astype(bool)


def outline_note(outline: Geometry) -> str:
    """What is recorded of an outline: enough to tell another one."""
    digest = hashlib.sha256(outline.wkt.encode()).hexdigest()[:16]
    return f"{outline.geom_type}, SHA-256 {digest}; pixels it does not touch have no data"


def window_of(shape: Geometry, grid: GeoBox | None, size: tuple[int, int], step: int) -> Window:
    """The window of `grid` that holds the area, grown outwards to multiples of `step` pixels and cut to the image.

    Raises InputUnsupported without coordinates, InputsContradict where the area lies elsewhere.
    """
    if grid is None or grid.crs is None:
        raise InputUnsupported("An area cannot be cut out of images without coordinates.", do="leave --aoi and --bbox out.")
    box, a = shape.to_crs(grid.crs, resolution=math.inf).boundingbox, grid.affine
    if not all(map(math.isfinite, box.bbox)):
        raise InputsContradict(
            "The area of interest lies outside the images.", why=f"it is so far off that it has no coordinates in {grid.crs}.",
            do="check the order: west,south,east,north in degrees, or give the CRS.",
        )  # fmt: skip
    top, bottom = _outwards((box.top - a.f) / a.e, (box.bottom - a.f) / a.e, step)
    left, right = _outwards((box.left - a.c) / a.a, (box.right - a.c) / a.a, step)
    row, col, end_row, end_col = max(top, 0), max(left, 0), min(bottom, size[0]), min(right, size[1])
    if row >= end_row or col >= end_col:
        raise InputsContradict(
            "The area of interest lies outside the images.",
            why=f"it covers x {box.left:.6g}..{box.right:.6g}, y {box.bottom:.6g}..{box.top:.6g} in {grid.crs}.",
            do="check the order: west,south,east,north in degrees, or give the CRS.",
        )  # fmt: skip
    return Window(row, col, end_row - row, end_col - col)


def _outwards(low: float, high: float, step: int) -> tuple[int, int]:
    """To whole steps, forgiving a millionth of a pixel."""
    first = math.floor(low / step + 1e-6) * step
    return first, max(math.ceil(high / step - 1e-6) * step, first + step)
