"""Parity with the numbers that the code of the authors gives (goldens dsen2cr_*, metrics_identity, crts_eval_uce)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from unclouded.metrics.areas import adaptive_target
from unclouded.metrics.average import POOL_ALL, average
from unclouded.metrics.calibration import Uce, discarded, uce_as_published
from unclouded.metrics.pair import Pair, measure
from unclouded.metrics.pixel import BandRmse, Mae, Mse, Psnr, Rmse
from unclouded.metrics.spectral import Sam
from unclouded.metrics.structural import WINDOWS, Ssim

# The goldens were computed in float32, where arccos loses up to 1e-6 rad near 0.02 rad: golden 0.0230861, exact 0.0230855.
ARCCOS_NOISE = 2e-6


def pairs(predictions, references):
    return [Pair(p, t) for p, t in zip(predictions, references, strict=True)]


def over(metric, members, areas=None, pooled=POOL_ALL):
    states = [metric.state(pair, None if areas is None else areas[k]) for k, pair in enumerate(members)]
    return average(metric, np.stack(states), pooled).value


def dsen2cr(prediction, target, given, csm):
    """The twelve metrics of DSen2-CR's image_metrics.py, values in [0, 5]."""
    hidden = [m[0] > 0.5 for m in csm]
    clear = [~m for m in hidden]
    to_target, to_input = pairs(prediction, target), pairs(prediction, given)
    composite = [adaptive_target(t, i, m) for t, i, m in zip(target, given, hidden, strict=True)]
    sam = Sam("radians", "nan")
    return {
        "carl_error": over(Mae(), pairs(prediction, composite)) + over(Mae(), to_target),
        "cloud_mean_absolute_error": over(Mae(), to_target),
        "cloud_mean_squared_error": over(Mse(), to_target),
        "cloud_root_mean_squared_error": over(Rmse(), to_target),
        "cloud_bandwise_root_mean_squared_error": over(BandRmse(), to_target, pooled=1),
        "cloud_ssim": over(Ssim("valid", peak=5.0), to_target),
        "cloud_mean_sam": over(sam, to_target),
        "cloud_mean_sam_covered": over(sam, to_target, hidden),
        "cloud_mean_sam_clear": over(sam, to_input, clear),
        "cloud_psnr": over(Psnr(peak=5.0), to_target),
        "cloud_mean_absolute_error_clear": over(Mae(), to_input, clear),
        "cloud_mean_absolute_error_covered": over(Mae(), to_target, hidden),
    }


def assert_golden(found, golden, prefix):
    assert len(found) == 12
    for name, value in found.items():
        noise = ARCCOS_NOISE if "sam" in name else 1e-30
        np.testing.assert_allclose(value, float(golden[prefix + name]), rtol=1e-5, atol=noise, err_msg=prefix + name)


@pytest.mark.parametrize("case", ["synthetic", "synthetic_close"])
def test_dsen2cr_metrics(golden: Path, case):
    z = np.load(golden / "dsen2cr_metrics.npz")
    found = dsen2cr(*(z[f"in/{case}/{k}"] for k in ("pred", "target", "input_cloudy", "csm")))
    assert_golden(found, z, f"out/{case}/")


@pytest.mark.parametrize("share", [0, 1])
def test_dsen2cr_metrics_with_an_empty_and_a_full_mask(golden: Path, share):
    z = np.load(golden / "dsen2cr_metrics.npz")
    images = [z[f"in/synthetic_close/{k}"] for k in ("pred", "target", "input_cloudy")]
    found = dsen2cr(*images, np.full_like(z["in/synthetic_close/csm"], share))
    assert np.isnan(found["cloud_mean_sam_clear" if share else "cloud_mean_sam_covered"])
    assert_golden(found, z, f"out/synthetic_close_mask{share}/")


def test_dsen2cr_model_metrics(golden: Path):
    z = np.load(golden / "dsen2cr_keras_mask.npz")
    assert_golden(dsen2cr(z["out/y"][:, :13], z["in/target"], z["in/opt"], z["in/cloud_mask"]), z, "loss/")


@pytest.mark.parametrize("case", ["synthetic", "synthetic_close"])
def test_glfcr_and_uncrtaints_metrics(golden: Path, case):
    z = np.load(golden / "metrics_identity.npz")
    members = pairs(z[f"in/{case}/pred"], z[f"in/{case}/target"])
    areas = [m[0] for m in z[f"in/{case}/mask"]]
    found = {
        "glfcr/PSNR": over(Psnr(equal=100), members),
        "glfcr/SSIM": over(Ssim("zero_off_centre"), members),
        "glfcr/PSNR_masked": over(Psnr(equal=100), members, areas),
        "uncrtaints/RMSE": over(Rmse(), members),
        "uncrtaints/MAE": over(Mae(), members),
        "uncrtaints/PSNR": over(Psnr(), members),
        "uncrtaints/SAM": over(Sam("degrees", "nan"), members),
        "uncrtaints/SSIM": over(Ssim("zero"), members),
        "fp64/MSE": over(Mse(), members),
        "fp64/MAE": over(Mae(), members),
    }
    for name, value in found.items():
        noise = np.degrees(ARCCOS_NOISE) if "SAM" in name else 0
        np.testing.assert_allclose(value, float(z[f"out/{case}/{name}"]), rtol=1e-5, atol=noise, err_msg=name)


def test_ssim_windows_are_those_of_the_code_bases(golden: Path):
    z = np.load(golden / "metrics_identity.npz")
    np.testing.assert_allclose(WINDOWS["zero"].weights, z["aux/uncrt_gaussian_11"], rtol=1e-5)
    np.testing.assert_allclose(WINDOWS["zero_off_centre"].weights, z["aux/glf_gaussian_11"], rtol=1e-5)


@pytest.mark.parametrize(("mode", "to_reflectance"), [("resnet", lambda x: x / 5), ("default", lambda x: (x + 1) / 2)])
def test_sen12mscrts_metrics(golden: Path, mode, to_reflectance):
    z = np.load(golden / "crts_eval_uce.npz")
    inputs = np.stack([z[f"in/S2_{k}"][0] for k in range(3)])
    covered = np.stack([z[f"in/mask_{k}"][0, 0] for k in range(3)]) > 0.5
    assert covered.mean((1, 2)).argmin() == z[f"out/{mode}/least_cloudy_idx"]
    anywhere = covered.any(0)
    for kind, prediction in (("least_cloudy", inputs[2]), ("mosaic", to_reflectance(z[f"out/{mode}/mosaic"][0]))):
        pair = Pair(prediction, z["in/B"][0])
        found = {
            "RMSE": measure(Rmse(), pair), "RMSE_cloudy": measure(Rmse(), pair, anywhere),
            "RMSE_cloudfree": measure(Rmse(), pair, ~anywhere), "MAE": measure(Mae(), pair),
            "MAE_cloudy": measure(Mae(), pair, anywhere), "MAE_cloudfree": measure(Mae(), pair, ~anywhere),
            "PSNR": measure(Psnr(), pair), "SAM": measure(Sam("radians", "nan"), pair), "SSIM": measure(Ssim("zero"), pair),
        }  # fmt: skip
        for name, value in found.items():
            np.testing.assert_allclose(value, float(z[f"out/{mode}/{kind}/{name}"]), rtol=1e-5, err_msg=f"{kind}/{name}")


@pytest.mark.parametrize("l2", [True, False])
def test_uce_and_auce_as_published(golden: Path, l2):
    z = np.load(golden / "crts_eval_uce.npz")
    variance, error = z["out/uce/in_var"], z["out/uce/in_err"]
    found = uce_as_published(variance, error, l2=l2)
    np.testing.assert_allclose(found, [float(z[f"out/uce/{n}_l2_{l2}"]) for n in ("uce", "auce")], rtol=1e-5)
    states = np.stack([error, variance], axis=1).astype(np.float64)
    assert average(Uce(l2=l2), states, POOL_ALL) == (pytest.approx(found.uce), 500)
    assert average(Uce(plain=True, l2=l2), states, POOL_ALL).value == pytest.approx(found.auce)


def test_discard_plot(golden: Path):
    z = np.load(golden / "crts_eval_uce.npz")
    found = discarded(z["out/uce/in_var"], np.abs(z["out/uce/in_err"]))
    np.testing.assert_allclose(found, z["out/uce/ece_sorted_abs"], rtol=1e-5)


def test_every_number_in_the_json_is_in_the_arrays(golden: Path):
    told = json.loads((golden / "dsen2cr_metrics.json").read_text())["values"]
    assert {len(metrics) for metrics in told.values()} == {12}
