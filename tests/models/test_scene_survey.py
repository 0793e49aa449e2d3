"""The sample that a place is studied in: read once, the same as if it had been read for every date and every mask anew."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from unclouded.errors import UsageError
from unclouded.models import scene_survey
from unclouded.models.probe import measure
from unclouded.models.scene_engine import Config, SceneEngine
from unclouded.models.scene_radar import anomalies
from unclouded.models.scene_study import hashed
from unclouded.models.scene_survey import BLOCK, EXTRA, PLOT, PLOTS, studied, surveyed
from unclouded.models.temporal import EDGE, Pixels
from unclouded.remove import study
from unclouded.sample import Cover, Place, Sample, Window
from unclouded.scenes.scene import Scene

SIZE = (300, 530)
PATCHES = [Window(120, 100, 24, 24), Window(140, 380, 24, 24)]  # in plots and between them


@pytest.fixture(scope="module")
def scene() -> Scene:
    return made(*SIZE)


def made(height: int, width: int, dates: int = 4) -> Scene:
    """Noise with square clouds, parts of two dates not measured, radar with gaps, and NaN under clouds."""
    rng = np.random.default_rng(1)
    days = np.cumsum(rng.integers(4, 9, dates))
    cloud = (rng.random((dates, height // 16 + 1, width // 16 + 1)) < 0.3).repeat(16, 1).repeat(16, 2)[:, :height, :width]
    valid = np.ones((dates, height, width), bool)
    valid[1, : height // 5], valid[2, :, -width // 7 :] = False, False
    s2 = rng.random((dates, 2, height, width), dtype=np.float32)
    cloud[3, 5:20, 7:30] = False
    s2[np.broadcast_to(cloud[:, None], s2.shape)] = np.nan
    sample = Sample(
        place=Place(id="noise", bands=("B02", "B08"), level="L2A", corner=(37, 1011)), s2=s2, s2_valid=valid,
        s2_dates=days.astype("datetime64[D]"), s1=(rng.standard_normal((3, 2, height, width)) - 12).astype(np.float32),
        s1_valid=rng.random((3, height, width)) > 0.1, s1_dates=np.array([0, 6, 13]).astype("datetime64[D]"),
    )  # fmt: skip
    classes = np.where(cloud, Cover.THICK, Cover.CLEAR).astype(np.uint8)
    classes[~valid] = Cover.NODATA
    classes[3, 5:20, 7:30] = Cover.NODATA  # though measured: no mask hides it
    return Scene.of(replace(sample, cloud=None), classes=classes)


def plainly(scene: Scene, day: int, seed: int = 0) -> Pixels:
    """The sample of one day, from the whole scene in memory and its definition."""
    sample = scene.read()
    days, clear = sample.s2_dates.astype(np.int64), sample.clear()
    if day not in days:
        at = int(np.searchsorted(days, day))
        days, clear = np.insert(days, at, day), np.insert(clear, at, False, axis=0)
        s2 = np.insert(sample.s2, at, 0, axis=0)
    else:
        s2 = sample.s2
    t = int(np.searchsorted(days, day))
    blocks = list(scene.blocks(BLOCK))
    rows, cols = np.indices(scene.shape)
    top, left = scene.place.origin
    inner = np.zeros((len(blocks), *scene.shape), bool)
    for mine, block in zip(inner, blocks, strict=True):
        mine[block.slices] = True
        mine &= ~ndimage.binary_dilation(~mine, np.ones((3, 3)), iterations=EDGE)  # pixels near which the block ends
    drawn = hashed(rows + top, cols + left, seed) < EXTRA / inner.sum()
    assert len(blocks) <= PLOTS  # every block has a plot
    order = []
    for mine, block in zip(inner, blocks, strict=True):
        plot = np.zeros(scene.shape, bool)
        row, col = block.row + max(block.height - PLOT, 0) // 2, block.col + max(block.width - PLOT, 0) // 2
        plot[row : row + PLOT, col : col + PLOT] = True
        order.append(np.flatnonzero((plot | drawn & clear[t]) & mine))
    at = np.concatenate(order)
    edge = np.minimum(ndimage.distance_transform_edt(clear[t]), EDGE).astype(np.float32)
    found, ground = anomalies(sample.s1, sample.s1_valid, sample.s1_dates.astype(np.int64), None, days)
    flat = lambda image: image.reshape(*image.shape[:-2], -1)[..., at]  # noqa: E731
    return Pixels(
        x=np.where(flat(clear)[:, None], flat(s2), np.float32(0)), clear=flat(clear), days=days,
        rows=flat(rows) + top, cols=flat(cols) + left, edge=flat(edge), radar=flat(found), ground=flat(ground),
    )  # fmt: skip


def same(found: Pixels, expected: Pixels) -> None:
    for name in ("x", "clear", "days", "rows", "cols", "edge", "radar", "ground"):
        a, b = getattr(found, name), getattr(expected, name)
        assert a.dtype == b.dtype and np.array_equal(a, b), name


def test_one_survey_gives_the_sample_of_every_date_and_of_every_veil(scene):
    survey = surveyed(scene, radar=True, seed=0)
    for day in scene.dates.astype(np.int64):
        same(survey.pixels(scene, int(day)), plainly(scene, int(day)))
    for t, windows in ((1, PATCHES), (3, PATCHES), (2, [scene.window])):
        veiled, day = scene.veiled(t, windows), int(scene.dates[t].astype(np.int64))
        hidden = survey.pixels(veiled, day)
        same(hidden, plainly(veiled, day))
        assert len(hidden) < len(survey.pixels(scene, day))
    assert np.isfinite(survey.pixels(scene, int(scene.dates[0].astype(np.int64))).x).all()


def test_a_day_that_is_no_date_of_the_scene_can_be_studied(scene):
    day = int(scene.dates[1].astype(np.int64)) + 1
    sample = studied(scene, day, True, 0)
    same(sample, plainly(scene, day))
    assert len(sample.days) == 5 and not sample.clear[2].any()
    with pytest.raises(UsageError, match="was not surveyed"):
        surveyed(scene, radar=True, seed=0).pixels(scene, day)


def test_each_block_is_read_by_itself_and_one_too_narrow_to_tell_is_not_read(monkeypatch):
    reads: list[Window] = []
    read = Scene.read
    monkeypatch.setattr(Scene, "read", lambda self, at=None, **more: reads.append(at) or read(self, at, **more))
    scene = made(300, 2 * BLOCK + EDGE)
    survey = surveyed(scene, radar=False, seed=0)
    assert reads == [Window(row, col, height, BLOCK) for row, height in ((0, 256), (256, 44)) for col in (0, BLOCK)]
    rows, cols = survey.rows - 37, survey.cols - 1011
    for first in (rows, cols):
        assert first.min() == 0 and not (np.abs(first - BLOCK + 0.5) < EDGE).any()
    assert rows.max() == 299 and cols.max() == 2 * BLOCK - EDGE - 1


def test_a_small_scene_is_taken_whole():
    small = made(40, 50)
    sample = studied(small, int(small.dates[0].astype(np.int64)), True, 0)
    assert len(sample) == 2000 and np.array_equal(sample.x[0, 0] > 0, small.read().clear()[0].ravel())


def test_files_and_processes_change_nothing(scene, tmp_path):
    day = int(scene.dates[1].astype(np.int64))
    kept = surveyed(scene, radar=True, seed=0, folder=tmp_path, workers=2)
    assert isinstance(kept.x, np.memmap) and kept.__getstate__()["x"] == tmp_path / "survey-x.npy"
    same(kept.pixels(scene, day), surveyed(scene, radar=True, seed=0).pixels(scene, day))


def test_radar_in_a_part_of_the_scene_only():
    scene = made(300, 530)
    scene.source.sample.s1_valid[..., :300] = False  # all of the first block of each row
    found = surveyed(scene, radar=True, seed=0)
    assert found.radar is not None and (found.radar[..., found.cols < 1011 + 290] == 0).all() and found.radar.any()
    assert surveyed(scene, radar=False, seed=0).radar is None


def test_another_scene_is_refused(scene):
    survey = surveyed(scene, radar=False, seed=0)
    with pytest.raises(UsageError, match="another scene"):
        survey.pixels(made(300, 529), int(scene.dates[0].astype(np.int64)))


def test_a_surveyed_engine_studies_and_measures_the_same_without_reading_its_sample_again(monkeypatch):
    scene = made(200, 260)
    engine, day = SceneEngine(Config(quality="fast")), scene.dates[0]
    ready = engine.surveyed(scene)
    plain, probe = study(engine, scene, day, 0, 1)
    monkeypatch.setattr(scene_survey, "surveyed", None)  # reading again would fail
    monkeypatch.setattr("unclouded.models.scene_engine.studied", None)
    adapted, again = study(ready, scene, day, 0, 1)
    assert probe == again and probe.kind == "target" and adapted.survey is None
    assert np.array_equal(adapted.model.weights, plain.model.weights) and plain.model.weights.any()
    assert measure(ready, scene, day) == probe


def test_radar_is_the_same_in_strips_of_any_height(monkeypatch):
    rng = np.random.default_rng(0)
    s1, valid = rng.normal(-12, 3, (6, 2, 50, 21)).astype(np.float32), rng.random((6, 50, 21)) > 0.1
    days, optical = np.arange(6) * 6, np.arange(0, 40, 5)
    results = []
    for rows in (1, 7, 64):
        monkeypatch.setattr("unclouded.models.scene_radar.ROWS", rows)
        results.append(anomalies(s1, valid, days, np.arange(6) % 2, optical))
    for found in results[:2]:
        assert all(np.array_equal(a, b) for a, b in zip(found, results[2], strict=True))
    assert np.abs(results[2][0]).max() > 1
