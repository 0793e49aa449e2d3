"""SAR2OPT: an optical image from radar alone, by a pix2pix U-Net (Bermudez et al. 2018).

J. D. Bermudez, P. N. Happ, D. A. B. Oliveira, R. Q. Feitosa: SAR to optical image synthesis for cloud removal with generative
adversarial networks. ISPRS Annals IV-1 (2018). It is the pix2pix of Isola et al. 2017 on radar. Xu et al. 2022, section 5.2,
let it predict all 13 bands from both polarisations; Darbaghshahi et al. 2021, Table 3, red, green and blue from VV. The
translation of Enomoto et al. (IGARSS 2018) is the same pix2pix and is built with the same settings. Li et al. (IEEE Access
2020) train a modified one with an SSIM term; the layers they changed are not in the text at hand, so it is not built.

Assumed: 8 levels, width 64, batch norm, dropout and the 70 px PatchGAN of Isola et al.; radar clipped to [-25, 0] dB.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import Tensor

from unclouded.bands import L1C
from unclouded.models.needs import Needs
from unclouded.models.patchgan import PatchGAN
from unclouded.models.scaling import BOTH_25, scale_radar
from unclouded.models.single_date import Frame, SingleDate
from unclouded.models.start import gan_normal
from unclouded.models.unet import UNet
from unclouded.sample import Level

RADAR = {"VV": 1, "VV+VH": 2}


@dataclass(frozen=True, kw_only=True)
class Config:
    """Default: both polarisations to 13 bands, as compared by Xu et al. 2022."""

    bands: tuple[str, ...] = L1C
    level: Level = "L1C"
    radar: Literal["VV", "VV+VH"] = "VV+VH"
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
    """Radar (B, 1 or 2, H, W) in [-1, 1] -> (B, C, H, W) in [-1, 1]."""
    return UNet(RADAR[config.radar], len(config.bands), width=config.width, levels=config.levels, dropout=config.dropout)


def discriminator(config: Config) -> PatchGAN:
    """Scores [radar, real or generated image], both in [-1, 1]."""
    return PatchGAN(RADAR[config.radar] + len(config.bands), width=config.width)


class SAR2OPT(SingleDate):
    """SAR2OPT as a CloudRemover: the cloudy image is not looked at."""

    optical_range = (-1, 1)

    def __init__(self, config: Config | None = None, weights: Mapping[str, Tensor] | None = None, *, seed: int = 0) -> None:
        self.config = Config() if config is None else config
        self.needs = needs(self.config)
        self._start(partial(network, self.config), gan_normal, weights, seed)

    def inputs(self, frame: Frame) -> tuple[Tensor, ...]:
        """Radar, clipped at -25 dB, in [-1, 1]."""
        return (scale_radar(frame.radar, BOTH_25, -1, 1)[:, : RADAR[self.config.radar]],)
