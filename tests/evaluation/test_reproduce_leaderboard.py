from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from unclouded.bands import L1C
from unclouded.datasets.sen12mscr import SEN12MSCR
from unclouded.errors import InputCorrupt, InputMissing, UsageError
from unclouded.evaluation.benchmarks import BENCHMARKS
from unclouded.evaluation.data import open_data
from unclouded.evaluation.leaderboard import main as leaderboard_main
from unclouded.evaluation.leaderboard import page, read
from unclouded.evaluation.reproduce import Recipe, main, names, recipe_of, reproduce, text

RECIPES = Path(__file__).parents[2] / "reproduce"


def test_every_table_of_the_papers_has_a_recipe():
    papers = {name for name in BENCHMARKS if "-table" in name}
    assert set(names(RECIPES)) == papers
    for name in papers:
        assert recipe_of(name, RECIPES).benchmark.name == name  # reading checks that no printed row is passed in silence


def test_a_silent_recipe_is_refused(tmp_path):
    path = tmp_path / "sen12mscrts2022-table2.toml"
    path.write_text('data = "sen12mscrts"\n[missing]\n"seq2point (no S1)" = "weights"\n')
    with pytest.raises(UsageError, match=r"silent about seq2point \(with S1\)"):
        Recipe.read(path)
    path.write_text('data = "sen12mscrts"\ncolour = "blue"\n')
    with pytest.raises(UsageError, match="colour"):
        Recipe.read(path)


@pytest.mark.parametrize("name", ["sen12mscrts2022-table1", "sen12mscrts2022-table6", "ebel2020-table3", "meraner2020-table1"])
def test_tables_run_on_the_simulated_place(tmp_path, name):
    outcomes, results = reproduce(name, out=tmp_path, limit=2, folder=RECIPES)
    assert results.images == 2
    ours = [o for o in outcomes if o.ours]
    assert ours and all(any(m is not None for _, m in o.numbers.values()) for o in ours)
    said = text(name, outcomes, simulated=True)
    assert "SIMULATED" in said
    for outcome in outcomes:
        assert outcome.ours or f"missing: {outcome.method}" in said
    if name == "ebel2020-table3":
        assert "published: unavailable" in said


def test_difference_is_ours_minus_paper(tmp_path):
    outcomes, _ = reproduce("sen12mscrts2022-table1", out=tmp_path, limit=1, folder=RECIPES)
    mosaic = next(o for o in outcomes if o.method == "mosaicing")
    printed, ours = mosaic.numbers["NRMSE (all)"]
    assert printed == 0.062
    line = next(x for x in text("sen12mscrts2022-table1", [mosaic], simulated=True).splitlines() if "NRMSE (all)" in x)
    assert line.endswith(f"{ours - printed:.4f}")


def test_unpublished_data_are_named(tmp_path):
    with pytest.raises(InputMissing, match="never published"):
        reproduce("darbaghshahi2021-table4", data=tmp_path, out=tmp_path / "out", folder=RECIPES)


def test_real_triplets_in_the_official_layout(tmp_path, data, monkeypatch):
    monkeypatch.setenv("UNCLOUDED_CACHE", str(tmp_path / "cache"))
    root = data / "sen12mscr_official_layout"
    outcomes, results = reproduce("ebel2020-table3", data=root, out=tmp_path / "out", folder=RECIPES)
    assert results.told["regions"] == ["ROIs1970_fall/139"]  # the other patch is of the training split
    assert results.images == 1
    cloudy = next(o for o in outcomes if o.method == "S2 cloudy")
    sample = SEN12MSCR(root, split="test")[0]
    rgb = [L1C.index(b) for b in ("B04", "B03", "B02")]
    error = np.clip(sample.s2[0, rgb], 0, 1) - np.clip(sample.target[rgb], 0, 1)
    assert cloudy.numbers["PSNR"][1] == pytest.approx(-10 * np.log10(np.mean(error.astype(float) ** 2)), abs=1e-4)


def test_the_command(tmp_path, capsys):
    assert main(["glfcr2022-table3", "--limit", "1", "--out", str(tmp_path), "--recipes", str(RECIPES)]) == 0
    said = capsys.readouterr().out
    assert "missing: GLF-CR: needs trained weights" in said
    assert main(["nobody", "--recipes", str(RECIPES)]) == 2
    assert "There is no recipe" in capsys.readouterr().err


def told(name, psnr, patches="a" * 64, digest="d" * 16):
    rows = {
        "PSNR hidden": {"value": psnr, "low": psnr - 1, "high": psnr + 1, "unit": "dB"},
        "MAE": {"value": 0.02, "low": None, "high": None, "unit": ""},
    }
    return {
        "benchmark": {"name": "unclouded-v1", "dataset": "any"}, "preset": "unclouded-v1", "preset_digest": digest,
        "patch_list_sha256": patches, "regions": list("abcdefg"), "images": 9,
        "models": {name: {"rows": rows, "refused": 0.001, "seconds_per_image": 0.5, "images": 9}},
    }  # fmt: skip


def test_leaderboard_ranks_and_keeps_protocols_apart():
    said = page([told("worse", 30.0), told("better", 33.0), told("elsewhere", 50.0, patches="b" * 64)])
    assert said.index("| better |") < said.index("| worse |")
    assert said.count("## unclouded-v1: a, b, c and 4 more") == 2
    assert "33.00 [32.00, 34.00]" in said and "| 0.0200 |" in said
    assert "| ECRformer | 33.37 | 0.932 | 4.69 | 0.0164 | loader finds ROIs by substring: 6 of 10" in said


def test_leaderboard_files(tmp_path):
    (tmp_path / "r.json").write_text(json.dumps(told("one", 30.0)))
    leaderboard_main([str(tmp_path / "r.json"), "--out", str(tmp_path / "page.md")])
    assert (tmp_path / "page.md").read_text() == page([read(tmp_path / "r.json")])
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(InputCorrupt):
        read(tmp_path / "bad.json")


def test_evaluation_imports_no_torch_until_it_runs():
    code = "import sys; import unclouded.evaluation.evaluate, unclouded.evaluation.report; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_data_by_layout(tmp_path, data, monkeypatch):
    monkeypatch.setenv("UNCLOUDED_CACHE", str(tmp_path / "cache"))
    triplets = open_data(data / "sen12mscr_official_layout", split=None)
    assert len(triplets) == 2 and triplets[0].s1 is not None
    pairs = open_data(data / "sen12mscr_pairs", split=None)
    assert len(pairs) == 20 and pairs[0].s1 is None  # the folder has no radar, so none is asked for
    series = open_data(data / "sen12mscrts", split=None, dates=2)
    assert len(series) == 1 and series[0].s2.shape[0] == 2 and series[0].target_index is None
    assert [s.place.id for s in open_data("simulated", dates=1)] == [f"simulated-{k}" for k in range(4)]
    with pytest.raises(InputMissing, match="no data set"):
        open_data(tmp_path / "nothing")
