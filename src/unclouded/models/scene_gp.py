"""What the regression leaves, as a Gaussian process over pixels that are alike in their dates and near on the ground.

Likeness is distance in the features, each scaled by the prior strength of its weight: pixels are alike where the regression
says it matters. Two levels, both shared by all bands:

    Sparse  scene-wide, likeness only: subset of regressors (Quinonero-Candela and Rasmussen 2005, eq. 16) on up to 10 000
            clear pixels of the target; one small solve per scene
    Local   per cell, likeness and nearness on the ground, exact on a few hundred clear pixels around the hidden ones
            (Rasmussen and Williams 2006, eqs. 2.25, 4.18): a field's own departure, and borders without a seam
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from unclouded.models.temporal import Floats

ALIKE = 0.5  # squared length of likeness, in units of the median squared distance
NOISE = 1.5  # sparse level: noise over signal variance; large, for residuals of neighbours are not independent
LENGTH = 12.0  # pixels
SPACE, LIKE, BOTH = np.float32(0.2), np.float32(0.2), np.float32(0.8)  # local amplitudes: nearness, likeness, both
LOCAL_NOISE = np.float32(0.5)
STRIP = 256
KEPT = 0.999  # of the variance of what pixels are compared by


@dataclass(frozen=True)
class Sparse:
    """Scene-wide process: kernel bumps at `centres` with weights. `unit` is the median squared distance of features."""

    centres: Floats  # (M, D)
    weights: Floats  # (M, B)
    unit: float

    def __call__(self, f: Floats) -> tuple[Floats, Floats]:
        """Features (N, D) -> means (N, B), and likeness to the most alike centre (N,), 1 = the same."""
        means, most = np.empty((len(f), self.weights.shape[1]), np.float32), np.empty(len(f), np.float32)
        to_centres = alike_to(self.centres, self.unit)
        for at in _strips(len(f)):
            k = to_centres(f[at])
            means[at], most[at] = k @ self.weights, k.max(1)
        return means, most


def alike(f: Floats, g: Floats, unit: float) -> Floats:
    """Likeness (N, M) in (0, 1] of features (N, D) and (M, D)."""
    return alike_to(g, unit)(f)


def alike_to(g: Floats, unit: float) -> Callable[[Floats], Floats]:
    """Likeness of any features (N, D) to `g` (M, D), which are prepared once."""
    scale = np.float32(1 / np.sqrt(ALIKE * unit))
    others = _others(g * scale)

    def of(f: Floats) -> Floats:
        k = _less_half_squares(f * scale, others)
        return np.exp(k, out=k)

    return of


def _others(b: Floats) -> Floats:
    """Points (M, D) as a factor (D + 2, M) of `_less_half_squares`: b, 1, -|b|^2 / 2."""
    right = np.empty((len(b), b.shape[1] + 2), np.float32)
    right[:, :-2], right[:, -2], right[:, -1] = b, np.float32(1), np.einsum("nd,nd->n", b, b) / -2
    return right.T


def _less_half_squares(a: Floats, others: Floats) -> Floats:
    """-|a - b|^2 / 2 of points a (N, D) and all `_others` (N, M), as one matrix product: a b - |a|^2 / 2 - |b|^2 / 2."""
    left = np.empty((len(a), a.shape[1] + 2), np.float32)
    left[:, :-2], left[:, -2], left[:, -1] = a, np.einsum("nd,nd->n", a, a) / -2, np.float32(1)
    product: Floats = left @ others
    return product


def _strips(count: int) -> list[slice]:
    """Rows of a kernel matrix, so few at a time that they stay in the processor's cache."""
    return [slice(first, first + STRIP) for first in range(0, count, STRIP)]


def sparse(f: Floats, y: Floats, weight: Floats, centres: Floats) -> Sparse:
    """Fit residuals y (N, B), scaled to variance 1, at features f (N, D), each with its weight (N,)."""
    unit = median_square(f)
    k = alike(f, centres, unit).astype(np.float64)  # in float32 the system of a place that never changes may be indefinite
    kw = k * weight[:, None]
    system = kw.T @ k + NOISE * alike(centres, centres, unit)
    system[np.diag_indices(len(system))] += 1e-5 * np.trace(system) / len(system)
    weights = cho_solve(cho_factor(system, lower=True, check_finite=False), kw.T @ y, check_finite=False)
    return Sparse(centres, weights.astype(np.float32), unit)


def local(
    f: Floats, xy: Floats, y: Floats, weight: Floats, f_new: Floats, xy_new: Floats, unit: float
) -> tuple[Floats, Floats]:
    """Residuals y (M, B) of weight (M,) at clear pixels (features f, rows and columns xy) -> means (N, B) at others.

    Also the nearness (N,) of the closest one. A pixel of weight w has noise LOCAL_NOISE / w.
    """
    kernel = _local(f, xy, unit)
    k = kernel(f, xy)
    k[np.diag_indices(len(k))] += LOCAL_NOISE / np.maximum(weight, np.float32(1e-3))
    scale = np.maximum(np.sqrt((y * y * weight[:, None]).mean() / weight.mean()), np.float32(1e-6))
    solved = cho_solve(cho_factor(k, lower=True, check_finite=False), np.clip(y / scale, -4, 4), check_finite=False)
    means, closest = np.empty((len(f_new), y.shape[1]), np.float32), np.empty(len(f_new), np.float32)
    for at in _strips(len(f_new)):
        cross = kernel(f_new[at], xy_new[at])
        means[at], closest[at] = cross @ solved, cross.max(1)
    return scale * means, closest / (SPACE + LIKE + BOTH)


def _local(g: Floats, uv: Floats, unit: float) -> Callable[[Floats, Floats], Floats]:
    """Kernel (N, M) of any pixels (features, rows and columns) with those of features g (M, D) at uv (M, 2)."""
    to_features, places = alike_to(g, unit), _others(uv)

    def of(f: Floats, xy: Floats) -> Floats:
        near = _less_half_squares(xy, places)  # whole numbers: exact, never above 0
        near *= np.float32(-2 / LENGTH**2)
        np.sqrt(near, out=near)
        np.negative(near, out=near)
        np.exp(near, out=near)
        space = near * near
        space *= near
        space *= SPACE
        near *= BOTH
        near += LIKE
        near *= to_features(f)
        near += space
        return near

    return of


def directions(f: Floats) -> Floats:
    """Features as columns (F, N) -> (F, D) orthonormal directions that hold all but 1 - KEPT of their variance."""
    value, vector = np.linalg.eigh(np.cov(f, dtype=np.float64))
    least = int(np.searchsorted(np.cumsum(value), (1 - KEPT) * value.sum()))
    return np.ascontiguousarray(vector[:, least:], np.float32)


def median_square(f: Floats) -> float:
    """The median squared distance between points (N, D), of about 500 of them."""
    some = f[:: max(1, len(f) // 500)]
    d = -2 * _less_half_squares(some, _others(some))
    return max(float(np.median(d[np.triu_indices(len(d), 1)])), 1e-6) if len(some) > 1 else 1.0
