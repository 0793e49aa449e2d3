from __future__ import annotations

import json
import subprocess
import sys

import pytest

from unclouded.errors import InputCorrupt, InputMissing
from unclouded.evaluation.data import open_data
from unclouded.evaluation.leaderboard import main as leaderboard_main
from unclouded.evaluation.leaderboard import page, read


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


OTHERS = {
    "detector of the areas": ({"masks": {"sixband": 9}}, "areas from sixband"),
    "dates": ({"data": {"kind": "SEN12MS-CR-TS", "dates": 7}}, "SEN12MS-CR-TS, 7 dates per series; areas"),
    "sampler": (
        {"data": {"kind": "SEN12MS-CR-TS", "dates": 3, "sampler": "as_published", "cover": [0, 1]}},
        "3 dates per series, drawn by the sampler 'as_published', cover 0 to 100 %; areas from meraner2020",
    ),
    "split": ({"data": {"kind": "SEN12MS-CR-TS", "dates": 3, "split": "train", "rule": "exact"}}, "split train by rule exact"),
    "protocol": (
        {"protocol": {"name": "blended", "clouds_from": "tum"}}, "protocol blended, clouds from tum; areas from meraner2020"
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", OTHERS)
def test_runs_that_cannot_be_compared_stand_in_tables_of_their_own(what):
    common = {"masks": {"meraner2020": 9}, "protocol": None, "data": {"kind": "SEN12MS-CR-TS", "dates": 3, "root": "/a"}}
    other, heading = OTHERS[what]
    said = page([told("one", 30.0) | common, told("two", 31.0) | common | other])
    assert said.count("## unclouded-v1:") == 2 and heading in said
    moved = common | {"data": common["data"] | {"root": "/b", "content": "other times"}}
    assert page([told("one", 30.0) | common, told("two", 31.0) | moved]).count("## unclouded-v1:") == 1


def test_leaderboard_files(tmp_path):
    (tmp_path / "r.json").write_text(json.dumps(told("one", 30.0)))
    assert leaderboard_main([str(tmp_path / "r.json"), "--out", str(tmp_path / "page.md")]) == 0
    assert (tmp_path / "page.md").read_text() == page([read(tmp_path / "r.json")])
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(InputCorrupt):
        read(tmp_path / "bad.json")


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [(None, 10, "There is no result file here"), ("[]", 11, "no result file of an evaluation"), ("{", 11, "no result file of")],
)
def test_leaderboard_says_what_is_wrong_and_leaves_the_page(tmp_path, capsys, content, code, words):
    path, board = tmp_path / "r.json", tmp_path / "page.md"
    if content is not None:
        path.write_text(content)
    board.write_text("before")
    assert leaderboard_main([str(path), "--out", str(board)]) == code
    assert words in capsys.readouterr().err and board.read_text() == "before"
    path.write_text(json.dumps(told("one", 30.0)))
    assert leaderboard_main([str(path), "--out", str(tmp_path / "nowhere" / "page.md")]) == 20


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
