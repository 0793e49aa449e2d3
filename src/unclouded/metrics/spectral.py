"""Spectral metrics: the spectral angle in its several published forms, NDVI error and ERGAS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from unclouded.metrics.pair import Mask, Pair, Sums, ratio

Unit = Literal["degrees", "radians"]
Zeros = Literal["skip", "nan", "zero"]


def angles(prediction: NDArray[np.floating], target: NDArray[np.floating]) -> NDArray[np.float32]:
    """Spectral angle (H, W) in radians between two images (C, H, W); NaN where either has no length.

    Through the chord between the unit vectors, 2 asin(|u - v| / 2), and not acos(u . v): the cosine loses all angles below
    0.0003 rad to rounding, so that two equal images would not be at 0.
    """
    lengths = [np.sqrt(np.einsum("chw,chw->hw", x, x)) for x in (prediction, target)]
    known = (lengths[0] > 0) & (lengths[1] > 0)
    chord = np.zeros(known.shape, np.float32)
    inverse = [np.where(known, 1 / np.where(known, length, 1), 0).astype(np.float32) for length in lengths]
    for p, t in zip(prediction, target, strict=True):
        chord += np.square(p * inverse[0] - t * inverse[1])
    return np.where(known, 2 * np.arcsin(np.minimum(np.sqrt(chord) / 2, 1)), np.nan).astype(np.float32)


def _in(unit: Unit, radians: float) -> float:
    return float(np.degrees(radians)) if unit == "degrees" else float(radians)


@dataclass(frozen=True)
class Sam:
    """Spectral angle mapper (Kruse 1993): mean angle over pixels. Sums: radians, pixels.

    `zeros` says what becomes of a pixel whose spectrum has no length in either image: `skip` leaves it out (U-TILISE, ours),
    `nan` makes the sum NaN and so drops the image from the mean (DSen2-CR, UnCRtainTS), `zero` counts it as 0.
    """

    unit: Unit = "degrees"
    zeros: Zeros = "skip"

    def state(self, pair: Pair, area: Mask | None = None) -> Sums:
        """See Metric."""
        if "angles" not in pair.kept:
            pair.kept["angles"] = angles(pair.prediction, pair.target)
        inside = pair.kept["angles"][pair.where(area)]
        if self.zeros == "nan":
            return np.array([inside.sum(dtype=np.float64), inside.size])
        known = np.isfinite(inside)
        count = np.count_nonzero(known) if self.zeros == "skip" else inside.size
        return np.array([inside[known].sum(dtype=np.float64), count])

    def value(self, sums: Sums) -> float:
        """See Metric."""
        return _in(self.unit, ratio(sums[0], sums[1]))


@dataclass(frozen=True)
class SamImage:
    """One angle between whole images taken as vectors of C x H x W values: the formula that Ebel 2020 and 2022 print.

    Sums: product, squared prediction, squared target. Not the mean over pixels, which their code computes.
    """

    unit: Unit = "degrees"

    def state(self, pair: Pair, area: Mask | None = None) -> Sums:
        """See Metric."""
        p, t = pair.prediction, pair.target
        return np.array([pair.sums(x, area).sum() for x in (p * t, p * p, t * t)])

    def value(self, sums: Sums) -> float:
        """See Metric."""
        length = np.sqrt(sums[1] * sums[2])
        return _in(self.unit, np.arccos(np.clip(sums[0] / length, -1, 1))) if length > 0 else float("nan")


@dataclass(frozen=True)
class SamOfMeanCosine:
    """The angle whose cosine is the mean cosine over pixels (decloud of CNES). Sums: cosines, pixels with a length."""

    unit: Unit = "degrees"

    def state(self, pair: Pair, area: Mask | None = None) -> Sums:
        """See Metric."""
        inside = angles(pair.prediction, pair.target)[pair.where(area)]
        known = np.isfinite(inside)
        return np.array([np.cos(inside[known], dtype=np.float64).sum(), np.count_nonzero(known)])

    def value(self, sums: Sums) -> float:
        """See Metric."""
        return _in(self.unit, float(np.arccos(np.clip(ratio(sums[0], sums[1]), -1, 1))))


@dataclass(frozen=True)
class NdviError:
    """Mean absolute error of NDVI = (near infrared - red) / (near infrared + red). Sums: absolute errors, pixels.

    A pixel counts where both sums of bands exceed `least`: below that reflectance the index is noise (deep water, shadow).
    """

    red: str = "B04"
    infrared: str = "B08"
    least: float = 0.02

    def state(self, pair: Pair, area: Mask | None = None) -> Sums:
        """See Metric."""
        red, nir = pair.bands_at((self.red, self.infrared))
        where = pair.where(area)
        totals = [image[red] + image[nir] for image in (pair.prediction, pair.target)]
        for total in totals:
            where = where & (total > self.least)
        ndvi = [
            (image[nir][where] - image[red][where]) / total[where]
            for image, total in zip((pair.prediction, pair.target), totals, strict=True)
        ]
        return np.array([np.abs(ndvi[0] - ndvi[1]).sum(dtype=np.float64), np.count_nonzero(where)])

    def value(self, sums: Sums) -> float:
        """See Metric."""
        return ratio(sums[0], sums[1])


@dataclass(frozen=True)
class Ergas:
    """Erreur relative globale adimensionnelle de synthese (Wald 2002): 100 `scale` sqrt(mean of MSE / mean^2 over bands).

    `scale` is the ratio of pixel sizes, 1 where nothing is sharpened. Sums per band: squared errors, target; then pixels.
    Bands whose mean is not above 0 do not count.
    """

    scale: float = 1.0

    def state(self, pair: Pair, area: Mask | None = None) -> Sums:
        """See Metric."""
        return np.concatenate([pair.sums(pair.squared, area), pair.sums(pair.target, area), [pair.count(area)]])

    def value(self, sums: Sums) -> float:
        """See Metric."""
        if not sums[-1]:
            return float("nan")
        mse, mean = sums[:-1].reshape(2, -1) / sums[-1]
        known = mean > 0
        return 100 * self.scale * float(np.sqrt((mse[known] / mean[known] ** 2).mean())) if known.any() else float("nan")
