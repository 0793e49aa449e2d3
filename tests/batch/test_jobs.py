"""Job lists: what is planned is what is there, a bad place does not stop the others, shards share the units."""

from __future__ import annotations

import json

import pytest

from batch.fields import write_field
from unclouded.batch.jobs import Unit, plan_units, read_jobs, shard_of, write_jobs
from unclouded.errors import InputMissing, InputsContradict, UsageError
from unclouded.scenes.open import open_scene

OPTIONS = {"model": "linear", "grow": 20.0}


def test_one_unit_per_place_and_date(tmp_path):
    north, south = write_field(tmp_path / "north"), write_field(tmp_path / "south", dates=2)
    units, bad = plan_units([north, south], tmp_path / "out", OPTIONS)
    assert bad == []
    assert [unit.name for unit in units] == [
        "north/2020-01-01", "north/2020-01-06", "north/2020-01-11", "south/2020-01-01", "south/2020-01-06",
    ]  # fmt: skip
    assert units[0].out == str(tmp_path / "out" / "north") and units[0].s2 == (str(north),)
    assert units[0].options == {**OPTIONS, "place": "north"}
    assert len({unit.key for unit in units}) == 5


def test_a_table_of_places(tmp_path):
    write_field(tmp_path / "a")
    write_field(tmp_path / "b")
    (tmp_path / "places.csv").write_text("series,place,dates\na,T31UFS,2020-01-06 2020-01-11\nb,T31UFT,\n")
    (tmp_path / "places.json").write_text(json.dumps([{"series": "a", "place": "T31UFS", "dates": "2020-01-06"}]))
    units, _ = plan_units([tmp_path / "places.csv"], tmp_path / "out", OPTIONS)
    assert [u.name for u in units] == [
        "T31UFS/2020-01-06", "T31UFS/2020-01-11", "T31UFT/2020-01-01", "T31UFT/2020-01-06", "T31UFT/2020-01-11",
    ]  # fmt: skip
    assert [u.name for u in plan_units([tmp_path / "places.json"], tmp_path, OPTIONS)[0]] == ["T31UFS/2020-01-06"]
    (tmp_path / "places.csv").write_text("series,colour\na,blue\n")
    with pytest.raises(UsageError, match="colour"):
        plan_units([tmp_path / "places.csv"], tmp_path, OPTIONS)


def test_dates_and_what_each_unit_may_read(tmp_path):
    field = write_field(tmp_path / "field", dates=5)
    units, _ = plan_units([field], tmp_path, OPTIONS, datetime="2020-01-06/2020-01-11", within=7)
    assert [u.date for u in units] == ["2020-01-06", "2020-01-11"]
    assert [u.options["datetime"] for u in units] == ["2019-12-30/2020-01-13", "2020-01-04/2020-01-18"]


@pytest.mark.parametrize(
    ("span", "days"),
    [("2020-01-06", ["06"]), ("2020-01-06/..", ["06", "11"]), ("../2020-01-06", ["01", "06"]), ("/2020-01-01", ["01"])],
)
def test_dates_mean_what_they_mean_to_remove(tmp_path, span, days):
    field = write_field(tmp_path / "field")
    units, _ = plan_units([field], tmp_path, OPTIONS, datetime=span)
    assert [u.date for u in units] == [f"2020-01-{day}" for day in days]
    assert [str(day) for day in open_scene(field, datetime=span).dates] == [u.date for u in units]


@pytest.mark.parametrize("span", ["soon", "2020-01-01/2020-01-06/2020-01-11"])
def test_dates_that_are_none_stop_the_plan(tmp_path, span):
    with pytest.raises(UsageError, match="--datetime"):
        plan_units([write_field(tmp_path / "field", dates=1)], tmp_path, OPTIONS, datetime=span)


def test_no_place_is_named_out_of_the_folder(tmp_path):
    write_field(tmp_path / "field", dates=1)
    (tmp_path / "places.csv").write_text("series,place\nfield,../../evil\nfield,/tmp/a b\nfield,...\n")
    units, bad = plan_units([tmp_path / "places.csv"], tmp_path / "out", OPTIONS)
    assert [unit.out for unit in units] == [str(tmp_path / "out" / "evil"), str(tmp_path / "out" / "tmp_a_b")]
    assert [unit.options["place"] for unit in units] == ["evil", "tmp_a_b"]
    assert [error.what for _, error in bad] == ["No folder can be named after the place '...'."]


@pytest.mark.parametrize("text", ["garbage", "2020-13-01", "NaT"])
def test_a_place_with_a_date_that_is_none_is_told_and_the_others_are_planned(tmp_path, text):
    write_field(tmp_path / "a", dates=1), write_field(tmp_path / "b", dates=1)
    (tmp_path / "places.csv").write_text(f"series,dates\na,2020-01-01 {text}\nb,2020-01-01\n")
    units, bad = plan_units([tmp_path / "places.csv"], tmp_path / "out", OPTIONS)
    assert [unit.name for unit in units] == ["b/2020-01-01"]
    assert [(where, error.what) for where, error in bad] == [(str(tmp_path / "a"), f"'{text}' is not a date.")]


@pytest.mark.parametrize("row", [{"series": ["a"]}, {"series": "a", "dates": ["2020-01-01"]}, {"series": "a", "place": 7}])
def test_a_table_without_text_is_refused(tmp_path, row):
    (tmp_path / "places.json").write_text(json.dumps([row]))
    with pytest.raises(UsageError, match="no text in the column"):
        plan_units([tmp_path / "places.json"], tmp_path / "out", OPTIONS)


def test_a_place_that_cannot_be_read_is_told_and_the_others_are_planned(tmp_path):
    (tmp_path / "empty").mkdir()
    units, bad = plan_units([tmp_path / "empty", write_field(tmp_path / "field", dates=1)], tmp_path / "out", OPTIONS)
    assert len(units) == 1 and [where for where, _ in bad] == [str(tmp_path / "empty")]
    assert isinstance(bad[0][1], InputMissing)


def test_two_series_for_one_product_are_refused(tmp_path):
    one, other = write_field(tmp_path / "x" / "field", dates=1), write_field(tmp_path / "y" / "field", dates=1)
    with pytest.raises(InputsContradict, match="field/2020-01-01"):
        plan_units([one, other], tmp_path / "out", OPTIONS)


def test_a_job_list_reads_back_and_a_bad_line_is_named(tmp_path):
    units = [Unit(s2=("/a",), date=f"2020-01-0{n}", out="/out/a", options={"bbox": [1, 2, 3, 4]}) for n in range(1, 8)]
    write_jobs(tmp_path / "jobs.jsonl", units)
    assert read_jobs(tmp_path / "jobs.jsonl") == units
    with open(tmp_path / "jobs.jsonl", "a") as file:
        file.write('{"s2": ["/a"], "date": "2020-01-09", "out": "/o", "colour": 1}\n')
    with pytest.raises(UsageError, match="Line 8"):
        read_jobs(tmp_path / "jobs.jsonl")
    with pytest.raises(InputMissing):
        read_jobs(tmp_path / "none.jsonl")


@pytest.mark.parametrize("count", [1, 3, 10])
def test_shards_share_the_units(count):
    units = [Unit(s2=("/a",), date=f"2020-01-0{n}", out="/out/a") for n in range(1, 8)]
    shards = [shard_of(units, f"{i}/{count}") for i in range(1, count + 1)]
    assert sorted((u for s in shards for u in s), key=lambda u: u.date) == units
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
    for wrong in ("0/3", "4/3", "a/3", "1", "1/0"):
        with pytest.raises(UsageError, match="--shard"):
            shard_of(units, wrong)
