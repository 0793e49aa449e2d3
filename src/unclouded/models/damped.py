"""Damped smoother: each pixel a random walk in time, seen through noise at its clear dates.

Minimises sum (x_i - z_i)^2 + damping * sum (z_{i+1} - z_i)^2 / (d_{i+1} - d_i) over the clear observations of a pixel (days d):
a first-difference smoother, solved as a Kalman filter from both sides (Rauch, Tung, Striebel 1965). Between far observations
it is a straight line, among many near ones their mean.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from unclouded.models import temporal
from unclouded.models.per_pixel import NEEDS, solved
from unclouded.sample import Batch, Prediction

if TYPE_CHECKING:
    import numpy as np

    from unclouded.models.needs import Needs
    from unclouded.scenes.scene import Scene


@dataclass(frozen=True, kw_only=True)
class Config:
    """`damping` in days: measurement variance over the ground's change of variance per day. `causal`: past dates only."""

    damping: float = 10.0
    causal: bool = False


@dataclass(frozen=True)
class Damped:
    """The remover."""

    config: Config = field(default_factory=Config)
    needs: Needs = NEEDS

    def adapt(self, scene: Scene, date: np.datetime64) -> Damped:
        """Itself: a pixel needs nothing but its own dates."""
        return self

    def __call__(self, batch: Batch) -> Prediction:
        """Reflectance (B, C, H, W); NaN where no other date is clear."""
        return solved(batch, lambda p, t, use: temporal.damped(p, t, use, self.config.damping)[0], causal=self.config.causal)
