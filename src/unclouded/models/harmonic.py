"""Harmonic regression in time: each pixel a level, a trend and yearly waves, fitted to its clear observations.

z(d) = c0 + c1 d + sum_k a_k cos(2 pi k d / 365.25) + b_k sin(2 pi k d / 365.25), by ridge (Zhu and Woodcock 2014, CCDC, eq. 1).
Good over years of data; with a few dates the ridge leaves little but the mean.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unclouded.models.per_pixel import NEEDS, solved
from unclouded.models.temporal import Floats, Mask, Pixels
from unclouded.sample import Batch, Prediction

if TYPE_CHECKING:
    from unclouded.models.needs import Needs
    from unclouded.scenes.scene import Scene

YEAR = 365.25


@dataclass(frozen=True, kw_only=True)
class Config:
    """Number of yearly waves, and the ridge on everything but the level, in observations."""

    waves: int = 2
    ridge: float = 0.3
    causal: bool = False


@dataclass(frozen=True)
class Harmonic:
    """The remover."""

    config: Config = field(default_factory=Config)
    needs: Needs = NEEDS

    def adapt(self, scene: Scene, date: np.datetime64) -> Harmonic:
        """Itself: a pixel needs nothing but its own dates."""
        return self

    def __call__(self, batch: Batch) -> Prediction:
        """Reflectance (B, C, H, W); NaN where no other date is clear."""
        return solved(batch, self._solve, causal=self.config.causal)

    def _solve(self, p: Pixels, t: int, use: Mask) -> Floats:
        h = waves(p.days - p.days[t], self.config.waves)  # (T, P), days counted from the target
        seen = (p.clear & use[:, None]).astype(np.float32)
        damp = np.full(h.shape[1], self.config.ridge)
        damp[0] = 1e-6
        gram = np.einsum("tn,tp,tq->npq", seen, h, h, optimize=True) + np.diag(damp)
        cross = np.einsum("tn,tp,tbn->npb", seen, h, p.x, optimize=True)
        coefficients = np.linalg.solve(gram, cross)
        value: Floats = np.einsum("p,npb->bn", h[t], coefficients).astype(np.float32)
        return value


def waves(days: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """(T, 2 + 2 count) level, trend in years, and waves at `days`."""
    turn = 2 * np.pi * days[:, None] * np.arange(1, count + 1) / YEAR
    return np.concatenate([np.ones((len(days), 1)), days[:, None] / YEAR, np.cos(turn), np.sin(turn)], 1)
