"""One's own patches: chosen by cover and season, whole, in the official layout, split by region without shared ground."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from unclouded.bands import L2A
from unclouded.datasets.build import Recipe, build_series, build_triplets
from unclouded.datasets.check import check
from unclouded.datasets.index import Measure
from unclouded.datasets.patches import described
from unclouded.datasets.sen12mscr import SEN12MSCR
from unclouded.datasets.sen12mscrts import SEN12MSCRTS
from unclouded.datasets.simulated import simulate
from unclouded.datasets.split import read_table
from unclouded.errors import InputCorrupt, InputMissing, InputsContradict, OutputFailed, UsageError
from unclouded.sample import Place, Sample, Window

TEN = tuple(b for b in L2A if b not in ("B01", "B09"))
RECIPE = Recipe(size=24, stride=24, region=48, cloudy=(0.1, 1.0), clear=0.02, shares=(0.5, 0.25, 0.25))


@dataclass
class Held:
    """A scene in memory."""

    sample: Sample

    @property
    def place(self) -> Place:
        return self.sample.place

    @property
    def shape(self) -> tuple[int, int]:
        return self.sample.shape

    def read(self, window: Window) -> Sample:
        return self.sample.crop(window)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNCLOUDED_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def scene() -> Held:
    days = ["2024-04-02", "2024-04-12", "2024-05-02", "2024-07-01", "2024-07-11"]
    return Held(simulate(seed=3, size=(100, 100), dates=days, cover=[0, 0.9, 1, 0.95, 0], s1_every=5).sample)


def test_triplets_pair_a_cloudy_and_a_clear_image_of_one_season(scene: Held, tmp_path: Path) -> None:
    built = build_triplets([scene], tmp_path, RECIPE)
    data = SEN12MSCR(tmp_path, split=None)
    assert sorted(map(str, data.patches)) == sorted(built.patches) and len(built.patches) > 16
    assert {p.roi.group for p in data.patches} == {"ROIs9000_spring", "ROIs9000_summer"}
    assert {p.roi.number for p in data.patches} == {1, 2, 3, 4}  # 100 = 48 + 48 + 4: the rest holds no patch
    whole = scene.sample
    dates = {"spring": (0, (1, 2)), "summer": (4, (3,))}
    for n, patch in enumerate(data.patches):
        sample = data[n]
        clear, cloudy = dates[patch.roi.group.split("_")[1]]
        row, col = (a - b for a, b in zip(sample.place.origin, whole.place.origin, strict=True))
        cut = (..., *Window(row, col, 24, 24).slices)
        assert np.array_equal(sample.target, whole.s2[clear][cut])
        assert any(
            np.array_equal(sample.s2[0], whole.s2[t][cut]) and (whole.cloud[t][cut] >= 0.5).mean() >= 0.1 for t in cloudy
        )
        assert any(np.array_equal(sample.s1[0], s1[cut]) for s1 in whole.s1)
        assert (whole.cloud[clear][cut] >= 0.5).mean() <= 0.02


def test_splits_share_no_ground(scene: Held, tmp_path: Path) -> None:
    built = build_triplets([scene], tmp_path, RECIPE)
    splits = read_table((tmp_path / "splits.csv").read_text().splitlines(), where="built")
    assert splits == built.splits
    by_ground = {roi.ground: split for roi, split in splits.items()}
    assert sorted(by_ground.values()) == ["test", "train", "train", "val"] and all(
        splits[r] == by_ground[r.ground] for r in splits
    )
    report = check([tmp_path], splits=splits)
    assert report.leaks == [] and report.faults == []
    parts = [len(SEN12MSCR(tmp_path, split=s)) for s in ("train", "val", "test")]
    assert sum(parts) == len(built.patches) and parts[0] > max(parts[1:])
    other = build_triplets([scene], tmp_path / "other", replace(RECIPE, seed=5)).splits
    assert set(other) == set(splits) and build_triplets([scene], tmp_path / "same", RECIPE).splits == splits


def test_overlapping_patches_stay_within_their_region(scene: Held, tmp_path: Path) -> None:
    built = build_triplets([scene], tmp_path, replace(RECIPE, stride=12))
    assert len(built.patches) > 2 * 16 * 1.2
    assert check([tmp_path], splits=built.splits).leaks == []


def test_what_is_not_whole_is_left_out_and_counted(scene: Held, tmp_path: Path) -> None:
    valid, s1_valid = scene.sample.s2_valid.copy(), scene.sample.s1_valid.copy()
    valid[:, 5, 5] = False  # no date of the first patch is whole
    s1_valid[:, 30, 30] = False
    holes = Held(replace(scene.sample, s2_valid=valid, s1_valid=s1_valid))
    built = build_triplets([holes], tmp_path, RECIPE)
    assert built.left_out["not wholly measured"] == 2 and built.left_out["no radar near in time"] >= 1
    assert "ROIs9000_spring/1/p1" in built.patches  # numbers have no gaps
    dead = scene.sample.s2.copy()
    dead[0, 3, :24, :24] = 0.1
    assert (
        build_triplets([Held(replace(scene.sample, s2=dead))], tmp_path / "b", RECIPE).left_out["no clear image in the season"]
        >= 1
    )
    with pytest.raises(InputMissing, match="no cloudy image in the season: "):
        build_triplets([scene], tmp_path / "c", replace(RECIPE, cloudy=(2.0, 3.0)))


def test_series_hold_every_whole_date_with_its_radar(scene: Held, tmp_path: Path) -> None:
    valid = scene.sample.s2_valid.copy()
    valid[2, 50:, 50:] = False
    built = build_series([Held(replace(scene.sample, s2_valid=valid))], tmp_path, RECIPE)
    data = SEN12MSCRTS(tmp_path, split=None)
    assert sorted(map(str, data.series)) == sorted(built.patches) and len(data) == 16
    lengths = {str(s): len(s.s2) for s in data.series}
    assert lengths["ROIs9000/1/patch_0"] == 5 and lengths["ROIs9000/4/patch_3"] == 4
    first = data[0]
    assert np.array_equal(first.s2, scene.sample.s2[:, :, :24, :24]) and np.array_equal(first.s2_dates, scene.sample.s2_dates)
    assert np.abs((first.s1_dates[:, None] - first.s2_dates[None]).astype(int)).min(0).max() <= 6


def test_clouds_must_be_known_and_patches_must_fit(scene: Held, tmp_path: Path) -> None:
    blind = Held(replace(scene.sample, cloud=None))
    with pytest.raises(UsageError, match="no cloud masks"):
        build_triplets([blind], tmp_path, RECIPE)
    known = Measure("known", lambda s: scene.read(Window(*_corner(scene, s), 24, 24)).cloud)
    assert (
        build_triplets([blind], tmp_path / "a", RECIPE, measure=known).patches
        == build_triplets([scene], tmp_path / "b", RECIPE).patches
    )
    for wrong in (replace(RECIPE, size=50), replace(RECIPE, size=200, region=400), replace(RECIPE, stride=0)):
        with pytest.raises(UsageError, match="do not fit"):
            build_triplets([scene], tmp_path, wrong)


def test_scenes_are_numbered_through_and_must_be_of_one_kind(scene: Held, tmp_path: Path) -> None:
    far = replace(scene.sample, place=replace(scene.place, grid=scene.place.grid.translate_pix(500, 0)))
    built = build_triplets([scene, Held(far)], tmp_path / "two", RECIPE)
    assert {roi.number for roi in built.splits} == set(range(1, 9)) and check([tmp_path / "two"]).faults == []
    with pytest.raises(OutputFailed, match="already holds patches"):
        build_series([scene], tmp_path / "two", RECIPE)
    few = replace(scene.sample, place=replace(scene.place, bands=TEN[:3]), s2=scene.sample.s2[:, :3])
    with pytest.raises(InputsContradict, match="2 sets of bands"):
        build_triplets([scene, Held(few)], tmp_path / "mixed", RECIPE)


def test_a_set_says_its_bands_and_nonsense_is_refused(scene: Held, tmp_path: Path) -> None:
    build_series([scene], tmp_path, RECIPE)
    assert described(tmp_path, None, None) == (TEN, "L2A") and described(tmp_path, ("B02",), "L1C") == (("B02",), "L1C")
    for text in ("nonsense", '{"bands": ["B99"], "level": "L2A"}', '{"bands": ["B02"], "level": 3}', "[]"):
        (tmp_path / "dataset.json").write_text(text)
        with pytest.raises(InputCorrupt, match=r"dataset\.json"):
            SEN12MSCRTS(tmp_path, split=None)


def _corner(scene: Held, sample: Sample) -> tuple[int, int]:
    row, col = (a - b for a, b in zip(sample.place.origin, scene.place.origin, strict=True))
    return row, col
