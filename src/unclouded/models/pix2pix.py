"""pix2pix, the baseline of Meraner et al. 2020, section 4.3: a U-Net generator against a PatchGAN discriminator.

Architecture: P. Isola, J.-Y. Zhu, T. Zhou, A. A. Efros: Image-to-image translation with conditional adversarial networks
(CVPR 2017). The discriminator sees radar, the cloudy image, and the real or generated clear image. Ranges are [-1, 1], both
radar bands clipped at -25 dB.

Not stated by the paper and taken from Isola et al.: 8 levels, width 64, dropout in the decoder, batch norm in the PatchGAN.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from unclouded.bands import L1C
from unclouded.models.needs import Needs
from unclouded.models.patchgan import PatchGAN
from unclouded.models.scaling import BOTH_25, scale_radar
from unclouded.models.single_date import Frame, SingleDate
from unclouded.models.start import gan_normal
from unclouded.models.unet import UNet
from unclouded.sample import Level


@dataclass(frozen=True, kw_only=True)
class Config:
    """Published: 13 bands and two radar bands in, 13 bands out."""

    bands: tuple[str, ...] = L1C
    level: Level = "L1C"
    sar: bool = True
    width: int = 64
    levels: int = 8
    dropout: float = 0.5

    @staticmethod
    def tiny() -> Config:
        """For tests."""
        return Config(width=4, levels=6)


def needs(config: Config) -> Needs:
    """The innermost level sees one number per tile of 2 ** levels pixels, so tiles only approximate the whole image."""
    side = 2**config.levels
    return Needs(
        bands=config.bands,
        levels=(config.level,),
        sar="required" if config.sar else "unused",
        cloud=False,
        multiple_of=side,
        tile=side,
        halo=side // 8,
        tiling="approximate",
    )


class Network(UNet):
    """s2 (B, C, H, W) and s1 (B, 2, H, W), both in [-1, 1] -> (B, C, H, W) in [-1, 1]."""

    def __init__(self, config: Config) -> None:
        bands = len(config.bands)
        super().__init__(bands + 2 * config.sar, bands, width=config.width, levels=config.levels, dropout=config.dropout)

    def forward(self, s2: Tensor, s1: Tensor | None = None) -> Tensor:
        """See the class."""
        return super().forward(s2 if s1 is None else torch.cat([s2, s1], 1))


def discriminator(config: Config) -> PatchGAN:
    """Scores [s1, cloudy s2, clear or generated s2], all in [-1, 1]: (B, 2 + 2C, H, W) -> (B, 1, h, w)."""
    return PatchGAN(2 * config.sar + 2 * len(config.bands), width=config.width, norm="batch")


class Pix2Pix(SingleDate):
    """The pix2pix baseline as a CloudRemover."""

    optical_range = (-1, 1)

    def __init__(self, config: Config | None = None, weights: Mapping[str, Tensor] | None = None, *, seed: int = 0) -> None:
        self.config = Config() if config is None else config
        self.needs = needs(self.config)
        self._start(partial(Network, self.config), gan_normal, weights, seed)

    def inputs(self, frame: Frame) -> tuple[Tensor, ...]:
        """Reflectance and radar, both bands clipped at -25 dB, in [-1, 1]."""
        s2 = self.optical(frame.s2)
        return (s2, scale_radar(frame.radar, BOTH_25, -1, 1)) if self.config.sar else (s2,)
