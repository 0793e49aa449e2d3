"""Class maps that are decided where they are first looked at: what nobody looks at costs nothing.

One byte per date and pixel. Its low four bits hold the class as detected, its high four `DECIDED` and the class as decided.
So every byte says for itself whether it has been decided: processes that share a map in a file need no lock, and two that
decide the same pixel write the same byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unclouded.sample import Cover, Window

Maps = NDArray[np.uint8] | tuple[str, tuple[int, ...]]  # class maps (T, H, W), or the file and shape of them
DECIDED = np.uint8(128)
DETECTED = np.uint8(15)  # the bits of the class as detected
ROWS = 1024  # of a whole date that are looked at together


def mapped(maps: Maps) -> NDArray[np.uint8]:
    """The bytes of the maps, in this process or in one that shares them."""
    return np.memmap(maps[0], np.uint8, "r+", shape=maps[1]) if isinstance(maps, tuple) else maps


def decided(bytes_: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The classes as decided."""
    return (bytes_ >> np.uint8(4)) & np.uint8(7)


@dataclass(frozen=True)
class LazyMaps:
    """Class maps (T, H, W) that read like an array: `maps[i]` and `maps[dates, rows, columns]`, dates and pixels by slice.

    `decide` writes all dates of a window into the bytes. `veils`: rectangles of a date that are shown as under thick cloud
    wherever it was measured.
    """

    maps: Maps
    decide: Callable[[Window], Any]
    veils: tuple[tuple[int, Window], ...] = ()
    _open: list[NDArray[np.uint8]] = field(default_factory=list, compare=False)  # the bytes, once they were looked at here

    dtype = np.dtype(np.uint8)

    @property
    def shape(self) -> tuple[int, ...]:
        """Dates, rows, columns."""
        return self.maps[1] if isinstance(self.maps, tuple) else self.maps.shape

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, at: int | tuple[int | slice | Sequence[int], slice, slice]) -> NDArray[np.uint8]:
        """Classes of one date (H, W), or of a window: (h, w) of one date, (n, h, w) of several."""
        if not isinstance(at, tuple):
            out = np.empty(self.shape[1:], np.uint8)
            for row in range(0, self.shape[1], ROWS):
                out[row : row + ROWS] = self[at, row : row + ROWS, :]
            return out
        dates, *spans = at
        (top, bottom, _), (left, right, _) = (span.indices(n) for span, n in zip(spans, self.shape[1:], strict=True))
        window = Window(top, left, max(bottom - top, 0), max(right - left, 0))
        found = self._bytes[(dates, *window.slices)]
        if (missing := found < DECIDED).any():
            self.decide(_box(missing, window))
            found = self._bytes[(dates, *window.slices)]
        classes = decided(found)
        for i, veil in self.veils:
            for n in np.flatnonzero(np.arange(len(self))[dates] == i):
                layer = classes if classes.ndim == 2 else classes[n]
                _cover(layer, veil, window)
        return classes

    def veiled(self, i: int, windows: Sequence[Window]) -> LazyMaps:
        """The same with more of date i hidden."""
        return replace(self, veils=(*self.veils, *((i, window) for window in windows)))

    @property
    def _bytes(self) -> NDArray[np.uint8]:
        if not self._open:
            self._open.append(mapped(self.maps))
        return self._open[0]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": []}

    @property
    def open_file(self) -> np.memmap[Any, Any] | None:
        """The file that was opened here, if the maps lie in one."""
        return self._open[0] if self._open and isinstance(self._open[0], np.memmap) else None


def _box(missing: NDArray[np.bool_], window: Window) -> Window:
    """The smallest rectangle with all that is missing (..., h, w) in a window."""
    anywhere = np.any(missing.reshape(-1, *missing.shape[-2:]), axis=0)
    rows, cols = (np.flatnonzero(np.any(anywhere, axis=axis)) for axis in (1, 0))
    top, left, bottom, right = int(rows[0]), int(cols[0]), int(rows[-1]) + 1, int(cols[-1]) + 1
    return Window(window.row + top, window.col + left, bottom - top, right - left)


def _cover(layer: NDArray[np.uint8], veil: Window, window: Window) -> None:
    """Hide in `layer`, the classes of `window`, what of `veil` was measured."""
    top, left = max(veil.row - window.row, 0), max(veil.col - window.col, 0)
    bottom, right = veil.row + veil.height - window.row, veil.col + veil.width - window.col
    part = layer[top : max(bottom, 0), left : max(right, 0)]
    part[part != Cover.NODATA] = Cover.THICK
