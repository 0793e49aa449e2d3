"""Detection: what every cloud detector returns, and how a detector asks for the bands it was made for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unclouded.errors import InputUnsupported, RecordError
from unclouded.sample import Cover, Level, Place, Sample

if TYPE_CHECKING:
    from unclouded.scenes.scene import Scene

Detect = Callable[[Sample], "Detection"]


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

    `adapt(scene, i)` returns the function for date i of a scene whose windows are to be judged by the whole: a detector with
    scene-wide statistics has one. `halo`: pixels around a window beyond which the result there no longer changes.
    """

    detect: Detect
    adapt: Callable[[Scene, int], Detect] | None = None
    bands: tuple[str, ...] = ()
    levels: tuple[Level, ...] = ("L1C", "L2A")
    halo: int = 0
    shadows: bool = False  # whether it finds shadows itself
    about: str = ""

    def fits(self, place: Place) -> bool:
        """Whether a product has the level and the bands it needs."""
        return place.level in self.levels and set(self.bands) <= set(place.bands)


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
