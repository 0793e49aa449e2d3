"""Tiny fakes: ground of known reflectance, clouds and shadows put over it where the test says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from unclouded.bands import L1C, L2A
from unclouded.raster import open_raster
from unclouded.sample import Level, Place, Sample, as_days

SKY = {"B01": 0.085, "B02": 0.065, "B03": 0.035, "B04": 0.015}
# Typical reflectance at the top of the atmosphere by band (B01..B12, L1C order), rounded.
SPECTRA: dict[str, tuple[float, ...]] = {
    "meadow": (0.12, 0.09, 0.09, 0.06, 0.11, 0.26, 0.32, 0.34, 0.36, 0.12, 0.001, 0.20, 0.11),
    "soil": (0.14, 0.13, 0.14, 0.18, 0.20, 0.22, 0.24, 0.26, 0.28, 0.12, 0.001, 0.34, 0.28),
    "water": (0.12, 0.09, 0.07, 0.04, 0.035, 0.03, 0.025, 0.02, 0.018, 0.01, 0.001, 0.012, 0.008),
    "turbid": (0.14, 0.14, 0.16, 0.15, 0.14, 0.09, 0.08, 0.07, 0.05, 0.02, 0.001, 0.015, 0.010),
    "snow": (0.85, 0.85, 0.82, 0.80, 0.79, 0.77, 0.76, 0.75, 0.72, 0.40, 0.002, 0.08, 0.06),
    "roof": (0.26, 0.30, 0.34, 0.40, 0.42, 0.43, 0.44, 0.46, 0.46, 0.20, 0.001, 0.50, 0.46),
    "cloud": (0.60, 0.58, 0.57, 0.58, 0.60, 0.61, 0.62, 0.63, 0.63, 0.40, 0.030, 0.45, 0.35),
    "cirrus": (0.15, 0.12, 0.12, 0.09, 0.14, 0.28, 0.34, 0.36, 0.38, 0.15, 0.020, 0.22, 0.13),
}


def image(cover: np.ndarray, bands: tuple[str, ...] = L1C, level: Level | None = None) -> np.ndarray:
    """An (H, W) array of names of `SPECTRA` -> reflectance (C, H, W) float32; at L2A (L2A's bands) without the sky above."""
    below = level == "L2A" if level else bands == L2A
    out = np.zeros((len(bands), *cover.shape), np.float32)
    for name in np.unique(cover):
        for k, band in enumerate(bands):
            sky = SKY.get(band, 0.0) if below else 0.0
            out[k, cover == name] = SPECTRA[str(name)][L1C.index(band)] - sky
    return out


def ground(name: str, shape: tuple[int, int] = (40, 44)) -> np.ndarray:
    return np.full(shape, name, dtype="<U8")


def sample(s2: np.ndarray, *, level: Level = "L1C", bands: tuple[str, ...] | None = None, days=None, **more) -> Sample:
    """Images (T, C, H, W) or (C, H, W) as a Sample, all of it valid unless `s2_valid` says otherwise."""
    s2 = s2 if s2.ndim == 4 else s2[None]
    names = bands or {13: L1C, 12: L2A}[s2.shape[1]]
    dates = as_days(days) if days is not None else np.datetime64("2020-06-01") + 5 * np.arange(len(s2))
    more.setdefault("s2_valid", np.ones((len(s2), *s2.shape[2:]), bool))
    return Sample(
        place=Place(id="fake", bands=names, level=level), s2=np.ascontiguousarray(s2, np.float32), s2_dates=dates, **more
    )


def poisoned(clean: Sample, value: float) -> Sample:
    """The same sample with a value under every pixel that was not measured."""
    s2 = np.where(clean.s2_valid[:, None], clean.s2, np.float32(value))
    return replace(clean, s2=s2)


def pixels(path: Path) -> np.ndarray:
    """All bands (C, H, W) of a raster as they are stored."""
    with open_raster(path) as file:
        return file.read()
