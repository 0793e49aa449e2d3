"""FileSource: pixels of a scene from files, window by window. Picklable; rasters are opened where and when they are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unclouded.raster import grid_of, opened
from unclouded.regrid import Empty, lattice_step, read_onto, valid_where
from unclouded.sample import Window
from unclouded.scenes.area import inside
from unclouded.scenes.scene import Layer, Picked, PixelSource
from unclouded.scenes.stored import Pixels, StoredBands, StoredImage, StoredRadar
from unclouded.units import DB_FLOOR, db_to_power, gamma0_to_sigma0, power_to_db, to_counts, to_reflectance

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox
    from odc.geo.geom import Geometry
    from rasterio.io import DatasetReader

Target = Any  # GeoBox | Window


@dataclass(frozen=True, kw_only=True)
class FileSource:
    """A PixelSource over stored images. `grid` (None: pixels only) and `corner` are the scene's, in pixels of the images."""

    bands: tuple[str, ...]
    shape: tuple[int, int]
    grid: GeoBox | None
    corner: tuple[int, int]  # where the scene begins in an image without CRS
    images: tuple[StoredImage, ...]
    radars: tuple[StoredRadar, ...] = ()
    outline: Geometry | None = None  # of the area wanted, in the CRS of the grid: beyond it nothing counts as measured

    def only(self, bands: tuple[str, ...]) -> PixelSource:
        """The same with fewer bands, the others unread. Without coordinates sizes are told from all bands: they stay."""
        if self.grid is None:
            return Picked(self, tuple(self.bands.index(band) for band in bands))
        parts = [tuple(cut_ for part in image.parts if (cut_ := part.only(bands)) is not None) for image in self.images]
        images = tuple(replace(image, parts=some) for image, some in zip(self.images, parts, strict=True))
        return replace(self, bands=bands, images=images)

    def s2(self, i: int, window: Window) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Reflectance (C, h, w) and validity (h, w); see PixelSource."""
        out = np.zeros((len(self.bands), window.height, window.width), np.float32)
        valid: NDArray[np.bool_] = np.ones((window.height, window.width), bool)
        for part in self.images[i].parts:
            dn, known = self._on_scene(part, window)
            reflectance, _ = to_reflectance(dn, quantification=part.quantification, offset=part.offset, nodata=None)
            whole = bool(known.all())
            for n, band in enumerate(part.bands):
                out[self.bands.index(band)] = reflectance[n] if whole else np.where(known[n], reflectance[n], 0)
            if not whole:
                valid[~known.all(axis=0)] = False
        if self.outline is not None and self.grid is not None:
            valid &= inside(self.outline, cut(self.grid, window))
        return out, valid

    def s1(self, k: int, window: Window) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """sigma0 dB (2, h, w) [VV, VH] and validity (h, w); radar on another lattice is interpolated as power."""
        radar, target = self.radars[k], self._target(window)
        if radar.grid is None or lattice_step(radar.grid, target) is not None:
            stored, known = _gather((radar.vv, radar.vh), target, radar.missing)
            db, valid = backscatter_db(stored, known, radar)
        else:
            power, known = _gather((radar.vv, radar.vh), target, radar.missing, "bilinear", radar)
            db, positive = power_to_db(power)
            valid = np.asarray((known & positive).all(0))
        if radar.calibration == "gamma0" and radar.incidence is not None:
            db, valid = self._to_sigma0(db, valid, radar.incidence, target)
        return np.where(valid, db, np.float32(0)), valid

    def _to_sigma0(
        self, db: NDArray[np.float32], valid: NDArray[np.bool_], incidence: Pixels | float, target: Target
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        if not isinstance(incidence, Pixels):
            return gamma0_to_sigma0(db, incidence), valid
        angle, known = _gather((incidence,), target, (0.0,), "bilinear")
        valid = valid & known[0] & (angle[0] < 89)
        return gamma0_to_sigma0(db, np.where(valid, angle[0], 0)), valid

    def scl(self, i: int, window: Window) -> NDArray[np.uint8] | None:
        """Sen2Cor classes (h, w), nearest; None if the date has none."""
        image, target = self.images[i], self._target(window)
        if image.scl is None:
            return None
        classes: NDArray[Any] = np.zeros((window.height, window.width), np.uint8)
        for where in (image.scl, *image.more_scl):
            found, known = _gather((where,), target, ())
            classes = np.where((classes == 0) & known[0], found[0], classes)
        return classes.astype(np.uint8)

    def given(self, i: int, window: Window) -> NDArray[np.float32] | None:
        """Values of the mask file (h, w), NaN outside it; None if the date has none."""
        image, target = self.images[i], self._target(window)
        if image.given is None:
            return None
        values: NDArray[Any] = np.full((window.height, window.width), np.nan, np.float32)
        for where in (image.given, *image.more_given):
            nodata = opened(where.path).nodata
            found, known = _gather((where,), target, () if nodata in (None, 0) else (nodata,))
            values = np.where(np.isnan(values) & known[0], found[0], values)
        return values.astype(np.float32)

    def layers(self, i: int) -> tuple[Layer, ...]:
        """How date i is stored, cut to the scene. A date on another lattice is one layer of warped bands on the scene grid."""
        parts = self.images[i].parts
        if self.warps(i):
            return (self._warped_layer(self.images[i]),)
        return tuple(self._layer(part, self._factor(part) or 1, len(parts) > 1) for part in parts)

    def warps(self, i: int) -> bool:
        """Whether date i lies on another lattice than the scene, so that its counts are interpolated."""
        return any(self._factor(part) is None for part in self.images[i].parts)

    def counts(self, i: int, layer: Layer, window: Window) -> NDArray[Any]:
        """Raw DN (C, h, w) of a layer in its own pixels; outside the file nodata (or 0)."""
        parts = self.images[i].parts
        part = next((p for p in parts if p.bands == layer.bands and self._factor(p) is not None), None)
        if part is None:
            return self._warped_counts(i, layer, window)
        if layer.grid is None:
            row, col = self.corner
            target: Target = Window(row // layer.factor + window.row, col // layer.factor + window.col, *window[2:])
        else:
            target = cut(layer.grid, window)
        dn, within = _gather(part.where, target, None)
        known = within & _measured(part, 0, dn, target) if part.more else within
        for n, where in enumerate(part.more, 1):
            if known.all():
                break
            other, beneath = _gather(where, target, None)
            seen = beneath & _measured(part, n, other, target)
            there = _fuller(seen, known)
            dn, within, known = (np.where(there, a, b) for a, b in ((other, dn), (beneath, within), (seen, known)))
        if not part.nodata or within.all():
            return dn
        return np.where(within, dn, np.asarray(part.nodata, dn.dtype))

    def _factor(self, part: StoredBands) -> int | None:
        """Native pixel size over the scene's; None if the part lies on another lattice or begins inside a coarse pixel."""
        if part.grid is None or self.grid is None:
            finest = max(p.shape[0] for image in self.images for p in image.parts)
            return max(round(finest / part.shape[0]), 1)
        step = lattice_step(part.grid, self.grid)
        if step is None or step[1] % step[0] or step[2] % step[0]:
            return None
        return step[0]

    def _layer(self, part: StoredBands, factor: int, several: bool) -> Layer:
        height, width = (-(-n // factor) for n in self.shape)
        grid = None
        if self.grid is not None and part.grid is not None:
            step = lattice_step(part.grid, self.grid)
            assert step is not None
            grid = cut(part.grid, Window(step[1] // factor, step[2] // factor, height, width))
        return Layer(
            name=layer_name(part) if several else "", bands=part.bands, shape=(height, width), grid=grid, dtype=part.dtype,
            nodata=part.nodata, quantification=part.quantification, offset=part.offset, factor=factor,
            descriptions=part.descriptions or part.bands, scale_tags=part.scale_tags, offset_tags=part.offset_tags,
            tags=dict(part.tags),
        )  # fmt: skip

    def _warped_layer(self, image: StoredImage) -> Layer:
        first = image.finest

        def per_band(name: str) -> tuple[float, ...]:
            """A tuple of numbers of every part, in the order of the scene's bands; () where a part has none."""
            told = {b: v for part in image.parts for b, v in zip(part.bands, getattr(part, name), strict=False)}
            return tuple(told[band] for band in self.bands) if told.keys() >= set(self.bands) else ()

        return Layer(
            name="", bands=self.bands, shape=self.shape, grid=self.grid, dtype=first.dtype,
            nodata=0.0 if first.nodata is None else first.nodata, quantification=first.quantification,
            offset=per_band("offset"), descriptions=self.bands, scale_tags=per_band("scale_tags"),
            offset_tags=per_band("offset_tags"), tags=dict(first.tags),
        )  # fmt: skip

    def _warped_counts(self, i: int, layer: Layer, window: Window) -> NDArray[Any]:
        reflectance, valid = self.s2(i, window)
        dn = to_counts(reflectance, dtype=np.dtype(layer.dtype), quantification=layer.quantification, offset=layer.offset,
                       nodata=layer.nodata)  # fmt: skip
        return np.where(valid, dn, np.asarray(layer.nodata, dn.dtype))

    def _on_scene(self, part: StoredBands, window: Window) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        if part.grid is not None and self.grid is not None:
            target = self._target(window)
            dn, known = _gather(part.where, target, part.missing, "bilinear", blank=_blank(part, 0))
            for n, where in enumerate(part.more, 1):
                if known.all():
                    break
                other, seen = _gather(where, target, part.missing, "bilinear", blank=_blank(part, n))
                there = _fuller(seen, known)
                dn, known = np.where(there, other, dn), np.where(there, seen, known)
            return dn, known
        factor = self._factor(part) or 1
        if factor == 1:
            return _gather(part.where, self._target(window), part.missing, blank=_blank(part, 0))
        top, left = self.corner[0] + window.row, self.corner[1] + window.col
        row, col = top // factor, left // factor
        coarse = Window(row, col, -(-(top + window.height) // factor) - row, -(-(left + window.width) // factor) - col)
        at = (..., slice(top - row * factor, top - row * factor + window.height),
              slice(left - col * factor, left - col * factor + window.width))  # fmt: skip
        stored = _gather(part.where, coarse, part.missing, blank=_blank(part, 0))
        dn, known = (a.repeat(factor, 1).repeat(factor, 2)[at] for a in stored)
        return dn, known.astype(bool)

    def _target(self, window: Window) -> Target:
        if self.grid is not None:
            return cut(self.grid, window)
        return window._replace(row=window.row + self.corner[0], col=window.col + self.corner[1])


def _fuller(other: NDArray[np.bool_], known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where (h, w) another part of a mosaic holds more of the bands: validity (C, h, w) of both."""
    fuller: NDArray[np.bool_] = other.sum(axis=0) > known.sum(axis=0)
    return fuller


def _blank(part: StoredBands, n: int) -> tuple[Pixels, ...]:
    """The bands that together say where raster n of a part is empty; none where single values say so."""
    return part.blank[n] if part.blank else ()


def _measured(part: StoredBands, n: int, dn: NDArray[Any], target: Target) -> NDArray[np.bool_]:
    """Which stored values of raster n of a part were measured."""
    if not part.blank:
        return valid_where(dn, part.missing)
    return _gather((part.where, *part.more)[n], target, part.missing, blank=part.blank[n])[1]


def _empty(dataset: DatasetReader, bands: Sequence[int], blank: Sequence[Pixels]) -> Empty:
    """Where all `blank` bands are 0: those of a raster that are read anyway, the others only where these are 0."""
    others = [p for p in blank if p.path != dataset.name or p.band not in bands]
    grid = grid_of(dataset)

    def empty(stored: NDArray[Any], at: Window) -> NDArray[np.bool_]:
        lost: NDArray[np.bool_] = (stored == 0).all(axis=0)
        for path in dict.fromkeys(p.path for p in others):
            if not lost.any():
                break
            other = opened(path)
            if grid is not None or other.shape == dataset.shape:  # without coordinates only bands of one size can be compared
                indexes = [p.band for p in others if p.path == path]
                values, _ = read_onto(other, indexes, at if grid is None else cut(grid, at), missing=None)
                lost &= (values == 0).all(axis=0)
        return lost

    return empty


def backscatter_db(
    stored: NDArray[Any], known: NDArray[np.bool_], radar: StoredRadar
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Stored [VV, VH] (2, h, w) -> dB (2, h, w) and joint validity (h, w).

    Invalid: not finite, `missing`, power of 0 or below, dB under the floor, and 0 in both bands (the border of a swath; 0 dB
    in one band alone is a value).
    """
    border = (stored == 0).all(0)
    if radar.unit == "linear":
        db, positive = power_to_db(np.where(known, stored, 0).astype(np.float32))
        return db, (known & positive).all(0) & ~border
    db = np.where(known, stored, 0).astype(np.float32)
    return db, (known & (db > DB_FLOOR)).all(0) & ~border


def cut(grid: GeoBox, window: Window) -> GeoBox:
    """The grid of a window, which may reach outside."""
    from affine import Affine
    from odc.geo.geobox import GeoBox as Box

    a = grid.affine
    return Box(
        (window.height, window.width),
        Affine(a.a, 0.0, a.c + a.a * window.col, 0.0, a.e, a.f + a.e * window.row),
        grid.crs,
    )


def layer_name(part: StoredBands) -> str:
    """'10m', '20m', '60m': the pixel size of a part; from the band table where there is no CRS."""
    from unclouded.bands import BY_NAME

    if part.grid is not None and part.grid.crs is not None and part.grid.crs.projected:
        return f"{abs(part.grid.affine.a):g}m"
    return f"{BY_NAME[part.bands[0]].metres}m"


def _gather(
    where: Sequence[Pixels],
    target: Target,
    missing: Sequence[float] | None,
    resampling: Any = "nearest",
    radar: StoredRadar | None = None,
    blank: Sequence[Pixels] = (),
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Bands from one or several files on a target: each file is read once. `missing` None: values as stored. `blank`: bands
    that are all 0 where nothing was measured.
    """
    prepare = None if radar is None else _as_power(radar)
    values: list[NDArray[Any]] = [np.empty(0)] * len(where)
    valid: list[NDArray[np.bool_]] = [np.empty(0, bool)] * len(where)
    for path in dict.fromkeys(p.path for p in where):
        mine = [n for n, p in enumerate(where) if p.path == path]
        dataset, bands = opened(path), [where[n].band for n in mine]
        empty = _empty(dataset, bands, blank) if blank else None
        pixels, known = read_onto(dataset, bands, target, missing=missing, resampling=resampling, prepare=prepare, empty=empty)
        if len(mine) == len(where):
            return pixels, known
        for position, n in enumerate(mine):
            values[n], valid[n] = pixels[position], known[position]
    return np.stack(values), np.stack(valid)


def _as_power(radar: StoredRadar) -> Any:
    def prepare(stored: NDArray[Any], known: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        db, valid = backscatter_db(stored, known, radar)
        return np.where(valid, db_to_power(db), 0), np.broadcast_to(valid, db.shape)

    return prepare
