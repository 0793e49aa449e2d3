"""Cut a scene into overlapping tiles on one lattice, and the weights with which they go back together.

The lattice depends on the scene and the tile size only. A region of the scene is rebuilt from exactly those tiles that touch
it, so the result is the same whatever regions a scene is worked off in. Weights are a separable ramp over the overlap of two
tiles, at least 1 / (2 halo + 1) everywhere and 1 along the border of the scene, divided by their sum.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from unclouded.errors import UsageError
from unclouded.sample import Window


def starts(size: int, tile: int, halo: int) -> list[int]:
    """First pixels of the tiles along one axis of `size` pixels: steps of tile - 2 halo, the last one flush with the end.

    Raises UsageError if the halo leaves no core.
    """
    stride = tile - 2 * halo
    if stride < 1:
        raise UsageError(
            f"A tile of {tile} px with a halo of {halo} px has no core.", do="use a tile of more than twice the halo."
        )
    if tile >= size:
        return [0]
    return [*range(0, size - tile, stride), size - tile]


def cut(shape: tuple[int, int], tile: int, halo: int, region: Window | None = None) -> list[Window]:
    """The tiles of a scene of `shape` (H, W) that touch `region` (default: all), row by row. Each lies inside the scene."""
    at = Window(0, 0, *shape) if region is None else region
    rows = [r for r in starts(shape[0], tile, halo) if r < at.row + at.height and r + tile > at.row]
    cols = [c for c in starts(shape[1], tile, halo) if c < at.col + at.width and c + tile > at.col]
    return [Window(r, c, min(tile, shape[0]), min(tile, shape[1])) for r in rows for c in cols]


def weights(tile: Window, shape: tuple[int, int], halo: int) -> NDArray[np.float32]:
    """(h, w) float32 in (0, 1]: the ramp of one tile before division by the sum over tiles."""
    rows = _ramp(tile.row, tile.height, shape[0], halo)
    cols = _ramp(tile.col, tile.width, shape[1], halo)
    return rows[:, None] * cols[None, :]


def _ramp(start: int, length: int, size: int, halo: int) -> NDArray[np.float32]:
    ramp = np.ones(length, np.float32)
    rise = ((np.arange(length) + 1) / (2 * halo + 1)).clip(max=1).astype(np.float32)
    if start > 0:
        ramp = np.minimum(ramp, rise)
    if start + length < size:
        ramp = np.minimum(ramp, rise[::-1])
    return ramp


def overlaps(shape: tuple[int, int], tile: int, halo: int) -> int:
    """The smallest overlap between neighbouring tiles, in pixels: what a scene of `shape` gets at least."""
    gaps = [tile - (b - a) for size in shape for a, b in pairwise(starts(size, tile, halo))]
    return min(gaps, default=tile)
