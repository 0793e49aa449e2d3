"""The bounded sample in which a place is studied: pixels of all dates, read once for every date to restore and for the probe.

Which pixels are looked at follows from their row and column alone. What they held is kept as it was measured, whatever lies
over it; the masks come in when a date is asked for, so that a survey serves any date and any masks of its scene.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unclouded.errors import UsageError
from unclouded.masks.lazy import LazyMaps
from unclouded.models import scene_radar
from unclouded.models.scene_study import distance, hashed, picked
from unclouded.models.temporal import EDGE, Floats, Mask, Pixels
from unclouded.sample import HIDING, Window
from unclouded.workers import in_processes

if TYPE_CHECKING:
    from unclouded.scenes.scene import Scene

PLOT = 64  # pixels: side of the squares that a large scene is studied in, all pixels of them
PLOTS = 9
BLOCK, BLOCKS = 256, 36  # pixels: side and number of the windows read for the study
EXTRA = 20_000  # pixels between the plots, of which the clear ones of the target are used


class Spot(NamedTuple):
    """A window that is read, and which of its pixels are looked at."""

    window: Window
    kept: Mask  # (h, w)
    plot: Mask  # (h, w) those of a plot, which belong to the sample of every date


class Look(NamedTuple):
    """The n pixels of a spot on the T dates of the scene; radar on the D days of the survey."""

    x: Floats  # (T, B, n)
    valid: Mask  # (T, n)
    edge: Floats  # (T, n)
    radar: tuple[Floats, Floats] | None  # (D, 4, n) and (4, n); None where nothing was measured


@dataclass(frozen=True, kw_only=True)
class Survey:
    """N pixels of a scene on D days, as measured: at most 56 864 pixels of a large scene.

    A day takes 4 B + 21 bytes a pixel, 3.5 MB with ten bands (12 days: 42 MB, 118 days: 410 MB). Arrays in files travel to
    other processes by name: all share the pages, and the system can take them back.
    """

    scene: Scene  # the surveyed one, without its masks
    days: NDArray[np.int64]  # (D,) ascending: the dates of the scene, and one more if it was asked for
    spots: tuple[tuple[Window, int], ...]  # the windows that were read, and how many pixels of each
    rows: NDArray[np.int64]  # (N,) absolute
    cols: NDArray[np.int64]
    plot: Mask  # (N,)
    x: Floats  # (D, B, N) reflectance, 0 where not measured
    valid: Mask  # (D, N) measured, whether hidden or not
    edge: Floats  # (D, N) pixels to the nearest one that was not measured, at most EDGE
    radar: Floats | None  # (D, 4, N) as in Pixels
    ground: Floats | None  # (4, N)

    def pixels(self, scene: Scene, day: int) -> Pixels:
        """The sample for one day under the masks of `scene`: plots whole, of the rest what is clear on that day.

        `scene`: the surveyed one, with any masks. Raises UsageError for another scene or a day that was not surveyed.
        """
        self._check(scene, day)
        t = int(np.searchsorted(self.days, day))
        clear = self._clear(scene)
        at = np.flatnonzero(self.plot | clear[t])
        clear, x = clear.take(at, -1), _some(self.x, at)
        np.copyto(x, np.float32(0), where=~clear[:, None])
        return Pixels(
            x=x, clear=clear, days=self.days, rows=self.rows[at], cols=self.cols[at],
            edge=np.minimum(self.edge[t], self._from_hidden(scene, day))[at],
            radar=None if self.radar is None else _some(self.radar, at),
            ground=None if self.ground is None else _some(self.ground, at),
        )  # fmt: skip

    def _check(self, scene: Scene, day: int) -> None:
        mine = self.scene
        if (scene.place, scene.shape) != (mine.place, mine.shape) or not np.array_equal(scene.dates, mine.dates):
            raise UsageError("This survey is of another scene.", do="survey the scene that the model is to be adapted to.")
        if day not in self.days:
            raise UsageError(f"{np.datetime64(day, 'D')} was not surveyed.", do="adapt a model without a survey to that date.")

    def _clear(self, scene: Scene) -> Mask:
        """(D, N): measured and not hidden."""
        clear, first = np.array(self.valid), 0
        if scene.masks is None:
            return clear
        real = np.searchsorted(self.days, scene.dates.astype(np.int64))
        for window, count in self.spots:
            at = slice(first, first + count)
            clear[real, at] &= ~HIDING[scene.masks[(slice(None), *window.slices)]][:, *self._within(window, at, scene)]
            first += count
        return clear

    def _within(self, window: Window, at: slice, scene: Scene) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows and columns of some pixels in their window of the scene."""
        top, left = scene.place.origin
        return self.rows[at] - top - window.row, self.cols[at] - left - window.col

    def _from_hidden(self, scene: Scene, day: int) -> Floats:
        """(N,) pixels to the nearest one that the masks hide on that day, at most EDGE."""
        found = np.flatnonzero(scene.dates.astype(np.int64) == day)
        if scene.masks is None or not len(found):
            return np.full(len(self.rows), EDGE, np.float32)
        first, parts = 0, []
        for window, count in self.spots:
            classes = np.asarray(scene.masks[(int(found[0]), *window.slices)])
            parts.append(distance(~HIDING[classes])[self._within(window, slice(first, first + count), scene)])
            first += count
        return np.concatenate(parts)

    def __getstate__(self) -> dict[str, Any]:
        """Arrays in files by name."""
        return {name: _named(value) for name, value in self.__dict__.items()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(
            {name: np.load(value, mmap_mode="r") if isinstance(value, Path) else value for name, value in state.items()}
        )


def _some(values: Floats, at: NDArray[np.intp]) -> Floats:
    """(..., N) -> (..., n), in memory wherever it was."""
    return np.asarray(values).take(at, -1)


def _named(value: Any) -> Any:
    return Path(value.filename) if isinstance(value, np.memmap) and value.filename is not None else value


def studied(scene: Scene, day: int, radar: bool, seed: int) -> Pixels:
    """The sample of a scene for one day, which need not be among its dates."""
    return surveyed(scene, radar=radar, seed=seed, day=day).pixels(scene, day)


def surveyed(
    scene: Scene, *, radar: bool, seed: int, day: int | None = None, folder: Path | None = None, workers: int = 1
) -> Survey:
    """Read the sample, in `workers` processes. `day`: one more than the scene's dates; `folder`: where to keep large arrays."""
    bare = replace(scene, masks=None) if radar else replace(scene, masks=None, s1_dates=None, s1_orbits=None)
    dates = scene.dates.astype(np.int64)
    days = dates if day is None else np.union1d(dates, [day])
    spots = list(_spots(scene, seed))
    ends = np.cumsum([0, *(int(spot.kept.sum()) for spot in spots)])
    count, real = int(ends[-1]), np.searchsorted(days, dates)
    x = _empty(folder, "x", (len(days), len(scene.place.bands), count), np.float32)
    valid = _empty(folder, "valid", (len(days), count), bool)
    edge = _empty(folder, "edge", (len(days), count), np.float32)
    anomaly, ground = _empty(folder, "radar", (len(days), 4, count), np.float32), np.zeros((4, count), np.float32)
    heard, lazy = False, scene.masks if isinstance(scene.masks, LazyMaps) else None
    for k, look in in_processes(partial(_looked, bare, lazy, days), list(enumerate(spots)), workers):
        at = slice(ends[k], ends[k + 1])
        x[real, :, at], valid[real, at], edge[real, at] = look.x, look.valid, look.edge
        if look.radar is not None:
            anomaly[..., at], ground[:, at], heard = *look.radar, True
    rows, cols = (
        np.concatenate([np.nonzero(spot.kept)[axis] + spot.window[axis] + scene.place.origin[axis] for spot in spots])
        for axis in (0, 1)
    )
    return Survey(
        scene=bare, days=days, spots=tuple((spot.window, int(spot.kept.sum())) for spot in spots), rows=rows, cols=cols,
        plot=np.concatenate([spot.plot[spot.kept] for spot in spots]), x=x, valid=valid, edge=edge,
        radar=anomaly if heard else None, ground=ground if heard else None,
    )  # fmt: skip


def looked_at(scene: Scene, seed: int) -> list[Window]:
    """The windows in which the place is studied."""
    return [spot.window for spot in _spots(scene, seed)]


def _empty(folder: Path | None, name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """An array of zeros, in a file of the folder if there is one."""
    if folder is None:
        return np.zeros(shape, dtype)
    return np.lib.format.open_memmap(folder / f"survey-{name}.npy", "w+", dtype, shape)


def _looked(scene: Scene, masks: LazyMaps | None, days: NDArray[np.int64], item: tuple[int, Spot]) -> tuple[int, Look]:
    """Read a spot of a scene without masks. `masks` are only looked at, so that they are decided once, and by all processes."""
    k, (window, kept, _) = item
    if masks is not None:
        _ = masks[(slice(None), *window.slices)]
    sample, flat = scene.read(window), np.flatnonzero(kept)
    valid, radar = picked(sample.s2_valid, flat), None
    if sample.s1 is not None and sample.s1_valid is not None and sample.s1_dates is not None and sample.s1_valid.any():
        orbits = None if sample.s1_orbits is None else sample.s1_orbits.astype(np.int64)
        found = scene_radar.anomalies(sample.s1, sample.s1_valid, sample.s1_dates.astype(np.int64), orbits, days)
        radar = picked(found[0], flat), picked(found[1], flat)
    x = np.where(valid[:, None], picked(sample.s2, flat), np.float32(0))
    return k, Look(x, valid, np.stack([picked(distance(seen), flat) for seen in sample.s2_valid]), radar)


def _spots(scene: Scene, seed: int) -> Iterator[Spot]:
    """Where to look: the whole of a small scene, else plots spread over it, and pixels between them drawn by hash."""
    if scene.shape[0] * scene.shape[1] <= PLOTS * PLOT**2:
        whole = np.ones(scene.shape, bool)
        yield Spot(scene.window, whole, whole)
        return
    blocks = _spread([block for block in scene.blocks(BLOCK) if _inner(block, scene.shape).any()], BLOCKS, seed)
    plots = set(np.linspace(0, len(blocks) - 1, min(PLOTS, len(blocks))).astype(int).tolist())
    share = EXTRA / sum(int(_inner(block, scene.shape).sum()) for block in blocks)
    for k, block in enumerate(blocks):
        yield _spot(scene, block, seed, share, k in plots)


def _spread(windows: list[Window], count: int, seed: int) -> list[Window]:
    """At most `count` windows, one from each equal share of the scene in reading order, drawn by hash."""
    if len(windows) <= count:
        return windows
    edges = np.linspace(0, len(windows), count + 1).astype(int)
    draw = hashed(np.arange(count), np.arange(count), seed)
    return [windows[low + int(u * (high - low))] for low, high, u in zip(edges[:-1], edges[1:], draw, strict=True)]


def _spot(scene: Scene, block: Window, seed: int, share: float, has_plot: bool) -> Spot:
    """A block's pixels, thinned by hash to `share` of all, and its middle plot whole if asked.

    Those nearer than EDGE to a side with more of the scene beyond it are left out: their surroundings would be another block.
    """
    inside, plot = _inner(block, scene.shape), np.zeros((block.height, block.width), bool)
    if has_plot:
        row, col = max(block.height - PLOT, 0) // 2, max(block.width - PLOT, 0) // 2
        plot[row : row + PLOT, col : col + PLOT] = inside[row : row + PLOT, col : col + PLOT]
    rows, cols = np.indices((block.height, block.width))
    top, left = scene.place.origin
    return Spot(block, plot | inside & (hashed(rows + (block.row + top), cols + (block.col + left), seed) < share), plot)


def _inner(block: Window, shape: tuple[int, int]) -> Mask:
    """(h, w) pixels whose surroundings the block shows as far as the scene has any."""
    inside = np.ones((block.height, block.width), bool)
    bottom, right = block.row + block.height, block.col + block.width
    inside[: EDGE if block.row else 0] = False
    inside[block.height - (EDGE if bottom < shape[0] else 0) :] = False
    inside[:, : EDGE if block.col else 0] = False
    inside[:, block.width - (EDGE if right < shape[1] else 0) :] = False
    return inside
