"""The two normalisations of the pix2pix and CycleGAN families; a convolution before batch norm has no bias."""

from __future__ import annotations

from typing import Literal

from torch import nn

Norm = Literal["batch", "instance"]


def norm_layer(norm: Norm, channels: int) -> nn.Module:
    """Batch norm (affine, running statistics), or instance norm without parameters: the same in training and evaluation."""
    return nn.BatchNorm2d(channels) if norm == "batch" else nn.InstanceNorm2d(channels)


def has_bias(norm: Norm) -> bool:
    """Whether a convolution followed by this norm carries a bias."""
    return norm == "instance"
