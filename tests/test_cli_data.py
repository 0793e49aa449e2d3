"""`unclouded data`: true reports, exit codes, packs that read back, sets built and measured, downloads resumed and checked."""

from __future__ import annotations

import csv
import json
import sys
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from unclouded import cli
from unclouded.cli_data import app
from unclouded.datasets.offline import write_sen12mscr, write_sen12mscrts
from unclouded.datasets.pack import Packed
from unclouded.datasets.sen12mscr import SEN12MSCR
from unclouded.datasets.sen12mscrts import SEN12MSCRTS
from unclouded.datasets.simulated import simulate, write_series
from unclouded.datasets.split import SPLITS, Roi, regions
from unclouded.errors import InputUnsupported, UsageError
from unclouded.roots import Subset, measure_of
from unclouded.sample import HIDING

ROIS = [Roi("ROIs1158_spring", 1), Roi("ROIs1158_spring", 106), Roi("ROIs1868_summer", 100), Roi("ROIs1868_summer", 17)]


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNCLOUDED_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def mono(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mono")
    write_sen12mscr(root, ROIS, patches=2, size=32)
    return root


@pytest.fixture(scope="module")
def multi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("multi")
    write_sen12mscrts(root, [Roi("ROIs1868", 100)], dates=5, size=32)
    return root


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs the console script in this process: exit code, stdout, stderr."""

    def go(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["unclouded", "data", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return go


def test_every_command_explains_itself(run) -> None:
    names = [command.callback.__name__ for command in app.registered_commands]
    assert names == ["check", "pack", "download", "build", "stats"]
    for name in names:
        code, out, _ = run(name, "--help")
        assert code == 0 and "Usage:" in out and "--json" in out


# -- check -------------------------------------------------------------------------------------------------------------


def test_a_sound_root_passes_and_says_what_a_substring_loader_would_do(run, mono: Path) -> None:
    code, out, err = run("check", mono)
    assert code == 0 and err == "" and out.endswith("faults:\nnone\nleaks:\nnone\n")
    assert "train: 4 patches in 2 of 155 regions" in out and "test: 2 patches in 1 of 10 regions" in out
    assert "trains on 2 test patches: ROIs1158_spring/106" in out and "trains on 2 val patches: ROIs1868_summer/17" not in out


def test_the_published_leak_exits_4_and_names_all_its_regions(run, tmp_path: Path) -> None:
    for split in SPLITS:  # a fake root: every official region, its files empty
        for group, number in regions("sen12mscr", split):
            for kind in ("s1", "s2", "s2_cloudy"):
                path = tmp_path / f"{group}_{kind}/{kind}_{number}/{group}_{kind}_{number}_p1.tif"
                path.parent.mkdir(parents=True)
                path.touch()
    code, out, _ = run("check", tmp_path, "--no-pixels")
    assert code == 0 and "175 of 122218 patches in 175 regions" in out
    code, out, err = run("check", tmp_path, "--no-pixels", "--rule", "as_published_substring")
    leaked = {
        "test": ["1158_spring/106", "1158_spring/123", "1158_spring/140", "1868_summer/119", "1868_summer/73", "1970_fall/139"],
        "val": ["1158_spring/17", "1970_fall/65", "2017_winter/84"],
    }
    for split, names in leaked.items():
        for name in names:
            pair = " (1 patches), ".join(f"sen12mscr {s}" for s in sorted((split, "train")))
            assert f"ROIs{name} by name: {pair} (1 patches)\n" in out
            assert f"ROIs{name} by name" in err
    assert code == 4 and out.partition("leaks:\n")[2].count("\n") == 9


def test_leaks_across_data_sets_and_own_tables_exit_4_and_faults_3(run, mono: Path, multi: Path, tmp_path: Path) -> None:
    code, out, _ = run("check", mono, multi, "--json", "-q")
    report = json.loads(out)
    assert code == 4 and report["counts"][str(multi)]["test_patches"] == 1 and report["faults"] == []
    assert report["leaks"][0] == "ROIs1868_summer/100 by name: sen12mscr train (2 patches), sen12mscrts test (1 patches)"
    own = tmp_path / "own.csv"
    own.write_text(f"roi,split,source\n{ROIS[0]},train,me\n{ROIS[0]},test,me\n")
    code, _, err = run("check", mono, "--splits", own)
    assert code == 4 and "ROIs1158_spring/1 is in train and test" in err
    assert run("check", mono, "--splits", tmp_path / "no.csv")[0] == 10
    write_sen12mscr(tmp_path / "broken", ROIS[:1], patches=2, size=16)
    next((tmp_path / "broken").rglob("*_s1_1_p2.tif")).unlink()
    code, out, err = run("check", tmp_path / "broken")
    assert code == 3 and "1 without s1: ROIs1158_spring/1/p2" in out and "missing or broken" in err


def test_the_real_samples_are_reported_truly(run, data: Path) -> None:
    code, out, _ = run("check", data / "sen12mscr_official_layout")
    assert code == 0 and "2 of 122218 patches in 2 regions" in out and "ROIs1970_fall/139: 1 of 784 published patches" in out
    code, out, _ = run("check", data / "sen12mscr_pairs", data / "sen12mscrts", "--no-pixels")
    assert code == 3 and "20 without s1: ROIs1868_summer/101/p505" in out and "1 without 30 of 30 S1 images" in out


def test_misuse_is_explained(run, mono: Path, multi: Path, tmp_path: Path) -> None:
    out, file, latin = tmp_path / "out", tmp_path / "file", tmp_path / "latin.csv"
    file.write_text("")
    latin.write_bytes("roi,split,source\nROIs1158_spring/1,train,Müller\n".encode("latin-1"))
    for code, words, arguments in [
        (2, "--rule near is not known", ["check", mono, "--rule", "near"]),
        (2, "No such command", ["chek"]),
        (10, "There is no data set here", ["check", tmp_path / "nowhere"]),
        (2, "--subset every=0", ["pack", mono, "-o", out, "--subset", "every=0"]),
        (2, "is no range of cover", ["pack", mono, "-o", out, "--subset", "cover=0.7-0.2"]),
        (2, "--dates goes with series", ["pack", mono, "-o", out, "--dates", 2]),
        (2, "say how many: --dates 3", ["pack", multi, "-o", out, "--subset", "cover=0-0.5"]),
        (2, "--dates 5 cannot be drawn: ROIs1868/100/patch_0 has 5 dates", ["pack", multi, "-o", out, "--dates", 5]),
        (2, "write --dates 5 or less", ["pack", multi, "-o", out, "--dates", 99, "--sampler", "as_published"]),
        (2, "--dates 0 draws nothing", ["pack", multi, "-o", out, "--dates", 0]),
        (20, "there is a file", ["stats", mono, "-o", file]),
        (20, "could not be written", ["stats", mono, "-o", file / "deeper", "--detector", "tum"]),
        (11, "cannot be read as text (UTF-8)", ["check", mono, "--splits", latin]),
        (2, "--split exam", ["pack", mono, "-o", out, "--split", "exam"]),
        (2, "--detector eye", ["stats", mono, "-o", out, "--detector", "eye"]),
        (2, "data sets: sen12mscr, sen12mscrts", ["download", "imagenet", "--to", out]),
        (2, "--shares 1,2", ["build", mono, "-o", out, "--shares", "1,2"]),
        (2, "--group spring", ["build", mono, "-o", out, "--group", "spring"]),
        (2, "one place only", ["build", mono, multi, "-o", out, "--s1", mono]),
    ]:
        found, _, err = run(*arguments)
        assert (found, words in err) == (code, True), (arguments, err)
    assert not out.exists()


# -- pack and stats ----------------------------------------------------------------------------------------------------


def test_a_subset_is_packed_verified_and_goes_on(run, mono: Path, tmp_path: Path) -> None:
    wanted = ("pack", mono, "-o", tmp_path / "p", "--split", "train", "--subset", f"rois={ROIS[0]},{ROIS[2]}")
    code, out, _ = run(*wanted, "--json")
    whole = SEN12MSCR(mono, split="train")
    packed = Packed(tmp_path / "p")
    assert code == 0 and json.loads(out)["samples"] == 4 == len(packed) and np.array_equal(packed[3].s2, whole[3].s2)
    assert run(*wanted)[0] == 0  # all there already
    assert run("pack", mono, "-o", tmp_path / "p", "--subset", "every=3")[0] == 20  # never over another pack
    run("pack", mono, "-o", tmp_path / "q", "--subset", "every=3", "--no-s1")
    third = Packed(tmp_path / "q")
    assert [s["id"] for s in third.samples] == ["ROIs1158_spring/1/p1", "ROIs1158_spring/106/p2", "ROIs1868_summer/100/p1"]
    assert third[0].s1 is None


def test_a_cover_range_is_measured_by_the_detector(run, mono: Path, tmp_path: Path) -> None:
    data = SEN12MSCR(mono, split=None, measure=measure_of("tum", SEN12MSCR(mono, split=None).bands, "L1C"))
    covers = {str(p): data.cover(i) for i, p in enumerate(data.patches)}
    low, high = np.quantile(list(covers.values()), [0.3, 0.8]).round(3)
    run("pack", mono, "-o", tmp_path / "p", "--subset", f"cover={low}-{high}", "--detector", "tum")
    packed = [s["id"] for s in Packed(tmp_path / "p").samples]
    assert packed == [name for name, cover in covers.items() if low <= cover <= high] and 0 < len(packed) < 8


def test_series_are_packed_whole_or_drawn(run, multi: Path, tmp_path: Path) -> None:
    assert run("pack", multi, "-o", tmp_path / "whole")[0] == 0
    assert Packed(tmp_path / "whole")[0].s2.shape == (5, 13, 32, 32)
    assert run("pack", multi, "-o", tmp_path / "drawn", "--dates", 2, "--detector", "tum")[0] == 0
    drawn = Packed(tmp_path / "drawn")[0]
    bare = SEN12MSCRTS(multi, split=None)
    expected = SEN12MSCRTS(multi, split=None, dates=2, measure=measure_of("tum", bare.bands, bare.level))[0]
    assert np.array_equal(drawn.s2, expected.s2) and np.array_equal(drawn.target, expected.target)
    assert drawn.target_date == expected.target_date not in drawn.s2_dates


def test_statistics_are_those_of_the_detector(run, mono: Path, multi: Path, tmp_path: Path) -> None:
    code, out, _ = run("stats", mono, multi, "-o", tmp_path / "s", "--detector", "tum", "--json")
    assert code == 0 and (tmp_path / "s/stats.png").stat().st_size > 5000
    rows = {row["split"]: row for row in csv.DictReader((tmp_path / "s/stats.csv").read_text().splitlines())}
    assert {name: row["images"] for name, row in rows.items()} == {
        f"{mono.name} train": "4", f"{mono.name} val": "2", f"{mono.name} test": "2", f"{multi.name} test": "5"
    }  # fmt: skip
    measure = measure_of("tum", SEN12MSCR(mono).bands, "L1C")
    for split in SPLITS:
        data = SEN12MSCR(mono, split=split)
        cover = np.mean([measure.cloud(data[i]).mean() for i in range(len(data))])
        assert float(rows[f"{mono.name} {split}"]["mean_cover"]) == pytest.approx(cover, abs=1e-4)
    assert {row["measure"] for row in json.loads(out)["splits"]} == {"tum"}
    assert float(rows[f"{multi.name} test"]["gap_max_days"]) == 4


def test_the_default_detector_fits_the_bands() -> None:
    assert measure_of(None, ("B02", "B03", "B04", "B08", "B11", "B12"), "L2A").name == "sixband"
    with pytest.raises(InputUnsupported, match="No cloud detector fits"):
        measure_of(None, ("B12",), "L2A")
    sample = simulate(seed=3, size=(40, 40), dates=1, cover=1.0, s1=False).sample
    from unclouded.masks import MASKS

    cloud = measure_of("sixband", sample.place.bands, "L2A").cloud(sample)
    assert np.array_equal(cloud == 1, HIDING[MASKS["sixband"].detect(sample).classes]) and cloud.mean() > 0.9


def test_subsets_are_read() -> None:
    assert Subset.of(["rois=ROIs1868/100", "every=4", "cover=0-0.5"]) == Subset(("ROIs1868/100",), (0.0, 0.5), 4)
    with pytest.raises(UsageError, match="not a region"):
        Subset.of(["rois=spring"])


# -- build and download ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two series folders, side by side in one landscape."""
    folders = []
    for n in range(2):
        folder = tmp_path_factory.mktemp("place") / f"place{n}"
        place = simulate(
            seed=9, size=(48, 48), dates=["2018-06-01", "2018-06-11", "2018-07-01"], cover=[0.0, 0.5, 0.5],
            kinds=[None, "cumulus", "bank"], classes="exact", origin=(0, 1000 * n), bands=("B02", "B03", "B04", "B08", "B11"),
        )  # fmt: skip
        write_series(place, folder)
        folders.append(folder)
    return folders


SMALL = ("--size", 24, "--region", 24, "--cloudy", "0.05-1", "--clear", 0.3, "--shares", "0.5,0.25,0.25", "-q")


def test_a_regional_set_is_built_split_and_read_back(run, places: list[Path], tmp_path: Path) -> None:
    code, out, _ = run("build", *places, "-o", tmp_path / "set", *SMALL, "--json")
    told = json.loads(out)
    parts = {split: len(SEN12MSCR(tmp_path / "set", split=split)) for split in SPLITS}
    assert code == 0 and told["regions"] >= 6 and {s: told[s] for s in SPLITS} == parts and min(parts.values()) >= 1
    sample = SEN12MSCR(tmp_path / "set", split="train")[0]
    assert sample.place.bands == ("B02", "B03", "B04", "B08", "B11") and sample.place.level == "L2A"
    assert sample.s1.shape == (1, 2, 24, 24) and not np.array_equal(sample.s2[0], sample.target)
    assert run("check", tmp_path / "set")[0] == 0
    code, _, err = run("build", *places, "-o", tmp_path / "set", *SMALL)
    assert code == 20 and "already holds patches" in err


def test_the_same_place_twice_is_a_leak(run, places: list[Path], tmp_path: Path) -> None:
    code, out, err = run("build", places[0], places[0], "-o", tmp_path / "set", *SMALL)
    assert code == 4 and "equal pixels" in err and "patches: " in out


def test_series_are_built_too_and_bands_chosen(run, places: list[Path], tmp_path: Path) -> None:
    code, _, _ = run("build", places[0], "-o", tmp_path / "set", *SMALL, "--layout", "series", "--bands", "B04,B08")
    series = SEN12MSCRTS(tmp_path / "set", split=None)
    assert code == 0 and len(series) == 4 and series[0].s2.shape == (3, 2, 24, 24) and series.bands == ("B04", "B08")


def test_downloads_print_commands_or_fetch_unpack_and_check(run, mono: Path, tmp_path: Path) -> None:
    code, out, _ = run("download", "sen12mscr", "--to", "/data", "--part", "spring_s1")
    assert code == 0 and out.splitlines()[0].startswith(
        "wget -c -O '/data/ROIs1158_spring_s1.tar.gz' 'https://dataserv.ub.tum.de"
    )
    served = tmp_path / "served"
    served.mkdir()
    for kind in ("s1", "s2", "s2_cloudy"):
        with tarfile.open(served / f"ROIs1158_spring_{kind}.tar.gz", "w:gz") as tar:
            tar.add(mono / f"ROIs1158_spring_{kind}", f"ROIs1158_spring_{kind}")
    handler = partial(SimpleHTTPRequestHandler, directory=str(served))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        mirror = f"http://127.0.0.1:{server.server_address[1]}/"
        fetch = ("download", "sen12mscr", "--to", tmp_path / "got", "--run", "--mirror", mirror, "--part")
        code, out, err = run(*fetch, "spring")
        again = run(*fetch, "spring", "--no-keep")
        missing = run(*fetch, "winter_s1")
        server.shutdown()
        thread.join()
    assert code == 0 and "ROIs1158_spring_s2.tar.gz: 4 files" in err and "sen12mscr, 4 of 122218 patches" in out
    assert again[0] == 0 and "files" not in again[2]  # nothing to do again
    assert missing[0] == 75 and "HTTP 404" in missing[2]
    assert np.array_equal(SEN12MSCR(tmp_path / "got", split=None)[1].s2, SEN12MSCR(mono, split=None)[1].s2)
