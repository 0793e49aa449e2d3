"""Losses of the papers, as pure functions of tensors in the network's own range.

Every pixel loss takes `valid` (B, H, W) bool: pixels where it is False enter neither the value nor the gradient, whatever lies
under them. Images are (B, C, H, W). GAN losses: Goodfellow et al. 2014 (vanilla), Mao et al. 2017 (lsgan), Arjovsky et al.
2017 and Gulrajani et al. 2017 (wgangp).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as nf
from torch import Tensor, nn

GanKind = Literal["lsgan", "vanilla", "wgangp"]

SSIM_SIDE, SSIM_SIGMA = 11, 1.5  # pixels (Wang et al. 2004; Darbaghshahi et al. 2021, equation 4)
K1, K2 = 0.01, 0.03


def mean_where(values: Tensor, valid: Tensor | None) -> Tensor:
    """The mean of (B, C, H, W) over the pixels where `valid` (B, H, W); 0 where there are none. None: over all."""
    if valid is None:
        return values.mean()
    inside = valid[:, None].expand_as(values)
    return torch.where(inside, values, 0).sum() / inside.sum().clamp(min=1)


def l1(prediction: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
    """Mean |p - t| (Meraner et al. 2020, equation 2; Xu et al. 2022)."""
    return mean_where((prediction - _known(target, prediction, valid)).abs(), valid)


def l2(prediction: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
    """Mean (p - t)^2 (Ebel et al. 2022, equation 5, `valid` being the clear pixels)."""
    return mean_where((prediction - _known(target, prediction, valid)).square(), valid)


def _known(target: Tensor, prediction: Tensor, valid: Tensor | None) -> Tensor:
    """The target, replaced where it is not valid: a NaN there must not reach the gradient."""
    return target if valid is None else torch.where(valid[:, None], target, prediction.detach())


def carl(
    prediction: Tensor, target: Tensor, cloudy: Tensor, hidden: Tensor, weight: float = 1.0, valid: Tensor | None = None
) -> Tensor:
    """Cloud-adaptive regularised loss (Meraner et al. 2020, equation 3): keep the clear, match the hidden, and all to truth.

    prediction, target, cloudy (B, C, H, W); hidden (B, 1, H, W), 1 under cloud or shadow.
    mean |h (p - t) + (1 - h)(p - x)| plus `weight` times mean |p - t|.
    """
    target, cloudy = _known(target, prediction, valid), _known(cloudy, prediction, valid)
    adaptive = mean_where((hidden * (prediction - target) + (1 - hidden) * (prediction - cloudy)).abs(), valid)
    return adaptive + weight * mean_where((prediction - target).abs(), valid)


def ssim_map(prediction: Tensor, target: Tensor, peak: float) -> Tensor:
    """Structural similarity of every whole 11 x 11 Gaussian window: (B, C, H - 10, W - 10). `peak`: the range of the values."""
    at = torch.arange(SSIM_SIDE, device=prediction.device, dtype=prediction.dtype) - SSIM_SIDE // 2
    line = torch.exp(-(at**2) / (2 * SSIM_SIGMA**2))
    line = line / line.sum()

    def blur(x: Tensor) -> Tensor:
        c = x.shape[1]
        rows = nf.conv2d(x, line.view(1, 1, -1, 1).expand(c, 1, -1, 1), groups=c)
        return nf.conv2d(rows, line.view(1, 1, 1, -1).expand(c, 1, 1, -1), groups=c)

    c1, c2 = (K1 * peak) ** 2, (K2 * peak) ** 2
    mp, mt = blur(prediction), blur(target)
    vp, vt = blur(prediction.square()) - mp.square(), blur(target.square()) - mt.square()
    covariance = blur(prediction * target) - mp * mt
    return (2 * mp * mt + c1) * (2 * covariance + c2) / ((mp.square() + mt.square() + c1) * (vp + vt + c2))


def ssim_loss(prediction: Tensor, target: Tensor, peak: float, valid: Tensor | None = None) -> Tensor:
    """Mean of 1 - SSIM over whole windows of valid pixels (Darbaghshahi et al. 2021, equation 4). Sides at least 11 pixels."""
    if valid is None:
        return (1 - ssim_map(prediction, target, peak)).mean()
    target = _known(target, prediction, valid)
    whole = -nf.max_pool2d(-valid[:, None].float(), SSIM_SIDE, stride=1)
    return mean_where(1 - ssim_map(prediction, target, peak), whole[:, 0] > 0)


def sam_loss(prediction: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
    """Mean spectral angle in radians (Kruse et al. 1993), through the chord between unit spectra: exact for small angles."""
    target = _known(target, prediction, valid)
    apart = nf.normalize(prediction, dim=1, eps=1e-6) - nf.normalize(target, dim=1, eps=1e-6)
    chord = (apart.square().sum(1, keepdim=True) + 1e-12).sqrt()
    return mean_where(2 * torch.asin((chord / 2).clamp(max=1 - 1e-6)), valid)


def feature_loss(found: Sequence[Tensor], wanted: Sequence[Tensor], clear: Tensor | None = None) -> Tensor:
    """Mean squared difference of network features, averaged over layers (Ebel et al. 2022, equations 3 and 6).

    `clear` (B, 1, H, W): both features are multiplied by it, resized to theirs by area; 0 where the truth is under cloud.
    """
    if clear is not None:
        weights = [nf.adaptive_avg_pool2d(clear, (f.shape[-2], f.shape[-1])) for f in found]
        found = [f * w for f, w in zip(found, weights, strict=True)]
        wanted = [f * w for f, w in zip(wanted, weights, strict=True)]
    return torch.stack([nf.mse_loss(f, w) for f, w in zip(found, wanted, strict=True)]).mean()


def style_loss(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """Mean squared difference of Gram matrices, averaged over layers (Johnson et al. 2016; Ebel et al. 2020, III-D2)."""
    return torch.stack([nf.mse_loss(gram(f), gram(w)) for f, w in zip(found, wanted, strict=True)]).mean()


def gram(features: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, C): products of channels, over the number of values."""
    flat = features.flatten(2)
    return flat @ flat.transpose(1, 2) / flat[0].numel()


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
    """Mean softplus of the scores, negated where they should be real: SpA-GAN (Pan 2020); equal to the vanilla loss."""
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
