"""The pix2pix and CycleGAN parts against the authors' outputs and gradient norms."""

from __future__ import annotations

import pytest
import torch

from models.parity import Golden, cosdot
from unclouded.models import cyclegan_cloudmap, drib, pix2pix, simulation_fusion
from unclouded.models.patchgan import PatchGAN
from unclouded.models.resnet import ResnetGenerator
from unclouded.models.unet import UNet
from unclouded.models.weights import fit


def compare(golden, name, network):
    g = Golden(golden, name)
    fit(network, g.group("w"))
    y = network.eval()(g("in/x"))
    g.check(y, "out/y")
    loss = cosdot(y)
    assert float(loss.detach()) == pytest.approx(float(g("loss/cosdot")), rel=1e-5, abs=1e-6)
    loss.backward()
    g.check_gradients(network)
    assert sum(p.numel() for p in network.parameters()) == g.facts["nparams"]


def test_cyclegan_generator(golden):
    compare(golden, "cyclegan_resnet9", ResnetGenerator(15, 14, width=4))


def test_patchgan_instance(golden):
    compare(golden, "patchgan70", PatchGAN(15, width=4, norm="instance"))


def test_patchgan_batch(golden):
    compare(golden, "patchgan70_bn", PatchGAN(15, width=4, norm="batch"))


def test_pix2pix_unet(golden):
    compare(golden, "pix2pix_unet256", UNet(15, 13, width=4))


def count(make):
    with torch.device("meta"):
        return sum(p.numel() for p in make().parameters())


def test_published_sizes():
    assert count(lambda: UNet(15, 13)) == 54_446_733
    assert count(lambda: ResnetGenerator(15, 14)) == 11_450_318
    assert count(lambda: PatchGAN(15, norm="instance")) == 2_777_025
    assert count(lambda: PatchGAN(15, norm="batch")) == 2_777_921
    assert count(lambda: pix2pix.discriminator(pix2pix.Config())) == 2_777_921 + 13 * 1024


def test_drib_has_half_the_parameters_of_its_unet():
    # Darbaghshahi et al. 2021, section 2.1: DRIBs "halved the number of our generator parameters"
    drib_size = count(lambda: drib.Generator(6, 3))
    assert drib_size == 26_655_427
    assert 0.45 < drib_size / count(lambda: UNet(6, 3)) < 0.55


def test_drib_layers_at_the_sizes_of_the_paper():
    sizes = []
    net = drib.Generator(6, 3, width=4, blocks=1).eval()
    for module in (net.down1, net.down4, net.dribs, net.up4, net.up1):
        module.register_forward_hook(lambda m, i, o: sizes.append(tuple(o.shape[1:])))
    net(torch.zeros(1, 6, 256, 256))
    assert sizes == [(4, 128, 128), (32, 31, 31), (32, 31, 31), (16, 32, 32), (3, 256, 256)]


@pytest.mark.parametrize("config", [drib.Config.tiny(), drib.Config(width=4, levels=4, translation="none", radar="VV+VH")])
def test_drib_discriminators_see_what_section_3_1_says(config):
    of_translation, of_removal = drib.discriminators(config)
    radar = 1 if config.radar == "VV" else 2
    beside = radar if config.translation == "none" else 3
    assert of_translation(torch.zeros(1, radar + 3, 64, 64)).shape == (1, 1, 4, 4)
    assert of_removal(torch.zeros(1, 6 + beside, 64, 64)).shape == (1, 1, 4, 4)


def test_cloud_map_generator_keeps_the_image_where_the_residual_is_zero():
    net = cyclegan_cloudmap.Network(cyclegan_cloudmap.Config.tiny())
    last = net.residual.model[-1]
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.zeros_(last.bias)
    s2 = torch.linspace(-0.99, 0.99, 3 * 256).view(1, 3, 16, 16)
    clear, cloud = net(torch.zeros(1, 3, 16, 16), s2, torch.zeros(1, 1, 16, 16))
    assert torch.allclose(clear, s2, atol=1e-5)
    assert torch.allclose(cloud, torch.sigmoid(net.cloud_map.bias).view(1, 1, 1, 1).expand_as(cloud))


def test_spectral_norm_bounds_the_largest_singular_value():
    of_s1, of_s2 = cyclegan_cloudmap.discriminators(cyclegan_cloudmap.Config.tiny())
    for _ in range(30):  # power iterations, one per forward pass in training
        of_s2(torch.randn(1, 4, 32, 32))
    weight = of_s2.model[2].weight.flatten(1)
    assert float(torch.linalg.matrix_norm(weight.detach(), 2)) == pytest.approx(1, abs=0.02)
    assert of_s1.model[0].weight.shape[1] == 3


def test_image_pool():
    pool = cyclegan_cloudmap.ImagePool(3, seed=1)
    images = [torch.full((1, 1, 1, 1), float(i)) for i in range(60)]
    out = [float(pool.query(i)) for i in images]
    assert out[:3] == [0, 1, 2]
    old = [o for i, o in enumerate(out) if o != i]
    assert 18 <= len(old) <= 40  # half of 57
    assert len(set(old)) == len(old)  # a returned image has left the pool
    again = cyclegan_cloudmap.ImagePool(3, seed=1)
    assert [float(again.query(i)) for i in images] == out
    same = torch.rand(2, 3, 4, 4)
    assert cyclegan_cloudmap.ImagePool(0).query(same) is same


def test_simulation_is_altered_in_training_only():
    net = simulation_fusion.Network(simulation_fusion.Config.tiny()).eval()
    s2, s1 = torch.rand(1, 13, 16, 16), torch.rand(1, 2, 16, 16)
    assert torch.equal(net(s2, s1)[1], net(s2, s1)[1])
    net.train()
    assert not torch.equal(net(s2, s1)[1], net(s2, s1)[1])
    assert torch.equal(net(s2, s1)[0], net(s2, s1)[0])
