"""The threshold detector of Meraner et al. 2020 (Fig. 5): cloud score of Schmitt et al. 2019, shadow test of Zhai et al. 2018.

Two presets circulate under one name and differ in a single range, that of B01 + B10; on one real patch they find 56 % and
2.5 % of cloud. Both are here, each under its own name. The shadow thresholds are statistics of the whole array given, so
a patch and the scene it was cut from differ: `threshold(sample)` is the published per-patch behaviour, `Statistics` of a
whole scene make the result independent of how the scene is cut.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, signal

from unclouded.masks.detection import Detection, Look, band, looking, require, with_nodata
from unclouded.sample import Cover, Sample, Window
from unclouded.workers import in_threads

if TYPE_CHECKING:
    from unclouded.scenes.scene import Scene

BANDS = ("B01", "B02", "B03", "B04", "B08", "B10", "B11")
HALO = 4 + 3 + 2  # closing 5x5 (dilation and erosion), box 7x7, shadow median 5x5
SURVEY_BLOCK = 1024  # fixed, so that sums over a scene are always taken in the same order
CLASSES = np.array([Cover.SHADOW, Cover.CLEAR, Cover.THICK], np.uint8)  # of the signed mask -1, 0, 1
CLOUD_FROM = 0.2  # T_CL, Meraner 2020 section 3.3
_CSI, _WBI = 3 / 4, 5 / 6  # T_CSI and T_WBI, Meraner 2020 section 3.3


@dataclass(frozen=True)
class Preset:
    """The range of B01 + B10 over which the cloud score rises from 0 to 1, and whether moist scenes are damped (NDMI).

    `clipped`: reflectances are cut to [0, 1] first, as the loaders of that code do.
    """

    cirrus: tuple[float, float]
    moist: bool = False
    clipped: bool = False

    def seen(self, layer: NDArray[np.float32]) -> NDArray[np.float32]:
        """Reflectance as the preset looks at it."""
        return np.clip(layer, 0, 1) if self.clipped else layer


PRESETS: dict[str, Preset] = {
    "meraner2020": Preset((0.15, 0.2)),  # DSen2-CR and GLF-CR
    "meraner2020_moist": Preset((0.15, 0.2), moist=True),
    "tum": Preset((0.4, 0.9), clipped=True),  # SEN12MS-CR-TS and UnCRtainTS
}


@dataclass(frozen=True)
class Statistics:
    """Minimum and mean over the valid pixels of one date: CSI = (B08 + B11) / 2, and the blue band."""

    csi_min: float
    csi_mean: float
    blue_min: float
    blue_mean: float

    @staticmethod
    def of(csi: NDArray[np.float32], blue: NDArray[np.float32], valid: NDArray[np.bool_]) -> Statistics:
        """Of one date (H, W). Without a valid pixel all are 0, and nothing is a shadow."""
        if not valid.any():
            return Statistics(0.0, 0.0, 0.0, 0.0)
        return Statistics(
            float(csi[valid].min()), float(csi[valid].mean()), float(blue[valid].min()), float(blue[valid].mean())
        )  # fmt: skip


def _rescale(x: NDArray[np.float32], low: float, high: float) -> NDArray[np.float32]:
    return (x - np.float32(low)) / np.float32(high - low)


def _difference(u: NDArray[np.float32], v: NDArray[np.float32]) -> NDArray[np.float32]:
    """Normalised difference; a zero sum becomes 0.001, as published."""
    total = u + v
    total[total == 0] = 0.001
    return (u - v) / total


def cloud_score(
    bands: dict[str, NDArray[np.float32]], preset: str = "meraner2020", valid: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Cloud score in [1e-5, 1] of one date; cloud from `CLOUD_FROM` on. Meraner 2020 Fig. 5 left, Schmitt 2019.

    `bands`: name -> reflectance (H, W), at least B01 B02 B03 B04 B10 B11 (and B08 for a moist preset). Outside the image,
    and where `valid` is False, the score counts as 0 in the final 7 x 7 mean, so that borders are darkened: as published.
    """
    b01, b02, b03, b04, b10, b11 = (bands[name] for name in ("B01", "B02", "B03", "B04", "B10", "B11"))
    setting = PRESETS[preset]
    tests = [
        _rescale(b02, 0.1, 0.5),
        _rescale(b01, 0.1, 0.3),
        _rescale(b01 + b10, *setting.cirrus),
        _rescale(b04 + b03 + b02, 0.2, 0.8),
        _rescale(_difference(b03, b11), 0.8, 0.6),  # snow: the range is reversed
    ]
    if setting.moist:
        tests.append(_rescale(_difference(bands["B08"], b11), -0.1, 0.1))
    score = np.ones_like(b02)
    for test in tests:
        np.minimum(score, test, out=score)
    if valid is not None:
        score = np.where(valid, score, np.float32(0))
    closed = ndimage.grey_closing(score, size=(5, 5))  # mirrored borders
    return np.clip(signal.convolve2d(closed, np.full((7, 7), 1 / 49), mode="same"), 1e-5, 1)


def _csi(bands: dict[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    """Cloud shadow index of Zhai 2018: the mean of near and short-wave infrared."""
    return (bands["B08"] + bands["B11"]) * np.float32(0.5)


def shadow(
    bands: dict[str, NDArray[np.float32]], statistics: Statistics | None = None, valid: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """Shadow of one date (H, W): dark in near infrared and blue against the whole image. Meraner 2020 Fig. 5 right, Zhai 2018.

    `statistics` None: those of the image given (published). A 5 x 5 median, zero outside, cleans the candidates.
    """
    csi, blue = _csi(bands), bands["B02"]
    seen = np.ones(blue.shape, bool) if valid is None else valid
    by = Statistics.of(csi, blue, seen) if statistics is None else statistics
    candidate = seen & (csi < by.csi_min + _CSI * (by.csi_mean - by.csi_min))
    candidate &= blue < by.blue_min + _WBI * (by.blue_mean - by.blue_min)
    votes = candidate.astype(np.uint8)
    for axis in (0, 1):
        votes = ndimage.correlate1d(votes, np.ones(5), axis, mode="constant")
    return votes >= 13


def cloud_shadow(cloud: NDArray[np.bool_], dark: NDArray[np.bool_]) -> NDArray[np.int8]:
    """The signed cloud-shadow mask (CSM): 1 cloud, -1 shadow, 0 clear; cloud wins. Its absolute value is the binary CSM."""
    return np.where(cloud, 1, np.where(dark, -1, 0)).astype(np.int8)


def threshold(sample: Sample, preset: str = "meraner2020", statistics: Sequence[Statistics] | None = None) -> Detection:
    """Cloud (class THICK) and shadow of every date, by a preset of `PRESETS`.

    `statistics`, one per date, are those of the scene a window was cut from; None takes them from the sample, as published.
    Raises InputUnsupported if a band is missing (B01 and B10 exist in L1C products only).
    """
    require(sample.place, preset, BANDS)
    named = {name: PRESETS[preset].seen(band(sample, name)) for name in BANDS}
    classes = np.empty(sample.s2_valid.shape, np.uint8)
    score = np.empty(sample.s2_valid.shape, np.float32)
    for t, valid in enumerate(sample.s2_valid):
        image = {name: layer[t] for name, layer in named.items()}
        one = cloud_score(image, preset, valid)
        dark = shadow(image, None if statistics is None else statistics[t], valid)
        signed = cloud_shadow(one >= CLOUD_FROM, dark)
        classes[t] = CLASSES[signed + 1]
        score[t] = np.where(valid, one, 0)
    return Detection(classes=with_nodata(classes, sample.s2_valid), probability=score)


def meraner2020(sample: Sample) -> Detection:
    """`threshold` with the preset of DSen2-CR and GLF-CR."""
    return threshold(sample, "meraner2020")


def tum(sample: Sample) -> Detection:
    """`threshold` with the preset of SEN12MS-CR-TS and UnCRtainTS."""
    return threshold(sample, "tum")


def of_scene(preset: str) -> Callable[[Scene, int, int], Look]:
    """The preset with the shadow statistics of a whole scene, so that the result does not depend on how it is cut."""

    def adapt(scene: Scene, i: int, threads: int = 1) -> Look:
        by = scene_statistics(scene, i, preset, threads)
        return looking(scene, i, lambda sample: threshold(sample, preset, [by]), HALO)

    return adapt


def scene_statistics(scene: Scene, i: int, preset: str = "meraner2020", threads: int = 1) -> Statistics:
    """`Statistics` of date i, read in blocks of fixed size whose sums are joined in order and in double precision."""
    require(scene.place, preset, BANDS)
    lows, sums, count = np.full(2, np.inf), np.zeros(2), 0

    def survey(window: Window) -> tuple[list[float], list[float], int]:
        sample = scene.read(window, only=[i])
        valid = sample.s2_valid[0]
        if not valid.any():
            return [np.inf, np.inf], [0.0, 0.0], 0
        image = {name: PRESETS[preset].seen(band(sample, name)[0]) for name in ("B02", "B08", "B11")}
        csi, blue = _csi(image)[valid], image["B02"][valid]
        return [csi.min(), blue.min()], [csi.sum(dtype=np.float64), blue.sum(dtype=np.float64)], csi.size

    for low, total, pixels in in_threads(survey, list(scene.blocks(SURVEY_BLOCK)), threads):
        lows, sums, count = np.minimum(lows, low), sums + total, count + pixels
    if not count:
        return Statistics(0.0, 0.0, 0.0, 0.0)
    return Statistics(float(lows[0]), float(sums[0] / count), float(lows[1]), float(sums[1] / count))
