"""A place of any size in a few minutes: a simulated quarter tile, laid out again and again, mirrored so that no edge shows.

Ground, clouds, noise and radar come from the simulator (`unclouded.datasets.simulated`) for at most `BASE` x `BASE` pixels.
Every second copy is mirrored along its row or column, so that values run on across the joints; a smooth gain of each date over
the whole place (8 %, wavelength 30 km) keeps copies from being equal. What is written is what `write_series` writes.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unclouded.bands import S1
from unclouded.datasets.lattice import key, smooth
from unclouded.datasets.simulated import SimulatedSource, make_world
from unclouded.datasets.world import World
from unclouded.raster import create_raster
from unclouded.sample import Window

BASE = 2196  # pixels: a fifth of a tile; clouds and fields are as large as they are here
PIECE = 732  # pixels a side that are simulated at a time
STRIP = 512  # rows that are written at a time
GAIN, WAVELENGTH = 0.04, 3000
SEED = 3
KINDS = ("s2", "s1", "scl")
TYPES: dict[str, Any] = {"s2": np.uint16, "s1": np.float32, "scl": np.uint8}


class Job(NamedTuple):
    """What is written where."""

    folder: Path
    base: Path  # folder of the simulated arrays
    size: int
    covers: tuple[float, ...]  # hidden share per date


def write_place(folder: Path, size: int, dates: int, hidden: float, others: float = 0.3) -> float:
    """Write a series of `dates` with S1 and SCL, the middle date `hidden`, the `others`; seconds it took, in all cores."""
    start = time.perf_counter()
    covers = tuple(hidden if i == dates // 2 else others for i in range(dates))
    folder.mkdir(parents=True)
    with (
        tempfile.TemporaryDirectory(prefix="base-", dir=folder.parent) as base,
        ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool,
    ):
        job = Job(folder, Path(base), size, covers)
        world = _world(job)
        for kind in KINDS:
            for i in range(dates):
                np.lib.format.open_memmap(job.base / f"{kind}-{i}.npy", "w+", TYPES[kind], (_bands(world, kind), *world.shape))
        list(pool.map(partial(_simulate, job), _pieces(world.shape)))
        list(pool.map(partial(_write, job), [(kind, i) for kind in KINDS for i in range(dates)]))
    return time.perf_counter() - start


def _world(job: Job) -> World:
    side = min(job.size, BASE)
    return make_world(seed=SEED, size=(side, side), dates=len(job.covers), cover=job.covers)


def _bands(world: World, kind: str) -> int:
    return {"s2": len(world.bands), "s1": len(S1), "scl": 1}[kind]


def _pieces(shape: tuple[int, int]) -> list[Window]:
    starts = [(row, col) for row in range(0, shape[0], PIECE) for col in range(0, shape[1], PIECE)]
    return [Window(row, col, min(PIECE, shape[0] - row), min(PIECE, shape[1] - col)) for row, col in starts]


def _simulate(job: Job, at: Window) -> None:
    """One piece of all dates; the radar is the acquisition nearest in time, as in `write_series`."""
    source = SimulatedSource(_world(job))
    world = source.world
    for i, day in enumerate(world.dates):
        near = int(np.abs((world.s1_dates - day).astype(int)).argmin())
        pixels = {"s2": source.counts(i, source.layers(i)[0], at), "s1": source.s1(near, at)[0], "scl": source.scl(i, at)}
        for kind, values in pixels.items():
            np.load(job.base / f"{kind}-{i}.npy", mmap_mode="r+")[(slice(None), *at.slices)] = values


def _write(job: Job, which: tuple[str, int]) -> None:
    """One file of one date, strip by strip."""
    kind, i = which
    world = _world(job)
    base = np.load(job.base / f"{kind}-{i}.npy", mmap_mode="r")
    day = str(world.dates[i])
    grid = make_world(size=(job.size, job.size), seed=SEED, dates=1).grid()
    near = int(np.abs((world.s1_dates - world.dates[i]).astype(int)).argmin())
    tags = {"ACQUISITION_DATE": day, "PROCESSING_LEVEL": world.level, "SIMULATED": "yes"}
    radar_tags = {"ACQUISITION_DATE": str(world.s1_dates[near]), "RELATIVE_ORBIT": str(world.s1_orbits[near])}
    (job.folder / day).mkdir(exist_ok=True)
    cols = mirrored(np.arange(job.size), base.shape[2])
    gain: Callable[[NDArray[Any]], NDArray[np.float32]] = partial(_gain, key(SEED, "gain", i), job.size)
    with create_raster(
        job.folder / day / f"{kind}.tif", height=job.size, width=job.size, count=len(base), dtype=base.dtype.name, grid=grid,
        nodata=None if kind == "s1" else 0, tags=radar_tags if kind == "s1" else tags, compress="deflate", level=1,
        descriptions={"s2": world.bands, "s1": S1, "scl": ("SCL",)}[kind],
    ) as target:  # fmt: skip
        for row in range(0, job.size, STRIP):
            rows = np.arange(row, min(row + STRIP, job.size))
            pixels = laid_out(base, mirrored(rows, base.shape[1]), cols)
            if kind == "s2" and job.size > base.shape[1]:
                pixels = np.rint(pixels * gain(rows)).astype(np.uint16)
            target.write(pixels, window=((row, row + len(rows)), (0, job.size)))


def mirrored(at: NDArray[np.int64], side: int) -> NDArray[np.int64]:
    """Positions of a long axis -> positions of an axis of `side`, which is run through forth and back."""
    turn = at % (2 * side)
    return np.minimum(turn, 2 * side - 1 - turn)


def laid_out(base: NDArray[Any], rows: NDArray[np.int64], cols: NDArray[np.int64]) -> NDArray[Any]:
    """Base (C, h, w) at the given rows and columns."""
    return np.stack([band[rows].take(cols, 1) for band in base])


def _gain(salt: int, size: int, rows: NDArray[Any]) -> NDArray[np.float32]:
    return np.float32(1) + np.float32(GAIN) * np.clip(smooth(salt, rows, np.arange(size), WAVELENGTH), -2, 2)


def middle(folder: Path) -> Path:
    """The folder of the date in the middle of a series."""
    days: Sequence[Path] = sorted(path for path in folder.iterdir() if path.is_dir())
    return days[len(days) // 2]
