"""SCL and mask files: every code, and what an unknown pixel becomes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from masks.fakes import ground, image, sample
from unclouded.bands import L2A
from unclouded.errors import InputMissing, InputUnsupported, RecordError
from unclouded.masks import MASKS
from unclouded.masks.delivered import given, kind_of, scl
from unclouded.masks.detect import choose, detect
from unclouded.masks.detection import Detection
from unclouded.sample import HIDING, Cover
from unclouded.scenes.scene import Scene

MEADOW = image(ground("meadow", (3, 4)), L2A)


def _sample(**more):
    return sample(MEADOW, level="L2A", **more)


def test_every_scl_code_has_its_class():
    codes = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)
    found = scl(_sample(scl=codes))
    c = Cover
    expected = [c.OTHER, c.OTHER, c.CLEAR, c.SHADOW, c.CLEAR, c.CLEAR, c.CLEAR, c.CLEAR, c.THICK, c.THICK, c.THIN, c.SNOW]
    np.testing.assert_array_equal(found.classes.ravel(), expected)
    p = found.probability.ravel()
    assert p[9] > p[8] == p[10] == 0.5 > p[7] > 0 == p[4] == p[3] == p[11]
    unmeasured = _sample(scl=codes, s2_valid=np.zeros((1, 3, 4), bool))
    assert (scl(unmeasured).classes == Cover.NODATA).all()


def test_an_unknown_scl_code_and_a_missing_layer_are_refused():
    with pytest.raises(InputUnsupported, match="code 12"):
        scl(_sample(scl=np.full((1, 3, 4), 12, np.uint8)))
    with pytest.raises(InputMissing, match="no scene classification"):
        scl(_sample())
    with pytest.raises(InputMissing, match="no mask file"):
        given(_sample())


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([0, 1], "binary"),
        ([0, 255], "binary"),
        ([0], "binary"),
        ([0, 1, 2], "classes"),
        ([1, 4, 6], "classes"),
        ([1, 3], "classes"),
    ],
)
def test_the_coding_of_a_mask_file_follows_from_its_values(values, kind):
    assert kind_of(np.array([*values, np.nan])) == kind


@pytest.mark.parametrize("values", [[0, 0.4], [0, 7], [0, 1, 255], [-1, 0]])
def test_values_that_are_neither_are_refused(values):
    with pytest.raises(InputUnsupported, match="expected 0"):
        kind_of(np.array(values, float))


def test_a_binary_file_hides_and_what_it_does_not_cover_is_not_clear():
    values = np.array([[[0, 1, np.nan, 0]] * 3], np.float32)
    found = given(_sample(given=values)).classes
    np.testing.assert_array_equal(found[0, 0], [Cover.CLEAR, Cover.THICK, Cover.OTHER, Cover.CLEAR])
    assert HIDING[Cover.OTHER]


def test_a_file_of_classes_keeps_them_and_its_no_data_is_not_clear():
    values = np.array([[[0, 1, 2, 3], [4, 5, 6, np.nan], [1, 1, 1, 1]]], np.float32)
    found = given(_sample(given=values)).classes
    np.testing.assert_array_equal(found[0, 0], [Cover.OTHER, 1, 2, 3])
    np.testing.assert_array_equal(found[0, 1], [4, 5, 6, Cover.OTHER])


def test_the_coding_is_told_from_the_whole_file_not_from_a_block():
    values = np.ones((1, 40, 44), np.float32)  # class 1, clear ...
    values[0, 39, 43] = 4  # ... as this one shadow in the last block tells
    scene = Scene.of(sample(image(ground("meadow"), L2A), level="L2A", given=values))
    out = detect(scene, mask="file", block=8).masks
    np.testing.assert_array_equal(out, values.astype(np.uint8))


def test_a_reader_that_knows_the_coding_is_believed():
    scene = Scene.of(sample(image(ground("meadow"), L2A), level="L2A", given=np.ones((1, 40, 44), np.float32)))
    assert (detect(scene, grow=0).masks == Cover.THICK).all()
    told = replace(scene, decisions={"mask_kind": {str(scene.dates[0]): "classes"}})
    assert (detect(told, grow=0).masks == Cover.CLEAR).all()


def test_auto_takes_the_file_then_scl_then_what_fits():
    codes = np.full((2, 40, 44), 4, np.uint8)
    files = np.zeros((2, 40, 44), np.float32)
    two = np.stack([image(ground("meadow"), L2A)] * 2)
    scene = Scene.of(sample(two, level="L2A", scl=codes, given=files))
    day = scene.dates[1]
    assert [choose(scene, i, "auto", {day}).name for i in (0, 1)] == ["file", "file"]
    assert [choose(scene, i, "auto", {day}).final for i in (0, 1)] == [False, True]
    assert choose(Scene.of(sample(two, level="L2A", scl=codes)), 0, "auto").name == "scl"
    assert choose(Scene.of(sample(two, level="L2A")), 0, "auto").name == "sixband"
    top = Scene.of(sample(image(ground("meadow"))))
    assert choose(top, 0, "auto").name == ("s2cloudless" if MASKS["s2cloudless"].fits(top.place) else "sixband")
    assert choose(top, 0, "tum").name == "tum"
    assert choose(Scene.of(sample(two, level="L2A")), 0, "auto").why == (
        "L2A without mask file and SCL; s2cloudless: made for L1C; "
        "sixband: fits, and measured better than the thresholds of the papers"
    )
    nine = sample(image(ground("meadow"))[[1, 3, 10]], bands=("B02", "B04", "B10"), level="L1C")
    assert "s2cloudless: needs B01, B05" in choose(Scene.of(nine), 0, "auto").why
    blind = Scene.of(sample(two[:, :2], level="L2A", bands=("B05", "B11")))
    with pytest.raises(InputUnsupported, match=r"(?s)No cloud detector fits.*sixband: needs B02, B04"):
        choose(blind, 0, "auto")


def test_a_detection_is_checked():
    with pytest.raises(RecordError, match="end at 6"):
        Detection(classes=np.full((1, 2, 2), 7, np.uint8))
    with pytest.raises(RecordError, match="expected"):
        Detection(classes=np.zeros((2, 2), np.uint8))
    with pytest.raises(RecordError, match="probability"):
        Detection(classes=np.zeros((1, 2, 2), np.uint8), probability=np.zeros((1, 2, 3), np.float32))
