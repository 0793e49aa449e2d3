"""SEN12MS-CR, SEN12MS-CR-TS and SEN1-2: values as stored, exact splits, drawn dates, words for everything broken."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unclouded.bands import L1C
from unclouded.datasets import index as indexing
from unclouded.datasets.augment import Augment
from unclouded.datasets.draws import Unpaired, draw, order
from unclouded.datasets.index import Measure, open_index
from unclouded.datasets.offline import SimulatedSeries, SimulatedTriplets, write_image, write_sen12mscr, write_sen12mscrts
from unclouded.datasets.sen12 import SEN12, Stretch
from unclouded.datasets.sen12mscr import PUBLISHED_TEST, SEN12MSCR
from unclouded.datasets.sen12mscrts import SEN12MSCRTS, choose
from unclouded.datasets.split import SPLITS, Roi, binned_draw, parse_roi, read_table, regions, table
from unclouded.datasets.views import as_torchgeo, panels, plot
from unclouded.errors import InputCorrupt, InputMissing, InputsContradict, InputUnsupported, LeakFound, RecordError, UsageError
from unclouded.raster import open_raster

SPRING, FALL = Roi("ROIs1158_spring", 1), Roi("ROIs1970_fall", 139)
BRIGHT = Measure("bright", lambda s: (np.median(s.s2[:, 1:4], 1) > 0.25).astype(np.float32))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNCLOUDED_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def triplets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("triplets")
    write_sen12mscr(root, [SPRING, FALL], patches=3, size=32)
    return root


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("series")
    write_sen12mscrts(root, [Roi("ROIs2017", 146), Roi("ROIs2017", 63)], patches=1, dates=6, size=24)
    return root


def stored(path: Path) -> np.ndarray:
    with open_raster(path) as file:
        return file.read()


# -- splits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dataset", "counts"), [("sen12mscr", (155, 10, 10)), ("sen12mscrts", (35, 5, 13))])
def test_splits_are_disjoint_by_exact_row_and_complete(dataset: str, counts: tuple[int, int, int]) -> None:
    parts = [regions(dataset, split) for split in SPLITS]
    assert tuple(map(len, parts)) == counts
    assert len(frozenset().union(*parts)) == sum(counts) == len(table(dataset))


def test_the_substring_rule_leaks_exactly_the_published_regions() -> None:
    train = regions("sen12mscr", "train", "as_published_substring")
    leaked = [sorted(str(r) for r in train & regions("sen12mscr", split)) for split in ("test", "val")]
    assert leaked[0] == sorted(
        ["ROIs1158_spring/106", "ROIs1158_spring/123", "ROIs1158_spring/140", "ROIs1868_summer/119", "ROIs1868_summer/73",
         "ROIs1970_fall/139"]
    )  # fmt: skip
    assert leaked[1] == sorted(["ROIs1158_spring/17", "ROIs1970_fall/65", "ROIs2017_winter/84"])
    patches = sum(PUBLISHED_TEST[name] for name in leaked[0])
    assert (patches, sum(PUBLISHED_TEST.values())) == (4764, 7899)


def test_across_the_data_sets_two_regions_change_sides() -> None:
    def ground(dataset: str, split: str) -> set[tuple[str, int]]:
        return {roi.ground for roi in regions(dataset, split)}

    assert ground("sen12mscr", "train") & ground("sen12mscrts", "test") == {("ROIs1868", 100)}
    assert ground("sen12mscr", "val") & ground("sen12mscrts", "train") == {("ROIs2017", 130)}


def test_split_tables_are_pinned_and_bad_rows_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from unclouded.datasets import split

    table.cache_clear()
    monkeypatch.setitem(split.DIGESTS, "sen12mscr", "0" * 64)
    with pytest.raises(InputCorrupt, match="has been changed"):
        table("sen12mscr")
    monkeypatch.undo()
    table.cache_clear()
    with pytest.raises(InputUnsupported, match="earlier release"):
        table("meraner2020")
    with pytest.raises(LeakFound, match="ROIs1158_spring/1 is in train and test"):
        read_table(["roi,split,source", "ROIs1158_spring/1,train,x", "ROIs1158_spring/1,test,x"], where="mine")
    with pytest.raises(InputCorrupt, match="there twice"):
        read_table(["roi,split,source", "ROIs1158_spring/1,train,x", "ROIs1158_spring/1,train,x"], where="mine")
    with pytest.raises(InputCorrupt, match="'exam'"):
        read_table(["roi,split,source", "ROIs1158_spring/1,exam,x"], where="mine")
    with pytest.raises(UsageError, match="not a region"):
        parse_roi("spring 4")


def test_the_binned_draw_is_the_same_for_any_order_and_fills_every_bin() -> None:
    covers = {f"p{i}": i / 999 for i in range(1000)}
    names, digest = binned_draw(covers, per_bin=20, seed=1)
    again, same = binned_draw(dict(reversed(covers.items())), per_bin=20, seed=1)
    _, another = binned_draw(covers, per_bin=20, seed=2)
    assert names == again and digest == same and digest != another and len(set(names)) == 100
    drawn = np.array([covers[n] for n in names])
    assert [int(((drawn >= low) & (drawn < low + 0.2)).sum()) for low in (0, 0.2, 0.4, 0.6)] == [20] * 4
    with pytest.raises(InputMissing, match="20% to 40%"):
        binned_draw({n: c for n, c in covers.items() if not 0.25 < c < 0.4}, per_bin=60)


# -- SEN12MS-CR --------------------------------------------------------------------------------------------------------


def test_a_triplet_has_the_stored_values_in_physical_units(triplets: Path) -> None:
    data = SEN12MSCR(triplets, split=None)
    assert [str(p) for p in data.patches] == [f"{roi}/p{n}" for roi in (SPRING, FALL) for n in (1, 2, 3)]
    sample = data[4]
    at = triplets / "ROIs1970_fall_{0}/{0}_139/ROIs1970_fall_{0}_139_p2.tif".replace("{0}", "{kind}").format(kind="s2_cloudy")
    assert np.array_equal(sample.s2[0], stored(at).astype(np.float32) / np.float32(10_000))
    assert np.array_equal(
        sample.target, stored(Path(str(at).replace("s2_cloudy", "s2"))).astype(np.float32) / np.float32(10_000)
    )
    assert np.array_equal(sample.s1[0], stored(Path(str(at).replace("s2_cloudy", "s1"))))
    assert sample.place.bands == L1C and sample.place.level == "L1C" and sample.target_index == 0
    assert str(sample.s2_dates[0]) == "2018-10-15" and sample.s2_valid.all()
    with open_raster(at) as file:
        assert sample.place.grid.affine == file.transform and sample.place.grid.crs.to_epsg() == file.crs.to_epsg()


def test_splits_seasons_regions_and_bands_select(triplets: Path) -> None:
    assert [p.roi for p in SEN12MSCR(triplets, split="test").patches] == [FALL] * 3
    assert [p.roi for p in SEN12MSCR(triplets, split="train").patches] == [SPRING] * 3
    leaky = SEN12MSCR(triplets, split="train", rule="as_published_substring")
    assert {p.roi for p in leaky.patches} == {SPRING, FALL}  # fall 1 and 13... let 139 in
    assert len(SEN12MSCR(triplets, split=None, seasons=["fall"])) == len(SEN12MSCR(triplets, split=None, rois=[str(FALL)])) == 3
    few = SEN12MSCR(triplets, split=None, bands=("B12", "B02"), s1=False)[0]
    full = SEN12MSCR(triplets, split=None)[0]
    assert np.array_equal(few.s2[0], full.s2[0][[12, 1]]) and few.s1 is None
    with pytest.raises(InputMissing, match="split val"):
        SEN12MSCR(triplets, split="val")
    with pytest.raises(InputUnsupported, match="no band B99"):
        SEN12MSCR(triplets, split=None, bands=("B99",))[0]


def test_covers_are_measured_once_and_filter(triplets: Path, tmp_path: Path) -> None:
    calls = []

    def cloud(sample):
        calls.append(sample.place.id)
        return BRIGHT.cloud(sample)

    counting = Measure("bright", cloud)
    data = SEN12MSCR(triplets, split=None, measure=counting)
    covers = [data.cover(i) for i in range(6)]
    truth = [float((np.median(data[i].s2[0, 1:4], 0) > 0.25).mean()) for i in range(6)]
    assert covers == pytest.approx(truth) and max(covers) > min(covers)
    middle = max(covers)
    calls.clear()
    kept = SEN12MSCR(triplets, split=None, measure=counting, cover=(middle, 1.0))
    assert calls == [] and len(kept) == sum(c >= middle for c in covers) < 6  # remembered by a new object, from disk
    assert kept[0].cloud is not None
    other = SEN12MSCR(triplets, split=None, measure=Measure("other", cloud))
    other.cover(0)
    assert len(calls) == 2  # one for the sample above, one for the new name
    with pytest.raises(UsageError, match="measure"):
        SEN12MSCR(triplets, split=None, cover=(0, 1))


def copy(triplets: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(triplets, tmp_path / "copy"))


def test_everything_broken_is_said_in_words(triplets: Path, tmp_path: Path) -> None:
    root = copy(triplets, tmp_path)
    at = {kind: root / f"ROIs1158_spring_{kind}/{kind}_1" for kind in ("s1", "s2", "s2_cloudy")}
    (at["s1"] / "ROIs1158_spring_s1_1_p1.tif").unlink()
    cut = at["s2"] / "ROIs1158_spring_s2_1_p2.tif"
    cut.write_bytes(cut.read_bytes()[:5000])
    shutil.copy(at["s1"] / "ROIs1158_spring_s1_1_p3.tif", at["s2"] / "ROIs1158_spring_s2_1_p3.tif")
    moved = root / "ROIs1970_fall_s1/s1_139/ROIs1970_fall_s1_139_p1.tif"
    shutil.copy(root / "ROIs1970_fall_s1/s1_139/ROIs1970_fall_s1_139_p2.tif", moved)
    data = SEN12MSCR(root, split=None)
    with pytest.raises(InputMissing, match=r"s1_1_p1\.tif is not there(.|\n)*s1=False"):
        data[0]
    with pytest.raises(InputCorrupt, match=r"s2_1_p2\.tif is damaged"):
        data[1]
    with pytest.raises(InputCorrupt, match=r"2 bands of float32(.|\n)*expected 13 bands of integer"):
        data[2]
    with pytest.raises(InputsContradict, match="not show the same ground"):
        data[3]
    assert data[4].s2.shape == (1, 13, 32, 32)
    with pytest.raises(InputMissing, match="no data set"):
        SEN12MSCR(tmp_path / "nowhere")


def test_pixels_without_any_value_are_not_measured(triplets: Path, tmp_path: Path) -> None:
    root = copy(triplets, tmp_path)
    path = root / "ROIs1158_spring_s2_cloudy/s2_cloudy_1/ROIs1158_spring_s2_cloudy_1_p1.tif"
    grid = SEN12MSCR(root, split=None)[0].place.grid
    values = stored(path)
    values[:, :4, :5], values[3, 10, 10] = 0, 0
    write_image(path, values, grid)
    s1 = root / "ROIs1158_spring_s1/s1_1/ROIs1158_spring_s1_1_p1.tif"
    db = stored(s1)
    db[0, 7, 7] = np.nan
    write_image(s1, db, grid)
    sample = SEN12MSCR(root, split=None)[0]
    assert not sample.s2_valid[0, :4, :5].any() and sample.s2_valid[0].sum() == 32 * 32 - 20
    assert sample.s2[0, 3, 10, 10] == 0  # one band at 0 is a value
    assert not sample.s1_valid[0, 7, 7] and sample.s1[0, 0, 7, 7] == 0 and sample.s1_valid.sum() == 32 * 32 - 1


# -- the index ---------------------------------------------------------------------------------------------------------


def test_the_index_is_built_once_resumes_and_notices_changes(triplets: Path, tmp_path: Path, monkeypatch) -> None:
    root = copy(triplets, tmp_path)
    listed = []
    plain = indexing._listed
    monkeypatch.setattr(indexing, "_listed", lambda r, name: listed.append(name) or plain(r, name))
    first = open_index(root, 2)
    assert len(listed) == 6 and len(list(first.files(".tif"))) == 18
    assert first.files(".tif").__next__().size > 1000
    listed.clear()
    assert open_index(root, 2).folders == first.folders and listed == []
    (cache,) = (tmp_path / "cache" / "index").iterdir()
    lines = cache.read_text().splitlines()
    cache.write_text("\n".join(lines[:4]) + "\n" + lines[4][:20])  # killed while writing the fifth line
    assert open_index(root, 2).folders == first.folders and len(listed) in (2, 3)
    listed.clear()
    assert open_index(root, 2).folders == first.folders and listed == []
    gone = root / "ROIs1158_spring_s1/s1_1/ROIs1158_spring_s1_1_p2.tif"
    gone.unlink()
    os.utime(gone.parent, ns=(1, 1))
    assert len(list(open_index(root, 2).files(".tif"))) == 17 and listed == ["ROIs1158_spring_s1/s1_1"]


def test_a_cache_that_cannot_be_written_or_read_costs_only_time(triplets: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    data = SEN12MSCR(triplets, split=None, measure=BRIGHT, cache=blocked)
    assert len(data) == 6 and 0 <= data.cover(0) <= 1
    cache = tmp_path / "own"
    SEN12MSCR(triplets, split=None, cache=cache)
    (path,) = (cache / "index").iterdir()
    path.write_text('{"folder": 3}\n[]\nnull\n"x"\nnonsense\n' + json.dumps({"measure": "m", "item": "i", "cover": "no"}))
    assert len(SEN12MSCR(triplets, split=None, cache=cache)) == 6
    path.write_bytes(b"\xff\xfe\x00")
    assert len(SEN12MSCR(triplets, split=None, cache=cache)) == 6


# -- SEN12MS-CR-TS -----------------------------------------------------------------------------------------------------


def test_a_series_has_all_its_dates_values_and_its_radar(series: Path) -> None:
    data = SEN12MSCRTS(series, split="train")
    assert [str(s) for s in data.series] == ["ROIs2017/146/patch_0"]
    sample = data[0]
    assert sample.s2.shape == (6, 13, 24, 24) and sample.target is None
    for t, day in enumerate(sample.s2_dates):
        path = series / f"ROIs2017/146/S2/{t}/s2_ROIs2017_146_ImgNo_{t}_{day}_patch_0.tif"
        assert np.array_equal(sample.s2[t], stored(path).astype(np.float32) / np.float32(10_000))
    assert len(sample.s1_dates) == 6 and np.abs((sample.s1_dates - sample.s2_dates).astype(int)).max() <= 6
    assert [str(s.roi) for s in SEN12MSCRTS(series, split="test").series] == ["ROIs2017/63"]


def test_the_corrected_sampler_never_gives_the_target_and_the_published_one_does() -> None:
    covers = np.array([0.3, 0.05, 0.9, 0.2, 0.6, 0.4])
    assert choose(covers, 3, 1, (0, 1), "as_published") == (0, 1, 2)  # the target, 1, is among them: copying it is perfect
    assert choose(covers, 3, 1, (0, 1), "corrected") == (0, 2, 3)
    assert choose(covers, 3, 1, (0, 0.5), "corrected") == (0, 3, 5)
    assert choose(covers, 5, 1, (0, 0.5), "corrected") == (0, 2, 3, 4, 5)
    assert choose(covers, 4, 1, (0, 0.5), "corrected") == (0, 3, 4, 5)  # 0.6 misses the limits least
    drawn = {choose(covers, 2, 1, (0, 1), "corrected", seed) for seed in range(60)}
    assert len(drawn) == 10 and all(1 not in d for d in drawn)


def test_drawn_series_have_the_least_cloudy_target(series: Path) -> None:
    data = SEN12MSCRTS(series, split="train", dates=3, measure=BRIGHT)
    inputs, target = data.drawn(0)
    covers = data.covers(0)
    sample = data[0]
    assert covers[target] == min(covers) and target not in inputs and len(inputs) == 3
    whole = SEN12MSCRTS(series, split="train")[0]
    assert np.array_equal(sample.target, whole.s2[target]) and np.array_equal(sample.s2, whole.s2[list(inputs)])
    assert sample.target_index is None and sample.target_date == whole.s2_dates[target] and sample.cloud.shape == (3, 24, 24)
    published = SEN12MSCRTS(series, split="train", dates=6, measure=BRIGHT, sampler="as_published")[0]
    assert published.target_index == target
    seeded = SEN12MSCRTS(series, split="train", dates=2, measure=BRIGHT, seed=3)
    draws = []
    for epoch in range(12):
        seeded.at_epoch(epoch)
        assert seeded.drawn(0) == seeded.drawn(0)
        draws.append(seeded.drawn(0)[0])
    assert len(set(draws)) > 2
    with pytest.raises(UsageError, match="least cloudy"):
        SEN12MSCRTS(series, dates=3)
    with pytest.raises(UsageError, match="takes no seed"):
        SEN12MSCRTS(series, dates=3, measure=BRIGHT, sampler="as_published", seed=1)


def test_a_series_without_radar_says_where_it_looked(series: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(series, tmp_path / "copy"))
    shutil.rmtree(root / "ROIs2017/146/S1")
    with pytest.raises(InputMissing, match=r"S1/0/s1_ROIs2017_146_ImgNo_0(.|\n)*s1=False"):
        SEN12MSCRTS(root)[0]
    assert SEN12MSCRTS(root, s1=False)[0].s1 is None


# -- SEN1-2 ------------------------------------------------------------------------------------------------------------


def test_pairs_of_pngs_are_unstretched(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rgb, vv = rng.integers(0, 256, (16, 16, 3), np.uint8), rng.integers(0, 256, (16, 16), np.uint8)
    for sensor, image in (("s2", rgb), ("s1", vv)):
        folder = tmp_path / "ROIs1158_spring" / f"{sensor}_7"
        folder.mkdir(parents=True)
        Image.fromarray(image).save(folder / f"ROIs1158_spring_{sensor}_7_p12.png")
    data = SEN12(tmp_path, stretch=Stretch(s2=(0.0, 0.4), s1=(-20.0, 5.0)))
    sample = data[0]
    assert sample.place.bands == ("B04", "B03", "B02") and str(data.pairs[0]) == "ROIs1158_spring/7/p12"
    assert np.allclose(sample.s2[0], np.moveaxis(rgb, -1, 0) / 255 * 0.4, atol=1e-6)
    assert np.allclose(sample.s1[0, 0], vv / 255 * 25 - 20, atol=1e-5) and np.array_equal(sample.s1[0, 0], sample.s1[0, 1])
    blue = SEN12(tmp_path, bands=("B02",), split="val", splits={Roi("ROIs1158_spring", 7): "val"}, stretch=data.stretch)[0]
    assert blue.place.bands == ("B02",) and np.array_equal(blue.s2[0, 0], sample.s2[0, 2])
    with pytest.raises(InputMissing, match="split val"):
        SEN12(tmp_path, split="val")
    with pytest.raises(InputUnsupported, match="no band B08"):
        SEN12(tmp_path, bands=("B08",))
    (tmp_path / "ROIs1158_spring/s1_7/ROIs1158_spring_s1_7_p12.png").write_bytes(b"GIF89a nonsense")
    with pytest.raises(InputCorrupt, match="damaged"):
        data[0]
    (tmp_path / "ROIs1158_spring/s1_7/ROIs1158_spring_s1_7_p12.png").unlink()
    with pytest.raises(InputMissing, match="its partner is"):
        data[0]
    with pytest.raises(InputMissing, match="No pair"):
        SEN12(tmp_path, seasons=["fall"])


# -- drawing -----------------------------------------------------------------------------------------------------------


class Numbers:
    """A source of 1 x 1 samples that carry their number; some are broken."""

    def __init__(self, count: int, broken: tuple[int, ...] = ()) -> None:
        self.count, self.broken = count, broken
        self.one = SimulatedTriplets(count=1, size=6, bands=("B02",))[0]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int):
        from dataclasses import replace

        if i in self.broken:
            raise InputCorrupt(f"{i} is broken")
        return replace(self.one, place=replace(self.one.place, id=str(i)))


def ids(drawn) -> list[tuple[int, str]]:
    return [(step, sample.place.id) for step, sample in drawn]


def test_any_number_of_workers_draws_the_same_and_a_resumed_run_the_rest() -> None:
    source = Numbers(23)
    alone = ids(draw(source, seed=4, epoch=2))
    assert [step for step, _ in alone] == list(range(23)) and sorted(int(i) for _, i in alone) == list(range(23))
    for workers in (2, 4):
        together = [x for w in range(workers) for x in ids(draw(source, seed=4, epoch=2, worker=w, workers=workers))]
        assert sorted(together) == alone
    assert ids(draw(source, seed=4, epoch=2, start=9)) == alone[9:]
    assert ids(draw(source, seed=4, epoch=3)) != alone != ids(draw(source, seed=5, epoch=2))
    assert order(23, seed=4, epoch=2).tolist() == [int(i) for _, i in alone]


def test_unpaired_targets_come_from_elsewhere_each_once() -> None:
    source = SimulatedTriplets(count=7, size=6, bands=("B02",))
    unpaired = Unpaired(source, seed=2)
    paired = [source[i] for i in range(7)]
    came_from = []
    for i in range(7):
        drawn = unpaired[i]
        assert np.array_equal(drawn.s2, paired[i].s2) and np.array_equal(drawn.s1, paired[i].s1)
        came_from.append(next(k for k in range(7) if np.array_equal(paired[k].target, drawn.target)))
    assert sorted(came_from) == list(range(7)) and all(k != i for i, k in enumerate(came_from))
    again = [Unpaired(source, seed=2, epoch=1)[i].target for i in range(7)]
    assert not all(np.array_equal(a, paired[k].target) for a, k in zip(again, came_from, strict=True))


def test_changes_are_seeded_by_step_not_by_worker() -> None:
    source = SimulatedTriplets(count=6, size=8, bands=("B02", "B08"))
    alone = dict(draw(source, seed=1, epoch=0, change=Augment(size=6)))
    shared = dict(x for w in range(3) for x in draw(source, seed=1, epoch=0, worker=w, workers=3, change=Augment(size=6)))
    assert all(np.array_equal(alone[s].s2, shared[s].s2) for s in range(6))
    other = dict(draw(source, seed=1, epoch=1, change=Augment(size=6)))
    assert not all(np.array_equal(alone[s].s2, other[s].s2) for s in range(6))


def test_a_broken_sample_is_skipped_and_counted_up_to_one_in_a_thousand() -> None:
    heard = []
    good = ids(draw(Numbers(2000, broken=(5, 9)), seed=0, epoch=0, skipped=lambda i, e: heard.append((i, str(e)))))
    assert len(good) == 1998 and sorted(i for i, _ in heard) == [5, 9] and "is broken" in heard[0][1]
    with pytest.raises(InputCorrupt, match="is broken"):
        ids(draw(Numbers(2000, broken=(5, 9, 11)), seed=0, epoch=0))
    with pytest.raises(InputCorrupt):
        ids(draw(Numbers(100, broken=(3,)), seed=0, epoch=0))


# -- offline data sets and views ---------------------------------------------------------------------------------------


def test_simulated_triplets_and_series_look_like_the_benchmarks() -> None:
    data = SimulatedTriplets(count=5, size=24, cover=(0.4, 0.6))
    sample = data[3]
    assert sample.s2.shape == (1, 13, 24, 24) and sample.s1.shape == (1, 2, 24, 24) and sample.target.shape == (13, 24, 24)
    assert np.array_equal(sample.s2, SimulatedTriplets(count=9, size=24, cover=(0.4, 0.6))[3].s2)
    assert not np.array_equal(sample.target, data[4].target)
    assert 0.25 < np.mean([(data[i].cloud >= 0.5).mean() for i in range(5)]) < 0.75
    series = SimulatedSeries(count=1, size=12, dates=7)[0]
    assert series.s2.shape[0] == 7 and (series.s2_dates[-1] - series.s2_dates[0]).astype(int) == 300
    for source in (data, SimulatedSeries(count=1, size=12, dates=7)):
        with pytest.raises(IndexError):
            source[len(source)]


def test_torchgeo_view_and_picture(triplets: Path, tmp_path: Path) -> None:
    sample = SEN12MSCR(triplets, split=None, measure=BRIGHT)[2]
    view = as_torchgeo(sample)
    assert {k: tuple(v.shape) for k, v in view.items()} == {
        "image_s2": (13, 32, 32), "image_s1": (2, 32, 32), "mask": (13, 32, 32), "mask_cloud": (1, 32, 32)
    }  # fmt: skip
    assert np.array_equal(view["mask"].numpy(), sample.target)
    shown = panels(sample)
    assert list(shown) == ["2018-04-15", "2018-04-15 S1", "2018-04-15 cloud", "target"]
    red = sample.target[3]
    assert np.corrcoef(shown["target"][..., 0].ravel(), red.ravel())[0, 1] > 0.95
    plot(sample, tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as image:
        assert image.size[0] > 500
    with pytest.raises(InputUnsupported, match="true-colour"):
        panels(SEN12MSCR(triplets, split=None, bands=("B02",))[0])


# -- the real samples --------------------------------------------------------------------------------------------------


def test_the_real_triplets_load_as_rasterio_reads_them(data: Path) -> None:
    root = data / "sen12mscr_official_layout"
    triplets = SEN12MSCR(root, split=None)
    assert [str(p) for p in triplets.patches] == ["ROIs1970_fall/139/p839", "ROIs2017_winter/112/p797"]
    assert [str(p) for p in SEN12MSCR(root, split="test").patches] == ["ROIs1970_fall/139/p839"]
    for i, patch in enumerate(triplets.patches):
        sample = triplets[i]
        for kind, values in (("s2_cloudy", sample.s2[0]), ("s2", sample.target)):
            assert np.array_equal(np.rint(values * 10_000).astype(np.uint16), stored(root / patch.path(kind)))
        assert np.array_equal(sample.s1[0], stored(root / patch.path("s1"))) and sample.s1[0, 0].mean() > sample.s1[0, 1].mean()
        assert sample.shape == (256, 256) and sample.s2_valid.all()
    assert [triplets[0].place.grid.crs.to_epsg(), triplets[1].place.grid.crs.to_epsg()] == [32650, 32631]


def test_the_real_series_loads_with_its_thirty_dates(data: Path) -> None:
    series = SEN12MSCRTS(data / "sen12mscrts", split="train", s1=False)
    sample = series[0]
    assert len(series) == 1 and sample.s2.shape == (30, 13, 256, 256)
    assert [str(sample.s2_dates[t]) for t in (0, 2, 29)] == ["2018-01-06", "2018-01-31", "2018-12-22"]
    for t in (0, 13, 29):
        assert np.array_equal(
            np.rint(sample.s2[t] * 10_000).astype(np.uint16), stored(series.root / series.series[0].s2[t].path)
        )
    with pytest.raises(InputMissing, match="no Sentinel-1"):
        SEN12MSCRTS(data / "sen12mscrts")[0]


def test_records_refuse_what_readers_must_not_pass(triplets: Path) -> None:
    from dataclasses import replace

    sample = SEN12MSCR(triplets, split=None)[0]
    with pytest.raises(RecordError, match="counts"):
        replace(sample, s2=sample.s2 * 10_000)
