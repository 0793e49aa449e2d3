from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from unclouded.bands import L1C
from unclouded.errors import InputMissing, InputUnsupported, UsageError
from unclouded.evaluation.baselines import BASELINES, NEVER_SEEN, baseline, mosaicing
from unclouded.evaluation.presets import PRESETS, Crop, preset
from unclouded.evaluation.scoring import (
    as_stored,
    automatic,
    classify,
    crop_window,
    prepare,
    roi_of,
    score,
    scored_input,
    season_of,
    stretched_to_8_bit,
)
from unclouded.metrics.average import average
from unclouded.metrics.structural import WINDOWS
from unclouded.sample import Batch, Cover, Place, Sample

DAY = np.datetime64("2020-06-01", "D")


def made(dates=1, side=32, bands=L1C, place="ROIs1158_spring_1_p1", **changed):
    rng = np.random.default_rng(0)
    target = rng.uniform(0.05, 0.5, (len(bands), side, side)).astype(np.float32)
    s2 = np.repeat(target[None], dates, 0) + np.float32(0.01)
    cloud = np.zeros((dates, side, side), np.float32)
    cloud[0, : side // 2] = 1
    s2[0, :, : side // 2] = 0.9
    sample = Sample(
        place=Place(id=place, bands=bands, level="L1C"), s2=s2, s2_valid=np.ones((dates, side, side), bool),
        s2_dates=DAY + np.arange(dates), cloud=cloud, target=target, target_valid=np.ones((side, side), bool),
        target_date=DAY, target_index=0,
    )  # fmt: skip
    return replace(sample, **changed)


def values(name, sample, prediction, sigma=None, mask="given"):
    by = PRESETS[name]
    scores = score(by, prepare(by, sample, mask), prediction, sigma)
    return {row.name: row.metric.value(np.array(scores.sums[row.name])) for row in by.rows}


def test_ids():
    assert roi_of("ROIs1158_spring_106_p30") == "ROIs1158_spring_106"
    assert roi_of("ROIs1158_spring_1_p30") != roi_of("ROIs1158_spring_106_p30")
    assert season_of("ROIs1970_fall_139_p839") == "fall"
    assert roi_of("ROIs1158_spring/106/p30") == "ROIs1158_spring/106"
    assert roi_of("ROIs2017/146/patch_0@2018-08-24<2018-01-31") == "ROIs2017/146"
    assert roi_of("T31UDS") == roi_of("T31UDS@2018-01-01") == "T31UDS"
    assert season_of("T31UDS") == season_of("ROIs2017/146/patch_0@2018-08-24") == season_of("ROIs2017/146/patch_0") == ""
    assert season_of("ROIs2017_winter/108/p3") == "winter"


def test_perfect_prediction_under_unclouded_v1():
    sample = made()
    found = values("unclouded-v1", sample, sample.target)
    for name in ("MAE", "RMSE", "SAM", "MAE hidden", "bias", "NDVI error", "RMSE pooled", "MAE unclipped"):
        assert found[name] == 0, name
    for name in ("SSIM", "R2", "correlation"):
        assert found[name] == pytest.approx(1), name
    assert found["PSNR"] == 100
    assert np.isnan(found["MAE shadow"])  # the sample's own cloud knows no shadow
    assert np.isnan(found["coverage 90 %"])


def test_a_constant_error_under_unclouded_v1():
    sample = made()
    sigma = np.full(sample.target.shape, 0.02, np.float32)
    prediction = sample.target + np.float32(0.03)
    prediction[:, 16:] -= np.float32(0.02)  # 0.03 where hidden, 0.01 where clear
    found = values("unclouded-v1", sample, prediction, sigma)
    expected = {
        "MAE": 0.02, "MAE hidden": 0.03, "MAE clear": 0.01, "RMSE": np.sqrt(0.0005), "PSNR": -10 * np.log10(0.0005),
        "PSNR hidden": -20 * np.log10(0.03), "bias": 0.02, "MAE without B10": 0.02, "coverage 90 %": 1.0,
        "coverage 50 % hidden": 0.0, "coverage 50 %": 0.5,
    }  # fmt: skip
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-4), name


def test_clipping_by_row():
    sample = made()
    prediction = sample.target.copy()
    prediction[:, 0, 0] = 3.0
    found = values("unclouded-v1", sample, prediction)
    n = sample.target[0].size
    assert found["MAE"] == pytest.approx((1 - sample.target[:, 0, 0]).mean() / n, rel=1e-4)
    assert found["MAE unclipped"] == pytest.approx((3 - sample.target[:, 0, 0]).mean() / n, rel=1e-4)


def test_b10_is_left_out_by_row():
    sample = made()
    prediction = sample.target.copy()
    prediction[L1C.index("B10")] += np.float32(0.13)
    found = values("unclouded-v1", sample, prediction)
    assert found["MAE"] == pytest.approx(0.01, rel=1e-3)
    assert found["MAE without B10"] == 0
    assert found["SSIM"] < found["SSIM without B10"] == pytest.approx(1)


def test_refused_pixels_by_name():
    sample = made()
    prediction = sample.target.copy()
    prediction[:, :4] = np.nan
    v1 = preset("unclouded-v1")
    case = prepare(v1, sample, "given")
    scores = score(v1, case, prediction)
    assert scores.refused == pytest.approx(4 / 32)
    assert v1.row("MAE").metric.value(np.array(scores.sums["MAE"])) == pytest.approx(
        np.abs(0.9 - sample.target[:, :4]).mean() / 8, rel=1e-4
    )
    skipping = replace(v1, refused="skip")
    assert v1.row("MAE").metric.value(np.array(score(skipping, case, prediction).sums["MAE"])) == 0


def test_what_the_target_did_not_measure_never_counts():
    sample = made()
    valid = np.ones((32, 32), bool)
    valid[3:9] = False
    target = sample.target.copy()
    target[:, ~valid] = 1e30
    clean = values("unclouded-v1", made(target_valid=valid), sample.s2[0])
    dirty = values("unclouded-v1", made(target_valid=valid, target=target), sample.s2[0])
    assert clean == pytest.approx(dirty, nan_ok=True)


FILLS = (0.0, np.nan, 1e30, 0.2)


def unmeasured(fill, cloud=True):
    """Two dates, of which the scored one was not measured in its last rows and the target in its first; `fill` lies there."""
    sample = made(dates=2, side=48)
    seen, known = sample.s2_valid.copy(), sample.target_valid.copy()
    seen[0, 40:], known[:3] = False, False
    s2, target = sample.s2.copy(), sample.target.copy()
    s2[0, :, 40:], target[:, :3] = fill, fill
    radar = np.full((1, 2, 48, 48), -12, np.float32)
    radar[:, :, 40:] = fill
    return replace(
        sample, s2=s2, s2_valid=seen, target=target, target_valid=known, cloud=sample.cloud if cloud else None,
        s1=radar, s1_valid=seen[:1], s1_dates=sample.s2_dates[:1],
    )  # fmt: skip


@pytest.mark.parametrize("cloud", [True, False])
@pytest.mark.parametrize("name", sorted(PRESETS))
def test_no_score_depends_on_what_lies_under_an_invalid_pixel(name, cloud):
    """Whatever is restored there, or refused; for the baselines, which hand the input on, and for areas by a detector."""
    by, clean = PRESETS[name], made(dates=2, side=48).target
    refusing = np.where(np.arange(48)[:, None] > 44, np.float32(np.nan), clean + np.float32(0.01))
    found = []
    for fill in FILLS:
        case = prepare(by, unmeasured(fill, cloud), None if cloud else "meraner2020")
        shown = Batch.stack([case.sample])
        guesses = [refusing[:, : case.target.shape[1], : case.target.shape[2]]]
        guesses += [BASELINES[b].predict(shown)[0].numpy() for b in ("identity", "mosaicing", "sar-vv")]
        found.append([score(by, case, guess) for guess in guesses])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_equal(vars(a), vars(b))


def test_refusing_what_the_input_did_not_measure_does_not_pay():
    """A refused pixel takes the value of the input, which is 0 there as the data sets store it."""
    v1, sample = preset("unclouded-v1"), unmeasured(np.nan)
    case = prepare(v1, sample, "given")
    rows = slice(40, 48)
    refused = case.target.copy()
    refused[:, rows] = np.nan
    found = values("unclouded-v1", sample, refused)
    assert found["MAE"] == pytest.approx(case.target[:, rows].mean() * 8 / 45, rel=1e-4)
    assert found["MAE clear"] == found["MAE hidden"] == 0  # neither of the two
    assert score(v1, case, refused).refused == pytest.approx(8 / 45)
    assert score(v1, case, case.target).change == pytest.approx(0.01, rel=1e-4)


def test_meraner_compares_with_the_input_only_where_it_was_measured():
    sample = unmeasured(0.2)
    found = values("meraner2020", sample, np.where(np.arange(48)[:, None] < 40, sample.s2[0], np.float32(0.7)))
    assert found["MAE reprod"] == 0
    code = values("meraner2020_code", sample, as_stored(sample).target)
    clear = 5 * 0.01 * 16 / 45  # rows 24 to 39, of 45 whose target was measured; the other rows are compared with the target
    assert code["carl, adaptive part"] == pytest.approx(clear, rel=1e-3)


def test_meraner_parts():
    """Identity: no reproduction error; reconstruction is the error under the cloud; target mixes both by area."""
    sample = made()
    found = values("meraner2020", sample, sample.s2[0])
    under = np.abs(0.9 - sample.target[:, :16]).mean()
    assert found["MAE reprod"] == 0
    assert found["SAM reprod"] == 0
    assert found["MAE recon"] == pytest.approx(under, rel=1e-5)
    assert found["MAE target"] == pytest.approx((under + 0.01) / 2, rel=1e-4)
    code = values("meraner2020_code", sample, sample.s2[0])
    assert code["mean_absolute_error"] == pytest.approx(5 * found["MAE target"], rel=1e-5)
    assert code["carl, adaptive part"] == pytest.approx(5 * under / 2, rel=1e-5)
    assert code["psnr"] == pytest.approx(found["PSNR"], rel=1e-5)
    assert code["mean_sam"] == pytest.approx(np.radians(found["SAM target"]), rel=1e-5)


def test_covered_in_any_and_in_all():
    sample = made(dates=2)
    prediction = sample.target.copy()
    prediction[:, :16] += np.float32(0.2)  # hidden on the first date only
    found = values("sen12mscrts2022", sample, prediction)
    assert found["NRMSE (cloudy)"] == pytest.approx(0.2, rel=1e-4)
    assert found["NRMSE (clear)"] == 0
    assert np.isnan(found["NRMSE (cloudy), as printed"])  # no pixel is hidden on both
    assert found["NRMSE (clear), as printed"] == pytest.approx(found["NRMSE (all)"])


def test_uncrtaints_drops_an_image_with_a_pixel_of_no_length():
    sample = made()
    prediction = sample.target.copy()
    prediction[:, 0, 0] = 0
    assert np.isnan(values("uncrtaints2023", sample, prediction)["SAM"])
    assert np.isfinite(values("utilise2023", sample, prediction)["SAM"])


def test_preview_forgets_brightness():
    sample = made(bands=("B02", "B03", "B04"))
    twice = values("sen2mtc_preview", sample, sample.target * np.float32(0.5))
    assert twice["PSNR"] > 55  # only rounding to 8 bit is left of an error of half the signal
    assert values("ebel2020", sample, sample.target * np.float32(0.5))["PSNR"] < 20
    stretched = stretched_to_8_bit(sample.target)
    assert (stretched.min(), stretched.max()) == (0, 1)
    np.testing.assert_allclose(stretched * 255, np.rint(stretched * 255), atol=1e-4)


def test_crops():
    assert crop_window(Crop("centre", 128), (256, 256)) == (64, 64, 128, 128)
    assert crop_window(Crop("top-left", 128), (256, 256)) == (0, 0, 128, 128)
    assert crop_window(Crop("centre", 128), (100, 300)) == (0, 86, 100, 128)
    case = prepare(preset("glfcr2022"), made(side=200), "given")
    assert case.sample.shape == (128, 128)
    np.testing.assert_array_equal(case.target, made(side=200).target[:, 36:164, 36:164])
    assert case.areas.cover == 0.5


def test_masks_by_name():
    sample = made()
    name, classes = classify(sample, "auto")
    assert name == "given"
    assert (classes[0, :16] == Cover.THICK).all() and (classes[0, 16:] == Cover.CLEAR).all()
    bare = replace(sample, cloud=None)
    assert classify(bare, "auto")[0] == "meraner2020"
    assert automatic(replace(bare.place, level="L2A")) == automatic(
        Place(id="P", bands=("B02", "B03", "B04", "B08"), level="L1C")
    )
    assert automatic(replace(bare.place, level="L2A")) == "sixband"
    with pytest.raises(InputUnsupported, match="No cloud detector fits"):
        automatic(Place(id="P", bands=("B08",), level="L1C"))
    with pytest.raises(InputMissing):
        classify(bare, "given")
    with pytest.raises(UsageError, match="no cloud detector 'eye'"):
        classify(sample, "eye")
    with pytest.raises(InputMissing):
        prepare(preset("unclouded-v1"), replace(sample, target=None))
    with pytest.raises(InputUnsupported, match="B02"):
        prepare(preset("ebel2020"), made(bands=("B03", "B04")))


def test_mask_on_the_crop_differs_from_mask_on_the_patch():
    """Meraner's shadow test takes its thresholds from the image it is given."""
    rng = np.random.default_rng(4)
    s2 = rng.uniform(0.02, 0.3, (1, 13, 160, 160)).astype(np.float32)
    s2[:, :, 128:] *= np.float32(0.1)
    sample = replace(made(side=160), s2=s2, cloud=None)
    crop = preset("meraner2020_code")
    on_crop, on_patch = (prepare(replace(crop, mask_on=on), sample).areas for on in ("crop", "patch"))
    assert (on_crop.shadow != on_patch.shadow).any()


def test_scored_input_is_the_target_date_or_the_least_covered():
    sample = made(dates=3)
    _, classes = classify(sample, "given")
    assert scored_input(sample, classes) == 0
    assert scored_input(replace(sample, target_index=None), classes) == 1


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_scores_a_perfect_prediction_as_perfect(name):
    sample = made(side=48)
    found = values(name, sample, prepare(PRESETS[name], sample, "given").target)
    for row in PRESETS[name].rows:
        value = found[row.name]
        if row.against == "target" and not np.isnan(value) and row.better != "neither":
            best = {"Psnr": (np.inf, 100), "Ssim": (1,), "Uqi": (1,), "R2": (1,), "Correlation": (1,)}
            expected = best.get(type(row.metric).__name__, (0,))
            assert any(
                value == pytest.approx(e, abs=0.05 if "Image" in type(row.metric).__name__ else 1e-5) for e in expected
            ), row


def test_glfcr_window_is_off_centre_and_the_others_are_not():
    assert WINDOWS["zero_off_centre"].weights[0] < WINDOWS["zero_off_centre"].weights[-1]
    np.testing.assert_allclose(WINDOWS["zero"].weights, WINDOWS["zero"].weights[::-1])


def batch(cloud, s2=None, index=0):
    cloud = np.asarray(cloud, np.float32)
    sample = made(dates=len(cloud), side=2, bands=("B04",), cloud=cloud, target_index=index)
    return Batch.stack([sample if s2 is None else replace(sample, s2=np.asarray(s2, np.float32))])


CLOUDS = [[[1, 1], [0, 0]], [[1, 0], [0, 0]], [[1, 0], [1, 0]]]
S2 = [[[[0.1, 0.1], [0.1, 0.1]]], [[[0.2, 0.2], [0.2, 0.2]]], [[[0.6, 0.6], [0.6, 0.6]]]]


def test_mosaicing_copies_averages_and_fills():
    found = mosaicing(batch(CLOUDS, S2))[0, 0]
    torch.testing.assert_close(found, torch.tensor([[NEVER_SEEN, 0.4], [0.15, 0.3]]))
    assert BASELINES["mosaicing-code-resnet"](batch(CLOUDS, S2)).s2[0, 0, 0, 0] == pytest.approx(0.1)
    assert BASELINES["mosaicing-code-default"](batch(CLOUDS, S2)).s2[0, 0, 0, 0] == pytest.approx(0.75)


def test_mosaicing_of_the_published_code(golden):
    z = np.load(golden / "crts_eval_uce.npz")
    cloud = np.stack([z[f"in/mask_{k}"][0, 0] for k in range(3)])
    s2 = np.stack([z[f"in/S2_{k}"][0] for k in range(3)])
    sample = Sample(
        place=Place(id="golden", bands=L1C, level="L1C"), s2=s2, s2_valid=np.ones(cloud.shape, bool),
        s2_dates=DAY + np.arange(3), cloud=cloud, target_date=DAY, target_index=None,
    )  # fmt: skip
    for mode, to_reflectance in (("resnet", lambda x: x / 5), ("default", lambda x: (x + 1) / 2)):
        found = BASELINES[f"mosaicing-code-{mode}"](Batch.stack([sample])).s2[0].numpy()
        np.testing.assert_allclose(found, to_reflectance(z[f"out/{mode}/mosaic"][0]), atol=1e-6)
    np.testing.assert_array_equal(BASELINES["least-cloudy-input"](Batch.stack([sample])).s2[0], s2[2])


def test_identity_and_least_cloudy():
    assert BASELINES["identity"](batch(CLOUDS, S2)).s2.unique().item() == pytest.approx(0.1)
    assert BASELINES["identity"](batch(CLOUDS, S2, index=None)).s2.unique().item() == pytest.approx(0.2)
    assert BASELINES["least-cloudy-input"](batch(CLOUDS, S2)).s2.unique().item() == pytest.approx(0.2)
    with pytest.raises(UsageError, match="identity"):
        baseline("nothing")


def test_radar_baselines():
    s1 = np.stack([np.full((2, 2), -10.0), np.full((2, 2), -30.0)])[None].astype(np.float32)
    sample = replace(made(side=2), s1=s1, s1_valid=np.ones((1, 2, 2), bool), s1_dates=np.array([DAY]))
    assert BASELINES["sar-vv"](Batch.stack([sample])).s2.unique().item() == pytest.approx(0.6)
    assert BASELINES["sar-vh"](Batch.stack([sample])).s2.unique().item() == 0
    with pytest.raises(InputMissing):
        BASELINES["sar-vv"](Batch.stack([made(side=2)]))


def test_states_add_up_as_the_mean_over_images():
    v1, sample = preset("unclouded-v1"), made()
    case = prepare(v1, sample, "given")
    states = np.array([score(v1, case, sample.target + np.float32(e)).sums["RMSE"] for e in (0.01, 0.03)])
    assert average(v1.row("RMSE").metric, states).value == pytest.approx(0.02, rel=1e-3)
    assert average(v1.row("RMSE").metric, states, 0).value == pytest.approx(np.sqrt(0.0005), rel=1e-3)


def flat(bands, target, prediction, side=32):
    """A sample whose upper half is hidden, and a prediction: constant values per band, in the upper and the lower half."""
    image = np.broadcast_to(np.array(target, np.float32)[:, None, None], (len(bands), side, side)).copy()
    guess = image.copy()
    for half, value in zip((slice(0, side // 2), slice(side // 2, side)), prediction, strict=True):
        guess[:, half] = np.array(value, np.float32)[:, None, None]
    return made(side=side, bands=bands, target=image), guess


ONE_ANGLE = np.arccos(0.05 / (np.sqrt(0.065) * 0.2))  # between 0.2 everywhere and 0.3 in one half, 0.2 in the other
HALF_OFF = {
    "darbaghshahi2021": {"PSNR": -10 * np.log10(0.005), "PSNR cloudy": 20, "PSNR non-cloudy": np.inf},
    "ebel2020": {"MAE": 0.05, "RMSE": np.sqrt(0.005), "PSNR": -10 * np.log10(0.005), "SAM": np.degrees(ONE_ANGLE)},
    "sen12mscrts2022_paper": {
        "NRMSE (all)": np.sqrt(0.005), "NRMSE (cloudy)": 0.1, "NRMSE (clear)": 0, "SAM": ONE_ANGLE,
        "SAM (degrees)": np.degrees(ONE_ANGLE),
    },
    "utilise2023": {"MAE occluded": 0.1, "RMSE occluded": 0.1, "MSE observed": 0, "PSNR": -10 * np.log10(0.005), "SAM": 0},
    "uncrtaints2023": {"MAE": 0.05, "SAM": 0},
    "sen12mscrts2022": {"NRMSE (cloudy)": 0.1, "NRMSE (clear)": 0, "SAM": 0},
    "meraner2020": {"MAE target": 0.05, "MAE recon": 0.1, "RMSE": np.sqrt(0.005), "SAM recon": 0},
    "glfcr2022": {"MAE": 0.05, "SAM": 0, "PSNR": -10 * np.log10(0.005)},
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(HALF_OFF))
def test_an_error_under_the_cloud_by_hand(name):
    """0.2 in every band, 0.3 predicted under the cloud: equal spectra, so only one angle per image sees the error."""
    bands = ("B04", "B03", "B02")
    sample, guess = flat(bands, [0.2] * 3, ([0.3] * 3, [0.2] * 3))
    found = values(name, sample, guess)
    for row, expected in HALF_OFF[name].items():
        assert found[row] == pytest.approx(expected, rel=1e-4, abs=5e-4 if "SAM" in row else 1e-6), row


def test_decloud_pools_and_takes_the_mean_cosine_by_hand():
    sample, guess = flat(("B02", "B03"), [0.2, 0.2], ([0.2, 0.0], [0.2, 0.2]))
    by = preset("decloud")
    case = prepare(by, sample, "given")
    states = [score(by, case, image).sums for image in (guess, sample.target)]
    pooled = {row.name: average(row.metric, np.array([s[row.name] for s in states]), row.pooled).value for row in by.rows}
    assert pooled["PSNR"] == pytest.approx(
        -10 * np.log10(0.2**2 / 8), rel=1e-4
    )  # a quarter of the values of two images, halved
    cosine = (np.cos(np.pi / 4) + 3) / 4  # a quarter of the pixels is off by 45 degrees
    assert pooled["SAM"] == pytest.approx(np.degrees(np.arccos(cosine)), rel=1e-3)
