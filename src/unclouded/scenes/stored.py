"""How images lie in files: which band where, on which grid, in which numbers. Records only; source.py reads by them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unclouded.raster import read
from unclouded.regrid import valid_where
from unclouded.sample import Level, Window

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox
    from rasterio.io import DatasetReader

Unit = Literal["db", "linear"]


class Pixels(NamedTuple):
    """One band of one raster: the path for the gateway and the 1-based band number."""

    path: str
    band: int


@dataclass(frozen=True, kw_only=True)
class StoredBands:
    """Bands of one date that share a grid and a way of storing numbers. reflectance = (DN + offset) / quantification.

    `more`: further rasters of the same bands on the same lattice (another part of the swath, the next tile), in order; what the
    first does not hold is taken from them. `grid` and `shape` are then those of all together.
    `blank`: of floats without a nodata value, all bands of the date, per raster; a pixel where each of them is exactly 0 was
    not measured. 0 in some of the bands is a value.
    """

    bands: tuple[str, ...]
    where: tuple[Pixels, ...]
    shape: tuple[int, int]
    grid: GeoBox | None
    dtype: str
    nodata: float | None  # as declared by the file
    missing: tuple[float, ...]  # DN that mean "not measured", declared or by convention
    quantification: float
    offset: tuple[float, ...]
    descriptions: tuple[str, ...] = ()
    scale_tags: tuple[float, ...] = ()
    offset_tags: tuple[float, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    more: tuple[tuple[Pixels, ...], ...] = ()
    blank: tuple[tuple[Pixels, ...], ...] = ()

    def only(self, bands: Sequence[str]) -> StoredBands | None:
        """The same with some of the bands, in the file's order; None if there are none of them."""
        keep = [n for n, band in enumerate(self.bands) if band in bands]
        if not keep:
            return None
        cut: dict[str, Any] = {
            name: tuple(values[n] for n in keep) if (values := getattr(self, name)) else ()
            for name in ("bands", "where", "offset", "descriptions", "scale_tags", "offset_tags")
        }
        return replace(self, **cut, more=tuple(tuple(where[n] for n in keep) for where in self.more))

    def shifted(self, offset: float) -> StoredBands:
        """The same with one offset for all bands."""
        return replace(self, offset=(float(offset),) * len(self.bands))


@dataclass(frozen=True, kw_only=True)
class StoredImage:
    """One Sentinel-2 date of one place in files."""

    date: np.datetime64
    name: str
    parts: tuple[StoredBands, ...]  # finest first
    level: Level | None = None
    level_evidence: str = ""
    offset_evidence: str = ""  # what the files say about the offset; "" if nothing
    offset_final: bool = False  # the metadata of a product: never overruled by looking at pixels
    baseline: str = ""
    scl: Pixels | None = None
    given: Pixels | None = None
    more_scl: tuple[Pixels, ...] = ()  # of the further parts of a mosaic
    more_given: tuple[Pixels, ...] = ()
    tile: str = ""
    files: tuple[str, ...] = ()
    verified: bool | None = None  # digests checked; None: the format carries none
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def bands(self) -> tuple[str, ...]:
        """Bands in the order of the files."""
        return tuple(band for part in self.parts for band in part.bands)

    @property
    def finest(self) -> StoredBands:
        """The part with the smallest pixels."""
        return self.parts[0]


@dataclass(frozen=True, kw_only=True)
class StoredRadar:
    """One Sentinel-1 acquisition in files."""

    date: np.datetime64
    time: str  # ISO time if known, else ""
    vv: Pixels
    vh: Pixels
    incidence: Pixels | float | None
    grid: GeoBox | None
    shape: tuple[int, int]
    unit: Unit
    unit_evidence: str
    calibration: Literal["sigma0", "gamma0"]
    missing: tuple[float, ...]
    orbit: int = -1
    direction: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """File name, for messages."""
        return Path(self.vv.path).name


def glimpses(shape: tuple[int, int], *, side: int = 64, per_axis: int = 3) -> list[Window]:
    """A few small windows spread over an image; the whole image if it is small."""
    if max(shape) <= side * per_axis:
        return [Window(0, 0, *shape)]
    rows, cols = ([round(f * max(n - side, 0)) for f in np.linspace(0.1, 0.9, per_axis)] for n in shape)
    return [Window(r, c, min(side, shape[0]), min(side, shape[1])) for r in sorted(set(rows)) for c in sorted(set(cols))]


def glimpse(dataset: DatasetReader, bands: Sequence[int], missing: Sequence[float], **how: int) -> list[NDArray[Any]]:
    """Valid values of a few small windows, one flat array per band: metadata checks must not decode an image."""
    pieces = [read(dataset, bands, at) for at in glimpses(dataset.shape, **how)]
    columns = [np.concatenate([piece[n].ravel() for piece in pieces]) for n in range(len(bands))]
    return [values[valid_where(values, missing)] for values in columns]
