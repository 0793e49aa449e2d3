"""Protocols as views of a data set: what they show, and what an evaluation under them says."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from unclouded.bands import L1C
from unclouded.errors import InputMissing, UsageError
from unclouded.evaluation.data import open_data, simulated_places
from unclouded.evaluation.evaluate import Contender, evaluate
from unclouded.evaluation.protocols import clear_and_cloudy
from unclouded.evaluation.views import (
    NEEDED,
    PROTOCOLS,
    SHIFTS,
    Drawn,
    ShiftedRadar,
    Stitched,
    at_intervals,
    touching,
    viewed,
    whole,
)
from unclouded.models.needs import Needs
from unclouded.sample import Place, Prediction, Sample, Window

DAY = np.datetime64("2020-06-01", "D")


def pair(index=0, side=16, corner=(0, 0), roi="ROIs1158_spring_1", hidden=0.5, image=None):
    """One cloudy date, radar that counts its columns, and the truth."""
    rng = np.random.default_rng(index)
    target = (rng.uniform(0.05, 0.4, (13, side, side)) if image is None else image).astype(np.float32)
    cloud = np.zeros((1, side, side), np.float32)
    cloud[0, : round(hidden * side)] = 1
    columns = np.broadcast_to(np.arange(side, dtype=np.float32) - 30, (1, 2, side, side)).copy()
    seen = np.ones((1, side, side), bool)
    return Sample(
        place=Place(id=f"{roi}_p{index}", bands=L1C, level="L1C", corner=corner),
        s2=np.where(cloud[:, None] > 0, np.float32(0.9), target)[:1], s2_valid=seen, s2_dates=np.array([DAY]), cloud=cloud,
        s1=columns, s1_valid=seen, s1_dates=np.array([DAY]), target=target, target_valid=seen[0], target_date=DAY,
        target_index=0,
    )  # fmt: skip


def restoring(function):
    """A remover that is a function of the batch."""

    @dataclass(frozen=True)
    class Remover:
        needs: Needs = field(default_factory=lambda: Needs(cloud=False))

        def adapt(self, scene, date):
            return self

        def __call__(self, batch):
            return Prediction(s2=function(batch))

    return Remover()


def test_every_protocol_says_what_it_wants_and_unknown_ones_are_refused():
    assert set(NEEDED) == set(PROTOCOLS)
    with pytest.raises(UsageError, match="shifted-radar"):
        viewed("nobody", [pair()], "given")


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
def test_every_protocol_runs_on_the_simulated_place(tmp_path, name):
    samples = open_data("simulated", dates=1, protocol=name)
    told = evaluate(["identity"], samples, out=tmp_path, mask="given", protocol_name=name, draws=10, report=False).told
    assert told["images"] >= 4
    assert told["protocol"]["name"] == name
    variants = {"shifted-radar": 3, "synthetic": 3, "references": 3}.get(name, 0)
    assert len(told["models"]["identity"]["by_variant"]) == variants
    assert told["models"]["identity"]["rows"]["MAE hidden"]["value"] > 0


def test_a_model_that_copies_radar_loses_a_known_error_by_shift(tmp_path):
    """Radar counts its columns: shifted by n columns, its copy is wrong by n in all columns but those moved in."""
    side = 16
    columns = np.broadcast_to(np.arange(side) / 100, (13, side, side))
    copier = Contender("copier", remover=restoring(lambda b: ((b.s1[:, 0, :1] + 30) / 100).expand(-1, 13, -1, -1)))
    assert len(ShiftedRadar([pair()] * 2)) == 2 * len(SHIFTS)
    told = evaluate(
        [copier],
        [pair(image=columns, hidden=0)],
        out=tmp_path,
        mask="given",
        protocol_name="shifted-radar",
        report=False,
        draws=10,
    ).told
    found = {name: rows["MAE"] for name, rows in told["models"]["copier"]["by_variant"].items()}

    def error(n):
        """Mean over shifts up, down (no error inside; n rows of 30 dB moved in) and left, right."""
        filled = np.abs(np.clip((0 + 30) / 100, 0, 1) - np.arange(side) / 100)
        vertical = n / side * filled.mean()
        right = (filled[:n].sum() + (side - n) * n / 100) / side
        left = (filled[side - n :].sum() + (side - n) * n / 100) / side
        return (2 * vertical + left + right) / 4

    assert found["0 px"] == pytest.approx(0, abs=1e-6)
    assert found["1 px"] == pytest.approx(error(1), rel=1e-4)
    assert found["2 px"] == pytest.approx(error(2), rel=1e-4)


def patches(side=16, step=8, scene=None):
    """Overlapping patches of one scene of 40 x 40, and one far away."""
    scene = np.random.default_rng(1).uniform(0.05, 0.4, (13, 40, 40)) if scene is None else scene
    corners = [(r, c) for r in range(0, 25, step) for c in range(0, 25, step)]
    near = [pair(k, side, (r, c), image=scene[:, r : r + side, c : c + side]) for k, (r, c) in enumerate(corners)]
    return scene, [*near, pair(99, side, (300, 300))]


def test_stitched_scenes_hold_the_whole_and_models_see_patches(tmp_path):
    scene, samples = patches()
    view = Stitched(samples, "given")
    assert len(view) == 1 and len(view.parts(0)) == 16  # the far patch is alone
    assert view[0].shape == (40, 40)
    np.testing.assert_allclose(view[0].target, scene, rtol=1e-6)
    seen = []

    def predict(batch):
        seen.append(tuple(batch.s2.shape[-2:]))
        return batch.s2[:, 0] * 0 + 0.1 + 0.001 * len(seen)

    told = evaluate(
        [Contender("m", remover=restoring(predict))], samples, out=tmp_path, mask="given", protocol_name="stitched",
        report=False, draws=10,
    ).told  # fmt: skip
    assert seen == [(16, 16)] * 16
    total, count = np.zeros((40, 40)), np.zeros((40, 40))
    for k, part in enumerate(view.parts(0)):
        r, c = part.place.corner
        total[r : r + 16, c : c + 16] += 0.1 + 0.001 * (k + 1)
        count[r : r + 16, c : c + 16] += 1
    mean = total / count
    assert told["models"]["m"]["rows"]["MAE"]["value"] == pytest.approx(np.abs(mean - scene).mean(), rel=1e-5)
    assert told["images"] == 1


def test_stitched_report_shows_the_bands_at_60_m(tmp_path):
    _, samples = patches()
    evaluate(["identity"], samples, out=tmp_path, mask="given", protocol_name="stitched", draws=10)
    html = (tmp_path / "report.html").read_text()
    assert all(f"<h4>{band}, 60 m</h4>" in html for band in ("B01", "B09", "B10"))
    assert "protocol stitched" in html


def test_where_no_patch_lies_nothing_counts():
    parts = [pair(0, corner=(0, 0)), pair(1, corner=(16, 8))]
    scene = whole(parts)
    assert scene.shape == (32, 24)
    assert scene.target_valid.sum() == scene.s2_valid.sum() == 2 * 16 * 16
    assert not scene.target_valid[0, 20] and not scene.target_valid[20, 0]


def test_patches_touch_along_edges_not_corners():
    found = touching({5: Window(0, 0, 4, 4), 2: Window(0, 4, 4, 4), 7: Window(4, 8, 4, 4), 9: Window(7, 11, 4, 4)})
    assert found == [[2, 5], [7, 9]]
    bridge = {0: Window(0, 0, 4, 4), 1: Window(0, 8, 4, 4), 2: Window(0, 4, 4, 4)}
    assert touching(bridge) == [[0, 1, 2]]


def test_reference_dates_by_hand():
    dates = DAY + np.array([0, 10, 14, 24, 40, 71])
    hidden = np.array([0.6, 0.0, 0.0, 0.04, 0.3, 0.0])
    assert at_intervals(dates, hidden, (13, 25, 72)) == (0, (2, 3, 5))  # 14, 24 and 71 days
    assert at_intervals(dates, hidden, (13,))[0] == 0
    assert at_intervals(dates, np.zeros(6), (13, 25, 72)) == (-1, ())  # no cloudy date
    assert at_intervals(dates[:3], hidden[:3], (13, 25, 72)) == (-1, ())  # too few clear ones


def test_references_score_by_the_days_between(tmp_path):
    samples = simulated_places(protocol="references", side=32, count=2)
    told = evaluate(
        ["identity"], samples, out=tmp_path, mask="given", protocol_name="references", report=False, draws=10
    ).told["models"]["identity"]  # fmt: skip
    assert [told["by_variant"][f"{n} days"]["images"] for n in (13, 25, 72)] == [2, 2, 2]
    assert set(told["by_interval"]) == {"13 days", "25 days", "72 days"}
    with pytest.raises(InputMissing, match="series with a cloudy date and 3 later clear ones"):
        viewed("references", [pair()], "given")


def test_synthetic_clouds_over_the_same_ground(tmp_path):
    samples = [pair(k, side=32) for k in range(3)]
    view = viewed("synthetic", samples, "given")
    assert len(view) == 9
    assert [view.variant(k) for k in range(3)] == ["real", "perlin", "copied"]
    for k in range(3):
        np.testing.assert_array_equal(view[k].target, samples[0].target)
    assert (view[1].cloud >= 0.5).mean() == pytest.approx(0.5, abs=0.01)  # as much as the real ones
    told = evaluate(["identity"], samples, out=tmp_path, mask="given", protocol_name="synthetic", report=False, draws=10).told
    found = told["models"]["identity"]["by_variant"]
    assert {name: rows["images"] for name, rows in found.items()} == {"copied": 3, "perlin": 3, "real": 3}
    expected = np.mean([np.abs(s.s2[0] - s.target).mean() for s in samples])
    assert found["real"]["MAE"] == pytest.approx(expected, rel=1e-4)


def test_drawn_by_cover_takes_as_many_of_every_fifth():
    samples = [pair(k, hidden=h) for k, h in enumerate([0.05, 0.1, 0.15, 0.5, 0.5, 0.95])]
    view = Drawn(samples, "given", each=2)
    chosen = view.chosen.tolist()
    assert len(chosen) == 5 and sum(k < 3 for k in chosen) == 2 and {3, 4, 5} <= set(chosen)
    assert view[0].place.id == samples[chosen[0]].place.id


def test_transplants_of_many_series_are_those_of_each():
    samples = simulated_places(protocol="transplanted", side=32, count=2)
    view = viewed("transplanted", samples, "given")
    assert len(view) == sum(len(clear_and_cloudy(s)) for s in samples) > 3
    assert view[0].place.id.startswith("simulated-0@2024-04-14<")
    assert view[0].target_index == 1 and view[0].hidden().any()


def test_another_protocol_in_the_folder_is_refused(tmp_path):
    evaluate(["identity"], [pair()], out=tmp_path, mask="given", report=False, draws=10)
    with pytest.raises(UsageError, match="protocol was None"):
        evaluate(["identity"], [pair()], out=tmp_path, mask="given", protocol_name="shifted-radar", report=False)


def test_a_sample_without_radar_is_told(tmp_path):
    bare = replace(pair(), s1=None, s1_valid=None, s1_dates=None)
    view = viewed("shifted-radar", [bare], "given")
    with pytest.raises(InputMissing, match="no radar to shift"):
        view[0]
