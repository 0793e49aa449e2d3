"""DSen2-CR against the authors' Keras model and torch port: outputs, CARL, gradients."""

from __future__ import annotations

import pytest
import torch

from models.parity import Golden
from unclouded.losses import carl
from unclouded.models.dsen2cr import Config, DSen2CR, Network
from unclouded.models.published import keras_dsen2cr

SMALL = Config(features=16, blocks=2)


def test_torch_port(golden):
    g = Golden(golden, "dsen2cr_pytorch")
    net = DSen2CR(SMALL, g.group("w")).network
    s2, s1 = g("in/x")[:, :13], g("in/x")[:, 13:]
    y = net(s2, s1)
    g.check(y, "out/y")
    loss = carl(y, g("in/target"), s2, g("in/cloud_mask"))
    assert float(loss.detach()) == pytest.approx(float(g("loss/carl")), rel=1e-6)
    loss.backward()
    g.check_gradients(net)


def test_keras(golden):
    g = Golden(golden, "dsen2cr_keras_mask")
    config, state = keras_dsen2cr({k.split(":", 1)[1]: v for k, v in g.group("w").items()})
    assert config == SMALL
    net = DSen2CR(config, state).network
    y = net(g("in/opt"), g("in/sar"))
    theirs = g("out/y")
    assert float((y.detach() - theirs[:, :13]).abs().max()) <= 1e-5 * float(theirs[:, :13].abs().max())
    loss = carl(y, g("in/target"), g("in/opt"), g("in/cloud_mask"))
    assert float(loss.detach()) == pytest.approx(g.facts["metrics"]["carl_error"], rel=1e-6)
    loss.backward()
    gradients = {k.split(":", 1)[1]: v for k, v in g.group("grad_carl").items()}
    for name, gradient in keras_dsen2cr(gradients)[1].items():
        ours = net.get_parameter(name).grad
        assert float((ours - gradient).abs().max()) <= 1e-4 * float(gradient.abs().max()), name


def test_published_size():
    with torch.device("meta"):
        assert sum(p.numel() for p in Network(Config()).parameters()) == 18_947_341


def test_he_uniform_bounds_and_zero_bias():
    net = DSen2CR(SMALL).network
    first = net.model[0]
    bound = (6 / (15 * 9)) ** 0.5
    assert 0.9 * bound < float(first.weight.detach().abs().max()) <= bound
    assert not first.bias.any()
