"""s2cloudless against the arrays of its own package, and what the detector makes of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from masks.fakes import ground, image, poisoned, sample
from masks.test_threshold import CASES, counts_of
from unclouded.bands import L1C, L2A
from unclouded.errors import InputMissing, InputUnsupported
from unclouded.masks import s2cloudless as s
from unclouded.masks.detect import detect
from unclouded.sample import Cover
from unclouded.scenes.scene import Scene

pytest.importorskip("lightgbm", reason="the extra 'masks' is not installed")

AT = [L1C.index(name) for name in s.BANDS]


@pytest.fixture(scope="module")
def arrays(golden):
    return dict(np.load(golden / "s2cloudless.npz")) | {"in/synthetic": np.load(golden / "masks_meraner.npz")["in/synthetic"]}


@pytest.mark.parametrize("case", [*CASES, "noise"])
def test_the_package_is_met(case, arrays, data):
    counts = arrays["in/noise"] if case == "noise" else counts_of(case, arrays, data)
    bands = (counts.clip(0, 10_000) / 10_000).astype(np.float32)[AT]
    prob, valid = arrays[f"out/{case}/prob"], np.ones(bands.shape[1:], bool)
    part = (slice(None, None, 2), slice(1, None, 2))  # pixel by pixel, so a quarter tells
    np.testing.assert_allclose(s.probability(bands[:, *part], valid[part]), prob[part], rtol=0, atol=1e-7)
    np.testing.assert_array_equal(s.mask_of(prob, valid), arrays[f"out/{case}/mask_avg4_dil2"] > 0)
    np.testing.assert_array_equal(s.mask_of(prob, valid, average_over=0, dilation=0), arrays[f"out/{case}/mask_raw"] > 0)


def test_the_soft_map_of_ebel_2020_keeps_what_is_likely_and_smooths_it():
    prob = np.zeros((2, 31, 31), np.float32)
    prob[0, 10, 10], prob[0, 15, 15], prob[1] = 0.49, 0.8, 1.0
    soft = s.soft_map(prob)
    spread = np.zeros((31, 31))
    spread[15, 15] = 1
    np.testing.assert_allclose(soft[0], 0.8 * ndimage.gaussian_filter(spread, 2), atol=1e-6)
    np.testing.assert_allclose(soft[1], 1.0, atol=1e-6)


def _scene(shape=(66, 70)) -> Scene:
    cover = ground("meadow", shape)
    cover[6:36, 6:40] = "cloud"
    cover[50:, 50:] = "snow"
    return Scene.of(sample(image(cover)))


def test_classes_by_brightness_and_the_same_however_it_is_cut():
    scene = _scene()
    whole = detect(scene, mask="s2cloudless", grow=0).masks
    assert (whole[0][10:32, 10:36] == Cover.THICK).all()
    assert (whole[0][46:49, :40] == Cover.CLEAR).all()
    for block in (16, 37):
        np.testing.assert_array_equal(detect(scene, mask="s2cloudless", grow=0, block=block).masks, whole)


def test_a_large_scene_is_judged_at_20_or_60_metres(monkeypatch):
    scene = _scene((123, 130))
    assert s._factor(scene) == 1
    monkeypatch.setattr(s, "MOST_CELLS", 123 * 130 / 4)
    assert s._factor(scene) == 2
    monkeypatch.setattr(s, "MOST_CELLS", 100)
    assert s._factor(scene) == 6
    look = s.of_scene(scene, 0)
    coarse, known = s.coarse_probability(scene, 0, 6)
    assert coarse.shape == (21, 22) and known.all()
    found = look(scene.window)
    np.testing.assert_array_equal(found.probability[0], np.kron(coarse, np.ones((6, 6)))[:123, :130].astype(np.float32))
    cells = np.kron(s.mask_of(coarse, known), np.ones((6, 6), bool))[:123, :130]
    np.testing.assert_array_equal(np.isin(found.classes[0], (Cover.THICK, Cover.THIN)), cells)
    whole = detect(scene, mask="s2cloudless", grow=0).masks
    np.testing.assert_array_equal(detect(scene, mask="s2cloudless", grow=0, block=31).masks, whole)
    monkeypatch.setattr(s, "COARSE_BLOCK", 25)
    np.testing.assert_array_equal(s.coarse_probability(scene, 0, 6)[0], coarse)


def test_what_lies_under_unmeasured_pixels_never_counts():
    clean = _scene().read()
    valid = np.ones((1, 66, 70), bool)
    valid[0, 20:50, 30:] = False
    found = [s.s2cloudless(poisoned(replace(clean, s2_valid=valid), v)) for v in (np.nan, 0.0, 1e30)]
    for one in found:
        np.testing.assert_array_equal(one.classes, found[0].classes)
        np.testing.assert_array_equal(one.probability, found[0].probability)
    assert (found[0].classes == Cover.NODATA).sum() == (~valid).sum()
    nothing = s.s2cloudless(replace(clean, s2_valid=np.zeros_like(valid)))
    assert (nothing.classes == Cover.NODATA).all()


def test_surface_reflectance_is_refused():
    with pytest.raises(InputUnsupported, match="needs B10"):
        s.s2cloudless(sample(image(ground("meadow"), L2A), level="L2A"))
    with pytest.raises(InputUnsupported, match="made for level L1C; the input is L2A"):
        s.s2cloudless(sample(image(ground("meadow"), L1C), level="L2A", bands=L1C))


def test_without_the_package_the_way_out_is_named(monkeypatch):
    s._model.cache_clear()
    monkeypatch.setattr(s, "find_spec", lambda name: None)
    with pytest.raises(InputMissing, match=r"unclouded\[masks\]"):
        s.s2cloudless(_scene().read())
    monkeypatch.undo()
    s._model.cache_clear()
