"""One patch file of a benchmark -> pixels in physical units, with every way in which it can be broken said in words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unclouded import raster
from unclouded.bands import L1C
from unclouded.errors import InputCorrupt, InputMissing, InputsContradict, InputUnsupported
from unclouded.sample import Level

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox


COUNTS = np.float32(10_000)  # per reflectance of 1.0; no offset


class Pixels(NamedTuple):
    """Values (..., C, H, W) in physical units and where they were measured (..., H, W)."""

    values: NDArray[np.float32]
    valid: NDArray[np.bool_]


def describe(root: Path, bands: Sequence[str], level: Level) -> None:
    """Write down, in `dataset.json`, which bands the images of a data root have, in order, and their level."""
    (root / "dataset.json").write_text(json.dumps({"bands": list(bands), "level": level}) + "\n", encoding="utf-8")


def described(root: Path, bands: Sequence[str] | None, level: Level | None) -> tuple[tuple[str, ...], Level]:
    """Stored bands and level of a data root: as given, else as `dataset.json` says, else all 13 of L1C as officially.

    Raises InputCorrupt for a `dataset.json` that makes no sense.
    """
    path = root / "dataset.json"
    if not path.is_file():
        return tuple(bands or L1C), level or "L1C"
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        stored, of_level = tuple(said["bands"]), said["level"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputCorrupt("dataset.json cannot be understood.", where=path, why=str(error), do="build it again.") from error
    if not stored or not set(stored) <= set(L1C) or of_level not in ("L1C", "L2A"):
        raise InputCorrupt("dataset.json names no known bands or level.", where=path, why=f"it says {stored}, {of_level}.")
    return tuple(bands or stored), level or of_level


def read_s2(path: Path, stored: Sequence[str], bands: Sequence[str]) -> tuple[Pixels, GeoBox | None]:
    """Counts without offset -> reflectance of `bands` out of the `stored` ones; nothing was measured where all bands are 0.

    Raises InputMissing, InputCorrupt, InputUnsupported (a band that is not stored).
    """
    pixels, grid = read_images(path.name, [path], stored, bands)
    return Pixels(pixels.values[0], pixels.valid[0]), grid


def read_images(name: str, paths: Sequence[Path], stored: Sequence[str], bands: Sequence[str]) -> tuple[Pixels, GeoBox | None]:
    """The same for N images of one place: values (N, C, H, W) in one piece of memory, valid (N, H, W), and their grid.

    Raises InputsContradict besides, where they do not lie on one grid.
    """
    missing = [b for b in bands if b not in stored]
    if missing:
        raise InputUnsupported(
            f"The data set has no band {', '.join(missing)}.", where=paths[0], do=f"it has {', '.join(stored)}."
        )
    at = slice(None) if tuple(bands) == tuple(stored) else [stored.index(b) for b in bands]
    first, grid = _read(paths[0], len(stored), "integer")
    values = np.empty((len(paths), len(bands), *first.shape[1:]), np.float32)
    valid = np.empty((len(paths), *first.shape[1:]), bool)
    for k, path in enumerate(paths):
        counts, own = (first, grid) if k == 0 else _read(path, len(stored), "integer")
        check_same_ground(name, (grid, own))
        if counts.shape != first.shape:
            raise InputCorrupt(f"{path.name} has {counts.shape[1:]} pixels; {paths[0].name} has {first.shape[1:]}.", where=path)
        np.divide(counts[at], COUNTS, out=values[k])
        valid[k] = _anywhere(counts)
    return Pixels(values, valid), grid


def read_s1(path: Path) -> tuple[Pixels, GeoBox | None]:
    """sigma0 in dB, VV and VH. Raises InputMissing, InputCorrupt."""
    stored, grid = _read(path, 2, "real")
    db = stored.astype(np.float32, copy=False)
    finite = np.isfinite(db)
    if finite.all():
        return Pixels(db, np.ones(db.shape[1:], bool)), grid
    return Pixels(np.where(finite, db, np.float32(0)), np.asarray(finite.all(0))), grid


def _anywhere(counts: NDArray[Any]) -> NDArray[np.bool_]:
    """(H, W): some band is not 0. The first band alone settles nearly every patch."""
    valid = np.asarray(counts[0] != 0)
    return valid if valid.all() else np.asarray(counts.any(0))


def _read(path: Path, count: int, kind: str) -> tuple[NDArray[Any], GeoBox | None]:
    try:
        dataset = raster.open_raster(path)
    except InputMissing as error:
        raise InputMissing(
            f"The patch {path.name} is not there.", where=path, why="its partners of the same number are.",
            do="download the missing sensor, or leave it out (s1=False).",
        ) from error  # fmt: skip
    with dataset:
        if dataset.count != count or (np.dtype(dataset.dtypes[0]).kind == "f") != (kind == "real"):
            raise InputCorrupt(
                f"{path.name} has {dataset.count} bands of {dataset.dtypes[0]}.", where=path,
                why=f"expected {count} bands of {kind} numbers.", do="download the file again.",
            )  # fmt: skip
        return raster.read(dataset, range(1, count + 1)), raster.grid_of(dataset)


def check_same_ground(name: str, grids: Sequence[GeoBox | None]) -> None:
    """Refuse partners that do not lie on one grid (a hundredth of a pixel is forgiven). Raises InputsContradict."""
    first = grids[0]
    for other in grids[1:]:
        if (first is None) != (other is None):
            raise InputsContradict(f"Some files of {name} have a coordinate reference system and others do not.")
        if first is None or other is None:
            continue
        step = max(abs(a - b) for a, b in zip(first.affine[:6], other.affine[:6], strict=True))
        if first.crs != other.crs or first.shape != other.shape or step > 0.01 * abs(first.affine.a):
            raise InputsContradict(
                f"The files of {name} do not show the same ground.", why=f"{first.crs} {first.boundingbox.bbox} against "
                f"{other.crs} {other.boundingbox.bbox}.", do="download the patch again.",
            )  # fmt: skip
