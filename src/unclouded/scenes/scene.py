"""Scene: one place over time, ready to be read window by window. It holds no pixels, only the way to get them.

Everything is on one pixel grid, the finest of the Sentinel-2 bands (10 m as a rule): coarser bands come repeated (nearest),
radar and masks come warped onto it. `Layer` describes how the target date is stored, so that a product can be written with
the same counts; `PixelSource` is what a reader implements.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unclouded.errors import InputMissing, RecordError
from unclouded.sample import HIDING, Cover, Days, Place, Sample, Window, around, as_day
from unclouded.units import to_reflectance

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

    from unclouded.masks.lazy import LazyMaps


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Bands stored together on one native grid: one COG of the product. reflectance = (DN + offset) / quantification.

    `factor` is the native pixel size over the scene's: 1 for 10 m bands on a 10 m scene, 2 for 20 m, 6 for 60 m.
    """

    name: str  # "" if the date is one file, else "10m", "20m", "60m"
    bands: tuple[str, ...]
    shape: tuple[int, int]  # (H, W) native
    grid: GeoBox | None
    dtype: str  # NumPy name
    nodata: float | None
    quantification: float
    offset: tuple[float, ...]  # per band, in DN, added before dividing
    factor: int = 1
    descriptions: tuple[str, ...] = ()  # band names as the input spells them
    scale_tags: tuple[float, ...] = ()  # GeoTIFF scale and offset tags to round-trip, per band; () if none
    offset_tags: tuple[float, ...] = ()
    tags: dict[str, str] = field(default_factory=dict)


class PixelSource(Protocol):
    """What a reader gives. Windows are in scene pixels; `i` counts Sentinel-2 dates, `k` Sentinel-1 dates."""

    def s2(self, i: int, window: Window) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Reflectance (C, h, w) on the scene grid, bands in `Place.bands` order, and validity (h, w): every band measured.

        Both are the caller's own.
        """
        ...

    def s1(self, k: int, window: Window) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """dB (2, h, w) [VV, VH] on the scene grid and validity (h, w)."""
        ...

    def scl(self, i: int, window: Window) -> NDArray[np.uint8] | None:
        """Sen2Cor classes (h, w), 0 none; None if the date has no such layer."""
        ...

    def given(self, i: int, window: Window) -> NDArray[np.float32] | None:
        """Values of a mask file (h, w), NaN none; None if the date has no such file."""
        ...

    def layers(self, i: int) -> tuple[Layer, ...]:
        """How date i is stored."""
        ...

    def counts(self, i: int, layer: Layer, window: Window) -> NDArray[Any]:
        """Raw DN (C, h, w) of one layer; the window is in the layer's own pixels. Bit for bit what the file holds."""
        ...


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One place over time: grid, dates, masks once they are detected, and a way to read windows."""

    place: Place
    shape: tuple[int, int]
    dates: Days  # (T,) Sentinel-2, strictly ascending
    source: PixelSource
    s1_dates: Days | None = None  # (T1,)
    s1_orbits: NDArray[np.int16] | None = None  # (T1,) relative orbit, -1 unknown
    masks: NDArray[np.uint8] | LazyMaps | None = None  # (T, H, W) codes of Cover, possibly in a file, or decided when seen
    decisions: dict[str, Any] = field(default_factory=dict)  # JSON: offsets with evidence, pairing, files, warnings

    def index(self, date: np.datetime64) -> int:
        """The position of a date. Raises InputMissing with the dates there are."""
        found = np.flatnonzero(self.dates == as_day(date))
        if not len(found):
            near = self.dates[np.argsort(np.abs((self.dates - as_day(date)).astype(int)))[:3]]
            raise InputMissing(
                f"There is no Sentinel-2 image of {as_day(date)}.",
                where=self.place.id,
                why=f"the series has {len(self.dates)} dates, {self.dates[0]} to {self.dates[-1]}.",
                do="choose one of them; nearest: " + ", ".join(str(d) for d in sorted(near)) + ".",
            )
        return int(found[0])

    @property
    def window(self) -> Window:
        """The whole scene."""
        return Window(0, 0, *self.shape)

    def blocks(self, size: int, width: int | None = None) -> Iterator[Window]:
        """The scene in windows of at most `size` x `size` (or x `width`), row by row."""
        across = width or size
        for row in range(0, self.shape[0], size):
            for col in range(0, self.shape[1], across):
                yield Window(row, col, min(size, self.shape[0] - row), min(across, self.shape[1] - col))

    def read(
        self, window: Window | None = None, *, target: np.datetime64 | None = None, only: Sequence[int] | None = None
    ) -> Sample:
        """Reflectance, radar and masks of a window (inside the scene) for all dates, or only the S2 dates `only`."""
        return self.read_together([self.window if window is None else window], target=target, only=only)[0]

    def read_together(
        self, windows: Sequence[Window], *, target: np.datetime64 | None = None, only: Sequence[int] | None = None
    ) -> list[Sample]:
        """`read` of several windows near each other: date by date, what holds them all is read once."""
        outer = windows[0] if len(windows) == 1 else around(windows)
        if outer.grow(0, self.shape) != outer:
            raise RecordError(f"Window {tuple(outer)} reaches outside the scene of {self.shape} pixels.")
        chosen = list(range(len(self.dates)) if only is None else sorted(only))
        dates = self.dates[chosen]
        index = None
        if target is not None and (found := np.flatnonzero(dates == as_day(target))).size:
            index = int(found[0])
        clouds = [None if self.masks is None else self._cloud(window, chosen) for window in windows]  # before much is in memory
        images = _cut(lambda i: self.source.s2(i, outer), chosen, windows, outer, len(self.place.bands))
        radars = self._radars(windows, outer)
        scl, given = [self.source.scl(i, outer) for i in chosen], [self.source.given(i, outer) for i in chosen]
        return [
            Sample(
                place=self.place.at(window), s2=s2, s2_valid=valid, s2_dates=dates, **radar,
                cloud=cloud,
                scl=_stack(scl, 0, window.inside(outer)), given=_stack(given, np.nan, window.inside(outer)),
                target_date=None if target is None else as_day(target), target_index=index,
            )
            for window, cloud, (s2, valid), radar in zip(windows, clouds, images, radars, strict=True)
        ]  # fmt: skip

    def only(self, bands: Collection[str]) -> Scene:
        """The same scene with some of its bands, in its own order; a pixel is valid where these were measured.

        A source that can leave bands unread says so with a method `only(bands)`; of others the rest is thrown away.
        """
        kept = tuple(name for name in self.place.bands if name in bands)
        if kept == self.place.bands:
            return self
        narrow = getattr(self.source, "only", None)
        at = tuple(self.place.bands.index(name) for name in kept)
        source = Picked(self.source, at) if narrow is None else narrow(kept)
        return replace(self, place=replace(self.place, bands=kept), source=source)

    def _radars(self, windows: Sequence[Window], outer: Window) -> list[dict[str, Any]]:
        if self.s1_dates is None or not len(self.s1_dates):
            return [{}] * len(windows)
        cut = _cut(lambda k: self.source.s1(k, outer), range(len(self.s1_dates)), windows, outer, 2)
        return [{"s1": s1, "s1_valid": valid, "s1_dates": self.s1_dates, "s1_orbits": self.s1_orbits} for s1, valid in cut]

    def _cloud(self, at: Window, chosen: list[int]) -> NDArray[np.float32]:
        assert self.masks is not None
        return HIDING[self.masks[(chosen, *at.slices)]].astype(np.float32)

    @staticmethod
    def of(sample: Sample, *, classes: NDArray[np.uint8] | None = None) -> Scene:
        """A scene held in memory, for tests and simulated places. `classes` (T, H, W) or from sample.cloud."""
        if classes is None and sample.cloud is not None:
            classes = np.where(sample.clear(), Cover.CLEAR, np.where(sample.s2_valid, Cover.THICK, Cover.NODATA)).astype(
                np.uint8
            )
        return Scene(
            place=sample.place, shape=sample.shape, dates=sample.s2_dates, source=MemorySource(sample),
            s1_dates=sample.s1_dates, s1_orbits=sample.s1_orbits, masks=classes,
        )  # fmt: skip

    def with_masks(self, masks: NDArray[np.uint8] | LazyMaps) -> Scene:
        """The same scene with class maps (T, H, W)."""
        if masks.shape != (len(self.dates), *self.shape) or masks.dtype != np.uint8:
            raise RecordError(f"masks have shape {masks.shape} {masks.dtype}; expected {(len(self.dates), *self.shape)} uint8.")
        return replace(self, masks=masks)

    def __getstate__(self) -> dict[str, Any]:
        """Class maps that are a whole file travel to other processes as its name, so that all share its pages."""
        maps = self.masks
        if isinstance(maps, np.memmap) and maps.mode != "c" and os.path.getsize(str(maps.filename)) == maps.nbytes:
            return {**self.__dict__, "masks": (str(maps.filename), maps.shape)}
        return self.__dict__

    def __setstate__(self, state: dict[str, Any]) -> None:
        if isinstance(state["masks"], tuple):
            path, shape = state["masks"]
            state = {**state, "masks": np.memmap(path, np.uint8, "r", shape=shape)}
        self.__dict__.update(state)

    def let_go(self) -> None:
        """Take the pages of class maps in a file out of this process; they come back where they are looked at again."""
        maps = getattr(self.masks, "open_file", self.masks)
        if isinstance(maps, np.memmap) and maps.mode in ("r", "r+") and hasattr(mmap, "MADV_DONTNEED"):
            maps._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]

    def veiled(self, i: int, windows: Sequence[Window]) -> Scene:
        """The same scene with more of date i hidden, as if under thick cloud: for measuring a remover on ground it could see.

        A memory map is copied on write, so that nothing of the original changes and only the touched pages take memory.
        """
        if self.masks is None:
            raise RecordError("A scene without masks cannot be veiled; detect them first.")
        old = self.masks
        if not isinstance(old, np.ndarray):
            return self.with_masks(old.veiled(i, windows))
        masks = (
            np.memmap(old.filename, np.uint8, "c", int(old.offset), old.shape)
            if isinstance(old, np.memmap) and old.filename is not None
            else old.copy()
        )
        for window in windows:
            layer = masks[i][window.slices]
            layer[layer != Cover.NODATA] = Cover.THICK
        return self.with_masks(masks)


def _cut(
    image: Callable[[int], tuple[NDArray[np.float32], NDArray[np.bool_]]], chosen: Sequence[int], windows: Sequence[Window],
    outer: Window, channels: int,
) -> list[tuple[NDArray[np.float32], NDArray[np.bool_]]]:  # fmt: skip
    """Values (T, C, h, w) and validity (T, h, w) of every window, from images (C, H, W) and (H, W) of `outer`."""
    if len(chosen) == 1 and list(windows) == [outer]:
        values, valid = image(chosen[0])
        return [(values[None], valid[None])]
    made = [
        (np.empty((len(chosen), channels, w.height, w.width), np.float32), np.empty((len(chosen), w.height, w.width), bool))
        for w in windows
    ]
    for n, i in enumerate(chosen):
        values, valid = image(i)
        for window, (some, known) in zip(windows, made, strict=True):
            at = window.inside(outer).slices
            some[n], known[n] = values[(slice(None), *at)], valid[at]
    return made


def _stack(layers: list[NDArray[Any] | None], fill: float, at: Window) -> NDArray[Any] | None:
    some = next((layer for layer in layers if layer is not None), None)
    if some is None:
        return None
    return np.stack([np.full_like(some, fill) if layer is None else layer for layer in layers])[(..., *at.slices)]


@dataclass(frozen=True)
class Picked:
    """A PixelSource with some bands of another: `at` are their positions. It is for looking, not for writing products."""

    source: PixelSource
    at: tuple[int, ...]

    def s2(self, i: int, window: Window) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        s2, valid = self.source.s2(i, window)
        return s2[list(self.at)], valid

    def s1(self, k: int, window: Window) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        return self.source.s1(k, window)

    def scl(self, i: int, window: Window) -> NDArray[np.uint8] | None:
        return self.source.scl(i, window)

    def given(self, i: int, window: Window) -> NDArray[np.float32] | None:
        return self.source.given(i, window)

    def layers(self, i: int) -> tuple[Layer, ...]:
        return self.source.layers(i)

    def counts(self, i: int, layer: Layer, window: Window) -> NDArray[Any]:
        return self.source.counts(i, layer, window)


@dataclass(frozen=True)
class MemorySource:
    """A PixelSource over a Sample. Counts are uint16 with quantification 10000 and nodata 0, as in a product without offset."""

    sample: Sample

    def s2(self, i: int, window: Window) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        at = (i, ..., *window.slices)
        return self.sample.s2[at].copy(), self.sample.s2_valid[at].copy()

    def s1(self, k: int, window: Window) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        assert self.sample.s1 is not None and self.sample.s1_valid is not None
        at = (k, ..., *window.slices)
        return self.sample.s1[at], self.sample.s1_valid[at]

    def scl(self, i: int, window: Window) -> NDArray[np.uint8] | None:
        return None if self.sample.scl is None else self.sample.scl[(i, *window.slices)]

    def given(self, i: int, window: Window) -> NDArray[np.float32] | None:
        return None if self.sample.given is None else self.sample.given[(i, *window.slices)]

    def layers(self, i: int) -> tuple[Layer, ...]:
        bands = self.sample.place.bands
        return (
            Layer(name="", bands=bands, shape=self.sample.shape, grid=self.sample.place.grid, dtype="uint16", nodata=0.0,
                  quantification=10_000.0, offset=(0.0,) * len(bands), descriptions=bands),
        )  # fmt: skip

    def counts(self, i: int, layer: Layer, window: Window) -> NDArray[Any]:
        s2, valid = self.s2(i, window)
        dn = np.clip(np.rint(np.nan_to_num(np.where(valid, s2, 0)) * 10_000), 1, 65_534).astype(np.uint16)
        return np.where(valid, dn, np.uint16(0))


def reflectance_of(counts: NDArray[Any], layer: Layer) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """DN (C, h, w) of a layer -> reflectance (C, h, w) and per-band validity, by the layer's own numbers."""
    return to_reflectance(counts, quantification=layer.quantification, offset=layer.offset, nodata=layer.nodata)
