"""How wrong a guess may be: learned from dress rehearsals, where the whole engine restored dates whose truth is known.

log sigma = log unit_b + c_b + sum_k w_k clue_k: the error grows with what the clues say (how far the regression extrapolates,
how unlike the pixel is to every clear one, how much its dates disagree). A last factor per band is conformal: the 90 %
interval of the rehearsals covers 90 % (split conformal prediction, Vovk et al. 2005; scaled scores, Lei et al. 2018, sec. 5.2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unclouded.models.temporal import Floats

Z90 = 1.6448536
FLOOR = 0.05  # of the unit: keeps the logarithm of a lucky hit finite


@dataclass(frozen=True)
class Sigma:
    """Coefficients of the clues and constant per band."""

    weights: Floats  # (K,)
    constant: Floats  # (B,)

    def __call__(self, clues: Floats, unit: Floats) -> Floats:
        """Clues (K, B, N) and unit (B,) -> sigma (B, N), at least a tenth and at most ten times the unit."""
        log = np.tensordot(self.weights, clues, 1) + self.constant[:, None]
        return np.exp(np.clip(log, np.log(0.1), np.log(10.0))) * unit[:, None]


def plain(bands: int, clues: int, factor: float = 1.0) -> Sigma:
    """No rehearsal to learn from: a multiple of the unit."""
    return Sigma(np.zeros(clues, np.float32), np.full(bands, np.log(factor), np.float32))


@dataclass(frozen=True)
class Rehearsed:
    """One dress rehearsal: errors in units (B, n), clues (K, B, n), and how much it counts."""

    error: Floats
    clues: Floats
    trust: float


def learned(rehearsed: list[Rehearsed], level: float = 0.9) -> Sigma:
    """Fit the clues by weighted ridge on log |error|, then scale every band so that 90 % intervals cover the share `level`."""
    bands = rehearsed[0].error.shape[0]
    clues = np.concatenate([r.clues for r in rehearsed], -1)
    size = np.abs(np.concatenate([r.error for r in rehearsed], -1))
    weight = np.concatenate([np.full(r.error.shape[-1], r.trust / r.error.shape[-1]) for r in rehearsed])
    weight /= weight.sum()
    y = np.log(size + FLOOR)
    centred = clues - (clues * weight).sum(-1, keepdims=True)
    y = y - (y * weight).sum(-1, keepdims=True)
    gram = np.einsum("kbn,lbn,n->kl", centred, centred, weight, optimize=True) / bands
    cross = np.einsum("kbn,bn,n->k", centred, y, weight, optimize=True) / bands
    slope = np.linalg.solve(gram + 0.02 * np.eye(len(gram)), cross)
    guess = np.exp(np.tensordot(slope, clues, 1))
    constant = [np.log(_quantile(s / g, weight, level) / Z90) for s, g in zip(size, guess, strict=True)]
    return Sigma(slope.astype(np.float32), np.array(constant, np.float32))


def _quantile(x: NDArray[np.floating], weight: NDArray[np.floating], level: float) -> float:
    order = np.argsort(x)
    at = int(np.searchsorted(np.cumsum(weight[order]), level))
    return max(float(x[order[min(at, len(x) - 1)]]), 1e-3)
