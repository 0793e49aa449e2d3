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
PROJECTIONS = 20  # alternations between r and e


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
        self.needs = Needs(dates=(2, None), cloud=c.mask)
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
        for z, seen in columns:
            basis.learn(z, seen)
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
    """A basis of columns (n, r) that learns online, and the sums it learns from."""

    vectors: Array
    ridge: float
    sparse: float
    outer: NDArray[np.float64] = field(init=False)  # sum of r r'
    cross: NDArray[np.float64] = field(init=False)  # sum of (z - e) r'

    def __post_init__(self) -> None:
        n, rank = self.vectors.shape
        self.outer, self.cross = np.zeros((rank, rank)), np.zeros((n, rank))

    def project(self, z: Array, known: Bools) -> tuple[Array, Array]:
        """Coefficients r (rank, m) and sparse part e (n, m) of columns z (n, m), the basis fixed."""
        gram = self.vectors.T @ self.vectors + np.float32(self.ridge) * np.eye(self.vectors.shape[1], dtype=np.float32)
        solve = np.linalg.solve(gram, self.vectors.T).astype(np.float32)
        e = np.zeros_like(z)
        for _ in range(PROJECTIONS):
            r = solve @ (z - e)
            rest = z - self.vectors @ r
            e = np.where(known, np.sign(rest) * np.maximum(np.abs(rest) - np.float32(self.sparse), 0), rest)
        return r, e

    def learn(self, z: Array, known: Bools) -> None:
        """One image's columns into the sums, then one round of block coordinate descent over the basis vectors."""
        r, e = self.project(z, known)
        self.outer += r.astype(np.float64) @ r.T
        self.cross += (z - e).astype(np.float64) @ r.T
        vectors = self.vectors.astype(np.float64)
        outer = self.outer + self.ridge * np.eye(len(self.outer))
        for j in range(len(outer)):
            vectors[:, j] += (self.cross[:, j] - vectors @ outer[:, j]) / outer[j, j]
        self.vectors = vectors.astype(np.float32)
