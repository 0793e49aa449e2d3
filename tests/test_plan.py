"""What --dry-run says: units as they will be, memory as it is, more work takes longer."""

from __future__ import annotations

import numpy as np
import pytest

from batch.fields import write_field
from scenes.test_series import box, dn, put
from unclouded import plan
from unclouded.budget import afford, copying
from unclouded.errors import BudgetTooSmall, InputMissing
from unclouded.models import load, weights
from unclouded.models.seq2point import Config, Seq2Point
from unclouded.models.zoo import network
from unclouded.plan import COSTS, Glimpse, _mask_seconds, _rims, _spread, estimate, pace
from unclouded.products import product as product_module
from unclouded.raster import create_raster, grid_of, open_raster
from unclouded.remove import remove_clouds
from unclouded.scenes.open import open_scene


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    return write_field(tmp_path_factory.mktemp("plan") / "field", dates=3, size=(210, 150))


def test_units_and_bytes_are_those_of_the_run(tmp_path, field, monkeypatch):
    scene = open_scene(field)
    said = estimate(scene, list(scene.dates), "linear", memory=2 << 30)
    seen = []
    true = product_module.ProductWriter.keep
    monkeypatch.setattr(
        product_module.ProductWriter, "keep", lambda self, block: (seen.append(block.window), true(self, block))
    )
    made = remove_clouds(field, tmp_path / "out", all_dates=True, model="linear", memory=2 << 30)
    assert len(seen) == said["blocks"] == 3 and len(made) == said["dates"]
    shares = [1 - (m.manifest["pixels"]["observed"] / (210 * 150)) for m in made]
    assert abs(said["hidden"] - np.mean(shares)) < 0.25 * np.mean(shares)


def test_more_work_takes_longer_and_a_slow_machine_too(field, monkeypatch):
    monkeypatch.setattr("unclouded.plan.pace", lambda: 1.0)
    scene = open_scene(field)
    one, all_ = (estimate(scene, days, "scene")["minutes"] for days in (scene.dates[:1], list(scene.dates)))
    assert 0 < one < all_ < 4 * one
    monkeypatch.setattr("unclouded.plan.pace", lambda: 3.0)
    assert estimate(scene, scene.dates[:1], "scene")["minutes"] > 2.5 * one


def test_masks_that_follow_the_clouds_cost_where_the_pixels_are_rebuilt(field):
    scene, whole = open_scene(field), 10.0 * COSTS["margins"]
    few, many, final = Glimpse(0.04, 0.1), Glimpse(0.4, 0.1), Glimpse(0.4, 0.1, final=True)
    for seen, near in (([few], False), ([many], True), ([few, many], True)):
        assert _mask_seconds(scene, seen, 10.0, near, 2.0) == (whole, 0.0, 0.0)
    compared, given = (_mask_seconds(scene, seen, 10.0, True, 2.0) for seen in ([few], [final, final]))
    assert given.at_once == pytest.approx(2 * 2.0 * COSTS["final"] * 0.3)
    assert given.at_once < compared.at_once < whole
    assert compared[1:] == given[1:] and min(given.to_rebuild, given.to_study) >= whole  # with margins


def test_masks_follow_the_clouds_where_the_method_and_the_dates_allow_it(field, monkeypatch):
    scene, asked = open_scene(field), []
    true = plan._mask_seconds
    monkeypatch.setattr(plan, "_mask_seconds", lambda *given: asked.append(given[3]) or true(*given))
    for model, days in (("linear", scene.dates[:1]), ("least-cloudy", scene.dates[:1]), ("linear", scene.dates)):
        estimate(scene, list(days), model)
    assert asked == [True, False, False]


def test_the_pace_is_a_time_over_that_of_the_reference(monkeypatch):
    fast = pace(3)
    assert fast > 0
    monkeypatch.setattr("unclouded.plan.PIECE", 1e-9)
    assert pace(3) > 100 * fast


def test_a_budget_is_checked_before_anything_is_done(field):
    scene = open_scene(field)
    with pytest.raises(BudgetTooSmall):
        estimate(scene, scene.dates[:1], "linear", memory=100 << 20)


def test_pixels_without_data_count_where_they_are_to_be_filled(tmp_path):
    folder = write_field(tmp_path / "field", dates=3, size=(210, 150))
    with open_raster(folder / "2020-01-06" / "s2.tif") as file:
        counts, profile = file.read(), file.profile
        names, tags, grid = file.descriptions, file.tags(), grid_of(file)
    counts[:, 100:] = 0
    with create_raster(
        folder / "2020-01-06" / "s2.tif", height=210, width=150, count=3, dtype=profile["dtype"], grid=grid, nodata=0,
        descriptions=names, tags={"PROCESSING_LEVEL": tags["PROCESSING_LEVEL"]},
    ) as file:  # fmt: skip
        file.write(counts)
    scene = open_scene(folder)
    days = [scene.dates[1]]
    bare, filled = (estimate(scene, days, "linear", fill_nodata=fill)["hidden"] for fill in (False, True))
    made = remove_clouds(folder, tmp_path / "out", date=days[0], model="linear", fill_nodata=True)
    rebuilt = 1 - made.manifest["pixels"]["observed"] / (210 * 150)
    assert bare < 0.2 and rebuilt > 0.55
    assert filled == pytest.approx(rebuilt, abs=0.02)


def test_one_file_for_all_bands_is_larger(tmp_path, monkeypatch):
    for n, day in enumerate(("2018-05-21", "2018-05-26")):
        for k, band in enumerate(("B02", "B03", "B04")):
            put(tmp_path / day / f"{band}.tif", dn(n + k, 1), names=(band,))
        put(tmp_path / day / "B11.tif", dn(n + 5, 1, (12, 15)), grid=box(12, 15, 20), names=("B11",))
    scene = open_scene(tmp_path)
    monkeypatch.setattr("unclouded.plan.MIB", 1)
    native, joined = (estimate(scene, [scene.dates[0]], "nearest", resolution=r)["write_mib"] for r in (None, 10))
    assert joined - native == 2 * (24 * 30 - 12 * 15)  # bytes of B11, repeated on the 10 m grid


def test_what_an_earlier_run_learned_is_not_studied_again(tmp_path, field):
    remove_clouds(field, tmp_path / "out", date="2020-01-06")
    scene = open_scene(field)
    seconds = estimate(scene, [scene.dates[1]], "scene")["cpu_seconds"]["study"]
    said = estimate(scene, [scene.dates[1]], "scene", scene_model=tmp_path / "out")
    assert seconds > 0 == said["cpu_seconds"]["study"]
    with pytest.raises(InputMissing, match="no scene model here"):
        estimate(scene, [scene.dates[0]], "scene", scene_model=tmp_path / "out")


def test_a_trained_network_says_what_it_holds_and_where_it_computes(tmp_path, field):
    scene, file = open_scene(field), tmp_path / "w.safetensors"
    weights.save(file, "seq2point", Seq2Point(Config(bands=scene.place.bands, level="L2A", sar=False, features=4, blocks=1)))
    said = estimate(scene, scene.dates[:1], str(file), device="cpu")
    more = said["memory_mib"] - estimate(scene, scene.dates[:1], "linear")["memory_mib"]
    assert said["device"] == "cpu" and 0 < more <= network("seq2point").held
    limit = (said["memory_mib"] - 1) << 20
    assert estimate(scene, scene.dates[:1], "linear", memory=limit)["blocks"] == 1
    with pytest.raises(BudgetTooSmall):
        estimate(scene, scene.dates[:1], str(file), memory=limit)


@pytest.mark.parametrize("size", [(40, 30), (300, 1000), (10980, 10980)])
def test_windows_to_look_at_lie_inside_and_reach_the_corners(size):
    class Empty:
        shape = size

    windows = _spread(Empty(), 9)
    assert all(w.row >= 0 and w.row + w.height <= size[0] and w.col + w.width <= size[1] for w in windows)
    assert (windows[0].row, windows[0].col) == (0, 0)
    assert (windows[-1].row + windows[-1].height, windows[-1].col + windows[-1].width) == size
    assert len(windows) == len(set(windows)) <= 9


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_mask_file_is_what_counts(tmp_path, field, share):
    bare = open_scene(field)
    with create_raster(tmp_path / "mask.tif", height=210, width=150, count=1, dtype="uint8", grid=bare.place.grid) as target:
        target.write(np.full((1, 210, 150), share, np.uint8))
    scene = open_scene(field, given={str(bare.dates[1]): tmp_path / "mask.tif"})
    said = estimate(scene, [scene.dates[1]], "scene")
    assert said["hidden"] == share
    assert (said["cpu_seconds"]["study"] > 0) == (share > 0)
    needs = load("scene").needs
    most = afford(scene, needs).peak if share else copying(scene, needs, 1)
    assert said["memory_mib"] == round(most / 2**20)
    assert said["minutes"] == pytest.approx(sum(said["cpu_seconds"].values()) / 60, abs=0.02)


def test_rims_are_cells_with_hidden_and_clear_pixels_near_each_other():
    nothing, everything = np.zeros((256, 256), bool), np.ones((256, 256), bool)
    assert _rims(nothing, everything) == _rims(everything, everything) == 0
    spot = nothing.copy()
    spot[70, 70] = True
    assert _rims(spot, everything) == 64**2
    half = nothing.copy()
    half[:, :100] = True  # the first cells are too far from clear ground
    assert _rims(half, everything) == 4 * 64**2
    half[:, :200] = True
    assert _rims(half, everything) == 2 * 4 * 64**2
    assert _rims(spot, spot) == 0  # what was not measured is not clear


def test_looking_for_hidden_pixels_counts_the_margin(field):
    scene = open_scene(field)
    shares = [estimate(scene, [scene.dates[1]], "linear", grow=metres)["hidden"] for metres in (0.0, 100.0)]
    assert 0 < shares[0] < shares[1] <= 1
