from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from unclouded.errors import RecordError
from unclouded.metrics.average import POOL_ALL, average
from unclouded.metrics.pair import Pair, measure
from unclouded.metrics.pixel import R2, BandErrors, BandRmse, Bias, Correlation, Mae, Mse, NormalisedRmse, Psnr, Rmse
from unclouded.metrics.spectral import Ergas, NdviError, Sam, SamImage, SamOfMeanCosine, angles
from unclouded.metrics.structural import Ssim, Uqi

ALL = (
    Mae(), Mse(), Rmse(), Psnr(), Bias(), BandRmse(), BandErrors(), NormalisedRmse(), R2(), Correlation(), Sam(), SamImage(),
    SamOfMeanCosine(), Ergas(), Ssim(), Ssim("zero"), Uqi(), NdviError("B04", "B08"),
)  # fmt: skip
BANDS = ("B04", "B08")


def image(seed, bands=2, size=16):
    return np.random.default_rng(seed).uniform(0.05, 0.9, (bands, size, size)).astype(np.float32)


def two_by_two():
    """Errors 0.1, -0.1, 0.3, 0 in one band of 2 x 2 pixels."""
    target = np.array([[[0.2, 0.4], [0.4, 0.6]]], np.float32)
    return target + np.array([[[0.1, -0.1], [0.3, 0.0]]], np.float32), target


def test_hand_computed():
    prediction, target = two_by_two()
    pair = Pair(prediction, target)
    assert measure(Mae(), pair) == pytest.approx(0.125)
    assert measure(Mse(), pair) == pytest.approx(0.11 / 4)
    assert measure(Rmse(), pair) == pytest.approx(np.sqrt(0.0275))
    assert measure(Psnr(), pair) == pytest.approx(-10 * np.log10(0.0275), rel=1e-6)
    assert measure(Psnr(peak=5.0), pair) == pytest.approx(20 * np.log10(5 / np.sqrt(0.0275)), rel=1e-6)
    assert measure(Bias(), pair) == pytest.approx(0.075)
    assert measure(NormalisedRmse(), pair) == pytest.approx(np.sqrt(0.0275) / 0.4)
    assert measure(NormalisedRmse("mean"), pair) == pytest.approx(np.sqrt(0.0275) / 0.4)  # mean and range are both 0.4
    assert measure(R2(), pair) == pytest.approx(1 - 0.11 / 0.08, rel=1e-5)
    assert measure(Ergas(), pair) == pytest.approx(100 * np.sqrt(0.0275) / 0.4, rel=1e-5)
    assert measure(Correlation(), pair) == pytest.approx(np.corrcoef(prediction.ravel(), target.ravel())[0, 1], rel=1e-5)


def test_area_takes_its_pixels_only():
    prediction, target = two_by_two()
    left = np.array([[True, False], [True, False]])
    assert measure(Mae(), Pair(prediction, target), left) == pytest.approx(0.2)
    assert measure(Mae(), Pair(prediction, target), ~left) == pytest.approx(0.05)


def test_band_table():
    prediction, target = image(1), image(2)
    bias, mae, rmse = BandErrors.table(BandErrors().state(Pair(prediction, target)))
    error = (prediction - target).astype(np.float64)
    np.testing.assert_allclose(bias, error.mean((1, 2)), atol=1e-6)
    np.testing.assert_allclose(mae, np.abs(error).mean((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(rmse, np.sqrt((error**2).mean((1, 2))), rtol=1e-5)
    assert measure(BandErrors(), Pair(prediction, target)) == pytest.approx(measure(Rmse(), Pair(prediction, target)))


@pytest.mark.parametrize("metric", ALL, ids=lambda m: type(m).__name__)
def test_empty_area_is_nan(metric):
    pair = Pair(image(1), image(2), bands=BANDS)
    assert np.isnan(measure(metric, pair, np.zeros((16, 16), bool)))


@pytest.mark.parametrize("metric", ALL, ids=lambda m: type(m).__name__)
def test_what_lies_under_invalid_pixels_never_counts(metric):
    prediction, target = image(1), image(2)
    valid = np.ones((16, 16), bool)
    valid[:2, 5:] = False
    clean = measure(metric, Pair(prediction, target, valid, bands=BANDS))
    for junk in (np.nan, np.inf, 1e30, -1e30):
        dirty_p, dirty_t = prediction.copy(), target.copy()
        dirty_p[:, ~valid], dirty_t[:, ~valid] = junk, junk
        assert measure(metric, Pair(dirty_p, dirty_t, valid, bands=BANDS)) == clean
        if not np.isfinite(junk):  # not finite is not valid, whether anyone said so or not
            assert measure(metric, Pair(dirty_p, dirty_t, bands=BANDS)) == clean
    assert np.isfinite(clean)


PERFECT = {"R2": 1, "Correlation": 1, "Ssim": 1, "Uqi": 1, "Psnr": np.inf}


@pytest.mark.parametrize("metric", ALL, ids=lambda m: type(m).__name__)
def test_a_perfect_prediction(metric):
    found = measure(metric, Pair(image(3), image(3), bands=BANDS))
    assert found == pytest.approx(PERFECT.get(type(metric).__name__, 0), abs=1e-3 if isinstance(metric, SamImage) else 1e-6)


def test_psnr_of_equal_images_by_name():
    assert measure(Psnr(equal=100.0), Pair(image(3), image(3))) == 100


@settings(max_examples=40, deadline=None)
@given(
    hnp.arrays(np.float32, (2, 2, 6, 6), elements=st.floats(0.0078125, 1, width=32)),
    st.floats(0.125, 4, width=32),
)
def test_scaling(images, factor):
    pair = Pair(*images)
    scaled = Pair(images[0] * np.float32(factor), images[1] * np.float32(factor))
    for metric in (Mae(), Rmse(), BandRmse()):
        assert measure(metric, scaled) == pytest.approx(factor * measure(metric, pair), rel=1e-4, abs=1e-6)
    for metric in (Sam(), SamImage(), Ergas(), NormalisedRmse()):
        assert measure(metric, scaled) == pytest.approx(measure(metric, pair), rel=1e-3, abs=2e-2, nan_ok=True)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=2, max_size=6, unique=True), st.randoms(use_true_random=False))
def test_order_of_images_does_not_matter_per_image_and_pooled(seeds, random):
    shuffled = seeds.copy()
    random.shuffle(shuffled)
    for metric in (Mae(), Psnr(), Sam(), Ssim("zero_5")):
        each = [np.stack([metric.state(Pair(image(s), image(s + 100))) for s in order]) for order in (seeds, shuffled)]
        for pooled in (1, POOL_ALL):
            assert average(metric, each[0], pooled).value == pytest.approx(average(metric, each[1], pooled).value, rel=1e-6)


def test_pooling_is_the_metric_of_the_joined_image():
    a, b, c, d = (image(k) for k in range(4))
    for metric in (Mae(), Rmse(), Psnr(), Sam(), SamImage(), Correlation(), R2(), Ergas(), BandRmse(), Bias()):
        states = np.stack([metric.state(Pair(a, b)), metric.state(Pair(c, d))])
        joined = measure(metric, Pair(np.concatenate([a, c], 1), np.concatenate([b, d], 1)))
        assert average(metric, states, POOL_ALL).value == pytest.approx(joined, rel=1e-5), metric


def test_averages_by_hand():
    metric = Rmse()  # images with squared errors 1, 4, 16 over one value each
    states = np.array([[1.0, 1], [4.0, 1], [16.0, 1]])
    assert average(metric, states) == (pytest.approx((1 + 2 + 4) / 3), 3)
    assert average(metric, states, POOL_ALL) == (pytest.approx(np.sqrt(7)), 3)
    assert average(metric, states, 2) == (pytest.approx((2 * np.sqrt(2.5) + 4) / 3), 3)  # the short batch counts by its images
    gap = np.array([[1.0, 1], [0.0, 0], [9.0, 1]])
    assert average(metric, gap) == (pytest.approx(2), 2)
    assert np.isnan(average(metric, np.array([[0.0, 0]])).value)
    assert np.isnan(average(metric, np.empty((0, 2))).value)
    assert average(Psnr(), np.array([[0.0, 1], [1.0, 1]])).value == np.inf


def test_per_image_psnr_is_never_below_pooled():
    """-log is convex; the two conventions differ by the spread of the errors over images."""
    states = np.array([[1e-4, 1], [1e-2, 1]])
    assert average(Psnr(), states).value == pytest.approx(30)
    assert average(Psnr(), states, POOL_ALL).value == pytest.approx(-10 * np.log10(0.00505))


def test_known_angles():
    target = np.zeros((2, 1, 3), np.float32)
    target[0] = 1  # along the first axis
    prediction = np.array([[[1, 1, 0]], [[0, 1, 2]]], np.float32)  # 0, 45 and 90 degrees
    np.testing.assert_allclose(np.degrees(angles(prediction, target)), [[0, 45, 90]], atol=1e-4)
    pair = Pair(prediction, target)
    assert measure(Sam(), pair) == pytest.approx(45)
    assert measure(Sam("radians"), pair) == pytest.approx(np.pi / 4)
    assert measure(SamOfMeanCosine(), pair) == pytest.approx(np.degrees(np.arccos((1 + np.sqrt(0.5)) / 3)), rel=1e-5)
    # one angle of the whole image: product 2, lengths sqrt(3) and sqrt(7)
    assert measure(SamImage(), pair) == pytest.approx(np.degrees(np.arccos(2 / np.sqrt(21))), rel=1e-6)


@pytest.mark.parametrize(("zeros", "expected"), [("skip", 45.0), ("nan", np.nan), ("zero", 22.5)])
def test_spectra_without_length_by_name(zeros, expected):
    prediction, target = np.ones((2, 1, 2), np.float32), np.zeros((2, 1, 2), np.float32)
    target[0, 0, 0] = 1  # 45 degrees at the first pixel, no length at the second
    assert measure(Sam("degrees", zeros), Pair(prediction, target)) == pytest.approx(expected, nan_ok=True)


def test_small_angles_survive_float32():
    target = np.full((13, 4, 4), 0.3, np.float32)
    prediction = target.copy()
    prediction[0] += np.float32(3e-5)
    exact = np.arccos(np.float64(prediction[:, 0, 0]) @ target[:, 0, 0] / np.linalg.norm(np.float64(prediction[:, 0, 0]))
                      / np.linalg.norm(np.float64(target[:, 0, 0])))  # fmt: skip
    assert measure(Sam("radians"), Pair(prediction, target)) == pytest.approx(exact, rel=2e-2)


def test_ndvi():
    target = np.array([[[0.1, 0.001]], [[0.3, 0.001]]], np.float32)  # NDVI 0.5; the second pixel is too dark to count
    prediction = np.array([[[0.2, 0.5]], [[0.2, 0.5]]], np.float32)  # NDVI 0
    assert measure(NdviError(), Pair(prediction, target, bands=BANDS)) == pytest.approx(0.5)
    with pytest.raises(RecordError, match="no band B08"):
        measure(NdviError(), Pair(prediction, target, bands=("B04", "B02")))


def test_constant_bands_have_no_range_r2_or_correlation():
    flat = np.full((1, 4, 4), 0.2, np.float32)
    for metric in (NormalisedRmse(), R2(), Correlation()):
        assert np.isnan(measure(metric, Pair(flat + np.float32(0.1), flat)))


def test_selected_bands_are_the_metric_of_those_bands():
    prediction, target = image(1, 4, 24), image(2, 4, 24)
    whole = Pair(prediction, target, bands=("B02", "B03", "B04", "B10"))
    measure(Ssim(), whole), measure(Sam(), whole)  # maps that the part may reuse, and one that it may not
    part, own = whole.select([0, 1, 2]), Pair(prediction[:3], target[:3])
    assert part.bands == ("B02", "B03", "B04")
    for metric in (Mae(), Ssim(), Sam(), Psnr()):
        assert measure(metric, part) == pytest.approx(measure(metric, own), rel=1e-6)


@pytest.mark.parametrize(
    "arguments",
    [
        (np.zeros((2, 3, 3)), np.zeros((2, 3, 4))),
        (np.zeros((3, 3)), np.zeros((3, 3))),
        (np.zeros((2, 3, 3)), np.zeros((2, 3, 3)), np.ones((3, 4), bool)),
    ],
)
def test_shapes_that_disagree_are_refused(arguments):
    with pytest.raises(RecordError):
        Pair(*arguments)


def test_small_variation_around_a_large_mean_is_not_lost():
    """Mean 0.3, sigma 0.0005 on 256 x 256: sums of raw squares in float32 gave R2 wrong in the third digit."""
    rng = np.random.default_rng(5)
    target = (0.3 + rng.normal(0, 5e-4, (13, 256, 256))).astype(np.float32)
    prediction = (target + rng.normal(0, 3e-4, target.shape)).astype(np.float32)
    p, t = (x.reshape(13, -1).astype(float) for x in (prediction, target))
    r2 = np.mean(1 - ((p - t) ** 2).sum(1) / ((t - t.mean(1, keepdims=True)) ** 2).sum(1))
    corr = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(p, t, strict=True)])
    for metric, expected in ((R2(), r2), (Correlation(), corr)):
        sums = metric.state(Pair(prediction, target))
        stored = np.array([float(f"{x:.9g}") for x in sums])  # as an evaluation keeps them
        assert metric.value(sums) == pytest.approx(expected, abs=1e-5)
        assert metric.value(stored) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("metric", [R2(), Correlation()])
def test_variation_between_images_counts_when_they_are_pooled(metric):
    rng = np.random.default_rng(6)
    parts = [(np.float32(m) + rng.normal(0, 0.01, (2, 2, 8, 8))).astype(np.float32) for m in (0.1, 0.3, 0.32)]
    sums = sum(metric.state(Pair(*part)) for part in parts)
    whole = Pair(*np.concatenate(parts, 2))
    assert metric.value(sums) == pytest.approx(metric.value(metric.state(whole)), rel=1e-5)
