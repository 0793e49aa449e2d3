"""GAN losses against the authors' code; the others against their formulas written out."""

from __future__ import annotations

import pytest
import torch

from models.parity import Golden
from unclouded.losses import (
    brighter,
    carl,
    cloud_map_cycle,
    cloud_map_identity,
    cloud_map_regression,
    discriminator_loss,
    gan_loss,
    gradient_penalty,
    softplus_gan_loss,
)


@pytest.mark.parametrize("kind", ["lsgan", "vanilla", "wgangp"])
@pytest.mark.parametrize("real", [True, False])
def test_gan_loss(golden, kind, real):
    g = Golden(golden, "preprocess_ganloss")
    ours = float(gan_loss(g("in/gan_pred"), real=real, kind=kind))
    assert ours == pytest.approx(float(g(f"out/gan/{kind}/{real}")), rel=1e-6)


def test_discriminator_loss_is_half_the_sum():
    real, fake = torch.tensor([0.5, 2.0]), torch.tensor([1.0, -1.0])
    expected = ((0.25 + 1) / 2 + (1 + 1) / 2) / 2
    assert float(discriminator_loss(real, fake, "lsgan")) == pytest.approx(expected)


def test_softplus_pair():
    scores = torch.tensor([0.0, 3.0])
    assert float(softplus_gan_loss(scores, real=True)) == pytest.approx((0.693147 + 0.048587) / 2, rel=1e-4)
    assert float(softplus_gan_loss(scores, real=False)) == pytest.approx((0.693147 + 3.048587) / 2, rel=1e-4)


def test_gradient_penalty_of_a_linear_score():
    """A score of slope v has the penalty 10 (|v| - 1)^2 wherever the mix falls."""
    v = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)

    class Linear(torch.nn.Module):
        def forward(self, x):
            return (x * v).sum((1, 2, 3))

    draw = torch.Generator().manual_seed(0)
    penalty = gradient_penalty(Linear(), torch.zeros(5, 2, 1, 1), torch.ones(5, 2, 1, 1), draw)
    assert float(penalty) == pytest.approx(10 * (5 - 1) ** 2, rel=1e-5)


def test_carl_by_cases():
    """Under cloud the error to truth counts twice; in the clear also the change of the input."""
    cloudy, target, prediction = torch.full((1, 2, 1, 1), 3.0), torch.full((1, 2, 1, 1), 1.0), torch.full((1, 2, 1, 1), 1.5)
    hidden, clear = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    assert float(carl(prediction, target, cloudy, hidden)) == pytest.approx(0.5 + 0.5)
    assert float(carl(prediction, target, cloudy, clear)) == pytest.approx(1.5 + 0.5)
    assert float(carl(prediction, target, cloudy, clear, weight=0)) == pytest.approx(1.5)


def test_cloud_map_losses():
    m = torch.tensor([0.25]).view(1, 1, 1, 1)
    one, two = torch.zeros(1, 2, 1, 1), torch.ones(1, 2, 1, 1)
    assert float(cloud_map_cycle(one, one, two, 3 * two, m)) == pytest.approx(0.25 * 1 + 0.75 * 3)
    assert float(cloud_map_identity(one, one, two, 3 * two, m)) == pytest.approx(0.25 * 1 + 0.25 * 3)
    assert float(cloud_map_regression(m, m + 0.5)) == pytest.approx(0.75 * 0.5)


def test_brighter_marks_where_the_target_is_brighter():
    target, cloudy = torch.tensor([0.5, 0.2, 0.4]), torch.tensor([0.4, 0.8, 0.4])
    assert brighter(target.view(1, 1, 1, 3), cloudy.view(1, 1, 1, 3)).flatten().tolist() == [1, 0, 0]
