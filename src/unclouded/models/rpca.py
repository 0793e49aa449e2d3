"""Robust principal components: a series as a low-rank ground plus sparse clouds (the "RPCP" baseline of Ebel et al. 2022).

Every date is a column of a matrix of pixels and bands. Two solvers split it:

- `pursuit`: principal component pursuit, min |L|_* + lambda |S|_1 subject to L + S = D (E. J. Candès, X. Li, Y. Ma, J. Wright:
  Robust principal component analysis?, JACM 2011), by an augmented Lagrangian whose steps are a shrinkage of singular values
  and one of entries (Z. Lin, M. Chen, Y. Ma: The augmented Lagrange multiplier method, 2010);
- `riemannian`: min |L + S - D|^2 over L of rank r and S with k entries (M. Hintermüller, T. Wu: Robust principal component
  pursuit via inexact alternating minimization on matrix manifolds, JMIV 2015): a step in the tangent space of the manifold of
  rank-r matrices, a retraction by the r leading singular values, then the k largest entries of the remainder.

As published, clouds are what is sparse. With `mask` the known hidden pixels are missing data instead (matrix completion).
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

Array = NDArray[np.floating]
GROWTH = 1.06  # of the penalty, per step
RAMP = 100  # steps of the Riemannian solver until all entries that may be sparse may be


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which solver, and its numbers.

    `mask`: hidden pixels are missing data. `centre`: every pixel's mean over time is taken out first; what is missing then
    shrinks towards it, not towards 0 (better on real series, no longer exact for a matrix of low rank).
    `weight` of the sparse part, in units of 1 / sqrt(longer side) (pursuit).
    `rank` and `sparse`, the share of entries that may be sparse (riemannian).
    """

    method: Literal["pursuit", "riemannian"] = "pursuit"
    mask: bool = True
    centre: bool = False
    weight: float = 1.0
    rank: int = 3
    sparse: float = 0.5
    iterations: int = 200
    tolerance: float = 1e-6  # of the change, relative to the data
    dates: int = 30
    choose: Choose = "nearest"
    cell: int = 256
    overlap: int = 32

    @staticmethod
    def tiny() -> Config:
        """For tests."""
        return Config(iterations=30, cell=24, overlap=8)


class RobustPCA(SceneSolver):
    """The remover."""

    def __init__(self, config: Config | None = None) -> None:
        self.config = c = Config() if config is None else config
        self.needs = Needs(dates=(2, None), cloud=c.mask, masks="everywhere")
        self.cell, self.overlap, self.dates, self.choose = c.cell, c.overlap, c.dates, c.choose

    def _copy(self) -> RobustPCA:
        return copy.copy(self)

    def solve(self, cube: Cube) -> tuple[Floats, Bools]:
        """The low-rank part of every date."""
        c = self.config
        known = cube.clear if c.mask else cube.valid
        return by_dates(cube, known, lambda data, seen: (around_mean if c.centre else low_rank)(data, seen, c))


def around_mean(data: Array, known: Bools, config: Config) -> Array:
    """The same for what differs from each row's mean: missing entries then shrink towards the mean, not towards 0."""
    mean = data.sum(1, keepdims=True) / np.maximum(known.sum(1, keepdims=True), 1)  # data are 0 where not known
    found: Array = (mean + low_rank(np.where(known, data - mean, 0).astype(data.dtype), known, config)).astype(data.dtype)
    return found


def low_rank(data: Array, known: Bools, config: Config) -> Array:
    """The low-rank part of `data` (P, T), entries `known` (P, T), by the configured solver."""
    if config.method == "pursuit":
        return pursuit(data, known, weight=config.weight, iterations=config.iterations, tolerance=config.tolerance)[0]
    return riemannian(
        data, known, rank=config.rank, sparse=config.sparse, iterations=config.iterations, tolerance=config.tolerance
    )[0]


def pursuit(
    data: Array, known: Bools, *, weight: float = 1.0, iterations: int = 200, tolerance: float = 1e-6
) -> tuple[Array, Array]:
    """Principal component pursuit: low-rank and sparse part of `data` (P, T). Entries not `known` are free.

    Stops when |L + S - D| <= tolerance |D|. The sparse part costs nothing where an entry is not known, so that it takes up
    whatever stands there.
    """
    size = float(np.linalg.norm(data)) or 1.0
    largest = float(np.sqrt(np.linalg.eigvalsh(_gram(data))[-1])) or 1.0
    cost = weight / np.sqrt(max(data.shape))
    dual = data / max(largest, float(np.abs(data).max()) / cost)
    penalty = 1.25 / largest
    low, sparse = np.zeros_like(data), np.zeros_like(data)
    for _ in range(iterations):
        low = shrink_values(data - sparse + dual / penalty, 1 / penalty)
        rest = data - low + dual / penalty
        sparse = np.where(known, np.sign(rest) * np.maximum(np.abs(rest) - cost / penalty, 0), rest).astype(data.dtype)
        gap = data - low - sparse
        dual = dual + penalty * gap
        if float(np.linalg.norm(gap)) <= tolerance * size:
            break
        penalty *= GROWTH
    return low, sparse


def shrink_values(matrix: Array, by: float) -> Array:
    """Every singular value less `by`, not below 0: from the eigenvectors of the smaller Gram matrix."""
    if matrix.shape[0] < matrix.shape[1]:
        return shrink_values(matrix.T, by).T
    value, vector = np.linalg.eigh(_gram(matrix))
    sigma = np.sqrt(np.maximum(value, 1e-30))
    kept = np.maximum(1 - by / sigma, 0)
    turned: Array = (matrix @ ((vector * kept) @ vector.T).astype(matrix.dtype)).astype(matrix.dtype)
    return turned


def _gram(matrix: Array) -> NDArray[np.float64]:
    narrow = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    total = np.zeros((narrow.shape[1],) * 2)
    for start in range(0, len(narrow), 65_536):  # strips in double precision: small singular values must survive
        strip = narrow[start : start + 65_536].astype(np.float64)
        total += strip.T @ strip
    return total


def riemannian(
    data: Array, known: Bools, *, rank: int = 3, sparse: float = 0.5, iterations: int = 200, tolerance: float = 1e-6
) -> tuple[Array, Array]:
    """Robust PCA on the manifold of rank-`rank` matrices: low-rank part and sparse part of `data` (P, T).

    At most the share `sparse` of the known entries is sparse, at first none: a row taken out as a whole would never be seen
    again. Starts from every row's mean. Stops when the low-rank part changes by less than `tolerance`, relative to the data.
    """
    most = int(sparse * int(known.sum()))
    size = float(np.linalg.norm(data)) or 1.0
    rank = min(rank, *data.shape)
    mean = np.where(known, data, 0).sum(1, keepdims=True) / np.maximum(known.sum(1, keepdims=True), 1)
    low, basis = np.broadcast_to(mean, data.shape).astype(data.dtype), np.zeros((data.shape[1], 0), data.dtype)
    gross = np.zeros_like(data)
    for step in range(iterations):
        gross = largest_entries(np.where(known, data - low, 0), int(most * min(1, step / RAMP)))
        moved, basis = _step(low, basis, np.where(known, data - gross - low, 0), rank)
        change = float(np.linalg.norm(moved - low))
        low = moved
        if step >= RAMP and change <= tolerance * size:
            break
    return low, gross


def _step(low: Array, basis: Array, descent: Array, rank: int) -> tuple[Array, Array]:
    """From a matrix of low rank with row space `basis` (T, r) along the tangential part of `descent`, back onto the manifold.

    The tangential part is U U' G + G V V' - U U' G V V'; the first step takes the whole descent.
    """
    if basis.shape[1] == rank:
        along = (descent @ basis) @ basis.T
        left = np.linalg.qr(low @ basis)[0]
        descent = along + left @ (left.T @ (descent - along))
    target = low + descent
    vectors = np.linalg.eigh(_gram(target))[1][:, -rank:] if target.shape[0] >= target.shape[1] else _right(target, rank)
    vectors = vectors.astype(low.dtype)
    return (target @ vectors) @ vectors.T, vectors


def _right(matrix: Array, rank: int) -> Array:
    rows: Array = np.linalg.svd(matrix, full_matrices=False)[2][:rank].T
    return rows


def largest_entries(matrix: Array, most: int) -> Array:
    """The `most` entries of largest size; the others are 0."""
    if most <= 0:
        return np.zeros_like(matrix)
    if most >= matrix.size:
        return matrix
    chosen = np.argpartition(np.abs(matrix), matrix.size - most, axis=None)[matrix.size - most :]
    kept = np.zeros_like(matrix)
    kept.flat[chosen] = matrix.flat[chosen]
    return kept
