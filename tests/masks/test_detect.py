"""detect: which detector, what is final, how much grows, and that nothing depends on blocks or on what is not measured."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from masks.fakes import ground, image, poisoned, sample
from unclouded.bands import L2A
from unclouded.errors import InputMissing, InputUnsupported, UsageError
from unclouded.masks import MASKS
from unclouded.masks.detect import BLOCK_BYTES, _sides, detect, scores, widen
from unclouded.masks.sixband import sixband
from unclouded.sample import Cover, Window
from unclouded.scenes.scene import Scene

SHAPE = (40, 44)


def _series(dates: int = 6, seed: int = 0, **more) -> Scene:
    """Drifting meadow and soil with SCL clouds on two dates and one that SCL misses on a third."""
    rng = np.random.default_rng(seed)
    cover = ground("meadow", SHAPE)
    cover[:, 20:] = "soil"
    s2 = np.stack([image(cover, L2A) * (1 + 0.02 * rng.standard_normal(SHAPE)) for _ in range(dates)]).astype(np.float32)
    scl = np.full((dates, *SHAPE), 4, np.uint8)
    cloud = image(ground("cloud", SHAPE), L2A)
    for date, spot in ((1, np.s_[5:15, 5:15]), (3, np.s_[20:30, 18:30]), (4, np.s_[10:24, 22:40])):
        s2[date][:, *spot] = cloud[:, *spot]
        scl[date][spot] = 9 if date != 4 else 4
    scl[2, 30:33, 3:6] = 3
    return Scene.of(sample(s2, level="L2A", scl=scl, **more))


def test_the_margin_is_grown_in_metres_and_keeps_its_class():
    scene = _series()
    bare = detect(scene, grow=0, screen=False).masks
    wide = detect(scene, grow=20, screen=False).masks
    assert (bare[1] == Cover.THICK).sum() == 100
    assert (wide[1] == Cover.THICK).sum() == 100 + 4 * 20 + 4  # a disk of two pixels: sides of two, corners of one
    assert (wide[2] == Cover.SHADOW).sum() == 9 + 4 * 6 + 4
    mixed = np.full((1, 9, 9), Cover.CLEAR, np.uint8)
    mixed[0, 4, 2], mixed[0, 4, 5], mixed[0, 0, 0], mixed[0, 8, 8], mixed[0, 6, 5] = 3, 4, 6, 0, 5
    grown = widen(mixed, 20, (10.0, 10.0))
    assert grown[0, 4, 4] == Cover.THICK and grown[0, 4, 6] == Cover.SHADOW  # cloud's margin goes before shadow's
    assert grown[0, 4, 5] == Cover.SHADOW and grown[0, 6, 5] == Cover.SHADOW  # snow in a margin is not seen either
    assert grown[0, 0, 1] == Cover.CLEAR and grown[0, 8, 8] == Cover.NODATA


@pytest.mark.parametrize("metres", [-1.0, float("nan"), float("inf")])
def test_a_margin_that_is_no_length_is_refused(metres):
    with pytest.raises(UsageError, match="expected 0 or more metres"):
        detect(_series(), grow=metres)


def test_screening_adds_what_scl_missed_and_the_record_says_how_much():
    scene = _series()
    out = detect(scene)
    assert (out.masks[4][10:24, 22:40] == Cover.THIN).all()
    record = out.decisions["masks"]
    assert record["screen"] == "on" and record["grow_metres"] == 20.0
    rows = list(record["dates"].values())
    assert [r["detector"] for r in rows] == ["scl"] * 6
    assert rows[1]["clear_detected"] == pytest.approx(1 - 100 / 1760)
    added = ((out.masks[4] == Cover.THIN).sum()) / 1760
    assert rows[4]["screened_cloud"] == pytest.approx(added, abs=1e-6) and rows[0]["screened_cloud"] == 0
    assert "masks" not in scene.decisions and scene.masks is None  # the input is untouched


def test_a_mask_file_is_final_on_the_target_and_only_there():
    values = np.zeros((6, *SHAPE), np.float32)
    values[4, 0:2, 0:2] = 1
    scene = _series(given=values)
    day = scene.dates[4]
    out = detect(scene, targets=[day])
    assert (out.masks[4] == Cover.THICK).sum() == 4 and (out.masks[4] == Cover.CLEAR).sum() == 1760 - 4
    other = detect(scene, targets=[scene.dates[0]])
    assert (other.masks[4] == Cover.THICK).sum() > 4 and (other.masks[4] == Cover.THIN).any()  # grown and screened
    assert [r["final"] for r in other.decisions["masks"]["dates"].values()] == [True] + [False] * 5


def test_scores_are_those_of_the_detector_that_was_chosen():
    scene = _series()
    with pytest.raises(UsageError, match="call detect"):
        scores(scene, 0)
    found = detect(scene, mask="sixband")
    window = Window(3, 4, 20, 30)
    np.testing.assert_array_equal(
        scores(found, 1)(window).probability[0], sixband(scene.read(only=[1])).probability[0][window.slices]
    )
    assert scores(detect(scene), 1)(window).probability.max() == np.float32(0.9)  # SCL's high probability


def test_class_maps_may_lie_in_a_file(tmp_path):
    scene = _series()
    out = detect(scene, out=tmp_path / "masks.u8")
    assert isinstance(out.masks, np.memmap)
    np.testing.assert_array_equal(out.masks, detect(scene).masks)
    assert (tmp_path / "masks.u8").stat().st_size == 6 * 40 * 44


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    block=st.integers(5, 60),
    grow=st.sampled_from([0.0, 20.0, 45.0]),
    mask=st.sampled_from(["auto", "sixband"]),
    seed=st.integers(0, 3),
)
def test_the_result_does_not_depend_on_the_blocks(block, grow, mask, seed):
    scene = _series(seed=seed)
    whole = detect(scene, mask=mask, grow=grow, block=512)
    cut = detect(scene, mask=mask, grow=grow, block=block)
    np.testing.assert_array_equal(cut.masks, whole.masks)
    assert cut.decisions == whole.decisions


@pytest.mark.parametrize("mask", ["file", "sixband", "meraner2020", "s2cloudless"])
def test_threads_change_nothing(mask, monkeypatch):
    if mask == "s2cloudless":
        pytest.importorskip("lightgbm", reason="the extra 'masks' is not installed")
        monkeypatch.setattr("unclouded.masks.s2cloudless.MOST_CELLS", 100)  # in cells, as a large scene
    cover = ground("meadow", (123, 130))
    cover[10:40, 10:50], cover[70:100, 60:120] = "cloud", "snow"
    light = np.linspace(0.7, 1.1, 130, dtype=np.float32)
    given = np.ones((1, 123, 130), np.float32)
    given[0, 3, 4] = 4
    scene = Scene.of(sample(image(cover) * light, given=given if mask == "file" else None))
    alone, several = (detect(scene, mask=mask, block=31, workers=count) for count in (1, 3))
    np.testing.assert_array_equal(several.masks, alone.masks)
    assert several.decisions == alone.decisions
    assert len(np.unique(alone.masks)) > 1


def test_screening_reads_only_the_bands_it_looks_at():
    scene = _series()
    read = []

    class Told:
        """A source that can leave bands unread, and tells which were asked for."""

        def only(self, bands):
            read.append(bands)
            return scene.only(bands).source

        def __getattr__(self, name):
            return getattr(scene.source, name)

    told = detect(replace(scene, source=Told()))
    np.testing.assert_array_equal(told.masks, detect(scene).masks)
    assert set(read) == {("B02", "B04", "B08", "B11")}


def test_a_delivered_mask_of_another_date_stands_where_screening_can_look():
    """Of a date that is not restored only the bands of screening must be measured, of one that is restored all of them."""
    scene = _series()
    whole, holes = np.ones((6, *SHAPE), bool), np.ones((6, *SHAPE), bool)
    holes[:, 2:4, 2:4] = False  # in a band that screening never looks at

    class Lean:
        """The source with all bands, and without those that hold nothing in the holes."""

        def __init__(self, bands, valid):
            self.bands, self.valid = bands, valid

        def only(self, bands):
            return Lean(bands, whole)

        def s2(self, i, window):
            at = [L2A.index(band) for band in self.bands]
            return scene.source.s2(i, window)[0][at], self.valid[i][window.slices].copy()

        def __getattr__(self, name):
            return getattr(scene.source, name)

    found = detect(replace(scene, source=Lean(L2A, holes)), targets=[scene.dates[2]], grow=0).masks
    assert (found[2][2:4, 2:4] == Cover.NODATA).all()
    assert (found[[0, 1, 3, 4, 5], 2:4, 2:4] == Cover.CLEAR).all()


@pytest.mark.parametrize("block", [7, 23, 512])
def test_an_scl_laid_over_what_screening_reads_is_the_one_that_is_detected(block, tmp_path):
    """Of dates that are not restored it is never written down; on the others it is. The result is the same for both."""
    valid = np.random.default_rng(1).random((6, *SHAPE)) < 0.95
    scene = Scene.of(replace(_series().read(), s2_valid=valid))
    whole = detect(scene, grow=45)
    for restored in (0, 2):
        day = scene.dates[restored]
        trusting = detect(scene, targets=[day], grow=45)  # doubt speaks for the observation on this date alone
        found = detect(scene, targets=[day], grow=45, block=block, out=tmp_path / f"{restored}", workers=2)
        np.testing.assert_array_equal(found.masks, trusting.masks)
        assert found.decisions == trusting.decisions
        others = np.arange(6) != restored
        np.testing.assert_array_equal(found.masks[others], whole.masks[others])
        np.testing.assert_array_equal(found.masks == Cover.NODATA, ~valid)
    assert len(np.unique(whole.masks)) > 2


def test_an_scl_that_is_none_is_refused_on_any_date():
    scene = _series()
    bad = scene.read().scl.copy()
    bad[4, 5, 6] = 12
    with pytest.raises(InputUnsupported, match="holds the code 12"):
        detect(Scene.of(replace(scene.read(), scl=bad)), targets=[scene.dates[1]])


@given(block=st.integers(32, 1024), halo=st.integers(0, 60), dates=st.integers(1, 200))
def test_windows_of_screening_keep_their_bound(block, halo, dates):
    height, width = _sides(block, halo, dates)
    pixels = (height + 2 * halo) * (width + 2 * halo)
    assert pixels * dates * 48 <= BLOCK_BYTES or (height, width) == (32, 32)
    assert 32 <= width <= height <= max(2 * block, 32) and width <= block


def test_what_lies_under_unmeasured_pixels_never_counts():
    scene = _series()
    clean = scene.read()
    valid = np.ones((6, *SHAPE), bool)
    valid[2, 10:30, :15], valid[5] = False, False
    results = [detect(Scene.of(poisoned(replace(clean, s2_valid=valid), v))) for v in (np.nan, 0.0, 1e30)]
    for out in results:
        np.testing.assert_array_equal(out.masks, results[0].masks)
        assert out.decisions == results[0].decisions
        np.testing.assert_array_equal(out.masks == Cover.NODATA, ~valid)


def test_one_pixel_and_nothing_at_all():
    one = Scene.of(sample(image(ground("meadow", (1, 1)), L2A), level="L2A"))
    assert detect(one).masks.tolist() == [[[Cover.CLEAR]]]
    empty = Scene.of(replace(one.read(), s2_valid=np.zeros((1, 1, 1), bool)))
    assert detect(empty).masks.tolist() == [[[Cover.NODATA]]]


def test_wrong_settings_are_refused():
    with pytest.raises(UsageError, match="no cloud detector 'best'"):
        detect(_series(), mask="best")
    with pytest.raises(UsageError, match="expected 0 or more"):
        detect(_series(), grow=-1)


def test_every_row_of_the_table_says_what_it_is():
    for name, row in MASKS.items():
        assert row.about, name
    assert set(MASKS) == {"file", "scl", "s2cloudless", "sixband", "meraner2020", "tum", "omnicloudmask"}


def test_omnicloudmask_is_asked_in_its_own_terms(monkeypatch):
    """A stand-in for the package: it sees red, green, near infrared, and 0 where nothing was measured."""
    seen = []

    def predict_from_array(image):
        seen.append(image.copy())
        return np.where(image[:1] == 0, 0, np.digitize(image[:1], [0.1, 0.2, 0.3]))

    module = ModuleType("omnicloudmask")
    module.predict_from_array = predict_from_array
    monkeypatch.setitem(sys.modules, "omnicloudmask", module)
    monkeypatch.setattr("unclouded.masks.omnicloudmask.find_spec", lambda name: module)
    one = _series().read()
    scene = Scene.of(replace(one, s2=one.s2[1:2], s2_valid=one.s2_valid[1:2], s2_dates=one.s2_dates[1:2], scl=None))
    red = scene.read().s2[0, L2A.index("B04")]
    out = detect(scene, mask="omnicloudmask", grow=0).masks[0]
    np.testing.assert_array_equal(seen[0], scene.read().s2[0][[L2A.index(b) for b in ("B04", "B03", "B08")]])
    expected = np.array([Cover.CLEAR, Cover.THICK, Cover.THIN, Cover.SHADOW])[np.digitize(red, [0.1, 0.2, 0.3])]
    np.testing.assert_array_equal(out, expected)
    monkeypatch.undo()
    if "omnicloudmask" not in sys.modules:
        with pytest.raises(InputMissing, match="pip install omnicloudmask"):
            detect(scene, mask="omnicloudmask")
