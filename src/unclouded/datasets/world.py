"""A simulated world, read window by window: every value is a function of absolute pixel coordinates (lattice.py).

So a window of a place equals the crop of the whole, bit for bit, and a place of 10980 x 10980 pixels costs no memory.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from unclouded.bands import BY_NAME, L1C
from unclouded.datasets import radar
from unclouded.datasets.climates import Climate, spectra
from unclouded.datasets.ground import Event, Ground, Mixture
from unclouded.datasets.lattice import Field, key, normal_pair, smooth, uniform
from unclouded.datasets.sky import Sky, View, add_path, make_sky, sun, to_top_of_atmosphere
from unclouded.sample import Cover, Days, Level, Place, Window
from unclouded.units import to_counts, to_reflectance

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

T = TypeVar("T")
SceneClasses = Literal["realistic", "exact", "none"]
_BLOCK = 6  # pixels of 10 m in one of 60 m: windows are computed on whole ones


@dataclass(frozen=True, kw_only=True)
class World:
    """All that decides a simulated place. `covers` are the shares hidden by clouds and shadows, one per date."""

    seed: int
    climate: Climate
    level: Level
    bands: tuple[str, ...]
    shape: tuple[int, int]
    origin: tuple[int, int]  # of the first pixel in the endless landscape of this seed
    dates: Days
    covers: tuple[float, ...]
    kinds: tuple[str | None, ...]
    s1_dates: Days
    s1_orbits: NDArray[np.int16]
    events: tuple[Event, ...] = ()
    classes: SceneClasses = "realistic"
    offset: float = 0.0  # DN added before dividing: 0 or -1000

    def grid(self) -> GeoBox:
        """The UTM grid, 10 m pixels aligned to 60 m."""
        from affine import Affine
        from odc.geo.geobox import GeoBox

        west, north = 500_040 + 10 * self.origin[1], 5_640_000 - 10 * self.origin[0]
        return GeoBox(self.shape, Affine(10, 0, west, 0, -10, north), f"EPSG:{self.climate.epsg}")

    def place(self) -> Place:
        """Where and how: the Place record of the whole."""
        return Place(id=f"simulated-{self.climate.name}-{self.seed}", bands=self.bands, level=self.level, grid=self.grid())


@dataclass(frozen=True, kw_only=True)
class StoredLayer:
    """How a date is stored: the attributes that `scenes.scene.Layer` has, for all bands in one 10 m layer of uint16 counts."""

    bands: tuple[str, ...]
    shape: tuple[int, int]
    grid: GeoBox | None
    offset: tuple[float, ...]
    descriptions: tuple[str, ...]
    name: str = ""
    dtype: str = "uint16"
    nodata: float | None = 0.0
    quantification: float = 10_000.0
    factor: int = 1
    scale_tags: tuple[float, ...] = ()
    offset_tags: tuple[float, ...] = ()
    tags: dict[str, str] = field(default_factory=dict)


class SimulatedSource:
    """A simulated world read window by window: a `PixelSource` with the truth beside it. Windows are in pixels of the place."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.place = world.place()
        extent = Window(*world.origin, *world.shape)
        self._skies: tuple[Sky, ...] = tuple(
            make_sky(key(world.seed, "sky", str(day)), cover, sun(day, world.climate.latitude), world.level, extent, kind)
            for day, cover, kind in zip(world.dates, world.covers, world.kinds, strict=True)
        )
        self._events = tuple(e.placed(world.shape, world.origin) for e in world.events)
        self._grounds: _Recent[Ground] = _Recent(2)
        self._mixtures: _Recent[Mixture] = _Recent(1)
        self._surfaces: _Recent[Field] = _Recent(1)

    def s2(self, i: int, window: Window) -> tuple[Field, NDArray[np.bool_]]:
        """Reflectance (C, h, w) as delivered on date i (clouds, noise, rounded to counts), and validity (h, w)."""
        dn = self._counts(i, window)
        reflectance, _ = to_reflectance(dn, offset=self.world.offset)
        return reflectance, np.ones(dn.shape[1:], bool)

    def truth(self, i: int, window: Window) -> Field:
        """Reflectance (C, h, w) of the ground on date i without clouds, shadows, noise and rounding."""
        outer, at = self._aligned(window)
        return self._native(self._finished(self._ground_seen(i, outer), None), at)

    def look(self, i: int, window: Window) -> View:
        """Clouds and light over a window on date i."""
        return self._skies[i].look(*self._lines(window))

    def cover(self, i: int, window: Window) -> NDArray[np.uint8]:
        """(h, w): the true class of every pixel, codes of `Cover`."""
        return self._cover(i, window, self.look(i, window))

    def cloud(self, i: int, window: Window) -> Field:
        """(h, w) in [0, 1]: how far clouds and shadows truly hide the ground; at least 0.5 where `cover` says hidden."""
        return np.clip(self.look(i, window).cloud(), 0, 1)

    def landcover(self, window: Window) -> NDArray[np.uint8]:
        """(h, w): codes of `LandCover`."""
        outer, at = self._aligned(window)
        return self._ground(outer).landcover[1:-1, 1:-1][at.slices]

    def s1(self, k: int, window: Window) -> tuple[Field, NDArray[np.bool_]]:
        """Backscatter sigma0 in dB (2, h, w) [VV, VH] of acquisition k and validity (h, w)."""
        outer, at = self._aligned(window)
        day, orbit = self.world.s1_dates[k], int(self.world.s1_orbits[k])
        db = radar.acquire(self._ground(outer), self._mixture(outer, day), orbit, day)[(slice(None), *at.slices)]
        return db, np.ones(db.shape[1:], bool)

    def scl(self, i: int, window: Window) -> NDArray[np.uint8] | None:
        """Sen2Cor scene classes (h, w) at 20 m, repeated; None if the world has none."""
        if self.world.classes == "none" or self.world.level == "L1C":
            return None
        outer, at = self._aligned(window)
        rows, cols = self._lines(outer)
        salt = key(self.world.seed, "scl", i)
        errors = (smooth(salt, rows, cols, 9), uniform(salt, rows[:, None], cols[None, :]))
        mixture = self._mixture(outer, self.world.dates[i]).inner()
        classes = _classes(self.look(i, outer), mixture, None if self.world.classes == "exact" else errors)
        return classes[::2, ::2].repeat(2, 0).repeat(2, 1)[at.slices]

    def given(self, i: int, window: Window) -> NDArray[np.float32] | None:
        """No mask files."""
        return None

    def layers(self, i: int) -> tuple[StoredLayer, ...]:
        """How date i is stored."""
        w = self.world
        offset = (w.offset,) * len(w.bands)
        return (StoredLayer(bands=w.bands, shape=w.shape, grid=self.place.grid, offset=offset, descriptions=w.bands),)

    def counts(self, i: int, layer: Any, window: Window) -> NDArray[np.uint16]:
        """Raw DN (C, h, w): reflectance = (DN + offset) / 10000."""
        return self._counts(i, window)[[self.world.bands.index(b) for b in layer.bands]]

    def _counts(self, i: int, window: Window) -> NDArray[np.uint16]:
        outer, at = self._aligned(window)
        view = self.look(i, outer)
        seen = view.through(self._ground_seen(i, outer), self.world.bands, self.world.level)
        seen = self._native(self._finished(seen, view), at)
        counts = to_counts(seen + self._noise(i, seen, window), dtype=np.uint16, offset=self.world.offset)
        return counts.astype(np.uint16, copy=False)

    def _lines(self, window: Window) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        top, left = window.row + self.world.origin[0], window.col + self.world.origin[1]
        return np.arange(top, top + window.height), np.arange(left, left + window.width)

    def _aligned(self, window: Window) -> tuple[Window, Window]:
        """The window grown to whole 60 m pixels of the world, and the window inside it."""
        up, back = ((p + o) % _BLOCK for p, o in zip(window[:2], self.world.origin, strict=True))
        height, width = (-(-(a + n) // _BLOCK) * _BLOCK for a, n in ((up, window.height), (back, window.width)))
        outer = Window(window.row - up, window.col - back, height, width)
        return outer, window.inside(outer)

    def _ground(self, outer: Window) -> Ground:
        """The lasting ground of an aligned window, with one pixel more on every side."""
        rows, cols = self._lines(Window(outer.row - 1, outer.col - 1, outer.height + 2, outer.width + 2))
        return self._grounds.get(outer, lambda: Ground(self.world.climate, self.world.seed, rows, cols))

    def _mixture(self, outer: Window, day: np.datetime64) -> Mixture:
        return self._mixtures.get((outer, day), lambda: self._ground(outer).mixture(day, self._events))

    def _ground_seen(self, i: int, outer: Window) -> Field:
        """Reflectance (C, H, W) at 10 m through the optics, with the date's own gain and haze; dimmed by the air in L1C."""
        return self._surfaces.get((outer, i), lambda: self._compute_ground_seen(i, outer))

    def _compute_ground_seen(self, i: int, outer: Window) -> Field:
        w, sky, day = self.world, self._skies[i], self.world.dates[i]
        surface = _reflectance(self._ground(outer), self._mixture(outer, day), w.bands, sky)
        surface = _through_optics(surface, key(w.seed, "register", str(day)))
        gain, haze = sky.air(*self._lines(outer))
        index = [L1C.index(b) for b in w.bands]
        surface = surface * gain * sky.gain[index][:, None, None] + haze * sky.haze[index][:, None, None]
        return surface if w.level == "L2A" else to_top_of_atmosphere(surface, w.bands)

    def _finished(self, seen: Field, view: View | None) -> Field:
        return seen if self.world.level == "L2A" else add_path(seen, self.world.bands, view)

    def _native(self, image: Field, at: Window) -> Field:
        """Every band at its native resolution, repeated on the 10 m grid; cut to the window."""
        out = np.empty((len(image), at.height, at.width), np.float32)
        for n, name in enumerate(self.world.bands):
            out[n] = coarse(image[n], BY_NAME[name].metres // 10)[at.slices]
        return out

    def _noise(self, i: int, seen: Field, window: Window) -> Field:
        """Sensor noise at native resolution: 0.0008 + 0.4 % of the signal."""
        noise = np.empty_like(seen)
        rows, cols = self._lines(window)
        for n, name in enumerate(self.world.bands):
            factor = BY_NAME[name].metres // 10
            r, c = np.unique(rows // factor), np.unique(cols // factor)
            unit, _ = normal_pair(key(self.world.seed, "noise", str(self.world.dates[i]), name), r, c)
            unit = unit if factor == 1 else unit[np.ix_(rows // factor - r[0], cols // factor - c[0])]
            noise[n] = unit * (np.float32(0.0008) + np.float32(0.004) * np.abs(seen[n]))
        return noise

    def _cover(self, i: int, window: Window, view: View) -> NDArray[np.uint8]:
        cover = view.cover()
        if self.world.climate.snow[1] <= self.world.climate.snow[0]:
            return cover
        outer, at = self._aligned(window)
        snow = self._mixture(outer, self.world.dates[i]).inner().share("snow")[at.slices]
        return np.where((cover == Cover.CLEAR) & (snow > 0.5), Cover.SNOW, cover).astype(np.uint8)


class _Recent(Generic[T]):
    """The last few results: a reader asks for all dates, layers and sensors of one window in turn."""

    def __init__(self, size: int) -> None:
        self.size, self._kept = size, OrderedDict[Any, T]()

    def get(self, name: Any, compute: Callable[[], T]) -> T:
        value = self._kept.get(name)
        if value is None:
            value = compute()
            self._kept[name] = value
            while len(self._kept) > self.size:
                self._kept.popitem(last=False)
        return value


def _reflectance(ground: Ground, mixture: Mixture, bands: tuple[str, ...], sky: Sky) -> Field:
    """Surface reflectance (C, H, W): the linear mixture of spectra under the light that falls on slopes and crowns."""
    out = np.zeros((len(bands), *ground.water.shape), np.float32)
    term = np.empty_like(out[0])
    for share, spectrum in zip(mixture.shares, spectra(bands), strict=True):
        if share.any():
            for n, value in enumerate(spectrum):
                out[n] += np.multiply(share, value, out=term)
    slant = np.float32(np.tan(min(sky.light.zenith, 1.25)))
    facing = ground.east * np.float32(np.sin(sky.light.azimuth)) + ground.north * np.float32(np.cos(sky.light.azimuth))
    slope = np.clip(1 - slant * facing, 0.35, 1.6)  # downhill towards the sun is bright: facing is the slope uphill
    crowns = 1 + ground.forest * ground.crowns * np.float32(0.6)
    tone = 1 + np.float32(0.035) * ground.texture
    shade = np.where(ground.water > 0.5, 1, slope * crowns * tone)
    out *= shade
    return out


def _through_optics(surface: Field, salt: int) -> Field:
    """Blur by a quadratic B-spline, shifted by the date's error of registration (0.15 px): (C, H + 2, W + 2) -> (C, H, W)."""
    draw = uniform(salt, np.arange(6))
    down, right = (float(np.clip(0.3 * (draw[k : k + 3].sum() - 1.5), -0.4, 0.4)) for k in (0, 3))
    a, b, c = _spline(down)
    rows = a * surface[:, :-2] + b * surface[:, 1:-1] + c * surface[:, 2:]
    a, b, c = _spline(right)
    return a * rows[..., :-2] + b * rows[..., 1:-1] + c * rows[..., 2:]


def _spline(shift: float) -> tuple[np.float32, np.float32, np.float32]:
    return np.float32((0.5 - shift) ** 2 / 2), np.float32(0.75 - shift**2), np.float32((0.5 + shift) ** 2 / 2)


def coarse(band: Field, factor: int) -> Field:
    """Mean over factor x factor pixels, repeated; summed in a fixed order, so that windows agree to the last bit."""
    if factor == 1:
        return band
    rows = np.zeros((band.shape[0] // factor, band.shape[1]), np.float32)
    for k in range(factor):
        rows += band[k::factor]
    mean = np.zeros((rows.shape[0], rows.shape[1] // factor), np.float32)
    for k in range(factor):
        mean += rows[:, k::factor]
    return np.repeat(np.repeat(mean / np.float32(factor * factor), factor, 0), factor, 1)


def _classes(view: View, mixture: Mixture, errors: tuple[Field, Field] | None) -> NDArray[np.uint8]:
    """Sen2Cor classes (H, W). `errors` (smooth, white): thin cloud and weak shadow missed, bright roofs taken for cloud."""
    total, light = view.total(), view.light
    green = sum(mixture.share(n) for n in ("leaf", "dark leaf", "grass", "conifer", "broadleaf", "flower"))
    water = mixture.share("water") + mixture.share("turbid")
    scl = np.where(np.asarray(green) > 0.4, 4, np.where(water > 0.5, 6, 5))
    scl = np.where(mixture.share("snow") > 0.5, 11, scl)
    cirrus = np.zeros_like(total)
    for thickness, ice in zip(view.thickness, view.ice, strict=True):
        cirrus = cirrus + thickness * np.float32(ice)
    thin_from: Any = np.float32(0.3)
    dark_below: Any = np.float32(0.88)
    if errors is not None:
        patchy, white = errors
        scl = np.where((scl == 5) & (white < 0.10), 7, scl)
        scl = np.where((mixture.share("metal") > 0.45) & (white < 0.7), np.where(white < 0.3, 9, 8), scl)
        thin_from, dark_below = 0.65 * np.exp2(0.7 * patchy), 0.66 + 0.10 * patchy
    scl = np.where(light < dark_below, 3, scl)
    if errors is not None:
        scl = np.where((light < 0.35) & (errors[1] < 0.05) & (water < 0.5), 6, scl)
    cloud = np.where(total > 12, 9, np.where(cirrus > total / 2, 10, np.where(total > 3, 8, 7)))
    scl = np.where(total >= thin_from, cloud, scl)
    return scl.astype(np.uint8)
