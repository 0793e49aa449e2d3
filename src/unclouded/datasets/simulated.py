"""The simulated place: Sentinel-2 and Sentinel-1 over a living landscape, with clouds on top and the truth beneath.

`simulate` holds a small place in memory with the truth of every date; `SimulatedSource(make_world(...))` gives the same world
window by window (world.py); `write_series` writes either as the folder of dates that `unclouded remove` takes.
Made for tests, for the demo and for benchmarks with known truth; no pixel of it was ever measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unclouded.bands import BY_NAME, L1C, L2A, S1
from unclouded.datasets import radar
from unclouded.datasets.climates import CLIMATES
from unclouded.datasets.ground import Event, LandCover
from unclouded.datasets.sky import draw_covers
from unclouded.datasets.world import SceneClasses, SimulatedSource, World
from unclouded.errors import UsageError
from unclouded.raster import create_raster
from unclouded.sample import Level, Sample, Window, as_days

__all__ = ["Event", "LandCover", "SimulatedPlace", "SimulatedSource", "World", "hold", "make_world", "simulate", "write_series"]

Dates = int | Sequence[date | str | np.datetime64]


@dataclass(frozen=True, kw_only=True)
class SimulatedPlace:
    """A small simulated place in memory: what the sensors deliver, and the truth."""

    sample: Sample  # cloudy; `cloud` is the true opacity of clouds and shadows
    truth: NDArray[np.float32]  # (T, C, H, W) reflectance of the ground on every date, free of clouds and noise
    cover: NDArray[np.uint8]  # (T, H, W) codes of `Cover`
    landcover: NDArray[np.uint8]  # (H, W) codes of `LandCover`
    source: SimulatedSource

    def target(self, i: int) -> Sample:
        """The sample with date i as the one to restore and its truth as the target."""
        return replace(
            self.sample, target_date=self.sample.s2_dates[i], target_index=i, target=self.truth[i],
            target_valid=np.ones(self.sample.shape, bool),
        )  # fmt: skip


def make_world(
    *,
    seed: int = 0,
    size: tuple[int, int] = (256, 256),
    dates: Dates = 12,
    start: str | None = None,
    step: int = 5,
    climate: str = "temperate",
    level: Level = "L2A",
    bands: tuple[str, ...] | None = None,
    cover: float | Sequence[float] | None = None,
    kinds: str | Sequence[str | None] | None = None,
    s1: bool = True,
    s1_every: int = 6,
    events: Sequence[Event] = (),
    classes: SceneClasses = "realistic",
    offset: float = 0.0,
    origin: tuple[int, int] = (0, 0),
) -> World:
    """Everything that decides a simulated place; `simulate` explains the options. Raises UsageError for impossible ones."""
    if climate not in CLIMATES:
        raise UsageError(f"There is no climate '{climate}'.", do=f"choose one of {', '.join(CLIMATES)}.")
    weather = CLIMATES[climate]
    chosen = bands or (L1C if level == "L1C" else tuple(b for b in L2A if BY_NAME[b].metres < 60))
    if level == "L2A" and "B10" in chosen:
        raise UsageError("Level L2A has no band B10.", do="ask for level='L1C', or leave B10 out.")
    first = np.datetime64(start or weather.start, "D")
    days = first + step * np.arange(dates) if isinstance(dates, int) else as_days(list(dates))
    if not len(days) or min(size) < 1 or (np.diff(days).astype(int) <= 0).any():
        raise UsageError("A simulated place needs at least one pixel and one date, and dates in ascending order.")
    covers = draw_covers(seed, len(days)) if cover is None else _each(cover, len(days))
    forms = _each(kinds, len(days))
    if len(covers) != len(days) or len(forms) != len(days) or not all(0 <= c <= 1 for c in covers):
        raise UsageError(f"cover and kinds must be one value, or one per date ({len(days)}); cover lies in [0, 1].")
    passes = np.arange(days[0] - 4, days[-1] + s1_every, s1_every) if s1 else days[:0]
    orbits = np.where(np.arange(len(passes)) % 2 == 0, radar.ASCENDING, radar.DESCENDING).astype(np.int16)
    return World(
        seed=seed, climate=weather, level=level, bands=tuple(chosen), shape=size, origin=origin, dates=days,
        covers=tuple(float(c) for c in covers), kinds=tuple(forms), s1_dates=passes, s1_orbits=orbits,
        events=tuple(events), classes=classes, offset=offset,
    )  # fmt: skip


def _each(value: Any, count: int) -> list[Any]:
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value] * count


def simulate(
    *,
    seed: int = 0,
    size: tuple[int, int] = (256, 256),
    dates: Dates = 12,
    start: str | None = None,
    step: int = 5,
    climate: str = "temperate",
    level: Level = "L2A",
    bands: tuple[str, ...] | None = None,
    cover: float | Sequence[float] | None = None,
    kinds: str | Sequence[str | None] | None = None,
    s1: bool = True,
    s1_every: int = 6,
    events: Sequence[Event] = (),
    classes: SceneClasses = "realistic",
    offset: float = 0.0,
    origin: tuple[int, int] = (0, 0),
) -> SimulatedPlace:
    """A small simulated place in memory.

    `size` (H, W) pixels of 10 m. `dates`: how many, `step` days apart from `start` (default: a telling season of the
    climate), or a list. `climate`: temperate, mediterranean, snow, rice or dryland. `bands`: default the ten at 10 and 20 m
    (L2A) or all thirteen (L1C). `cover`: the share hidden by clouds and shadows, for all dates or per date; default a
    realistic mix. `kinds`: cumulus, bank, cirrus or overcast, for all dates or per date; default by chance. `s1`: radar every
    `s1_every` days, from an ascending and a descending orbit in turn. `classes`: the Sen2Cor layer with realistic errors,
    exact, or none (L1C has none). `offset`: 0, or -1000 to round as products since baseline 04.00 do. `origin`: which part of
    the endless landscape of this seed.
    Raises UsageError for options that cannot be met.
    """
    return hold(SimulatedSource(make_world(
        seed=seed, size=size, dates=dates, start=start, step=step, climate=climate, level=level, bands=bands, cover=cover,
        kinds=kinds, s1=s1, s1_every=s1_every, events=events, classes=classes, offset=offset, origin=origin,
    )))  # fmt: skip


def hold(source: SimulatedSource) -> SimulatedPlace:
    """The whole of a simulated world in memory."""
    world, whole = source.world, Window(0, 0, *source.world.shape)
    times = range(len(world.dates))
    s1 = np.stack([source.s1(k, whole)[0] for k in range(len(world.s1_dates))]) if len(world.s1_dates) else None
    seen = [(source.s2(i, whole)[0], source.truth(i, whole), source.scl(i, whole), source.cover(i, whole)) for i in times]
    scenes = [scl for _, _, scl, _ in seen if scl is not None]
    sample = Sample(
        place=source.place,
        s2=np.stack([s2 for s2, _, _, _ in seen]),
        s2_valid=np.ones((len(world.dates), *world.shape), bool),
        s2_dates=world.dates,
        s1=s1,
        s1_valid=None if s1 is None else np.ones((len(s1), *world.shape), bool),
        s1_dates=None if s1 is None else world.s1_dates,
        s1_orbits=None if s1 is None else world.s1_orbits,
        cloud=np.stack([source.cloud(i, whole) for i in times]),
        scl=np.stack(scenes) if scenes else None,
    )
    return SimulatedPlace(
        sample=sample,
        truth=np.stack([truth for _, truth, _, _ in seen]),
        cover=np.stack([cover for _, _, _, cover in seen]),
        landcover=source.landcover(whole),
        source=source,
    )


def write_series(
    place: SimulatedPlace | SimulatedSource, folder: Path, *, truth: Path | None = None, block: int = 1024
) -> None:
    """Write a simulated world as a series folder: one folder per date with s2.tif, s1.tif and scl.tif. Block by block.

    s2.tif: uint16 counts, reflectance = (DN + offset) / 10000, nodata 0, bands named. s1.tif: float32 dB VV and VH of the
    acquisition nearest in time. scl.tif: uint8, where the world has scene classes. `truth`: another folder, for the truth of
    every date as YYYY-MM-DD.tif, float32 reflectance. Raises OutputFailed.
    """
    source = place if isinstance(place, SimulatedSource) else place.source
    world = source.world
    nearest = [int(np.abs((world.s1_dates - day).astype(int)).argmin()) for day in world.dates] if len(world.s1_dates) else []
    layer = source.layers(0)[0]
    for i, day in enumerate(world.dates):
        at = folder / str(day)
        at.mkdir(parents=True, exist_ok=True)
        tags = {"ACQUISITION_DATE": str(day), "PROCESSING_LEVEL": world.level, "SIMULATED": "yes"}
        _write(at / "s2.tif", source, world.bands, "uint16", 0, partial(source.counts, i, layer), tags, block)
        if nearest:
            k = nearest[i]
            radar_tags = {"ACQUISITION_DATE": str(world.s1_dates[k]), "RELATIVE_ORBIT": str(world.s1_orbits[k])}
            _write(at / "s1.tif", source, S1, "float32", None, partial(_backscatter, source, k), radar_tags, block)
        if source.scl(i, Window(0, 0, 1, 1)) is not None:
            _write(at / "scl.tif", source, ("SCL",), "uint8", 0, partial(_scene_classes, source, i), tags, block)
        if truth is not None:
            truth.mkdir(parents=True, exist_ok=True)
            _write(truth / f"{day}.tif", source, world.bands, "float32", None, partial(source.truth, i), tags, block)


def _backscatter(source: SimulatedSource, k: int, window: Window) -> NDArray[np.float32]:
    return source.s1(k, window)[0]


def _scene_classes(source: SimulatedSource, i: int, window: Window) -> NDArray[np.uint8]:
    classes = source.scl(i, window)
    assert classes is not None
    return classes[None]


def _write(
    path: Path, source: SimulatedSource, names: tuple[str, ...], dtype: str, nodata: float | None,
    pixels: Callable[[Window], NDArray[Any]], tags: dict[str, str], block: int,
) -> None:  # fmt: skip
    height, width = source.world.shape
    with create_raster(
        path, height=height, width=width, count=len(names), dtype=dtype, grid=source.place.grid, nodata=nodata,
        descriptions=names, tags=tags, compress="deflate",
    ) as target:  # fmt: skip
        for row in range(0, height, block):
            for col in range(0, width, block):
                at = Window(row, col, min(block, height - row), min(block, width - col))
                target.write(pixels(at), window=((row, row + at.height), (col, col + at.width)))
