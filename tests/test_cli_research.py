"""`unclouded evaluate` and `unclouded train` from the command line."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from unclouded.cli import app
from unclouded.datasets.simulated import simulate, write_series

run = CliRunner().invoke


def test_evaluate_prints_and_writes_scores_and_resumes(tmp_path):
    options = ["evaluate", "--model", "linear", "--model", "nearest", "--data", "simulated", "--out", str(tmp_path / "ev")]
    told = json.loads(run(app, [*options, "--json"], catch_exceptions=False).stdout)
    assert told["images"] == 4 and set(told["models"]) == {"linear", "nearest"}
    assert json.loads((tmp_path / "ev" / "results.json").read_text()) == told
    assert "<html" in (tmp_path / "ev" / "report.html").read_text()
    again = run(app, options, catch_exceptions=False)
    assert "PSNR" in again.stdout and "report.html" in again.stdout


def test_recipes_are_listed_with_their_paper():
    rows = json.loads(run(app, ["train", "--list", "--json"]).stdout)
    assert len(rows) >= 20 and all(row["paper"] and row["assumed"] is not None for row in rows)
    assert "dsen2cr" in run(app, ["train", "--list"]).stdout


def test_a_network_is_adapted_to_a_place_and_used_there(tmp_path):
    write_series(simulate(seed=3, size=(64, 64), dates=5, cover=[0.1, 0.4, 0.0, 0.2, 0.1]), tmp_path / "fields")
    told = run(
        app,
        ["adapt", "seq2point", "--scene", str(tmp_path / "fields"), "--out", str(tmp_path / "net"), "--steps", "2", "--json"]
        + ["--set", "features=8", "--set", "blocks=1"],
        catch_exceptions=False,
    ).stdout
    assert json.loads(told)["folder"] == str(tmp_path / "net")
    options = ["--date", "2024-04-21", "--model", str(tmp_path / "net"), "--out", str(tmp_path / "out"), "--json"]
    done = run(app, ["remove", str(tmp_path / "fields"), *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    job = json.loads(done.stdout)[0]["manifest"]["job"]
    assert job["model"] == str(tmp_path / "net")
    name, size, _ = job["weights"][0]  # other weights in the same folder are another job
    assert name == "weights.safetensors" and size == (tmp_path / "net" / name).stat().st_size
