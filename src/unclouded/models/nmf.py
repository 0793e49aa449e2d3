"""Nonnegative matrix factorisation: a series as a few nonnegative images and their strengths over time.

Every date is a column of a matrix X of pixels and bands, X ~ W H with W, H >= 0. The baselines of Ebel et al. 2022, Table VI:

- `lee-seung`: multiplicative updates for |X - W H|^2 (D. D. Lee, H. S. Seung: Algorithms for non-negative matrix factorization,
  NIPS 2000);
- `manhattan`: |X - W H|_1, one factor after the other, the absolute value rounded off near 0 (N. Guan, D. Tao, Z. Luo,
  J. Shawe-Taylor: MahNMF, arXiv 1207.3438, whose smoothed form it lowers by reweighted least squares);
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
ROUNDS = 3  # over the components, per factor (manhattan)
WIDEST, NARROWEST = 0.1, 3e-4  # reflectance, within which an error counts by its square (manhattan)
LEARN_FROM = 4_000  # rows, drawn by seed, from which the strengths over time are learned (manhattan)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which method, how many components, how many sweeps. Incremental: how many `rounds` over the dates, and how much the past
    counts per new date (`forget`)."""

    method: Method = "lee-seung"
    mask: bool = True
    rank: int = 3
    iterations: int = 100
    rounds: int = 3
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
        self.needs = Needs(dates=(2, None), cloud=c.mask, masks="everywhere")
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
    return incremental(x, known, config, rng)


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


def incremental(x: Array, known: Bools, config: Config, rng: np.random.Generator) -> tuple[Array, Array]:
    """Dates in order of time: strengths of the new date with the images fixed, then the images from the running sums.

    Rounds over the series repeat until the first dates have been seen with grown images; what a date said in the round before
    is taken back from the sums. `iterations` updates of the strengths of each date.
    """
    rank, iterations = config.rank, config.iterations
    w, h = _start(x, known, rank, rng)
    numerator, gram = np.zeros_like(w), np.zeros((len(x), rank, rank), np.float32)
    said = np.zeros(x.shape[1], np.float32)  # how much each date still counts in the sums
    for t in [*range(x.shape[1])] * config.rounds:
        at = known[:, t]
        own, seen = w[at], x[at, t]
        numerator[at] -= said[t] * seen[:, None] * h[:, t]
        gram[at] -= said[t] * np.outer(h[:, t], h[:, t])
        for _ in range(iterations):
            h[:, t] *= (own.T @ seen) / (own.T @ (own @ h[:, t])).clip(LEAST)
        for total in (numerator, gram, said):
            total *= np.float32(config.forget)
        numerator[at] += seen[:, None] * h[:, t]
        gram[at] += np.outer(h[:, t], h[:, t])
        said[t] = 1
        heard = known[:, said > 0].any(1, keepdims=True)  # rows that no date has shown yet wait
        for _ in range(max(1, iterations // 20)):
            explained = np.einsum("pr,prs->ps", w, gram)
            w *= np.where(heard, numerator.clip(LEAST) / explained.clip(LEAST), np.float32(1))
    return w, h


def manhattan(x: Array, known: Bools, rank: int, iterations: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Both factors by weighted least squares: the strengths learned on a sample of rows, then the images of all rows.

    Weights 1 / max(|X - W H|, width) lower the sum of absolute errors, rounded off over a width that shrinks as it goes on.
    """
    w, h = _start(x, known, rank, rng)
    some = np.sort(rng.choice(len(x), min(len(x), LEARN_FROM), replace=False))
    part, seen, few = x[some], known[some], w[some]
    widths = np.geomspace(WIDEST, NARROWEST, max(2, iterations)).astype(np.float32)
    for width in widths:
        _closer(part, seen, few, h, width)
        _closer(part.T, seen.T, h.T, few.T, width)
    for width in widths[:: max(1, len(widths) // 20)]:
        _closer(x, known, w, h, width)
    return w, h


def _closer(x: Array, known: Bools, w: Array, h: Array, width: np.float32) -> None:
    """W in place: rounds over its columns towards the nonnegative minimum of sum weight (X - W H)^2, H fixed."""
    rank = len(h)
    weights = known / np.maximum(np.abs(x - w @ h), width)
    gram = (weights @ (h[:, None] * h[None]).reshape(rank * rank, -1).T).reshape(-1, rank, rank)
    wanted = (weights * x) @ h.T
    for _ in range(ROUNDS):
        for k in range(rank):
            slope = wanted[:, k] - (gram[:, k] * w).sum(1)
            w[:, k] = np.maximum(w[:, k] + slope / np.maximum(gram[:, k, k], LEAST), 0)
