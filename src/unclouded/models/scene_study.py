"""What the engine sees: a batch as a stack of clear observations, and the cells it is restored in.

`Stack.pixels` is the wall against leaks: an invisible value becomes 0 there, and `clear` says so; nothing later can tell what
it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unclouded.errors import UsageError
from unclouded.models import scene_radar
from unclouded.models.temporal import EDGE, Floats, Mask, Pixels
from unclouded.sample import Batch


@dataclass(frozen=True, kw_only=True)
class Stack:
    """A window over time, the target day among its dates. Row and column of its first pixel are absolute."""

    measured: Floats  # (T, B, H, W) reflectance, under clouds too: to be read through `pixels`
    clear: Mask  # (T, H, W)
    days: NDArray[np.int64]
    t: int
    edge: Floats  # (H, W)
    row: int
    col: int
    radar: Floats | None  # (T, 4, H, W)
    ground: Floats | None  # (4, H, W)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.clear.shape[1], self.clear.shape[2]

    def pixels(self, at: Mask, within: tuple[slice, slice] | None = None) -> Pixels:
        """The pixels where `at` (H, W), row by row. `within`: the part of the window that `at` is the mask of (None: all).

        The wall against leaks: what is not clear becomes 0 here.
        """
        top, left = (0, 0) if within is None else (within[0].start, within[1].start)
        rows, cols = (first + found for first, found in zip((top, left), np.nonzero(at), strict=True))
        flat = rows * self.shape[1] + cols
        x, clear = picked(self.measured, flat), picked(self.clear, flat)
        np.copyto(x, np.float32(0), where=~clear[:, None])
        return Pixels(
            x=x, clear=clear, days=self.days, edge=picked(self.edge, flat),
            rows=rows + self.row, cols=cols + self.col,
            radar=None if self.radar is None else picked(self.radar, flat),
            ground=None if self.ground is None else picked(self.ground, flat),
        )  # fmt: skip


def picked(image: NDArray[Any], flat: NDArray[np.intp]) -> NDArray[Any]:
    """(..., H, W) at flat positions -> (..., N)."""
    return image.reshape(*image.shape[:-2], -1).take(flat, -1)


def stacked(
    s2: Floats, clear: Mask, days: NDArray[np.int64], target: int, origin: tuple[int, int], *,
    s1: Floats | None = None, s1_valid: Mask | None = None, s1_days: NDArray[np.int64] | None = None,
    orbits: NDArray[np.int64] | None = None, keep: NDArray[np.int64] | None = None,
) -> Stack:  # fmt: skip
    """Arrays of one place -> a Stack. `target` is a day; `keep` the optical days to use (None: all)."""
    real = np.unique(days, return_index=True)[1]  # padded frames repeat the last day
    if keep is not None:
        real = real[np.isin(days[real], keep) | (days[real] == target)]
    whole = np.array_equal(real, np.arange(len(days)))  # all dates, in order: no copy
    x, seen = (s2, clear) if whole else (s2[real], clear[real])
    days = days[real]
    if target not in days:
        at = int(np.searchsorted(days, target))
        x, seen, days = np.insert(x, at, 0, 0), np.insert(seen, at, False, 0), np.insert(days, at, target)
    radar = ground = None
    if s1 is not None and s1_valid is not None and s1_days is not None and s1_valid.any():
        radar, ground = scene_radar.anomalies(s1, s1_valid, s1_days, orbits, days)
    t = int(np.searchsorted(days, target))
    return Stack(
        measured=x, clear=seen, days=days, t=t, edge=distance(seen[t]),
        row=origin[0], col=origin[1], radar=radar, ground=ground,
    )  # fmt: skip


def distance(seen: Mask) -> Floats:
    """Distance of every pixel (H, W) to the nearest hidden one, at most EDGE: what lies farther off does not matter."""
    if seen.all():
        return np.full(seen.shape, EDGE, np.float32)
    return np.minimum(ndimage.distance_transform_edt(seen), EDGE).astype(np.float32)


def stack_of_batch(batch: Batch, b: int, keep: NDArray[np.int64] | None, radar: bool) -> Stack:
    """One sample of a batch. Raises UsageError where no target day is stated."""
    days = batch.s2_days[b].numpy()
    if batch.target_day is not None:
        target = int(batch.target_day[b])
    elif batch.target_index is not None and int(batch.target_index[b]) >= 0:
        target = int(days[int(batch.target_index[b])])
    else:
        raise UsageError("The batch names no date to restore.", do="read it with scene.read(window, target=date).")
    has = radar and batch.s1 is not None and batch.s1_valid is not None and batch.s1_days is not None
    return stacked(
        batch.s2[b].numpy(), batch.clear()[b].numpy(), days, target, batch.places[b].origin,
        s1=batch.s1[b].numpy() if has and batch.s1 is not None else None,
        s1_valid=batch.s1_valid[b].numpy() if has and batch.s1_valid is not None else None,
        s1_days=batch.s1_days[b].numpy() if has and batch.s1_days is not None else None,
        orbits=None if batch.s1_orbits is None else batch.s1_orbits[b].numpy(), keep=keep,
    )  # fmt: skip


def hashed(rows: NDArray[np.int64], cols: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """Uniform numbers in (0, 1) from absolute row and column alone (splitmix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        z = rows.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + cols.astype(np.uint64) * np.uint64(0xD1B54A32D192ED03)
        z += np.uint64(seed) * np.uint64(0x8CB92BA72F3D8DD7)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return ((z >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53


@dataclass(frozen=True)
class Cell:
    """One unit of prediction: the hidden pixels of a square of the absolute grid, and the clear ones around it."""

    hidden: Mask  # (h, w) of the square and its surroundings
    around: tuple[slice, slice]  # where these lie in the window


def cells(hidden: Mask, inside: Mask, origin: tuple[int, int], side: int, reach: int) -> Iterator[Cell]:
    """The squares of `side` pixels on the absolute grid that touch `inside`, each with all its hidden pixels (H, W)."""
    height, width = hidden.shape
    for top in range(-(origin[0] % side), height, side):
        for left in range(-(origin[1] % side), width, side):
            at = slice(max(top, 0), min(top + side, height)), slice(max(left, 0), min(left + side, width))
            if not (hidden[at] & inside[at]).any():
                continue
            rows, cols = (
                slice(max(first - reach, 0), min(first + side + reach, size)) for first, size in ((top, height), (left, width))
            )
            mine = np.zeros((rows.stop - rows.start, cols.stop - cols.start), bool)
            mine[at[0].start - rows.start : at[0].stop - rows.start, at[1].start - cols.start : at[1].stop - cols.start] = (
                hidden[at]
            )
            yield Cell(mine, (rows, cols))
