"""SAR-Opt-cGAN: a conditional GAN on the stack of radar and all optical bands (Grohnfeldt et al. 2018).

C. Grohnfeldt, M. Schmitt, X. X. Zhu: A conditional generative adversarial network to fuse SAR and multispectral optical data
for cloud removal from Sentinel-2 images. IGARSS 2018. Xu et al. 2022, section 5.2: 'extended from U-Net', radar channels
concatenated to the optical ones, the full spectrum predicted.

No code is public. Assumed: the pix2pix generator and PatchGAN (Isola et al. 2017) with 8 levels, width 64, batch norm and
dropout; the scaling of Xu et al. 2022 to [0, 1] (VV and VH clipped at -25 and -32.5 dB), moved on to [-1, 1] for the tanh.
What separates it from the pix2pix baseline of Meraner et al. 2020 is the clip of VH and that the discriminator is not shown
the cloudy image and radar but radar and image only.
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
from unclouded.models.scaling import VV_VH, scale_radar
from unclouded.models.single_date import Frame, SingleDate
from unclouded.models.start import gan_normal
from unclouded.models.unet import UNet
from unclouded.sample import Level


@dataclass(frozen=True, kw_only=True)
class Config:
    """13 optical and 2 radar bands in, 13 bands out."""

    bands: tuple[str, ...] = L1C
    level: Level = "L1C"
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
        bands=config.bands, levels=(config.level,), sar="required", cloud=False, multiple_of=side, tile=side, halo=side // 8,
        tiling="approximate",
    )  # fmt: skip


def network(config: Config) -> UNet:
    """[s2, s1] (B, C + 2, H, W) in [-1, 1] -> (B, C, H, W) in [-1, 1]."""
    bands = len(config.bands)
    return UNet(bands + 2, bands, width=config.width, levels=config.levels, dropout=config.dropout)


def discriminator(config: Config) -> PatchGAN:
    """Scores [s1, real or generated image], both in [-1, 1]."""
    return PatchGAN(2 + len(config.bands), width=config.width)


class SAROptCGAN(SingleDate):
    """SAR-Opt-cGAN as a CloudRemover."""

    optical_range = (-1, 1)

    def __init__(self, config: Config | None = None, weights: Mapping[str, Tensor] | None = None, *, seed: int = 0) -> None:
        self.config = Config() if config is None else config
        self.needs = needs(self.config)
        self._start(partial(network, self.config), gan_normal, weights, seed)

    def inputs(self, frame: Frame) -> tuple[Tensor, ...]:
        """One stack of reflectance and radar in [-1, 1]."""
        return (torch.cat([self.optical(frame.s2), scale_radar(frame.radar, VV_VH, -1, 1)], 1),)
