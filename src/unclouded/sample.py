"""The words every room speaks: Place, Window, Sample, Batch, Prediction, and the two codes a pixel can carry.

Axes are always B T C H W, rows before columns, and T is never squeezed (a single date is T = 1). Reflectance has 1.0 = 100 %
and is not clipped; radar is in dB, [VV, VH]. Validity is a mask, never a magic value. Band order is never assumed: names
travel in `Place.bands`. NumPy up to `Sample`, Torch from `Batch` on (imported only when a batch is made).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import date
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from unclouded.bands import L1C
from unclouded.errors import RecordError

if TYPE_CHECKING:
    import torch
    from odc.geo.geobox import GeoBox

Level = Literal["L1C", "L2A"]
Days = NDArray[np.datetime64]  # dtype datetime64[D]

HIDDEN_FROM = 0.5  # cloud >= 0.5 hides the ground
TILE = 256  # pixels: the side of the squares in which rasters are stored, as a rule


class Cover(IntEnum):
    """What lies over a pixel: the class table of every mask detector and of ID_mask.tif."""

    NODATA = 0
    CLEAR = 1
    THIN = 2
    THICK = 3
    SHADOW = 4
    SNOW = 5
    OTHER = 6

    @property
    def hides(self) -> bool:
        """Whether a pixel of this class must be rebuilt (thin and thick cloud, shadow, other defects)."""
        return self in (Cover.THIN, Cover.THICK, Cover.SHADOW, Cover.OTHER)


HIDING: NDArray[np.bool_] = np.array([Cover(code).hides for code in range(len(Cover))])  # HIDING[classes] -> bool


class Source(IntEnum):
    """Where a pixel of the clear product comes from: the codes of ID_source.tif."""

    NODATA = 0
    OBSERVED = 1
    DATES = 2  # other dates
    DATES_SAR = 3  # other dates, and dropping SAR would change the value by more than its sigma
    SAR = 4  # led by SAR
    PRIOR = 5  # a prior only: no clear observation of this pixel supports it
    REFUSED = 6  # left hidden
    SAME_IMAGE = 7  # the same image only: no other date, no SAR


class Window(NamedTuple):
    """A rectangle of pixels: first row, first column, rows, columns. May reach outside a scene only where said."""

    row: int
    col: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Row and column slices for indexing an (..., H, W) array."""
        return slice(self.row, self.row + self.height), slice(self.col, self.col + self.width)

    def grow(self, pixels: int, shape: tuple[int, int]) -> Window:
        """This window with a margin on each side, cut to a scene of `shape` (H, W)."""
        top, left = max(self.row - pixels, 0), max(self.col - pixels, 0)
        bottom = min(self.row + self.height + pixels, shape[0])
        right = min(self.col + self.width + pixels, shape[1])
        return Window(top, left, bottom - top, right - left)

    def inside(self, outer: Window) -> Window:
        """This window in the coordinates of `outer`."""
        return Window(self.row - outer.row, self.col - outer.col, self.height, self.width)


def around(windows: Sequence[Window]) -> Window:
    """The smallest window that holds all of these."""
    row, col = min(w.row for w in windows), min(w.col for w in windows)
    bottom, right = max(w.row + w.height for w in windows), max(w.col + w.width for w in windows)
    return Window(row, col, bottom - row, right - col)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where and how an image was taken: an id, band names in order, processing level, and the pixel grid (None: unknown)."""

    id: str
    bands: tuple[str, ...]
    level: Level
    grid: GeoBox | None = None
    corner: tuple[int, int] = (0, 0)  # without a grid: (row, column) in the place this one was cut from

    def __post_init__(self) -> None:
        unknown = [b for b in self.bands if b not in L1C]
        if unknown or len(set(self.bands)) != len(self.bands) or not self.bands:
            raise RecordError(f"Place '{self.id}' has bands {self.bands}; expected distinct names out of {L1C}.")
        if self.level not in ("L1C", "L2A"):
            raise RecordError(f"Place '{self.id}' has level {self.level!r}; expected 'L1C' or 'L2A'.")

    def at(self, window: Window) -> Place:
        """The place of a window: the same, with the grid cut to the window (without a grid, the corner moved)."""
        if self.grid is None:
            return replace(self, corner=(self.corner[0] + window.row, self.corner[1] + window.col))
        return replace(self, grid=self.grid[window.slices])

    @property
    def origin(self) -> tuple[int, int]:
        """Absolute (row, column) of the first pixel on the pixel lattice of the grid's CRS; `corner` without a grid.

        Rows count downwards from y = 0, so that two windows of one lattice agree on the number of every pixel.
        """
        if self.grid is None:
            return self.corner
        a = self.grid.affine
        return round(a.f / a.e), round(a.c / a.a)


def as_day(day: Any) -> np.datetime64:
    """A date in any usual form (str, date, datetime64) -> datetime64[D]. Raises RecordError, which is a ValueError."""
    try:
        return np.datetime64(day, "D")
    except (ValueError, OverflowError):
        raise RecordError(f"'{day}' is not a date.", do="write it as YYYY-MM-DD.") from None


def as_days(dates: Sequence[date | str | np.datetime64] | NDArray[Any]) -> Days:
    """Dates in any usual form -> an array of datetime64[D]. Raises RecordError."""
    return np.asarray([as_day(d) for d in dates], dtype="datetime64[D]")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One place over time, as NumPy arrays: what a reader yields and a detector or data set speaks.

    Raises RecordError where shapes disagree, dates are out of order, counts were not divided, or radar is linear power.
    """

    place: Place
    s2: NDArray[np.float32]  # (T, C, H, W) reflectance, 1.0 = 100 %, not clipped
    s2_valid: NDArray[np.bool_]  # (T, H, W) measured, whether cloudy or not
    s2_dates: Days  # (T,) strictly ascending
    s1: NDArray[np.float32] | None = None  # (T1, 2, H, W) dB [VV, VH], on its own time axis
    s1_valid: NDArray[np.bool_] | None = None  # (T1, H, W)
    s1_dates: Days | None = None  # (T1,) ascending
    s1_orbits: NDArray[np.int16] | None = None  # (T1,) relative orbit; -1 unknown
    cloud: NDArray[np.float32] | None = None  # (T, H, W) in [0, 1]; 1 = ground hidden by cloud or shadow
    scl: NDArray[np.uint8] | None = None  # (T, H, W) Sen2Cor scene classes as delivered, 0 where there is none
    given: NDArray[np.float32] | None = None  # (T, H, W) values of mask files as delivered, NaN where there is none
    target_date: np.datetime64 | None = None  # the date to restore
    target_index: int | None = None  # its index in s2_dates; None: not among the inputs (sequence-to-point training)
    target: NDArray[np.float32] | None = None  # (C, H, W) reflectance: the truth, where it is known
    target_valid: NDArray[np.bool_] | None = None  # (H, W)

    def __post_init__(self) -> None:
        where = f"Sample of '{self.place.id}'"
        if self.s2.ndim != 4 or self.s2.shape[1] != len(self.place.bands):
            raise RecordError(f"{where}: s2 has shape {self.s2.shape}; expected (T, {len(self.place.bands)}, H, W).")
        t, _, h, w = self.s2.shape
        _expect(where, "s2_valid", self.s2_valid, (t, h, w), np.bool_)
        _expect(where, "s2", self.s2, self.s2.shape, np.float32)
        if self.s2_dates.shape != (t,) or (t > 1 and not (np.diff(self.s2_dates).astype(int) > 0).all()):
            raise RecordError(f"{where}: s2_dates must be {t} strictly ascending dates, got {self.s2_dates}.")
        _tripwire_counts(where, self.s2, self.s2_valid)
        if self.s1 is not None:
            if self.s1.ndim != 4 or self.s1.shape[1:] != (2, h, w) or self.s1_valid is None or self.s1_dates is None:
                raise RecordError(f"{where}: s1 needs shape (T1, 2, {h}, {w}) with s1_valid and s1_dates; got {self.s1.shape}.")
            t1 = self.s1.shape[0]
            _expect(where, "s1_valid", self.s1_valid, (t1, h, w), np.bool_)
            if self.s1_dates.shape != (t1,) or (t1 > 1 and (np.diff(self.s1_dates).astype(int) < 0).any()):
                raise RecordError(f"{where}: s1_dates must be {t1} ascending dates, got {self.s1_dates}.")
            _tripwire_linear(where, self.s1, self.s1_valid)
        if self.cloud is not None:
            _expect(where, "cloud", self.cloud, (t, h, w), np.float32)
            if self.cloud.size and not (self.cloud.min() >= 0 and self.cloud.max() <= 1):
                raise RecordError(f"{where}: cloud must lie in [0, 1], found {self.cloud.min():.3g} to {self.cloud.max():.3g}.")
        if self.target is not None:
            _expect(where, "target", self.target, (len(self.place.bands), h, w), np.float32)
        if self.target_index is not None and not 0 <= self.target_index < t:
            raise RecordError(f"{where}: target_index {self.target_index} is outside the {t} dates.")

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.s2.shape[2], self.s2.shape[3]

    def clear(self) -> NDArray[np.bool_]:
        """(T, H, W): the ground was measured and is not hidden."""
        return self.s2_valid if self.cloud is None else self.s2_valid & (self.cloud < HIDDEN_FROM)

    def hidden(self) -> NDArray[np.bool_]:
        """(H, W): the ground of the target date is not seen; everywhere if the target is not among the inputs."""
        if self.target_index is None:
            return np.ones(self.shape, bool)
        return ~self.clear()[self.target_index]

    def crop(self, window: Window) -> Sample:
        """The same sample cut to a window."""
        cut: dict[str, Any] = {
            f.name: value[(..., *window.slices)]
            for f in fields(self)
            if isinstance(value := getattr(self, f.name), np.ndarray) and value.ndim >= 2
        }
        return replace(self, place=self.place.at(window), **cut)

    def paired(self, max_days: int = 6) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The S1 acquisition nearest in time to each S2 date: dB (T, 2, H, W) and validity (T, H, W).

        Dates without an acquisition within `max_days` (or without S1 at all) come back invalid.
        """
        t, (h, w) = len(self.s2_dates), self.shape
        near, valid = np.zeros((t, 2, h, w), np.float32), np.zeros((t, h, w), bool)
        if self.s1 is not None and self.s1_dates is not None and self.s1_valid is not None and len(self.s1_dates):
            for i, day in enumerate(self.s2_dates):
                gaps = np.abs((self.s1_dates - day).astype(int))
                k = int(gaps.argmin())
                if gaps[k] <= max_days:
                    near[i], valid[i] = self.s1[k], self.s1_valid[k]
        return near, valid


def _expect(where: str, name: str, array: NDArray[Any] | None, shape: tuple[int, ...], dtype: type) -> None:
    if array is None or array.shape != shape or array.dtype != dtype:
        got = "nothing" if array is None else f"{array.shape} {array.dtype}"
        raise RecordError(f"{where}: {name} must have shape {shape} and type {np.dtype(dtype)}, got {got}.")


def _seen(values: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """A few hundred valid pixels per date, (N, C): tripwires must not cost a pass over the data."""
    step = max(1, round((values.shape[2] * values.shape[3] / 256) ** 0.5))
    return np.moveaxis(values[:, :, ::step, ::step], 1, -1)[valid[:, ::step, ::step]]


def _tripwire_counts(where: str, s2: NDArray[np.float32], valid: NDArray[np.bool_]) -> None:
    seen = _seen(s2, valid)
    if seen.size and (middle := float(np.median(seen))) > 10:
        raise RecordError(
            f"{where}: s2 has a median of {middle:.0f}: these look like counts, not reflectance.",
            do="divide by the quantification value (unclouded.units.to_reflectance).",
        )


def _tripwire_linear(where: str, s1: NDArray[np.float32], valid: NDArray[np.bool_]) -> None:
    seen = _seen(s1, valid)
    if len(seen) >= 64 and float(seen.min()) > 0:
        raise RecordError(
            f"{where}: s1 has no value below 0: this looks like linear power, not dB.", do="use unclouded.units.power_to_db.",
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Samples stacked for a model, as Torch tensors. Short series are padded with frames whose `s2_valid` is False.

    Days are int64 days since 1970-01-01; padded frames carry the last real day.
    """

    places: tuple[Place, ...]
    s2: torch.Tensor  # (B, T, C, H, W) float32 reflectance
    s2_valid: torch.Tensor  # (B, T, H, W) bool
    s2_days: torch.Tensor  # (B, T) int64
    s1: torch.Tensor | None = None  # (B, T1, 2, H, W) float32 dB
    s1_valid: torch.Tensor | None = None  # (B, T1, H, W) bool
    s1_days: torch.Tensor | None = None  # (B, T1) int64
    s1_orbits: torch.Tensor | None = None  # (B, T1) int64, -1 unknown
    cloud: torch.Tensor | None = None  # (B, T, H, W) float32
    target_day: torch.Tensor | None = None  # (B,) int64
    target_index: torch.Tensor | None = None  # (B,) int64, -1: not among the inputs
    target: torch.Tensor | None = None  # (B, C, H, W) float32
    target_valid: torch.Tensor | None = None  # (B, H, W) bool
    window: Window | None = field(default=None)  # where in its scene, if it was cut from one

    @staticmethod
    def stack(samples: Sequence[Sample]) -> Batch:
        """Samples of one size, bands and kind -> a Batch; radar without dates is none. Raises RecordError if they differ."""
        import torch

        first = samples[0]
        if any(s.place.bands != first.place.bands or s.shape != first.shape for s in samples):
            raise RecordError("Batch.stack: samples differ in size or bands; crop and select first.")

        def stacked(name: str, fill: float) -> torch.Tensor | None:
            arrays: list[Any] = [a if a is not None and len(a) else None for a in (getattr(s, name) for s in samples)]
            if any(a is None for a in arrays):
                if not all(a is None for a in arrays):
                    raise RecordError(f"Batch.stack: some samples have {name} and others do not.")
                return None
            longest = max(len(a) for a in arrays)
            padded = [
                a if len(a) == longest
                else np.concatenate([a, np.full((longest - len(a), *a.shape[1:]), fill, a.dtype)])
                for a in arrays
            ]  # fmt: skip
            return torch.from_numpy(np.ascontiguousarray(padded[0][None] if len(padded) == 1 else np.stack(padded)))

        def days(name: str) -> torch.Tensor | None:
            arrays: list[Any] = [a if a is not None and len(a) else None for a in (getattr(s, name) for s in samples)]
            if any(a is None for a in arrays):
                return None
            longest = max(len(a) for a in arrays)
            numbers = [a.astype("datetime64[D]").astype(np.int64) for a in arrays]
            return torch.from_numpy(np.stack([np.pad(n, (0, longest - len(n)), mode="edge") if len(n) else n for n in numbers]))

        s2, s2_valid, s2_days = stacked("s2", 0), stacked("s2_valid", False), days("s2_dates")
        assert s2 is not None and s2_valid is not None and s2_days is not None
        orbits = stacked("s1_orbits", -1) if all(s.s1_orbits is not None for s in samples) else None
        return Batch(
            places=tuple(s.place for s in samples),
            s2=s2, s2_valid=s2_valid, s2_days=s2_days,
            s1=stacked("s1", 0), s1_valid=stacked("s1_valid", False), s1_days=days("s1_dates"),
            s1_orbits=None if orbits is None else orbits.long(),
            cloud=stacked("cloud", 1),
            target_day=None if any(s.target_date is None for s in samples) else torch.tensor(
                [int(as_day(s.target_date).astype(np.int64)) for s in samples]),
            target_index=torch.tensor([-1 if s.target_index is None else s.target_index for s in samples]),
            target=stacked("target", 0), target_valid=stacked("target_valid", False),
        )  # fmt: skip

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.s2.shape[-2], self.s2.shape[-1]

    def __len__(self) -> int:
        return self.s2.shape[0]

    def clear(self) -> torch.Tensor:
        """(B, T, H, W) bool: measured and not hidden."""
        return self.s2_valid if self.cloud is None else self.s2_valid & (self.cloud < HIDDEN_FROM)

    def hidden(self) -> torch.Tensor:
        """(B, H, W) bool: the ground of the target date is not seen; everywhere where the target is not among the inputs."""
        import torch

        clear = self.clear()
        if self.target_index is None:
            return torch.ones_like(clear[:, 0])
        at = self.target_index.clamp(min=0)
        seen = clear[torch.arange(len(self), device=clear.device), at]
        return ~(seen & (self.target_index >= 0)[:, None, None])

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None, *, non_blocking: bool = False) -> Batch:
        """The batch on another device; floating tensors in `dtype` if given."""
        return _each(
            self,
            lambda t: t.to(device, dtype if dtype is not None and t.is_floating_point() else None, non_blocking=non_blocking),
        )

    def pin_memory(self) -> Batch:
        """The batch in memory from which a CUDA device copies while it computes."""
        return _each(self, lambda t: t.pin_memory())

    def part(self, at: slice) -> Batch:
        """Some of the samples."""
        return replace(_each(self, lambda t: t[at]), places=self.places[at])

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        import torch

        values = [getattr(self, f.name) for f in fields(self)]
        return sum(value.nbytes for value in values if isinstance(value, torch.Tensor))

    def pad_to(self, height: int, width: int) -> Batch:
        """Padded at the bottom and right with invalid pixels (value 0, valid False, cloud 1)."""
        import torch
        import torch.nn.functional as nn

        h, w = self.shape
        if (h, w) == (height, width):
            return self
        by = (0, width - w, 0, height - h)

        def padded(name: str) -> torch.Tensor | None:
            value: torch.Tensor | None = getattr(self, name)
            if value is None or value.dim() < 3:
                return value
            fill = 1 if name == "cloud" else 0
            if value.dtype == torch.bool:
                return nn.pad(value.to(torch.uint8), by, value=fill).bool()
            return nn.pad(value, by, value=fill)

        names = ("s2", "s2_valid", "s1", "s1_valid", "cloud", "target", "target_valid")
        changed: dict[str, Any] = {n: padded(n) for n in names}
        return replace(self, **changed)


R = TypeVar("R", "Batch", "Prediction")


def _each(record: R, change: Callable[[torch.Tensor], torch.Tensor]) -> R:
    """The record with every tensor changed."""
    import torch

    values = {f.name: getattr(record, f.name) for f in fields(record)}
    changed: dict[str, Any] = {name: change(value) for name, value in values.items() if isinstance(value, torch.Tensor)}
    return replace(record, **changed)


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """A guess for every pixel of the target date. `remove` keeps what was seen and takes this for what was hidden.

    `sigma` is the standard deviation of the error: the interval at level p is s2 +- z_p * sigma. A remover that has none
    leaves it None and the product states a conformal constant per band from its probe. NaN in `s2` means refused.
    """

    s2: torch.Tensor  # (B, C, H, W) float32 reflectance
    sigma: torch.Tensor | None = None  # (B, C, H, W) float32 reflectance
    series: torch.Tensor | None = None  # (B, T, C, H, W): all dates, where a method returns them
    source: torch.Tensor | None = None  # (B, H, W) uint8, codes of Source; None: DATES
    age: torch.Tensor | None = None  # (B, H, W) int16 signed days from target to the dominant clear date; 32767 none
    support: torch.Tensor | None = None  # (B, H, W) int16 clear observations that bear on the pixel

    def __post_init__(self) -> None:
        if self.s2.dim() != 4:
            raise RecordError(f"Prediction.s2 has shape {tuple(self.s2.shape)}; expected (B, C, H, W).")
        if self.sigma is not None and self.sigma.shape != self.s2.shape:
            raise RecordError(f"Prediction.sigma has shape {tuple(self.sigma.shape)}; expected {tuple(self.s2.shape)}.")
        for name in ("source", "age", "support"):
            value: torch.Tensor | None = getattr(self, name)
            if value is not None and value.shape != (self.s2.shape[0], *self.s2.shape[2:]):
                raise RecordError(f"Prediction.{name} has shape {tuple(value.shape)}; expected (B, H, W).")

    def to(self, device: torch.device | str) -> Prediction:
        """The prediction on another device."""
        return _each(self, lambda t: t.to(device))

    def part(self, at: slice) -> Prediction:
        """Some of the samples."""
        return _each(self, lambda t: t[at])


NO_AGE = 32767
