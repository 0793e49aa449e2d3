"""`--dry-run`: what a run would read, write, take in memory and in time, before it does.

Reading speed is measured on a few windows of the input; the hidden share is estimated there too, with the detector that the run
will use; what the model takes per pixel comes from its row in the table of models, times what a short piece of arithmetic takes
on this machine now.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from os import PathLike
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from unclouded.budget import MIB, Budget, afford
from unclouded.masks import MASKS
from unclouded.masks.detect import choose
from unclouded.models import entry, load
from unclouded.sample import HIDING, Cover, Window
from unclouded.scenes.scene import Scene

GLIMPSE = 256  # pixels
GLIMPSES = 9
# Seconds on one core, measured with benchmarks/tile.py. Per Mpx of the scene, unless said otherwise; bands in tens.
PASSES = 1.6  # how often a pixel is decoded for each restored date: halos overlap
SCREENING = 0.65  # per date of the series, beside reading it once
STUDIED = 1.3  # Mpx of hidden pixels that cost as much as learning the place and measuring the error: a bounded sample
FILLING = 0.4  # counts to the product, packed for the journal
PUBLISHING = 1.05  # rasters written, read back, digested
VARIED = 1.8  # more of it where pixels are rebuilt: sigma, age and source are no longer one value
STARTING = 5.0  # seconds, for processes that begin
PIECE = 0.0029  # seconds that `pace` took on that core
GROWTH = 1.25  # of the hidden share, by margins and screening


def estimate(
    scene: Scene,
    dates: Sequence[np.datetime64],
    model: str,
    settings: Mapping[str, Any] | None = None,
    weights: str | PathLike[str] | None = None,
    *,
    memory: int | None = None,
    workers: int | None = 1,
) -> dict[str, Any]:
    """Units, bytes, seconds and MiB for restoring `dates` of a scene. Raises BudgetTooSmall."""
    remover = load(model, settings, weights)
    budget = afford(scene, remover.needs, memory=memory, workers=workers)
    pixels, bands = prod(scene.shape), len(scene.place.bands)
    read, hidden = _glimpsed(scene, dates)
    stored = sum(prod(layer.shape) * len(layer.bands) * np.dtype(layer.dtype).itemsize for layer in scene.source.layers(0))
    return {
        "dates": len(dates),
        "blocks": len(dates) * prod(-(-side // budget.block) for side in scene.shape),
        "block": budget.block,
        "workers": budget.workers,
        "pixels": list(scene.shape),
        "bands": list(scene.place.bands),
        "hidden": round(float(np.mean(hidden)), 3),
        "read_mib": round(stored * len(scene.dates) * (1 + len(dates) * PASSES) / MIB, 1),
        "write_mib": round(len(dates) * (stored + pixels * (2 * bands + 4)) / MIB, 1),
        "scratch_mib": round((stored + pixels * (2 * bands + 4) + pixels * len(scene.dates)) / MIB, 1),
        "memory_mib": round(budget.peak / MIB),
        "minutes": round(_seconds(scene, hidden, read, entry(model).speed, budget) / 60, 2),
    }


def _seconds(scene: Scene, hidden: Sequence[float], read: float, speed: float, budget: Budget) -> float:
    """Masks once, then per date: study (two tasks), read, rebuild, publish; all of it shared by the processes."""
    mpx, tens, slow = prod(scene.shape) / 1e6, len(scene.place.bands) / 10, pace()
    reading = read * (1 + sum(PASSES * share**0.5 for share in hidden)) * mpx
    masks = SCREENING * len(scene.dates) * mpx
    study = sum(speed * STUDIED for share in hidden if share) / min(2, budget.workers)
    dates = sum(speed * share + (FILLING + PUBLISHING + VARIED * share) * tens for share in hidden) * mpx
    starting = STARTING if budget.workers > 1 else 0
    return (reading + slow * (masks + dates)) / budget.workers + slow * (study + starting)


def pace(repeats: int = 15) -> float:
    """How many times as long arithmetic takes here and now as where the constants were measured; other work here counts too."""
    rng = np.random.default_rng(0)
    some, others = rng.random((1024, 64), np.float32), rng.random((512, 64), np.float32)
    start = time.perf_counter()
    with threadpool_limits(1):
        for _ in range(repeats):
            near = some @ others.T
            np.exp(near - near.max(1)[:, None], out=near)
            near.sum(1)
    return (time.perf_counter() - start) / repeats / PIECE


def _glimpsed(scene: Scene, dates: Sequence[np.datetime64]) -> tuple[float, list[float]]:
    """Seconds to read one Mpx of all dates, and the hidden share of each of `dates`, from windows spread over the scene."""
    windows = list(_spread(scene))
    start = time.perf_counter()
    for window in windows:
        scene.read(window)
    seconds = (time.perf_counter() - start) / sum(w.height * w.width for w in windows) * 1e6
    return seconds, [min(1.0, GROWTH * _hidden(scene, scene.index(day), windows)) for day in dates]


def _spread(scene: Scene) -> list[Window]:
    side = tuple(min(GLIMPSE, n) for n in scene.shape)
    steps = int(GLIMPSES**0.5)
    corners = [sorted({round(k * (n - s) / (steps - 1)) for k in range(steps)}) for n, s in zip(scene.shape, side, strict=True)]
    return [Window(row, col, *side) for row in corners[0] for col in corners[1]]


def _hidden(scene: Scene, i: int, windows: Sequence[Window]) -> float:
    bare = replace(scene, s1_dates=None, s1_orbits=None, masks=None)
    look = MASKS[choose(bare, i, "auto").name].looking(bare, i)
    classes = np.concatenate([look(window).classes[0].ravel() for window in windows])
    return float(HIDING[classes].sum() / max((classes != Cover.NODATA).sum(), 1))
