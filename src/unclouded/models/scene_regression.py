"""Regression of a date on its neighbours, with a prior learned from the other dates of the same place (empirical Bayes).

Every other date of a series is a rehearsal: its truth is known where it was clear. What one rehearsal teaches about the
weights is noisy, what thirty agree on is a prior: w_b ~ N(0, Lambda_b), Lambda_jb = mean over dates of W_jb^2 (Efron 2010,
ch. 1). The target's own clear pixels then move the weights as far as they have evidence for; with no clear pixel the posterior
is the prior, so one model serves every cloud cover.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unclouded.models.temporal import Floats

Doubles = NDArray[np.float64]
CLIP = np.float32(5.0)
WHITE = np.float32(0.8)  # reflectance of thick cloud
VEIL = 0.7  # cosine from which a residual looks like a veil of cloud or shadow


@dataclass(frozen=True)
class Whitening:
    """Standardise, clip, rotate to uncorrelated components of variance 1."""

    mean: Floats  # (F,)
    scale: Floats  # (F,)
    rotate: Floats  # (K, F)
    strength: Floats  # (K,) singular value over the greatest

    def __call__(self, raw: Floats) -> Floats:
        """(F, N) -> (K, N)."""
        z = raw - self.mean[:, None]
        z /= self.scale[:, None]
        return self.rotate @ np.clip(z, -CLIP, CLIP, out=z)


def whitening(raw: Floats, components: int, floor: float = 1e-3) -> Whitening:
    """Fitted on a sample (F, n). Directions under `floor` of the strongest one's standard deviation are dropped."""
    mean, scale = raw.mean(1), raw.std(1) + np.float32(1e-6)
    z = np.clip((raw - mean[:, None]) / scale[:, None], -CLIP, CLIP).astype(np.float64)
    value, vector = np.linalg.eigh(z @ z.T / z.shape[1])
    order = [k for k in np.argsort(value)[::-1][:components] if value[k] >= floor**2 * value[-1]]
    std = np.sqrt(np.maximum(value[order], 1e-6))
    rotate = (vector[:, order] / std).T
    return Whitening(mean, scale, rotate.astype(np.float32), (std / std[0]).astype(np.float32))


def scaling(raw: Floats) -> Whitening:
    """Standardise and clip only: every feature stays itself."""
    size = len(raw)
    one = np.ones(size, np.float32)
    if not raw.shape[1]:
        return Whitening(0 * one, one, np.eye(size, dtype=np.float32), one)
    return Whitening(raw.mean(1), raw.std(1) + np.float32(1e-6), np.eye(size, dtype=np.float32), one)


@dataclass(frozen=True)
class Sums:
    """Normal equations of weighted least squares: all that a regression needs to know of its pixels."""

    gram: Doubles  # (p, p) sum w q q'
    cross: Doubles  # (p, B) sum w q r'
    weight: float

    @staticmethod
    def of(q: Floats, r: Floats, w: Floats) -> Sums:
        """Design (p, N), residual (B, N), weights (N,)."""
        qw = (q * w).astype(np.float64)
        return Sums(qw @ q.T, qw @ r.T, float(w.sum()))


def add(parts: list[Sums]) -> Sums:
    """The normal equations of all pixels together."""
    return Sums(
        np.sum([s.gram for s in parts], 0), np.sum([s.cross for s in parts], 0), float(np.sum([s.weight for s in parts]))
    )


def ridge(s: Sums, penalty: float) -> Doubles:
    """Weights (p, B) minimising the mean squared error + penalty |w|^2; the intercept (first row) is not penalised."""
    p = len(s.gram)
    damp = np.full(p, penalty * max(s.weight, 1e-9))
    damp[0] = 1e-6 * max(s.weight, 1e-9)
    return np.asarray(np.linalg.solve(s.gram + np.diag(damp), s.cross), np.float64)


def robust(residual: Floats) -> Floats:
    """(B, N) -> weights (N,): 1 up to 2.5 times the median absolute error, falling with its square beyond."""
    size = np.abs(residual).mean(0)
    scale = 2.5 * max(float(np.median(size)), 1e-4)
    return (1 / np.maximum(1, size / scale) ** 2).astype(np.float32)


def agreeing(residual: Floats, x: Floats, unit: Floats, limit: float = 1.2) -> Floats:
    """Trust (N,) in clear pixels beside hidden ones, which may carry cloud or shadow that the mask missed.

    Residuals (B, N) with the spectrum of a veil, towards white or towards black in all bands at once (x: reflectance),
    count 1 up to `limit` units (B,) in the mean of the bands, less with the fourth power beyond. Others are the ground's own.
    """
    e, white, black = residual / unit[:, None], (WHITE - x) / unit[:, None], x / unit[:, None]
    size = np.sqrt((e * e).mean(0))
    veiled = (_along(e, white) > VEIL) | (_along(-e, black) > VEIL)
    return np.where(veiled, 1 / np.maximum(1, size / np.float32(limit)) ** 4, np.float32(1)).astype(np.float32)


def _along(e: Floats, direction: Floats) -> Floats:
    """(N,) cosine between residual and direction."""
    length = np.sqrt((e * e).sum(0) * (direction * direction).sum(0))
    cosine: Floats = (e * direction).sum(0) / np.maximum(length, np.float32(1e-9))
    return cosine


@dataclass(frozen=True)
class Prior:
    """What the rehearsals agree on: variance of each weight (p, B) and the residual variance (B,)."""

    variance: Doubles
    noise: Doubles


def prior(weights: list[Doubles], noises: list[Doubles], trust: Doubles) -> Prior:
    """From the weights (p, B) and residual variances (B,) of each rehearsal, and how much each counts."""
    share = trust / trust.sum()
    each: Doubles = np.einsum("s,spb->pb", share, np.square(weights))
    shared: Doubles = np.mean(each, axis=1, keepdims=True)
    square = 0.7 * each + 0.3 * shared
    square[0] *= 1.5
    return Prior(np.maximum(square, 1e-12), np.maximum(np.einsum("s,sb->b", share, np.array(noises)), 1e-8))


@dataclass(frozen=True)
class Posterior:
    """Weights (p, B) and a square root of their covariance relative to the noise: variance of q'w_b = noise_b |root q|^2."""

    weights: Doubles
    root: Doubles
    noise: Doubles


def posterior(s: Sums, given: Prior, inflation: float) -> Posterior:
    """The prior after the target's clear pixels. Residuals are correlated in space, so n pixels count as n / inflation."""
    weights = np.empty_like(s.cross)
    for b, noise in enumerate(given.noise):
        precision = np.diag(1 / given.variance[:, b]) + s.gram / (inflation * noise)
        weights[:, b] = np.linalg.solve(precision, s.cross[:, b] / (inflation * noise))
    shared = (given.variance / given.noise).mean(1)
    lower = np.linalg.cholesky(np.diag(1 / shared) + s.gram / inflation)
    root: Doubles = np.linalg.inv(lower)  # covariance = L^-T L^-1, so |L^-1 q|^2 = q' cov q
    return Posterior(weights, root, given.noise)
