"""Shadows from geometry: every cloud is moved along the sun's azimuth until it falls on dark near infrared.

The object matching of Fmask (Zhu & Woodcock 2012) without its thermal band: the height of a cloud is unknown, so each cloud is
tried at all distances and placed where most of the land it would shade is dark against its surroundings. Where the sun is not
known its azimuth is read from the image itself, as the shift at which clouds and dark land agree best. Water is left out: it is
dark anyway, and a shadow on it hides nothing.

Clouds throw their shadow kilometres away, so matching works on an overview of the whole date, in cells of some 20 to 80 m; the
pixels are then judged one by one against what the overview says. The result does not depend on how the scene is cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, cos, radians, sin, tan

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from unclouded.masks.detection import band
from unclouded.masks.morphology import Pixel, cell_sums, grow, opened
from unclouded.masks.sun import Sun
from unclouded.sample import Cover, Sample, Window

Cells = NDArray[np.float32]
Mask = NDArray[np.bool_]
Offsets = NDArray[np.int64]  # (K, 2) rows and columns, in cells

CELL_METRES, MOST_CELLS = 20.0, 2_000_000
SURROUNDINGS = 2_000.0  # metres over which land is averaged to tell what is dark
NIR, SWIR = 0.65, 0.75  # a shaded pixel lies below these shares of its surroundings
CLOUD_HEIGHTS = (200.0, 12_000.0)  # metres, as Fmask
FARTHEST = 15_000.0  # metres on the ground that a shadow is looked for
UNKNOWN_FARTHEST = 4_000.0  # the same when the sun is not known: farther off, chance agreements win
MORNING = (15.0, 190.0)  # azimuths between which the sun stands when Sentinel-2 passes, from one polar circle to the other
SPREAD, UNKNOWN_SPREAD = 3.0, 12.0  # degrees by which a known and an estimated azimuth may be wrong
LEAST_LIFT = 1.5  # how much more often than by chance the estimated shift must meet dark land
LEAST_MATCH = 0.3  # share of the shaded land that must be dark for a cloud to be placed
RIM = 0.8  # how much dark land around the place counts against it: a wood is not as large as its cloud
SAMPLE = 1000  # cells of a cloud that are tried; of larger ones a part
DEPTH = 0.25  # of the way from a cloud to its shadow: how much nearer and farther it may reach
DEEP = 0.45  # share of its surroundings below which land is in shadow even where no placed cloud throws one
FRINGE_METRES, OPEN_METRES = 60.0, 10.0

NIR_BANDS, SWIR_BANDS = ("B08", "B8A", "B07"), ("B11", "B12")


def factor_of(shape: tuple[int, int], pixel: Pixel) -> int:
    """Pixels per cell side: cells of at least `CELL_METRES`, and not more than `MOST_CELLS` of them."""
    by_size = ceil(CELL_METRES / max(pixel) - 1e-9)
    return max(1, by_size, ceil((shape[0] * shape[1] / MOST_CELLS) ** 0.5))


@dataclass(frozen=True, kw_only=True)
class Overview:
    """One date in cells (h, w): how many pixels are cloud, how many clear land, and the sums of the latter's infrared."""

    factor: int
    shape: tuple[int, int]  # of the scene, in pixels
    cloud: Cells
    land: Cells
    nir: Cells
    swir: Cells

    @staticmethod
    def empty(shape: tuple[int, int], pixel: Pixel) -> Overview:
        """For a scene of `shape` pixels, nothing in it yet."""
        factor = factor_of(shape, pixel)
        cells = ceil(shape[0] / factor), ceil(shape[1] / factor)
        cloud, land, nir, swir = (np.zeros(cells, np.float32) for _ in range(4))
        return Overview(factor=factor, shape=shape, cloud=cloud, land=land, nir=nir, swir=swir)

    def add(self, window: Window, sample: Sample, classes: NDArray[np.uint8]) -> None:
        """Count a window whose corner lies on a cell's corner: one date of a sample and its classes (h, w)."""
        nir, swir, water = infrared(sample)
        land = (classes == Cover.CLEAR) & ~water
        cloud = (classes == Cover.THICK) | (classes == Cover.THIN)
        row, col = window.row // self.factor, window.col // self.factor
        for layer, values in ((self.cloud, cloud), (self.land, land), (self.nir, nir * land), (self.swir, swir * land)):
            sums = cell_sums(values.astype(np.float32, copy=False), self.factor)
            layer[row : row + sums.shape[0], col : col + sums.shape[1]] = sums


@dataclass(frozen=True, kw_only=True)
class Shade:
    """Where one date may be in shadow, in cells, and below which infrared reflectance a pixel there is."""

    factor: int
    zone: Mask
    nir: Cells
    swir: Cells
    azimuth: float  # of the sun, degrees
    known: bool  # whether it was known, or read from the image
    placed: int  # clouds whose shadow was found


def infrared(sample: Sample) -> tuple[NDArray[np.float32], NDArray[np.float32], Mask]:
    """Near infrared, short-wave infrared (near infrared again if there is none) and water of the first date, (H, W)."""
    names = sample.place.bands
    nir = band(sample, next(b for b in NIR_BANDS if b in names))[0]
    short = next((b for b in SWIR_BANDS if b in names), None)
    swir = nir if short is None else band(sample, short)[0]
    if "B03" not in names:
        return nir, swir, (nir < 0.04) & (swir < 0.03)
    sky = np.float32(0.02 if sample.place.level == "L1C" else 0.0)  # what a clear sky adds to green more than to infrared
    return nir, swir, (band(sample, "B03")[0] - sky > nir) & (swir < 0.06)  # shade keeps land brighter in infrared


def bands(there: tuple[str, ...]) -> set[str]:
    """The bands of a product that tell shade and water."""
    firsts = (next((b for b in some if b in there), None) for some in (NIR_BANDS, SWIR_BANDS, ("B03",)))
    return {name for name in firsts if name is not None}


def fits(bands: tuple[str, ...]) -> bool:
    """Whether a product has a near infrared band, without which no shadow is found."""
    return any(b in bands for b in NIR_BANDS)


def find(view: Overview, pixel: Pixel, sun: Sun | None) -> Shade | None:
    """Place the shadows of all clouds of a date. None where there is no cloud, no land, or the sun cannot be told."""
    size = np.float32(view.factor**2)
    cloud, land = view.cloud > 0.25 * size, view.land > 0.5 * size
    if not cloud.any() or not land.any():
        return None
    nir = _surroundings(view.nir, view.land, view.factor, pixel)
    swir = _surroundings(view.swir, view.land, view.factor, pixel)
    count = np.maximum(view.land, 1)
    dark = land & (view.nir / count < NIR * nir) & (view.swir / count < SWIR * swir)
    cell = pixel[0] * view.factor, pixel[1] * view.factor
    known = sun is not None
    if sun is not None:
        near, far = (height * tan(radians(min(sun.zenith, 80.0))) for height in CLOUD_HEIGHTS)
        azimuth, reach, spread = sun.azimuth, (near, min(far, FARTHEST)), SPREAD
    else:
        estimate = azimuth_of(cloud, land, dark, cell)
        if estimate is None:
            return None
        azimuth, reach, spread = estimate, (0.0, UNKNOWN_FARTHEST), UNKNOWN_SPREAD
    zone, usual, placed = _place(cloud, land, dark, [shifts(azimuth + by, reach, cell) for by in (-spread, 0.0, spread)])
    fringe = max(FRINGE_METRES, *cell)
    sure, likely = grow(zone, fringe, cell), grow(_doubtful(cloud, usual), fringe, cell) if placed else zone
    return Shade(
        factor=view.factor, zone=sure | likely, azimuth=azimuth, known=known, placed=placed,
        nir=np.where(sure, np.float32(NIR), np.float32(DEEP)) * nir,
        swir=np.where(sure, np.float32(SWIR), np.float32(DEEP)) * swir,
    )  # fmt: skip


def apply(shade: Shade, window: Window, sample: Sample, classes: NDArray[np.uint8], pixel: Pixel) -> Mask:
    """The pixels (h, w) of a window that lie in shadow: in the zone, dark, neither cloud nor water. Halo: `HALO` pixels."""
    rows = np.arange(window.row, window.row + window.height) // shade.factor
    cols = np.arange(window.col, window.col + window.width) // shade.factor
    at = np.ix_(rows, cols)
    nir, swir, water = infrared(sample)
    ground = (classes == Cover.CLEAR) | (classes == Cover.SHADOW)
    dark = (nir < shade.nir[at]) & (swir < shade.swir[at])
    return opened(shade.zone[at] & ground & dark & ~water, OPEN_METRES, pixel)


def shifts(azimuth: float, reach: tuple[float, float], cell: Pixel) -> Offsets:
    """Where a shadow may fall, seen from its cloud: away from the sun, at every distance in `reach` metres, in cells."""
    step = min(cell)
    metres = np.arange(max(reach[0], step), max(reach[1], step) + step, step)
    away = radians(azimuth + 180)
    offsets = np.stack([-cos(away) * metres / cell[0], sin(away) * metres / cell[1]], axis=1)
    return np.unique(np.rint(offsets).astype(np.int64), axis=0)


def azimuth_of(cloud: Mask, land: Mask, dark: Mask, cell: Pixel) -> float | None:
    """The sun's azimuth in degrees, from the shift at which clouds meet dark land most often; None if none stands out."""
    shape = [fft.next_fast_len(2 * n, real=True) for n in cloud.shape]
    spectrum = np.conj(fft.rfft2(cloud.astype(np.float32), shape))

    def met(layer: Mask) -> NDArray[np.float32]:
        hits: NDArray[np.float32] = fft.irfft2(spectrum * fft.rfft2(layer.astype(np.float32), shape), shape)
        return hits

    rows, cols = (fft.fftfreq(n, 1 / n) for n in shape)
    down, right = np.meshgrid(rows * cell[0], cols * cell[1], indexing="ij")
    metres, azimuth = np.hypot(down, right), np.degrees(np.arctan2(-right, down)) % 360  # the sun stands opposite to the shift
    on_land, base = met(land), dark.sum() / land.sum()
    enough = (on_land > 0.05 * cloud.sum()) & (metres <= UNKNOWN_FARTHEST) & (metres >= 2 * min(cell))
    enough &= (azimuth >= MORNING[0]) & (azimuth <= MORNING[1])
    lift = np.where(enough, met(dark) / np.maximum(on_land, 1), 0)
    best = np.unravel_index(int(lift.argmax()), lift.shape)
    if base == 0 or lift[best] < LEAST_LIFT * base:
        return None
    return float(azimuth[best])


def _surroundings(sums: Cells, count: Cells, factor: int, pixel: Pixel) -> Cells:
    """The mean over clear land within `SURROUNDINGS`, shadows left out in a second round. 0 where there is no land."""
    sides = [2 * max(1, round(SURROUNDINGS / 2 / (side * factor))) + 1 for side in pixel]

    def mean(kept: Mask) -> Cells:
        total, number = (
            ndimage.uniform_filter(np.where(kept, a, 0).astype(np.float64), sides, mode="constant") for a in (sums, count)
        )
        return np.where(number > 1e-6, total / np.maximum(number, 1e-6), 0).astype(np.float32)

    first = mean(count > 0)
    return mean((count > 0) & (sums > 0.7 * first * count))


def _doubtful(cloud: Mask, usual: NDArray[np.int64]) -> Mask:
    """Where shadow is likely by the distance that is usual on this date: of clouds not placed, and of clouds outside."""
    zone = np.zeros(cloud.shape, bool)
    y, x = np.nonzero(cloud)
    for part in (1 - DEPTH, 1.0, 1 + DEPTH):
        at, inside = _landing(y, x, np.rint(part * usual).astype(np.int64), cloud.shape)
        zone[at[0][inside], at[1][inside]] = True
    away = np.rint((1 + DEPTH) * usual).astype(np.int64)
    for axis, far in enumerate(away):  # nearer to the sunward border than a shadow is to its cloud
        rim = slice(0, far) if far > 0 else slice(cloud.shape[axis] + far, None)
        zone[(slice(None),) * axis + (rim,)] |= far != 0
    return zone


def _place(cloud: Mask, land: Mask, dark: Mask, rays: list[Offsets]) -> tuple[Mask, NDArray[np.int64], int]:
    """The shadow zone (h, w) of all clouds: where each falls on dark land most often; the usual shift; how many are placed."""
    labels, number = ndimage.label(cloud, np.ones((3, 3)))
    offsets = np.unique(np.concatenate(rays), axis=0)
    base = dark.sum() / max(1, land.sum())
    score = _matches(labels, number, offsets, land, dark, base)
    rim = np.where(cloud, 0, ndimage.maximum_filter(labels, 5))  # where a shadow of the cloud's own shape has ended
    around = _matches(rim, number, offsets, land, dark, base)
    near = _near(offsets)
    consensus = near @ score.mean(axis=1) / near.sum(axis=1)  # clouds of one day hang at similar heights
    likely = (0.5 + 0.5 * consensus / max(float(consensus.max()), 1e-9))[:, None]
    best = ((score - RIM * around) * likely).argmax(axis=0)
    found = score[best, np.arange(number)] >= max(LEAST_MATCH, 1.5 * base)
    keep = found & near[best].T & (score >= 0.8 * score[best, np.arange(number)])  # a cloud has depth: a run of shifts, not one
    y, x = np.nonzero(cloud)
    objects = labels[y, x] - 1
    zone = np.zeros(cloud.shape, bool)
    for k, offset in enumerate(offsets):
        if keep[k].any():
            chosen = keep[k][objects]
            at, inside = _landing(y[chosen], x[chosen], offset, cloud.shape)
            zone[at[0][inside], at[1][inside]] = True
    return zone, offsets[int(consensus.argmax())], int(found.sum())


def _matches(labels: NDArray[np.int32], number: int, offsets: Offsets, land: Mask, dark: Mask, base: float) -> Cells:
    """For every shift and object (K, number) the share of the land it falls on that is dark, shrunk towards chance."""
    y, x = _sampled(labels)
    objects = labels[y, x] - 1
    share = np.zeros((len(offsets), number), np.float32)
    for k, offset in enumerate(offsets):
        at, inside = _landing(y, x, offset, labels.shape)
        ground = inside & land[at]
        lands = np.bincount(objects[ground], minlength=number)
        darks = np.bincount(objects[ground & dark[at]], minlength=number)
        share[k] = np.where(darks >= 2, (darks + 4 * base) / (lands + 4), 0)
    return share


def _sampled(labels: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of the cells of all objects; of large ones about `SAMPLE` cells, evenly spread."""
    y, x = np.nonzero(labels)
    sizes = np.bincount(labels[y, x])
    step = np.maximum(1, sizes // SAMPLE)[labels[y, x]]
    kept = (np.arange(len(y)) * 7919) % step == 0  # a large prime, so that no row or column is preferred
    return y[kept], x[kept]


def _near(offsets: Offsets) -> Mask:
    """Which offsets (K, K) are as good as the same: within two cells, or within `DEPTH` of the way."""
    apart = np.hypot(*(offsets[:, None] - offsets).transpose(2, 0, 1))
    near: Mask = apart <= np.maximum(2, DEPTH * np.hypot(*offsets.T))[:, None]
    return near


def _landing(
    y: NDArray[np.int64], x: NDArray[np.int64], offset: NDArray[np.int64], shape: tuple[int, ...]
) -> tuple[tuple[NDArray[np.int64], NDArray[np.int64]], Mask]:
    """Cells shifted by an offset, clipped into the image, and which of them are really inside."""
    down, right = y + offset[0], x + offset[1]
    inside = (down >= 0) & (down < shape[0]) & (right >= 0) & (right < shape[1])
    return (down.clip(0, shape[0] - 1), right.clip(0, shape[1] - 1)), inside
