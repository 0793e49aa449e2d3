"""Multi-temporal screening: cloud and shadow that a single-date mask missed stand out against the dates before and after.

Every observation that a mask calls clear is compared with the clear observations of the same pixel on either side in time.
Cloud and haze brighten blue, and more so than the brighter ground of a harvest would (which brightens red about twice as
much: the haze-optimised transform, Zhang et al. 2002). Shadow darkens near and short-wave infrared by about the same factor.
A date whose light is stronger as a whole (bright clouds beside it, an atmosphere corrected too much) brightens near infrared
more than blue; a cloud, white over ground that is darkest in blue, never does.
And both pass: a change that is still there on the later dates is ground, not weather. (The blue test is in the spirit of
Hagolle et al. 2010, which MAJA uses.)

The other way round, what is called cloud on most dates, looks the same on most dates and is never seen darker is bright ground:
white roofs, quarries, salt (`bright_ground`). Clouds differ from date to date.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unclouded.masks.detection import band
from unclouded.masks.morphology import Pixel, grow, opened, reach
from unclouded.sample import Cover, Sample

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

DAYS = 60  # how far back and forth an observation may be compared
SUPPORT = 2  # clear observations that a pixel is compared with, at least
FEWEST = 4  # dates; with fewer, screening is off
BLIND = 2.0  # without a blue band soil and cloud look alike: what the remaining band must rise, against blue
OPEN_METRES, GROW_METRES, FRINGE_METRES = 10.0, 20.0, 100.0
STRIP = 1 << 17  # values of one layer that are compared at once: with all layers they stay in the processor's cache

# Which band plays which part: the first that the product has.
ROLES: dict[str, tuple[str, ...]] = {
    "blue": ("B02", "B01", "B03"),
    "red": ("B04", "B05"),
    "nir": ("B08", "B8A", "B07", "B06"),
    "swir": ("B11", "B12"),
}


@dataclass(frozen=True)
class Limits:
    """When a pixel differs: reflectances and factors against the ground.

    Cloud: blue rises by `rise`, and by `excess` more than `haze` times the rise in red. Shadow: near and short-wave infrared
    fall below `nir` and `swir` times the ground, and blue rises by less than `lift`.
    """

    rise: float
    excess: float
    lift: float
    nir: float
    swir: float
    haze: float = 0.67


STRONG = Limits(rise=0.035, excess=0.01, lift=0.015, nir=0.55, swir=0.6)  # enough on its own
WEAK = Limits(rise=0.015, excess=0.004, lift=0.0, nir=0.75, swir=0.8)  # enough within FRINGE_METRES of what is


LIGHT = 1.0  # times the rise in blue that near infrared may rise over the brighter of before and after under a cloud,
LIGHT_METRES = 100.0  # both averaged over squares of this side: light is a matter of areas, not of pixels
BRIGHT = 0.15  # share of its own brightness by which ground must at least brighten: snow and sand vary with the light
SNOW_SWIR = 0.5  # snow brightens blue too, but takes away more than half of the short-wave infrared: no cloud does


STAYS = 6  # dates on which bright ground must look the same, and at least half of those on which it was measured
SAME = 0.12  # share of its usual reflectance within which it looks the same, in every layer
DARKER, DARKEST = 0.7, 0.25  # shares of its usual reflectance: in blue it never falls below the first, in shadow the second
RIM_METRES = 20.0  # around bright ground, where mixed pixels waver


def role(bands: tuple[str, ...], name: str) -> str | None:
    """The band that plays a part in this product; None if none can."""
    return next((b for b in ROLES[name] if b in bands), None)


def bands(there: tuple[str, ...]) -> set[str]:
    """The bands of a product that screening looks at."""
    return {name for part in ROLES if (name := role(there, part)) is not None}


def halo(pixel: Pixel, trusted: bool = True) -> int:
    """Pixels around a window beyond which screening no longer changes it. `trusted`: whether such dates are judged."""
    metres = FRINGE_METRES + GROW_METRES + (LIGHT_METRES if trusted else 0)
    return 4 * reach(_narrow(pixel), pixel) + reach(metres, pixel)


def _narrow(pixel: Pixel) -> float:
    """Radius in metres of what is too small to be weather: a single pixel never is."""
    return max(OPEN_METRES, *pixel)


def screen(
    sample: Sample,
    classes: NDArray[np.uint8],
    pixel: Pixel,
    trusted: Mask | None = None,
    wanted: NDArray[np.intp] | None = None,
) -> NDArray[np.uint8]:
    """Cloud and shadow that `classes` (T, H, W) miss: codes THIN and SHADOW, 0 elsewhere, (T, H, W) uint8.

    Only clear pixels are questioned. Needs a blue band or, failing that, red (20 m products), and near infrared; without a
    short-wave infrared band a shadow is judged by near infrared alone. With fewer than `FEWEST` dates nothing is found.
    `trusted` (T,): dates to restore. There doubt speaks for the observation: an area that is brighter as a whole is not asked.
    `wanted`: the dates, ascending, that are judged (None: all); the others are only compared with, and stay 0.
    """
    found = np.zeros(classes.shape, np.uint8)
    judged = np.arange(len(classes)) if wanted is None else wanted
    names = {part: role(sample.place.bands, part) for part in ROLES}
    if len(classes) < FEWEST or not len(judged):
        return found
    layers = {part: band(sample, name) for part, name in names.items() if name is not None}
    if not layers.keys() & {"blue", "red"}:
        return found
    days = sample.s2_dates.astype(np.int64)
    asked = (classes == Cover.CLEAR) & sample.s2_valid
    at = np.flatnonzero(trusted) if trusted is not None and "nir" in layers else np.arange(0)
    at = at[np.isin(at, judged)]
    ground, light = _mended_grounds(layers, asked, days, at, judged)
    if len(judged) < len(classes):
        layers, asked = {part: layer[judged] for part, layer in layers.items()}, asked[judged]
    if len(at):
        mine = np.searchsorted(judged, at)
        there, usual = ({part: layer[mine] for part, layer in both.items()} for both in (layers, ground))
        asked[mine] &= ~lit(there, usual, light, asked[mine], pixel)
    strong, weak = (_all_suspects(layers, ground, limits) for limits in (STRONG, WEAK))
    for n, code in ((1, Cover.SHADOW), (0, Cover.THIN)):
        core = opened(strong[n] & asked, _narrow(pixel), pixel)
        fringe = weak[n] & asked & grow(core, FRINGE_METRES, pixel)
        whole = grow(core | opened(fringe, _narrow(pixel), pixel), GROW_METRES, pixel)
        found[judged] = np.where(whole & asked, np.uint8(code), found[judged])
    return found


def bright_ground(sample: Sample, classes: NDArray[np.uint8], pixel: Pixel) -> Mask:
    """What `classes` (T, H, W) call cloud but is bright ground, (T, H, W). Halo: `ground_halo`.

    An observation is released where it is as usual for the pixel, the pixel is so on `STAYS` dates and on half of all, is
    called cloud on half of those, and was never measured darker but in shadow, which dims infrared as much as blue. So
    nothing is released where all dates are cloudy but differ, and nothing where dark ground was ever seen.
    """
    cloud = (classes == Cover.THIN) | (classes == Cover.THICK)
    released = np.zeros_like(cloud)
    seen = sample.s2_valid & (classes != Cover.NODATA) & (classes != Cover.SHADOW)
    often = (cloud.sum(axis=0) >= STAYS / 2) & (seen.sum(axis=0) >= STAYS)
    if not often.any():
        return released
    called, counted = cloud[:, often], seen[:, often]
    against = {}  # the usual reflectance
    for part in ROLES:
        if (name := role(sample.place.bands, part)) is not None:
            layer = np.where(counted, band(sample, name)[:, often], np.float32(np.nan))
            against[part] = layer / np.maximum(_median(layer), np.float32(1e-3))
    same = np.all([np.abs(share - 1) <= SAME for share in against.values()], axis=0)
    bright = against["blue" if "blue" in against else next(iter(against))]
    shaded = (bright > DARKEST) & (against.get("nir", bright) <= bright)
    ground = ~((bright < DARKER) & ~shaded).any(axis=0)
    number = same.sum(axis=0)
    ground &= (number >= STAYS) & (2 * number >= counted.sum(axis=0)) & (2 * (same & called).sum(axis=0) >= number)
    released[:, often] = same & called & ground
    rest = cloud & ~released
    thin = rest & ~opened(rest, _narrow(pixel), pixel)  # mixed pixels at its border
    return released | (thin & grow(released, RIM_METRES, pixel))


def _median(layer: Image) -> Image:
    """(T, n) -> (n,): the median of what is not NaN, of which there is some."""
    ordered, number = np.sort(layer, axis=0), np.isfinite(layer).sum(axis=0)  # NaN comes last
    low, high = (np.take_along_axis(ordered, at[None], 0)[0] for at in ((number - 1) // 2, number // 2))
    middle: Image = (low + high) / np.float32(2)
    return middle


def ground_halo(pixel: Pixel) -> int:
    """Pixels around a window beyond which `bright_ground` no longer changes it."""
    return max(2 * reach(_narrow(pixel), pixel), reach(RIM_METRES, pixel))


def _mended_grounds(
    layers: dict[str, Image], asked: Mask, days: NDArray[np.int64], at: NDArray[np.intp], judged: NDArray[np.intp]
) -> tuple[dict[str, Image], Image]:
    """`grounds` of the dates `judged`, looked at again without what a first look finds on any date, where it finds anything:
    a missed cloud spoils what is beside it. Also the ground of dates `at` in near infrared where its brighter side in time
    counts: (len(at), H, W).

    A few rows at a time, which stay in the processor's cache.
    """
    ground = {part: np.empty((len(judged), *asked.shape[1:]), np.float32) for part in layers}
    light = np.empty((len(at), *asked.shape[1:]), np.float32)
    for rows in _strips(asked.shape):
        some, seen = {part: layer[:, rows] for part, layer in layers.items()}, asked[:, rows]
        first = grounds(some, seen, days)
        cloud, dark = suspects(some, first, STRONG)
        spoilt = seen & (cloud | dark)
        where = spoilt.any(axis=0)
        again = {}
        if where.any():
            again = grounds({part: layer[:, where] for part, layer in some.items()}, (seen & ~spoilt)[:, where], days, judged)
        for part, layer in first.items():
            ground[part][:, rows] = layer if len(judged) == len(days) else layer[judged]
            if again:
                ground[part][:, rows][:, where] = again[part]
        if len(at):
            light[:, rows] = grounds({"light": some["nir"]}, seen & ~spoilt, days, at)["light"]
    return ground, light


def _strips(shape: tuple[int, ...]) -> list[slice]:
    """Rows of (T, H, W), so few at a time that a layer of all dates has about `STRIP` values."""
    each = max(1, STRIP // (shape[0] * shape[2]))
    return [slice(first, first + each) for first in range(0, shape[1], each)]


def suspects(layers: dict[str, Image], ground: dict[str, Image], limits: Limits) -> tuple[Mask, Mask]:
    """Pixels (T, H, W) that differ from the ground as under cloud, and as in shadow. False where the ground is unknown."""
    bright = "blue" if "blue" in layers else "red"
    rise = layers[bright] - ground[bright]
    cloud = rise > np.maximum(limits.rise * (1.0 if bright == "blue" else BLIND), BRIGHT * ground[bright])
    if bright == "blue" and "red" in layers:
        cloud &= rise - limits.haze * (layers["red"] - ground["red"]) > limits.excess
    if "swir" in layers:
        cloud &= layers["swir"] > SNOW_SWIR * ground["swir"]
    dark = rise < limits.lift
    for part, factor in (("nir", limits.nir), ("swir", limits.swir)):
        if part in layers:
            dark &= layers[part] < factor * ground[part]
    return cloud, dark if "nir" in layers else np.zeros_like(dark)


def _all_suspects(layers: dict[str, Image], ground: dict[str, Image], limits: Limits) -> tuple[Mask, Mask]:
    """`suspects`, a few rows at a time."""
    shape = next(iter(layers.values())).shape
    cloud, dark = np.empty(shape, bool), np.empty(shape, bool)
    for rows in _strips(shape):
        cloud[:, rows], dark[:, rows] = suspects(
            {part: layer[:, rows] for part, layer in layers.items()},
            {part: layer[:, rows] for part, layer in ground.items()},
            limits,
        )
    return cloud, dark


def lit(layers: dict[str, Image], ground: dict[str, Image], light: Image, asked: Mask, pixel: Pixel) -> Mask:
    """Areas (T, H, W) where near infrared rises more than blue: stronger light, not cloud. Means over LIGHT_METRES."""
    bright = "blue" if "blue" in layers else "red"
    excess = layers["nir"] - light - LIGHT * (layers[bright] - ground[bright])
    total = np.where(asked & np.isfinite(excess), excess, 0).astype(np.float64)
    for axis, side in ((1, pixel[0]), (2, pixel[1])):  # plain sums: a running mean would depend on where a block begins
        total = ndimage.correlate1d(total, np.ones(2 * int(LIGHT_METRES / 2 / side + 1e-9) + 1), axis, mode="constant")
    return total > 0


def grounds(
    layers: dict[str, Image], seen: Mask, days: NDArray[np.int64], at: NDArray[np.intp] | None = None
) -> dict[str, Image]:
    """What the ground may look like in each layer (T, ...), on all dates or those `at`: the more cloud-like (visible) or
    shadow-like (infrared) of what was seen before and after, so that only what differs from both stands out. NaN with fewer
    than `SUPPORT` observations.
    """
    signs = [1 if part in ("blue", "red", "light") else -1 for part in layers]  # infrared is turned over: dark stands out there
    shape, wanted = seen.shape, np.arange(len(days)) if at is None else at
    stack = np.empty((shape[0], len(layers), *shape[1:]), np.float32)
    for k, (sign, layer) in enumerate(zip(signs, layers.values(), strict=True)):
        np.multiply(layer, np.float32(sign), out=stack[:, k])
    before, earlier = _beside(stack, seen, days, wanted)
    after, later = _beside(stack[::-1], seen[::-1], -days[::-1], len(days) - 1 - wanted[::-1])
    ground = np.fmax(before, after[::-1], out=before)
    few = earlier + later[::-1] < SUPPORT
    found = {}
    for k, (part, sign) in enumerate(zip(layers, signs, strict=True)):
        found[part] = np.float32(sign) * ground[:, k]
        np.copyto(found[part], np.float32(np.nan), where=few)
    return found


def _beside(stack: Image, seen: Mask, days: NDArray[np.int64], wanted: NDArray[np.intp]) -> tuple[Image, NDArray[np.int8]]:
    """For every wanted date (ascending) of (T, R, ...) the middle of the three nearest earlier values seen, and how many
    there are. Of two values the lower is taken, the one that no missed cloud has spoiled; without any, NaN.
    """
    middle = np.full((len(wanted), *stack.shape[1:]), np.nan, np.float32)
    count = np.zeros((len(wanted), *seen.shape[1:]), np.int8)
    nearest = np.zeros((3, *stack.shape[1:]), np.float32)  # newest first
    when = np.full((3, *seen.shape[1:]), np.iinfo(np.int32).min // 2, np.int32)
    places = {int(t): n for n, t in enumerate(wanted)}
    for t in range(1, max(places, default=0) + 1):
        for slots, newest in ((nearest, stack[t - 1]), (when, np.int32(days[t - 1]))):
            for older, newer in ((slots[2], slots[1]), (slots[1], slots[0]), (slots[0], newest)):
                np.copyto(older, newer, where=seen[t - 1])
        if (n := places.get(t)) is None:
            continue
        count[n] = (when >= days[t] - DAYS).sum(axis=0, dtype=np.int8)
        lower, upper = np.minimum(nearest[0], nearest[1]), np.maximum(nearest[0], nearest[1])
        middle[n] = np.maximum(lower, np.minimum(upper, nearest[2]))
        for number, value in ((2, lower), (1, nearest[0]), (0, np.float32(np.nan))):
            np.copyto(middle[n], value, where=count[n] == number)
    return middle, count
