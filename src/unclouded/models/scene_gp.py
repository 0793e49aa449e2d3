"""A local Gaussian process on what the regression leaves: shared by all bands, near in space and alike in their year.

k(p, q) = a0 exp(-d / l) + exp(-f^2 / 2 lf m) (a1 + a2 exp(-d / 3 l)), d in pixels, f the distance in features, m its median
square (Rasmussen and Williams 2006, eqs. 2.25, 2.26, 4.18). It carries a field's own departure under the cloud, and meets the
clear pixels at the border without a seam.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular

from unclouded.models.temporal import Floats


@dataclass(frozen=True)
class Kernel:
    """Hyper-parameters. Amplitudes are relative to the variance of the residual."""

    length: float  # pixels
    likeness: float  # in units of the median squared feature distance
    mix: tuple[float, float, float]  # a0 space, a1 likeness, a2 both
    noise: float
    unit: float  # the median squared feature distance

    @property
    def variance(self) -> float:
        """Variance before any clear pixel is seen."""
        return sum(self.mix)

    def __call__(self, xy: Floats, f: Floats, xy2: Floats, f2: Floats) -> Floats:
        """Covariances (N, M) of points at (N, 2), features (N, D), with points (M, 2), (M, D)."""
        near = np.sqrt(np.maximum(_squares(xy, xy2), 0))
        near *= np.float32(-1 / (3 * self.length))
        np.exp(near, out=near)
        alike = _squares(f, f2)
        alike *= np.float32(-1 / (2 * self.likeness * self.unit))
        np.exp(np.minimum(alike, 0, out=alike), out=alike)
        a0, a1, a2 = (np.float32(a) for a in self.mix)
        alike *= a1 + a2 * near
        alike += a0 * (near * near * near)
        return alike


def _squares(a: Floats, b: Floats) -> Floats:
    d: Floats = (-2 * a) @ b.T
    d += (a * a).sum(1)[:, None]
    d += (b * b).sum(1)[None]
    return d


GRID: tuple[tuple[float, float, tuple[float, float, float], float], ...] = tuple(
    product((4.0, 12.0), (0.05, 0.15, 0.5), ((0.1, 0.1, 0.5), (0.3, 0.3, 0.1), (0.05, 0.4, 0.2)), (0.3, 1.0))
)


@dataclass(frozen=True)
class Fitted:
    """A process given its clear points: predicts means and the share of variance that remains."""

    kernel: Kernel
    xy: Floats
    f: Floats
    lower: Floats  # (M, M) Cholesky factor
    alpha: Floats  # (M, B)

    def mean(self, xy: Floats, f: Floats) -> tuple[Floats, Floats]:
        """Means (N, B) at new points, and the covariances (N, M) for `remains`."""
        k = self.kernel(xy, f, self.xy, self.f)
        return k @ self.alpha, k

    def remains(self, k: Floats) -> Floats:
        """(N,) variance left, in units of the residual's variance, from the covariances of `mean`."""
        v = solve_triangular(self.lower, k.T, lower=True, check_finite=False)
        return np.maximum(np.float32(self.kernel.variance) - (v * v).sum(0), np.float32(0))


def fitted(kernel: Kernel, xy: Floats, f: Floats, y: Floats) -> Fitted:
    """Condition on residuals y (M, B), already scaled to variance 1."""
    k = kernel(xy, f, xy, f)
    k[np.diag_indices(len(k))] += np.float32(kernel.noise)
    lower = np.tril(np.linalg.cholesky(k))
    return Fitted(kernel, xy, f, lower, cho_solve((lower, True), y, check_finite=False).astype(np.float32))


def median_square(f: Floats) -> float:
    """The median squared distance between points (N, D), of at most 500 of them."""
    some = f[:: max(1, len(f) // 500)]
    d = _squares(some, some)
    return max(float(np.median(d[np.triu_indices(len(d), 1)])), 1e-6)


def chosen(xy: Floats, f: Floats, y: Floats, folds: np.ndarray, unit: float) -> tuple[Kernel, float]:
    """The kernel of the grid with the least error on left-out spatial blocks, and that error over the variance of y."""
    best, least = None, np.inf
    for length, likeness, mix, noise in GRID:
        kernel = Kernel(length, likeness, mix, noise, unit)
        k = kernel(xy, f, xy, f)
        error = 0.0
        for fold in range(int(folds.max()) + 1):
            out = folds == fold
            if not out.any() or out.all():
                continue
            inner = k[np.ix_(~out, ~out)]
            inner[np.diag_indices(len(inner))] += np.float32(noise)
            guess = k[np.ix_(out, ~out)] @ cho_solve(cho_factor(inner, lower=True, check_finite=False), y[~out])
            error += float(((guess - y[out]) ** 2).sum())
        if error < least:
            best, least = kernel, error
    assert best is not None
    return best, least / max(float((y**2).sum()), 1e-9)
