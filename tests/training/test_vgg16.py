"""The network behind perceptual losses: layers as published, weights from anywhere, labels from SEN12MS."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from unclouded.datasets.offline import write_image, write_sen12mscr
from unclouded.datasets.split import parse_roi
from unclouded.errors import InputCorrupt, InputMissing, InputUnsupported, UsageError
from unclouded.training.data import SIMULATED
from unclouded.training.landcover import LandSteps, open_land
from unclouded.training.recipe import Data
from unclouded.training.vgg16 import RELUS, VGG16, eye


def test_layers_are_those_of_vgg16():
    with torch.device("meta"):
        network = VGG16(3)
    assert sum(p.numel() for p in network.parameters()) == 14_714_688  # of the convolutions (Simonyan and Zisserman 2015)
    convolutions = [int(k.split(".")[1]) for k in network.state_dict() if k.endswith("weight")]
    assert convolutions == [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    assert all(isinstance(network.features[i], torch.nn.ReLU) for i in RELUS)


def test_features_are_taken_after_the_named_layers():
    network = eye("random", 5)
    image = torch.rand(2, 5, 32, 32, generator=torch.Generator().manual_seed(1))
    found = network(image)
    assert [tuple(f.shape) for f in found] == [(2, 64, 8, 8), (2, 128, 4, 4), (2, 128, 2, 2)]
    for features, layer in zip(found, RELUS, strict=True):
        assert torch.equal(features, network.features[: layer + 1](image))
    assert len(network(image[..., :8, :8])) == 2  # too small for the last
    assert torch.equal(eye("random", 5)(image)[0], found[0])  # from its own seed
    assert not any(p.requires_grad for p in network.parameters())


def test_weights_of_others(tmp_path):
    own = VGG16(3, classes=7, width=4)
    state = own.state_dict() | {"classifier.0.weight": torch.zeros(2, 2)}
    save_file(state, tmp_path / "imagenet.safetensors")
    taken = eye(str(tmp_path / "imagenet.safetensors"), 3)
    assert torch.equal(taken.features[0].weight, own.features[0].weight)
    with pytest.raises(InputUnsupported, match="3 bands; the images have 13"):
        eye(str(tmp_path / "imagenet.safetensors"), 13)
    with pytest.raises(InputMissing, match="vgg16-landcover"):
        eye(str(tmp_path / "none.safetensors"), 3)
    (tmp_path / "bad.safetensors").write_bytes(b"no")
    with pytest.raises(InputCorrupt):
        eye(str(tmp_path / "bad.safetensors"), 3)
    with pytest.raises(UsageError, match="none is named"):
        eye("", 3)


def test_labels_of_sen12ms(tmp_path, monkeypatch):
    monkeypatch.setenv("UNCLOUDED_CACHE", str(tmp_path / "cache"))
    root, plan = tmp_path / "root", Data(kind="clear")
    patches = write_sen12mscr(root, [parse_roi("ROIs1158_spring/1")], patches=2, size=32)
    with pytest.raises(InputMissing, match="no land-cover labels"):
        open_land(plan, str(root), 0, "train")
    for patch, igbp in zip(patches, (17, 4), strict=True):  # water, deciduous forest
        classes = np.full((4, 32, 32), igbp, np.uint16)
        classes[:, :10] = 13
        path = root / f"ROIs1158_spring_lc/lc_1/ROIs1158_spring_lc_1_p{patch.number}.tif"
        write_image(path, classes, None)
    source = open_land(plan, str(root), 0, "train")
    assert [source[i].label for i in range(2)] == [10, 1] and source[0].image.shape == (13, 32, 32)
    known = source.digest()
    source.inner.patches = source.inner.patches[::-1]
    assert len(known) == 64 and source.digest() != known
    images, labels, names = LandSteps(source, batch=2, seed=0)[0]
    assert images.shape == (2, 13, 32, 32) and sorted(labels.tolist()) == [1, 10] and len(set(names)) == 2


def test_land_cover_of_simulated_places():
    source = open_land(Data(kind="clear", count=3, size=32), SIMULATED, 0, "train")
    first, again = source[0], open_land(Data(kind="clear", count=3, size=32), SIMULATED, 0, "train")[0]
    assert np.array_equal(first.image, again.image) and first.label == again.label and 1 <= first.label < source.classes
    other = open_land(Data(kind="clear", count=3, size=32), SIMULATED, 0, "val")[0]
    assert not np.array_equal(first.image, other.image)
