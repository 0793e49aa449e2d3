"""Whether a stated uncertainty is true: interval coverage, ENCE, UCE and AUCE, sparsification and AUSE.

`sigma` is the standard deviation of the error. Sets too large to sort are summed in histograms over log sigma (`Spread`);
the functions on arrays are exact, and the histograms agree with them to the width of a bin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from unclouded.metrics.pair import Mask, Pair, Sums, ratio

Floats = NDArray[np.floating]


def interval_width(level: float) -> float:
    """How many sigma on each side hold `level` (in 0..1) of a normal error: 1.645 for 0.9."""
    return float(special.ndtri(0.5 + level / 2))


@dataclass(frozen=True)
class Coverage:
    """The share of errors inside the interval at `level`. Without any sigma: NaN. Sums: inside, values."""

    level: float = 0.9

    def state(self, pair: Pair, area: Mask | None = None) -> Sums:
        """See Metric."""
        if pair.sigma is None:
            return np.zeros(2)
        inside = (pair.absolute <= interval_width(self.level) * pair.sigma).astype(np.float32)
        return np.array([pair.sums(inside * pair.seen, area).sum(), pair.count(area) * len(pair.target)])

    def value(self, sums: Sums) -> float:
        """See Metric."""
        return ratio(sums[0], sums[1])


class Miscalibration(NamedTuple):
    """UCE: the mean over bins weighted by their share; AUCE: the plain mean over bins that hold anything."""

    uce: float
    auce: float


def uce_as_published(variance: Floats, error: Floats, *, bins: int = 20, l2: bool = True) -> Miscalibration:
    """UCE and AUCE as UnCRtainTS's code computes them (Ebel 2023), for one variance and one error per image.

    Bins of equal width between the least and the largest variance: `bins` edges, so that bins - 1 intervals share all and
    the last bin holds the largest alone. The error is what the caller gives; the published code gives the *signed* mean over
    the image, in which errors cancel. l2: root mean squares of both, else means of |error| and of sigma.
    """
    v, e = np.asarray(variance, np.float64).ravel(), np.asarray(error, np.float64).ravel()
    if not v.size:
        return Miscalibration(float("nan"), float("nan"))
    which = np.digitize(v, np.linspace(v.min(), v.max(), bins)[1:])
    return _compare([which == b for b in range(bins)], v, e, l2)


@dataclass(frozen=True)
class Uce:
    """UCE (or AUCE) as published over a set: one point per image, its signed mean error and its mean variance.

    Sums per image: mean error, mean variance. Its number needs all images apart: `over`.
    """

    plain: bool = False  # AUCE instead of UCE
    bins: int = 20
    l2: bool = True

    def state(self, pair: Pair, area: Mask | None = None) -> Sums:
        """See Metric."""
        n = pair.count(area) * len(pair.target)
        if pair.sigma is None or not n:
            return np.full(2, np.nan)
        return np.array([pair.sums(pair.error, area).sum() / n, pair.sums(np.square(pair.sigma), area).sum() / n])

    def value(self, sums: Sums) -> float:
        """Of one image: the gap between its two numbers."""
        return self.over(sums[None])

    def over(self, states: Sums) -> float:
        """Of a set (N, 2); images without sigma do not count."""
        known = states[np.isfinite(states).all(1)]
        return uce_as_published(known[:, 1], known[:, 0], bins=self.bins, l2=self.l2)[int(self.plain)]


def uce_corrected(sigma: Floats, error: Floats, *, bins: int = 20, l2: bool = True) -> Miscalibration:
    """UCE and AUCE of errors per value: `bins` true bins of equal width in variance, weighted by the values in each.

    The error of every value is compared, so that over- and underestimates cannot cancel before they are squared.
    """
    v, e = np.square(np.asarray(sigma, np.float64)).ravel(), np.asarray(error, np.float64).ravel()
    if not v.size:
        return Miscalibration(float("nan"), float("nan"))
    which = np.clip(np.digitize(v, np.linspace(v.min(), v.max(), bins + 1)) - 1, 0, bins - 1)
    return _compare([which == b for b in range(bins)], v, e, l2)


def _compare(members: list[NDArray[np.bool_]], v: Floats, e: Floats, l2: bool) -> Miscalibration:
    gaps, shares = [], []
    for inside in members:
        if inside.any():
            stated = np.sqrt(v[inside].mean()) if l2 else np.sqrt(v[inside]).mean()
            found = np.sqrt(np.square(e[inside]).mean()) if l2 else np.abs(e[inside]).mean()
            gaps.append(abs(stated - found))
            shares.append(inside.mean())
    return Miscalibration(float(np.dot(gaps, shares)), float(np.mean(gaps)))


def ence(sigma: Floats, error: Floats, *, bins: int = 20) -> float:
    """Expected normalised calibration error (Levi 2022): the mean over bins of equal count of |RMV - RMSE| / RMV."""
    s, e = np.asarray(sigma, np.float64).ravel(), np.asarray(error, np.float64).ravel()
    if not s.size:
        return float("nan")
    order = np.argsort(s, kind="stable")
    groups = [g for g in np.array_split(order, min(bins, s.size)) if g.size]
    stated = np.array([np.sqrt(np.square(s[g]).mean()) for g in groups])
    found = np.array([np.sqrt(np.square(e[g]).mean()) for g in groups])
    known = stated > 0
    return float(np.mean(np.abs(stated - found)[known] / stated[known])) if known.any() else float("nan")


def discarded(uncertainty: Floats, error: Floats, *, steps: int = 20) -> NDArray[np.float64]:
    """(steps,): the mean error of the most certain 1/steps, 2/steps ... of the samples (the discard plot of Ebel 2023)."""
    e = np.asarray(error, np.float64).ravel()[np.argsort(np.asarray(uncertainty).ravel(), kind="stable")]
    return np.array([np.nan if not n else e[:n].mean() for n in np.linspace(0, e.size, steps + 1).astype(int)[1:]])


class Sparsification(NamedTuple):
    """RMSE, over that of all values, after the worst share was taken away: by sigma, and by an oracle that knows the error."""

    removed: NDArray[np.float64]
    by_sigma: NDArray[np.float64]
    by_oracle: NDArray[np.float64]

    @property
    def ause(self) -> float:
        """Area between the two curves."""
        return float(np.trapezoid(self.by_sigma - self.by_oracle, self.removed))

    @property
    def ause_share(self) -> float:
        """That area over the area between no order at all (a flat line at 1) and the oracle: 0 perfect, 1 of no use."""
        return ratio(self.ause, float(np.trapezoid(1 - self.by_oracle, self.removed)))


REMOVED = np.linspace(0, 0.95, 20)


def sparsification(sigma: Floats, error: Floats, removed: NDArray[np.float64] = REMOVED) -> Sparsification:
    """Both curves from values, exactly. NaN throughout for an empty set or one without any error."""
    squares = np.square(np.asarray(error, np.float64)).ravel()
    by_sigma = squares[np.argsort(np.asarray(sigma).ravel(), kind="stable")]
    return Sparsification(removed, _kept(by_sigma, removed), _kept(np.sort(squares), removed))


def _kept(squares: NDArray[np.float64], removed: NDArray[np.float64]) -> NDArray[np.float64]:
    if not squares.size or not squares.sum():
        return np.full(len(removed), np.nan)
    totals = np.concatenate([[0], np.cumsum(squares)])
    count = np.maximum(1, np.round((1 - removed) * squares.size)).astype(int)
    return np.asarray(np.sqrt(totals[count] / count / squares.mean()))


BINS = 120
EDGES = np.logspace(-5, 0.5, BINS - 1)  # of sigma and of |error|: a bin is 11 % wide; below and above lie two more


@dataclass(frozen=True)
class Spread:
    """Sigma against error over any number of values, in histograms; its value is the ENCE over `groups` of equal count.

    Sums: by bins of sigma the count, the squared sigma, the squared error; by bins of |error| the count, the squared error.
    """

    groups: int = 20

    def state(self, pair: Pair, area: Mask | None = None) -> Sums:
        """See Metric."""
        if pair.sigma is None:
            return np.zeros(5 * BINS)
        where = pair.where(area)
        sigma, error = pair.sigma[:, where].ravel(), pair.absolute[:, where].ravel()
        squares = np.square(error, dtype=np.float64)
        at, by = np.digitize(sigma, EDGES), np.digitize(error, EDGES)
        columns = (
            np.bincount(at, minlength=BINS), np.bincount(at, np.square(sigma, dtype=np.float64), BINS),
            np.bincount(at, squares, BINS), np.bincount(by, minlength=BINS), np.bincount(by, squares, BINS),
        )  # fmt: skip
        return np.concatenate(columns).astype(np.float64)

    def value(self, sums: Sums) -> float:
        """See Metric."""
        stated, found = self.reliability(sums)
        known = stated > 0
        return float(np.mean(np.abs(stated - found)[known] / stated[known])) if known.any() else float("nan")

    def reliability(self, sums: Sums) -> tuple[Sums, Sums]:
        """(groups,) root mean variance and RMSE of groups of equal count, in ascending order of sigma."""
        count, variance, squares = sums.reshape(5, BINS)[:3]
        if not count.sum():
            return np.empty(0), np.empty(0)
        ends = np.linspace(0, count.sum(), self.groups + 1)
        held, var, sse = (np.diff(_up_to(column, count, ends)) for column in (count, variance, squares))
        return np.sqrt(var / held), np.sqrt(sse / held)

    def sparsification(self, sums: Sums) -> Sparsification:
        """Both curves from the histograms."""
        count, _, squares, of_error, error_squares = sums.reshape(5, BINS)
        total = count.sum()
        if not total or not squares.sum():
            return Sparsification(REMOVED, *(np.full(len(REMOVED), np.nan),) * 2)
        kept = (1 - REMOVED) * total
        mean = squares.sum() / total
        curves = [np.sqrt(_up_to(s, n, kept) / kept / mean) for s, n in ((squares, count), (error_squares, of_error))]
        return Sparsification(REMOVED, *curves)

    @staticmethod
    def median_sigma(sums: Sums) -> float:
        """The sigma that half of the values stay under, to the width of a bin (sharpness)."""
        count, variance = sums.reshape(5, BINS)[:2]
        if not count.sum():
            return float("nan")
        at = int(np.searchsorted(np.cumsum(count), count.sum() / 2))
        return float(np.sqrt(variance[at] / count[at]))


def _up_to(column: Sums, count: Sums, ends: Sums) -> Sums:
    """The sum of a column over the first `ends` values, a bin being spread evenly over its count."""
    return np.interp(ends, np.concatenate([[0], np.cumsum(count)]), np.concatenate([[0], np.cumsum(column)]))
