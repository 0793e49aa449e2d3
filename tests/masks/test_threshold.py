"""The threshold detector against arrays of its authors' code, and its scene-wide statistics."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from masks.fakes import ground, image, pixels, poisoned, sample
from unclouded.bands import L1C, L2A
from unclouded.errors import InputUnsupported
from unclouded.masks import threshold
from unclouded.masks.detect import detect
from unclouded.sample import Cover, Window
from unclouded.scenes.scene import Scene

PATCHES = ("ROIs1970_fall_139_p839", "ROIs2017_winter_112_p797")
CASES = [*(f"{patch}/{kind}" for patch in PATCHES for kind in ("cloudy", "cloudfree")), "synthetic"]


@pytest.fixture(scope="module")
def arrays(golden):
    return np.load(golden / "masks_meraner.npz")


def counts_of(case: str, arrays, data) -> np.ndarray:
    if case == "synthetic":
        return arrays["in/synthetic"]
    patch, kind = case.split("/")
    season, roi, number = patch.rsplit("_", 2)
    suffix = "_cloudy" if kind == "cloudy" else ""
    folder = data / "sen12mscr_official_layout" / f"{season}_s2{suffix}" / f"s2{suffix}_{roi}"
    return pixels(folder / f"{season}_s2{suffix}_{roi}_{number}.tif").astype(np.float32)


def _bands(counts: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip(L1C, counts / np.float32(10_000), strict=True))


@pytest.mark.parametrize("case", CASES)
def test_the_published_arrays_are_met(case, arrays, data):
    counts = counts_of(case, arrays, data)
    bands = _bands(counts)
    score = threshold.cloud_score(bands)
    dark = threshold.shadow(bands)
    signed = threshold.cloud_shadow(score >= threshold.CLOUD_FROM, dark)
    np.testing.assert_allclose(score, arrays[f"out/{case}/cloud_score"], rtol=0, atol=2e-15)
    moist = threshold.cloud_score(bands, "meraner2020_moist")
    np.testing.assert_allclose(moist, arrays[f"out/{case}/cloud_score_moist"], rtol=0, atol=2e-15)
    np.testing.assert_array_equal(score >= threshold.CLOUD_FROM, arrays[f"out/{case}/cloud_bin"] > 0)
    np.testing.assert_array_equal(dark, arrays[f"out/{case}/shadow"] == -1)
    np.testing.assert_array_equal(signed, arrays[f"out/{case}/csm_signed"])
    np.testing.assert_array_equal(np.abs(signed), arrays[f"out/{case}/csm01"])


@pytest.mark.parametrize("case", CASES)
def test_the_other_copy_is_met_too(case, arrays, data):
    counts = counts_of(case, arrays, data)
    score = threshold.cloud_score(_bands(counts), "tum")
    np.testing.assert_allclose(score, arrays[f"out/{case}/tum_cloud_score"], rtol=0, atol=2e-15)
    clipped = _bands(counts.clip(0, 10_000))
    signed = threshold.cloud_shadow(threshold.cloud_score(clipped, "tum") >= threshold.CLOUD_FROM, threshold.shadow(clipped))
    np.testing.assert_array_equal(signed, arrays[f"out/{case}/tum_csm_signed"])


def test_a_sample_gives_the_same_as_the_arrays(arrays, data):
    counts = counts_of("ROIs1970_fall_139_p839/cloudy", arrays, data)
    found = threshold.meraner2020(sample(counts / np.float32(10_000)))
    signed = arrays["out/ROIs1970_fall_139_p839/cloudy/csm_signed"]
    np.testing.assert_array_equal(found.classes[0] == Cover.THICK, signed == 1)
    np.testing.assert_array_equal(found.classes[0] == Cover.SHADOW, signed == -1)
    assert (found.classes == Cover.THICK).mean() == pytest.approx(0.5604, abs=1e-4)  # golden README: 56.0 %
    assert (threshold.tum(sample(counts / np.float32(10_000))).classes == Cover.THICK).mean() == pytest.approx(0.025, abs=5e-4)


@pytest.mark.parametrize("case", CASES)
def test_the_other_copy_cuts_bright_counts_itself(case, arrays, data):
    counts = counts_of(case, arrays, data)
    counts[:, :16, :16], counts[2, :16, :16], counts[11, :16, :16] = 12_000, 30_000, 4_000  # snow, but not once it is cut
    made, expected = (threshold.tum(sample(c / np.float32(10_000))).classes for c in (counts, counts.clip(0, 10_000)))
    np.testing.assert_array_equal(made, expected)
    bright, cut = (threshold.meraner2020(sample(c / np.float32(10_000))) for c in (counts, counts.clip(0, 10_000)))
    assert (bright.probability != cut.probability).any()


def test_statistics_of_a_scene_are_cut_for_the_other_copy_only():
    bright = image(ground("meadow", (20, 20)))
    bright[..., :5, :5] = 4.0
    scene = Scene.of(sample(bright))
    as_is, cut = (threshold.scene_statistics(scene, 0, preset) for preset in ("meraner2020", "tum"))
    assert as_is.csi_mean - cut.csi_mean == pytest.approx(3 / 16) and as_is.blue_mean - cut.blue_mean == pytest.approx(3 / 16)


def test_a_product_without_the_bands_is_refused_by_name():
    l2a = sample(image(ground("meadow"), L2A), level="L2A")
    with pytest.raises(InputUnsupported, match="'meraner2020' needs B10"):
        threshold.meraner2020(l2a)


def _scene() -> Scene:
    cover = ground("meadow", (60, 70))
    cover[5:25, 8:30], cover[40:52, 50:66], cover[30:34, 5:9] = "cloud", "cloud", "water"
    cover[:, 60:] = "snow"
    light = np.linspace(0.8, 1.1, 70, dtype=np.float32)
    return Scene.of(sample(image(cover) * light))


def test_a_scene_has_one_set_of_statistics_however_it_is_cut():
    scene = _scene()
    whole = threshold.meraner2020(scene.read()).classes
    for block in (17, 64):
        cut = detect(scene, mask="meraner2020", grow=0, block=block).masks
        np.testing.assert_array_equal(cut, whole)
    alone = threshold.meraner2020(scene.read().crop(Window(0, 0, 60, 40))).classes
    assert (alone != whole[..., :40]).any()  # a patch by itself is judged by its own statistics: as published


def test_what_lies_under_unmeasured_pixels_never_counts():
    clean = _scene().read()
    valid = np.ones((1, 60, 70), bool)
    valid[0, :9, :], valid[0, 30:40, 20:33] = False, False
    results = [threshold.meraner2020(poisoned(replace(clean, s2_valid=valid), v)) for v in (np.nan, 0.0, 1e30)]
    for found in results:
        np.testing.assert_array_equal(found.classes, results[0].classes)
        np.testing.assert_array_equal(found.probability, results[0].probability)
        np.testing.assert_array_equal(found.classes == Cover.NODATA, ~valid)
