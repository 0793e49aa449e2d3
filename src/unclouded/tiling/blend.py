"""Tiles back into a region of the scene: weighted means for what is continuous, the heaviest tile for codes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unclouded.sample import Window
from unclouded.tiling.grid import weights


class Blender:
    """Collects the tiles of one region; `result` divides by the weights. Accumulates in float64: exact to float32.

    `values` are (C, h, w) and averaged (a NaN in any tile stays NaN: refused is refused); `codes` are (K, h, w) integers and
    taken from the tile with the largest weight, the first of equals.
    """

    def __init__(self, region: Window, shape: tuple[int, int], halo: int, channels: int, codes: int = 0) -> None:
        self.region, self.shape, self.halo = region, shape, halo
        self._sum = np.zeros((channels, region.height, region.width))
        self._weight = np.zeros((region.height, region.width))
        self._codes = np.zeros((codes, region.height, region.width), np.int32)
        self._heaviest = np.zeros((region.height, region.width), np.float32)

    def add(self, tile: Window, values: NDArray[np.float32], codes: NDArray[np.integer] | None = None) -> None:
        """One tile's values (C, h, w) and codes (K, h, w); the part outside the region is dropped."""
        here, there = _common(tile, self.region)
        weight = weights(tile, self.shape, self.halo)[here.slices]
        at = there.slices
        self._sum[(slice(None), *at)] += values[(slice(None), *here.slices)].astype(np.float64) * weight
        self._weight[at] += weight
        if codes is not None:
            wins = weight > self._heaviest[at]
            self._codes[(slice(None), *at)] = np.where(
                wins, codes[(slice(None), *here.slices)], self._codes[(slice(None), *at)]
            )
            self._heaviest[at] = np.maximum(weight, self._heaviest[at])

    def result(self) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """(C, H, W) means and (K, H, W) codes of the region; NaN and 0 where no tile was added."""
        covered = self._weight > 0
        means = self._sum / np.where(covered, self._weight, 1)
        return np.where(covered, means, np.nan).astype(np.float32), self._codes


def _common(tile: Window, region: Window) -> tuple[Window, Window]:
    """The overlap of tile and region: in the tile's coordinates and in the region's."""
    top, left = max(tile.row, region.row), max(tile.col, region.col)
    bottom = min(tile.row + tile.height, region.row + region.height)
    right = min(tile.col + tile.width, region.col + region.width)
    both = Window(top, left, max(bottom - top, 0), max(right - left, 0))
    return both.inside(tile), both.inside(region)
