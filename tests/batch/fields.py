"""Series of tiny GeoTIFFs with a cloud on every date, for job lists."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from unclouded.raster import create_raster

BANDS = ("B02", "B04", "B08")


def write_field(folder: Path, *, seed: int = 0, dates: int = 3, size: tuple[int, int] = (60, 66)) -> Path:
    """`dates` dates, 5 days apart from 2020-01-01, with s2.tif and scl.tif; each hides another strip."""
    rng = np.random.default_rng(seed)
    grid = GeoBox(size, Affine(10, 0, 500_000, 0, -10, 5_600_000), "EPSG:32631")
    ground = rng.integers(500, 3000, (3, *size))
    for n in range(dates):
        at = folder / str(np.datetime64("2020-01-01") + 5 * n)
        at.mkdir(parents=True)
        scl = np.full((1, *size), 4, np.uint8)
        scl[:, :, 20 * n : 20 * n + 12] = 9
        counts = np.where(scl == 9, 9000, ground + rng.integers(-30, 30, ground.shape)).astype(np.uint16)
        for name, pixels, names in (("s2.tif", counts, BANDS), ("scl.tif", scl, ("SCL",))):
            with create_raster(
                at / name, height=size[0], width=size[1], count=len(pixels), dtype=str(pixels.dtype), grid=grid, nodata=0,
                descriptions=names, tags={"PROCESSING_LEVEL": "L2A"},
            ) as file:  # fmt: skip
                file.write(pixels)
    return folder
