"""Augmentation that moves every field of a sample together: image, radar, cloud, masks and target stay aligned.

Dates and bands are never touched. A flipped or turned sample no longer lies on a map: its place has no grid.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from unclouded.errors import InputUnsupported
from unclouded.sample import Sample, Window


def flip(sample: Sample, *, rows: bool = False, cols: bool = False) -> Sample:
    """The sample upside down (`rows`), mirrored left to right (`cols`), or both."""
    cut = (..., slice(None, None, -1 if rows else 1), slice(None, None, -1 if cols else 1))
    return _moved(sample, lambda a: np.ascontiguousarray(a[cut])) if rows or cols else sample


def turn(sample: Sample, quarters: int) -> Sample:
    """The sample turned counter-clockwise by quarter turns; height and width change places for odd ones."""
    if quarters % 4 == 0:
        return sample
    return _moved(sample, lambda a: np.ascontiguousarray(np.rot90(a, quarters, axes=(-2, -1))))


def crop(sample: Sample, size: int, *, row: int | None = None, col: int | None = None) -> Sample:
    """A square of `size` pixels, from `row`, `col` or around the middle. Raises InputUnsupported where it does not fit."""
    height, width = sample.shape
    top = (height - size) // 2 if row is None else row
    left = (width - size) // 2 if col is None else col
    if size < 1 or top < 0 or left < 0 or top + size > height or left + size > width:
        raise InputUnsupported(
            f"A crop of {size} x {size} pixels at row {top}, column {left} does not fit into {height} x {width}.",
            where=sample.place.id, do="ask for a smaller crop.",
        )  # fmt: skip
    return sample.crop(Window(top, left, size, size))


def _moved(sample: Sample, move: Any) -> Sample:
    arrays: dict[str, Any] = {
        f.name: move(value)
        for f in fields(sample)
        if isinstance(value := getattr(sample, f.name), np.ndarray) and value.ndim >= 2
    }
    return replace(sample, place=replace(sample.place, grid=None), **arrays)


@dataclass(frozen=True, kw_only=True)
class Augment:
    """A training transform: a crop, then flips and quarter turns by chance. The same seed gives the same change.

    `size`: side of the crop in pixels (None: none). `centre`: from the middle, else from anywhere.
    """

    size: int | None = None
    centre: bool = False
    flips: bool = True
    turns: bool = True

    def __call__(self, sample: Sample, seed: int) -> Sample:
        """The changed sample. Raises InputUnsupported where the crop does not fit."""
        draw = np.random.default_rng(seed)
        corner, mirrored, quarters = draw.random(2), draw.random(2) < 0.5, int(draw.integers(4))
        if self.size is not None:
            room = [side - self.size + 1 for side in sample.shape]
            row, col = (int(part * max(free, 0)) for part, free in zip(corner, room, strict=True))
            sample = crop(sample, self.size) if self.centre else crop(sample, self.size, row=row, col=col)
        if self.flips:
            sample = flip(sample, rows=bool(mirrored[0]), cols=bool(mirrored[1]))
        return turn(sample, quarters) if self.turns else sample


TRANSFORMS: dict[str, Augment] = {
    "meraner2020": Augment(),  # section 3.5: random rotations and flips
    "ebel2020": Augment(size=200, centre=True, flips=False, turns=False),  # section III-C: centre-cropped 200 x 200
    "glfcr2022": Augment(size=128, flips=False, turns=False),  # implementation details: random 128 x 128
}
