"""What has to be computed of a block: rectangles around the groups of its wanted pixels, few and small."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unclouded.sample import Window, around

Outer = Callable[[Window], Window]
CELL = 64  # pixels: groups are found on a lattice of this width


def groups(wanted: NDArray[np.bool_], block: Window, outer: Outer) -> list[Window]:
    """Rectangles of the scene that together hold every wanted pixel (H, W) of a block, the fewest to read.

    `outer`: what is read for a rectangle. Two become one where that reads no more than both apart.
    """
    labels, count = ndimage.label(_cells(wanted), np.ones((3, 3)))
    found = [_exact(wanted, rows, cols, block) for rows, cols in ndimage.find_objects(labels, count)]
    while (pair := _worth_joining(found, outer)) is not None:
        one, other = (found[n] for n in pair)
        found = [w for w in found if w not in (one, other)] + [around([one, other])]
    return sorted(set(found))


def _cells(wanted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    height, width = wanted.shape
    padded = np.pad(wanted, ((0, -height % CELL), (0, -width % CELL)))
    return np.asarray(padded.reshape(padded.shape[0] // CELL, CELL, -1, CELL).any((1, 3)))


def _exact(wanted: NDArray[np.bool_], rows: slice, cols: slice, block: Window) -> Window:
    """The rectangle of the wanted pixels in some cells, in scene pixels."""
    top, left = rows.start * CELL, cols.start * CELL
    part = wanted[top : rows.stop * CELL, left : cols.stop * CELL]
    r, c = np.flatnonzero(part.any(1)), np.flatnonzero(part.any(0))
    return Window(block.row + top + int(r[0]), block.col + left + int(c[0]), int(r[-1] - r[0]) + 1, int(c[-1] - c[0]) + 1)


def _worth_joining(found: list[Window], outer: Outer) -> tuple[int, int] | None:
    for i, one in enumerate(found):
        for j in range(i + 1, len(found)):
            if _pixels(outer(around([one, found[j]]))) <= _pixels(outer(one)) + _pixels(outer(found[j])):
                return i, j
    return None


def _pixels(window: Window) -> int:
    return window.height * window.width
