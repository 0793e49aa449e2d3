"""Precision, recall and F1 of a set in the space of a feature network."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from evaluation.test_views import pair, restoring
from unclouded.bands import L1C
from unclouded.errors import InputCorrupt, InputMissing, InputUnsupported
from unclouded.evaluation.evaluate import Contender, evaluate
from unclouded.evaluation.features import load, packed, unpacked
from unclouded.metrics.manifold import precision_recall


def vgg(channels=13, widths=((4, 6), (5,)), full=None):
    """Convolution, ReLU, ..., pooling per block, with the usual numbers; perhaps two fully connected layers."""
    torch.manual_seed(0)
    layers, c = [], channels
    for block in widths:
        for width in block:
            layers += [nn.Conv2d(c, width, 3, padding=1), nn.ReLU()]
            c = width
        layers.append(nn.MaxPool2d(2))
    network = nn.Module()
    network.features = nn.Sequential(*layers)
    if full:
        network.classifier = nn.Sequential(
            nn.Linear(c * 49, full[0]), nn.ReLU(), nn.Dropout(), nn.Linear(full[0], full[1]), nn.ReLU()
        )
    return network.eval()


def stored(path, network):
    save_file(network.state_dict(), path)
    return path


IMAGE = np.random.default_rng(0).uniform(-0.1, 1.1, (13, 32, 32)).astype(np.float32)


def test_mean_of_the_last_maps(tmp_path):
    network = vgg()
    found = load(stored(tmp_path / "vgg.safetensors", network))
    assert (found.channels, found.size, found.layer) == (13, 5, "mean of the last feature maps")
    with torch.no_grad():
        expected = network.features(torch.from_numpy(IMAGE.clip(0, 1))[None]).mean((2, 3))[0].numpy()
    np.testing.assert_allclose(found.of(IMAGE, L1C), expected, rtol=1e-5)


def test_second_fully_connected_layer_and_rgb(tmp_path):
    network = vgg(channels=3, full=(9, 7))
    found = load(stored(tmp_path / "vgg.safetensors", network))
    assert (found.channels, found.size, found.layer) == (3, 7, "second fully connected layer")
    rgb = torch.from_numpy(IMAGE[[3, 2, 1]].clip(0, 1))[None]
    with torch.no_grad():
        expected = network.classifier(nn.functional.adaptive_avg_pool2d(network.features(rgb), 7).flatten(1))[0].numpy()
    np.testing.assert_allclose(found.of(IMAGE, L1C), expected, rtol=1e-5)
    with pytest.raises(InputUnsupported, match="takes 3 bands; the images have 2"):
        found.of(IMAGE[:2], ("B01", "B02"))


def test_files_that_are_no_vgg_are_refused(tmp_path):
    with pytest.raises(InputMissing, match="vgg16-landcover"):
        load(tmp_path)
    (tmp_path / "bad.safetensors").write_bytes(b"no weights at all")
    with pytest.raises(InputCorrupt):
        load(tmp_path / "bad.safetensors")
    save_file({"layer.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(InputUnsupported, match="plain VGG"):
        load(tmp_path / "other.safetensors")
    state = vgg().state_dict()
    state["features.0.weight"] = torch.zeros(4, 13, 5, 5)
    save_file(state, tmp_path / "wide.safetensors")
    with pytest.raises(InputUnsupported, match=r"features\.0"):
        load(tmp_path / "wide.safetensors")


def test_vectors_survive_a_line_of_json():
    a, b = np.random.default_rng(1).normal(size=(2, 40)).astype(np.float32)
    both = unpacked(json.loads(json.dumps(packed(a, b))))
    np.testing.assert_array_equal(both, [a, b])


COPIER = Contender("half", remover=restoring(lambda b: b.s2[:, 0] * 0.5))


def test_numbers_of_a_set_are_those_of_its_features(tmp_path):
    """Twelve images: a run, and a run in two processes that goes on, give what the features say."""
    samples = [pair(k, side=32, hidden=0.2) for k in range(12)]
    weights = stored(tmp_path / "vgg.safetensors", vgg())
    network = load(weights)
    real = np.stack([network.of(s.target, L1C) for s in samples])
    generated = np.stack([network.of(s.s2[0] * np.float32(0.5), L1C) for s in samples])
    expected = precision_recall(real, generated, k=10)
    told = evaluate(
        ["identity", COPIER], samples, out=tmp_path / "a", mask="given", features=str(weights), draws=10
    ).told  # fmt: skip
    found = told["models"]["half"]["manifold"]
    assert (found["precision"], found["recall"], found["f1"]) == pytest.approx((*expected, expected.f1))
    assert (found["k"], found["images"]) == (10, 12)
    assert told["features"]["sha256"] == network.digest and told["features"]["features"] == 5
    assert "Precision and recall of the set" in (tmp_path / "a" / "report.html").read_text()


def test_a_perfect_set_is_precise_and_complete(tmp_path):
    samples = [pair(k, side=32, hidden=0) for k in range(6)]
    weights = stored(tmp_path / "vgg.safetensors", vgg())
    told = evaluate(["identity"], samples, out=tmp_path / "a", mask="given", features=str(weights), report=False, draws=10).told
    manifold = told["models"]["identity"]["manifold"]
    assert (manifold["precision"], manifold["recall"], manifold["f1"]) == (1, 1, 1)


def test_variants_have_their_own_and_count_a_truth_once(tmp_path):
    samples = [pair(k, side=32, hidden=0) for k in range(5)]
    weights = stored(tmp_path / "vgg.safetensors", vgg())
    told = evaluate(
        ["identity"], samples, out=tmp_path / "a", mask="given", features=str(weights), protocol_name="shifted-radar", draws=10
    ).told["models"]["identity"]  # fmt: skip
    assert "see each variant" in told["manifold"]["not_computed"]
    assert [told["by_variant"][f"{n} px"]["f1"] for n in (0, 1, 2)] == [1, 1, 1]
    assert "identity, 2 px" in (tmp_path / "a" / "report.html").read_text()


def test_without_a_network_it_is_not_computed_and_says_why(tmp_path):
    told = evaluate(["identity"], [pair()], out=tmp_path, mask="given", draws=10).told
    assert told["features"] is None
    assert told["models"]["identity"]["manifold"] == {"not_computed": "no feature network was given (--features WEIGHTS)"}
    assert "not computed: no feature network was given" in (tmp_path / "report.html").read_text()
