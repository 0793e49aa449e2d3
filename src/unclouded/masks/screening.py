"""Multi-temporal screening: cloud and shadow that a single-date mask missed stand out against the dates before and after.

Every observation that a mask calls clear is compared with the clear observations of the same pixel on either side in time.
Cloud and haze brighten blue, and more so than the brighter ground of a harvest would (which brightens red about twice as
much: the haze-optimised transform, Zhang et al. 2002). Shadow darkens near and short-wave infrared by about the same factor.
And both pass: a change that is still there on the later dates is ground, not weather. (The blue test is in the spirit of
Hagolle et al. 2010, which MAJA uses.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unclouded.masks.detection import band
from unclouded.masks.morphology import Pixel, grow, opened, reach
from unclouded.sample import Cover, Sample

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

DAYS = 60  # how far back and forth an observation may be compared
NEIGHBOURS = 3  # clear observations on each side that are looked at
FEWEST = 4  # dates; with fewer, screening is off
OPEN_METRES, GROW_METRES = 10.0, 20.0

# Which band plays which part: the first that the product has.
ROLES: dict[str, tuple[str, ...]] = {
    "blue": ("B02", "B01", "B03"),
    "red": ("B04", "B05"),
    "nir": ("B08", "B8A", "B07", "B06"),
    "swir": ("B11", "B12"),
}


@dataclass(frozen=True)
class Limits:
    """Reflectance by which blue must rise, the share of the red rise it must exceed, and the factors of a shadow."""

    rise: float = 0.035
    haze: float = 0.5
    excess: float = 0.015
    nir: float = 0.55
    swir: float = 0.6


LIMITS = Limits()


def role(bands: tuple[str, ...], name: str) -> str | None:
    """The band that plays a part in this product; None if none can."""
    return next((b for b in ROLES[name] if b in bands), None)


def halo(pixel: Pixel) -> int:
    """Pixels around a window beyond which screening no longer changes it."""
    return 2 * reach(OPEN_METRES, pixel) + reach(GROW_METRES, pixel)


def screen(sample: Sample, classes: NDArray[np.uint8], pixel: Pixel, limits: Limits = LIMITS) -> NDArray[np.uint8]:
    """Cloud and shadow that `classes` (T, H, W) miss: codes THIN and SHADOW, 0 elsewhere, (T, H, W) uint8.

    Only clear pixels are questioned. Needs a blue band or, failing that, red (20 m products), and near infrared; without a
    short-wave infrared band a shadow is judged by near infrared alone. With fewer than `FEWEST` dates nothing is found.
    """
    found = np.zeros(classes.shape, np.uint8)
    names = {part: role(sample.place.bands, part) for part in ROLES}
    if len(classes) < FEWEST:
        return found
    layers = {part: band(sample, name) for part, name in names.items() if name is not None}
    days = sample.s2_dates.astype(np.int64)
    seen = (classes == Cover.CLEAR) & sample.s2_valid
    for _ in range(2):  # what the first round finds no longer spoils the second
        cloud, dark = suspects(layers, seen, days, limits)
        seen = seen & ~cloud & ~dark
    asked = (classes == Cover.CLEAR) & sample.s2_valid
    for mask, code in ((dark, Cover.SHADOW), (cloud, Cover.THIN)):
        whole = grow(opened(mask, OPEN_METRES, pixel), GROW_METRES, pixel)
        found[whole & asked] = code
    return found


def suspects(layers: dict[str, Image], seen: Mask, days: NDArray[np.int64], limits: Limits) -> tuple[Mask, Mask]:
    """Pixels (T, H, W) that differ from the clear observations before and after as under cloud, and as in shadow."""
    bright = "blue" if "blue" in layers else "red"
    rise = layers[bright] - _ground(layers[bright], seen, days, highest=True)
    cloud = rise > limits.rise
    if bright == "blue" and "red" in layers:
        cloud &= rise - limits.haze * (layers["red"] - _ground(layers["red"], seen, days, highest=True)) > limits.excess
    dark = np.zeros_like(seen)
    if "nir" in layers:
        dark = layers["nir"] < limits.nir * _ground(layers["nir"], seen, days, highest=False)
        if "swir" in layers:
            dark &= layers["swir"] < limits.swir * _ground(layers["swir"], seen, days, highest=False)
        dark &= rise < limits.excess
    return cloud, dark


def _ground(layer: Image, seen: Mask, days: NDArray[np.int64], *, highest: bool) -> Image:
    """What the ground may look like (T, H, W): the higher (or lower) of what was seen before and after, NaN if neither."""
    before = _beside(layer, seen, days, highest)
    after = _beside(layer[::-1], seen[::-1], -days[::-1], highest)[::-1]
    return np.fmax(before, after) if highest else np.fmin(before, after)


def _beside(layer: Image, seen: Mask, days: NDArray[np.int64], highest: bool) -> Image:
    """For every date the middle of the `NEIGHBOURS` nearest earlier values seen (T, H, W); NaN without any.

    Of two values the lower is taken for a bright feature (`highest`), else the higher: the one no missed cloud has spoiled.
    """
    middle = np.full(layer.shape, np.nan, np.float32)
    values = np.full((NEIGHBOURS, *layer.shape[1:]), np.nan, np.float32)
    since = np.full((NEIGHBOURS, *layer.shape[1:]), -(10**6), np.int64)
    filler = np.float32(np.inf if highest else -np.inf)
    for t in range(1, len(days)):
        last = seen[t - 1]
        values[1:] = np.where(last, values[:-1], values[1:])
        since[1:] = np.where(last, since[:-1], since[1:])
        values[0] = np.where(last, layer[t - 1], values[0])
        since[0] = np.where(last, days[t - 1], since[0])
        near = days[t] - since <= DAYS
        count = near.sum(axis=0)
        ranked = np.sort(np.where(near, values, filler), axis=0)
        if not highest:
            ranked = ranked[::-1]
        middle[t] = np.where(count > 2, ranked[1], np.where(count > 0, ranked[0], np.nan))
    return middle
