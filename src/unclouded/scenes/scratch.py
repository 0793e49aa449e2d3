"""Slow files decoded once: a run reads every pixel several times, from left to right and row by row.

JPEG 2000 takes far longer to decode than plain tiles. A compressed GeoTIFF in rows as wide as the image is decoded over its
whole width for every block. Both are unpacked into plain tiles; tiled GeoTIFF, DEFLATE included, is fast enough to be read in
place. The copies hold the same counts and the same grid, and go with the run.
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
from unclouded.scenes.stored import Pixels, StoredImage, StoredRadar
from unclouded.workers import in_processes

STRIP = 1024  # rows: the tiles of Sentinel-2 products
WORTH = 0.3  # share of the images that the scene covers, below which its windows are read in place
DISK = 0.5  # of the free space
WIDE = 2048  # pixels: from here on several blocks of a run lie side by side


def unpacked(scene: Scene, folder: Path, *, workers: int = 1) -> Scene:
    """The same scene with its slow files as plain GeoTIFFs in `folder`, as many as fit; as it is where that does not pay.

    Raises InputCorrupt for a file that does not decode, OutputFailed.
    """
    source = scene.source
    if not isinstance(source, FileSource) or _covered(scene, source) < WORTH:
        return scene
    stored = [p for image in source.images for p in _pixels(image)] + [p for r in source.radars for p in _backscatter(r)]
    copies: dict[str, str] = {}
    left = DISK * shutil.disk_usage(folder).free
    for path in sorted({p.path for p in stored}):
        if _slow(path) and (left := left - _bytes(path)) >= 0:
            copies[path] = str(folder / f"{len(copies):04d}.tif")
    if not copies:
        return scene
    for _ in in_processes(_unpack, list(copies.items()), workers):
        pass
    images = tuple(_moved(image, copies) for image in source.images)
    radars = tuple(_radar_moved(radar, copies) for radar in source.radars)
    return replace(scene, source=replace(source, images=images, radars=radars))


def _pixels(image: StoredImage) -> list[Pixels]:
    bands = [p for part in image.parts for where in (part.where, *part.more) for p in where]
    return bands + [p for p in (image.scl, *image.more_scl) if p is not None]


def _backscatter(radar: StoredRadar) -> list[Pixels]:
    return [radar.vv, radar.vh]


def _covered(scene: Scene, source: FileSource) -> float:
    return prod(scene.shape) / max(prod(image.finest.shape) for image in source.images)


def _slow(path: str) -> bool:
    file = opened(path)
    if file.driver == "JP2OpenJPEG":
        return True
    return file.compression is not None and file.block_shapes[0][1] >= file.width >= WIDE


def _bytes(path: str) -> int:
    file = opened(path)
    return int(file.count * prod(file.shape) * np.dtype(file.dtypes[0]).itemsize)


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


def _radar_moved(radar: StoredRadar, copies: Mapping[str, str]) -> StoredRadar:
    vv, vh = (p._replace(path=copies.get(p.path, p.path)) for p in _backscatter(radar))
    return replace(radar, vv=vv, vh=vh)
