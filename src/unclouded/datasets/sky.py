"""The sky of the simulated place: sun, clouds, their shadows, the atmosphere, and what they do to every band.

Clouds are fields of optical thickness. A cloud reflects by the two-stream solution for conservative scattering, R = (1-g) t /
(2 + (1-g) t) with g = 0.85 (Coakley and Chylek 1975), hides the ground by 1 - exp, and dims it along the sun's azimuth at
height x tan(zenith). What is left of the light in a shadow is skylight, which is blue. Ice clouds absorb in the short-wave
infrared and, being above the water vapour, are all that the cirrus band B10 sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unclouded.bands import BY_NAME, L1C
from unclouded.datasets.lattice import Field, fractal, fractal_at, key, smooth, uniform
from unclouded.sample import Cover, Window

# fmt: off
#                               B01   B02   B03   B04   B05   B06   B07   B08   B8A   B09   B10   B11   B12
SKYLIGHT = np.array((          .320, .270, .200, .150, .130, .115, .100, .090, .085, .080, .060, .040, .030), np.float32)
WATER_CLOUD = np.array((      1.040,1.030,1.010,1.010,1.010,1.010,1.000, .990, .980, .960, .950, .720, .500), np.float32)
ICE_CLOUD = np.array((        1.040,1.030,1.010,1.010,1.010,1.000, .990, .980, .960, .940, .900, .460, .330), np.float32)
BACKGROUND = np.array((        .045, .055, .085, .085, .130, .230, .270, .295, .310, .320, .280, .270, .190), np.float32)
PATH = np.array((              .112, .084, .050, .029, .024, .020, .017, .014, .013, .008, .0007,.003, .002), np.float32)
THROUGH_AIR = np.array((       .780, .830, .870, .905, .900, .930, .950, .960, .965, .450, .000, .970, .960), np.float32)
ABOVE_LOW = np.array((         .930, .940, .950, .960, .950, .960, .970, .980, .980, .650, .004, .980, .980), np.float32)
ABOVE_HIGH = np.array((        .960, .965, .970, .975, .975, .980, .985, .990, .990, .930, .800, .990, .990), np.float32)
# fmt: on

HALF_THICKNESS = 0.3  # optical thickness that brightens the ground by about 0.02: from there on a pixel counts as hidden
HALF_SHADE = 0.12  # loss of direct light from which on a pixel counts as shadow
THICK_FROM = 4.0
_CAP = 90.0


class Kind(NamedTuple):
    """A family of clouds: thickness = scale x (exp(growth x (field - threshold)) - 1) where the field exceeds the threshold."""

    wavelength: float
    octaves: int
    gain: float
    scale: float
    growth: float
    stretch: float
    height: tuple[float, float]  # metres
    ice: bool


KINDS: dict[str, Kind] = {
    "cumulus": Kind(46, 5, 0.55, 1.6, 3.0, 1.0, (600, 1500), False),
    "bank": Kind(230, 6, 0.55, 1.2, 2.6, 1.0, (800, 2200), False),
    "cirrus": Kind(150, 6, 0.62, 0.5, 0.9, 4.0, (7000, 10000), True),
    "overcast": Kind(180, 6, 0.6, 14.0, 0.55, 1.0, (700, 1500), False),
}


class Sun(NamedTuple):
    """Radians; the azimuth is where the sun stands, clockwise from north."""

    zenith: float
    azimuth: float


def sun(day: np.datetime64, latitude: float) -> Sun:
    """The sun at 10:30 local solar time, the time of Sentinel-2 (declination after Cooper 1969)."""
    date = day.astype("datetime64[D]")
    doy = int((date - date.astype("datetime64[Y]").astype("datetime64[D]")).astype(int)) + 1
    tilt = np.radians(23.45) * np.sin(2 * np.pi * (284 + doy) / 365)
    phi, hour = np.radians(latitude), np.radians(-22.5)
    up = np.sin(phi) * np.sin(tilt) + np.cos(phi) * np.cos(tilt) * np.cos(hour)
    east = -np.cos(tilt) * np.sin(hour)
    north = np.cos(phi) * np.sin(tilt) - np.sin(phi) * np.cos(tilt) * np.cos(hour)
    return Sun(float(np.arccos(up)), float(np.arctan2(east, north) % (2 * np.pi)))


@dataclass(frozen=True)
class Layer:
    """One sheet of clouds of one kind."""

    kind: Kind
    salt: int
    threshold: float
    height: float  # metres, of the middle cloud
    direction: float  # of streaks, radians

    def thickness(self, field: Field) -> Field:
        """Optical thickness where the underlying field has these values."""
        k = self.kind
        if self.threshold == -np.inf:  # overcast: log-normal, nowhere zero
            return np.minimum(np.float32(k.scale) * np.exp(np.float32(k.growth) * field), np.float32(_CAP))
        over = np.clip(field - np.float32(self.threshold), 0, 6)
        return np.minimum(np.float32(k.scale) * np.expm1(np.float32(k.growth) * over), np.float32(_CAP))

    def field(self, rows: NDArray[np.int64], cols: NDArray[np.int64]) -> Field:
        """The underlying unit-variance field over rows (H,) and columns (W,)."""
        k = self.kind
        if k.stretch == 1.0:
            return fractal(self.salt, rows, cols, k.wavelength, octaves=k.octaves, gain=k.gain)
        r: Any = rows[:, None].astype(np.float32) + 45 * smooth(self.salt + 1, rows, cols, 160)
        c: Any = cols[None, :].astype(np.float32) + 45 * smooth(self.salt + 2, rows, cols, 160)
        cos, sin = np.float32(np.cos(self.direction)), np.float32(np.sin(self.direction))
        along: Any = (cos * r + sin * c) / np.float32(k.stretch)
        across: Any = cos * c - sin * r
        return fractal_at(self.salt, along, across, k.wavelength / 2, octaves=k.octaves, gain=k.gain)

    def shade(self, rows: NDArray[np.int64], cols: NDArray[np.int64], light: Sun) -> Field:
        """Thickness (H, W) of the cloud between every ground pixel and the sun. Ice is too thin to cast a shadow."""
        if self.kind.ice:
            return np.zeros((len(rows), len(cols)), np.float32)
        far = self.height / 10 * np.tan(min(light.zenith, 1.25))
        dr, dc = -np.cos(light.azimuth) * far, np.sin(light.azimuth) * far  # from ground to cloud: towards the sun
        uneven = 1 + np.clip(0.12 * smooth(self.salt + 3, rows, cols, 3 * self.kind.wavelength), -0.25, 0.25)
        r, c = rows[:, None] + dr * uneven.astype(np.float64), cols[None, :] + dc * uneven.astype(np.float64)
        first_r, last_r = int(np.floor(rows[0] + min(0.7 * dr, 1.3 * dr))), int(rows[-1] + max(0.7 * dr, 1.3 * dr)) + 2
        first_c, last_c = int(np.floor(cols[0] + min(0.7 * dc, 1.3 * dc))), int(cols[-1] + max(0.7 * dc, 1.3 * dc)) + 2
        above = self.thickness(self.field(np.arange(first_r, last_r + 1), np.arange(first_c, last_c + 1)))
        return _between(above, r, c, first_r, first_c)


def _between(image: Field, r: NDArray[np.float64], c: NDArray[np.float64], first_r: int, first_c: int) -> Field:
    """Bilinear values at absolute coordinates."""
    i, j = np.floor(r).astype(np.int64), np.floor(c).astype(np.int64)
    ti, tj = (r - i).astype(np.float32), (c - j).astype(np.float32)
    i, j = i - first_r, j - first_c
    top = image[i, j] * (1 - tj) + image[i, j + 1] * tj
    bottom = image[i + 1, j] * (1 - tj) + image[i + 1, j + 1] * tj
    between: Any = top * (1 - ti) + bottom * ti
    return between


def opacity(thickness: Field) -> Field:
    """How far a cloud hides the ground, 0 .. 1; 0.5 at `HALF_THICKNESS`."""
    return 1 - np.exp2(-thickness / np.float32(HALF_THICKNESS))


def direct_light(thickness: Field) -> Field:
    """What is left of the sun's beam in a cloud's shadow: some light always comes round and through."""
    return np.float32(0.1) + np.float32(0.9) * np.exp(np.float32(-0.28) * thickness)


def shade_opacity(light: Field) -> Field:
    """How far a shadow hides the ground, 0 .. 1; 0.5 where `HALF_SHADE` of the beam is lost."""
    return 1 - np.exp2(-(1 - light) / np.float32(HALF_SHADE))


@dataclass(frozen=True)
class Sky:
    """The sky of one date: cloud layers from low to high, the sun, and the date's own brightness and haze per band."""

    light: Sun
    layers: tuple[Layer, ...]
    salt: int
    gain: Field  # (13,) multiplies the ground: calibration, view and sun angle
    haze: Field  # (13,) adds to it: aerosol left by the correction

    def air(self, rows: NDArray[np.int64], cols: NDArray[np.int64]) -> tuple[Field, Field]:
        """Smooth variation of gain and haze over the ground, (H, W) each, about 1."""
        return (
            1 + np.float32(0.015) * smooth(self.salt + 11, rows, cols, 190),
            np.clip(1 + np.float32(0.35) * smooth(self.salt + 12, rows, cols, 140), 0, 2),
        )

    def look(self, rows: NDArray[np.int64], cols: NDArray[np.int64]) -> View:
        """Thickness of every layer and light on the ground."""
        shade = np.zeros((len(rows), len(cols)), np.float32)
        for layer in self.layers:
            shade = shade + layer.shade(rows, cols, self.light)
        return View(
            thickness=tuple(layer.thickness(layer.field(rows, cols)) for layer in self.layers),
            ice=tuple(layer.kind.ice for layer in self.layers),
            light=direct_light(shade),
        )


@dataclass(frozen=True)
class View:
    """The sky over a window: thickness (H, W) per layer and what is left of the sun's beam on the ground (H, W)."""

    thickness: tuple[Field, ...]
    ice: tuple[bool, ...]
    light: Field

    def total(self) -> Field:
        """Thickness of all layers together."""
        return np.asarray(sum(self.thickness, np.zeros_like(self.light)), np.float32)

    def cloud(self) -> Field:
        """(H, W) in [0, 1]: how far cloud and shadow hide the ground."""
        return 1 - (1 - opacity(self.total())) * (1 - shade_opacity(self.light))

    def cover(self) -> NDArray[np.uint8]:
        """(H, W) codes of `Cover`, without snow. Hidden exactly where `cloud` is at least one half."""
        total, shaded = self.total(), shade_opacity(self.light)
        hidden = self.cloud() >= np.float32(0.5)
        kind = np.where(opacity(total) >= shaded, np.where(total >= THICK_FROM, Cover.THICK, Cover.THIN), Cover.SHADOW)
        kind = np.where(total >= HALF_THICKNESS, np.where(total >= THICK_FROM, Cover.THICK, Cover.THIN), kind)
        return np.where(hidden, kind, Cover.CLEAR).astype(np.uint8)

    def through(self, ground: Field, bands: tuple[str, ...], level: str) -> Field:
        """What the sensor sees of the ground (C, H, W) through this sky. L1C ground comes without path radiance."""
        index = [L1C.index(b) for b in bands]
        sky = SKYLIGHT[index][:, None, None]
        seen = ground * (sky + (1 - sky) * self.light)
        for thickness, ice in zip(self.thickness, self.ice, strict=True):
            seen = _behind(seen, thickness, ice, index, level)
        return seen


def _behind(seen: Field, thickness: Field, ice: bool, index: list[int], level: str) -> Field:
    """One layer over what lies beneath it (adding of layers; the diffuse part of the light forgets the details)."""
    reflected = thickness / (thickness + np.float32(2 / 0.15))
    sharp = np.exp(np.float32(-0.25) * thickness)
    out = np.empty_like(seen)
    for n, band in enumerate(index):
        colour = (ICE_CLOUD if ice else WATER_CLOUD)[band]
        above = (ABOVE_HIGH if ice else ABOVE_LOW)[band] if level == "L1C" else np.float32(1)
        base = BACKGROUND[band] * (THROUGH_AIR[band] if level == "L1C" else np.float32(1))
        passed = (1 - reflected) ** 2 / (1 - reflected * BACKGROUND[band])
        out[n] = above * colour * reflected + passed * (sharp * seen[n] + (1 - sharp) * base)
    return out


def to_top_of_atmosphere(surface: Field, bands: tuple[str, ...]) -> Field:
    """Surface reflectance (C, H, W) dimmed by gases and air on both ways; path radiance comes last (`add_path`)."""
    return surface * THROUGH_AIR[[L1C.index(b) for b in bands]][:, None, None]


def path_of(bands: tuple[str, ...]) -> Field:
    """Path radiance of clear air in reflectance, (C, 1, 1)."""
    return PATH[[L1C.index(b) for b in bands]][:, None, None]


def add_path(seen: Field, bands: tuple[str, ...], sky_view: View | None) -> Field:
    """Add the light scattered by the air itself; a cloud hides the greater part of it."""
    path = path_of(bands)
    if sky_view is None:
        return seen + path
    total = sky_view.total()
    return seen + path * (1 - np.float32(0.6) * total / (total + np.float32(2 / 0.15)))


def date_effects(salt: int, level: str) -> tuple[Field, Field]:
    """Gain and haze (13,) of one date: about 3.5 % and 0.007, smooth over wavelength."""
    draw = uniform(salt, np.arange(8)) + uniform(salt + 1, np.arange(8)) + uniform(salt + 2, np.arange(8)) - np.float32(1.5)
    draw = draw * 2  # unit variance
    wavelength = np.array([BY_NAME[b].nanometres for b in L1C], np.float32)
    tilt = np.log(wavelength / 860) / np.log(np.float32(3))
    gain = 1 + np.float32(0.03) * draw[0] + np.float32(0.018) * draw[1] * tilt
    aerosol = np.float32(0.007) * draw[2] if level == "L2A" else np.float32(0.008) * np.abs(draw[2])
    return gain, aerosol * (wavelength / 560) ** np.float32(-1.3)


def make_sky(salt: int, cover: float, light: Sun, level: str, extent: Window, kind: str | None = None) -> Sky:
    """A sky that hides about `cover` of an extent (absolute pixels) by clouds and shadows. `kind`: a key of `KINDS`."""
    gain, haze = date_effects(salt + 100, level)
    layers: tuple[Layer, ...] = ()
    if cover > 0.002:
        name = kind or _kind_for(salt, cover)
        layers = (_calibrated(KINDS[name], salt, cover, light, extent),)
    return Sky(light, layers, salt, gain, haze)


def _kind_for(salt: int, cover: float) -> str:
    draw = float(uniform(salt + 50, np.array([0]))[0])
    if cover >= 0.985:
        return "overcast" if draw < 0.8 else "cirrus"
    if cover < 0.5:
        return "cumulus" if draw < 0.6 else "bank" if draw < 0.85 else "cirrus"
    return "cumulus" if draw < 0.2 else "bank" if draw < 0.8 else "cirrus"


def _calibrated(kind: Kind, salt: int, cover: float, light: Sun, extent: Window) -> Layer:
    """The layer whose threshold hides `cover` of the extent, found by bisection on at most 64 x 64 of its pixels."""
    draw = uniform(salt + 60, np.arange(3))
    height = kind.height[0] + (kind.height[1] - kind.height[0]) * float(draw[0])
    plain = Layer(kind, salt, -np.inf, height, float(draw[1]) * np.pi)
    if cover >= 0.985 and not kind.ice:
        return plain
    rows = extent.row + np.unique(np.linspace(0, extent.height - 1, 64).round().astype(np.int64))
    cols = extent.col + np.unique(np.linspace(0, extent.width - 1, 64).round().astype(np.int64))
    far = 0.0 if kind.ice else height / 10 * np.tan(min(light.zenith, 1.25))
    overhead = plain.field(rows, cols)
    sunward = plain.field(rows + round(-np.cos(light.azimuth) * far), cols + round(np.sin(light.azimuth) * far))
    low, high = -8.0, 8.0
    for _ in range(24):
        layer = Layer(kind, salt, (low + high) / 2, height, plain.direction)
        shade = np.zeros_like(overhead) if kind.ice else layer.thickness(sunward)
        hidden = View((layer.thickness(overhead),), (kind.ice,), direct_light(shade)).cloud() >= np.float32(0.5)
        low, high = (layer.threshold, high) if hidden.mean() >= cover else (low, layer.threshold)
    return Layer(kind, salt, (low + high) / 2, height, plain.direction)


def draw_covers(seed: int, count: int) -> list[float]:
    """Hidden shares of a series as they are in mid-latitudes: a third nearly clear, a quarter fully covered, the rest between.

    Stratified, so that short series too have clear and cloudy dates; in an order of chance.
    """
    order = np.argsort(uniform(key(seed, "order"), np.arange(count)))
    quantile = (np.arange(count) + uniform(key(seed, "covers"), np.arange(count))) / count
    levels = np.interp(quantile, [0, 0.20, 0.36, 0.74, 0.80, 1], [0, 0.0, 0.06, 0.93, 1, 1])
    covers = np.empty(count)
    covers[order] = levels
    return [float(c) for c in covers]
