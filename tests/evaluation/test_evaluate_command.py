"""`unclouded evaluate` with a protocol and a feature network."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from evaluation.test_features import stored, vgg
from unclouded.cli import app
from unclouded.errors import UsageError

run = CliRunner().invoke
COMMON = ["evaluate", "--model", "identity", "--data", "simulated", "--dates", "1", "--mask", "given"]


def test_a_protocol_and_features_from_the_command_line(tmp_path):
    weights = stored(tmp_path / "vgg.safetensors", vgg())
    asked = [*COMMON, "--out", str(tmp_path / "ev"), "--protocol", "shifted-radar", "--features", str(weights)]
    said = run(app, asked, catch_exceptions=False).stdout
    told = json.loads((tmp_path / "ev" / "results.json").read_text())
    assert told["images"] == 4 * 9 and told["protocol"]["name"] == "shifted-radar"
    for n in (0, 1, 2):
        (line,) = (x for x in said.splitlines() if x.startswith(f"PSNR, {n} px"))
        assert line.split()[-1] == f"{told['models']['identity']['by_variant'][f'{n} px']['PSNR']:.4g}"
    assert "precision of the set" in said
    html = (tmp_path / "ev" / "report.html").read_text()
    assert "By variant" in html and "protocol shifted-radar" in html and "several variants" in html


def test_series_are_opened_whole_for_protocols_that_need_them(tmp_path):
    said = run(app, [*COMMON, "--out", str(tmp_path / "ev"), "--protocol", "references", "--json"], catch_exceptions=False)
    told = json.loads(said.stdout)
    assert set(told["models"]["identity"]["by_variant"]) == {"13 days", "25 days", "72 days"}


def test_wrong_names_and_files_are_explained(tmp_path):
    wrong = run(app, [*COMMON, "--out", str(tmp_path / "ev"), "--protocol", "dance"])
    assert wrong.exit_code != 0 and "There is no protocol 'dance'" in str(wrong.exception or wrong.output)
    missing = run(app, [*COMMON, "--out", str(tmp_path / "ev"), "--features", str(tmp_path / "nothing")])
    assert missing.exit_code != 0 and "no weights of a feature network" in str(missing.exception or missing.output)
    assert not (tmp_path / "ev").exists()


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [("--mask", "foo", "no cloud detector 'foo'"), ("--workers", "0", "0 processes"), ("--dates", "-3", "cannot have -3")],
)
def test_options_that_cannot_be_are_usage_errors(tmp_path, option, value, words):
    said = run(app, [*COMMON, "--out", str(tmp_path / "ev"), option, value])
    assert isinstance(said.exception, UsageError) and said.exception.code == 2 and words in str(said.exception)
    assert run(app, [*COMMON, "--out", str(tmp_path / "ev"), "--seed", "-1"]).exit_code == 2
    assert not (tmp_path / "ev").exists()
