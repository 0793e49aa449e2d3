"""Improved precision, recall and F1 between two sets of images in a feature space: Kynkaanniemi 2019, Ebel 2020 App. B.

The features come from a network that the caller gives (Ebel 2020: the second fully connected layer of VGG16).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.floating]  # (N, D), one row per image
CHUNK = 512  # rows of the distance matrix held at once


class Manifold(NamedTuple):
    """Precision: generated images that look real. Recall: real images that generated ones cover. F1: harmonic mean."""

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """2 P R / (P + R); 0 where both are 0."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else both


def precision_recall(real: Features, generated: Features, *, k: int = 10, itself_counts: bool = True) -> Manifold:
    """Both shares for features (N, D) and (M, D); NaN where a set is empty.

    A feature lies on a set's manifold if it is inside the sphere around any member that reaches to its k-th neighbour.
    `itself_counts`: a member is its own first neighbour, as Ebel 2020 counts (k = 10 passes the sample and the eight that
    overlap it); Kynkaanniemi 2019 does not count it.
    """
    if not len(real) or not len(generated):
        return Manifold(float("nan"), float("nan"))
    return Manifold(_inside(generated, real, k, itself_counts), _inside(real, generated, k, itself_counts))


def _distances(a: Features, b: Features) -> NDArray[np.float64]:
    """Squared distances (len a, len b), from differences of means-free features so that rounding stays small."""
    middle = b.mean(0)
    u, v = np.asarray(a - middle, np.float64), np.asarray(b - middle, np.float64)
    return np.asarray(np.maximum((u**2).sum(1)[:, None] + (v**2).sum(1) - 2 * u @ v.T, 0))


def _radii(members: Features, k: int, itself_counts: bool) -> NDArray[np.float64]:
    """Squared distance of every member to its k-th neighbour; the farthest where there are fewer."""
    at = min(k - 1 if itself_counts else k, len(members) - 1)
    rows = []
    for start in range(0, len(members), CHUNK):
        near = _distances(members[start : start + CHUNK], members)
        near[np.arange(len(near)), start + np.arange(len(near))] = 0  # itself, exactly
        rows.append(np.partition(near, at, axis=1)[:, at])
    return np.concatenate(rows)


def _inside(queries: Features, members: Features, k: int, itself_counts: bool) -> float:
    radii = _radii(members, k, itself_counts)
    found = [
        (_distances(queries[start : start + CHUNK], members) <= radii * (1 + 1e-9)).any(1)
        for start in range(0, len(queries), CHUNK)
    ]
    return float(np.concatenate(found).mean())
