"""Radar of one day in several files: two frames stay two acquisitions, two polarisations of one frame become one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scenes.test_sentinel1 import SIZE, db, grid, put, s2  # noqa: F401 - a fixture
from unclouded.errors import InputUnsupported
from unclouded.scenes.open import open_scene
from unclouded.scenes.scene import Scene

HALF = (SIZE[0], SIZE[1] // 2)
LEFT, RIGHT = grid(HALF), grid(HALF, left=500_000 + 10 * HALF[1])


def _stacks(folder: Path, *names: str) -> list[Path]:
    return [put(folder / name, db(n, HALF), at) for n, (name, at) in enumerate(zip(names, (LEFT, RIGHT), strict=True))]


def _both(scene: Scene) -> None:
    """Both frames are there, each where it lies."""
    assert scene.s1_dates is not None and [str(d) for d in scene.s1_dates] == ["2020-06-01"] * 2
    for k, side in enumerate((np.s_[..., : HALF[1]], np.s_[..., HALF[1] :])):
        values, valid = scene.source.s1(k, scene.window)
        assert valid[side].all() and valid.sum() == HALF[0] * HALF[1]
        np.testing.assert_array_equal(values[side], db(k, HALF))


def test_two_frames_of_a_day_are_both_used(s2: Path, tmp_path: Path) -> None:  # noqa: F811
    names = ("S1A_A_20200601T055300_VVVH.tif", "S1A_B_20200601T055325_VVVH.tif")
    files = _stacks(tmp_path / "r", *names)
    for given in (tmp_path / "r", files):
        _both(open_scene(s2, given))
    assert [row["file"] for row in open_scene(s2, files).decisions["radar"]] == list(names)
    _stacks(tmp_path / "dated" / "2020-06-01", "left.tif", "right.tif")
    _both(open_scene(s2, tmp_path / "dated"))
    _stacks(tmp_path / "plain", "left_20200601.tif", "right_20200601.tif")
    _both(open_scene(s2, tmp_path / "plain"))
    _stacks(s2 / "2020-06-01", "s1_a.tif", "s1_b.tif")
    _both(open_scene(s2))


def test_frames_of_one_file_per_polarisation_go_together_by_name(s2: Path, tmp_path: Path) -> None:  # noqa: F811
    for n, (name, at) in enumerate((("A_20200601", LEFT), ("B_20200601", RIGHT))):
        put(tmp_path / "r" / f"{name}_VV.tif", db(n, HALF)[:1], at, ())
        put(tmp_path / "r" / f"{name}_VH.tif", db(n, HALF)[1:], at, ())
    _both(open_scene(s2, tmp_path / "r"))
    _both(open_scene(s2, sorted((tmp_path / "r").iterdir(), reverse=True)))
    (tmp_path / "r" / "B_20200601_VH.tif").unlink()
    with pytest.raises(InputUnsupported, match="does not have VV and VH"):
        open_scene(s2, tmp_path / "r")


def test_one_frame_may_be_named_anyhow_and_angles_join_their_own(s2: Path, tmp_path: Path) -> None:  # noqa: F811
    put(tmp_path / "one" / "VV_20200601_77F1.tif", db()[:1], grid(), ())
    put(tmp_path / "one" / "VH_20200601_03AB.tif", db()[1:], grid(), ())
    scene = open_scene(s2, tmp_path / "one")
    assert scene.s1_dates is not None and len(scene.s1_dates) == 1
    np.testing.assert_array_equal(scene.source.s1(0, scene.window)[0], db())
    _stacks(tmp_path / "r", "s1_a_20200601.tif", "s1_b_20200601.tif")
    for name, at, angle in (("s1_a_20200601_incidence.tif", LEFT, 30), ("s1_b_20200601_incidence.tif", RIGHT, 45)):
        put(tmp_path / "r" / name, np.full((1, *HALF), angle, np.float32), at, ())
    scene = open_scene(s2, tmp_path / "r", s1_calibration="gamma0")
    shifts = [10 * np.log10(np.cos(np.radians(angle))) for angle in (30, 45)]
    for k, side in enumerate((np.s_[..., : HALF[1]], np.s_[..., HALF[1] :])):
        assert np.allclose(scene.source.s1(k, scene.window)[0][side], db(k, HALF) + shifts[k], atol=1e-4)


def test_a_pair_that_repeats_a_stack_is_not_a_second_acquisition(s2: Path, tmp_path: Path) -> None:  # noqa: F811
    put(tmp_path / "r" / "A_20200601_VVVH.tif", db(), grid())
    put(tmp_path / "r" / "A_20200601_VV.tif", db()[:1], grid(), ())
    put(tmp_path / "r" / "A_20200601_VH.tif", db()[1:], grid(), ())
    dates = open_scene(s2, tmp_path / "r").s1_dates
    assert dates is not None and len(dates) == 1
