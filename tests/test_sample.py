"""The records: shapes, order and the tripwires for the field's usual mistakes."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from unclouded.errors import RecordError
from unclouded.sample import HIDING, Batch, Cover, Place, Prediction, Sample, Window, around, as_days
from unclouded.scenes.scene import Scene


def sample(t=3, h=6, w=8, radar=True, **changes) -> Sample:
    rng = np.random.default_rng(0)
    grid = GeoBox((h, w), Affine(10, 0, 500_000, 0, -10, 5_600_000), "EPSG:32631")
    base = Sample(
        place=Place(id="p", bands=("B02", "B08"), level="L2A", grid=grid),
        s2=rng.random((t, 2, h, w), dtype=np.float32),
        s2_valid=np.ones((t, h, w), bool),
        s2_dates=as_days(["2020-01-01", "2020-01-06", "2020-01-11"][:t]),
        s1=-10 + rng.random((2, 2, h, w), dtype=np.float32) if radar else None,
        s1_valid=np.ones((2, h, w), bool) if radar else None,
        s1_dates=as_days(["2020-01-02", "2020-01-20"]) if radar else None,
        cloud=np.zeros((t, h, w), np.float32),
        target_date=np.datetime64("2020-01-06"),
        target_index=1 if t > 1 else None,
    )
    return replace(base, **changes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"s2": np.zeros((3, 3, 6, 8), np.float32)}, "expected \\(T, 2, H, W\\)"),
        ({"s2_valid": np.ones((3, 6, 7), bool)}, "s2_valid must have shape"),
        ({"s2": np.zeros((3, 2, 6, 8))}, "float32"),
        ({"s2_dates": as_days(["2020-01-06", "2020-01-01", "2020-01-11"])}, "strictly ascending"),
        ({"s2_dates": as_days(["2020-01-01", "2020-01-01", "2020-01-11"])}, "strictly ascending"),
        ({"s2": np.full((3, 2, 6, 8), 1800, np.float32)}, "look like counts"),
        ({"s1": np.full((2, 2, 6, 8), 0.1, np.float32)}, "linear power"),
        ({"s1_dates": as_days(["2020-01-20", "2020-01-02"])}, "s1_dates must be 2 ascending"),
        ({"cloud": np.full((3, 6, 8), 40, np.float32)}, "cloud must lie in"),
        ({"target_index": 3}, "outside the 3 dates"),
        ({"target": np.zeros((3, 6, 8), np.float32)}, "target must have shape"),
    ],
)
def test_a_wrong_sample_is_refused_in_words(change, words):
    with pytest.raises(RecordError, match=words):
        sample(**change)


def test_bands_must_be_known_and_distinct():
    for bands in ((), ("B02", "B02"), ("B13",)):
        with pytest.raises(RecordError, match="distinct names"):
            Place(id="p", bands=bands, level="L2A")


def test_clear_and_hidden_follow_validity_and_cloud():
    cloud = np.zeros((3, 6, 8), np.float32)
    cloud[1, 0, 0], cloud[1, 0, 1] = 0.5, 0.49
    valid = np.ones((3, 6, 8), bool)
    valid[1, 5, 7] = False
    s = sample(cloud=cloud, s2_valid=valid)
    hidden = s.hidden()
    assert hidden[0, 0] and hidden[5, 7] and not hidden[0, 1]
    assert hidden.sum() == 2
    assert replace(s, target_index=None).hidden().all()


def test_crop_moves_every_field_and_the_grid():
    s = sample()
    c = s.crop(Window(2, 3, 3, 4))
    assert np.array_equal(c.s2, s.s2[:, :, 2:5, 3:7])
    assert np.array_equal(c.s1, s.s1[:, :, 2:5, 3:7])
    assert c.cloud.shape == (3, 3, 4)
    assert c.place.grid.affine == Affine(10, 0, 500_030, 0, -10, 5_599_980)
    assert c.place.origin == (s.place.origin[0] + 2, s.place.origin[1] + 3)


def test_origin_counts_rows_downwards_on_the_lattice_of_the_crs():
    assert sample().place.origin == (-560_000, 50_000)


def test_pairing_takes_the_nearest_acquisition_within_the_limit():
    near, valid = sample().paired(max_days=4)
    assert np.array_equal(near[0], sample().s1[0]) and np.array_equal(near[1], sample().s1[0])
    assert valid[:2].all() and not valid[2].any()  # 2020-01-11 is 9 days from either
    assert sample(radar=False).paired()[1].sum() == 0


def test_windows_grow_inside_the_scene():
    assert Window(2, 2, 3, 3).grow(4, (8, 6)) == Window(0, 0, 8, 6)
    assert Window(2, 2, 3, 3).inside(Window(1, 0, 9, 9)) == Window(1, 2, 3, 3)


def test_a_batch_pads_short_series_with_frames_that_are_not_valid():
    b = Batch.stack([sample(3), sample(3)])
    assert b.s2.shape == (2, 3, 2, 6, 8) and b.s1.shape == (2, 2, 2, 6, 8)
    long, short = sample(3), sample(1)
    both = Batch.stack([long, short])
    assert both.s2_valid[1, 0].all() and not both.s2_valid[1, 1:].any()
    assert both.target_index.tolist() == [1, -1]
    assert both.hidden()[1].all() and not both.hidden()[0].any()


def test_radar_without_acquisitions_is_no_radar():
    full = sample()
    empty = Batch.stack([replace(full, s1=full.s1[:0], s1_valid=full.s1_valid[:0], s1_dates=full.s1_dates[:0])])
    assert (empty.s1, empty.s1_valid, empty.s1_days) == (None, None, None)
    assert torch.equal(empty.s2[0], torch.from_numpy(full.s2))


def test_a_batch_refuses_what_does_not_go_together():
    with pytest.raises(RecordError, match="differ in size"):
        Batch.stack([sample(), sample(h=5)])
    with pytest.raises(RecordError, match="others do not"):
        Batch.stack([sample(), sample(radar=False)])


def test_padding_adds_invalid_hidden_pixels():
    b = Batch.stack([sample()]).pad_to(8, 8)
    assert b.shape == (8, 8)
    assert not b.clear()[..., 6:, :].any() and b.cloud[..., 6:, :].eq(1).all()
    assert torch.equal(b.s2[..., :6, :8], torch.from_numpy(sample().s2)[None])


def test_predictions_are_checked():
    with pytest.raises(RecordError, match="sigma"):
        Prediction(s2=torch.zeros(1, 2, 4, 4), sigma=torch.zeros(1, 1, 4, 4))
    with pytest.raises(RecordError, match="age"):
        Prediction(s2=torch.zeros(1, 2, 4, 4), age=torch.zeros(1, 4, 5))


def test_what_hides_the_ground():
    assert [c.name for c in Cover if HIDING[c]] == ["THIN", "THICK", "SHADOW", "OTHER"]


@given(
    at=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=4),
    only=st.sampled_from([None, [2], [0, 2]]),
)
def test_windows_read_together_are_those_read_one_by_one(at, only):
    rng, days = np.random.default_rng(4), as_days(["2021-01-01", "2021-01-06", "2021-01-11"])
    whole = Sample(
        place=Place(id="p", bands=("B02", "B03"), level="L2A"),
        s2=rng.random((3, 2, 15, 15), np.float32), s2_valid=rng.random((3, 15, 15)) < 0.9, s2_dates=days,
        s1=-10 - rng.random((3, 2, 15, 15), np.float32), s1_valid=rng.random((3, 15, 15)) < 0.9, s1_dates=days,
        s1_orbits=np.array([1, 2, 1], np.int16), scl=rng.integers(0, 12, (3, 15, 15)).astype(np.uint8),
        given=rng.random((3, 15, 15), np.float32), cloud=(rng.random((3, 15, 15)) < 0.3).astype(np.float32),
    )  # fmt: skip
    scene, windows = Scene.of(whole), [Window(*w) for w in at]
    assert all(w.inside(around(windows)).row >= 0 and w.inside(around(windows)).col >= 0 for w in windows)
    for window, found in zip(windows, scene.read_together(windows, target=days[2], only=only), strict=True):
        alone = scene.read(window, target=days[2], only=only)
        for f in fields(Sample):
            one, other = getattr(found, f.name), getattr(alone, f.name)
            if isinstance(one, np.ndarray):
                np.testing.assert_array_equal(one, other)
            else:
                assert one == other, f.name
        np.testing.assert_array_equal(found.s2, whole.s2[[0, 1, 2] if only is None else only][(..., *window.slices)])


@pytest.mark.parametrize("at", [(-1, 0, 3, 3), (0, -1, 3, 3), (4, 0, 3, 8), (0, 6, 6, 3), (20, 20, 2, 2)])
def test_a_window_outside_the_scene_is_refused(at):
    scene = Scene.of(sample())  # 6 x 8 pixels
    assert scene.read(Window(0, 0, 6, 8)).shape == (6, 8)
    with pytest.raises(RecordError, match="reaches outside the scene"):
        scene.read(Window(*at))
    with pytest.raises(RecordError, match="reaches outside the scene"):
        scene.read_together([Window(0, 0, 2, 2), Window(*at)])
