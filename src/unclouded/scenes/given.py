"""Masks and scene classifications that come with the images: whose they are, whether they lie over them, how they are coded.

Where such a file ends, nobody looked at the ground, so it counts as hidden: one of another place would hide a date silently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from unclouded.errors import InputMissing, InputsContradict
from unclouded.raster import grid_of, opened, overlap
from unclouded.sample import as_day
from unclouded.scenes.sentinel1 import extent
from unclouded.scenes.stored import Pixels, StoredImage

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox
    from odc.geo.geom import BoundingBox

Masks = str | PathLike[str] | Mapping[str, str | PathLike[str]]

OURS = {"class_0": "no data", "class_1": "clear", "class_3": "thick cloud"}  # band tags of our own masks (products/cog.py)


def with_masks(images: Sequence[StoredImage], given: Masks | None) -> list[StoredImage]:
    """The images with the mask file of the user, one for all dates or {date: file}, in place of those found beside them.

    Raises InputMissing for a date without an image.
    """
    if given is None:
        return list(images)
    if isinstance(given, Mapping):
        files = {as_day(day): str(file) for day, file in given.items()}
        if extra := [str(day) for day in files if day not in {i.date for i in images}]:
            raise InputMissing(f"There is a mask for {', '.join(extra)} but no Sentinel-2 image.")
    else:
        files = {image.date: str(given) for image in images}
    return [
        replace(i, given=Pixels(files[i.date], 1), more_given=(), files=(*i.files, files[i.date])) if i.date in files else i
        for i in images
    ]


def check_masks(images: Sequence[StoredImage], grid: GeoBox | None, size: tuple[int, int]) -> list[str]:
    """Every mask and scene classification must lie over its image, as far as that lies in the scene: `grid`, or without
    coordinates `size` pixels. Returns in words which of them end inside.

    Raises InputsContradict (another place; coordinates on one side only, or another size without any).
    """
    partly: dict[tuple[str, str], list[str]] = {}
    for image in images:
        for first, *more in ((image.given, *image.more_given), (image.scl, *image.more_scl)):
            files = [p.path for p in (first, *more) if p is not None]
            if files and (share := _share(image, files, grid, size)) is not None:
                partly.setdefault((files[0], share), []).append(str(image.date))
    return [
        f"{Path(file).name} covers {share} of the image of {days[0]}"
        + (f" and {len(days) - 1} others" if len(days) > 1 else "")
        + "; the ground beyond counts as hidden"
        for (file, share), days in partly.items()
    ]


def _share(image: StoredImage, files: Sequence[str], grid: GeoBox | None, size: tuple[int, int]) -> str | None:
    """How much of an image the files of a mask cover together, in words; None where it is all but a pixel of theirs."""
    masks = [_laid(file, grid, size) for file in files]
    if grid is None or grid.crs is None or image.finest.grid is None or not overlap(grid, image.finest.grid):
        return None
    boxes = [mask.boundingbox.to_crs(grid.crs) for mask in masks if mask is not None]
    wanted = grid.boundingbox & image.finest.grid.boundingbox.to_crs(grid.crs)
    found = [box & wanted for box in boxes if _meet(box, wanted)]
    if not found:
        raise InputsContradict(
            f"{Path(files[0]).name} shows another place than the image of {image.date}.", where=files[0],
            why=f"it covers {extent(boxes[0])}; the image {extent(wanted)}.",
            do="give a mask of this place, or leave it out.",
        )  # fmt: skip
    whole = found[0]
    for box in found[1:]:
        whole |= box
    step = max(max(box.span_x / mask.width, box.span_y / mask.height) for box, mask in zip(boxes, masks, strict=True) if mask)
    if max(wanted.span_x - whole.span_x, wanted.span_y - whole.span_y) <= step:
        return None
    return f"{whole.span_x * whole.span_y / (wanted.span_x * wanted.span_y):.0%}"


def _meet(a: BoundingBox, b: BoundingBox) -> bool:
    return max(a.left, b.left) < min(a.right, b.right) and max(a.bottom, b.bottom) < min(a.top, b.top)


def _laid(file: str, grid: GeoBox | None, size: tuple[int, int]) -> GeoBox | None:
    """The grid of a mask file. Raises InputsContradict where only one side has coordinates, or none and sizes differ."""
    mask = opened(file)
    found = grid_of(mask)
    if (found is None) != (grid is None) or (grid is None and mask.shape != size):
        raise InputsContradict(
            f"{Path(file).name} cannot be laid over the images.", where=file,
            why=f"mask: {mask.shape} pixels, {'no ' if mask.crs is None else ''}CRS; images: {size} pixels, "
            f"{'no ' if grid is None else ''}CRS.",
            do="give the mask on the grid of the images.",
        )  # fmt: skip
    return found


def mask_kinds(images: Sequence[StoredImage]) -> dict[str, str]:
    """Date -> 'classes' where the tags of a mask file say that it holds our classes, whatever values occur in it."""
    return {str(i.date): "classes" for i in images if i.given is not None and all(map(_ours, (i.given, *i.more_given)))}


def _ours(mask: Pixels) -> bool:
    tags = opened(mask.path).tags(mask.band)
    return all(tags.get(key) == name for key, name in OURS.items())
