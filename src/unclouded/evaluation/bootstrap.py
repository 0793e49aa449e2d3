"""How sure a number is: bootstrap over regions, and the paired comparison of two models on the same images.

Patches of one region overlap and resemble each other, so regions are drawn, never patches. With fewer than two regions that
have a value there is no interval, and none is printed.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unclouded.metrics.average import POOL_ALL, average, values
from unclouded.metrics.pair import Metric, SetMetric

EXACT = 14  # up to 2^14 sign patterns are counted out; above, as many are drawn


class Interval(NamedTuple):
    """A percentile interval; NaN where it cannot be known."""

    low: float
    high: float


NO_INTERVAL = Interval(float("nan"), float("nan"))


class Difference(NamedTuple):
    """Mean of A minus B over images both have, its interval, the chance of as large a difference between equals, A's wins."""

    mean: float
    interval: Interval
    p: float
    wins: float  # share of the images where A is larger
    images: int


def by_region(regions: Sequence[str]) -> list[NDArray[np.intp]]:
    """Positions of the images of every region, regions in order of their names."""
    names = np.asarray(regions)
    return [np.flatnonzero(names == name) for name in sorted(set(regions))]


def interval(
    metric: Metric, states: NDArray[np.float64], regions: Sequence[str], *, pooled: int = 1, level: float = 0.95,
    draws: int = 1000, seed: int = 0,
) -> Interval:  # fmt: skip
    """The interval of `average(metric, states, pooled)` when regions are drawn anew, with replacement.

    Regions without a value (no hidden pixel, say) are not drawn: they say nothing of how values differ between regions.
    """
    each = values(metric, states) if pooled == 1 and not isinstance(metric, SetMetric) else None
    groups = [g for g in by_region(regions) if _has_value(metric, states[g], pooled, None if each is None else each[g])]
    if len(groups) < 2:
        return NO_INTERVAL
    rng = np.random.default_rng(seed)
    if each is not None:
        found = _means(each, groups, rng, draws)
    elif pooled == POOL_ALL and not isinstance(metric, SetMetric):
        sums = np.stack([states[g].sum(0) for g in groups])
        drawn = rng.integers(0, len(groups), (draws, len(groups)))
        found = np.array([metric.value(sums[d].sum(0)) for d in drawn])
    else:
        drawn = rng.integers(0, len(groups), (draws, len(groups)))
        found = np.array([average(metric, states[np.concatenate([groups[k] for k in d])], pooled).value for d in drawn])
    return _percentiles(found, level)


def _has_value(metric: Metric, states: NDArray[np.float64], pooled: int, each: NDArray[np.float64] | None) -> bool:
    """Whether a region has a value to draw: that of an image, where `each` image has one, else that of its pool."""
    if each is not None:
        return bool(np.isfinite(each).any())
    return not np.isnan(average(metric, states, pooled).value)


def _means(
    each: NDArray[np.float64], groups: list[NDArray[np.intp]], rng: np.random.Generator, draws: int
) -> NDArray[np.float64]:
    """Means of drawn regions, from the sum and count of each."""
    known = np.isfinite(each)
    sums = np.array([each[g][known[g]].sum() for g in groups])
    counts = np.array([known[g].sum() for g in groups])
    drawn = rng.integers(0, len(groups), (draws, len(groups)))
    total = counts[drawn].sum(1)
    return np.where(total > 0, sums[drawn].sum(1) / np.maximum(total, 1), np.nan)


def _percentiles(found: NDArray[np.float64], level: float) -> Interval:
    known = found[np.isfinite(found)]
    if not known.size:
        return NO_INTERVAL
    low, high = np.percentile(known, (50 * (1 - level), 50 * (1 + level)))
    return Interval(float(low), float(high))


def paired(
    a: NDArray[np.float64], b: NDArray[np.float64], regions: Sequence[str], *, seed: int = 0, draws: int = 1000
) -> Difference:
    """Two models' values (N,) on the same images. Images where either is not finite leave both.

    p: regions change sides together (sign flips), counted out up to 2^14 patterns, two-sided; it cannot be below
    2 / 2^regions. NaN with fewer than two regions.
    """
    both = np.isfinite(a) & np.isfinite(b)
    if not both.any():
        return Difference(float("nan"), NO_INTERVAL, float("nan"), float("nan"), 0)
    difference = (a - b)[both]
    groups = by_region(np.asarray(regions)[both].tolist())
    if len(groups) < 2:
        return Difference(float(difference.mean()), NO_INTERVAL, float("nan"), float((difference > 0).mean()), difference.size)
    rng = np.random.default_rng(seed)
    sums = np.array([difference[g].sum() for g in groups])
    bounds = _percentiles(_means(difference, groups, rng, draws), 0.95)
    return Difference(
        float(difference.mean()), bounds, _sign_flips(sums, rng), float((difference > 0).mean()), int(difference.size)
    )


def _sign_flips(sums: NDArray[np.float64], rng: np.random.Generator) -> float:
    if len(sums) <= EXACT:
        signs = np.array(list(product((-1.0, 1.0), repeat=len(sums))))
    else:
        signs = np.vstack([np.ones(len(sums)), rng.choice((-1.0, 1.0), (2**EXACT - 1, len(sums)))])
    reached = np.abs(signs @ sums) >= abs(sums.sum()) * (1 - 1e-12)
    return float(reached.mean())


def holm(p: Sequence[float]) -> list[float]:
    """P values of several comparisons, each corrected for the others (Holm 1979); NaN stays NaN and does not count."""
    known = [k for k in range(len(p)) if np.isfinite(p[k])]
    corrected, floor = list(p), 0.0
    for rank, k in enumerate(sorted(known, key=lambda k: p[k])):
        floor = max(floor, min(1.0, p[k] * (len(known) - rank)))
        corrected[k] = floor
    return corrected
