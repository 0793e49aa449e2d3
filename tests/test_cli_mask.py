"""`unclouded mask`: classes and probability as COGs, for use on their own."""

from __future__ import annotations

import json

import numpy as np
from typer.testing import CliRunner

from unclouded.cli import app
from unclouded.datasets.simulated import simulate, write_series
from unclouded.errors import UsageError
from unclouded.raster import create_raster, open_raster
from unclouded.sample import HIDING, Cover

DATES = ["2024-05-01", "2024-05-06", "2024-05-11", "2024-05-16"]


def test_classes_with_colours_and_probability(tmp_path):
    place = simulate(seed=2, size=(48, 60), dates=DATES, cover=[0.0, 0.0, 0.5, 0.0], classes="exact")
    write_series(place, tmp_path / "fields")
    out = tmp_path / "masks" / "mask.tif"
    done = CliRunner().invoke(
        app, ["mask", str(tmp_path / "fields"), "--date", DATES[2], "-o", str(out), "--grow", "0", "--json"]
    )
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert record["detector"] == "scl" and record["files"][0] == str(out)
    with open_raster(out) as file:
        classes, colours, crs = file.read(1), file.colormap(1), file.crs
    assert crs == place.sample.place.grid.crs and len({colours[int(code)] for code in Cover}) == len(Cover)
    agree = HIDING[classes] == HIDING[place.cover[2]]
    assert agree.mean() > 0.9
    with open_raster(tmp_path / "masks" / "mask_probability.tif") as file:
        percent = file.read(1)
    assert percent[classes == Cover.THICK].mean() > 50 > percent[classes == Cover.CLEAR].mean()
    assert set(np.unique(percent)) <= set(range(101))
    assert sorted(p.name for p in (tmp_path / "masks").iterdir()) == ["mask.tif", "mask_probability.tif"]


def test_a_file_without_a_date_just_works(tmp_path):
    place = simulate(seed=2, size=(48, 60), dates=DATES, cover=[0.0, 0.0, 0.5, 0.0], classes="none")
    file, out, known = tmp_path / "field.tif", tmp_path / "mask.tif", place.sample.place
    with create_raster(
        file, height=48, width=60, count=len(known.bands), dtype="uint16", grid=known.grid, nodata=0, descriptions=known.bands
    ) as raster:
        raster.write(np.rint(place.sample.s2[2] * 10_000).clip(1).astype(np.uint16))
    done = CliRunner().invoke(app, ["mask", str(file), "-o", str(out), "--grow", "0", "--json", "--workers", "2"])
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert record["detector"] == "sixband" and record["shadows"].get("sun_known") is not True
    with open_raster(out) as raster:
        found, true = (np.isin(classes, (Cover.THIN, Cover.THICK)) for classes in (raster.read(1), place.cover[2]))
    assert true.any() and (found == true).mean() > 0.9  # with the sun unknown, few of the shadows are found


def test_neither_an_image_nor_unasked_a_mask_is_replaced(tmp_path):
    place = simulate(seed=2, size=(48, 60), dates=DATES, cover=[0.0, 0.0, 0.5, 0.0], classes="exact")
    write_series(place, tmp_path / "fields")
    image, out = tmp_path / "fields" / DATES[2] / "s2.tif", tmp_path / "mask.tif"
    before = image.read_bytes()
    command = ["mask", str(tmp_path / "fields"), "--date", DATES[2], "--grow", "0", "-o"]
    done = CliRunner().invoke(app, [*command, str(image), "--overwrite"])
    assert isinstance(done.exception, UsageError) and "made from" in str(done.exception) and image.read_bytes() == before
    assert CliRunner().invoke(app, [*command, str(out)]).exit_code == 0
    first = out.read_bytes()
    again = CliRunner().invoke(app, [*command, str(out)])
    assert isinstance(again.exception, UsageError) and out.read_bytes() == first
    assert CliRunner().invoke(app, [*command, str(out), "--overwrite"]).exit_code == 0
