"""Job lists: what is planned is what is there, a bad place does not stop the others, shards share the units."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from batch.fields import write_field
from unclouded.batch.jobs import Series, Unit, plan_units, read_jobs, shard_of, units_of, write_jobs
from unclouded.errors import InputMissing, InputsContradict, InputUnsupported, UncloudedError, UsageError
from unclouded.models.needs import Needs
from unclouded.remove import remove_clouds
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
        plan_units([write_field(tmp_path / "field", dates=2)], tmp_path, OPTIONS, datetime=span)


def test_no_place_is_named_out_of_the_folder(tmp_path):
    write_field(tmp_path / "field", dates=2)
    names = ("../../evil", "/tmp/a b", "...")
    (tmp_path / "places.csv").write_text("series,place,dates\n" + "".join(f"field,{n},2020-01-01\n" for n in names))
    units, bad = plan_units([tmp_path / "places.csv"], tmp_path / "out", OPTIONS)
    assert [unit.out for unit in units] == [str(tmp_path / "out" / "evil"), str(tmp_path / "out" / "tmp_a_b")]
    assert [unit.options["place"] for unit in units] == ["evil", "tmp_a_b"]
    assert [error.what for _, error in bad] == ["No folder can be named after the place '...'."]


@pytest.mark.parametrize("text", ["garbage", "2020-13-01", "NaT"])
def test_a_place_with_a_date_that_is_none_is_told_and_the_others_are_planned(tmp_path, text):
    write_field(tmp_path / "a", dates=2), write_field(tmp_path / "b", dates=2)
    (tmp_path / "places.csv").write_text(f"series,dates\na,2020-01-01 {text}\nb,2020-01-01\n")
    units, bad = plan_units([tmp_path / "places.csv"], tmp_path / "out", OPTIONS)
    assert [unit.name for unit in units] == ["b/2020-01-01"]
    assert [(where, error.what) for where, error in bad] == [(str(tmp_path / "a"), f"'{text}' is not a date.")]


@pytest.mark.parametrize("row", [{"series": ["a"]}, {"series": "a", "dates": ["2020-01-01"]}, {"series": "a", "place": 7}])
def test_a_table_without_text_is_refused(tmp_path, row):
    (tmp_path / "places.json").write_text(json.dumps([row]))
    with pytest.raises(UsageError, match="no text in the column"):
        plan_units([tmp_path / "places.json"], tmp_path / "out", OPTIONS)


@pytest.mark.parametrize(
    ("option", "code"),
    [
        ({"mask": "nonsense"}, 10), ({"grow": -3.0}, 2), ({"model": "nonsense"}, 2), ({"settings": {"nonsense": 1}}, 2),
        ({"resolution": 37}, 2), ({"max_s1_gap": -1}, 2), ({"mask": "s2cloudless"}, 12), ({"bands": ["B11"]}, 10),
    ],
)  # fmt: skip
def test_options_that_cannot_be_used_are_told_in_the_words_of_remove(tmp_path, option, code):
    field = write_field(tmp_path / "field")
    with pytest.raises(UncloudedError) as removed:
        remove_clouds(field, tmp_path / "out", date="2020-01-06", **{**OPTIONS, **option})
    try:
        units, bad = plan_units([field], tmp_path / "out", {**OPTIONS, **option})
        assert units == [] and [where for where, _ in bad] == [str(field)]
        told = bad[0][1]
    except UncloudedError as error:
        told = error
    assert str(told) == str(removed.value) and told.code == removed.value.code == code


def test_what_a_model_needs_is_asked_of_every_place(tmp_path):
    field = write_field(tmp_path / "field", dates=4)
    needs = Needs(dates=(2, 3))
    series = Series(s2=(field,), place="field")
    with pytest.raises(InputUnsupported, match="needs 2 to 3 dates; there are 4"):
        list(units_of(series, tmp_path, OPTIONS, needs=needs))
    assert len(list(units_of(series, tmp_path, OPTIONS, needs=needs, within=5))) == 4
    with pytest.raises(InputUnsupported, match="needs the bands B02"):
        list(units_of(series, tmp_path, OPTIONS, needs=replace(needs, bands=("B02",)), within=5))


def test_a_mask_file_is_found_from_elsewhere(tmp_path, monkeypatch):
    field = write_field(tmp_path / "field", dates=2)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mask.tif").write_bytes((field / "2020-01-01" / "scl.tif").read_bytes())
    (unit, _), _ = plan_units([field], tmp_path / "out", {**OPTIONS, "mask": "mask.tif"})
    assert unit.options["mask"] == str(tmp_path / "mask.tif")


def test_a_place_that_cannot_be_read_is_told_and_the_others_are_planned(tmp_path):
    (tmp_path / "empty").mkdir()
    units, bad = plan_units([tmp_path / "empty", write_field(tmp_path / "field", dates=2)], tmp_path / "out", OPTIONS)
    assert len(units) == 2 and [where for where, _ in bad] == [str(tmp_path / "empty")]
    assert isinstance(bad[0][1], InputMissing)


def test_two_series_for_one_product_are_refused(tmp_path):
    one, other = write_field(tmp_path / "x" / "field", dates=2), write_field(tmp_path / "y" / "field", dates=2)
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
