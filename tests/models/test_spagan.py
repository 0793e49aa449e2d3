"""SpA-GAN against the published generator."""

from __future__ import annotations

import pytest
import torch

from models.parity import Golden, cosdot
from unclouded.models.spagan import Config, Discriminator, Network, SpAGAN


def test_generator(golden):
    g = Golden(golden, "spagan_gen")
    state = {k.removeprefix("gen.gen."): v for k, v in g.group("w").items()}
    remover = SpAGAN(Config(), state)
    attention, image = remover.network(g("in/x"))
    g.check(attention, "out/att")
    g.check(image, "out/out")
    loss = cosdot(image)
    assert float(loss.detach()) == pytest.approx(float(g("loss/cosdot")), rel=1e-5)
    network = remover.network.double()  # in float32 one processor differs from the next by more than the tolerance
    cosdot(network(g("in/x").double())[1]).backward()
    g.check_gradients(network, "gen.gen.")
    silent = {n for n, p in network.named_parameters() if p.grad is None}
    assert silent == {n.removeprefix("gen.gen.") for n in g.facts["params_without_grad"]}
    assert sum(p.numel() for p in network.parameters()) == 219_300


def test_directions_count_in_the_paper_form():
    plain, paper = (Network(Config(width=4, variant=v)) for v in ("as_published", "paper"))
    paper.load_state_dict(plain.state_dict())
    x = torch.rand(1, 3, 16, 16)
    assert not torch.allclose(plain(x)[0], paper(x)[0])
    paper(x)[1].sum().backward()
    assert paper.SAM1.attention_layer.conv3.weight.grad is not None


def test_discriminator_shape():
    d = Discriminator(Config(width=2)).eval()
    assert d(torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64)).shape == (1, 1, 4, 4)
