"""Detection: what every cloud detector returns, and how a detector asks for the bands it was made for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unclouded.errors import InputUnsupported, RecordError
from unclouded.sample import Cover, Level, Place, Sample, Window

if TYPE_CHECKING:
    from unclouded.scenes.scene import Scene

Detect = Callable[[Sample], "Detection"]
Look = Callable[[Window], "Detection"]  # a Detection (1, h, w) of any window of one date of one scene


@dataclass(frozen=True, kw_only=True)
class Detection:
    """What lies over every pixel of every date, as one detector sees it.

    `probability` is the detector's own cloud score in [0, 1] (not calibrated, 0 where nothing was measured), or None for a
    detector that gives classes only. Raises RecordError for a wrong shape, type or code.
    """

    classes: NDArray[np.uint8]  # (T, H, W) codes of Cover
    probability: NDArray[np.float32] | None = None  # (T, H, W)

    def __post_init__(self) -> None:
        if self.classes.ndim != 3 or self.classes.dtype != np.uint8:
            raise RecordError(
                f"Detection.classes has shape {self.classes.shape} {self.classes.dtype}; expected (T, H, W) uint8."
            )
        if self.classes.size and int(self.classes.max()) >= len(Cover):
            raise RecordError(f"Detection.classes holds {int(self.classes.max())}; the codes of Cover end at {len(Cover) - 1}.")
        if self.probability is not None and self.probability.shape != self.classes.shape:
            raise RecordError(f"Detection.probability has shape {self.probability.shape}; expected {self.classes.shape}.")


@dataclass(frozen=True)
class Detector:
    """A row of the table of detectors: the function, and what one must know before calling it.

    `halo`: pixels around a window beyond which the result there no longer changes. `adapt(scene, i, threads)`: for
    detectors that must first look at the whole of date i (scene-wide statistics, coarser pixels); None: each window by itself.
    """

    detect: Detect
    bands: tuple[str, ...] = ()
    levels: tuple[Level, ...] = ("L1C", "L2A")
    halo: int | Callable[[Place], int] = 0
    adapt: Callable[[Scene, int, int], Look] | None = None
    shadows: bool = False  # whether it finds shadows itself
    delivered: bool = False  # whether it is a layer that comes with the data: no band is looked at
    needs: str = ""  # a package that must be installed
    about: str = ""

    def looking(self, scene: Scene, i: int, threads: int = 1) -> Look:
        """The detector for any window of date i of a scene."""
        if self.adapt is not None:
            return self.adapt(scene, i, threads)
        return looking(scene, i, self.detect, self.halo if isinstance(self.halo, int) else self.halo(scene.place))

    def fits(self, place: Place) -> bool:
        """Whether a product has the level and the bands it needs, and the package it needs is installed."""
        return not self.lacks(place)

    def lacks(self, place: Place) -> str:
        """What speaks against it for a product, in words; "" if nothing does."""
        if place.level not in self.levels:
            return f"made for {' and '.join(self.levels)}"
        if missing := [name for name in self.bands if name not in place.bands]:
            return f"needs {', '.join(missing)}"
        return f"{self.needs} is not installed" if self.needs and find_spec(self.needs) is None else ""


def looking(scene: Scene, i: int, detect: Detect, halo: int) -> Look:
    """Read a window of date i with its halo, run a detector, and cut the halo off."""

    def look(window: Window) -> Detection:
        around = window.grow(halo, scene.shape)
        found = detect(scene.read(around, only=[i]))
        at = (slice(None), *window.inside(around).slices)
        return Detection(classes=found.classes[at], probability=None if found.probability is None else found.probability[at])

    return look


def band(sample: Sample, name: str) -> NDArray[np.float32]:
    """One band (T, H, W) of a sample, with 0 where nothing was measured: what lies under invalid pixels never counts."""
    return np.where(sample.s2_valid, sample.s2[:, sample.place.bands.index(name)], np.float32(0))


def require(place: Place, detector: str, bands: tuple[str, ...], levels: tuple[Level, ...] = ("L1C", "L2A")) -> None:
    """Refuse a product that the detector was not made for. Raises InputUnsupported naming what is missing."""
    missing = [name for name in bands if name not in place.bands]
    if missing:
        raise InputUnsupported(
            f"The cloud detector '{detector}' needs {', '.join(missing)}, which the input does not have.",
            where=place.id,
            why=f"it works on {', '.join(bands)}; the input has {', '.join(place.bands)}.",
            do="use --mask auto, which picks a detector that fits, or give a mask file.",
        )
    if place.level not in levels:
        raise InputUnsupported(
            f"The cloud detector '{detector}' was made for level {' or '.join(levels)}; the input is {place.level}.",
            where=place.id,
            do="use --mask auto, which picks a detector that fits (SCL for L2A), or give a mask file.",
        )


def with_nodata(classes: NDArray[np.uint8], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Classes with NODATA wherever nothing was measured."""
    return np.where(valid, classes, np.uint8(Cover.NODATA))
