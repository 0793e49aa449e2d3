"""Where definitions agree, other libraries give the same numbers: scikit-image and torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage import metrics as skimage
from torchmetrics import functional

from unclouded.metrics.pair import Pair, measure
from unclouded.metrics.pixel import R2, Correlation, Mae, Mse, Psnr, Rmse
from unclouded.metrics.spectral import Ergas, Sam
from unclouded.metrics.structural import Ssim, Window, ssim_map


@pytest.fixture(scope="module")
def images():
    """Prediction and target (5, 48, 64)."""
    rng = np.random.default_rng(3)
    target = rng.uniform(0.02, 0.6, (5, 48, 64)).astype(np.float32)
    return np.clip(target + rng.normal(0, 0.08, target.shape), 0, 1).astype(np.float32), target


def test_torchmetrics_agrees(images):
    p, t = (torch.from_numpy(image) for image in images)
    pair, flat = Pair(*images), (p.reshape(5, -1).T, t.reshape(5, -1).T)
    oracle = {
        Mae(): functional.mean_absolute_error(p, t),
        Mse(): functional.mean_squared_error(p, t),
        Rmse(): functional.mean_squared_error(p, t, squared=False),
        Psnr(): functional.image.peak_signal_noise_ratio(p, t, data_range=1.0),
        Psnr(peak=5.0): functional.image.peak_signal_noise_ratio(p, t, data_range=5.0),
        Sam("radians"): functional.image.spectral_angle_mapper(p[None], t[None]),
        Ergas(scale=0.25): functional.image.error_relative_global_dimensionless_synthesis(p[None], t[None], ratio=4),
        R2(): functional.r2_score(*flat, multioutput="uniform_average"),
        Correlation(): functional.pearson_corrcoef(*flat).mean(),
    }
    for metric, expected in oracle.items():
        assert measure(metric, pair) == pytest.approx(float(expected), rel=2e-4), metric


def test_torchmetrics_similarity_is_ours_with_mirrored_borders(images):
    prediction, target = images
    ours = ssim_map(prediction, target, Window(border="reflect"), 0.01**2, 0.03**2).mean()
    p, t = (torch.from_numpy(image)[None] for image in images)
    expected = functional.image.structural_similarity_index_measure(p, t, data_range=1.0)
    assert ours == pytest.approx(float(expected), rel=2e-5)


def test_scikit_image_agrees(images):
    prediction, target = images
    pair = Pair(prediction, target)
    assert measure(Psnr(), pair) == pytest.approx(skimage.peak_signal_noise_ratio(target, prediction, data_range=1), rel=1e-5)
    assert measure(Mse(), pair) == pytest.approx(skimage.mean_squared_error(target, prediction), rel=1e-5)
    own = skimage.normalized_root_mse(target, prediction, normalization="min-max") * np.ptp(target)
    assert measure(Rmse(), pair) == pytest.approx(own, rel=1e-5)
    uniform = skimage.structural_similarity(target, prediction, win_size=7, data_range=1.0, channel_axis=0)
    assert measure(Ssim("uniform_7", sample=True), pair) == pytest.approx(uniform, rel=1e-4)
