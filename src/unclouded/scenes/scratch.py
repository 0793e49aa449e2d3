"""JPEG 2000 decoded once: a run reads every pixel several times, and decoding takes far longer than reading plain tiles.

GeoTIFF, DEFLATE included, is fast enough to be read in place. The copies hold the same counts and the same grid,
and go with the run.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np

from unclouded.raster import create_raster, grid_of, open_raster, opened, read
from unclouded.sample import Window
from unclouded.scenes.scene import Scene
from unclouded.scenes.source import FileSource
from unclouded.scenes.stored import Pixels, StoredImage
from unclouded.workers import in_processes

STRIP = 1024  # rows: the tiles of Sentinel-2 products
WORTH = 0.3  # share of the images that the scene covers, below which its windows are read in place
DISK = 0.5  # of the free space


def unpacked(scene: Scene, folder: Path, *, workers: int = 1) -> Scene:
    """The same scene with its JPEG 2000 files as plain GeoTIFFs in `folder`; as it is where that does not pay or fit.

    Raises InputCorrupt for a file that does not decode, OutputFailed.
    """
    source = scene.source
    if not isinstance(source, FileSource):
        return scene
    paths = sorted({p.path for image in source.images for p in _pixels(image) if p.path.lower().endswith(".jp2")})
    if not paths or _covered(scene, source) < WORTH or _bytes(paths) > DISK * shutil.disk_usage(folder).free:
        return scene
    copies = {path: str(folder / f"{n:04d}.tif") for n, path in enumerate(paths)}
    for _ in in_processes(_unpack, list(copies.items()), workers):
        pass
    return replace(scene, source=replace(source, images=tuple(_moved(image, copies) for image in source.images)))


def _pixels(image: StoredImage) -> list[Pixels]:
    bands = [p for part in image.parts for where in (part.where, *part.more) for p in where]
    return bands + [p for p in (image.scl, *image.more_scl) if p is not None]


def _covered(scene: Scene, source: FileSource) -> float:
    return prod(scene.shape) / max(prod(image.finest.shape) for image in source.images)


def _bytes(paths: list[str]) -> int:
    files = [opened(path) for path in paths]
    return sum(file.count * prod(file.shape) * np.dtype(file.dtypes[0]).itemsize for file in files)


def _unpack(task: tuple[str, str]) -> None:
    path, copy = task
    with open_raster(path) as source:
        height, width = source.shape
        with create_raster(
            copy, height=height, width=width, count=source.count, dtype=source.dtypes[0], grid=grid_of(source),
            nodata=source.nodata,
        ) as target:  # fmt: skip
            for row in range(0, height, STRIP):
                at = Window(row, 0, min(STRIP, height - row), width)
                target.write(read(source, source.indexes, at), window=((row, row + at.height), (0, width)))


def _moved(image: StoredImage, copies: Mapping[str, str]) -> StoredImage:
    def moved(p: Pixels) -> Pixels:
        return p._replace(path=copies.get(p.path, p.path))

    parts = tuple(
        replace(part, where=tuple(map(moved, part.where)), more=tuple(tuple(map(moved, where)) for where in part.more))
        for part in image.parts
    )
    scl = None if image.scl is None else moved(image.scl)
    return replace(image, parts=parts, scl=scl, more_scl=tuple(map(moved, image.more_scl)))
