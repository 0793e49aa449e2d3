"""Errors per pixel and band: MAE, MSE, RMSE, nRMSE, bias, PSNR, correlation and R2.

All over the pixels of an area and all bands together unless said otherwise. Reflectance, unless values were scaled before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from unclouded.metrics.pair import Mask, Pair, Sums, ratio

EPSILON = np.finfo(np.float64).tiny


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

    Sums per band: squared errors, target, target squared; then pixels.
    """

    def state(self, pair: Pair, area: Mask | None = None) -> Sums:
        """See Metric."""
        each = [pair.sums(layers, area) for layers in (pair.squared, pair.target, np.square(pair.target))]
        return np.concatenate([*each, [pair.count(area)]])

    def value(self, sums: Sums) -> float:
        """See Metric."""
        sse, total, squares = sums[:-1].reshape(3, -1)
        spread = squares - total**2 / max(sums[-1], 1)
        known = spread > 1e-6 * np.maximum(squares, EPSILON)  # below that it is rounding
        return float(np.mean(1 - sse[known] / spread[known])) if known.any() else float("nan")


@dataclass(frozen=True)
class Correlation:
    """Pearson's correlation of each band, averaged over bands. NaN where either image is constant.

    Sums per band: prediction, target, prediction squared, target squared, product; then pixels.
    """

    def state(self, pair: Pair, area: Mask | None = None) -> Sums:
        """See Metric."""
        p, t = pair.prediction, pair.target
        return np.concatenate([*(pair.sums(x, area) for x in (p, t, p * p, t * t, p * t)), [pair.count(area)]])

    def value(self, sums: Sums) -> float:
        """See Metric."""
        p, t, pp, tt, pt = sums[:-1].reshape(5, -1)
        n = max(sums[-1], 1)
        spread_p, spread_t = pp - p * p / n, tt - t * t / n
        known = (spread_p > 1e-6 * np.maximum(pp, EPSILON)) & (spread_t > 1e-6 * np.maximum(tt, EPSILON))
        together = (pt - p * t / n)[known] / np.sqrt(spread_p[known] * spread_t[known])
        return float(np.clip(together, -1, 1).mean()) if known.any() else float("nan")
