"""Losses: values by hand, parity with the published code, and what is not valid leaves no trace."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import structural_similarity

from unclouded import losses
from unclouded.models.dsen2cr import Config, DSen2CR

BAD = (float("nan"), 0.0, 1e30)


def image(*shape, seed=0, low=0.0, high=1.0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * (high - low) + low


PIXEL_LOSSES = {
    "l1": losses.l1,
    "l2": losses.l2,
    "ssim": lambda p, t, valid=None: losses.ssim_loss(p, t, 1.0, valid),
    "sam": losses.sam_loss,
    "carl": lambda p, t, valid=None: losses.carl(p, t, t * 0.5, (t[:, :1] > 0.5).float(), 1.0, valid),
}


def test_l1_and_l2_by_hand():
    p, t = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]]), torch.tensor([[[[0.0, 2.0]], [[1.0, 1.0]]]])
    assert losses.l1(p, t) == pytest.approx((1 + 0 + 2 + 3) / 4)
    assert losses.l2(p, t) == pytest.approx((1 + 0 + 4 + 9) / 4)
    first = torch.tensor([[[True, False]]])
    assert losses.l1(p, t, first) == pytest.approx((1 + 2) / 2)
    assert losses.l2(p, t, ~first) == pytest.approx((0 + 9) / 2)
    assert losses.l1(p, t, torch.zeros(1, 1, 2, dtype=torch.bool)) == 0


def test_carl_by_hand():
    p, t, x = (torch.full((1, 2, 1, 2), v) for v in (3.0, 1.0, 2.5))
    hidden = torch.tensor([[[[1.0, 0.0]]]])
    # hidden pixel |3 - 1| = 2, clear pixel |3 - 2.5| = 0.5: mean 1.25; |p - t| = 2 everywhere
    assert losses.carl(p, t, x, hidden, 0.0) == pytest.approx(1.25)
    assert losses.carl(p, t, x, hidden) == pytest.approx(3.25)
    assert losses.carl(p, t, x, hidden, 5.0) == pytest.approx(11.25)


def test_carl_meets_the_published_loss_and_its_gradients(golden):
    stored = np.load(golden / "dsen2cr_keras_mask.npz")
    remover = DSen2CR(Config(features=16, blocks=2))
    layers = [m for m in remover.network.modules() if isinstance(m, torch.nn.Conv2d)]
    names = sorted(k.removeprefix("w/") for k in stored.files if k.startswith("w/"))
    with torch.no_grad():
        for layer, kernel, bias in zip(layers, names[::2], names[1::2], strict=True):
            layer.weight.copy_(torch.from_numpy(stored[f"w/{kernel}"].transpose(3, 2, 0, 1).copy()))
            layer.bias.copy_(torch.from_numpy(stored[f"w/{bias}"]))
    opt, sar, target, mask = (torch.from_numpy(stored[f"in/{n}"]) for n in ("opt", "sar", "target", "cloud_mask"))
    loss = losses.carl(remover.network(opt, sar), target, opt, mask)
    assert loss.item() == pytest.approx(float(stored["loss/carl_error"]), abs=1e-5)
    loss.backward()
    for layer, kernel, bias in zip(layers, names[::2], names[1::2], strict=True):
        wanted = stored[f"grad_carl/{kernel}"].transpose(3, 2, 0, 1)
        np.testing.assert_allclose(layer.weight.grad.numpy(), wanted, atol=1e-5)
        np.testing.assert_allclose(layer.bias.grad.numpy(), stored[f"grad_carl/{bias}"], atol=1e-5)


def test_gan_losses_meet_the_published_ones(golden):
    stored = np.load(golden / "preprocess_ganloss.npz")
    scores = torch.from_numpy(stored["in/gan_pred"])
    for kind in ("lsgan", "vanilla", "wgangp"):
        for real in (True, False):
            found = losses.gan_loss(scores, real=real, kind=kind)
            assert found.item() == pytest.approx(float(stored[f"out/gan/{kind}/{real}"]), abs=1e-6)


def test_gan_losses_by_hand():
    scores = torch.tensor([0.0, 2.0])
    assert losses.gan_loss(scores, real=True, kind="lsgan") == pytest.approx((1 + 1) / 2)
    assert losses.gan_loss(scores, real=False, kind="lsgan") == pytest.approx((0 + 4) / 2)
    assert losses.gan_loss(scores, real=True, kind="vanilla").item() == pytest.approx(
        (math.log(2) + math.log1p(math.exp(-2))) / 2, rel=1e-6
    )
    assert losses.gan_loss(scores, real=False, kind="vanilla").item() == pytest.approx(
        (math.log(2) + math.log1p(math.exp(2))) / 2, rel=1e-6
    )
    assert losses.gan_loss(scores, real=True, kind="wgangp") == -1
    assert losses.discriminator_loss(torch.tensor([1.0]), torch.tensor([0.5]), "lsgan") == pytest.approx(0.125)
    for real in (True, False):
        vanilla = losses.gan_loss(scores, real=real, kind="vanilla")
        assert losses.softplus_gan_loss(scores, real=real).item() == pytest.approx(vanilla.item(), rel=1e-6)


def test_the_gradient_penalty_of_a_linear_critic():
    """Critic 3 * sum over 4 values: the gradient's length is 3 * 2, so the penalty is 10 (6 - 1)^2."""

    class Critic(torch.nn.Module):
        def forward(self, x):
            return 3 * x.flatten(1).sum(1)

    found = losses.gradient_penalty(Critic(), image(2, 1, 2, 2), image(2, 1, 2, 2, seed=1), torch.Generator())
    assert found.item() == pytest.approx(250, rel=1e-5)


def test_ssim_is_the_usual_one():
    a, b = image(1, 2, 24, 20), image(1, 2, 24, 20, seed=1)
    _, maps = structural_similarity(
        a[0].numpy().astype(float), b[0].numpy().astype(float), channel_axis=0, data_range=1.0, gaussian_weights=True,
        sigma=1.5, use_sample_covariance=False, full=True, win_size=11,
    )  # fmt: skip
    np.testing.assert_allclose(losses.ssim_map(a, b, 1.0)[0].numpy(), maps[:, 5:-5, 5:-5], atol=2e-5)
    assert losses.ssim_loss(a, a, 1.0).item() == pytest.approx(0, abs=1e-6)
    shifted = losses.ssim_loss(2 * a - 1, 2 * b - 1, 2.0)
    assert shifted != pytest.approx(losses.ssim_loss(a, b, 1.0).item(), abs=1e-4)  # means count


def test_sam_by_hand():
    p = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    for degrees in (0.5, 30.0, 90.0):
        angle = math.radians(degrees)
        t = torch.tensor([2 * math.cos(angle), 2 * math.sin(angle)]).view(1, 2, 1, 1)
        assert losses.sam_loss(p, t).item() == pytest.approx(angle, rel=1e-4)
    assert losses.sam_loss(p, 3 * p).item() < 1e-5


def test_features_and_styles_by_hand():
    found, wanted = [torch.ones(1, 2, 2, 2), torch.zeros(1, 1, 1, 1)], [torch.zeros(1, 2, 2, 2), torch.full((1, 1, 1, 1), 2.0)]
    assert losses.feature_loss(found, wanted) == pytest.approx((1 + 4) / 2)
    half = torch.tensor([[1.0, 1.0], [0.0, 0.0]]).view(1, 1, 2, 2)
    # first layer: half of the squares; second: both features halved
    assert losses.feature_loss(found, wanted, half) == pytest.approx((0.5 + 1) / 2)
    assert losses.gram(torch.ones(1, 2, 2, 2)).tolist() == [[[0.5, 0.5], [0.5, 0.5]]]
    assert losses.style_loss([torch.ones(1, 2, 2, 2)], [torch.zeros(1, 2, 2, 2)]) == pytest.approx(0.25)


def test_cloud_map_losses_by_hand():
    zero, one = torch.zeros(1, 1, 1, 2), torch.ones(1, 1, 1, 2)
    cloud = torch.tensor([[[[1.0, 0.25]]]])
    assert losses.cloud_map_cycle(zero, zero, one, zero, cloud) == pytest.approx((1 + 0.25) / 2)
    assert losses.cloud_map_cycle(zero, zero, zero, one, cloud) == pytest.approx((0 + 0.75) / 2)
    assert losses.cloud_map_identity(zero, zero, one, one, cloud) == pytest.approx(1.25)
    assert losses.cloud_map_regression(cloud, zero) == pytest.approx(0.75 * 0.25 / 2)
    assert losses.cloud_map_regression(one, zero) == 0


@pytest.mark.parametrize("name", PIXEL_LOSSES)
@pytest.mark.parametrize("bad", BAD)
def test_what_is_not_valid_leaves_no_trace(name, bad):
    loss, valid = PIXEL_LOSSES[name], torch.ones(2, 24, 24, dtype=torch.bool)
    valid[0, :6, :9] = False
    target = image(2, 3, 24, 24, seed=1)
    broken = torch.where(valid[:, None], target, bad)
    values, slopes = [], []
    for t in (target, broken):
        p = image(2, 3, 24, 24).requires_grad_()
        value = loss(p, t, valid=valid)
        value.backward()
        values.append(value.item())
        slopes.append(p.grad)
    assert math.isfinite(values[0])
    assert values[0] == values[1]
    assert torch.equal(slopes[0], slopes[1])
    if name != "ssim":  # its windows reach beyond
        assert not slopes[0].movedim(1, -1)[~valid].any()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), name=st.sampled_from(sorted(PIXEL_LOSSES)))
def test_all_valid_is_the_same_as_no_mask(seed, name):
    p, t = image(1, 3, 16, 16, seed=seed), image(1, 3, 16, 16, seed=seed + 1)
    everywhere = torch.ones(1, 16, 16, dtype=torch.bool)
    assert PIXEL_LOSSES[name](p, t).item() == pytest.approx(PIXEL_LOSSES[name](p, t, valid=everywhere).item(), rel=1e-5)


def test_brighter_marks_where_the_target_is_brighter():
    target, cloudy = torch.tensor([0.5, 0.2, 0.4]), torch.tensor([0.4, 0.8, 0.4])
    assert losses.brighter(target.view(1, 1, 1, 3), cloudy.view(1, 1, 1, 3)).flatten().tolist() == [1, 0, 0]
