"""Nearest similar pixels: a hidden pixel departs from its own dates as the clear pixels like it do (Zhu et al. 2012, NSPI).

Likeness is the distance between whole years (the principal components of the gap-filled series) plus the distance on the
ground. value = line(p) + mean over the k most similar clear pixels of (target - line), line being linear interpolation in time.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from unclouded.models import temporal
from unclouded.models.per_pixel import NEEDS, solved, usable
from unclouded.models.scene_features import yearly
from unclouded.models.scene_regression import Whitening, whitening
from unclouded.models.scene_survey import studied
from unclouded.models.temporal import Floats, Mask, Pixels, gather
from unclouded.sample import Batch, Prediction, as_day

if TYPE_CHECKING:
    from unclouded.models.needs import Needs
    from unclouded.scenes.scene import Scene

EPOCHS = 24


@dataclass(frozen=True, kw_only=True)
class Config:
    """How many similar pixels, components of the year compared, and the pixels of distance that weigh like one component."""

    neighbours: int = 8
    components: int = 8
    pixels: float = 40.0
    causal: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Library:
    """The clear pixels of the target: how they look through the year, where they are, and how they depart."""

    epochs: NDArray[np.int64]
    whiten: Whitening
    keys: Floats  # (n, D)
    departure: Floats  # (n, B)


@dataclass(frozen=True)
class Similar:
    """The remover."""

    config: Config = field(default_factory=Config)
    library: Library | None = None
    needs: Needs = NEEDS

    def adapt(self, scene: Scene, date: np.datetime64) -> Similar:
        """Collect the clear pixels of the date from a bounded sample of the scene."""
        day = int(as_day(date).astype(np.int64))
        sample = studied(scene, day, False, self.config.seed)
        t = int(np.searchsorted(sample.days, day))
        return replace(self, library=_collected(sample, t, usable(sample.days, day, self.config.causal), self.config))

    def __call__(self, batch: Batch) -> Prediction:
        """Reflectance (B, C, H, W); NaN where no other date is clear. Without a clear pixel it is linear interpolation."""
        return solved(batch, self._solve, causal=self.config.causal)

    def _solve(self, p: Pixels, t: int, use: Mask) -> Floats:
        library = self.library or _collected(p, t, use, self.config)
        line = _line(p, t, use)
        if not len(library.keys):
            return line
        count = min(self.config.neighbours, len(library.keys))
        distance, index = cKDTree(library.keys).query(_keys(p, use, library.epochs, library.whiten, self.config), count)
        distance, index = distance.reshape(len(p), count), index.reshape(len(p), count)
        weight = 1 / (distance + 0.1)
        shift = np.einsum("nk,nkb->bn", weight / weight.sum(1, keepdims=True), library.departure[index])
        return np.asarray(line + shift, np.float32)


def _collected(p: Pixels, t: int, use: Mask, config: Config) -> Library:
    epochs = np.linspace(p.days[0], p.days[-1], EPOCHS).astype(np.int64)
    whiten = whitening(yearly(p, use, epochs), config.components)
    at = np.flatnonzero(p.clear[t] & p.clear[use].any(0))
    mine = p.take(at)
    departure = (mine.x[t] - _line(mine, t, use)).T
    return Library(epochs, whiten, _keys(mine, use, epochs, whiten, config), departure)


def _keys(p: Pixels, use: Mask, epochs: NDArray[np.int64], whiten: Whitening, config: Config) -> Floats:
    ground = np.stack([p.rows, p.cols], 1) / config.pixels
    return np.concatenate([whiten(yearly(p, use, epochs)).T, ground], 1)


def _line(p: Pixels, t: int, use: Mask) -> Floats:
    near = temporal.sides(p.clear, p.days, t, use)
    w = temporal.share_before(p.days, t, near)
    line: Floats = w * gather(p.x, near.before[0]) + (1 - w) * gather(p.x, near.after[0])
    return line
