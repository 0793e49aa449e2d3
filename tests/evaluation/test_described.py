"""What an evaluation says of its data, and that it never goes on with other data."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest

from unclouded.datasets.patches import describe
from unclouded.datasets.sen12mscr import SEN12MSCR
from unclouded.datasets.split import Roi
from unclouded.errors import UsageError
from unclouded.evaluation.data import open_data
from unclouded.evaluation.described import STATED, by_split, described, in_words
from unclouded.evaluation.evaluate import evaluate
from unclouded.evaluation.views import ShiftedRadar
from unclouded.raster import create_raster


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNCLOUDED_CACHE", str(tmp_path / "cache"))


def score(tmp_path, samples):
    return evaluate(["identity"], samples, out=tmp_path / "out", draws=10, report=False).told


def test_a_folder_of_series_says_how_inputs_were_drawn(data):
    root = data / "sen12mscrts"
    told = described(open_data(root, split="train", dates=2, cover=(0.0, 0.9)))
    expected = {
        "kind": "SEN12MS-CR-TS", "root": str(root.resolve()), "split": "train", "rule": "exact", "dates": 2,
        "sampler": "corrected", "cover": [0.0, 0.9], "detector": "meraner2020", "by_split": {"train": 1},
    }  # fmt: skip
    assert {key: told[key] for key in expected} == expected
    assert in_words(told) == (
        "SEN12MS-CR-TS, split train by rule exact, 2 dates per series, drawn by the sampler 'corrected', cover 0 to 90 %, "
        "clouds of the data by meraner2020"
    )


OTHER = {"dates": {"dates": 3}, "sampler": {"sampler": "as_published"}, "cover": {"cover": (0.0, 0.5)},
         "detector": {"mask": "sixband"}, "split": {"split": None}}  # fmt: skip


@pytest.mark.parametrize("entry", OTHER)
def test_other_inputs_of_the_same_series_are_another_run(tmp_path, data, entry):
    """The names of the series are equal: only the description of the data tells."""
    root = data / "sen12mscrts"
    asked = {"split": "train", "dates": 2} | OTHER[entry]
    assert described(open_data(root, **asked))["items"] == described(open_data(root, split="train", dates=2))["items"]
    score(tmp_path, open_data(root, split="train", dates=2))
    with pytest.raises(UsageError, match=f"data: {entry} was"):
        score(tmp_path, open_data(root, **asked))


def test_another_root_other_files_and_another_rule_are_another_run(tmp_path, data):
    roots = [tmp_path / "a", tmp_path / "b"]
    for root in roots:
        shutil.copytree(data / "sen12mscr_official_layout", root)
    told = score(tmp_path, open_data(roots[0], split="test"))
    assert told["images"] == 1
    assert score(tmp_path, open_data(roots[0], split="test"))["models"] == told["models"]
    with pytest.raises(UsageError, match="data: root was"):
        score(tmp_path, open_data(roots[1], split="test"))
    with pytest.raises(UsageError, match="data: rule was 'exact' and is 'as_published_substring'"):
        score(tmp_path, open_data(roots[0], split="test", rule="as_published_substring"))
    with pytest.raises(UsageError, match="data: radar was True and is False"):
        score(tmp_path, open_data(roots[0], split="test", s1=False))
    image = next(roots[0].glob("ROIs1970_fall_s2_cloudy/*/*.tif"))
    os.utime(image, (0, 0))
    with pytest.raises(UsageError, match="data: content was"):
        score(tmp_path, open_data(roots[0], split="test"))


def test_other_simulated_places_are_another_run(tmp_path):
    score(tmp_path, open_data("simulated", dates=1))
    with pytest.raises(UsageError, match="data: dates was 1 and is 2"):
        score(tmp_path, open_data("simulated", dates=2))


def test_splits_are_counted_by_the_exact_table(tmp_path):
    """What the published rule lets in shows: region 106 is of the test split."""
    rois = [Roi("ROIs1158_spring", n) for n in (1, 1, 106, 17, 999)]
    assert by_split(tmp_path, "sen12mscr", rois) == {"train": 2, "test": 1, "val": 1, "none": 1}
    (tmp_path / "splits.csv").write_text("nonsense")
    assert by_split(tmp_path, "sen12mscr", [Roi("ROIs1158_spring", 1)]) == {"none": 1}


def test_a_reader_without_a_stated_split_and_views_are_described(data):
    reader = SEN12MSCR(data / "sen12mscr_official_layout", split=None)
    told = described(ShiftedRadar(reader))
    assert told["split"] is None and told["by_split"] == {"test": 1, "train": 1}
    assert in_words(told) == "SEN12MS-CR, split not stated (by the exact table: 1 test, 1 train)"
    assert set(STATED) <= set(described([])) and in_words({}) == "data that nobody described"


def test_equal_samples_have_one_digest_and_any_number_changes_it():
    first, again = (described(open_data("simulated", dates=1)) for _ in range(2))
    assert first == again
    samples = open_data("simulated", dates=1).source
    samples[3].s2[0, 0, 0, 0] += np.float32(1e-3)
    assert described(samples)["content"] != first["content"]


def test_results_and_report_tell_the_data_that_were_scored(tmp_path, data):
    """Not the split that the benchmark asks for; and the detector of the series' clouds, which says what is hidden."""
    root = data / "sen12mscr_official_layout"
    samples = open_data(root, split="train", rule="as_published_substring")
    told = evaluate(["identity"], samples, "sen12mscr", out=tmp_path / "a", draws=10).told
    assert told["data"]["split"] == "train" and told["data"]["rule"] == "as_published_substring"
    assert told["benchmark"]["asks_for"] == {
        "dataset": "SEN12MS-CR", "split": "test, 10 ROIs, 7,899 patches (Ebel 2020 prints 7,893)"
    }  # fmt: skip
    assert "split" not in told["benchmark"]
    html = (tmp_path / "a" / "report.html").read_text()
    assert "<dt>the benchmark asks for</dt><dd>SEN12MS-CR, test, 10 ROIs" in html
    said = "SEN12MS-CR, split train by rule as_published_substring (by the exact table: 1 test, 1 train)"
    assert f"<dt>data scored here</dt><dd>{said}, in {root.resolve()}</dd>" in html
    assert f"7,899 patches (Ebel 2020 prints 7,893); scored here: {said}." in html
    evaluate(["identity"], open_data(root, split="test"), "sen12mscr", out=tmp_path / "b", draws=10)
    assert "scored here: " not in (tmp_path / "b" / "report.html").read_text()  # no warning


def test_areas_of_series_are_by_the_detector_of_the_series(tmp_path, data):
    told = evaluate(["identity"], open_data(data / "sen12mscrts", split="train"), out=tmp_path, draws=10, report=False).told
    assert told["masks"] == {"meraner2020": 1}
    assert told["data"]["detector"] == "meraner2020" and told["data"]["sampler"] == "corrected"


def test_clouds_of_a_protocol_are_by_the_detector_that_made_them(tmp_path, data):
    pairs = open_data(data / "sen12mscr_official_layout", split="test")
    told = evaluate(["identity"], pairs, out=tmp_path, draws=10, report=False, protocol_name="synthetic").told
    assert told["protocol"]["clouds_from"] == "meraner2020" and told["masks"] == {"meraner2020": 3}


L2A = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")


def stored(path, seed):
    """Counts of ten bands; the upper half is as bright as a cloud where `seed` is 0."""
    counts = np.random.default_rng(seed).integers(500, 2500, (len(L2A), 32, 32)).astype(np.uint16)
    if not seed:
        counts[:, :16] = 8000
    path.parent.mkdir(parents=True, exist_ok=True)
    with create_raster(path, height=32, width=32, count=len(L2A), dtype="uint16", grid=None) as target:
        target.write(counts)


def own(root, series):
    """A data set of the user's own: L2A, ten bands, its own splits."""
    root.mkdir()
    describe(root, L2A, "L2A")
    if series:
        (root / "splits.csv").write_text("roi,split,source\nROIs9000/1,val,mine\n")
        for n, day in enumerate(("2020-06-01", "2020-06-06", "2020-06-11")):
            stored(root / f"ROIs9000/1/S2/{n}/s2_ROIs9000_1_ImgNo_{n}_{day}_patch_0.tif", n)
        return root
    (root / "splits.csv").write_text("roi,split,source\nROIs9000_spring/1,val,mine\n")
    for seed, kind in enumerate(("s2_cloudy", "s2")):
        stored(root / f"ROIs9000_spring_{kind}/{kind}_1/ROIs9000_spring_{kind}_1_p1.tif", seed)
    return root


@pytest.mark.parametrize("mask", [None, "auto"])
@pytest.mark.parametrize("series", [False, True])
def test_own_data_of_another_level_take_the_automatic_detector_that_fits(tmp_path, series, mask):
    samples = open_data(own(tmp_path / "mine", series), split="val", dates=2, mask=mask)
    told = evaluate(["identity"], samples, out=tmp_path / "out", draws=10, report=False, mask=mask).told
    assert told["images"] == 1 and told["masks"] == {"sixband": 1}
    assert told["models"]["identity"]["rows"]["MAE"]["value"] > 0
    assert told["data"]["detector"] == ("sixband" if series else None)
