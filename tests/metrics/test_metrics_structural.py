from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from skimage.metrics import structural_similarity

from unclouded.metrics.pair import Pair, measure
from unclouded.metrics.structural import WINDOWS, Ssim, Uqi, Window, blur


def smooth(seed, shape=(3, 40, 53)):
    rng = np.random.default_rng(seed)
    return ndimage.gaussian_filter(rng.random(shape), (0, 2, 2)).astype(np.float32)


@pytest.mark.parametrize("name", ["zero", "zero_5", "zero_off_centre"])
def test_blur_is_correlation_with_the_window(name):
    image, window = smooth(1, (1, 70, 131)).astype(np.float64), WINDOWS[name]
    expected = ndimage.correlate1d(image, window.weights, 1, mode="constant")
    expected = ndimage.correlate1d(expected, window.weights, 2, mode="constant")
    np.testing.assert_allclose(blur(image, window), expected, atol=1e-12)


def test_blur_with_mirrored_border():
    image, window = smooth(1, (1, 20, 130)).astype(np.float64), Window(border="reflect")
    expected = ndimage.correlate1d(image, window.weights, 1, mode="mirror")
    np.testing.assert_allclose(blur(image, window), ndimage.correlate1d(expected, window.weights, 2, mode="mirror"), atol=1e-12)


def test_valid_is_the_inside_of_any_border():
    image = smooth(2, (2, 90, 75)).astype(np.float64)
    np.testing.assert_allclose(blur(image, WINDOWS["valid"]), blur(image, WINDOWS["zero"])[:, 5:-5, 5:-5], atol=1e-12)


def test_against_scikit_image():
    a, b = smooth(1), smooth(2)
    gaussian = structural_similarity(
        a.astype(float), b.astype(float), channel_axis=0, data_range=1.0, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False,
    )  # fmt: skip
    assert measure(Ssim("valid"), Pair(a, b)) == pytest.approx(gaussian, abs=2e-6)
    uniform = structural_similarity(a.astype(float), b.astype(float), channel_axis=0, data_range=1.0)
    assert measure(Ssim("uniform_7", sample=True), Pair(a, b)) == pytest.approx(uniform, abs=2e-6)


def test_peak_scales_the_constants():
    a, b = smooth(1), smooth(2)
    scaled = measure(Ssim(peak=5.0), Pair(a * np.float32(5), b * np.float32(5)))
    assert scaled == pytest.approx(measure(Ssim(), Pair(a, b)), abs=1e-5)


def test_constant_images_by_formula():
    a, b = np.full((1, 20, 20), 0.5, np.float32), np.full((1, 20, 20), 0.25, np.float32)
    expected = (2 * 0.5 * 0.25 + 1e-4) / (0.5**2 + 0.25**2 + 1e-4)
    assert measure(Ssim(), Pair(a, b)) == pytest.approx(expected, rel=1e-5)
    assert measure(Uqi(), Pair(a, b)) == pytest.approx(2 * 0.5 * 0.25 / (0.5**2 + 0.25**2))
    assert measure(Uqi(), Pair(0 * a, 0 * b)) == 1


def test_floor_lifts_opposed_structures():
    a = smooth(3)
    mean = a.mean((1, 2), keepdims=True)
    opposed = 2 * mean - a
    assert measure(Ssim("zero_5"), Pair(opposed, a)) < measure(Ssim("zero_5", floor=0.0), Pair(opposed, a))


def test_uqi_by_the_formula_in_one_window():
    rng = np.random.default_rng(5)
    a, b = rng.random((2, 1, 8, 8)).astype(np.float32)
    x, y = a.astype(float).ravel(), b.astype(float).ravel()
    cov = ((x - x.mean()) * (y - y.mean())).mean()
    expected = 4 * cov * x.mean() * y.mean() / ((x.var() + y.var()) * (x.mean() ** 2 + y.mean() ** 2))
    assert measure(Uqi(), Pair(a, b)) == pytest.approx(expected, rel=1e-6)


def test_area_counts_windows_by_their_middle():
    a, b = smooth(1), smooth(2)
    area = np.zeros(a.shape[1:], bool)
    area[20, 30] = True
    inside = structural_similarity(
        a[:, 15:26, 25:36].astype(float), b[:, 15:26, 25:36].astype(float), channel_axis=0, data_range=1.0,
        gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    )  # fmt: skip
    assert measure(Ssim(), Pair(a, b), area) == pytest.approx(inside, abs=2e-6)
    border = np.zeros(a.shape[1:], bool)
    border[:5] = True  # no window has its middle there
    assert np.isnan(measure(Ssim(), Pair(a, b), border))


def test_windows_that_touch_an_invalid_pixel_do_not_count():
    a, b = smooth(1), smooth(2)
    valid = np.ones(a.shape[1:], bool)
    valid[:, :20] = False
    assert measure(Ssim(), Pair(a, b, valid)) == pytest.approx(measure(Ssim(), Pair(a[:, :, 20:], b[:, :, 20:])), abs=1e-6)


def test_images_smaller_than_the_window_have_none():
    assert np.isnan(measure(Ssim(), Pair(smooth(1, (2, 10, 30)), smooth(2, (2, 10, 30)))))
    assert np.isfinite(measure(Ssim("zero"), Pair(smooth(1, (2, 10, 30)), smooth(2, (2, 10, 30)))))
