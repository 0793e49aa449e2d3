"""Online stochastic tensor decomposition: image after image, each unfolded in every direction (Sobral et al. 2015).

A. Sobral, S. Javed, S. K. Jung, T. Bouwmans, E. Zahzah: Online stochastic tensor decomposition for background subtraction in
multispectral video sequences (ICCV Workshops 2015), a baseline of Ebel et al. 2022, Table VI. An image (rows, columns, bands)
is unfolded along each of its modes into a matrix of columns z, and every mode keeps a basis L that is updated online by

    r, e = argmin 1/2 |z - L r - e|^2 + lambda1/2 |r|^2 + lambda2 |e|_1,    L = argmin sum 1/2 |z - L r - e|^2 + lambda1/2 |L|^2

(J. Feng, H. Xu, S. Yan: Online robust PCA via stochastic optimization, NIPS 2013). The low-rank image is the mean over modes.
The mode `dates`, ours, takes the whole image as one column, so that a basis image is ground seen on several dates.

As published, clouds are what e takes up. With `mask` the known hidden pixels are missing data: e is free there.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unclouded.models.needs import Needs
from unclouded.models.scene_solver import Bools, Choose, Cube, Floats, SceneSolver

Array = NDArray[np.float32]
Mode = str
MODES: dict[Mode, int] = {"bands": 0, "rows": 1, "columns": 2}  # axes of an image (C, H, W)
PROJECTIONS = 8  # weighted least squares for r
TINY = np.float32(1e-7)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Modes, rank of every basis, the weights lambda1 and lambda2 (the latter in reflectance), passes over the series."""

    modes: tuple[str, ...] = ("bands", "rows", "columns")
    mask: bool = True
    rank: int = 10
    ridge: float = 1e-3
    sparse: float = 0.03
    passes: int = 2
    dates: int = 30
    choose: Choose = "nearest"
    cell: int = 256
    overlap: int = 32
    seed: int = 0

    @staticmethod
    def tiny() -> Config:
        """For tests."""
        return Config(rank=3, passes=1, cell=24, overlap=8)


class OnlineTensor(SceneSolver):
    """The remover."""

    def __init__(self, config: Config | None = None) -> None:
        self.config = c = Config() if config is None else config
        self.needs = Needs(dates=(2, None), cloud=c.mask, masks="everywhere")
        self.cell, self.overlap, self.dates, self.choose = c.cell, c.overlap, c.dates, c.choose

    def _copy(self) -> OnlineTensor:
        return copy.copy(self)

    def solve(self, cube: Cube) -> tuple[Floats, Bools]:
        """The mean of the modes' low-rank images of every date; NaN where nothing was ever known."""
        known = cube.clear if self.config.mask else cube.valid
        part: Bools = np.asarray(known.any((1, 2)))
        series = np.full(cube.x.shape, np.nan, np.float32)
        if part.any():
            images = np.where(known[part][:, None], cube.x[part], np.float32(0))
            seen = np.broadcast_to(known[part][:, None], images.shape)
            series[part] = np.where(known.any(0), decompose(images, seen, self.config), np.float32(np.nan))
        return series, part


def decompose(images: Array, known: Bools, config: Config) -> Array:
    """Low-rank images (T, C, H, W) of a series; entries `known` count, the others are free."""
    total = np.zeros_like(images)
    for mode in config.modes:
        total += _mode(images, known, mode, config)
    return total / np.float32(len(config.modes))


def _mode(images: Array, known: Bools, mode: Mode, config: Config) -> Array:
    columns = [(_unfold(image, mode), _unfold(seen, mode)) for image, seen in zip(images, known, strict=True)]
    basis = _basis(len(columns[0][0]), config)
    for _ in range(config.passes):
        for image, (z, seen) in enumerate(columns):
            basis.learn(image, z, seen)
    return np.stack([_fold(basis.vectors @ basis.project(z, seen)[0], images.shape[1:], mode) for z, seen in columns])


def _basis(length: int, config: Config) -> Basis:
    vectors = np.random.default_rng(config.seed).uniform(0, 1, (length, min(config.rank, length))).astype(np.float32)
    return Basis(vectors, config.ridge, config.sparse)


def _unfold(image: NDArray[Any], mode: Mode) -> NDArray[Any]:
    if mode == "dates":
        return image.reshape(-1, 1)
    return np.moveaxis(image, MODES[mode], 0).reshape(image.shape[MODES[mode]], -1)


def _fold(matrix: Array, shape: tuple[int, ...], mode: Mode) -> Array:
    if mode == "dates":
        return matrix.reshape(shape)
    axis = MODES[mode]
    rest = tuple(n for i, n in enumerate(shape) if i != axis)
    return np.moveaxis(matrix.reshape(shape[axis], *rest), 0, axis)


@dataclass
class Basis:
    """A basis of columns (n, r) that learns online, and the sums it learns from, one Gram matrix per row of it.

    Over e the function above is Huber's of z - L r, quadratic up to lambda2 and straight beyond. It is lowered by weighted
    least squares with weights min(1, lambda2 / |z - L r|), 0 where nothing is known; in r with L fixed, then in L with r fixed.
    """

    vectors: Array
    ridge: float
    sparse: float
    outer: Array = field(init=False)  # (n, r, r): sum of weight x r r'
    cross: Array = field(init=False)  # (n, r): sum of weight x z r'
    said: dict[int, tuple[Array, Array]] = field(init=False, default_factory=dict)  # by image: what it has put into the sums

    def __post_init__(self) -> None:
        n, rank = self.vectors.shape
        self.outer, self.cross = np.zeros((n, rank, rank), np.float32), np.zeros((n, rank), np.float32)

    def project(self, z: Array, known: Bools) -> tuple[Array, Array]:
        """Coefficients r (rank, m) of columns z (n, m), the basis fixed, and the weights (n, m) of what is known."""
        rank = self.vectors.shape[1]
        pairs = (self.vectors[:, :, None] * self.vectors[:, None]).reshape(-1, rank * rank)
        ridge = np.float32(self.ridge) * np.eye(rank, dtype=np.float32)
        weights = known.astype(np.float32)
        for _ in range(PROJECTIONS):
            gram = (weights.T @ pairs).reshape(-1, rank, rank) + ridge
            r = np.linalg.solve(gram, ((weights * z).T @ self.vectors)[..., None])[..., 0].T
            weights = known * np.minimum(1, np.float32(self.sparse) / np.maximum(np.abs(z - self.vectors @ r), TINY))
        return r, weights

    def learn(self, image: int, z: Array, known: Bools) -> None:
        """An image's columns into the sums, in place of what it said before; then one round over the basis vectors."""
        if image in self.said:
            self._say(*self.said[image], z, -1)
        r, weights = self.project(z, known)
        self.said[image] = r, weights
        self._say(r, weights, z, 1)
        for j in range(len(r)):
            slope = self.cross[:, j] - (self.vectors * self.outer[:, j]).sum(1) - np.float32(self.ridge) * self.vectors[:, j]
            self.vectors[:, j] += slope / (self.outer[:, j, j] + np.float32(self.ridge))

    def _say(self, r: Array, weights: Array, z: Array, sign: int) -> None:
        rank = len(r)
        pairs = (r[:, None] * r[None]).reshape(rank * rank, -1)
        self.outer += sign * (weights @ pairs.T).reshape(-1, rank, rank)
        self.cross += sign * (weights * z) @ r.T
