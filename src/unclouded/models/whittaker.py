"""Whittaker smoother: each pixel the smoothest curve in time near its clear observations (Eilers 2003, Anal. Chem. 75, eq. 4).

Minimises sum (x_i - z_i)^2 + bend * integral z''^2 + slope * integral z'^2, with divided differences on the real, uneven days.
Pixels with the same pattern of clear dates share one small linear system.
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

PATTERNS = 512  # systems solved at a time


@dataclass(frozen=True, kw_only=True)
class Config:
    """Weights of the bend (days^3) and the slope (days), and how many days around the target take part."""

    bend: float = 2000.0
    slope: float = 1.0
    days: int = 120
    causal: bool = False


@dataclass(frozen=True)
class Whittaker:
    """The remover."""

    config: Config = field(default_factory=Config)
    needs: Needs = NEEDS

    def adapt(self, scene: Scene, date: np.datetime64) -> Whittaker:
        """Itself: a pixel needs nothing but its own dates."""
        return self

    def __call__(self, batch: Batch) -> Prediction:
        """Reflectance (B, C, H, W); NaN where no other date is clear."""
        return solved(batch, self._solve, causal=self.config.causal)

    def _solve(self, p: Pixels, t: int, use: Mask) -> Floats:
        near = np.abs(p.days - p.days[t]) <= self.config.days
        lonely = ~p.clear[use & near].any(0)  # only farther observations: take part with all dates
        out = _curve(p, t, use & near, self.config)
        if lonely.any():
            out[:, lonely] = _curve(p.take(lonely), t, use, self.config)
        return out


def _curve(p: Pixels, t: int, use: Mask, config: Config) -> Floats:
    """The curve's value on the target day: the row of the inverse that belongs to it, times the clear observations."""
    at = np.flatnonzero(use | (np.arange(len(p.days)) == t))
    here = int(np.flatnonzero(at == t)[0])
    stiff = roughness(p.days[at], config.bend, config.slope)
    seen = p.clear[at] & use[at, None]
    patterns, which = np.unique(seen, axis=1, return_inverse=True)
    row = np.zeros(patterns.shape, np.float32)
    one = np.eye(len(at))[here]
    for start in range(0, patterns.shape[1], PATTERNS):
        w = patterns[:, start : start + PATTERNS].T.astype(np.float64)
        systems = stiff + np.einsum("nt,tu->ntu", w + 1e-9, np.eye(len(at)))
        row[:, start : start + PATTERNS] = (
            np.linalg.solve(systems, np.broadcast_to(one[:, None], (len(w), len(at), 1)))[..., 0] * w
        ).T
    out: Floats = np.einsum("tn,tbn->bn", row[:, which.ravel()], p.x[at])
    return out


def roughness(days: NDArray[np.int64], bend: float, slope: float) -> NDArray[np.float64]:
    """(T, T) quadratic form of the penalties on a curve given at uneven days."""
    n = len(days)
    step = np.diff(days).astype(np.float64)
    first = np.diff(np.eye(n), axis=0) / step[:, None]
    form = slope * (first.T * step) @ first
    if n > 2:
        middle = (step[1:] + step[:-1]) / 2
        second = np.diff(first, axis=0) / middle[:, None]
        form += bend * (second.T * middle) @ second
    return form
