"""Random fields as functions of absolute pixel coordinates: any window of a field equals the crop of the whole, bit for bit.

A key (one number) stands where a generator's state would: the value at a lattice node is a hash of the key and the node's row
and column (Wellons, "Prospecting for hash functions", 2018: the `lowbias32` constants). Smooth fields are cubic B-spline sums
over such nodes, which leave no visible lattice direction, unlike bilinear or gradient noise (Perlin 1985).
Everything is computed element by element: no reduction whose rounding depends on the shape of the window.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
Bits = NDArray[np.uint32]

_ODD = 0x9E3779B1
_UNIT = np.float32(2.0**-24)
_SPREAD = 0.4813  # standard deviation of a 2-D cubic B-spline sum of unit-variance nodes, averaged over a cell


def key(*parts: int | str) -> int:
    """One 32-bit number out of several numbers and words; equal parts give equal keys, on every machine."""
    state = 0x811C9DC5
    for part in parts:
        for byte in part.encode() if isinstance(part, str) else int(part).to_bytes(8, "little", signed=True):
            state = ((state ^ byte) * 0x01000193) & 0xFFFFFFFF
    return state


def _stir(bits: Bits) -> Bits:
    bits ^= bits >> np.uint32(16)
    bits *= np.uint32(0x7FEB352D)
    bits ^= bits >> np.uint32(15)
    bits *= np.uint32(0x846CA68B)
    bits ^= bits >> np.uint32(16)
    return bits


def hashed(salt: int, *parts: NDArray[Any]) -> Bits:
    """32 random bits for every combination of integer arrays (broadcast together)."""
    state: Bits = np.full((1,), salt & 0xFFFFFFFF, np.uint32)
    for part in parts:
        state = _stir(state + part.astype(np.uint32) * np.uint32(_ODD))
    return state


def uniform(salt: int, *parts: NDArray[Any]) -> Field:
    """float32 in [0, 1) for every combination of integer arrays (broadcast together)."""
    return (hashed(salt, *parts) >> np.uint32(8)).astype(np.float32) * _UNIT


def normal_pair(salt: int, rows: NDArray[Any], cols: NDArray[Any]) -> tuple[Field, Field]:
    """Two independent standard normal fields (H, W) over integer rows (H,) and columns (W,) (Box and Muller 1958)."""
    bits = hashed(salt, rows[:, None], cols[None, :])
    radius = np.sqrt(-2 * np.log((bits >> np.uint32(8)).astype(np.float32) * _UNIT + _UNIT / 2))
    turn = (_stir(bits + np.uint32(_ODD)) >> np.uint32(8)).astype(np.float32) * (_UNIT * np.float32(2 * np.pi))
    return radius * np.cos(turn), radius * np.sin(turn)


def _taps(t: Any) -> list[Any]:
    s = 1 - t
    return [s * s * s / 6, (4 - 6 * t * t + 3 * t * t * t) / 6, (4 - 6 * s * s + 3 * s * s * s) / 6, t * t * t / 6]


def _slopes(t: Any) -> list[Any]:
    s = 1 - t
    return [-s * s / 2, (3 * t * t - 4 * t) / 2, (4 * s - 3 * s * s) / 2, t * t / 2]


def _cells(at: NDArray[Any], wavelength: float) -> tuple[NDArray[np.int64], Field]:
    scaled = np.asarray(at, np.float64) / wavelength
    cell = np.floor(scaled)
    return cell.astype(np.int64), (scaled - cell).astype(np.float32)


def _nodes(salt: int, rows: NDArray[np.int64], cols: NDArray[np.int64]) -> tuple[Field, int, int]:
    """Unit-variance nodes that cover the cells, with the row and column of the first."""
    top, left = int(rows.min()) - 1, int(cols.min()) - 1
    r, c = np.arange(top, int(rows.max()) + 3), np.arange(left, int(cols.max()) + 3)
    scale = np.float32(np.sqrt(12) / _SPREAD)
    return (uniform(salt, r[:, None], c[None, :]) - np.float32(0.5)) * scale, top, left


def smooth(salt: int, rows: NDArray[Any], cols: NDArray[Any], wavelength: float, *, slope: str = "") -> Field:
    """A smooth field (H, W) of about unit variance over rows (H,) and columns (W,), with details of about `wavelength` pixels.

    `slope`: "row" or "col" for the derivative along that axis, per pixel.
    """
    i, ti = _cells(rows, wavelength)
    j, tj = _cells(cols, wavelength)
    nodes, top, left = _nodes(salt, i, j)
    along = _slopes(ti) if slope == "row" else _taps(ti)
    across = _slopes(tj) if slope == "col" else _taps(tj)
    columns: Any = sum(w[:, None] * nodes[i - top + k - 1] for k, w in enumerate(along))
    field: Any = sum(w[None, :] * columns[:, j - left + k - 1] for k, w in enumerate(across))
    return np.asarray(field, np.float32) / np.float32(wavelength if slope else 1)


def smooth_at(salt: int, rows: Field, cols: Field, wavelength: float) -> Field:
    """The same field as `smooth`, at any points (H, W)."""
    i, ti = _cells(rows, wavelength)
    j, tj = _cells(cols, wavelength)
    nodes, top, left = _nodes(salt, i, j)
    width = nodes.shape[1]
    flat, first = nodes.ravel(), (i - top - 1) * width + (j - left - 1)
    across = _taps(tj)
    field = np.zeros(first.shape, np.float32)
    for k, wi in enumerate(_taps(ti)):
        field += wi * np.asarray(sum(w * flat[first + (k * width + n)] for n, w in enumerate(across)), np.float32)
    return field


def fractal(
    salt: int,
    rows: NDArray[Any],
    cols: NDArray[Any],
    wavelength: float,
    *,
    octaves: int = 4,
    gain: float = 0.5,
    slope: str = "",
) -> Field:
    """Fractional Brownian sum of `smooth` fields, each octave half the wavelength and `gain` the weight; unit variance."""
    weights = [gain**n for n in range(octaves)]
    total = sum(
        np.float32(w) * smooth(salt + n * 7919, rows, cols, wavelength / 2**n, slope=slope) for n, w in enumerate(weights)
    )
    return np.asarray(total, np.float32) / np.float32(np.sqrt(sum(w * w for w in weights)))


def fractal_at(salt: int, rows: Field, cols: Field, wavelength: float, *, octaves: int = 4, gain: float = 0.5) -> Field:
    """The same field as `fractal`, at any points (H, W)."""
    weights = [gain**n for n in range(octaves)]
    total = sum(np.float32(w) * smooth_at(salt + n * 7919, rows, cols, wavelength / 2**n) for n, w in enumerate(weights))
    return np.asarray(total, np.float32) / np.float32(np.sqrt(sum(w * w for w in weights)))


class Cells:
    """The Voronoi partition of one jittered point per lattice cell, at points (H, W).

    `id` (H, W) uint32; `row`, `col` of the nearest point; `edge`, the distance to the nearest border in pixels (away from
    corners); `pair`, a number of the two cells that share this border.
    """

    def __init__(self, salt: int, rows: Field, cols: Field, size: float, jitter: float = 0.8) -> None:
        i, j = np.floor(rows / size).astype(np.int64), np.floor(cols / size).astype(np.int64)
        top, left = int(i.min()) - 1, int(j.min()) - 1
        r, c = np.arange(top, int(i.max()) + 2)[:, None], np.arange(left, int(j.max()) + 2)[None, :]
        width, half = c.size, np.float32((1 - jitter) / 2)
        y = ((r + half + jitter * uniform(salt, r, c)) * size).astype(np.float32).ravel()
        x = ((c + half + jitter * uniform(salt + 1, r, c)) * size).astype(np.float32).ravel()
        ids = hashed(salt + 2, r, c).ravel()
        home = (i - top) * width + (j - left)
        first = np.full(rows.shape, np.inf, np.float32)
        second, near, next_near = first.copy(), home.copy(), home.copy()
        for step in (dr * width + dc for dr in (-1, 0, 1) for dc in (-1, 0, 1)):
            at = home + step
            d = (rows - y[at]) ** 2 + (cols - x[at]) ** 2
            closer, between = d < first, (d >= first) & (d < second)
            next_near = np.where(closer, near, np.where(between, at, next_near))
            second = np.where(closer, first, np.where(between, d, second))
            near, first = np.where(closer, at, near), np.where(closer, d, first)
        apart = np.sqrt((y[near] - y[next_near]) ** 2 + (x[near] - x[next_near]) ** 2)
        self.id: Bits = ids[near]
        self.row: Field = y[near]
        self.col: Field = x[near]
        self.edge: Field = (second - first) / np.maximum(2 * apart, np.float32(1e-3))
        self.pair: Bits = ids[near] ^ ids[next_near]
