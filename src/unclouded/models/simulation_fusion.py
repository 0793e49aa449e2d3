"""Simulation-Fusion GAN: simulate the optical image from radar, then fuse simulation, radar and cloudy image (Gao et al. 2020).

J. Gao, Q. Yuan, J. Li, H. Zhang, X. Su: Cloud removal with fusion of high resolution optical and SAR images using generative
adversarial networks. Remote Sensing 12 (2020) 191. Both generators are nine-block ResNets as in CycleGAN.

Between the two stages, in training, contrast and luminance of the simulation are altered at random (its abstract); here a
gain and an offset per image, whose ranges the text at hand does not state (assumed: gain 0.8..1.2, offset -0.1..0.1 in
[-1, 1]). Assumed as well: width 64, instance norm, a PatchGAN on [simulation, radar, cloudy, image], radar in [-1, 1].
The public code repeats one radar band to three; both bands are fed once here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from unclouded.bands import L1C
from unclouded.models.needs import Needs
from unclouded.models.patchgan import PatchGAN
from unclouded.models.resnet import ResnetGenerator
from unclouded.models.scaling import VV_VH, scale_radar
from unclouded.models.single_date import Frame, SingleDate
from unclouded.models.start import gan_normal
from unclouded.sample import Level


@dataclass(frozen=True, kw_only=True)
class Config:
    """Default: 13 bands, as compared by Xu et al. 2022, Table 1. `jitter` 0 leaves the simulation as it is."""

    bands: tuple[str, ...] = L1C
    level: Level = "L1C"
    width: int = 64
    blocks: int = 9
    jitter: float = 0.2

    @staticmethod
    def tiny() -> Config:
        """For tests."""
        return Config(width=4, blocks=2)


def needs(config: Config) -> Needs:
    """Instance norm makes every pixel depend on the mean and spread of the whole tile: tiles only approximate."""
    return Needs(
        bands=config.bands, levels=(config.level,), sar="required", cloud=False, multiple_of=4, tile=256, halo=32,
        tiling="approximate",
    )  # fmt: skip


class Network(nn.Module):
    """s2 (B, C, H, W) and s1 (B, 2, H, W) in [-1, 1] -> simulated and fused image, (B, C, H, W) in [-1, 1]."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        bands = len(config.bands)
        self.jitter = config.jitter
        self.simulate = ResnetGenerator(2, bands, width=config.width, blocks=config.blocks)
        self.fuse = ResnetGenerator(2 * bands + 2, bands, width=config.width, blocks=config.blocks)

    def forward(self, s2: Tensor, s1: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        simulated = self.simulate(s1)
        seen = altered(simulated, self.jitter) if self.training and self.jitter else simulated
        return simulated, self.fuse(torch.cat([seen, s1, s2], 1))


def altered(image: Tensor, amount: float) -> Tensor:
    """Contrast scaled by 1 +- amount and luminance moved by +- amount / 2, drawn per image; (B, C, H, W) in [-1, 1]."""
    gain, offset = (torch.rand(2, len(image), 1, 1, 1, device=image.device) * 2 - 1) * amount
    mean = image.mean((1, 2, 3), keepdim=True)
    return ((image - mean) * (1 + gain) + mean + offset / 2).clamp(-1, 1)


def discriminator(config: Config) -> PatchGAN:
    """Scores [simulation, s1, cloudy s2, clear or generated s2], all in [-1, 1]."""
    return PatchGAN(3 * len(config.bands) + 2, width=config.width, norm="instance")


class SimulationFusion(SingleDate):
    """Simulation-Fusion GAN as a CloudRemover."""

    optical_range = (-1, 1)
    smallest = 8

    def __init__(self, config: Config | None = None, weights: Mapping[str, Tensor] | None = None, *, seed: int = 0) -> None:
        self.config = Config() if config is None else config
        self.needs = needs(self.config)
        self._start(partial(Network, self.config), gan_normal, weights, seed)

    def inputs(self, frame: Frame) -> tuple[Tensor, ...]:
        """Reflectance and radar in [-1, 1]."""
        return self.optical(frame.s2), scale_radar(frame.radar, VV_VH, -1, 1)

    def image(self, output: tuple[Tensor, Tensor]) -> Tensor:
        """The second of simulated and fused image."""
        return output[1]
