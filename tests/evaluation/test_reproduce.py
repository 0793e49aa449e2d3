"""Every table of the papers has a folder; every folder runs end to end on the simulated place; what is missing is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from unclouded.bands import L1C
from unclouded.datasets.sen12mscr import SEN12MSCR
from unclouded.errors import InputMissing, UsageError
from unclouded.evaluation.benchmarks import BENCHMARKS
from unclouded.reproduce.layers import ours, written
from unclouded.reproduce.pages import page
from unclouded.reproduce.run import main, reproduce, text
from unclouded.reproduce.stand_ins import tiny
from unclouded.reproduce.table import names, read, table_of
from unclouded.training.recipe import recipes

TABLES = Path(__file__).parents[2] / "reproduce"
PAPERS = sorted(name for name in BENCHMARKS if "-table" in name)
QUICK = ("darbaghshahi2021-table1", "darbaghshahi2021-table2", "ebel2020-table1", "glfcr2022-table3", "ebel2020-table3")


def test_every_table_of_the_papers_has_a_folder_with_its_command_and_expected_rows():
    assert names(TABLES) == PAPERS and len(PAPERS) == 21
    for name in PAPERS:
        said = (TABLES / name / "README.md").read_text()
        assert said == page(name, TABLES), f"run python -m unclouded.reproduce.pages ({name})"
        assert f"make reproduce NAME={name}" in said and "## Expected rows" in said
        for row in BENCHMARKS[name].published() or ():
            line = next(x for x in said.splitlines() if x.startswith(f"| {row.method} |"))
            assert all(f"| {value:g} |" in line for value in row.numbers.values())
        if BENCHMARKS[name].table is None and not name.startswith("darbaghshahi"):
            assert "published: unavailable" in said


def test_rows_name_recipes_that_are_there():
    known = set(recipes())
    for name in PAPERS:
        for row in table_of(name, TABLES).rows:
            assert {row.recipe, row.start} - {""} <= known, row


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ('data = "sen12mscrts"\n[rows."seq2point (no S1)"]\nmissing = "x"\n', r"silent about seq2point \(with S1\)"),
        ('data = "sen12mscrts"\ncolour = "blue"\n', "colour"),
        ('data = "sen12mscrts"\n[rows.a]\nmodel = "x"\nrecipe = "y"\n', "one of model, recipe and missing"),
        ('data = "sen12mscrts"\n[rows.a]\nmodel = "x"\nsize = 3\n', "size"),
        ('data = "sen12mscrts"\nprotocol = "dance"\n', "no protocol 'dance'"),
    ],
)
def test_a_table_that_says_too_little_or_too_much_is_refused(tmp_path, told, words):
    path = tmp_path / "sen12mscrts2022-table2" / "table.toml"
    path.parent.mkdir()
    path.write_text(told)
    with pytest.raises(UsageError, match=words):
        read(path)


@pytest.fixture(scope="module")
def outcomes_of(tmp_path_factory):
    """Outcomes by table, in one folder: a table is run, and a network rehearsed, once."""
    place, done = tmp_path_factory.mktemp("reproduce"), {}

    def of(name):
        if name not in done:
            done[name] = reproduce(name, out=place, limit=4, folder=TABLES)
        return done[name]

    return of


def check(name, outcomes):
    table = table_of(name, TABLES)
    assert [o.method for o in outcomes] == [row.method for row in table.rows] or table.layers
    for outcome in outcomes:
        measured = [m for _, m in (outcome.numbers or {}).values() if m is not None]
        assert measured or outcome.missing or outcome.said, outcome
        assert np.isfinite(measured).all()
    said = text(name, outcomes, simulated=True, folder=TABLES)
    assert ("SIMULATED" in said) != bool(table.layers)
    assert ("a tiny network after 2 steps" in said) == any(row.recipe for row in table.rows)
    for outcome in outcomes:
        assert not outcome.missing or f"missing: {outcome.method}: {outcome.missing}" in said
    return {o.method: o for o in outcomes}


@pytest.mark.parametrize("name", QUICK)
def test_tables_run_on_the_simulated_place(outcomes_of, name):
    found = check(name, outcomes_of(name))
    if name == "ebel2020-table3":
        assert 0 <= found["ours-0"].numbers["precision"][1] <= 1
        assert found["S1 VV"].numbers["recall"][1] >= 0 and found["S1 VV"].numbers["PSNR"][0] is None
    if name == "glfcr2022-table3":
        printed, measured = found["GLF-CR"].numbers["PSNR"]
        assert printed == 29.0793 and measured < 35  # an untrained network is no GLF-CR


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in PAPERS if name not in QUICK])
def test_every_other_table_runs_on_the_simulated_place(outcomes_of, name):
    check(name, outcomes_of(name))


def test_difference_is_ours_minus_paper(outcomes_of):
    outcomes = {o.method: o for o in outcomes_of("glfcr2022-table3")}
    printed, measured = outcomes["GLF-CR"].numbers["SSIM"]
    said = text("glfcr2022-table3", [outcomes["GLF-CR"]], simulated=True, folder=TABLES)
    line = next(x for x in said.splitlines() if "SSIM" in x)
    assert line.endswith(f"{measured - printed:.4f}")


def test_architectures_are_compared_in_the_papers_notation():
    assert ours("drib", "encoder") == "CL(64,4,2) CBL(128,4,2) CBL(256,4,2) CBL(512,4,1)"
    outcomes = reproduce("darbaghshahi2021-table2", out=Path("unused"), folder=TABLES)
    said = text("darbaghshahi2021-table2", outcomes, simulated=True, folder=TABLES)
    assert said.count("they differ") == 3 and said.count("  equal") == 1  # D is read as a dilated convolution
    with pytest.raises(UsageError, match="no description"):
        ours("drib", "tail")
    from torch import nn

    layers = nn.Sequential(nn.Conv2d(1, 2, 3, stride=2, dilation=4), nn.InstanceNorm2d(2), nn.Dropout(), nn.Tanh())
    assert written([layers], dilation=True) == "CIDT(2,3,2,4)"


def test_rehearsals_are_tiny_and_keep_what_the_recipe_is_about():
    recipe = tiny("glfcr-no-sar")
    assert recipe.train.steps == 2 and recipe.data.size == 32
    assert recipe.loss == tiny("glfcr").loss and recipe.model.set != tiny("glfcr").model.set


def test_with_data_missing_weights_are_named_with_the_command(tmp_path, data, monkeypatch):
    """Real triplets in the official layout: what needs no weights is scored, for the rest it is said how to train it."""
    monkeypatch.setenv("UNCLOUDED_CACHE", str(tmp_path / "cache"))
    root = data / "sen12mscr_official_layout"
    outcomes = {o.method: o for o in reproduce("ebel2020-table3", data=root, out=tmp_path / "out", folder=TABLES)}
    missing = outcomes["ours-100"].missing
    assert missing.startswith("no trained weights: unclouded train cyclegan-ours-100 --data")
    assert outcomes["ours-100"].numbers is None
    sample = SEN12MSCR(root, split="test")[0]  # the other patch is of the training split
    rgb = [L1C.index(b) for b in ("B04", "B03", "B02")]
    error = np.clip(sample.s2[0, rgb], 0, 1) - np.clip(sample.target[rgb], 0, 1)
    measured = outcomes["S2 cloudy"].numbers["PSNR"][1]
    assert measured == pytest.approx(-10 * np.log10(np.mean(error.astype(float) ** 2)), abs=1e-4)
    assert outcomes["S2 cloudy"].numbers["precision"] == (None, None)  # the feature network was never trained
    with pytest.raises(InputMissing, match="about series"):
        reproduce("sen12mscrts2022-table1", data=root, out=tmp_path / "out", folder=TABLES)


def test_the_command(tmp_path, capsys):
    assert main(["darbaghshahi2021-table1", "--out", str(tmp_path), "--tables", str(TABLES)]) == 0
    assert capsys.readouterr().out.count("  equal") == 3
    assert main(["nobody", "--tables", str(TABLES)]) == 2
    assert "There is no folder for 'nobody'" in capsys.readouterr().err
    assert main(["all", "--tables", str(tmp_path / "elsewhere")]) == 10
    assert "There are no tables here" in capsys.readouterr().err
