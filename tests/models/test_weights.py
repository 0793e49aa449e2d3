"""Weights files: what their header says, strict loading, and refusal of what is damaged, foreign or hostile."""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from unclouded.errors import InputCorrupt, InputMissing, InputUnsupported, OutputFailed, RefusedForSafety
from unclouded.models import uncrtaints, utilise, weights, zoo
from unclouded.models.dsen2cr import Config, DSen2CR
from unclouded.models.glfcr import GLFCR
from unclouded.models.glfcr import Config as GLFCRConfig
from unclouded.models.uncrtaints import UnCRtainTS
from unclouded.models.weights import Weights


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "w.safetensors"
    notes = Weights(model="dsen2cr", licence="CC-BY-4.0", trained_on="nothing", numbers={"psnr": 27.8})
    weights.save(path, "dsen2cr", DSen2CR(Config.tiny(), seed=3), notes)
    return path


def rewritten(path, change):
    """The same file with its header record changed."""
    from safetensors import safe_open

    with safe_open(path, "np") as file:
        record = json.loads(file.metadata()["unclouded"])
    change(record)
    save_file(load_file(path), path, metadata={"unclouded": json.dumps(record)})
    return path


def test_header_says_everything(saved):
    record = weights.read(saved)
    remover = DSen2CR(Config.tiny(), seed=3)
    assert record.model == "dsen2cr"
    assert record.licence == "CC-BY-4.0"
    assert record.numbers == {"psnr": 27.8}
    assert record.parameters == sum(p.numel() for p in remover.network.parameters())
    assert record.config["features"] == 8
    assert record.needs["halo"] == 6
    assert record.digest == weights.digest(remover.network.state_dict())


def test_a_loaded_network_says_what_it_holds_and_its_file_does_not(saved):
    assert weights.load(saved).needs.held == zoo.network("dsen2cr").held * 2**20 > 0
    assert weights.read(saved).needs["held"] == DSen2CR(Config.tiny()).needs.held == 0


@pytest.mark.parametrize(("dates", "held", "per_date"), [(None, 40, 335), (3, 40 + 3 * 335, 0)])
def test_what_is_held_goes_by_the_dates_that_the_network_takes(tmp_path, dates, held, per_date):
    weights.save(tmp_path / "w.safetensors", "uncrtaints", UnCRtainTS(replace(uncrtaints.Config.tiny(), dates=dates)))
    needs = weights.load(tmp_path / "w.safetensors").needs
    assert (needs.held / 2**20, needs.held_per_date / 2**20) == (held, per_date)


def test_same_weights_same_bytes(saved, tmp_path):
    again = tmp_path / "again.safetensors"
    weights.save(again, "dsen2cr", weights.load(saved), weights.read(saved))
    assert again.read_bytes() == saved.read_bytes()


def test_a_renamed_tensor_is_named():
    state = dict(DSen2CR(Config.tiny()).network.state_dict())
    state["model.0.wait"] = state.pop("model.0.weight")
    state["model.0.bias"] = torch.zeros(9)
    with pytest.raises(InputUnsupported, match="3 tensors differ") as caught:
        DSen2CR(Config.tiny(), state)
    for part in ("missing model.0.weight", "unknown model.0.wait", r"model.0.bias is (9,), expected (8,)"):
        assert part in str(caught.value)


def test_damaged_tensor_bytes_are_found(saved):
    content = bytearray(saved.read_bytes())
    content[-5] ^= 1
    saved.write_bytes(content)
    with pytest.raises(InputCorrupt, match="digest"):
        weights.load(saved)


@pytest.mark.parametrize("content", [b"", b"x", b"\0" * 100, struct.pack("<Q", 2**60) + b"{}"])
def test_files_that_are_no_safetensors(tmp_path, content):
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputCorrupt, match="not a safetensors file"):
        weights.load(path)


def test_truncated_anywhere(saved):
    whole = saved.read_bytes()
    for part in (1, 9, len(whole) // 2, len(whole) - 1):
        saved.write_bytes(whole[:part])
        with pytest.raises(InputCorrupt):
            weights.load(saved)


def test_a_foreign_safetensors_file(tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / "w.safetensors")
    with pytest.raises(InputUnsupported, match="does not say which model"):
        weights.load(tmp_path / "w.safetensors")
    with pytest.raises(InputMissing, match="no such weights"):
        weights.load(tmp_path / "none.safetensors")


def test_a_config_that_would_exhaust_memory_is_refused(saved):
    with pytest.raises(RefusedForSafety, match="features = 1000000"):
        weights.load(rewritten(saved, lambda r: r["config"].update(features=1_000_000)))


def test_a_config_that_does_not_fit_the_tensors(saved):
    with pytest.raises(InputCorrupt, match=r"model\.0\.weight"):
        weights.load(rewritten(saved, lambda r: r["config"].update(features=16)))


def test_unknown_settings_models_and_formats(saved):
    original = saved.read_bytes()
    changes = {
        "another set of settings": lambda r: r["config"].update(depth=3),
        "no network 'unet'": lambda r: r.update(model="unet"),
        "another format": lambda r: r.update(format=2),
    }
    for said, change in changes.items():
        saved.write_bytes(original)
        with pytest.raises(InputUnsupported, match=said):
            weights.load(rewritten(saved, change))


def test_nothing_half_written(tmp_path):
    target = tmp_path / "folder.safetensors"
    target.mkdir()
    with pytest.raises(OutputFailed):
        weights.save(target, "dsen2cr", DSen2CR(Config.tiny()))
    assert [p.name for p in tmp_path.iterdir()] == ["folder.safetensors"]


def test_digest_depends_on_names_shapes_and_values():
    base = {"a": torch.zeros(2, 3), "b": torch.ones(4)}
    others = [
        {"a": torch.zeros(3, 2), "b": torch.ones(4)},
        {"a": torch.zeros(2, 3), "c": torch.ones(4)},
        {"a": torch.zeros(2, 3), "b": torch.ones(4) * 2},
        {"a": torch.zeros(2, 3), "b": torch.ones(4, dtype=torch.float64)},
    ]
    assert weights.digest(dict(reversed(base.items()))) == weights.digest(base)
    assert len({weights.digest(o) for o in [base, *others]}) == 5


def test_record_survives_json():
    record = Weights(model="m", numbers={"a": 1.0})
    assert Weights(**json.loads(json.dumps(asdict(record)))) == record


@pytest.mark.parametrize(
    ("name", "value"),
    [("blocks", "x"), ("blocks", 1.5), ("blocks", True), ("residual_scale", None), ("level", [1, 2]), ("level", "L3"),
     ("bands", "B02"), ("sar", 1), ("bands", [2])],
)  # fmt: skip
def test_a_header_with_a_setting_of_a_wrong_type_is_refused_in_words(saved, name, value):
    path = rewritten(saved, lambda record: record["config"].update({name: value}))
    with pytest.raises(InputCorrupt, match=f"header of the weights is wrong.*'{name}'"):
        weights.load(path)


@pytest.mark.parametrize("config", [None, 3, [], "text"])
def test_a_header_without_settings_is_refused_in_words(saved, config):
    path = rewritten(saved, lambda record: record.update({"config": config}))
    with pytest.raises(InputUnsupported, match="another set of settings"):
        weights.load(path)


def test_numbers_that_would_only_exhaust_memory_are_refused_wherever_they_stand(tmp_path):
    path = tmp_path / "u.safetensors"
    for change in ({"encoder": [8, 10**9]}, {"window": 1e300}, {"heads": -1}):
        weights.save(path, "utilise", utilise.UTilise(utilise.Config.tiny()))
        with pytest.raises(RefusedForSafety, match=next(iter(change))):
            weights.load(rewritten(path, lambda record, new=change: record["config"].update(new)))


def test_a_network_that_cannot_be_is_refused_in_words(tmp_path):
    path = tmp_path / "g.safetensors"
    weights.save(path, "glfcr", GLFCR(GLFCRConfig.tiny()))
    with pytest.raises(InputCorrupt, match=r"cannot be(.|\n)*among 3 heads"):
        weights.load(rewritten(path, lambda record: record["config"].update(heads=3)))
