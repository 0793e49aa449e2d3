"""Low-rank completion: pixels x (dates and bands) as a matrix of low rank, its holes filled (Mazumder et al. 2010).

`adapt` runs soft-impute on a bounded sample of the scene and keeps the column space; every pixel is then the regularised
least-squares combination of it that fits its own clear observations (Hastie et al. 2015, softImpute-ALS, eq. 9), so that no
pixel depends on how the scene is cut. With `radar` the S1 anomalies are columns too.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unclouded.models import temporal
from unclouded.models.needs import Needs
from unclouded.models.per_pixel import solved, usable
from unclouded.models.scene_survey import studied
from unclouded.models.temporal import Floats, Mask, Pixels, gather
from unclouded.sample import Batch, Prediction, as_day

if TYPE_CHECKING:
    from unclouded.scenes.scene import Scene


@dataclass(frozen=True, kw_only=True)
class Config:
    """Rank, threshold as a share of the first singular value, iterations, and the dates that are columns."""

    rank: int = 12
    threshold: float = 0.003
    iterations: int = 30
    dates: int = 24  # the nearest ones
    days: int = 90  # at most so far away
    radar: bool = False
    causal: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Columns:
    """What was learned: which dates, the column means, and an orthonormal basis with its strengths."""

    days: NDArray[np.int64]
    mean: Floats  # (M,)
    basis: Floats  # (M, rank)
    strength: Floats  # (rank,) variance of the pixel's coefficients
    noise: float


@dataclass(frozen=True)
class SoftImpute:
    """The remover."""

    config: Config = field(default_factory=Config)
    columns: Columns | None = None

    @property
    def needs(self) -> Needs:
        """Two dates; radar only if asked for."""
        return Needs(dates=(2, None), sar="optional" if self.config.radar else "unused", halo=3 if self.config.radar else 0)

    def adapt(self, scene: Scene, date: np.datetime64) -> SoftImpute:
        """Learn the column space from a bounded sample of the scene."""
        day = int(as_day(date).astype(np.int64))
        sample = studied(scene, day, self.config.radar, self.config.seed)
        return replace(self, columns=_learned(sample, int(np.searchsorted(sample.days, day)), self.config))

    def __call__(self, batch: Batch) -> Prediction:
        """Reflectance (B, C, H, W); NaN where no other date is clear."""
        return solved(batch, self._solve, causal=self.config.causal, radar=self.config.radar)

    def _solve(self, p: Pixels, t: int, use: Mask) -> Floats:
        columns = self.columns or _learned(p, t, self.config)
        matrix, known = _matrix(p, columns.days, columns_t := int(p.days[t]), use, self.config.radar)
        at = slice(*_target_columns(columns.days, columns_t, p.x.shape[1]))
        z = np.where(known, matrix - columns.mean, np.float32(0))
        gram = np.einsum("nm,mr,ms->nrs", known.astype(np.float32), columns.basis, columns.basis, optimize=True)
        gram += np.diag(columns.noise / np.maximum(columns.strength, 1e-9))
        score = np.linalg.solve(gram, (z @ columns.basis)[..., None])[..., 0]
        value: Floats = (columns.mean[at] + score @ columns.basis[at].T).T.astype(np.float32)
        return value


def _target_columns(days: NDArray[np.int64], day: int, bands: int) -> tuple[int, int]:
    t = int(np.searchsorted(days, day))
    return t * bands, (t + 1) * bands


def _matrix(p: Pixels, days: NDArray[np.int64], day: int, use: Mask, radar: bool) -> tuple[Floats, Mask]:
    """(N, M) values and (N, M) which of them are known. The target's own clear pixels are known too."""
    at = np.searchsorted(p.days, days)
    known = p.clear[at] & (use[at] | (days == day))[:, None]
    x = p.x[at].transpose(2, 0, 1).reshape(len(p), -1)
    seen = np.repeat(known.T, p.x.shape[1], 1)
    if not radar or p.radar is None:
        return x, seen
    s1 = np.float32(0.015) * p.radar[at, 2:].transpose(2, 0, 1).reshape(len(p), -1)
    return np.concatenate([x, s1], 1), np.concatenate([seen, np.ones_like(s1, bool)], 1)


def _learned(p: Pixels, t: int, config: Config) -> Columns:
    """Soft-impute: fill, take the singular values, shrink them, fill again."""
    away = np.abs(p.days - p.days[t])
    use = usable(p.days, p.days[t], config.causal) & (away <= config.days)
    candidates = np.flatnonzero(use & p.clear.any(1))
    chosen = candidates[np.argsort(away[candidates], kind="stable")][: config.dates]
    days = np.sort(p.days[np.append(chosen, t)])
    matrix, known = _matrix(p, days, int(p.days[t]), use, config.radar)
    mean = (matrix * known).sum(0) / np.maximum(known.sum(0), 1)
    filled = np.where(known, matrix, mean)
    start, stop = _target_columns(days, int(p.days[t]), p.x.shape[1])
    filled[:, start:stop] = np.where(known[:, start:stop], matrix[:, start:stop], _line(p, t, use))
    if not known[:, start:stop].any():
        mean[start:stop] = filled[:, start:stop].mean(0)
    centred = filled - mean
    for _ in range(config.iterations):
        value, vector = np.linalg.eigh(centred.T @ centred)
        basis = vector[:, ::-1][:, : config.rank]
        strength = np.sqrt(np.maximum(value[::-1][: config.rank], 0))
        kept = np.maximum(1 - config.threshold * strength[0] / np.maximum(strength, 1e-9), 0)
        low = (centred @ (basis * kept)) @ basis.T
        centred = np.where(known, matrix - mean, low)
    n = max(len(p), 1)
    noise = float(((centred - low)[known] ** 2).mean()) if known.any() else 1e-4
    return Columns(days, mean, basis.astype(np.float32), (strength**2 / n).astype(np.float32), noise)


def _line(p: Pixels, t: int, use: Mask) -> Floats:
    """(N, B) linear interpolation, the start of the target's columns."""
    near = temporal.sides(p.clear, p.days, t, use)
    w = temporal.share_before(p.days, t, near)
    line: Floats = (w * gather(p.x, near.before[0]) + (1 - w) * gather(p.x, near.after[0])).T
    return line
