"""Import of the authors' files: their key layouts made from golden weights, and hostile files refused by the child process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.parity import Golden
from unclouded import models
from unclouded.bands import L1C
from unclouded.errors import InputCorrupt, InputMissing, InputUnsupported, RefusedForSafety, UsageError
from unclouded.models import published, quarantine, weights, zoo
from unclouded.models.dsen2cr import Config, DSen2CR
from unclouded.models.pix2pix import Pix2Pix
from unclouded.models.spagan import Config as SpAGANConfig
from unclouded.models.spagan import SpAGAN


def imported(kind, path, tmp_path):
    record = published.import_file(kind, path, tmp_path / "out.safetensors")
    assert len(record.sha256) == 64
    return weights.load(tmp_path / "out.safetensors")


def write_keras(path, arrays, *, before="", first=0):
    """Layers as Keras stores them: a group per layer, datasets kernel:0 and bias:0, layer numbers from `first` on."""
    import h5py

    with h5py.File(path, "w") as file:
        for key, array in arrays.items():
            layer, name = key.split("/")
            number = int(layer.partition("_")[2] or 0) + first
            file[f"{before}conv2d_{number}/{name}" if number else f"{before}conv2d/{name}"] = array.numpy()
        file.create_dataset(f"{before}optimizer/step", data=7)


@pytest.mark.parametrize("layout", [{}, {"before": "model_weights/model_1/"}, {"first": 38}])
def test_keras_layouts(golden, tmp_path, layout):
    arrays = {k.split(":", 1)[1]: v for k, v in Golden(golden, "dsen2cr_keras_mask").group("w").items()}
    write_keras(tmp_path / "w.hdf5", arrays, **layout)
    config, state = published.keras_dsen2cr(quarantine.hdf5_tensors(tmp_path / "w.hdf5"))
    expected, same = published.keras_dsen2cr(arrays)
    assert config == expected
    assert all(torch.equal(state[k], same[k]) for k in same)


def test_keras_dsen2cr(golden, tmp_path):
    g = Golden(golden, "dsen2cr_keras_mask")
    write_keras(tmp_path / "w.hdf5", {k.split(":", 1)[1]: v for k, v in g.group("w").items()})
    remover = imported("dsen2cr-keras", tmp_path / "w.hdf5", tmp_path)
    assert (remover.config.features, remover.config.blocks, remover.config.sar) == (16, 2, True)
    with torch.no_grad():
        y = remover.network(g("in/opt"), g("in/sar"))
    theirs = g("out/y")[:, :13]
    assert float((y - theirs).abs().max()) <= 1e-5 * float(theirs.abs().max())


def test_glfcr_with_its_buffers(golden, tmp_path):
    g = Golden(golden, "glfcr_reduced")
    torch.save({"network": {f"module.{k}": v for k, v in g.group("w").items()}, "epoch": 3}, tmp_path / "w.pth")
    remover = imported("glfcr", tmp_path / "w.pth", tmp_path)
    c = remover.config
    assert (c.features, c.blocks, c.layers, c.growth, c.heads, c.window, c.kernel) == (16, 2, 2, 16, 8, 8, 5)
    with torch.no_grad():
        g.check(remover.network(g("in/cloudy"), g("in/sar")), "out/pred")


def test_pix2pix_and_spagan(golden, tmp_path):
    g = Golden(golden, "pix2pix_unet256")
    config, state = published.torch_pix2pix(g.group("w"))
    assert (config.width, config.levels, config.sar) == (4, 8, True)
    with torch.no_grad():
        g.check(Pix2Pix(config, state).network(g("in/x")[:, :13], g("in/x")[:, 13:]), "out/y")
    g = Golden(golden, "spagan_gen")
    config, state = published.torch_spagan({f"module.{k}": v for k, v in g.group("w").items()})
    assert config.width == 32
    with torch.no_grad():
        g.check(SpAGAN(config, state).network(g("in/x"))[1], "out/out")


def test_torch_port_of_dsen2cr(golden):
    g = Golden(golden, "dsen2cr_pytorch")
    config, state = published.torch_dsen2cr({f"state_dict/{k}": v for k, v in g.group("w").items()})
    assert (config.features, config.blocks, config.sar) == (16, 2, True)
    assert set(state) == set(g.group("w"))


class Trap:
    """Would write a file when unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_code_in_a_checkpoint_is_never_executed(tmp_path):
    trap = tmp_path / "sprung"
    torch.save({"network": {"a": torch.zeros(1)}, "args": Trap(trap)}, tmp_path / "w.pth")
    with pytest.raises(RefusedForSafety, match="more than tensors"):
        published.import_file("glfcr", tmp_path / "w.pth", tmp_path / "out.safetensors")
    assert not trap.exists()
    assert not (tmp_path / "out.safetensors").exists()


def test_hdf5_does_not_reach_outside(tmp_path):
    import h5py

    (tmp_path / "secret.bin").write_bytes(b"\0" * 64)
    with h5py.File(tmp_path / "w.hdf5", "w") as file:
        file.create_dataset("conv2d/kernel:0", (16,), "f4", external=[(str(tmp_path / "secret.bin"), 0, 64)])
    with pytest.raises(quarantine.Refused, match="outside the file"):
        quarantine.hdf5_tensors(tmp_path / "w.hdf5")
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        file["conv2d/kernel:0"] = [1.0]
    with h5py.File(tmp_path / "w.hdf5", "w") as file:
        file["conv2d/bias:0"] = [2.0]
        file["linked"] = h5py.ExternalLink(str(tmp_path / "other.hdf5"), "/conv2d")
    assert list(quarantine.hdf5_tensors(tmp_path / "w.hdf5")) == ["conv2d/bias:0"]


def test_garbage_is_unreadable(tmp_path):
    (tmp_path / "w.pth").write_bytes(b"PK\3\4" + bytes(range(256)))
    with pytest.raises((InputCorrupt, RefusedForSafety)):
        published.quarantined(tmp_path / "w.pth")


def test_a_reader_that_hangs_is_stopped(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(RefusedForSafety, match="too long"):
        published.quarantined(tmp_path / "w.pth", seconds=0)


def test_another_networks_file_is_refused_with_names(tmp_path, monkeypatch):
    (tmp_path / "w.pth").touch()
    monkeypatch.setattr(published, "quarantined", lambda path: {"encoder.weight": torch.zeros(1)})
    for kind in published.PUBLISHED:
        with pytest.raises(InputUnsupported, match=r"encoder\.weight"):
            published.import_file(kind, tmp_path / "w.pth", tmp_path / "out.safetensors")
    with pytest.raises(UsageError, match="no import of 'unet'"):
        published.import_file("unet", tmp_path / "w.pth", tmp_path / "o")
    with pytest.raises(InputMissing):
        published.import_file("glfcr", tmp_path / "none.pth", tmp_path / "o")


@pytest.mark.parametrize(("sar", "row"), [(True, "dsen2cr"), (False, "dsen2cr-optical")])
def test_the_row_of_the_table_is_that_of_the_settings(tmp_path, sar, row):
    remover = DSen2CR(replace(Config.tiny(), sar=sar))
    torch.save(remover.network.state_dict(), tmp_path / "w.pth")
    record = published.import_file("dsen2cr-torch", tmp_path / "w.pth", tmp_path / "out.safetensors")
    assert record.model == row == weights.read(tmp_path / "out.safetensors").model
    assert models.load(row, weights=tmp_path / "out.safetensors").config == remover.config


@pytest.mark.parametrize(("bands", "row"), [(published.RGB, "spagan"), (L1C, "spagan-13")])
def test_the_row_of_spagan_goes_by_its_bands(tmp_path, bands, row):
    torch.save(SpAGAN(replace(SpAGANConfig.tiny(), bands=bands)).network.state_dict(), tmp_path / "w.pth")
    assert published.import_file("spagan", tmp_path / "w.pth", tmp_path / "out.safetensors").model == row


def test_numbers_that_are_none_are_refused(tmp_path):
    state = DSen2CR(Config.tiny()).network.state_dict()
    for value in (float("nan"), float("inf")):
        state["model.0.bias"] = torch.full_like(state["model.0.bias"], value)
        torch.save(state, tmp_path / "w.pth")
        with pytest.raises(InputUnsupported, match=r"finite(.|\n)*model\.0\.bias"):
            published.import_file("dsen2cr-torch", tmp_path / "w.pth", tmp_path / "out.safetensors")
    state["model.0.bias"] = torch.zeros(len(state["model.0.bias"]), dtype=torch.complex64)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(InputUnsupported, match="real numbers"):
        published.import_file("dsen2cr-torch", tmp_path / "w.pth", tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_a_keras_file_with_flat_kernels_is_refused_in_words(tmp_path):
    write_keras(tmp_path / "w.hdf5", {f"conv2d_{n}/{part}:0": torch.zeros(4) for n in range(4) for part in ("kernel", "bias")})
    with pytest.raises(InputUnsupported, match="do not belong together"):
        published.import_file("dsen2cr-keras", tmp_path / "w.hdf5", tmp_path / "out.safetensors")


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("kind", ["uncrtaints", "seq2point", "glfcr", "pix2pix", "utilise", "stgan", "dsen2cr-torch", "spagan"])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 2), (0, 3, 1, 1), (7, 1, 1, 1), (2, 2, 2, 2, 2)])
def test_any_tensor_of_a_wrong_shape_is_refused_in_words(kind, shape):
    source = published.PUBLISHED[kind]
    remover, _ = zoo.network_class(source.model)
    with torch.device("meta"):
        state = dict(remover(zoo.tiny_config(source.model)).network.state_dict())
    for name in [name for name, tensor in list(state.items())[:: max(1, len(state) // 12)] if tensor.shape != shape]:
        broken = {**{k: torch.zeros(v.shape) for k, v in state.items()}, name: torch.zeros(shape)}
        with pytest.raises(InputUnsupported):
            published._remover(source, broken, source.untold, Path("file.pth"))


@pytest.mark.parametrize("content", [b"<!DOCTYPE html><html>", b"", b"epoch,loss\n1,2\n"])
def test_a_web_page_in_place_of_weights_is_unreadable_and_not_dangerous(tmp_path, content):
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(InputCorrupt, match="neither HDF5 nor a file of torch"):
        published.import_file("glfcr", tmp_path / "w.pth", tmp_path / "out.safetensors")
