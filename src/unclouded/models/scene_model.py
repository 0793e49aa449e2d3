"""What the engine knows of a place for one day: a small record of arrays, and the guess it makes from it."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unclouded.models import scene_gp
from unclouded.models.scene_features import View, view, yearly
from unclouded.models.scene_gp import Sparse
from unclouded.models.scene_regression import Whitening, agreeing
from unclouded.models.scene_sigma import Sigma
from unclouded.models.temporal import EDGE, Floats, Mask, Pixels, join

FEWEST_NEAR = 20  # clear pixels below which a cell has no local process
CLUES = 5
LOCAL_LIMIT = 0.6  # units: how far a pixel beside hidden ones may depart towards cloud or shadow and be believed locally


@dataclass(frozen=True, kw_only=True)
class SceneModel:
    """All that was learned of a place for one day. Nothing in it but arrays and numbers."""

    day: int
    days: NDArray[np.int64]  # optical days in use, the target's among them
    bands: tuple[str, ...]
    bounds: tuple[int, int, int, int] | None  # absolute row, column, rows, columns of the scene; None: unknown
    causal: bool
    omega: Floats  # (4,) weights of the candidates
    whiten: Whitening
    mean: Floats  # (1 + K, B)
    embed: Whitening | None
    epochs: NDArray[np.int64]
    weights: Floats  # (p, B)
    root: Floats  # (p, p)
    metric: Floats  # (p - 1, D) directions in which pixels are compared, each feature as far as its weight may vary
    low: Floats  # (B,) bounds of the correction
    high: Floats  # (B,)
    sparse: Sparse | None
    unit: Floats  # (B,) standard deviation of what the regression leaves on the day
    sigma: Sigma
    typical: Floats  # (B,) for a pixel that was never clear
    spread: Floats  # (B,) its standard deviation
    radar_rows: tuple[int, int] | None  # which raw features are radar
    alone: SceneModel | None  # for pixels that no other date shows: from the same image only

    def radar_share(self, raw: Floats) -> Floats:
        """(B, N) what the radar features add to the regression."""
        assert self.radar_rows is not None
        at = slice(*self.radar_rows)
        z = np.clip((raw[at] - self.whiten.mean[at, None]) / self.whiten.scale[at, None], -5, 5)
        k = len(self.mean)
        weights = self.mean[1:] + self.weights[1:k]
        share: Floats = weights.T @ (self.whiten.rotate[:, at] @ z)
        return share


def settled(record: Any) -> Any:
    """A record with all its arrays in one memory layout: matrix products of the same numbers then give the same bits."""
    changes: dict[str, Any] = {}
    for f in fields(record):
        value = getattr(record, f.name)
        if isinstance(value, np.ndarray):
            changes[f.name] = np.array(value, order="C")
        elif is_dataclass(value):
            changes[f.name] = settled(value)
    return replace(record, **changes)


def usable(days: NDArray[np.int64], day: int, causal: bool) -> Mask:
    """(T,) dates to reconstruct from: all but the target, only earlier ones if causal."""
    return days < day if causal else days != day


def based(omega: Floats, v: View) -> Floats:
    """The stacked base (B, N)."""
    total = omega[0] * v.candidates[0]
    for w, candidate in zip(omega[1:], v.candidates[1:], strict=True):
        total = total + w * candidate
    return total


def inputs(model: SceneModel, p: Pixels, v: View, use: Mask) -> Floats:
    """The design (p, N): 1, whitened features, components of the year."""
    phi = design(model.whiten(v.raw))
    return phi if model.embed is None else np.concatenate([phi, model.embed(yearly(p, use, model.epochs))])


def design(phi: Floats) -> Floats:
    """Features with a leading row of ones."""
    return np.concatenate([np.ones((1, phi.shape[1]), np.float32), phi])


def likeness(model: SceneModel, q: Floats) -> Floats:
    """(N, D) what the process compares."""
    return np.ascontiguousarray((model.metric.T @ q[1:]).T)


@dataclass(frozen=True)
class Guess:
    """Values of n hidden pixels and what bears on their error."""

    value: Floats  # (B, n)
    clues: Floats  # (CLUES, B, n) logarithms: extrapolation, unlikeness in the scene and around, disagreement, hole
    view: View


def predict(model: SceneModel, hidden: Pixels, near: Pixels, t: int, use: Mask) -> Guess:
    """Base, mean correction, regression, scene-wide process, and the local process from the clear pixels `near`."""
    n = len(hidden)
    p = join([hidden, near])
    v = view(p, t, use, model.bands)
    q = inputs(model, p, v, use)
    correction = model.mean.T @ q[: len(model.mean)] + model.weights.T @ q
    value = based(model.omega, v) + np.clip(correction, model.low[:, None], model.high[:, None])
    alike, close = np.zeros(n, np.float32), np.zeros(n, np.float32)
    if model.sparse is not None:
        f, xy = likeness(model, q), np.stack([p.rows - p.rows[0], p.cols - p.cols[0]], 1).astype(np.float32)
        shift, alike = model.sparse(f)
        value = value + shift.T * model.unit[:, None]
        if len(near) >= FEWEST_NEAR:
            left = near.x[t] - value[:, n:]
            weight = np.where(near.edge >= EDGE, np.float32(1), agreeing(left, near.x[t], model.unit, LOCAL_LIMIT))
            left = np.clip(left / model.unit[:, None], -5, 5)
            shift, close = scene_gp.local(f[n:], xy[n:], np.ascontiguousarray(left.T), weight, f[:n], xy[:n], model.sparse.unit)
            value = value[:, :n] + shift.T * model.unit[:, None]
    clues = _clues(model, q[:, :n], v, n, alike[:n], close)
    return Guess(value[:, :n].astype(np.float32), clues, v)


def _clues(model: SceneModel, q: Floats, v: View, n: int, alike: Floats, close: Floats) -> Floats:
    share = ((model.root @ q) ** 2).sum(0)
    apart = np.log(v.spread[:, :n] + np.float32(0.01))
    shared = [np.log(share + np.float32(0.5)), np.log(1.05 - alike), np.log(1.05 - close), np.log(v.walk[:n])]
    return np.stack([*(np.broadcast_to(s, apart.shape) for s in shared), apart]).astype(np.float32)
