"""The leak checker: silent where splits share no ground, loud by name, by map, by pixel and across data sets."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from unclouded.datasets.check import check
from unclouded.datasets.offline import write_image, write_sen12mscr, write_sen12mscrts
from unclouded.datasets.sen12mscr import SEN12MSCR, Patch
from unclouded.datasets.split import Roi
from unclouded.errors import InputUnsupported, LeakFound
from unclouded.raster import open_raster, read

TRAIN, LEAKED, CLEAN, SHARED = (
    Roi("ROIs1158_spring", 1), Roi("ROIs1158_spring", 106), Roi("ROIs1158_spring", 44), Roi("ROIs1868_summer", 100)
)  # fmt: skip


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNCLOUDED_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def mono(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mono")
    write_sen12mscr(root, [TRAIN, LEAKED, CLEAN, SHARED], patches=2, size=24)
    return root


@pytest.fixture
def copy(mono: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(mono, tmp_path / "copy"))


def test_a_sound_root_has_neither_faults_nor_leaks(mono: Path) -> None:
    report = check([mono])
    assert report.faults == [] and report.leaks == []
    assert report.lines[0].endswith("sen12mscr, 8 of 122218 patches in 4 regions")
    assert report.lines[1:4] == [
        "  train: 4 patches in 2 of 155 regions", "  val: 0 patches in 0 of 10 regions", "  test: 4 patches in 2 of 10 regions"
    ]  # fmt: skip
    assert "  ROIs1158_spring/106: 2 of 784 published patches" in report.lines
    assert report.lines[-1] == "  a loader that matches by substring trains on 2 test patches: ROIs1158_spring/106"
    assert report.counts[str(mono)]["test_patches"] == 4 and report.counts[str(mono)]["regions"] == 4
    report.raise_on_leaks()


def test_the_published_rule_leaks_and_the_regions_are_named(mono: Path) -> None:
    report = check([mono], rule="as_published_substring", pixels=False)
    assert report.leaks == ["ROIs1158_spring/106 by name: sen12mscr test (2 patches), sen12mscr train (2 patches)"]
    with pytest.raises(LeakFound, match="ROIs1158_spring/106") as caught:
        report.raise_on_leaks()
    assert caught.value.code == 4
    assert "leaks:\nROIs1158_spring/106" in report.text()


def test_two_data_sets_leak_into_each_other(mono: Path, tmp_path: Path) -> None:
    write_sen12mscrts(tmp_path / "multi", [Roi("ROIs1868", 100), Roi("ROIs1158", 106)], dates=2, size=24)
    report = check([mono, tmp_path / "multi"])
    assert [leak for leak in report.leaks if "by name" in leak] == [
        "ROIs1868_summer/100 by name: sen12mscr train (2 patches), sen12mscrts test (1 patches)"
    ]  # ROIs1158/106 is a test region of both: no leak
    assert report.faults == []
    alone = check([tmp_path / "multi"])
    assert alone.leaks == [] and "test: 2 patches" in alone.lines[3]


def test_overlaps_on_the_map_and_equal_pixels_are_found_whatever_their_names(copy: Path) -> None:
    source, other = Patch(TRAIN, 2), Patch(CLEAN, 9)
    for kind in ("s1", "s2", "s2_cloudy"):
        shutil.copy(copy / source.path(kind), copy / other.path(kind))
    report = check([copy])
    assert report.leaks == [
        "equal pixels: sen12mscr ROIs1158_spring/1/p2 and sen12mscr ROIs1158_spring/44/p9",
        "overlap on the map: ROIs1158_spring/1 and ROIs1158_spring/44, 1 pairs of patches",
    ]
    sample = SEN12MSCR(copy, split=None)[0]
    assert sample.place.grid is not None
    for kind in ("s1", "s2", "s2_cloudy"):  # the same place, shifted by half a patch, with other pixels
        with open_raster(copy / other.path(kind)) as file:
            values = read(file, range(1, file.count + 1))[:, ::-1, ::-1]
        write_image(copy / other.path(kind), values, sample.place.grid.translate_pix(12, 12))
    assert check([copy]).leaks == ["overlap on the map: ROIs1158_spring/1 and ROIs1158_spring/44, 2 pairs of patches"]
    for kind in ("s1", "s2", "s2_cloudy"):
        with open_raster(copy / other.path(kind)) as file:
            values = read(file, range(1, file.count + 1))
        write_image(copy / other.path(kind), values, sample.place.grid.translate_pix(-24, -24))  # corners touch
    assert check([copy]).leaks == []


def test_missing_partners_and_broken_files_are_faults(copy: Path) -> None:
    (copy / Patch(TRAIN, 1).path("s1")).unlink()
    cut = copy / Patch(CLEAN, 1).path("s2_cloudy")
    cut.write_bytes(cut.read_bytes()[:3000])
    (copy / Patch(CLEAN, 2).path("s2")).write_bytes(b"")
    report = check([copy])
    assert len(report.faults) == 3 and report.leaks == []
    assert report.faults[0].endswith("1 without s1: ROIs1158_spring/1/p1")
    assert any("s2_cloudy_44_p1.tif" in f and "damaged" in f for f in report.faults)
    assert any("s2_44_p2.tif" in f and "empty" in f for f in report.faults)


def test_partners_of_another_place_are_a_fault(copy: Path) -> None:
    shutil.copy(copy / Patch(TRAIN, 1).path("s1"), copy / Patch(TRAIN, 2).path("s1"))
    assert check([copy]).faults == [f"{copy}: the files of ROIs1158_spring/1/p2 do not show the same ground"]


def test_the_root_s_own_table_counts_and_a_region_in_two_splits_is_a_leak(copy: Path) -> None:
    own = copy / "splits.csv"
    own.write_text(f"roi,split,source\n{TRAIN},test,me\n{CLEAN},train,me\n")
    report = check([copy], pixels=False)
    assert report.lines[1:4:2] == ["  train: 2 patches in 1 of 1 regions", "  test: 2 patches in 1 of 1 regions"]
    assert [p.roi for p in SEN12MSCR(copy, split="train").patches] == [CLEAN] * 2
    own.write_text(f"roi,split,source\n{TRAIN},test,me\n{TRAIN},train,me\n")
    with pytest.raises(LeakFound, match="ROIs1158_spring/1 is in test and train"):
        check([copy])


def test_a_table_of_ones_own_decides(mono: Path) -> None:
    report = check([mono], splits={TRAIN: "train", CLEAN: "val"}, pixels=False)
    assert report.lines[1:3] == ["  train: 2 patches in 1 of 1 regions", "  val: 2 patches in 1 of 1 regions"]
    assert "  in no split: ROIs1158_spring/106, ROIs1868_summer/100" in report.lines


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ROIs1" / "x").mkdir(parents=True)
    with pytest.raises(InputUnsupported, match="none of SEN12MS-CR"):
        check([tmp_path])


def test_the_real_samples_are_reported_truly(data: Path) -> None:
    report = check([data / "sen12mscr_official_layout", data / "sen12mscrts"])
    assert (
        "sen12mscr, 2 of 122218 patches in 2 regions" in report.lines[0]
        and "  ROIs1970_fall/139: 1 of 784 published patches" in report.lines
    )
    assert (
        report.leaks == []
        and len(report.faults) == 1
        and report.faults[0].endswith("1 without 30 of 30 S1 images: ROIs2017/146/patch_0")
    )
