"""`--dry-run`: what a run would read, write, take in memory and in time, before it does.

Reading speed is measured on one window of the input; the time of the model comes from its row in the table of models, scaled
by the pixels of the scene as if all were hidden, so the estimate is an upper bound that a clear date falls well below.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from math import prod
from typing import Any

from unclouded.models import entry, load
from unclouded.remove import BLOCK
from unclouded.sample import Window
from unclouded.scenes.scene import Scene

WORKING_COPIES = 6  # float32 copies of a block's series that the slowest remover holds at once
BASE_MIB = 450  # Python, Torch and GDAL themselves


def estimate(scene: Scene, dates: int, model: str, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Units, bytes, seconds and MiB for restoring `dates` dates of a scene."""
    halo = load(model, settings).needs.halo
    pixels, bands = prod(scene.shape), len(scene.place.bands)
    frames = len(scene.dates) + (0 if scene.s1_dates is None else len(scene.s1_dates)) * 2 / bands
    block = prod(min(BLOCK + 2 * halo, side) for side in scene.shape)
    stored = sum(prod(layer.shape) * len(layer.bands) * 2 for layer in scene.source.layers(0))
    read = _seconds_per_pixel(scene) * pixels * (1 + dates * 2)  # once for masks, once to adapt, once to fill
    return {
        "dates": dates,
        "blocks": dates * prod(-(-side // BLOCK) for side in scene.shape),
        "pixels": list(scene.shape),
        "bands": list(scene.place.bands),
        "read_mib": round(stored * len(scene.dates) * (1 + 2 * dates) / 2**20, 1),
        "write_mib": round(dates * (stored + pixels * (2 * bands + 4)) / 2**20, 1),
        "scratch_mib": round((stored + pixels * (2 * bands + 4) + pixels * len(scene.dates)) / 2**20, 1),
        "memory_mib": round(BASE_MIB + block * bands * frames * 4 * WORKING_COPIES / 2**20),
        "seconds_at_most": round(read + entry(model).speed * pixels * dates / 1e6 * 2, 1),  # twice: the probe adapts again
    }


def _seconds_per_pixel(scene: Scene) -> float:
    """Seconds to read one pixel of all dates, measured on the middle of the scene."""
    side = tuple(min(256, n) for n in scene.shape)
    window = Window((scene.shape[0] - side[0]) // 2, (scene.shape[1] - side[1]) // 2, *side)
    start = time.perf_counter()
    scene.read(window)
    return (time.perf_counter() - start) / prod(side)
