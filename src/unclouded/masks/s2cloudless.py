"""Sentinel Hub's pixel-based cloud detector (extra `masks`): gradient-boosted trees on ten top-of-atmosphere bands.

The trees come with the package s2cloudless (CC BY-SA 4.0, so never part of this one) and are run by LightGBM directly. Around
them: averaging with a disk, the threshold, dilation, and the soft map of Ebel et al. 2020 (section II-A). The published
settings are in pixels. The trees take ten seconds per megapixel, so a scene is judged in cells of 20 m, or 60 m if it is
large (the size the package was made for), and widened back; a patch given as a sample is judged pixel by pixel.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unclouded.errors import InputMissing
from unclouded.masks import sixband
from unclouded.masks.detection import Detection, Look, band, looking, require, with_nodata
from unclouded.masks.morphology import cell_sums, disk, pixel_metres
from unclouded.sample import Cover, Sample, Window
from unclouded.workers import in_threads

if TYPE_CHECKING:
    from unclouded.scenes.scene import Scene

Mask = NDArray[np.bool_]
Image = NDArray[np.float32]

BANDS = ("B01", "B02", "B04", "B05", "B08", "B8A", "B09", "B10", "B11", "B12")  # in the model's order
MODEL = "models/pixel_s2_cloud_detector_lightGBM_v0.1.txt"
THRESHOLD, AVERAGE_OVER, DILATION = 0.4, 4, 2  # as SEN12MS-CR-TS and UnCRtainTS call it; radii in pixels
HALO = AVERAGE_OVER + DILATION
CELL_METRES, MOST_CELLS = (20.0, 60.0), 400_000  # the first size that leaves so few cells, else the last
COARSE_BLOCK, ROWS = 480, 64  # pixels read and rows of cells judged at a time: what stays in the processor's cache
TREES = 10  # at a time: all 170 do not fit into the processor's cache, which makes them three times slower
_PIXEL: tuple[float, float] = (1.0, 1.0)


def s2cloudless(sample: Sample) -> Detection:
    """Cloud (THICK, THIN by brightness), snow and clear of every date; the probability is the model's own.

    Raises InputUnsupported for L2A or missing bands, InputMissing if the package is not installed.
    """
    require(sample.place, "s2cloudless", BANDS, ("L1C",))
    prob = np.stack([probability(_model_bands(sample, t), sample.s2_valid[t]) for t in range(len(sample.s2))])
    cloud = np.stack([mask_of(p, valid) for p, valid in zip(prob, sample.s2_valid, strict=True)])
    return _detection(sample, cloud, prob)


def of_scene(scene: Scene, i: int, threads: int = 1) -> Look:
    """The detector for date i: pixel by pixel on a small scene, in cells of 20 or 60 m on a large one."""
    require(scene.place, "s2cloudless", BANDS, ("L1C",))
    factor = _factor(scene)
    if factor == 1:
        return looking(scene, i, s2cloudless, HALO)
    prob, valid = coarse_probability(scene, i, factor, threads)
    cloud = mask_of(prob, valid)

    def look(window: Window) -> Detection:
        rows = np.arange(window.row, window.row + window.height) // factor
        cols = np.arange(window.col, window.col + window.width) // factor
        at = np.ix_(rows, cols)
        return _detection(scene.read(window, only=[i]), cloud[at][None], prob[at][None])

    return look


def probability(bands: Image, valid: Mask, threads: int = 1) -> Image:
    """The model's cloud probability (H, W) of one date, from reflectance (10, H, W) in the order of `BANDS`.

    0 where nothing was measured. Raises InputMissing if the package is not installed.
    """
    prob = np.zeros(valid.shape, np.float32)
    if valid.any():
        model, pixels = _model(), np.ascontiguousarray(np.clip(bands[:, valid].T, 0, 1))
        score = np.zeros(len(pixels))
        for first in range(0, model.num_trees(), TREES):
            score += model.predict(pixels, start_iteration=first, num_iteration=TREES, raw_score=True, num_threads=threads)
        prob[valid] = (1 / (1 + np.exp(-score))).astype(np.float32)
    return prob


def mask_of(
    prob: Image, valid: Mask, threshold: float = THRESHOLD, average_over: int = AVERAGE_OVER, dilation: int = DILATION
) -> Mask:
    """Binary mask (H, W): averaged over a disk (mirrored borders, measured pixels only), over the threshold, dilated by a disk.

    A radius of 0 skips its step.
    """
    if average_over:
        weights = disk(average_over, _PIXEL) / disk(average_over, _PIXEL).sum()
        share = ndimage.correlate(valid.astype(np.float64), weights, mode="reflect")
        mean = ndimage.correlate(np.where(valid, prob, 0).astype(np.float64), weights, mode="reflect")
        prob = np.where(share > 1 - 1e-9, mean, mean / np.maximum(share, 1e-9)).astype(np.float32)
    cloud = valid & (prob > np.float32(threshold))
    return ndimage.binary_dilation(cloud, disk(dilation, _PIXEL)) & valid if dilation else cloud


def soft_map(prob: Image) -> Image:
    """The cloud map of Ebel et al. 2020: probabilities (..., H, W) below 0.5 set to 0, smoothed by a Gaussian of sigma 2."""
    kept = np.where(prob < 0.5, np.float32(0), prob)
    smooth: Image = ndimage.gaussian_filter(kept, 2, axes=(-2, -1)).astype(np.float32)
    return np.clip(smooth, 0, 1)


def coarse_probability(scene: Scene, i: int, factor: int, threads: int = 1) -> tuple[Image, Mask]:
    """Probability and validity of date i in cells of `factor` x `factor` pixels (h, w), from the mean of what was measured."""
    cells = ceil(scene.shape[0] / factor), ceil(scene.shape[1] / factor)
    means, known = np.zeros((len(BANDS), *cells), np.float32), np.zeros(cells, bool)
    seen = scene.only(BANDS)

    def average(window: Window) -> None:
        sample = seen.read(window, only=[i])
        count = cell_sums(sample.s2_valid[0].astype(np.float32), factor)
        at = Window(window.row // factor, window.col // factor, *count.shape).slices
        known[at] = count > 0
        for n, name in enumerate(BANDS):
            means[(n, *at)] = cell_sums(band(sample, name)[0], factor) / np.maximum(count, 1)

    for _ in in_threads(average, list(scene.blocks(COARSE_BLOCK // factor * factor)), threads):
        pass
    strips = [slice(row, row + ROWS) for row in range(0, cells[0], ROWS)]
    return np.concatenate([probability(means[:, strip], known[strip], threads) for strip in strips]), known


def _factor(scene: Scene) -> int:
    """Pixels per cell side: 1 for a small scene."""
    pixel, size = max(pixel_metres(scene.place)), scene.shape[0] * scene.shape[1]
    factors = [1, *(max(1, round(metres / pixel)) for metres in CELL_METRES)]
    return next((f for f in factors if size <= MOST_CELLS * f * f), factors[-1])


def _model_bands(sample: Sample, t: int) -> Image:
    at = [sample.place.bands.index(name) for name in BANDS]
    return np.where(sample.s2_valid[t], sample.s2[t, at], np.float32(0))


def _detection(sample: Sample, cloud: Mask, prob: Image) -> Detection:
    classes = np.where(sixband.snow(sample), Cover.SNOW, Cover.CLEAR).astype(np.uint8)
    classes[cloud] = sixband.thickness(sample)[cloud]
    return Detection(classes=with_nodata(classes, sample.s2_valid), probability=np.where(sample.s2_valid, prob, np.float32(0)))


@cache
def _model() -> Any:
    found = find_spec("s2cloudless")
    if found is None or not found.submodule_search_locations or find_spec("lightgbm") is None:
        raise InputMissing(
            "The detector s2cloudless is not installed.", do="pip install 'unclouded[masks]', or use --mask auto."
        )
    from lightgbm import Booster

    return Booster(model_file=str(Path(found.submodule_search_locations[0]) / MODEL))
