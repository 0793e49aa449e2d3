"""The command line: quick to start, clear when misused, exit codes as documented."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
import typer
from typer.testing import CliRunner

from batch.fields import write_field
from unclouded.cli import app


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "unclouded", *arguments], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    "code", ["import unclouded", "from unclouded.cli import main; import sys; sys.argv = ['x', '--help']; main()"]
)
def test_import_and_help_are_light(code):
    """Neither torch nor lightning nor xarray; under half a second of processor time on the best of five starts."""
    script = (
        f"import sys, time\nstart = time.process_time()\ntry:\n    exec({code!r})\nexcept SystemExit:\n    pass\n"
        "took = time.process_time() - start\n"
        "heavy = [m for m in ('torch', 'lightning', 'xarray', 'rasterio', 'scipy', 'matplotlib') if m in sys.modules]\n"
        "print('RESULT', heavy, took)"
    )
    best = 9.0
    for _ in range(5):
        out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
        heavy, took = out.strip().splitlines()[-1].removeprefix("RESULT ").rsplit(" ", 1)
        assert heavy == "[]"
        best = min(best, float(took))
        if best < 0.5:
            break
        time.sleep(0.2)
    assert best < 0.5


def commands(group: typer.Typer) -> list[tuple[str, ...]]:
    """The names of all commands, those of groups included."""
    own = [((c.name or c.callback.__name__).replace("_", "-"),) for c in group.registered_commands]
    return own + [(g.name, *name) for g in group.registered_groups for name in [(), *commands(g.typer_instance)]]


def test_every_command_explains_itself():
    for name in commands(app):
        shown = CliRunner().invoke(app, [*name, "--help"])
        assert shown.exit_code == 0 and "Usage:" in shown.stdout, name
        assert len(shown.stdout.splitlines()) > 5, name


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["remov"], 2, "No such command"),
        (["remove"], 2, "Missing argument"),
        (["remove", "x", "--out", "y", "--bbox", "1,2"], 2, "--bbox 1,2 is not four numbers"),
        (["remove", "x", "--out", "y", "--offset", "some"], 2, "--offset some"),
        (["remove", "x", "--out", "y", "--s1-unit", "watt"], 2, "--s1-unit watt"),
        (["remove", "x", "--out", "y", "--set", "days"], 2, "--set days has no value"),
        (["remove", "/nowhere/at/all", "--out", "y", "--date", "2020-01-01"], 10, "/nowhere/at/all"),
        (["models", "show", "lineer"], 2, "did you mean linear"),
        (["remove", ".", "--out", "y", "--model", "dsen2cr"], 2, "needs trained weights"),
        (["remove", ".", "--out", "y", "--device", "tpu"], 2, "--device tpu is not known"),
        (["remove", ".", "--out", "y", "--device", "cuda"], 2, "'scene' computes on the processor"),
        (["remove", ".", "--out", "y", "--date", "garbage"], 2, "--date garbage is not a date"),
        (["mask", ".", "--date", "garbage"], 2, "--date garbage is not a date"),
        (["demo", "--date", "garbage"], 2, "--date garbage is not a date"),
        (["remove", ".", "--out", "y", "--seed", "-1"], 2, "'--seed'"),
        (["demo", "--seed", "-1"], 2, "'--seed'"),
        (["plan", ".", "--out", "y", "--seed", "-1"], 2, "'--seed'"),
        (["remove", ".", "--out", "y", "--grow", "nan"], 2, "--grow nan is not a number from 0 on"),
        (["mask", ".", "--grow", "inf"], 2, "--grow inf is not a number from 0 on"),
        (["remove", ".", "--out", "y", "--max-age", "-5"], 2, "'--max-age'"),
        (["plan", ".", "--out", "y", "--max-age", "-5"], 2, "'--max-age'"),
        (["plan", ".", "--out", "y", "--max-sigma", "nan"], 2, "--max-sigma nan is not a number from 0 on"),
        (["remove", "https://x.org/s", "--out", "y", "--date", "2020-01-01"], 14, "'https://x.org/s' is not a local file"),
        (["mask", "https://x.org/s"], 14, "'https://x.org/s' is not a local file"),
        (["info", "https://x.org/s"], 14, "'https://x.org/s' is not a local file"),
        (["demo", "--data", "https://x.org/s", "--date", "2020-01-01"], 14, "'https://x.org/s' is not a local file"),
        (["adapt", "utilise", "--scene", "https://x.org/s", "--out", "y"], 14, "'https://x.org/s' is not a local file"),
        (["data", "build", "https://x.org/s", "--out", "y"], 14, "'https://x.org/s' is not a local file"),
        (["remove", ".", "--out", "y", "--bands", "B02,B03,b2"], 2, "names B02 twice"),
        (["plan", ".", "--out", "y", "--grow", "nan"], 2, "--grow nan is not a number from 0 on"),
    ],
)
def test_misuse_is_explained_without_a_traceback(arguments, code, words, tmp_path):
    shown = subprocess.run(
        [sys.executable, "-m", "unclouded", *arguments], capture_output=True, text=True, timeout=120, cwd=tmp_path
    )
    assert shown.returncode == code, shown.stderr
    assert words in shown.stderr and "Traceback" not in shown.stderr
    assert not list(tmp_path.iterdir())


def test_radar_at_an_address_is_refused(tmp_path):
    field = write_field(tmp_path / "field", dates=1)
    shown = run("remove", str(field), "--s1", "https://x.org/s1", "--out", str(tmp_path / "out"))
    assert shown.returncode == 14 and "'https://x.org/s1' is not a local file" in shown.stderr


def test_quiet_leaves_the_results_as_its_help_says(tmp_path):
    field = write_field(tmp_path / "field", dates=2, size=(24, 24))
    shown = run("remove", str(field), "--date", "2020-01-01", "--out", str(tmp_path / "out"), "--model", "nearest", "-q")
    assert shown.stdout.splitlines()[0] == f"wrote {tmp_path / 'out' / '2020-01-01'}" and shown.stderr == ""
    for name in (["remove"], ["demo"], ["run"], ["data", "build"]):
        told = " ".join(CliRunner().invoke(app, [*name, "--help"]).stdout.split())
        assert "No progress on stderr; results and errors remain." in told


def test_doctor_and_models_speak_json():
    found = json.loads(run("doctor", "--json").stdout)
    assert found["drivers"]["COG"] is True and found["missing"] == [] and found["cores"] >= 1
    rows = json.loads(run("models", "--json").stdout)
    assert {"least-cloudy", "nearest", "mosaic", "median", "linear"} <= {row["model"] for row in rows}
    assert next(row for row in rows if row["model"] == "mosaic")["settings"].startswith("days=60, causal=False")


def test_the_version_is_printed():
    from unclouded import __version__

    assert run("--version").stdout.strip() == f"unclouded {__version__}"
