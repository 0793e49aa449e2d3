"""Radar through the year as anomalies: dB minus the mean of the same orbit at the pixel, smoothed in space and time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unclouded.models.temporal import Floats, Mask

SIGMA_DAYS = 6.0
REACH_DAYS = 18
HALO = 3  # pixels: the wide mean is 7 x 7
ROWS = 64  # at once


def anomalies(
    s1: Floats, valid: Mask, s1_days: NDArray[np.int64], orbits: NDArray[np.int64] | None, days: NDArray[np.int64]
) -> tuple[Floats, Floats]:
    """dB (T1, 2, H, W) -> anomalies at the optical `days` (T, 4, H, W), and the mean (4, H, W).

    Channels: VV, VH in 3 x 3 pixels, then in 7 x 7. Relative orbits look at the ground from different angles: each is compared
    with its own mean; where the orbit is unknown, acquisitions of one orbit recur every 6 days (12 for one satellite).
    Where radar is missing the anomaly is 0. Worked out a few rows at a time, which stay in the processor's cache.
    """
    keys = s1_days % 6 if orbits is None or (orbits < 0).any() else orbits
    height = s1.shape[2]
    out, ground = np.empty((len(days), 4, *s1.shape[2:]), np.float32), np.empty((4, *s1.shape[2:]), np.float32)
    for first in range(0, height, ROWS):
        rows = slice(first, min(first + ROWS, height))
        around = slice(max(first - HALO, 0), min(first + ROWS + HALO, height))
        inner = slice(rows.start - around.start, rows.stop - around.start)
        some, mean = _anomalies(s1[:, :, around], valid[:, around], s1_days, keys, days)
        out[:, :, rows], ground[:, rows] = some[:, :, inner], mean[:, inner]
    return out, ground


def _anomalies(
    s1: Floats, valid: Mask, s1_days: NDArray[np.int64], keys: NDArray[np.int64], days: NDArray[np.int64]
) -> tuple[Floats, Floats]:
    seen = valid.astype(np.float32)
    dB = np.where(valid[:, None], s1, np.float32(0))
    mean = _mean(dB, seen)
    away = np.zeros_like(dB)
    for key in np.unique(keys):
        of = keys == key
        centre = _mean(dB[of], seen[of])
        away[of] = (dB[of] - centre) * seen[of][:, None]
    out = np.zeros((len(days), 4, *s1.shape[2:]), np.float32)
    for t, day in enumerate(days):
        near = np.flatnonzero(np.abs(s1_days - day) <= REACH_DAYS)
        total, weight = np.zeros_like(mean), np.zeros(s1.shape[2:], np.float32)
        for k in near:
            g = np.float32(np.exp(-0.5 * ((s1_days[k] - day) / SIGMA_DAYS) ** 2))
            total += g * away[k]
            weight += g * seen[k]
        for at, radius in ((slice(0, 2), 1), (slice(2, 4), 3)):
            out[t, at] = boxed(total, radius) / np.maximum(boxed(weight[None], radius), np.float32(1e-6))
    ground = [boxed(mean, radius) / boxed(np.ones_like(mean), radius) for radius in (1, 3)]
    return out, np.concatenate(ground)


def _mean(dB: Floats, seen: Floats) -> Floats:
    total, count = np.zeros_like(dB[0]), np.zeros(seen.shape[1:], np.float32)
    for x, s in zip(dB, seen, strict=True):
        total += x
        count += s
    mean: Floats = total / np.maximum(count, 1)
    return mean


def boxed(x: Floats, radius: int) -> Floats:
    """Sums over (2 radius + 1)^2 pixels, zero outside. Added in a fixed order, so that no pixel depends on the cut."""
    for axis in (-2, -1):
        wide = np.pad(x, [(radius, radius) if a == x.ndim + axis else (0, 0) for a in range(x.ndim)])
        size = x.shape[axis]
        shifted = [wide[..., k : k + size, :] if axis == -2 else wide[..., k : k + size] for k in range(2 * radius + 1)]
        x = shifted[0].copy()
        for part in shifted[1:]:
            x += part
    return x
