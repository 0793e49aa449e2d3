"""How good a network is while it trains: the usual metrics over the first validation samples, full size, clipped to [0, 1]."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from unclouded.metrics.average import average
from unclouded.metrics.pair import Metric, Pair
from unclouded.metrics.pixel import Mae, Psnr
from unclouded.metrics.spectral import Sam
from unclouded.metrics.structural import Ssim
from unclouded.sample import Batch, Prediction, Sample

METRICS: dict[str, Metric] = {"psnr": Psnr(), "ssim": Ssim(), "sam": Sam(), "mae": Mae()}
Image = NDArray[np.float32]


def restored(remover: Callable[[Batch], Prediction], sample: Sample, device: torch.device | str = "cpu") -> Image:
    """The image (C, H, W) in reflectance that a remover makes of one sample."""
    with torch.no_grad():
        made = remover(Batch.stack([sample]).to(device)).s2[0]
    image: Image = made.float().cpu().numpy()
    return image


def scores(samples: Sequence[Sample], images: Sequence[Image]) -> dict[str, float]:
    """Mean over images of PSNR (dB), SSIM, SAM (degrees) and MAE (reflectance), over valid pixels."""
    pairs = [_pair(sample, image) for sample, image in zip(samples, images, strict=True)]
    return {name: average(metric, np.stack([metric.state(pair) for pair in pairs])).value for name, metric in METRICS.items()}


def _pair(sample: Sample, image: Image) -> Pair:
    assert sample.target is not None
    known = np.where(np.isfinite(image), np.clip(image, 0, 1), image)
    return Pair(known, np.clip(sample.target, 0, 1), sample.target_valid, bands=sample.place.bands)
