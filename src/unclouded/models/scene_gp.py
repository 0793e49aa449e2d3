"""What the regression leaves, as a Gaussian process over pixels that are alike in their dates and near on the ground.

Likeness is distance in the features, each scaled by the prior strength of its weight: pixels are alike where the regression
says it matters. Two levels, both shared by all bands:

    Sparse  scene-wide, likeness only: subset of regressors (Quinonero-Candela and Rasmussen 2005, eq. 16) on up to 10 000
            clear pixels of the target; one small solve per scene
    Local   per cell, likeness and nearness on the ground, exact on a few hundred clear pixels around the hidden ones
            (Rasmussen and Williams 2006, eqs. 2.25, 4.18): a field's own departure, and borders without a seam
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from unclouded.models.temporal import Floats

ALIKE = 0.5  # squared length of likeness, in units of the median squared distance
NOISE = 1.5  # sparse level: noise over signal variance; large, for residuals of neighbours are not independent
LENGTH = 12.0  # pixels
SPACE, LIKE, BOTH = np.float32(0.2), np.float32(0.2), np.float32(0.8)  # local amplitudes: nearness, likeness, both
LOCAL_NOISE = np.float32(0.5)


@dataclass(frozen=True)
class Sparse:
    """Scene-wide process: kernel bumps at `centres` with weights. `unit` is the median squared distance of features."""

    centres: Floats  # (M, D)
    weights: Floats  # (M, B)
    unit: float

    def __call__(self, f: Floats) -> tuple[Floats, Floats]:
        """Features (N, D) -> means (N, B), and likeness to the most alike centre (N,), 1 = the same."""
        k = alike(f, self.centres, self.unit)
        return k @ self.weights, k.max(1)


def alike(f: Floats, g: Floats, unit: float) -> Floats:
    """Likeness (N, M) in (0, 1] of features (N, D) and (M, D)."""
    d = _squares(f, g)
    d *= np.float32(-0.5 / (ALIKE * unit))
    np.minimum(d, 0, out=d)
    return np.exp(d, out=d)


def _squares(a: Floats, b: Floats) -> Floats:
    d: Floats = (-2 * a) @ b.T
    d += (a * a).sum(1)[:, None]
    d += (b * b).sum(1)[None]
    return d


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
    k = _local(f, xy, f, xy, unit)
    k[np.diag_indices(len(k))] += LOCAL_NOISE / np.maximum(weight, np.float32(1e-3))
    scale = np.maximum(np.sqrt((y * y * weight[:, None]).mean() / weight.mean()), np.float32(1e-6))
    solved = cho_solve(cho_factor(k, lower=True, check_finite=False), np.clip(y / scale, -4, 4), check_finite=False)
    cross = _local(f_new, xy_new, f, xy, unit)
    return np.asarray(scale * (cross @ solved), np.float32), cross.max(1) / (SPACE + LIKE + BOTH)


def _local(f: Floats, xy: Floats, g: Floats, uv: Floats, unit: float) -> Floats:
    near = np.sqrt(np.maximum(_squares(xy, uv), 0))
    near *= np.float32(-1 / LENGTH)
    np.exp(near, out=near)
    k = alike(f, g, unit)
    k *= LIKE + BOTH * near
    k += SPACE * near * near * near
    return k


def median_square(f: Floats) -> float:
    """The median squared distance between points (N, D), of about 500 of them."""
    some = f[:: max(1, len(f) // 500)]
    d = _squares(some, some)
    return max(float(np.median(d[np.triu_indices(len(d), 1)])), 1e-6) if len(some) > 1 else 1.0
