"""Parts of one day put together: the halves of a swath, neighbouring tiles. The first image that holds a pixel gives it.

Only what is stored alike goes together, so that observed pixels keep their counts: the same bands in the same numbers on one
lattice. A reprocessed copy, another baseline or another zone does not; then one image is chosen, as for any copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from unclouded.regrid import lattice_step
from unclouded.scenes.stored import StoredBands, StoredImage

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox


def one_per_day(images: Sequence[StoredImage]) -> tuple[list[StoredImage], list[dict[str, Any]]]:
    """One image per day, and notes on what became of the others.

    The first is that of the newest baseline, then with most data, then with the last name; parts that fit it are joined to it.
    """
    days: dict[Any, list[StoredImage]] = {}
    for image in images:
        days.setdefault(image.date, []).append(image)
    kept, notes = [], []
    for day, same in days.items():
        best, *others = sorted(same, key=_rank, reverse=True)
        whole, names = best, list(best.facts.get("mosaic", [best.name]))
        for other in others:
            if _adds(best, other) and (wider := joined(whole, other)) is not None:
                whole, names = wider, [*names, other.name]
        kept.append(whole)
        left = [other.name for other in others if other.name not in names]
        if len(names) > 1:
            notes.append({"date": str(day), "mosaic": names, "why": "parts of one day, stored alike; the first that has data"})
        if left:
            notes.append(
                {"date": str(day), "kept": best.name, "left": left, "why": "newest baseline, then most data, then name"}
            )
    return kept, notes


def _rank(image: StoredImage) -> tuple[float, float, str]:
    try:
        baseline = float(image.baseline)
    except ValueError:
        baseline = 0.0
    return baseline, -float(image.facts.get("nodata_percentage", 0)), image.name


def _adds(best: StoredImage, other: StoredImage) -> bool:
    """Whether another image may show more: elsewhere, or where the best one says that it has no data."""
    full = "nodata_percentage" in best.facts and not float(best.facts["nodata_percentage"])
    return not full or best.finest.grid != other.finest.grid


def joined(first: StoredImage, other: StoredImage) -> StoredImage | None:
    """Both as one image, the first above; None where they are not stored alike."""
    brings = [(image.level, image.baseline, image.scl is None, image.given is None) for image in (first, other)]
    below = {part.bands: part for part in other.parts}
    if brings[0] != brings[1] or set(below) != {part.bands for part in first.parts}:
        return None
    parts = [above(part, below[part.bands]) for part in first.parts]
    whole = tuple(part for part in parts if part is not None)
    if len(whole) < len(parts):
        return None
    return replace(
        first, parts=whole, verified=None if first.verified is None else bool(first.verified and other.verified),
        tile=first.tile if first.tile == other.tile else "", files=tuple(dict.fromkeys((*first.files, *other.files))),
        more_scl=(*first.more_scl, *([other.scl] if other.scl is not None else [])),
        more_given=(*first.more_given, *([other.given] if other.given is not None else [])),
    )  # fmt: skip


def laid_together(parts: Sequence[StoredBands]) -> list[StoredBands]:
    """Parts of one image; those of the same bands that are stored alike become one."""
    out: list[StoredBands] = []
    for part in parts:
        for n, first in enumerate(out):
            if first.bands == part.bands and (both := above(first, part)) is not None:
                out[n] = both
                break
        else:
            out.append(part)
    return out


def above(first: StoredBands, other: StoredBands) -> StoredBands | None:
    """One part over another of the same bands; None where numbers or lattices differ, or they lie apart."""
    if first.grid is None or other.grid is None or _numbers(first) != _numbers(other):
        return None
    grid = _around(first.grid, other.grid)
    if grid is None:
        return None
    more, blank = (*first.more, other.where, *other.more), (*first.blank, *other.blank)
    return replace(first, grid=grid, shape=(grid.shape[0], grid.shape[1]), more=more, blank=blank)


def _numbers(part: StoredBands) -> tuple[Any, ...]:
    return (
        part.dtype, repr(part.nodata), part.missing, bool(part.blank), part.quantification, part.offset, part.scale_tags,
        part.offset_tags,
    )  # fmt: skip


def _around(a: GeoBox, b: GeoBox) -> GeoBox | None:
    """The grid that holds two grids; None where they do not share a lattice, or do not touch."""
    from odc.geo.geobox import GeoBox as Box

    step = lattice_step(a, b)
    if step is None or step[0] != 1:
        return None
    row, col = step[1:]  # where b begins in a
    if row > a.shape[0] or col > a.shape[1] or row + b.shape[0] < 0 or col + b.shape[1] < 0:
        return None
    top, left = min(row, 0), min(col, 0)
    size = max(a.shape[0], row + b.shape[0]) - top, max(a.shape[1], col + b.shape[1]) - left
    return Box(size, a.affine * a.affine.translation(left, top), a.crs)
