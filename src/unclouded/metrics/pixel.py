"""Errors per pixel and band: MAE, MSE, RMSE, nRMSE, bias, PSNR, correlation and R2.

All over the pixels of an area and all bands together unless said otherwise. Reflectance, unless values were scaled before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unclouded.metrics.pair import Image, Mask, Pair, Sums, ratio

EPSILON = np.finfo(np.float64).tiny
CONSTANT = 1e-12  # of the squares: with less variation a band is constant, and what there is is rounding of float32
ROUNDING = 1e-8  # of the squares: sums are stored with 9 digits


@dataclass(frozen=True)
class Mae:
    """Mean absolute error. Sums: absolute errors, values."""

    def state(self, pair: Pair, area: Mask | None = None) -> Sums:
        """See Metric."""
        return np.array([pair.sums(pair.absolute, area).sum(), pair.count(area) * len(pair.target)])

    def value(self, sums: Sums) -> float:
        """See Metric."""
        return ratio(sums[0], sums[1])


@dataclass(frozen=True)
class Mse:
    """Mean squared error. Sums: squared errors, values."""

    def state(self, pair: Pair, area: Mask | None = None) -> Sums:
        """See Metric."""
        return np.array([pair.sums(pair.squared, area).sum(), pair.count(area) * len(pair.target)])

    def value(self, sums: Sums) -> float:
        """See Metric."""
        return ratio(sums[0], sums[1])


@dataclass(frozen=True)
class Rmse(Mse):
    """Root of the mean squared error (the NRMSE of Ebel 2022 IV-A, whose values lie in [0, 1])."""

    def value(self, sums: Sums) -> float:
        """See Metric."""
        return float(np.sqrt(super().value(sums)))


@dataclass(frozen=True)
class Psnr(Mse):
    """Peak signal-to-noise ratio in dB: 20 log10(peak / RMSE). `equal` is its value for images without any difference.

    Meraner 2020, Ebel 2020, Ebel 2022 IV-A, Darbaghshahi 2021 eq. 6; GLF-CR's code gives 100 for equal images.
    """

    peak: float = 1.0
    equal: float = float("inf")

    def value(self, sums: Sums) -> float:
        """See Metric."""
        error = super().value(sums)
        return self.equal if error == 0 else float(10 * np.log10(self.peak**2 / error))


@dataclass(frozen=True)
class Bias:
    """Mean of prediction minus target. Sums: errors, values."""

    def state(self, pair: Pair, area: Mask | None = None) -> Sums:
        """See Metric."""
        return np.array([pair.sums(pair.error, area).sum(), pair.count(area) * len(pair.target)])

    def value(self, sums: Sums) -> float:
        """See Metric."""
        return ratio(sums[0], sums[1])


@dataclass(frozen=True)
class BandRmse:
    """The mean over bands of the RMSE of each band (DSen2-CR's bandwise RMSE). Sums: squared errors per band, pixels."""

    def state(self, pair: Pair, area: Mask | None = None) -> Sums:
        """See Metric."""
        return np.append(pair.sums(pair.squared, area), pair.count(area))

    def value(self, sums: Sums) -> float:
        """See Metric."""
        return float(np.sqrt(sums[:-1] / sums[-1]).mean()) if sums[-1] else float("nan")


@dataclass(frozen=True)
class BandErrors(BandRmse):
    """Bias, MAE and RMSE of every band. Sums: (errors, absolute errors, squared errors) per band, then pixels.

    Its value is the RMSE over all bands; `table` gives the rest.
    """

    def state(self, pair: Pair, area: Mask | None = None) -> Sums:
        """See Metric."""
        each = [pair.sums(layers, area) for layers in (pair.error, pair.absolute, pair.squared)]
        return np.concatenate([*each, [pair.count(area)]])

    def value(self, sums: Sums) -> float:
        """See Metric."""
        return float(np.sqrt(np.square(self.table(sums)[2]).mean()))

    @staticmethod
    def table(sums: Sums) -> Sums:
        """(3, C): bias, MAE and RMSE of every band; NaN for an empty set."""
        with np.errstate(invalid="ignore"):
            rows = sums[:-1].reshape(3, -1) / sums[-1]
        rows[2] = np.sqrt(rows[2])
        return rows


@dataclass(frozen=True)
class NormalisedRmse:
    """RMSE of each band over the range (or mean) of that band in the target, averaged over bands: Meraner 2020 Figs. 10, 11.

    The sums are (quotient or 0, 1 or 0) per band, so that adding images averages them, as Fig. 11 does. A band without any
    range in the image has no quotient and does not count. As a share: times 100 for the per cent of the figures.
    """

    by: Literal["range", "mean"] = "range"

    def state(self, pair: Pair, area: Mask | None = None) -> Sums:
        """See Metric."""
        n, where = pair.count(area), pair.where(area)
        if not n:
            return np.zeros(2 * len(pair.target))
        rmse = np.sqrt(pair.sums(pair.squared, area) / n)
        inside = pair.target if where.all() else pair.target[:, where]
        axes = tuple(range(1, inside.ndim))
        scale = np.ptp(inside, axis=axes) if self.by == "range" else inside.mean(axes)
        known = scale > 0
        return np.concatenate([np.where(known, rmse / np.where(known, scale, 1), 0), known])

    def value(self, sums: Sums) -> float:
        """See Metric."""
        each = self.table(sums)
        return float(np.nanmean(each)) if np.isfinite(each).any() else float("nan")

    @staticmethod
    def table(sums: Sums) -> Sums:
        """(C,): the normalised RMSE of each band, NaN where it is not defined."""
        total, count = sums.reshape(2, -1)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)


@dataclass(frozen=True)
class R2:
    """Coefficient of determination, 1 - SSE / SST of each band, averaged over bands. NaN for a constant target.

    Sums per band: squared errors, then of the target as `Moments`; then pixels.
    """

    def state(self, pair: Pair, area: Mask | None = None) -> Sums:
        """See Metric."""
        target = Apart.of(pair.target, pair.where(area))
        return np.concatenate([pair.sums(pair.squared, area), *Moments.of(target, target), [pair.count(area)]])

    def value(self, sums: Sums) -> float:
        """See Metric."""
        sse, *target = sums[:-1].reshape(5, -1)
        spread, size = Moments(*target).together(sums[-1])
        known = spread > CONSTANT * np.maximum(size, EPSILON)
        return float(np.mean(1 - sse[known] / spread[known])) if known.any() else float("nan")


@dataclass(frozen=True)
class Correlation:
    """Pearson's correlation of each band, averaged over bands. NaN where either image is constant.

    Sums: `Moments` of prediction with itself, target with itself, both; then pixels.
    """

    def state(self, pair: Pair, area: Mask | None = None) -> Sums:
        """See Metric."""
        p, t = (Apart.of(image, pair.where(area)) for image in (pair.prediction, pair.target))
        each = [Moments.of(a, b) for a, b in ((p, p), (t, t), (p, t))]
        return np.concatenate([*(column for moments in each for column in moments), [pair.count(area)]])

    def value(self, sums: Sums) -> float:
        """See Metric."""
        rows = sums[:-1].reshape(12, -1)
        (p, size_p), (t, size_t), (both, _) = (Moments(*rows[k : k + 4]).together(sums[-1]) for k in (0, 4, 8))
        known = (p > CONSTANT * np.maximum(size_p, EPSILON)) & (t > CONSTANT * np.maximum(size_t, EPSILON))
        together = both[known] / np.sqrt(p[known] * t[known])
        return float(np.clip(together, -1, 1).mean()) if known.any() else float("nan")


class Apart(NamedTuple):
    """An image less its mean per band, over some pixels: small numbers, of which float32 loses little."""

    values: NDArray[np.float32]  # (C, N), 0 at other pixels
    total: Sums  # (C,) sum of the image
    pixels: int

    @staticmethod
    def of(image: Image, where: Mask) -> Apart:
        """Of the pixels of `where` (H, W)."""
        weight, flat = where.ravel().astype(np.float32), image.reshape(len(image), -1)
        n, whole = int(np.count_nonzero(where)), bool(where.all())
        total = (flat if whole else flat * weight).sum(1, dtype=np.float64)
        values = flat - (total / max(n, 1)).astype(np.float32)[:, None]
        return Apart(values if whole else values * weight, total, n)


class Moments(NamedTuple):
    """How two images vary together around their means, per band (C,): sums that may be added, and keep small variations.

    A sum of raw squares loses a small variation around a large mean to rounding. So each image brings its variation around
    its own means (`within`), and the products of its means for what lies between images.
    """

    within: Sums  # sum of (a - mean a) (b - mean b)
    a: Sums  # sum of a
    b: Sums
    product: Sums  # pixels times mean a times mean b

    @staticmethod
    def of(a: Apart, b: Apart) -> Moments:
        """Of one image beside another, over the same pixels."""
        within = (a.values * b.values).sum(1).astype(np.float64)
        return Moments(within, a.total, b.total, a.total * b.total / max(a.pixels, 1))

    def together(self, n: float) -> tuple[Sums, Sums]:
        """(C,) the variation around the means over all images that were added, `n` pixels; and the size of the sums.

        What lies between images counts only where it is more than the rounding of stored sums: nothing, of a single image.
        """
        expected = self.a * self.b / max(n, 1)
        between = self.product - expected
        size = np.abs(self.product) + np.abs(self.within)
        return self.within + np.where(np.abs(between) > ROUNDING * size, between, 0), size
