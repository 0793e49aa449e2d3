"""A cycle-consistent GAN conditioned on the cloud map: trains without matching clear images (Ebel et al. 2020, section II).

P. Ebel, A. Meraner, M. Schmitt, X. X. Zhu: Multisensor data fusion for cloud removal in global and all-season Sentinel-2
imagery. IEEE Transactions on Geoscience and Remote Sensing 59 (2021). Sections II-B and II-C, Fig. 2 and 3.

The clear image is tanh(artanh(cloudy) + residual); the residual also has to predict the cloud map. Open in the text at hand
(the body of its Table I is missing) and decided here: widths, kernels and strides of the CycleGAN generator and PatchGAN
(Zhu et al. 2017) with width 64; no dropout; the residual branch ends without tanh; artanh inputs are kept within 1 - 1e-6;
the cloud map is a 3x3 convolution with zero border, bias and sigmoid; the map enters the discriminator of S2 as a channel;
the discriminators keep the instance norm of Zhu et al. beside spectral normalisation. Radar is VV, VH and, for red, green and
blue, their mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from unclouded.models.needs import Needs
from unclouded.models.patchgan import PatchGAN
from unclouded.models.resnet import ResnetGenerator
from unclouded.models.scaling import BOTH_25, scale_radar
from unclouded.models.single_date import Frame, SingleDate
from unclouded.models.start import gan_normal
from unclouded.sample import Level

EDGE = 1 - 1e-6  # artanh is finite inside


@dataclass(frozen=True, kw_only=True)
class Config:
    """Published: red, green, blue, three radar channels; nine residual blocks."""

    bands: tuple[str, ...] = ("B04", "B03", "B02")
    level: Level = "L1C"
    radar_mean: bool = True  # the mean of VV and VH as a third radar channel
    width: int = 64
    blocks: int = 9

    @staticmethod
    def tiny() -> Config:
        """For tests."""
        return Config(width=4, blocks=2)


def needs(config: Config) -> Needs:
    """Instance norm makes every pixel depend on the mean and spread of the whole tile: tiles only approximate."""
    return Needs(
        bands=config.bands, levels=(config.level,), sar="required", cloud=True, multiple_of=4, tile=256, halo=32,
        tiling="approximate",
    )  # fmt: skip


class Network(nn.Module):
    """The generator S1 -> S2 (Fig. 3): s1 and s2 in [-1, 1], cloud map m in [0, 1] -> clear s2 in [-1, 1], predicted map."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        bands = len(config.bands)
        self.residual = ResnetGenerator(
            _radar_channels(config) + bands + 1, bands, width=config.width, blocks=config.blocks, squash=False
        )
        self.cloud_map = nn.Conv2d(bands, 1, 3, padding=1)

    def forward(self, s1: Tensor, s2: Tensor, cloud: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        residual = self.residual(torch.cat([s1, s2, cloud], 1))
        clear = torch.tanh(torch.atanh(s2.float().clamp(-EDGE, EDGE)) + residual)
        return clear, torch.sigmoid(self.cloud_map(residual))


def _radar_channels(config: Config) -> int:
    return 2 + config.radar_mean


def to_radar(config: Config) -> ResnetGenerator:
    """The generator S2 -> S1 of the cycle: (B, C, H, W) -> (B, 2 or 3, H, W), both in [-1, 1]."""
    return ResnetGenerator(len(config.bands), _radar_channels(config), width=config.width, blocks=config.blocks)


def discriminators(config: Config) -> tuple[PatchGAN, PatchGAN]:
    """Of S1 images, and of S2 images with the cloud map as a further channel."""
    of_s1 = PatchGAN(_radar_channels(config), width=config.width, norm="instance", spectral=True)
    return of_s1, PatchGAN(len(config.bands) + 1, width=config.width, norm="instance", spectral=True)


class CloudMapGAN(SingleDate):
    """The generator S1 -> S2 as a CloudRemover."""

    optical_range = (-1, 1)
    smallest = 8  # at a quarter of it, mirrored borders of one pixel still fit

    def __init__(self, config: Config | None = None, weights: Mapping[str, Tensor] | None = None, *, seed: int = 0) -> None:
        self.config = Config() if config is None else config
        self.needs = needs(self.config)
        self._start(partial(Network, self.config), gan_normal, weights, seed)

    def inputs(self, frame: Frame) -> tuple[Tensor, ...]:
        """Radar, clipped at -25 dB, and reflectance in [-1, 1]; the cloud map in [0, 1]."""
        s1 = scale_radar(frame.radar, BOTH_25, -1, 1)
        if self.config.radar_mean:
            s1 = torch.cat([s1, s1.mean(1, keepdim=True)], 1)
        return s1, self.optical(frame.s2), frame.cloud_map

    def image(self, output: tuple[Tensor, Tensor]) -> Tensor:
        """The first of clear image and predicted cloud map."""
        return output[0]


class ImagePool:
    """Up to `size` generated images that a discriminator sees again later (Shrivastava 2017; Zhu et al. 2017: size 50).

    Until the pool is full, images are stored and returned. Then, with probability one half, a stored image is returned and
    the new one takes its place. Size 0 returns every image unchanged.
    """

    def __init__(self, size: int = 50, *, seed: int = 0) -> None:
        self.size = size
        self._images: list[Tensor] = []
        self._draw = torch.Generator().manual_seed(seed)

    def query(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W), each image detached and passed through the pool."""
        return torch.stack([self._one(image.detach()) for image in images]) if self.size else images

    def _one(self, image: Tensor) -> Tensor:
        if len(self._images) < self.size:
            self._images.append(image.clone())
            return image
        if torch.rand((), generator=self._draw) <= 0.5:
            return image
        at = int(torch.randint(self.size, (), generator=self._draw))
        stored, self._images[at] = self._images[at], image.clone()
        return stored
