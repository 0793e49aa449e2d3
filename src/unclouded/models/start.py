"""How untrained networks start: the published initialisations, from an explicit seed, leaving global random state alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


def he_uniform(network: nn.Module, seed: int) -> None:
    """He uniform kernels and zero biases (Meraner et al. 2020, section 4.1: 'a uniform He distribution')."""
    from torch.nn.init import kaiming_uniform_

    def fill(weight: Tensor, draw: torch.Generator) -> None:
        kaiming_uniform_(weight, nonlinearity="relu", generator=draw)

    _fill(network, seed, fill, zero_bias=True)


def gan_normal(network: nn.Module, seed: int) -> None:
    """Kernels N(0, 0.02), biases zero, normalisation gains N(1, 0.02): pix2pix and CycleGAN (Isola 2017, Zhu 2017)."""
    from torch.nn.init import normal_

    def fill(weight: Tensor, draw: torch.Generator) -> None:
        normal_(weight, 0.0, 0.02, generator=draw)

    _fill(network, seed, fill, zero_bias=True)


def framework_default(network: nn.Module, seed: int) -> None:
    """What torch draws by itself, but from `seed` (the network is already filled; this draws it again)."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in network.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()


def _fill(network: nn.Module, seed: int, fill: Callable[[Tensor, torch.Generator], None], *, zero_bias: bool) -> None:
    import torch
    from torch import nn

    draw = torch.Generator().manual_seed(seed)
    norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    for module in network.modules():
        weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
        if isinstance(module, norms):
            nn.init.normal_(module.weight, 1.0, 0.02, generator=draw)
            nn.init.zeros_(module.bias)
        elif isinstance(weight, nn.Parameter) and weight.dim() >= 2:
            fill(weight, draw)
            if zero_bias and isinstance(bias, nn.Parameter):
                nn.init.zeros_(bias)
