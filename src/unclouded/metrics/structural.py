"""Structural similarity in the windows that code bases use, and the universal quality index. Wang et al. 2004, Wang 2002.

Blurring is written as two matrix products per strip of rows and columns: exact for any window and any border, and faster
than sliding, since 13 bands of five maps share the matrices.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from unclouded.metrics.pair import Mask, Pair, Sums, ratio

Border = Literal["valid", "zero", "reflect"]
STRIP = 64  # rows or columns blurred at once: large enough for the matrix product, small enough that few zeros are multiplied


@dataclass(frozen=True)
class Window:
    """A square averaging window: Gaussian with `sigma` around `centre` (None: the middle), or uniform where sigma is 0.

    `border`: `valid` keeps only windows inside the image, `zero` pads with zeros, `reflect` mirrors without the edge pixel.
    """

    size: int = 11
    sigma: float = 1.5
    border: Border = "valid"
    centre: float | None = None

    @property
    def weights(self) -> NDArray[np.float64]:
        """(size,), summing to 1."""
        if not self.sigma:
            return np.full(self.size, 1 / self.size)
        at = np.arange(self.size) - ((self.size - 1) / 2 if self.centre is None else self.centre)
        weights = np.exp(-(at**2) / (2 * self.sigma**2))
        return np.asarray(weights / weights.sum())


WINDOWS: dict[str, Window] = {
    "valid": Window(),  # Wang 2004; tf.image.ssim (DSen2-CR); scikit-image with gaussian_weights
    "zero": Window(border="zero"),  # the PyTorch port that SEN12MS-CR-TS and UnCRtainTS use
    "zero_off_centre": Window(border="zero", centre=5.5),  # GLF-CR, M3R-CR, HPN-CR: 11 taps around 5.5 instead of 5
    "zero_5": Window(size=5, border="zero"),  # U-TILISE
    "uniform_7": Window(size=7, sigma=0),  # the default of scikit-image (Sen2_MTC codes)
}


@cache
def _matrix(window: Window, length: int) -> NDArray[np.float64]:
    """(outputs, length): every row holds the window at one position."""
    radius = window.size // 2
    outputs = length - window.size + 1 if window.border == "valid" else length
    matrix = np.zeros((max(outputs, 0), length))
    for row in range(len(matrix)):
        for k, weight in enumerate(window.weights):
            at = row + k - (0 if window.border == "valid" else radius)
            if window.border == "reflect" and length > 1:
                at = abs((at + length - 1) % (2 * length - 2) - (length - 1))
            if 0 <= at < length:
                matrix[row, at] += weight
    return matrix


@cache
def _strips(window: Window, length: int, dtype: str) -> tuple[tuple[slice, slice, NDArray[np.floating]], ...]:
    """The matrix cut into strips: (outputs, the inputs they need, the part of the matrix between them)."""
    matrix = _matrix(window, length)
    parts = []
    for start in range(0, len(matrix), STRIP):
        rows = slice(start, min(start + STRIP, len(matrix)))
        used = np.flatnonzero(matrix[rows].any(0))
        columns = slice(int(used[0]), int(used[-1]) + 1)
        parts.append((rows, columns, matrix[rows, columns].astype(dtype)))
    return tuple(parts)


def blur(images: NDArray[np.floating], window: Window) -> NDArray[np.floating]:
    """(..., H, W) averaged under the window; H and W shrink by size - 1 where the border is `valid`. Keeps the type."""
    height, width = images.shape[-2:]
    down, across = (_strips(window, n, images.dtype.name) for n in (height, width))
    if not down or not across:  # smaller than the window
        return np.empty((*images.shape[:-2], 0, 0), images.dtype)
    middle = np.empty((*images.shape[:-1], across[-1][0].stop), images.dtype)
    for columns, used, part in across:
        middle[..., columns] = images[..., used] @ part.T
    result = np.empty((*images.shape[:-2], down[-1][0].stop, middle.shape[-1]), images.dtype)
    for rows, used, part in down:
        result[..., rows, :] = part @ middle[..., used, :]
    return result


def _whole_windows(seen: Mask, window: Window) -> Mask:
    """Where a window touches no pixel that does not count, by its position."""
    if seen.all():
        return np.ones(tuple(max(n - window.size + 1, 0) if window.border == "valid" else n for n in seen.shape), bool)
    square = Window(window.size, 0, window.border)
    return np.asarray(blur((~seen)[None].astype(np.float32), square)[0] < 0.5 / window.size**2)


def _centres(area: Mask, window: Window) -> Mask:
    """An area at the positions of the windows: of the pixel in the middle."""
    if window.border != "valid":
        return area
    low = window.size // 2
    high = (window.size - 1) // 2
    return area[low : area.shape[0] - high, low : area.shape[1] - high]


def ssim_map(
    prediction: NDArray[np.floating], target: NDArray[np.floating], window: Window, c1: float, c2: float, sample: bool = False
) -> NDArray[np.floating]:
    """SSIM of every window and band (C, H', W'), Wang 2004 eq. 13. `sample`: variances over n - 1, as scikit-image has it.

    Variances do not change when a constant is taken from both images, and float32 keeps more of them then: the mean of the
    target is taken away. Where a window reaches over a border of zeros (weight `inside` < 1) the constant is put back.
    """
    factor = np.asarray(window.size**2 / (window.size**2 - 1) if sample else 1, prediction.dtype)
    inside = _weight_inside(window, prediction.shape[1:]).astype(prediction.dtype)
    if not inside.size:  # smaller than the window
        return np.empty((len(prediction), 0, 0), prediction.dtype)
    outside = (1 - inside) if window.border == "zero" else None
    each = []
    for whole_p, whole_t in zip(prediction, target, strict=True):  # band by band: five maps stay in the cache
        base = whole_t.mean(dtype=np.float64).astype(prediction.dtype)
        p, t = whole_p - base, whole_t - base
        mean_p, mean_t, pp, tt, pt = blur(np.stack([p, t, p * p, t * t, p * t]), window)
        both = pt - mean_p * mean_t
        own = pp + tt - mean_p * mean_p - mean_t * mean_t
        if outside is not None:
            border = outside * (base * (mean_p + mean_t) + base * base * inside)
            both, own = both + border, own + 2 * border
        mean_p, mean_t = mean_p + base * inside, mean_t + base * inside
        above = (2 * mean_p * mean_t + c1) * (2 * factor * both + c2)
        below = (mean_p * mean_p + mean_t * mean_t + c1) * (factor * own + c2)
        each.append(above / below)
    return np.stack(each)


def _weight_inside(window: Window, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """(H', W'): how much of a window's weight lies inside the image."""
    rows, columns = (_matrix(window, n).sum(1) for n in shape)
    return np.outer(rows, columns)


@dataclass(frozen=True)
class Ssim:
    """Mean structural similarity over windows and bands. Sums: similarities, windows times bands.

    `window` is a name of WINDOWS. In an area, a window counts by its middle pixel; a window that touches a pixel which is
    not valid never counts. `floor`: similarities below it are lifted to it (U-TILISE: 0). NaN for an image smaller than the
    window.
    """

    window: str = "valid"
    peak: float = 1.0
    k1: float = 0.01
    k2: float = 0.03
    sample: bool = False
    floor: float = -1.0

    def state(self, pair: Pair, area: Mask | None = None) -> Sums:
        """See Metric."""
        window = WINDOWS[self.window]
        key = (window, self.peak, self.k1, self.k2, self.sample)
        if key not in pair.kept:
            constants = ((self.k1 * self.peak) ** 2, (self.k2 * self.peak) ** 2)
            pair.kept[key] = np.asarray(ssim_map(pair.prediction, pair.target, window, *constants, self.sample), np.float32)
        similar = pair.kept[key]
        if self.floor > -1:
            similar = np.maximum(similar, np.float32(self.floor))
        where = _whole_windows(pair.seen, window)
        if area is not None:
            where = where & _centres(area, window)
        elif where.all():
            return np.array([similar.sum(dtype=np.float64), similar.size])
        inside = similar.reshape(len(similar), -1) @ where.ravel().astype(np.float32)
        return np.array([inside.sum(dtype=np.float64), np.count_nonzero(where) * len(similar)])

    def value(self, sums: Sums) -> float:
        """See Metric."""
        return ratio(sums[0], sums[1])


@dataclass(frozen=True)
class Uqi:
    """Universal image quality index (Wang and Bovik 2002): mean over 8 x 8 windows and bands. Sums: qualities, windows.

    Where both windows are constant only the means are compared; where both are 0 throughout, the quality is 1.
    """

    size: int = 8

    def state(self, pair: Pair, area: Mask | None = None) -> Sums:
        """See Metric."""
        window = Window(self.size, 0)
        where = _whole_windows(pair.seen, window)
        if area is not None:
            where = where & _centres(area, window)
        total = sum(
            _quality(p.astype(np.float64), t.astype(np.float64), window)[where].sum()
            for p, t in zip(pair.prediction, pair.target, strict=True)
        )
        return np.array([total, np.count_nonzero(where) * len(pair.target)])

    def value(self, sums: Sums) -> float:
        """See Metric."""
        return ratio(sums[0], sums[1])


def _quality(p: NDArray[np.float64], t: NDArray[np.float64], window: Window) -> NDArray[np.float64]:
    mean_p, mean_t, pp, tt, pt = blur(np.stack([p, t, p * p, t * t, p * t]), window)
    both, squares = mean_p * mean_t, mean_p**2 + mean_t**2
    spread = pp + tt - squares
    varies, lit = spread > 1e-12 * np.maximum(pp + tt, 1e-30), squares > 0
    luminance = np.where(lit, 2 * both / np.where(lit, squares, 1), 1)
    return np.asarray(luminance * np.where(varies, 2 * (pt - both) / np.where(varies, spread, 1), 1))
