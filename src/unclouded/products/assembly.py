"""Blocks to bytes, and the bytes of all blocks to rasters. Any process can do either: what it needs travels with it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unclouded.errors import InputCorrupt, RecordError, VerificationFailed
from unclouded.products.cog import Plane, is_cog, nearly_full, raster_digest, write_cog
from unclouded.products.fill import Block
from unclouded.products.journal import Check, Journal, Packed, disk_errors, pack
from unclouded.products.preview import glimpse
from unclouded.sample import Window
from unclouded.scenes.scene import Layer

EVEN = 0.5  # of the blocks hold one value: then a raster is put together in runs


class Finished(NamedTuple):
    """A block as it goes into the journal: bytes with checksums, and its numbers."""

    window: Window
    packed: Packed
    pixels: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Packing:
    """How the blocks of one product become bytes: their planes and their glimpses."""

    planes: tuple[Plane, ...]
    layers: tuple[Layer, ...]
    bands: tuple[str, ...]
    step: int  # pixels of a glimpse

    def __call__(self, block: Block) -> Finished:
        """A block, checked and packed. Raises RecordError for arrays that are not those of the planes."""
        arrays = block.arrays()
        for plane, array in zip(self.planes, arrays, strict=True):
            at = plane.window(block.window)
            expected = (len(plane.descriptions), at.height, at.width)
            if array.shape != expected or array.dtype != plane.dtype:
                raise RecordError(
                    f"{plane.name}: a block of {expected} {plane.dtype} is expected, got {array.shape} {array.dtype}."
                )
        return Finished(block.window, pack((*arrays, *glimpse(block, self.layers, self.bands, self.step))), block.pixels())


@dataclass(frozen=True)
class Assembly:
    """The rasters of one product from the blocks of its journal. Called with the number of a plane, returns its digest."""

    folder: Path
    id: str
    planes: tuple[Plane, ...]
    blocks: tuple[Window, ...]
    journal: Journal
    threads: int = 1  # of each raster

    def __call__(self, n: int) -> tuple[str, str]:
        """Write one raster, read it back with a fresh handle against the journal: (name, digest).

        Raises VerificationFailed, OutputFailed, TryAgain (a damaged block).
        """
        plane = self.planes[n]
        path = self.folder / f"{self.id}_{plane.name}.tif"
        with disk_errors(self.folder):
            shrunk = replace(plane, overviews="nearest") if self.journal.constant(n) else plane  # the same, sooner
            even = self.journal.evenness(n) > EVEN
            write_cog(path, shrunk, self._pieces(n, plane), even=even, threads=self.threads)
            try:
                digest, differs = self._read_back(path, n, plane)
            except InputCorrupt as error:
                digest, differs = "", error.what
            if not differs:
                return plane.name, digest
            if nearly_full(path.parent):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        raise VerificationFailed(
            f"{path.name} does not read back as it was written. Nothing was published.", where=path, why=differs,
            do="check the disk and run the same command with --resume.",
        )  # fmt: skip

    def _read_back(self, path: Path, n: int, plane: Plane) -> tuple[str, str]:
        """The digest of a raster just written, and what is wrong with it, in words, or nothing. Every pixel is read once."""
        checks = [(plane.window(window), Check(self.journal.entries[window].pieces[n])) for window in self.blocks]

        def look(row: int, strip: NDArray[Any]) -> None:
            for at, check in checks:
                first, end = max(at.row, row), min(at.row + at.height, row + strip.shape[1])
                if first < end:
                    check.add(strip[:, first - row : end - row, at.col : at.col + at.width])

        digest = raster_digest(path, look=look)
        if differ := [tuple(at) for at, check in checks if not check.holds]:
            return digest, f"its pixels of {differ[0]} differ."
        return digest, "" if is_cog(path) else "it has not the layout of a Cloud Optimized GeoTIFF."

    def _pieces(self, n: int, plane: Plane) -> Iterator[tuple[Window, NDArray[Any]]]:
        for window in self.blocks:
            at = plane.window(window)
            yield at, self.journal.read(window, n, plane.dtype, (len(plane.descriptions), at.height, at.width))

    def by_size(self) -> list[int]:
        """The planes, the largest first: they are begun first where several processes share them."""
        sizes = [len(plane.descriptions) * int(np.prod(plane.shape)) * np.dtype(plane.dtype).itemsize for plane in self.planes]
        return sorted(range(len(self.planes)), key=lambda n: -sizes[n])
