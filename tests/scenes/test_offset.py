"""The offset of dates without metadata: what the dates of one era show together, and what an option changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from typer.testing import CliRunner

from scenes.test_series import dn, put
from unclouded.cli import app
from unclouded.scenes.open import open_scene
from unclouded.scenes.scene import Scene

CLEAR, OVERCAST, WHITE = 150, 2889, 4000  # counts of the darkest ground


def _series(folder: Path, *dates: tuple[str, int]) -> Scene:
    for n, (day, low) in enumerate(dates):
        put(folder / day / "s2.tif", dn(n, low=low), tags={"LEVEL": "L2A"})
    return open_scene(folder)


def _offsets(scene: Scene) -> list[float]:
    return [note["offset"] for note in scene.decisions["offset"]]


def test_an_overcast_date_of_the_late_era_does_not_fake_an_offset(tmp_path: Path) -> None:
    scene = _series(tmp_path, ("2023-05-01", CLEAR), ("2023-05-06", OVERCAST), ("2023-05-11", 270))
    assert _offsets(scene) == [0, 0, 0]
    np.testing.assert_array_equal(scene.read().s2[1], dn(1, low=OVERCAST).astype(np.float32) / np.float32(10_000))
    assert "other dates of its time are too dark" in scene.decisions["offset"][1]["evidence"]
    assert scene.decisions["warnings"] == []  # brighter than any clear ground with the offset would be


def test_a_date_that_may_carry_the_offset_among_others_that_do_not_is_told(tmp_path: Path) -> None:
    scene = _series(tmp_path, ("2023-05-01", CLEAR), ("2023-05-06", 1100))
    assert _offsets(scene) == [0, 0]
    (warning,) = scene.decisions["warnings"]
    assert warning.startswith("2023-05-06: no metadata") and "tag the file PROCESSING_BASELINE=05.00" in warning
    put(tmp_path / "2023-05-06" / "s2.tif", dn(1, low=1100), tags={"LEVEL": "L2A", "PROCESSING_BASELINE": "05.00"})
    assert _offsets(open_scene(tmp_path)) == [0, -1000]


def test_without_a_dark_date_those_with_the_offset_speak_for_the_white_ones(tmp_path: Path) -> None:
    scene = _series(tmp_path, ("2023-05-01", 1100), ("2023-05-06", WHITE), ("2023-05-11", 1050))
    assert _offsets(scene) == [-1000, -1000, -1000]
    assert _offsets(_series(tmp_path / "white", ("2023-05-01", WHITE), ("2023-05-06", WHITE))) == [0, 0]


def test_eras_do_not_speak_for_each_other(tmp_path: Path) -> None:
    scene = _series(tmp_path, ("2021-05-01", CLEAR), ("2021-05-06", OVERCAST), ("2023-05-01", 1100), ("2023-05-06", WHITE))
    assert _offsets(scene) == [0, 0, -1000, -1000]


def test_the_command_says_what_is_worth_a_second_look(tmp_path: Path) -> None:
    _series(tmp_path / "in", ("2023-05-01", CLEAR), ("2023-05-06", 1100))
    command = ["remove", str(tmp_path / "in"), "--date", "2023-05-06", "--model", "nearest", "--workers", "1", "--out"]
    shown = CliRunner().invoke(app, [*command, str(tmp_path / "out")])
    assert shown.exit_code == 0 and shown.stderr.startswith("warning: 2023-05-06: no metadata")
    assert "warning" not in shown.stdout
    assert CliRunner().invoke(app, [*command, str(tmp_path / "quiet"), "-q"]).stderr == ""


def test_an_offset_option_is_of_counts_and_leaves_reflectance(tmp_path: Path) -> None:
    true = dn(0, low=1200).astype(np.float32) / np.float32(10_000)
    put(tmp_path / "2023-05-01" / "s2.tif", true, nodata=np.nan)
    put(tmp_path / "2023-05-06" / "s2.tif", dn(0, low=1200))
    scene = open_scene(tmp_path, offset=-1000, level="L2A")
    assert _offsets(scene) == [0, -1000]
    np.testing.assert_array_equal(scene.read().s2[0], true)
    np.testing.assert_allclose(scene.read().s2[1], true - np.float32(0.1), atol=1e-6)
    text = "reflectance, not counts: --offset -1000 does not apply"
    assert scene.decisions["offset"][0]["evidence"] == text
    assert f"2023-05-01: {text}" in scene.decisions["warnings"]
    assert open_scene(tmp_path, offset="none", level="L2A").decisions["warnings"] == []


def test_an_offset_tag_beside_a_scale_of_one_is_in_counts(tmp_path: Path) -> None:
    tags = {"LEVEL": "L2A", "PROCESSING_BASELINE": "05.00"}
    put(tmp_path / "2023-05-01" / "s2.tif", dn(0) + 1000, tags=tags, scale=(1, -1000))
    scene = open_scene(tmp_path)
    assert scene.decisions["offset"][0] == {
        "date": "2023-05-01", "offset": -1000.0, "evidence": "scale and offset tags: scale 1, offset -1000"
    }  # fmt: skip
    np.testing.assert_allclose(scene.read().s2[0] * 10_000, dn(0), atol=1e-2)
    (layer,) = scene.source.layers(0)
    assert (layer.scale_tags, layer.offset_tags, layer.offset) == ((1.0,) * 4, (-1000.0,) * 4, (-1000.0,) * 4)


def test_an_offset_tag_of_reflectance_is_not_used_and_decides_nothing(tmp_path: Path) -> None:
    true = dn(0).astype(np.float32) / np.float32(10_000)
    put(tmp_path / "2023-05-01" / "s2.tif", true, nodata=np.nan, tags={"LEVEL": "L2A"}, scale=(1, -1000))
    scene = open_scene(tmp_path)
    assert scene.decisions["offset"][0]["evidence"] == "reflectance, not counts"
    np.testing.assert_array_equal(scene.read().s2[0], true)
