"""Losses of the papers, as pure functions of tensors in the network's own range.

GAN losses: Goodfellow et al. 2014 (vanilla), Mao et al. 2017 (lsgan), Arjovsky et al. 2017 and Gulrajani et al. 2017 (wgangp).
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as nf
from torch import Tensor, nn

GanKind = Literal["lsgan", "vanilla", "wgangp"]


def gan_loss(scores: Tensor, *, real: bool, kind: GanKind) -> Tensor:
    """How far discriminator logits (any shape) are from calling everything real (or generated)."""
    if kind == "wgangp":
        return -scores.mean() if real else scores.mean()
    label = torch.full_like(scores, float(real))
    return nf.mse_loss(scores, label) if kind == "lsgan" else nf.binary_cross_entropy_with_logits(scores, label)


def discriminator_loss(real: Tensor, generated: Tensor, kind: GanKind) -> Tensor:
    """Half the sum over scores of real and of generated images."""
    return (gan_loss(real, real=True, kind=kind) + gan_loss(generated, real=False, kind=kind)) / 2


def softplus_gan_loss(scores: Tensor, *, real: bool) -> Tensor:
    """Mean softplus of the scores, negated where they should be real: SpA-GAN (Pan 2020)."""
    return nf.softplus(-scores if real else scores).mean()


def gradient_penalty(
    discriminator: nn.Module, real: Tensor, generated: Tensor, draw: torch.Generator, weight: float = 10.0
) -> Tensor:
    """weight * mean((|gradient| - 1)^2) at a random mix of each pair (Gulrajani et al. 2017, equation 3)."""
    share = torch.rand(len(real), *[1] * (real.dim() - 1), generator=draw).to(real)
    mix = (share * real + (1 - share) * generated).detach().requires_grad_(True)
    scores = discriminator(mix)
    (slope,) = torch.autograd.grad(scores, mix, torch.ones_like(scores), create_graph=True)
    return weight * ((slope.flatten(1) + 1e-16).norm(2, dim=1) - 1).square().mean()


def carl(prediction: Tensor, target: Tensor, cloudy: Tensor, hidden: Tensor, weight: float = 1.0) -> Tensor:
    """Cloud-adaptive regularised loss (Meraner et al. 2020, equation 3): keep the clear, match the hidden, and all to truth.

    prediction, target, cloudy (B, C, H, W); hidden (B, 1, H, W), 1 under cloud or shadow.
    mean |h (p - t) + (1 - h)(p - x)| plus `weight` times mean |p - t|.
    """
    adaptive = (hidden * (prediction - target) + (1 - hidden) * (prediction - cloudy)).abs().mean()
    return adaptive + weight * (prediction - target).abs().mean()


def cloud_map_cycle(s1: Tensor, s2: Tensor, s1_again: Tensor, s2_again: Tensor, cloud: Tensor) -> Tensor:
    """L_cyc (Ebel et al. 2020, section II-C): m |S1 - S1''| + (1 - m) |S2 - S2''|, means; cloud m (B, 1, H, W)."""
    return (cloud * (s1 - s1_again).abs()).mean() + ((1 - cloud) * (s2 - s2_again).abs()).mean()


def cloud_map_identity(s1: Tensor, s2: Tensor, s1_same: Tensor, s2_same: Tensor, cloud: Tensor) -> Tensor:
    """L_idt (Ebel et al. 2020): m |S1 - S1'| + m |S2 - S2'|, means; images mapped within their own domain."""
    return (cloud * (s1 - s1_same).abs()).mean() + (cloud * (s2 - s2_same).abs()).mean()


def cloud_map_regression(cloud: Tensor, predicted: Tensor) -> Tensor:
    """L_aux (Ebel et al. 2020): (1 - m) |m - m'|, mean; keeps the residual sparse where the sky is clear."""
    return ((1 - cloud) * (cloud - predicted).abs()).mean()


def brighter(target: Tensor, cloudy: Tensor) -> Tensor:
    """The map SpA-GAN's attention is drawn to: clip(sum over bands of 255 (target - cloudy), 0, 1), (B, 1, H, W).

    As published: it marks where the *target* is brighter, on 8-bit values; inputs in [0, 1].
    """
    return (255 * (target - cloudy)).sum(1, keepdim=True).clamp(0, 1)
