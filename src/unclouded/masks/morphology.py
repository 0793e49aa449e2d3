"""Growing, shrinking and cleaning masks, in metres: a mask is (..., H, W) bool, a pixel is (rows, columns) metres.

Outside the image is "not in the mask" when growing and "in the mask" when shrinking, so that borders are left alone.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, cos, floor, radians

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unclouded.bands import BY_NAME
from unclouded.sample import Place

Mask = NDArray[np.bool_]
Pixel = tuple[float, float]  # metres down, metres across
METRES_PER_DEGREE = 111_320.0


def pixel_metres(place: Place) -> Pixel:
    """Size of a pixel in metres (down, across). Without a grid: the finest native size of the bands there are."""
    if place.grid is None or place.grid.crs is None:
        side = float(min(BY_NAME[name].metres for name in place.bands))
        return side, side
    down, across = abs(place.grid.resolution.y), abs(place.grid.resolution.x)
    if place.grid.crs.geographic:
        middle = (place.grid.extent.boundingbox.bottom + place.grid.extent.boundingbox.top) / 2
        return down * METRES_PER_DEGREE, across * METRES_PER_DEGREE * cos(radians(middle))
    return float(down), float(across)


def disk(metres: float, pixel: Pixel) -> Mask:
    """Filled circle: every pixel whose centre lies within `metres`."""
    rows, cols = (floor(metres / side + 1e-9) for side in pixel)
    y, x = np.ogrid[-rows : rows + 1, -cols : cols + 1]
    inside: Mask = np.hypot(y * pixel[0], x * pixel[1]) <= metres + 1e-6
    return inside


def reach(metres: float, pixel: Pixel) -> int:
    """How many pixels `metres` spans at most: the halo of growing or shrinking by as much."""
    return int(max(floor(metres / side + 1e-9) for side in pixel))


def grow(mask: Mask, metres: float, pixel: Pixel) -> Mask:
    """Everything within `metres` of the mask: dilation by a `disk`, row by row of the disk, widening as the rows get longer."""
    half = disk(metres, pixel).sum(axis=1) // 2  # of each row of the disk
    middle = len(half) // 2
    out, wide, width = np.zeros_like(mask), mask.copy(), 0
    for down in range(middle, -1, -1):
        while width < half[middle + down]:
            width += 1
            wide[..., width:] |= mask[..., :-width]
            wide[..., :-width] |= mask[..., width:]
        kept = max(mask.shape[-2] - down, 0)
        out[..., down:, :] |= wide[..., :kept, :]
        out[..., :kept, :] |= wide[..., down:, :]
    return out


def shrink(mask: Mask, metres: float, pixel: Pixel) -> Mask:
    """Everything farther than `metres` from what is not the mask."""
    return ~grow(~mask, metres, pixel)


def opened(mask: Mask, metres: float, pixel: Pixel) -> Mask:
    """Shrunk, then grown: parts narrower than twice `metres` vanish, the others keep their size."""
    return grow(shrink(mask, metres, pixel), metres, pixel)


def closed(mask: Mask, metres: float, pixel: Pixel) -> Mask:
    """Grown, then shrunk: gaps narrower than twice `metres` close, the outline stays."""
    return shrink(grow(mask, metres, pixel), metres, pixel)


def drop_specks(mask: Mask, square_metres: float, pixel: Pixel) -> Mask:
    """Without connected parts (4 neighbours) smaller than `square_metres`. Halo: as many pixels as that area has."""
    least = square_metres / (pixel[0] * pixel[1])
    return _each(mask, lambda m: m & ~_small(m, least))


def fill_holes(mask: Mask, square_metres: float, pixel: Pixel) -> Mask:
    """With enclosed gaps (4 neighbours) smaller than `square_metres` filled; a gap that touches the border counts as open."""
    least = square_metres / (pixel[0] * pixel[1])

    def filled(m: Mask) -> Mask:
        gaps = ~m
        rim = np.pad(gaps, 1, constant_values=True)  # joins all gaps at the border into one that is large
        labels, _ = ndimage.label(rim)
        sizes = np.bincount(labels.ravel())
        sizes[labels[0, 0]] = rim.size + ceil(least)
        small: Mask = (gaps & (sizes < least)[labels[1:-1, 1:-1]]).astype(bool)
        return m | small

    return _each(mask, filled)


def cell_sums(layer: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Sums (h, w) over cells of `factor` x `factor` pixels of a layer (H, W); cells at the far borders may be smaller."""
    over = [(0, -n % factor) for n in layer.shape]
    whole = np.pad(layer, over) if any(far for _, far in over) else layer
    rows = whole[::factor].copy()
    for k in range(1, factor):
        rows += whole[k::factor]
    sums = rows[:, ::factor].copy()
    for k in range(1, factor):
        sums += rows[:, k::factor]
    return sums


def _each(mask: Mask, change: Callable[[Mask], Mask]) -> Mask:
    """Apply a change of one (H, W) mask to every mask of a stack."""
    flat = mask.reshape(-1, *mask.shape[-2:])
    return np.stack([change(m) for m in flat]).reshape(mask.shape) if len(flat) else mask.copy()


def _small(mask: Mask, least: float) -> Mask:
    labels, _ = ndimage.label(mask)
    small: Mask = (np.bincount(labels.ravel()) < least)[labels]
    return small
