"""Nonnegative matrix factorisation: a series as a few nonnegative images and their strengths over time.

Every date is a column of a matrix X of pixels and bands, X ~ W H with W, H >= 0. The baselines of Ebel et al. 2022, Table VI:

- `lee-seung`: multiplicative updates for |X - W H|^2 (D. D. Lee, H. S. Seung: Algorithms for non-negative matrix factorization,
  NIPS 2000);
- `manhattan`: |X - W H|_1, one component after the other, each entry a weighted median (N. Guan, D. Tao, Z. Luo,
  J. Shawe-Taylor: MahNMF, arXiv 1207.3438, rank-one residual iteration);
- `incremental`: dates one after the other, the images updated from running sums (S. S. Bucak, B. Gunsel, O. Gursoy: Incremental
  nonnegative matrix factorization for background modeling in surveillance video, SIU 2007).

As published, clouds are data that no component explains. With `mask` the known hidden pixels are missing data instead.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from unclouded.models.date_matrix import by_dates
from unclouded.models.needs import Needs
from unclouded.models.scene_solver import Bools, Choose, Cube, Floats, SceneSolver

Method = Literal["lee-seung", "manhattan", "incremental"]
Array = NDArray[np.float32]
LEAST = np.float32(1e-9)
ROUNDS = 3  # over the series (incremental)
LEARN_FROM = 4_000  # rows, drawn by seed, from which the strengths over time are learned (manhattan)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which method, how many components, how many sweeps. `forget`: how much the past counts per new date (incremental)."""

    method: Method = "lee-seung"
    mask: bool = True
    rank: int = 3
    iterations: int = 100
    forget: float = 1.0
    dates: int = 30
    choose: Choose = "nearest"
    cell: int = 256
    overlap: int = 32
    seed: int = 0

    @staticmethod
    def tiny() -> Config:
        """For tests."""
        return Config(iterations=10, cell=24, overlap=8)


class NMF(SceneSolver):
    """The remover."""

    def __init__(self, config: Config | None = None) -> None:
        self.config = c = Config() if config is None else config
        self.needs = Needs(dates=(2, None), cloud=c.mask)
        self.cell, self.overlap, self.dates, self.choose = c.cell, c.overlap, c.dates, c.choose

    def _copy(self) -> NMF:
        return copy.copy(self)

    def solve(self, cube: Cube) -> tuple[Floats, Bools]:
        """What the components explain of every date."""
        return by_dates(cube, cube.clear if self.config.mask else cube.valid, self._explained)

    def _explained(self, data: Array, known: Bools) -> Array:
        w, h = factorise(data, known, self.config)
        return w @ h


def factorise(data: Array, known: Bools, config: Config) -> tuple[Array, Array]:
    """data (P, T) and its known entries -> W (P, rank) and H (rank, T), both nonnegative. Negative data count as 0."""
    x = np.where(known, np.maximum(data, 0), np.float32(0)).astype(np.float32)
    rng = np.random.default_rng(config.seed)
    if config.method == "lee-seung":
        return lee_seung(x, known, config.rank, config.iterations, rng)
    if config.method == "manhattan":
        return manhattan(x, known, config.rank, config.iterations, rng)
    return incremental(x, known, config.rank, config.iterations, config.forget, rng)


def _start(x: Array, known: Bools, rank: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Random factors of the right size: every row as bright as its known entries."""
    mean = x.sum(1, keepdims=True) / np.maximum(known.sum(1, keepdims=True), 1)
    w = mean * rng.uniform(0.5, 1.5, (1, rank)) * rng.uniform(0.8, 1.2, (len(x), rank)) / rank
    return (w + LEAST).astype(np.float32), rng.uniform(0.5, 1.5, (rank, x.shape[1])).astype(np.float32)


def lee_seung(x: Array, known: Bools, rank: int, iterations: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Multiplicative updates of both factors; |X - W H| over the known entries never grows."""
    w, h = _start(x, known, rank, rng)
    full = bool(known.all())
    for _ in range(iterations):
        h *= (w.T @ x) / (w.T @ w @ h if full else w.T @ (known * (w @ h))).clip(LEAST)
        w *= (x @ h.T) / (w @ (h @ h.T) if full else (known * (w @ h)) @ h.T).clip(LEAST)
    return w, h


def incremental(
    x: Array, known: Bools, rank: int, iterations: int, forget: float, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Dates in order of time: strengths of the new date with the images fixed, then the images from the running sums.

    Rounds over the series repeat until the first dates have been seen with grown images; what a date said in the round before
    is taken back from the sums. `iterations` updates of the strengths of each date.
    """
    w, h = _start(x, known, rank, rng)
    numerator, gram = np.zeros_like(w), np.zeros((len(x), rank, rank), np.float32)
    said = np.zeros(x.shape[1], np.float32)  # how much each date still counts in the sums
    for t in [*range(x.shape[1])] * ROUNDS:
        at = known[:, t]
        own, seen = w[at], x[at, t]
        numerator[at] -= said[t] * seen[:, None] * h[:, t]
        gram[at] -= said[t] * np.outer(h[:, t], h[:, t])
        for _ in range(iterations):
            h[:, t] *= (own.T @ seen) / (own.T @ (own @ h[:, t])).clip(LEAST)
        for total in (numerator, gram, said):
            total *= np.float32(forget)
        numerator[at] += seen[:, None] * h[:, t]
        gram[at] += np.outer(h[:, t], h[:, t])
        said[t] = 1
        heard = known[:, said > 0].any(1, keepdims=True)  # rows that no date has shown yet wait
        for _ in range(max(1, iterations // 20)):
            explained = np.einsum("pr,prs->ps", w, gram)
            w *= np.where(heard, numerator.clip(LEAST) / explained.clip(LEAST), np.float32(1))
    return w, h


def manhattan(x: Array, known: Bools, rank: int, iterations: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Both factors by weighted medians: the strengths learned on a sample of rows, then the images of all rows."""
    w, h = _start(x, known, rank, rng)
    some = np.sort(rng.choice(len(x), min(len(x), LEARN_FROM), replace=False))
    part, seen, few = x[some], known[some], w[some]
    for _ in range(iterations):
        _sweep(part, seen, few, h)
        _sweep(part.T, seen.T, h.T, few.T)
    for _ in range(max(2, iterations // 10)):
        _sweep(x, known, w, h)
    return w, h


def _sweep(x: Array, known: Bools, w: Array, h: Array) -> None:
    """Each column of W in turn, in place: entry p minimises sum over t of |residual[p, t] - w h[t]| over the known entries."""
    for k in range(w.shape[1]):
        rest = x - w @ h + np.outer(w[:, k], h[k])
        w[:, k] = weighted_median(rest / np.maximum(h[k], LEAST), known * h[k]).clip(0)


def weighted_median(values: Array, weights: Array) -> Array:
    """Along the last axis: where the ordered weights reach half of their sum. All-zero weights give 0."""
    order = np.argsort(values, axis=-1, kind="stable")
    ordered = np.take_along_axis(weights, order, -1).cumsum(-1)
    half = ordered[..., -1:] / 2
    first = (ordered >= half).argmax(-1)
    middle = np.take_along_axis(np.take_along_axis(values, order, -1), first[..., None], -1)[..., 0]
    return np.where(half[..., 0] > 0, middle, 0).astype(np.float32)
