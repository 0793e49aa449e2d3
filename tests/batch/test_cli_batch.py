"""`unclouded plan` and `unclouded run` as they are typed: exit codes, words, JSON."""

from __future__ import annotations

import json

import pytest

from batch.fields import write_field
from unclouded.cli import main
from unclouded.products.product import load_product


def typed(monkeypatch, *words: object) -> int:
    monkeypatch.setattr("sys.argv", ["unclouded", *map(str, words)])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_plan_and_run(tmp_path, monkeypatch, capsys):
    write_field(tmp_path / "north"), write_field(tmp_path / "south")
    jobs, out = tmp_path / "jobs.jsonl", tmp_path / "out"
    planned = ("plan", tmp_path / "north", tmp_path / "south", "--out", out, "--jobs", jobs, "--model", "linear")
    assert typed(monkeypatch, *planned, "--datetime", "2020-01-06/2020-01-06", "--no-screen") == 0
    assert "2 units of 2 places" in capsys.readouterr().out
    assert typed(monkeypatch, "run", jobs, "--workers", 2, "--json", "--quiet") == 0
    said = json.loads(capsys.readouterr().out)
    assert sorted(said["done"]) == ["north/2020-01-06", "south/2020-01-06"] and said["failed"] == {}
    options = load_product(out / "south" / "2020-01-06").manifest["job"]
    assert options["model"] == "linear" and options["screen"] is False


def test_some_failed_is_3_with_a_list(tmp_path, monkeypatch, capsys):
    write_field(tmp_path / "good", dates=2), (tmp_path / "empty").mkdir()
    jobs = tmp_path / "jobs.jsonl"
    assert typed(monkeypatch, "plan", tmp_path / "good", tmp_path / "empty", "--out", tmp_path / "out", "--jobs", jobs) == 3
    assert str(tmp_path / "empty") in capsys.readouterr().err
    (tmp_path / "good" / "2020-01-01" / "s2.tif").write_bytes(b"rubbish")
    assert typed(monkeypatch, "run", jobs) == 3
    err = capsys.readouterr().err
    assert "good/2020-01-01" in err and "--again" in err and "Traceback" not in err


def test_other_bands_are_another_product_until_it_is_overwritten(tmp_path, monkeypatch, capsys):
    field, jobs, out = write_field(tmp_path / "field"), tmp_path / "jobs.jsonl", tmp_path / "out"
    plan = ("plan", field, "--out", out, "--jobs", jobs, "--model", "linear", "--datetime", "2020-01-06")
    assert typed(monkeypatch, *plan, "--bands", "B02,B04") == 0
    assert typed(monkeypatch, "run", jobs) == 0 and "1 done, 0 were there" in capsys.readouterr().out
    assert typed(monkeypatch, *plan) == 0
    assert typed(monkeypatch, "run", jobs) == 3
    assert "(other bands); --overwrite replaces it" in capsys.readouterr().err
    assert typed(monkeypatch, "run", jobs, "--overwrite") == 0
    assert load_product(out / "field" / "2020-01-06").manifest["job"]["written_as"]["bands"] == ["B02", "B04", "B08"]


def test_a_plan_of_nothing_leaves_the_list_that_is_there(tmp_path, monkeypatch, capsys):
    jobs, one, other = (tmp_path / name for name in ("jobs.jsonl", "one.json", "other.json"))
    jobs.write_text("kept")
    for path in (one, other):
        path.write_text('{"type": "FeatureCollection", "features": null}')
    common = ("--out", tmp_path / "out", "--jobs", jobs)
    assert typed(monkeypatch, "plan", one, *common) == 11
    assert "no list of features" in capsys.readouterr().err
    assert typed(monkeypatch, "plan", one, other, *common) == 3
    err = capsys.readouterr().err
    assert str(one) in err and str(other) in err and "no job list was written" in err and jobs.read_text() == "kept"


@pytest.mark.parametrize(("words", "code"), [(("run", "none.jsonl"), 10), (("plan", "x", "--out", "o", "--model", "no"), 2)])
def test_misuse(tmp_path, monkeypatch, words, code):
    monkeypatch.chdir(tmp_path)
    assert typed(monkeypatch, *words) == code
    assert not list(tmp_path.iterdir())


def test_a_budget_that_is_too_small_is_21(tmp_path, monkeypatch, capsys):
    field = write_field(tmp_path / "field")
    assert typed(monkeypatch, "remove", field, "--date", "2020-01-06", "-o", tmp_path / "out", "--memory", "100MiB") == 21
    assert "give --memory" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_workers_and_memory_do_not_change_the_pixels(tmp_path, monkeypatch):
    field = write_field(tmp_path / "field")
    common = ("remove", field, "--date", "2020-01-06", "--model", "linear", "-q")
    assert typed(monkeypatch, *common, "-o", tmp_path / "one", "--workers", 1) == 0
    assert typed(monkeypatch, *common, "-o", tmp_path / "two", "--workers", 2, "--memory", "4GiB") == 0
    one, two = (load_product(tmp_path / name / "2020-01-06").manifest["digest"] for name in ("one", "two"))
    assert one == two


def test_all_dates_as_one_group(tmp_path, monkeypatch):
    zarr = pytest.importorskip("zarr")
    field = write_field(tmp_path / "field")
    common = ("remove", field, "--all-dates", "--model", "linear", "--no-screen", "-q", "-o", tmp_path / "out")
    assert typed(monkeypatch, *common, "--zarr", tmp_path / "series.zarr") == 0
    assert zarr.open_group(str(tmp_path / "series.zarr"), mode="r")["clear"].shape == (3, 3, 60, 66)
