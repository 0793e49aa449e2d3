"""What a remover needs, and what it is: read before weights are loaded, anything is fetched, or a pixel is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import numpy as np

from unclouded.errors import InputUnsupported
from unclouded.sample import Batch, Level, Prediction, Window

if TYPE_CHECKING:
    from unclouded.scenes.scene import Scene


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a remover accepts. `bands` None: any. `dates`: how many S2 dates at least and at most (None: no limit).

    `tile`: the side it wants to see at once (None: any size). `halo`: pixels of context beyond which its result no longer
    changes (or, for networks with normalisation over the image, no longer changes by more than it documents).
    `tiling` says which of the two: "exact" (the halo covers all that a pixel depends on) or "approximate". `lattice`: the
    context is that of whole squares of so many pixels of the place's own lattice, not of single pixels.
    `held`, `held_per_date`: bytes that a process holds at most beyond what it reads, and more of them for each date of the
    series: weights and activations of a tile. `one_process`: it computes on a device that it does not share.
    `masks`: where `adapt` looks at those of other dates: "near" what it reads to rebuild, or "everywhere".
    """

    bands: tuple[str, ...] | None = None
    levels: tuple[Level, ...] = ("L1C", "L2A")
    sar: Literal["unused", "optional", "required"] = "unused"
    dates: tuple[int, int | None] = (1, None)
    cloud: bool = True
    multiple_of: int = 1
    tile: int | None = None
    halo: int = 0
    tiling: Literal["exact", "approximate"] = "exact"
    lattice: int = 1
    held: int = 0
    held_per_date: int = 0
    one_process: bool = False
    masks: Literal["near", "everywhere"] = "near"

    def outer(self, part: Window, scene: Scene) -> Window:
        """What of a scene has to be read for a part of it: the squares of `lattice` that it touches and `halo` around them."""
        row, col = (first - (first + origin) % self.lattice for first, origin in zip(part[:2], scene.place.origin, strict=True))
        height, width = (
            end - first + -(end + origin) % self.lattice
            for first, end, origin in zip(
                (row, col), (part.row + part.height, part.col + part.width), scene.place.origin, strict=True
            )
        )
        return Window(row, col, height, width).grow(self.halo, scene.shape)

    def widest(self, side: int) -> int:
        """The longest side of `outer` for a part of `side` pixels."""
        return (side + 2 * self.lattice - 2) // self.lattice * self.lattice + 2 * self.halo

    def check(self, scene: Scene) -> None:
        """Refuse early, in words. Raises InputUnsupported."""
        self._check(scene.place.bands, scene.place.level, len(scene.dates), scene.s1_dates is not None, scene.masks is not None)

    def check_batch(self, batch: Batch) -> None:
        """The same for a batch that comes without a scene. Raises InputUnsupported."""
        place = batch.places[0]
        self._check(place.bands, place.level, batch.s2.shape[1], batch.s1 is not None, batch.cloud is not None)

    def _check(self, bands: tuple[str, ...], level: Level, dates: int, sar: bool, cloud: bool) -> None:
        if self.bands is not None and bands != self.bands:
            missing = [b for b in self.bands if b not in bands]
            raise InputUnsupported(
                f"This model needs the bands {', '.join(self.bands)} in this order; the input has {', '.join(bands)}.",
                why=f"missing: {', '.join(missing)}." if missing else "the order differs or there are bands too many.",
                do="select bands with --bands, or use the default model, which takes any bands.",
            )
        if level not in self.levels:
            raise InputUnsupported(
                f"This model was made for level {' or '.join(self.levels)}; the input is {level}.",
                do=f"feed {self.levels[0]} products, or use the default model, which takes both levels.",
            )
        if self.sar == "required" and not sar:
            raise InputUnsupported("This model needs Sentinel-1 radar and there is none.", do="give --s1 SERIES.")
        if self.cloud and not cloud:
            raise InputUnsupported("This model needs cloud masks and there are none.", do="give --mask auto or a file.")
        low, high = self.dates
        if dates < low or (high is not None and dates > high):
            wanted = f"{low}" if high == low else f"{low} or more" if high is None else f"{low} to {high}"
            raise InputUnsupported(f"This model needs {wanted} dates; there are {dates}.", do="give more or fewer dates.")


@runtime_checkable
class CloudRemover(Protocol):
    """Networks, solvers and averages alike: called with a Batch, it returns a Prediction."""

    @property
    def needs(self) -> Needs: ...

    def __call__(self, batch: Batch) -> Prediction: ...

    def adapt(self, scene: Scene, date: np.datetime64) -> CloudRemover:
        """A remover for one date of one scene. Networks and per-pixel methods return themselves; solvers learn the place.

        Must hold no more than a bounded sample of the scene in memory, and depend on nothing but scene, date and its own seed.
        """
        ...
