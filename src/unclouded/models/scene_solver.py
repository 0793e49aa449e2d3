"""What the solvers share that fit themselves to a sequence: which dates, which windows of a scene, and the way back.

A solver takes a cube (dates, bands, rows, columns) and returns all its dates. Called with a batch it solves each sample as it
is. `adapt` ties it to a scene: the scene is divided into overlapping square cells on one lattice, a cell is solved when it is
first needed, and results are blended over the overlap. A pixel so depends on scene, date and seed, never on how the scene is
cut into tiles; at most `KEPT` cells are in memory.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from unclouded.errors import InputUnsupported
from unclouded.models.averages import CLOUD_COST_DAYS
from unclouded.sample import HIDING, NO_AGE, Batch, Cover, Prediction, Sample, Source, Window, as_day

if TYPE_CHECKING:
    from unclouded.models.needs import Needs
    from unclouded.scenes.scene import Scene

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Choose = Literal["nearest", "clearest"]
KEPT = 32  # solved cells
FAR = 1e12  # the cost of a date that measured nothing


@dataclass(frozen=True, kw_only=True)
class Cube:
    """A sequence of one place, in order of time. What is not valid is 0 everywhere, so nothing can leak."""

    x: Floats  # (T, C, H, W) reflectance
    valid: Bools  # (T, H, W) measured
    clear: Bools  # (T, H, W) measured and not hidden
    days: NDArray[np.int64]  # (T,) since 1970-01-01
    s1: Floats | None = None  # (T, 2, H, W) dB, the acquisition nearest to each date
    s1_valid: Bools | None = None  # (T, H, W)

    @staticmethod
    def of(sample: Sample, *, radar: bool = False) -> Cube:
        """A sample without its target."""
        s1, s1_valid = sample.paired(max_days=400) if radar and sample.s1 is not None else (None, None)
        valid = sample.s2_valid
        return Cube(
            x=np.where(valid[:, None], sample.s2, np.float32(0)), valid=valid, clear=sample.clear(),
            days=sample.s2_dates.astype("datetime64[D]").astype(np.int64), s1=s1, s1_valid=s1_valid,
        )  # fmt: skip


def pick(days: NDArray[np.int64], share: NDArray[np.floating], seen: Bools, day: int, n: int, by: Choose) -> list[int]:
    """The target date, if it is there, and the nearest or clearest others: at most n indices, in order of time.

    days, share (clear), seen (measured at all): (T,). Raises InputUnsupported where nothing was measured.
    """
    if not seen.any():
        raise InputUnsupported("No date of this series measured anything here.")
    cost = np.abs(days - day) + (CLOUD_COST_DAYS * (1 - share) if by == "clearest" else 0.0)
    cost = np.where(seen, np.where(days == day, -1, cost), FAR)
    best = np.argsort(cost, kind="stable")[: min(n, int(seen.sum()))]
    return sorted(best.tolist(), key=lambda i: int(days[i]))


def between(series: Floats, days: NDArray[np.int64], known: Bools, day: int) -> Floats:
    """One day of a series (T, C, H, W): the date itself if it is `known` (T,), else on the line between its neighbours."""
    at = np.flatnonzero(known)
    if not len(at):
        return np.full_like(series[0], np.nan)
    place = float(np.interp(day, days[at], np.arange(len(at))))
    low = int(place)
    high = min(low + 1, len(at) - 1)
    share = np.float32(place - low)
    return series[at[low]] if share == 0 else (1 - share) * series[at[low]] + share * series[at[high]]


class SceneSolver(ABC):
    """A solver as a CloudRemover. A subclass states `needs`, `cell`, `overlap`, `dates`, `choose`, and `solve`."""

    needs: Needs
    cell: int = 256  # pixels: the side of what is solved together
    overlap: int = 32  # pixels that neighbouring cells share
    dates: int = 30  # at most so many
    choose: Choose = "nearest"
    radar: bool = False
    _scene: Scene | None = None
    _day: int = 0
    _picked: tuple[int, ...] = ()
    _done: OrderedDict[Window, tuple[Floats, NDArray[np.int16], NDArray[np.int16]]]

    @abstractmethod
    def solve(self, cube: Cube) -> tuple[Floats, Bools]:
        """All dates (T, C, H, W) in reflectance, NaN where it cannot tell, and which dates (T,) it found out anything about."""

    def adapt(self, scene: Scene, date: np.datetime64) -> SceneSolver:
        """The solver of one date of a scene. Dates are chosen for the whole scene; cells are solved when they are needed."""
        self.needs.check(scene)
        adapted = self._copy()
        days = scene.dates.astype("datetime64[D]").astype(np.int64)
        masks = scene.masks
        seen = np.ones(len(days), bool) if masks is None else np.array([bool((m != Cover.NODATA).any()) for m in masks])
        clear = [1.0] * len(days) if masks is None else [float(np.mean(~HIDING[m] & (m != Cover.NODATA))) for m in masks]
        adapted._scene, adapted._day = scene, int(as_day(date).astype(np.int64))
        adapted._picked = tuple(pick(days, np.asarray(clear), seen, adapted._day, self.dates, self.choose))
        adapted._done = OrderedDict()
        return adapted

    @abstractmethod
    def _copy(self) -> SceneSolver: ...

    def __call__(self, batch: Batch) -> Prediction:
        """Reflectance (B, C, H, W), NaN where refused; `series` of all dates if called without `adapt`."""
        import torch

        self.needs.check_batch(batch)
        parts = [self._from_batch(batch, b) if self._scene is None else self._from_scene(batch, b) for b in range(len(batch))]
        s2, series, age, support = (list(column) for column in zip(*parts, strict=True))
        clear_age, refused = torch.from_numpy(np.stack(age)), torch.from_numpy(np.isnan(np.stack(s2)).any(1))
        seen, blind = self._rests_on(batch)
        known = torch.where(clear_age != NO_AGE, int(seen), int(blind))
        return Prediction(
            s2=torch.from_numpy(np.stack(s2)), series=None if self._scene is not None else torch.from_numpy(np.stack(series)),
            source=torch.where(refused, int(Source.REFUSED), known).to(torch.uint8),
            age=clear_age, support=torch.from_numpy(np.stack(support)),
        )  # fmt: skip

    def _rests_on(self, batch: Batch) -> tuple[Source, Source]:
        """What a pixel rests on that some date saw clearly, and one that none did."""
        return (Source.DATES_SAR, Source.SAR) if self.radar and batch.s1 is not None else (Source.DATES, Source.PRIOR)

    def _from_batch(self, batch: Batch, b: int) -> tuple[Any, ...]:
        sample = sample_of(batch, b)
        days = sample.s2_dates.astype("datetime64[D]").astype(np.int64)
        day = int(as_day(sample.target_date).astype(np.int64))
        seen = np.asarray(sample.s2_valid.any((1, 2)))
        chosen = pick(days, sample.clear().mean((1, 2)), seen, day, self.dates, self.choose)
        cube = Cube.of(_dates(sample, chosen), radar=self.radar)
        found, known = self.solve(cube)
        series = np.stack([between(found, cube.days, known, int(d)) for d in _all_days(batch, b)])
        return between(found, cube.days, known, day), series, *evidence(cube, day)

    def _from_scene(self, batch: Batch, b: int) -> tuple[Any, ...]:
        scene = self._scene
        assert scene is not None
        row, col = (own - first for own, first in zip(batch.places[b].origin, scene.place.origin, strict=True))
        at = Window(row, col, *batch.shape)
        total = np.zeros((len(scene.place.bands), *batch.shape), np.float64)
        weight = np.zeros(batch.shape)
        age, support = np.full(batch.shape, NO_AGE, np.int16), np.zeros(batch.shape, np.int16)
        for cell, share in cells(scene.shape, self.cell, self.overlap, at):
            s2, cell_age, cell_support = self._solved(cell)
            inner, outer = _common(cell, at)
            w = share[inner]
            total[:, *outer] += w * s2[:, *inner]
            weight[outer] += w
            age[outer], support[outer] = cell_age[inner], cell_support[inner]
        return (total / np.where(weight > 0, weight, np.nan)).astype(np.float32), None, age, support

    def _solved(self, cell: Window) -> tuple[Floats, NDArray[np.int16], NDArray[np.int16]]:
        if cell not in self._done:
            assert self._scene is not None
            cube = Cube.of(self._scene.read(cell, only=self._picked), radar=self.radar)
            found, known = self.solve(cube)
            self._done[cell] = (between(found, cube.days, known, self._day), *evidence(cube, self._day))
            if len(self._done) > KEPT:
                self._done.popitem(last=False)
        self._done.move_to_end(cell)
        return self._done[cell]


def sample_of(batch: Batch, b: int) -> Sample:
    """Sample `b` of a batch, its dates in order of time; padded frames (a day told twice) are left out."""

    def array(value: Any) -> Any:
        return None if value is None else value[b].detach().cpu().numpy()

    assert batch.target_day is not None, "a remover needs Batch.target_day"
    days, at = _each_day(_all_days(batch, b), array(batch.s2_valid).any((1, 2)))
    s1_days = array(batch.s1_days)
    order = None if s1_days is None else np.argsort(s1_days, kind="stable")
    target = np.flatnonzero(days == int(batch.target_day[b]))
    cloud = array(batch.cloud)
    return Sample(
        place=batch.places[b], s2=np.where(array(batch.s2_valid)[at][:, None], array(batch.s2)[at], np.float32(0)),
        s2_valid=array(batch.s2_valid)[at], s2_dates=days.astype("datetime64[D]"),
        s1=None if order is None else np.where(array(batch.s1_valid)[order][:, None], array(batch.s1)[order], np.float32(-60)),
        s1_valid=None if order is None else array(batch.s1_valid)[order],
        s1_dates=None if order is None else s1_days[order].astype("datetime64[D]"),
        cloud=None if cloud is None else cloud[at], target_date=np.datetime64(int(batch.target_day[b]), "D"),
        target_index=int(target[0]) if len(target) else None,
    )  # fmt: skip


def _each_day(days: NDArray[np.int64], seen: Bools) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """Every day once, ascending, and where it is told; of frames of one day the one that measured something."""
    order = np.lexsort((~seen, days))
    found, first = np.unique(days[order], return_index=True)
    return found, order[first]


def _all_days(batch: Batch, b: int) -> NDArray[np.int64]:
    days: NDArray[np.int64] = batch.s2_days[b].cpu().numpy()
    return days


def _dates(sample: Sample, chosen: list[int]) -> Sample:
    from dataclasses import replace

    return replace(
        sample, s2=sample.s2[chosen], s2_valid=sample.s2_valid[chosen], s2_dates=sample.s2_dates[chosen],
        cloud=None if sample.cloud is None else sample.cloud[chosen], target_index=None,
    )  # fmt: skip


def evidence(cube: Cube, day: int) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Signed days to the nearest clear date (H, W), NO_AGE where there is none, and how many dates were clear (H, W)."""
    age = np.full(cube.clear.shape[1:], NO_AGE, np.int16)
    for t in np.argsort(-np.abs(cube.days - day), kind="stable"):
        age[cube.clear[t]] = cube.days[t] - day
    return age, cube.clear.sum(0).astype(np.int16)


def cells(shape: tuple[int, int], side: int, overlap: int, at: Window) -> Iterator[tuple[Window, NDArray[np.float64]]]:
    """The cells of a scene of `shape` that touch `at`, with their weights (h, w): ramps over the overlap, nowhere 0."""
    for row in _starts(shape[0], side, overlap):
        for col in _starts(shape[1], side, overlap):
            cell = Window(row, col, min(side, shape[0]), min(side, shape[1]))
            if (
                row < at.row + at.height
                and row + cell.height > at.row
                and col < at.col + at.width
                and col + cell.width > at.col
            ):
                down, across = (_ramp(n, s, size, overlap) for n, s, size in zip(cell[2:], cell[:2], shape, strict=True))
                yield cell, down[:, None] * across


def _starts(size: int, side: int, overlap: int) -> list[int]:
    return [0] if size <= side else [*range(0, size - side, side - overlap), size - side]


def _ramp(n: int, start: int, size: int, overlap: int) -> NDArray[np.float64]:
    ramp = np.ones(n)
    rise = (np.arange(overlap) + 1) / (overlap + 1)
    if start > 0:
        ramp[:overlap] = rise
    if start + n < size:
        ramp[n - overlap :] = np.minimum(ramp[n - overlap :], rise[::-1])
    return ramp


def _common(cell: Window, at: Window) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The shared rectangle in the coordinates of the cell and of the other window."""
    top, left = max(cell.row, at.row), max(cell.col, at.col)
    height = min(cell.row + cell.height, at.row + at.height) - top
    width = min(cell.col + cell.width, at.col + at.width) - left
    shared = Window(top, left, height, width)
    return shared.inside(cell).slices, shared.inside(at).slices
