"""Two generators: radar to an optical image, then cloud removal on the cloudy image and that translation (Darbaghshahi 2021).

F. N. Darbaghshahi, M. R. Mohammadi, M. Soryani: Cloud removal in remote sensing images using generative adversarial networks
and SAR-to-optical image translation. IEEE Transactions on Geoscience and Remote Sensing 60 (2022). Tables 1, 2 and 5.

Each generator is an encoder, eight dilated residual inception blocks (DRIB) and a decoder. Read from the tables, where they
leave something open:
- stride-1 layers with 4x4 kernels pad by 1, so the DRIBs work on 31x31 for 256 px and the decoder's first layer returns to 32;
- "D" is a transposed convolution in the legend, but the decoder has "CBDR" beside "CBR" and a dropout of 0.5 is stated
  (section 3.1): taken as in pix2pix, D = dropout, and every decoder layer a transposed convolution;
- in Table 2 "DBR(256,3,1,rate)" is the dilated 3x3 convolution of section 2.1;
- a DRIB adds its input after the last batch norm, without another activation;
- skips join equal sizes: decoder layers 2 to 4 also see encoder layers 3 to 1;
- layers before a batch norm have no bias; the discriminator pads by 1; radar is clipped to [-25, 0] dB.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from unclouded.models.needs import Needs
from unclouded.models.scaling import BOTH_25, scale_radar
from unclouded.models.single_date import Frame, SingleDate
from unclouded.models.start import gan_normal
from unclouded.models.unet import UNet
from unclouded.sample import Level

RATES = (1, 2, 3)  # dilation of the three branches of a DRIB
RADAR = {"VV": 1, "VV+VH": 2}


@dataclass(frozen=True, kw_only=True)
class Config:
    """Published: VV and red, green, blue; both generators with DRIBs. The other choices are the rows of Table 5."""

    bands: tuple[str, ...] = ("B04", "B03", "B02")
    level: Level = "L1C"
    radar: Literal["VV", "VV+VH"] = "VV"
    removal: Literal["drib", "unet"] = "drib"
    translation: Literal["drib", "unet", "none"] = "drib"
    width: int = 64
    blocks: int = 8
    levels: int = 8  # of a U-Net, where one stands in
    dropout: float = 0.5

    @staticmethod
    def tiny() -> Config:
        """For tests."""
        return Config(width=4, blocks=2, levels=4)


@dataclass(frozen=True, kw_only=True)
class TranslatorConfig:
    """The first generator alone. Published: VV to red, green, blue, with DRIBs."""

    bands: tuple[str, ...] = ("B04", "B03", "B02")
    level: Level = "L1C"
    radar: Literal["VV", "VV+VH"] = "VV"
    generator: Literal["drib", "unet"] = "drib"
    width: int = 64
    blocks: int = 8
    levels: int = 8
    dropout: float = 0.5

    @staticmethod
    def tiny() -> TranslatorConfig:
        """For tests."""
        return TranslatorConfig(width=4, blocks=2, levels=4)


def needs(config: Config | TranslatorConfig) -> Needs:
    """With a U-Net the whole tile matters, with DRIBs a few hundred pixels around: halo 32 approximates both."""
    kinds = (config.generator,) if isinstance(config, TranslatorConfig) else (config.removal, config.translation)
    return Needs(
        bands=config.bands,
        levels=(config.level,),
        sar="required",
        cloud=False,
        multiple_of=2**config.levels if "unet" in kinds else 8,
        tile=256,
        halo=32,
        tiling="approximate",
    )


class Generator(nn.Module):
    """Encoder, DRIBs, decoder (Table 1): (B, c_in, H, W) -> (B, c_out, H, W), both in [-1, 1]; H and W multiples of 8."""

    def __init__(self, c_in: int, c_out: int, *, width: int = 64, blocks: int = 8, dropout: float = 0.5) -> None:
        super().__init__()
        w = width
        self.down1 = nn.Sequential(nn.Conv2d(c_in, w, 4, 2, 1), nn.LeakyReLU(0.2))
        self.down2, self.down3 = _down(w, 2 * w, 2), _down(2 * w, 4 * w, 2)
        self.down4 = _down(4 * w, 8 * w, 1)
        self.dribs = nn.Sequential(*[DRIB(8 * w) for _ in range(blocks)])
        self.up4 = _up(8 * w, 4 * w, 1, dropout)
        self.up3 = _up(8 * w, 2 * w, 2, dropout)
        self.up2 = _up(4 * w, w, 2, 0)
        self.up1 = nn.Sequential(nn.ConvTranspose2d(2 * w, c_out, 4, 2, 1), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        e1 = self.down1(x)
        e2 = self.down2(e1)
        e3 = self.down3(e2)
        u = self.up4(self.dribs(self.down4(e3)))
        u = self.up3(torch.cat([u, e3], 1))
        u = self.up2(torch.cat([u, e2], 1))
        out: Tensor = self.up1(torch.cat([u, e1], 1))
        return out


class DRIB(nn.Module):
    """Dilated residual inception block (Table 2): three dilated branches of half the width, joined, plus the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.branches = nn.ModuleList(
            nn.Sequential(*_conv(channels, half, 1), nn.ReLU(), *_conv(half, half, 3, rate), nn.ReLU()) for rate in RATES
        )
        self.join = nn.Sequential(*_conv(3 * half, channels, 1))

    def forward(self, u: Tensor) -> Tensor:
        """(B, C, h, w) -> the same."""
        out: Tensor = u + self.join(torch.cat([branch(u) for branch in self.branches], 1))
        return out


def _conv(c_in: int, c_out: int, kernel: int, rate: int = 1) -> tuple[nn.Module, nn.Module]:
    pad = rate * (kernel // 2)
    return nn.Conv2d(c_in, c_out, kernel, padding=pad, dilation=rate, bias=False), nn.BatchNorm2d(c_out)


def _down(c_in: int, c_out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(c_in, c_out, 4, stride, 1, bias=False), nn.BatchNorm2d(c_out), nn.LeakyReLU(0.2))


def _up(c_in: int, c_out: int, stride: int, dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = [nn.ConvTranspose2d(c_in, c_out, 4, stride, 1, bias=False), nn.BatchNorm2d(c_out)]
    return nn.Sequential(*layers, *([nn.Dropout(dropout)] if dropout else []), nn.ReLU())


class Discriminator(nn.Module):
    """Table 1: four strided layers and the score. [inputs, image] (B, C, H, W) -> (B, 1, H/16, W/16) logits."""

    def __init__(self, channels: int, width: int = 64) -> None:
        super().__init__()
        widths = [channels, width, 2 * width, 4 * width, 8 * width]
        self.model = nn.Sequential(*[_down(a, b, 2) for a, b in pairwise(widths)], nn.Conv2d(widths[-1], 1, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        out: Tensor = self.model(x)
        return out


def discriminators(config: Config) -> tuple[Discriminator, Discriminator]:
    """Of the translation (radar and image) and of the removal (cloudy, translated or radar, image): section 3.1."""
    bands, radar = len(config.bands), RADAR[config.radar]
    beside = radar if config.translation == "none" else bands
    return Discriminator(radar + bands, config.width), Discriminator(bands + beside + bands, config.width)


def _generator(kind: str, c_in: int, c_out: int, config: Config | TranslatorConfig) -> nn.Module:
    if kind == "unet":
        return UNet(c_in, c_out, width=config.width, levels=config.levels, dropout=config.dropout)
    return Generator(c_in, c_out, width=config.width, blocks=config.blocks, dropout=config.dropout)


class Network(nn.Module):
    """s2 (B, C, H, W) and s1 (B, 1 or 2, H, W) in [-1, 1] -> the translation (or the radar itself) and the clear image."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        bands, radar = len(config.bands), RADAR[config.radar]
        self.translate = None if config.translation == "none" else _generator(config.translation, radar, bands, config)
        beside = radar if self.translate is None else bands
        self.remove = _generator(config.removal, bands + beside, bands, config)

    def forward(self, s2: Tensor, s1: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        beside = s1 if self.translate is None else self.translate(s1)
        return beside, self.remove(torch.cat([s2, beside], 1))


class TwoGANs(SingleDate):
    """The two generators in a row, as a CloudRemover."""

    optical_range = (-1, 1)
    smallest = 16  # at an eighth of it, the stride-1 layer with a 4x4 kernel still fits

    def __init__(self, config: Config | None = None, weights: Mapping[str, Tensor] | None = None, *, seed: int = 0) -> None:
        self.config = Config() if config is None else config
        self.needs = needs(self.config)
        self._start(partial(Network, self.config), gan_normal, weights, seed)

    def inputs(self, frame: Frame) -> tuple[Tensor, ...]:
        """Reflectance and radar, clipped at -25 dB, in [-1, 1]."""
        return self.optical(frame.s2), _radar(self.config, frame)

    def image(self, output: tuple[Tensor, Tensor]) -> Tensor:
        """The second of translation and clear image."""
        return output[1]


class Translation(nn.Module):
    """s1 (B, 1 or 2, H, W) in [-1, 1] -> an optical image (B, C, H, W) in [-1, 1]."""

    def __init__(self, config: TranslatorConfig) -> None:
        super().__init__()
        self.translate = _generator(config.generator, RADAR[config.radar], len(config.bands), config)

    def forward(self, s1: Tensor) -> Tensor:
        """See the class."""
        out: Tensor = self.translate(s1)
        return out


class Translator(SingleDate):
    """The first generator alone: an optical image from radar (Table 3)."""

    optical_range = (-1, 1)
    smallest = 16

    def __init__(
        self, config: TranslatorConfig | None = None, weights: Mapping[str, Tensor] | None = None, *, seed: int = 0
    ) -> None:
        self.config = TranslatorConfig() if config is None else config
        self.needs = needs(self.config)
        self._start(partial(Translation, self.config), gan_normal, weights, seed)

    def inputs(self, frame: Frame) -> tuple[Tensor, ...]:
        """Radar, clipped at -25 dB, in [-1, 1]."""
        return (_radar(self.config, frame),)


def _radar(config: Config | TranslatorConfig, frame: Frame) -> Tensor:
    return scale_radar(frame.radar, BOTH_25, -1, 1)[:, : RADAR[config.radar]]
