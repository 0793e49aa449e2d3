"""What is there is passed over: made with the same options, from the same files; anything else is told and can be replaced."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from batch.fields import write_field
from unclouded.batch.jobs import Unit, plan_units, write_jobs
from unclouded.batch.run import run_jobs
from unclouded.batch.there import is_there, unlike
from unclouded.errors import InputMissing
from unclouded.products.product import load_product
from unclouded.raster import create_raster
from unclouded.remove import remove_clouds
from unclouded.scenes.open import open_scene

OPTIONS = {"model": "linear", "screen": False}
DAY = "2020-01-06"


def planned(folder: Path, **options) -> Unit:
    return plan_units([folder / "field"], folder / "out", OPTIONS | options, datetime=DAY)[0][0]


def removed(folder: Path, **options) -> None:
    remove_clouds(folder / "field", folder / "out" / "field", date=DAY, **OPTIONS, **options)


def run(folder: Path, units: list[Unit], **how):
    write_jobs(folder / "jobs.jsonl", units)
    return run_jobs(folder / "jobs.jsonl", pause=0, say=lambda text: None, **how)


@pytest.fixture
def field(tmp_path):
    return write_field(tmp_path / "field")


@pytest.mark.parametrize(
    "option",
    [
        {"bands": ["B02", "B04"]}, {"level": "L2A"}, {"offset": 100.0}, {"s1_unit": "db"}, {"s1_calibration": "gamma0"},
        {"max_s1_gap": 3}, {"datetime": "2020-01-01/2020-01-06"}, {"grow": 0.0}, {"seed": 1},
    ],
)  # fmt: skip
def test_one_option_makes_another_product(tmp_path, field, option):
    (name,) = option
    removed(tmp_path, **option)
    assert unlike(planned(tmp_path)) == [name] and unlike(planned(tmp_path, **option)) == []


def test_an_area_makes_another_product(tmp_path, field):
    box = [*open_scene(field).place.grid.boundingbox.bbox[:2], 500_300, 5_600_000, "EPSG:32631"]
    removed(tmp_path, bbox=tuple(box))
    assert unlike(planned(tmp_path)) == ["area"] and is_there(planned(tmp_path, bbox=box))
    assert unlike(planned(tmp_path, bbox=[*box[:2], 500_400, *box[3:]])) == ["area"]


def test_what_remove_made_with_the_same_options_is_passed_over(tmp_path, field, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with create_raster(
        tmp_path / "mask.tif", height=60, width=66, count=1, dtype="uint8", grid=open_scene(field).place.grid, nodata=None
    ) as mask:
        mask.write(np.eye(60, 66, dtype=np.uint8)[None])
    options = OPTIONS | {"bands": ["b2", "B04"], "offset": 100, "mask": "mask.tif"}
    remove_clouds("field", "out/field", date=DAY, **options)
    unit = plan_units(["field"], Path("out"), options, datetime=DAY)[0][0]
    summary = run(tmp_path, [unit])
    assert summary.there == (unit,) and summary.done == summary.failed == ()


def test_other_files_make_another_product_but_not_further_dates(tmp_path, field):
    removed(tmp_path)
    write_field(tmp_path / "else" / "field", seed=1)
    other = plan_units([tmp_path / "else" / "field"], tmp_path / "out", OPTIONS, datetime=DAY)[0][0]
    assert unlike(other) == ["inputs"]
    assert unlike(replace(planned(tmp_path), s1=(str(field),))) == ["s1"]
    write_field(tmp_path / "more", dates=4)
    (tmp_path / "more" / "2020-01-16").rename(field / "2020-01-16")
    assert is_there(planned(tmp_path))
    os.utime(field / "2020-01-11" / "s2.tif")
    assert unlike(planned(tmp_path)) == ["inputs"]


def test_no_product_is_not_another_one(tmp_path, field):
    with pytest.raises(InputMissing, match="not a finished product"):
        unlike(planned(tmp_path))
    assert not is_there(planned(tmp_path))


def test_another_product_stays_until_it_may_be_replaced(tmp_path, field):
    removed(tmp_path, bands=["B02", "B04"])
    at, unit = tmp_path / "out" / "field" / DAY, planned(tmp_path)
    before = load_product(at).manifest
    ((_, why),) = run(tmp_path, [unit]).failed
    assert why.startswith(f"There is another product of {DAY} already (other bands); --overwrite replaces it.")
    assert load_product(at).manifest == before
    assert run(tmp_path, [unit], overwrite=True).done == (unit,)
    assert load_product(at, verify=True).manifest["job"]["bands"] is None
    assert run(tmp_path, [unit], overwrite=True).there == (unit,) and not (tmp_path / "jobs.jsonl.failed").exists()


def test_a_damaged_product_can_be_replaced(tmp_path, field):
    removed(tmp_path)
    at, unit = tmp_path / "out" / "field" / DAY, planned(tmp_path)
    (at / f"field_{DAY.replace('-', '')}_clear.tif").write_bytes(b"rubbish")
    ((_, why),) = run(tmp_path, [unit]).failed
    assert "is not the file that was published" in why.splitlines()[0]
    assert run(tmp_path, [unit], overwrite=True).done == (unit,) and load_product(at, verify=True)


def test_an_unfinished_run_of_other_options_can_be_replaced(tmp_path, field):
    removed(tmp_path)
    out, unit = tmp_path / "out" / "field", planned(tmp_path, seed=1)
    (out / f"{DAY}.staging").mkdir()
    (out / f"{DAY}.staging" / "job.json").write_text(json.dumps(load_product(out / DAY).manifest["job"]))
    assert run(tmp_path, [unit], overwrite=True).done == (unit,)
    assert load_product(out / DAY).manifest["job"]["seed"] == 1 and not (out / f"{DAY}.staging").exists()
