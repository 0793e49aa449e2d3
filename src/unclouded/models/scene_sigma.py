"""How wrong a guess may be: learned from dress rehearsals, where the whole engine restored dates whose truth is known.

log sigma = log unit_b + c_b + sum_k w_k clue_k. Within a date the error grows with what the clues say (how far the regression
extrapolates, how unlike the pixel is to every clear one, how much its dates disagree): the slopes w. How wrong a whole date is
differs from date to date: each rehearsal names the scale at which its own 90 % interval covers 90 % (split conformal
prediction, Vovk et al. 2005; scaled scores, Lei et al. 2018, sec. 5.2), and c_b is their mean. The most telling rehearsal is
the date itself with half of its clear pixels left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from unclouded.models.temporal import Floats

Z90 = 1.6448536
FLOOR = 0.05  # of the unit: keeps the logarithm of a lucky hit finite
RIDGE = 0.05
OWN = 0.75  # what the date's own clear pixels count, against all other rehearsals together


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


def joined(parts: list[Rehearsed]) -> Rehearsed:
    """Several parts of one rehearsal as one."""
    return replace(
        parts[0], error=np.concatenate([r.error for r in parts], -1), clues=np.concatenate([r.clues for r in parts], -1)
    )


def learned(others: list[Rehearsed], own: Rehearsed | None, doubt: float = 0.0) -> Sigma:
    """Sigma from rehearsals on `others` and, if there is one, on the date itself, which counts `OWN` times all others.

    Without the date's own word the scale is raised by `doubt` standard deviations between the other dates.
    """
    rehearsed = others if own is None else [*others, replace(own, trust=OWN * sum(r.trust for r in others) or 1.0)]
    trust = np.array([r.trust for r in rehearsed]) / sum(r.trust for r in rehearsed)
    slope = _slopes(rehearsed, trust)
    scales = np.stack([_scale(r, slope) for r in rehearsed])  # (rehearsals, B)
    constant = trust @ scales
    if own is None:
        dates = scales.mean(1)
        constant = constant + doubt * np.sqrt(trust @ (dates - trust @ dates) ** 2)
    return Sigma(slope.astype(np.float32), constant.astype(np.float32))


def _slopes(rehearsed: list[Rehearsed], trust: NDArray[np.floating]) -> NDArray[np.floating]:
    """(K,) ridge of log |error| on the clues, each rehearsal and band about its own mean."""
    gram, cross = RIDGE * np.eye(len(rehearsed[0].clues)), np.zeros(len(rehearsed[0].clues))
    for r, share in zip(rehearsed, trust, strict=True):
        clues = r.clues - r.clues.mean(-1, keepdims=True)
        y = np.log(np.abs(r.error) + FLOOR)
        gram += share * np.einsum("kbn,lbn->kl", clues, clues, optimize=True) / y.size
        cross += share * np.einsum("kbn,bn->k", clues, y - y.mean(-1, keepdims=True), optimize=True) / y.size
    slope: NDArray[np.floating] = np.linalg.solve(gram, cross)
    return slope


def _scale(r: Rehearsed, slope: NDArray[np.floating]) -> NDArray[np.floating]:
    """(B,) log of the factor that makes the 90 % interval of a rehearsal cover 90 %."""
    ratio = np.abs(r.error) / np.exp(np.tensordot(slope, r.clues, 1))
    scale: NDArray[np.floating] = np.log(np.maximum(np.quantile(ratio, 0.9, axis=-1), 1e-3) / Z90)
    return scale
