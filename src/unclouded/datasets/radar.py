"""Sentinel-1 over the simulated place: backscatter of the same mixtures, terrain and orbit, and correlated speckle.

Speckle of a ground-range detected image: intensity is the mean of looks of a complex Gaussian field (Goodman 1976) whose
neighbouring pixels are correlated, because 10 m pixels sample a coarser resolution cell. 4.4 equivalent looks (ESA, Sentinel-1
Product Definition, IW GRDH).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unclouded.datasets.climates import backscatter
from unclouded.datasets.ground import Ground, Mixture
from unclouded.datasets.lattice import Field, key, normal_pair, smooth, uniform

LOOKS = (1.0, 1.0, 1.0, 1.0, 0.2207)  # weights with (sum w)^2 / sum w^2 = 4.4
NEIGHBOUR = 0.35  # amplitude weight of the neighbouring pixel: correlation 0.56 in amplitude, 0.32 in intensity
NOISE_FLOOR = 10 ** (-2.85)
ASCENDING, DESCENDING = 88, 110  # relative orbits
MARGIN = 1


def sigma0(ground: Ground, mixture: Mixture, orbit: int, day: np.datetime64) -> Field:
    """Backscatter without speckle, linear power (2, H, W) [VV, VH]."""
    mean = np.zeros((2, *ground.water.shape), np.float32)
    for power, share in zip(backscatter(), mixture.shares, strict=True):
        mean[0] += power[0] * share
        mean[1] += power[1] * share
    open_soil = mixture.share("soil") + mixture.share("red soil") + mixture.share("wet soil") + mixture.share("straw")
    db = ground.rough * np.minimum(open_soil, 1) + 0.35 * ground.texture * (1 - ground.water)
    db = db + 1.5 * ground.crowns * ground.forest
    db = db - np.float32(4.5 * mixture.thaw) * mixture.share("snow")
    db = db + _facing(ground, orbit) + _wind(ground, day) * ground.water
    lit = np.where(uniform(key(ground.seed, "corner", orbit), ground.rows[:, None], ground.cols[None, :]) < 0.6, 1.0, 0.1)
    bright = 1 + ground.corner * lit.astype(np.float32)
    out: Field = mean * np.power(np.float32(10), db / 10) * bright + np.float32(NOISE_FLOOR)
    return out


def _facing(ground: Ground, orbit: int) -> Field:
    """dB by slope: ground that faces the radar is brighter. Ascending orbits look east (about 80 degrees), descending west."""
    look = np.radians(80.0 if orbit == ASCENDING else 280.0)
    towards = -(ground.east * np.float32(np.sin(look)) + ground.north * np.float32(np.cos(look)))
    along = smooth(key(ground.seed, "orbit", orbit), ground.rows, ground.cols, 120)
    return np.clip(-14 * towards, -6, 8) + np.float32(0.3) * along


def _wind(ground: Ground, day: np.datetime64) -> Field:
    """dB over water: rougher in wind."""
    number = np.array([int(day.astype("datetime64[D]").astype(np.int64))])
    speed = float(uniform(key(ground.seed, "wind"), number)[0])
    return np.float32(8 * speed * speed) + np.float32(0.8) * smooth(
        key(ground.seed, "gusts", int(number[0])), ground.rows, ground.cols, 60
    )


def speckle(salt: int, rows: NDArray[np.int64], cols: NDArray[np.int64]) -> Field:
    """Unit-mean multi-look intensity (H, W): gamma distributed with 4.4 looks, correlated between neighbours."""
    r, c = np.arange(rows[0] - 1, rows[-1] + 2), np.arange(cols[0] - 1, cols[-1] + 2)
    total = np.zeros((len(rows), len(cols)), np.float32)
    scale = np.float32(1 / (2 * (1 + 2 * NEIGHBOUR**2) ** 2 * sum(LOOKS)))
    for look, weight in enumerate(LOOKS):
        for part in normal_pair(salt + 101 * look, r, c):
            total += np.float32(weight) * spread(part, np.float32(NEIGHBOUR)) ** 2
    return total * scale


def spread(image: Field, side: np.float32) -> Field:
    """Convolve (..., H + 2, W + 2) with [side, 1, side] along both axes -> (..., H, W)."""
    tall = side * (image[..., :-2, :] + image[..., 2:, :]) + image[..., 1:-1, :]
    return side * (tall[..., :-2] + tall[..., 2:]) + tall[..., 1:-1]


def acquire(ground: Ground, mixture: Mixture, orbit: int, day: np.datetime64) -> Field:
    """One acquisition over the ground's window less `MARGIN` on every side: dB (2, H, W) [VV, VH]."""
    mean = spread(sigma0(ground, mixture, orbit, day), np.float32(0.5)) / 4
    rows, cols = ground.rows[MARGIN:-MARGIN], ground.cols[MARGIN:-MARGIN]
    number = int(day.astype("datetime64[D]").astype(np.int64))
    looks = np.stack([speckle(key(ground.seed, "speckle", number, p), rows, cols) for p in range(2)])
    return 10 * np.log10(np.maximum(mean * looks, np.float32(1e-6)))
