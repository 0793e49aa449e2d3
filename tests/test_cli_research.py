"""`unclouded evaluate` and `unclouded train` from the command line."""

from __future__ import annotations

import json
import sys

import pytest
from typer.testing import CliRunner

from unclouded.cli import app, main
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


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--device", "foo"], 2, "--device foo is not known"),
        (["--device", "gpu"], 2, "--device gpu: 1 wanted, 0 found"),
        (["--set", "loss.nll=1"], 2, "'loss.nll' is the likelihood"),
        (["--set", "loss.series=1"], 2, "'loss.series' is of a network"),
        (["--set", "loss.carl=0"], 2, "no loss"),
        (["--out", "FILE"], 20, "there is a file"),
        (["--out", "FILE/run"], 20, "could not be written"),
    ],
)
def test_a_training_that_cannot_be_is_explained(options, code, words, tmp_path, monkeypatch, capsys):
    if "gpu" in options:
        monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
        monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    (tmp_path / "file").write_text("")
    given = [o.replace("FILE", str(tmp_path / "file")) for o in options]
    out = [] if "--out" in options else ["--out", str(tmp_path / "run")]
    tiny = ["--set", "data.count=2", "--set", "data.size=32", "--set", "data.crop=0", "--set", "data.validation=0"]
    monkeypatch.setattr(sys, "argv", ["unclouded", "train", "quick-start", *tiny, *out, *given])
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr().err
    assert end.value.code == code and words in said and "Traceback" not in said
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


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
