"""What is refused before the work, by a run and by its dry run alike."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from batch.fields import write_field
from unclouded.cli import app
from unclouded.errors import InputUnsupported, OutputFailed, UncloudedError, UsageError
from unclouded.models import load
from unclouded.models.needs import Needs
from unclouded.products.fill import Limits
from unclouded.products.journal import Lock
from unclouded.ready import check_work, limits_of, loaded
from unclouded.remove import remove_clouds
from unclouded.scenes.open import open_scene

DAY = "2020-01-06"


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    return write_field(tmp_path_factory.mktemp("ready") / "field")


def told(*arguments) -> UncloudedError | None:
    """What the command raises."""
    done = CliRunner().invoke(app, ["remove", *map(str, arguments), "--date", DAY])
    assert done.exception is None or isinstance(done.exception, UncloudedError), done.exception
    return done.exception


@pytest.mark.parametrize(
    ("asked", "code", "words"),
    [
        (["--res", "20"], 2, "--res 20 cannot be written"),
        (["--fast"], 2, "'scene' has no faster arithmetic"),
        (["--scene-model", "nope"], 10, "no scene model here"),
        (["--scene-model", "."], 10, "no scene model here"),
        (["--scene-model", ".", "--model", "linear"], 2, "Only the default model"),
        (["--max-sigma", "nan"], 2, "--max-sigma nan is not a number from 0 on"),
        (["--max-sigma", "-1"], 2, "--max-sigma -1 is not a number from 0 on"),
        (["--fill-nodata", "--aoi", "SRID=32631;POLYGON((500031 5599899, 500031 5599961, 500109 5599899, 500031 5599899))"],
         2, "outside the --aoi"),
    ],
)  # fmt: skip
def test_the_dry_run_refuses_what_the_run_refuses(tmp_path, monkeypatch, field, asked, code, words):
    monkeypatch.chdir(tmp_path)
    rehearsed, run = told(field, "--out", "out", *asked, "--dry-run"), told(field, "--out", "out", *asked)
    assert rehearsed is not None and run is not None
    assert str(rehearsed) == str(run) and rehearsed.code == code and words in str(run)


def test_a_product_that_is_there_is_said_before_the_work(tmp_path, field, monkeypatch):
    out = tmp_path / "out"
    remove_clouds(field, out, date=DAY, model="nearest")
    before = sorted(path.name for path in out.iterdir())
    monkeypatch.setattr("unclouded.remove.hide", lambda *a, **k: pytest.fail("masks were made"))
    for how in ([], ["--dry-run"]):
        found = told(field, "--out", out, "--model", "nearest", *how)
        assert found is not None and found.code == 2 and f"There is a product of {DAY} already" in str(found)
    for how in ("--overwrite", "--resume"):
        assert told(field, "--out", out, "--model", "nearest", "--dry-run", how) is None
    assert sorted(path.name for path in out.iterdir()) == before


def test_an_unfinished_run_and_one_that_is_at_it_are_told_apart(tmp_path, field):
    scene, remover = open_scene(field), load("nearest")
    day, staging = scene.dates[1], tmp_path / f"{DAY}.staging"
    staging.mkdir()
    check_work(remover, scene, [day], tmp_path, limits=Limits())  # nothing was begun
    for name in ("job.json", "journal.jsonl"):
        (staging / name).write_text("")
    with pytest.raises(UsageError, match="An unfinished run"):
        check_work(remover, scene, [day], tmp_path, limits=Limits())
    with Lock(tmp_path / f"{DAY}.lock"), pytest.raises(OutputFailed):
        check_work(remover, scene, [day], tmp_path, limits=Limits())
    check_work(remover, scene, [day], tmp_path, limits=Limits(), resume=True)
    check_work(remover, scene, list(scene.dates)[:1], tmp_path, limits=Limits())
    assert sorted(path.name for path in tmp_path.iterdir()) == [staging.name]


def test_what_a_remover_needs_is_asked_for_before_the_masks_are_made(tmp_path, field):
    class Radar:
        needs = Needs(sar="required", dates=(1, None), cloud=True)

    scene = open_scene(field)
    with pytest.raises(InputUnsupported, match="needs Sentinel-1"):
        check_work(Radar(), scene, list(scene.dates), tmp_path, limits=Limits())


@pytest.mark.parametrize("limits", [(-1, None), (None, -0.1), (None, float("nan")), (None, float("inf"))])
def test_limits_are_numbers_from_0_on(limits):
    with pytest.raises(UsageError, match="is not a number from 0 on"):
        limits_of(*limits, fill_nodata=False)
    assert limits_of(0, 0.0, fill_nodata=True) == Limits(max_age=0, max_sigma=0.0, nodata=True)


def test_the_faster_arithmetic_is_asked_for_where_the_remover_is_loaded():
    with pytest.raises(UsageError, match="'nearest' has no faster arithmetic"):
        loaded("nearest", None, None, fast=True)
