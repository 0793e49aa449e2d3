"""Exported networks give what the remover gives."""

from __future__ import annotations

import pytest
import torch

from models.lively import lively
from unclouded.errors import OutputFailed, UsageError
from unclouded.models import zoo
from unclouded.models.export import Physical, export_onnx, export_pt2
from unclouded.models.single_date import Frame

PLAIN = ["dsen2cr", "pix2pix", "spagan", "drib", "cyclegan-cloudmap", "glfcr-as-published"]


def make(name):
    kind, config = zoo.network_class(name)[0], zoo.tiny_config(name)
    return kind(config, lively(kind(config).network, gain=0.8))


def inputs(remover, side):
    draw = torch.Generator().manual_seed(1)
    example = remover.example(side)
    s2 = torch.rand(example.s2.shape, generator=draw)
    s1 = None if example.s1 is None else -25 * torch.rand(example.s1.shape, generator=draw)
    cloud = None if example.cloud is None else torch.rand(example.cloud.shape, generator=draw)
    return Frame(s2=s2, s1=s1, cloud=cloud)


@pytest.mark.parametrize("name", [n if n in ("dsen2cr", "pix2pix") else pytest.param(n, marks=pytest.mark.long) for n in PLAIN])
def test_pt2_parity(name, tmp_path):
    remover = make(name)
    side = max(remover.needs.multiple_of, 32)
    export_pt2(remover, tmp_path / "net.pt2", side)
    loaded = torch.export.load(tmp_path / "net.pt2").module()
    frame = inputs(remover, side)
    with torch.no_grad():
        theirs = loaded(*[t for t in (frame.s2, frame.s1, frame.cloud) if t is not None])
        assert torch.allclose(theirs, remover.restore(frame), atol=1e-5)


def test_onnx_parity_or_a_sentence(tmp_path):
    remover = make("dsen2cr")
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError:
        with pytest.raises(UsageError, match="ONNX export needs"):
            export_onnx(remover, tmp_path / "net.onnx", 32)
        return
    export_onnx(remover, tmp_path / "net.onnx", 32)
    frame = inputs(remover, 32)
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    (theirs,) = session.run(None, {"s2": frame.s2.numpy(), "s1": frame.s1.numpy()})
    with torch.no_grad():
        assert torch.allclose(torch.from_numpy(theirs), remover.restore(frame), atol=1e-4)


def test_sides_that_do_not_fit_and_paths_that_do_not_exist(tmp_path):
    with pytest.raises(UsageError, match="multiples of 64"):
        export_pt2(make("pix2pix"), tmp_path / "net.pt2", 100)
    with pytest.raises(OutputFailed):
        export_pt2(make("dsen2cr"), tmp_path / "none" / "net.pt2", 32)


def test_names_of_the_inputs():
    assert Physical(make("dsen2cr")).names == ("s2", "s1")
    assert Physical(make("spagan")).names == ("s2",)
    assert Physical(make("cyclegan-cloudmap")).names == ("s2", "s1", "cloud")


@pytest.mark.parametrize("name", ["uncrtaints", "utilise", "seq2point", "stgan"])
@pytest.mark.parametrize("export", [export_pt2, export_onnx])
def test_networks_for_time_series_are_refused_in_words(name, export, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object())  # as if ONNX were installed
    kind, config = zoo.network_class(name)[0], zoo.tiny_config(name)
    with pytest.raises(UsageError, match="single date"):
        export(kind(config), tmp_path / "x.pt2", 32)
