"""DSen2-CR: a deep residual network on the cloudy image and radar, stacked (Meraner et al. 2020).

A. Meraner, P. Ebel, X. X. Zhu, M. Schmitt: Cloud removal in Sentinel-2 imagery using a deep residual neural network and
SAR-optical data fusion. ISPRS Journal of Photogrammetry and Remote Sensing 166 (2020). Fig. 3, sections 3.1 and 4.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from unclouded.bands import L1C
from unclouded.models.needs import Needs
from unclouded.models.scaling import VV_VH, scale_radar
from unclouded.models.single_date import Frame, SingleDate
from unclouded.models.start import he_uniform
from unclouded.sample import Level


@dataclass(frozen=True, kw_only=True)
class Config:
    """Published: F = 256 features, B = 16 blocks, residual scale 0.1, 13 bands top of atmosphere, with radar."""

    bands: tuple[str, ...] = L1C
    level: Level = "L1C"
    sar: bool = True
    features: int = 256
    blocks: int = 16
    residual_scale: float = 0.1

    @staticmethod
    def tiny() -> Config:
        """For tests."""
        return Config(features=8, blocks=2)


def needs(config: Config) -> Needs:
    """Every 3x3 convolution sees one pixel further, so a halo of their number makes tiles exact."""
    return Needs(
        bands=config.bands,
        levels=(config.level,),
        sar="required" if config.sar else "unused",
        cloud=False,
        tile=256,
        halo=2 + 2 * config.blocks,
    )


class Network(nn.Module):
    """s2 (B, C, H, W) in [0, 5] and s1 (B, 2, H, W) in [0, 2] (None without radar) -> (B, C, H, W) in the range of s2."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        bands, f = len(config.bands), config.features
        self.model = nn.Sequential(
            nn.Conv2d(bands + 2 * config.sar, f, 3, padding=1),
            nn.ReLU(),
            *[Block(f, config.residual_scale) for _ in range(config.blocks)],
            nn.Conv2d(f, bands, 3, padding=1),
        )

    def forward(self, s2: Tensor, s1: Tensor | None = None) -> Tensor:
        """The cloudy image plus a learned correction (long skip)."""
        out: Tensor = self.model(s2 if s1 is None else torch.cat([s2, s1], 1)) + s2
        return out


class Block(nn.Module):
    """u + scale * conv(relu(conv(u)))."""

    def __init__(self, features: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.conv_block = nn.Sequential(
            nn.Conv2d(features, features, 3, padding=1), nn.ReLU(), nn.Conv2d(features, features, 3, padding=1)
        )

    def forward(self, u: Tensor) -> Tensor:
        """(B, F, H, W) -> the same."""
        return torch.add(u, self.conv_block(u), alpha=self.scale)


class DSen2CR(SingleDate):
    """DSen2-CR as a CloudRemover."""

    optical_range = (0, 5)

    def __init__(self, config: Config | None = None, weights: Mapping[str, Tensor] | None = None, *, seed: int = 0) -> None:
        self.config = Config() if config is None else config
        self.needs = needs(self.config)
        self._start(partial(Network, self.config), he_uniform, weights, seed)

    def inputs(self, frame: Frame) -> tuple[Tensor, ...]:
        """Reflectance in [0, 5]; radar, VV and VH clipped at -25 and -32.5 dB, in [0, 2]."""
        s2 = self.optical(frame.s2)
        return (s2, scale_radar(frame.radar, VV_VH, 0, 2)) if self.config.sar else (s2,)
