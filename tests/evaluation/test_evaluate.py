from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

from unclouded.bands import L1C
from unclouded.errors import InputMissing, InputUnsupported, SomeUnitsFailed, UsageError
from unclouded.evaluation.evaluate import Contender, by_name, evaluate
from unclouded.evaluation.presets import PRESETS
from unclouded.evaluation.results import leak_of
from unclouded.models.needs import Needs
from unclouded.raster import open_raster, read
from unclouded.sample import Place, Prediction, Sample

DAY = np.datetime64("2020-06-01", "D")
BANDS = ("B02", "B03", "B04", "B08")


def sample(index, bands=BANDS, side=32):
    rng = np.random.default_rng(index)
    target = rng.uniform(0.05, 0.5, (len(bands), side, side)).astype(np.float32)
    cloud = np.zeros((2, side, side), np.float32)
    cloud[0, : side * (index % 4) // 4] = 1
    s2 = np.stack([np.where(cloud[0] > 0, np.float32(0.9), target), target + np.float32(0.02)])
    return Sample(
        place=Place(id=f"ROIs1158_spring_{index % 3}_p{index}", bands=bands, level="L1C"), s2=s2.astype(np.float32),
        s2_valid=np.ones(cloud.shape, bool), s2_dates=DAY + np.array([0, 5]), cloud=cloud, target=target,
        target_valid=np.ones((side, side), bool), target_date=DAY, target_index=0,
    )  # fmt: skip


SAMPLES = [sample(k) for k in range(6)]


@dataclass(frozen=True)
class Offset:
    """The least hidden date plus a constant, with a sigma; refuses a place on request."""

    by: float = 0.0
    refuse: str = ""
    needs: Needs = field(default_factory=lambda: Needs(cloud=False))

    def adapt(self, scene, date):
        return self

    def __call__(self, batch):
        if self.refuse and batch.places[0].id.endswith(self.refuse):
            raise InputUnsupported("I do not like this one.")
        guess = batch.s2[:, 1] - 0.02 + self.by
        return Prediction(s2=guess, sigma=torch.full_like(guess, 0.02))


OFFSET = Contender("offset", remover=Offset(0.01))


def run(tmp_path, models=("identity", OFFSET), samples=SAMPLES, **options):
    return evaluate(list(models), samples, out=tmp_path, draws=200, **options)


def test_numbers_groups_and_files(tmp_path):
    results = run(tmp_path)
    told = json.loads((tmp_path / "results.json").read_text())
    assert told == results.told
    offset = told["models"]["offset"]
    assert offset["rows"]["MAE"]["value"] == pytest.approx(0.01, rel=1e-3)
    assert offset["rows"]["PSNR"]["value"] == pytest.approx(40, abs=0.01)
    assert offset["rows"]["PSNR"]["count"] == 6
    assert offset["rows"]["coverage 90 %"]["value"] == 1
    assert offset["rows"]["MAE hidden"]["count"] == 4  # images 0 and 4 have no cloud
    assert offset["rows"]["MAE"]["low"] <= offset["rows"]["MAE"]["value"] <= offset["rows"]["MAE"]["high"]
    assert told["models"]["identity"]["rows"]["MAE clear"]["value"] == 0
    assert told["models"]["identity"]["rows"]["coverage 90 %"]["value"] is None
    assert told["preset"] == "unclouded-v1" and re.fullmatch("[0-9a-f]{16}", told["preset_digest"])
    assert told["regions"] == [f"ROIs1158_spring_{k}" for k in range(3)]
    assert told["masks"] == {"given": 6}
    assert {b: g["images"] for b, g in offset["by_cover"].items() if g["images"]} == {
        "0-10 %": 2,
        "20-30 %": 2,
        "50-60 %": 1,
        "70-80 %": 1,
    }
    assert offset["by_season"]["spring"]["images"] == 6
    assert offset["by_interval"] == {"0 days": offset["by_interval"]["0 days"]}
    assert [offset["by_case"][k]["images"] for k in ("ground changed", "almost clear", "fully covered")] == [0, 2, 0]
    assert len(offset["bands"]["all"]["rmse"]) == 4 and offset["bands"]["all"]["bias"] == pytest.approx([0.01] * 4, rel=1e-3)
    assert len(offset["calibration"]["all"]["removed"]) == 20
    assert told["failed"] == []


def test_leaked_test_regions_are_told_apart():
    leaked = {"ROIs1158_spring/106", "ROIs1158_spring/123", "ROIs1158_spring/140", "ROIs1868_summer/73", "ROIs1868_summer/119",
              "ROIs1970_fall/139"}  # fmt: skip
    for roi in leaked:
        assert leak_of(roi) == leak_of("_".join(roi.rsplit("/", 1))) == "leaked into training by the published loaders"
    for roi in ("ROIs1158_spring/31", "ROIs1158_spring/44", "ROIs2017_winter/63", "ROIs2017_winter/108"):
        assert leak_of(roi) == "never in training"
    assert leak_of("ROIs1158_spring/1") == leak_of("T31UDS") == ""


def test_paired_comparison(tmp_path):
    found = {d["row"]: d for d in run(tmp_path).told["paired"]}
    mae = found["MAE clear"]
    assert (mae["a"], mae["b"], mae["images"]) == ("identity", "offset", 6)
    assert mae["difference"] == pytest.approx(-0.01, rel=1e-3)
    assert mae["p"] == pytest.approx(2 / 2**3)  # three regions, all on one side: the smallest p there is
    assert mae["a_larger"] == 0
    assert "RMSE pooled" not in found


def test_report_is_one_file_and_says_what_the_results_say(tmp_path):
    run(tmp_path, benchmark_name="sen12mscr")
    html = (tmp_path / "report.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:)', html)
    assert "http" not in re.sub(r"data:image/png;base64,[^\"]+", "", html).replace("Content-Security-Policy", "").replace(
        "http-equiv", ""
    )
    assert html.count('class="viewer"') == 3 * 2
    assert "ECRformer" in html and "33.37" in html and "6 of 10 test ROIs" in html
    assert "<b>40.00</b>" in html
    assert "Only 3 regions" in html


def test_hostile_names_are_escaped(tmp_path):
    evil = "<script>alert(1)</script>"
    samples = [replace(s, place=replace(s.place, id=f"{evil}_p{k}")) for k, s in enumerate(SAMPLES[:2])]
    run(tmp_path, samples=samples)
    assert evil not in (tmp_path / "report.html").read_text()
    assert "&lt;script&gt;" in (tmp_path / "report.html").read_text()


class Counting(list):
    """A data set that counts how often each image is read."""

    def __init__(self, samples):
        super().__init__(samples)
        self.reads = []

    def __getitem__(self, index):
        self.reads.append(index)
        return super().__getitem__(index)


class Interrupted(Exception):
    pass


def test_a_run_that_was_cut_off_goes_on_where_it_stopped(tmp_path):
    def stop(done, total):
        written = (tmp_path / "a" / "offset.jsonl").read_text().splitlines()
        assert len(written) == 1 + done  # a killed process loses nothing that was counted
        if done == 3:
            raise Interrupted

    first, second = Counting(SAMPLES), Counting(SAMPLES)
    with pytest.raises(Interrupted):
        run(tmp_path / "a", samples=first, progress=stop, report=False)
    torn = tmp_path / "a" / "offset.jsonl"
    torn.write_text(torn.read_text()[:-40])  # the last line was being written
    again = run(tmp_path / "a", samples=second, report=False)
    assert sorted(first.reads) == [0, 1, 2]
    assert sorted(second.reads) == [2, 3, 4, 5]
    whole = run(tmp_path / "b", report=False)
    assert _without_time(again.told) == _without_time(whole.told)
    nothing = Counting(SAMPLES)
    run(tmp_path / "a", samples=nothing, report=False)
    assert nothing.reads == []


def _without_time(told):
    told = json.loads(json.dumps(told))
    for model in told["models"].values():
        model.pop("seconds_per_image")
    return told


def test_another_run_in_the_folder_is_refused(tmp_path):
    run(tmp_path, report=False)
    with pytest.raises(UsageError, match="preset was 'unclouded-v1' and is 'uncrtaints2023'"):
        run(tmp_path, preset_name="uncrtaints2023", mask="given", report=False)
    with pytest.raises(UsageError, match="images was 6 and is 5"):
        run(tmp_path, samples=SAMPLES[:5], report=False)
    assert run(tmp_path, samples=SAMPLES[:5], report=False, fresh=True).images == 5


def test_processes_give_the_same_numbers(tmp_path):
    one = run(tmp_path / "1", models=("identity", "mosaicing"), report=False)
    two = run(tmp_path / "2", models=("identity", "mosaicing"), jobs=2, report=False)
    assert _without_time(one.told) == _without_time(two.told)


def test_refusals_are_told_and_tried_again(tmp_path):
    picky = Contender("offset", remover=Offset(0.01, refuse="_p4"))
    with pytest.raises(SomeUnitsFailed, match="1 of 12"):
        run(tmp_path, models=("identity", picky))
    told = json.loads((tmp_path / "results.json").read_text())
    assert told["failed"] == [{"model": "offset", "index": 4, "why": "I do not like this one."}]
    assert told["models"]["offset"]["images"] == 5
    assert "I do not like this one." in (tmp_path / "report.html").read_text()
    assert run(tmp_path).told["models"]["offset"]["images"] == 6


def test_an_average_over_time_runs_by_name(tmp_path):
    results = run(tmp_path, models=("nearest",), report=False)
    assert results.told["models"]["nearest"]["rows"]["MAE"]["value"] == pytest.approx(0.02, rel=1e-3)


def test_predictions_are_stored_on_request(tmp_path):
    run(tmp_path, models=(Contender("offset", remover=Offset(0.01)),), samples=SAMPLES[:1], store=True, report=False)
    (path,) = (tmp_path / "predictions" / "offset").iterdir()
    with open_raster(path) as stored:
        assert stored.descriptions == (*BANDS, *(f"sigma {b}" for b in BANDS))
        np.testing.assert_allclose(read(stored, range(1, 5)), SAMPLES[0].target + 0.01, atol=1e-6)


def test_predictions_of_a_finished_run_are_stored_on_request(tmp_path):
    """The scores stay, to the bit; a prediction that was lost is made again, and no other."""
    first = run(tmp_path, models=(OFFSET, "identity"), samples=SAMPLES[:3], report=False)
    journal = (tmp_path / "offset.jsonl").read_text()
    again = run(tmp_path, models=(OFFSET, "identity"), samples=SAMPLES[:3], store=True, report=False)
    assert again.told == first.told and (tmp_path / "offset.jsonl").read_text() == journal
    files = sorted((tmp_path / "predictions").glob("*/*"))
    assert len(files) == 2 * 3 and {path.suffix for path in files} == {".tif"}
    lost = tmp_path / "predictions" / "offset" / "000001_ROIs1158_spring_1_p1.tif"
    lost.unlink()
    counting = Counting(SAMPLES[:3])
    run(tmp_path, models=(OFFSET, "identity"), samples=counting, store=True, report=False)
    assert counting.reads == [1]
    with open_raster(lost) as stored:
        np.testing.assert_allclose(read(stored, range(1, 5)), SAMPLES[1].target + 0.01, atol=1e-6)


def test_what_cannot_be_is_said_before_any_work(tmp_path):
    (tmp_path / "file").write_text("mine")
    counting = Counting(SAMPLES)
    for options, words in (
        ({"seed": -1}, "The seed -1 is below 0"), ({"jobs": 0}, "0 processes"), ({"mask": "foo"}, "no cloud detector 'foo'"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=words):
            run(tmp_path / "out", samples=counting, **options)
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UsageError, match=r"this is a file\.\n  where: .*file\n"):
            run(out, samples=counting)
    assert counting.reads == [] and not (tmp_path / "out").exists() and (tmp_path / "file").read_text() == "mine"


def test_bad_calls(tmp_path):
    with pytest.raises(UsageError, match="at least one model"):
        run(tmp_path, models=())
    with pytest.raises(UsageError, match="different names"):
        run(tmp_path, models=("identity", "identity"))
    with pytest.raises(UsageError, match="no model 'nobody'"):
        run(tmp_path, models=("nobody",))
    with pytest.raises(InputMissing, match="empty"):
        run(tmp_path, samples=[])
    assert not (tmp_path / "results.json").exists()


@pytest.mark.parametrize("name", ["meraner2020", "glfcr2022", "sen12mscrts2022", "uncrtaints2023", "utilise2023"])
def test_papers_presets_on_thirteen_bands(tmp_path, name):
    samples = [sample(k, L1C) for k in range(3)]
    found = run(tmp_path, samples=samples, preset_name=name, mask="given", report=False).told["models"]["offset"]["rows"]
    first = "MAE target" if name == "meraner2020" else "MAE (all)" if name == "sen12mscrts2022" else "MAE"
    assert found[first]["value"] == pytest.approx(0.01, rel=1e-3)
    assert found["PSNR"]["value"] == pytest.approx(40, abs=0.01)


def test_utilise_pools_the_frames_of_a_series(tmp_path):
    """Two series, of three frames and of one: frames are pooled before the root, then the two series are averaged."""
    errors = {"A@1": 0.01, "A@2": 0.02, "A@3": 0.06, "B@1": 0.04}
    base = replace(sample(1), s2=np.full((2, 4, 32, 32), 0.3, np.float32), target=np.full((4, 32, 32), 0.28, np.float32))
    samples = [
        replace(base, place=replace(base.place, id=name), target=base.target - np.float32(error))
        for name, error in errors.items()
    ]  # fmt: skip
    same = Contender("same", remover=Offset(0.0))
    rows = run(tmp_path, models=(same,), samples=samples, preset_name="utilise2023", mask="given", report=False).told[
        "models"]["same"]["rows"]  # fmt: skip
    a = (0.01**2 + 0.02**2 + 0.06**2) / 3
    assert rows["MAE"]["value"] == pytest.approx((0.03 + 0.04) / 2, rel=1e-4)
    assert rows["MSE"]["value"] == pytest.approx((a + 0.0016) / 2, rel=1e-4)
    assert rows["RMSE"]["value"] == pytest.approx((np.sqrt(a) + 0.04) / 2, rel=1e-4)
    assert rows["PSNR"]["value"] == pytest.approx((-10 * np.log10(a) - 10 * np.log10(0.0016)) / 2, rel=1e-4)
    assert rows["PSNR occluded"]["value"] == pytest.approx(rows["PSNR"]["value"], rel=1e-4)  # the error is the same everywhere
    assert rows["PSNR"]["count"] == 2
    images = run(tmp_path / "images", models=(same,), samples=samples, preset_name="uncrtaints2023", mask="given", report=False)
    each = np.mean([-20 * np.log10(e) for e in errors.values()])
    assert images.told["models"]["same"]["rows"]["PSNR"]["value"] == pytest.approx(each, rel=1e-4)


def test_a_series_counts_once_in_pairs_and_intervals(tmp_path):
    samples = [replace(s, place=replace(s.place, id=f"R{k // 3}@{k}")) for k, s in enumerate(SAMPLES)]
    found = run(tmp_path, samples=samples, preset_name="utilise2023", mask="given", report=False).told
    pair = next(d for d in found["paired"] if d["row"] == "MAE observed")
    assert pair["images"] == 2 and pair["p"] == pytest.approx(2 / 2**2)


@dataclass(frozen=True)
class RedOnly:
    """Restores two of the four bands."""

    needs: Needs = field(default_factory=lambda: Needs(cloud=False, bands=("B04", "B03")))

    def adapt(self, scene, date):
        return self

    def __call__(self, batch):
        assert batch.places[0].bands == ("B04", "B03") and batch.s2.shape[2] == 2
        return Prediction(s2=batch.s2[:, 1] - 0.02)


def test_a_model_of_fewer_bands_is_scored_where_the_preset_wants_no_more(tmp_path, monkeypatch):
    few = replace(PRESETS["ebel2020"], name="few", bands=("B04", "B03"))
    monkeypatch.setitem(PRESETS, "few", few)
    red = Contender("red", remover=RedOnly())
    found = run(tmp_path / "few", models=(red,), preset_name="few", mask="given").told["models"]["red"]["rows"]
    assert found["MAE"]["value"] == pytest.approx(0, abs=1e-6)
    assert found["MAE"]["count"] == 6
    with pytest.raises(SomeUnitsFailed, match="does not restore B02, B08"):
        run(tmp_path / "all", models=(red,), report=False)


class Named(list):
    """A data set that tells the names of its patches, as folder readers do."""

    def __init__(self, samples, names):
        super().__init__(samples)
        self.patches = names


def test_other_data_or_other_weights_are_another_run(tmp_path):
    run(tmp_path, models=(OFFSET,), samples=Named(SAMPLES[:2], ("a", "b")), report=False)
    with pytest.raises(UsageError, match="why: data: items was"):
        run(tmp_path, models=(OFFSET,), samples=Named(SAMPLES[:2], ("a", "c")), report=False)
    brighter = replace(SAMPLES[0], s2=SAMPLES[0].s2 + np.float32(0.1))
    with pytest.raises(UsageError, match="why: data: content was"):  # equal names
        run(tmp_path, models=(OFFSET,), samples=Named([brighter, SAMPLES[1]], ("a", "b")), report=False)
    assert run(tmp_path, models=(OFFSET,), samples=Named(SAMPLES[:2], ("a", "b")), report=False).images == 2
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"first")
    taught = Contender("taught", model=str(weights), remover=Offset(0.01))
    run(tmp_path / "w", models=(taught,), samples=SAMPLES[:2], report=False)
    weights.write_bytes(b"second")
    with pytest.raises(UsageError, match="weights was"):
        run(tmp_path / "w", models=(taught,), samples=SAMPLES[:2], report=False)


def test_trained_runs_are_called_as_their_folders_and_nothing_is_written_beside_them(tmp_path, monkeypatch):
    runs = [tmp_path / "a" / "glf", tmp_path / "b" / "other", tmp_path / "b" / "glf"]
    for folder in runs:
        folder.mkdir(parents=True)
    told = [by_name(str(folder), [str(f) for f in runs]) for folder in runs]
    assert [c.name for c in told] == [str(runs[0]), "other", str(runs[2])] and [c.model for c in told] == [str(f) for f in runs]
    assert by_name("identity") == Contender("identity")
    named = Contender(str(runs[0]), remover=Offset(0.01))
    found = run(tmp_path / "out", models=(named,), samples=SAMPLES[:1], store=True, report=False)
    assert str(runs[0]) in found.told["models"]
    (journal,) = (tmp_path / "out").glob("*.jsonl")
    assert journal.name.endswith("a_glf.jsonl") and not list(tmp_path.glob("a/*.jsonl"))
    assert len(list((tmp_path / "out" / "predictions").glob("*a_glf/*.tif"))) == 1
