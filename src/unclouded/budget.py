"""What a run takes in memory, and the block side and processes that keep it within a budget.

The numbers are measured (benchmarks/tile.py): a process takes a base, and per block a multiple of the float32 series it reads.
Networks hold their weights and activations besides (benchmarks/activations.py; `Needs.held`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from unclouded.errors import BudgetTooSmall
from unclouded.raster import BESIDE, MAX_BESIDE
from unclouded.sample import TILE

if TYPE_CHECKING:
    from unclouded.models.needs import Needs
    from unclouded.scenes.scene import Scene

BLOCK = 768  # pixels; a multiple of 6, so that 10, 20 and 60 m pixels start together
SIDES = (BLOCK, 576, 384, 288, 192, 96)
MIB = 2**20
BASE = 500 * MIB  # a process with Python, NumPy, Torch, GDAL and its cache of decoded rasters
COPIES = 3.2  # of a block's series that a process holds at once
MASKING = 420 * MIB  # more than the base, while the dates are screened block by block
ENOUGH = 4  # blocks per process below which another process does not pay


@dataclass(frozen=True)
class Budget:
    """How a run is done: block side in pixels, processes, and bytes."""

    block: int
    workers: int
    maps: int  # class maps of all dates
    peak: int  # of all processes together


def afford(scene: Scene, needs: Needs, *, memory: int | None = None, workers: int | None = 1) -> Budget:
    """The largest blocks that fit into `memory` bytes (None: the usual ones) with `workers` processes (None: up to all cores).

    Raises BudgetTooSmall with what would do.
    """
    tried = list(_ways(scene, needs, workers))
    if memory is None:
        return tried[0]
    for way in tried:
        if way.peak <= memory:
            return way
    least = min(tried, key=lambda way: way.peak)
    fewer = "" if workers in (None, 1) else f", or {_mib(peak(scene, needs, SIDES[-1], 1))} MiB with --workers 1"
    raise BudgetTooSmall(
        f"--memory {_mib(memory)} MiB is too little for this series.",
        why=f"blocks of {least.block} px take about {_mib(least.peak)} MiB, processes: {least.workers}.",
        do=f"give --memory {_mib(least.peak)}MiB{fewer}; fewer dates or bands (--datetime, --bands) take less.",
    )


def _ways(scene: Scene, needs: Needs, workers: int | None) -> Iterator[Budget]:
    """Ways to do it, the best first: many processes before large blocks."""
    maps = len(scene.dates) * prod(scene.shape)
    most = crew(scene, workers)
    for count in [most] if workers else range(most, 0, -1):
        for side in SIDES:
            yield Budget(side, count, maps, peak(scene, needs, side, count))


def crew(scene: Scene, workers: int | None = None) -> int:
    """Processes for a scene: as many as asked for, else up to all cores where there is work enough for each."""
    return workers or min(_cores(), max(1, _blocks(scene, BLOCK) // ENOUGH))


def copying(scene: Scene, needs: Needs, workers: int) -> int:
    """Bytes that all processes of a run hold at most that finds nothing to rebuild: no block of a series is read."""
    decided = 1 if needs.masks == "near" else len(scene.dates)
    return BASE * (1 + workers if workers > 1 else 1) + MASKING * workers + decided * prod(scene.shape)


def peak(scene: Scene, needs: Needs, side: int, workers: int) -> int:
    """Bytes that all processes of a run hold at most: while masking, or while rebuilding.

    Counts (half of float32) that are kept for the next block are among them.
    """
    maps = len(scene.dates) * prod(scene.shape)
    block = int(COPIES * series_bytes(scene, needs, side)) + needs.held + needs.held_per_date * len(scene.dates)
    block += min(MAX_BESIDE, series_bytes(scene, needs, side) * (BESIDE + TILE) // (2 * needs.widest(side)))
    if workers == 1:
        return BASE + maps + max(MASKING, block)
    computing = 1 if needs.one_process else workers
    return BASE * (1 + workers) + max(MASKING * workers + maps, block * computing + maps // len(scene.dates))


def series_bytes(scene: Scene, needs: Needs, side: int) -> int:
    """Bytes of the float32 series, radar and masks of a block with its halo (or of the tile the remover wants)."""
    outer = prod(min(max(needs.widest(side), needs.tile or 0), n) for n in scene.shape)
    radar = 0 if scene.s1_dates is None or needs.sar == "unused" else len(scene.s1_dates) * 2
    return outer * 4 * (len(scene.dates) * (len(scene.place.bands) + 1) + radar)


def _blocks(scene: Scene, side: int) -> int:
    return prod(-(-n // side) for n in scene.shape)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _mib(size: float) -> int:
    return -int(-size // MIB)
