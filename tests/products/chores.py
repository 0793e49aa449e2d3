"""Work for processes in the tests; it must lie in a module that they can import."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from products.made import geobox
from unclouded.products.cog import Plane, write_cog
from unclouded.sample import Window


def write_in_threads(path: Path, threads: int) -> int:
    """Write a raster of noise; how many threads this process has since."""
    shape = (1100, 1030)
    values = np.random.default_rng(0).integers(0, 9000, (2, *shape), np.uint16)
    noise = Plane(name="x", shape=shape, grid=geobox(*shape), dtype="uint16", nodata=0, descriptions=("B02", "B8A"))
    before = len(os.listdir("/proc/self/task"))
    write_cog(path, noise, [(Window(0, 0, *shape), values)], threads=threads)
    return len(os.listdir("/proc/self/task")) - before
