"""`unclouded evaluate` and `unclouded train` from the command line."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from unclouded.cli import app

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
