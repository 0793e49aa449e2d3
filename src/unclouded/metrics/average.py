"""From sums per image to one number: the mean over images, over batches, or of everything pooled. The one accumulator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unclouded.metrics.pair import Metric, SetMetric

POOL_ALL = 0
POOL_SERIES = -1  # the images of one series make one value; see `series_sums`


class Average(NamedTuple):
    """A number and over how many defined values it is the mean."""

    value: float
    images: int


def series_sums(states: NDArray[np.float64], series: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Sums (N, K) of images added up by the series (N names) they belong to: (M, K), and where each series begins.

    What POOL_SERIES means: the frames of a series are pooled before a value is taken, then series are averaged.
    """
    if not len(states):
        return states, np.empty(0, np.intp)
    _, first, member = np.unique(np.asarray(series), return_index=True, return_inverse=True)
    total = np.zeros((len(first), states.shape[1]))
    np.add.at(total, member, states)
    order = np.argsort(first)
    return total[order], first[order]


def values(metric: Metric, states: NDArray[np.float64], pooled: int = 1) -> NDArray[np.float64]:
    """The values (M,) of images (N, K) pooled in groups of `pooled`, in their order: 1 each image, POOL_ALL all together."""
    if not len(states):
        return np.empty(0)
    size = len(states) if pooled == POOL_ALL else pooled
    if size == 1:
        return np.array([metric.value(row) for row in states])
    groups = [states[start : start + size] for start in range(0, len(states), size)]
    return np.array([metric.value(group.sum(0)) for group in groups])


def average(metric: Metric, states: NDArray[np.float64], pooled: int = 1) -> Average:
    """The mean of the defined values; NaN and 0 where there is none.

    A batch counts by its images, as Keras and a running mean over loaders with a last short batch do.
    """
    if isinstance(metric, SetMetric):
        whole = metric.over(states) if len(states) else float("nan")
        return Average(whole, 0 if np.isnan(whole) else len(states))
    each = values(metric, states, pooled)
    size = max(1, len(states) if pooled == POOL_ALL else pooled)
    weights = np.array([min(size, len(states) - n * size) for n in range(len(each))], np.float64)
    known = ~np.isnan(each)
    if not known.any():
        return Average(float("nan"), 0)
    mean = float(np.average(each[known], weights=weights[known])) if np.isfinite(each[known]).all() else float("inf")
    return Average(mean, int(weights[known].sum()))
