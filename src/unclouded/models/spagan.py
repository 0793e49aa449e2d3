"""SpA-GAN: residual blocks gated by a spatial attention map that looks along rows and columns (Pan 2020).

H. Pan: Cloud removal for remote sensing imagery via spatial attention generative adversarial network (arXiv 2009.13015); the
generator is the SPANet of Wang et al. (CVPR 2019). Xu et al. 2022 feed it all optical bands, without radar.

In the published code the weights of the four directions have no effect (a product is computed and dropped); that is the form
`variant="as_published"`, whose checkpoints carry those tensors. `variant="paper"` applies them, as Wang et al. describe.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from unclouded.models.needs import Needs
from unclouded.models.single_date import Frame, SingleDate
from unclouded.models.start import gan_normal
from unclouded.sample import Level

GROUPS = 4  # attention maps, each applied to three blocks
BLOCKS = 17
DIRECTIONS = ("left", "right", "up", "down")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Published: red, green, blue in [0, 1]; width 32."""

    bands: tuple[str, ...] = ("B04", "B03", "B02")
    level: Level = "L1C"
    width: int = 32
    variant: Literal["as_published", "paper"] = "as_published"

    @staticmethod
    def tiny() -> Config:
        """For tests."""
        return Config(width=4)


def needs(config: Config) -> Needs:
    """Blocks reach 2 pixels, each of the 4 attention maps 2, the outer convolutions 1 each."""
    return Needs(
        bands=config.bands, levels=(config.level,), cloud=False, tile=256, halo=2 + 2 * BLOCKS + _map_reach(config) * GROUPS
    )


def _map_reach(config: Config) -> int:
    return 2 if config.variant == "as_published" else 4  # the weights of the directions come from two 3x3 convolutions more


class Network(nn.Module):
    """(B, C, H, W) in [0, 1] -> the last attention map (B, 1, H, W) in [0, 1] and the image (B, C, H, W), no activation."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        bands, w = len(config.bands), config.width
        self.conv_in = nn.Sequential(nn.Conv2d(bands, w, 3, padding=1, bias=False), nn.ReLU())
        self.SAM1 = SpatialAttention(w, directional=config.variant == "paper")
        for k in range(1, BLOCKS + 1):
            self.add_module(f"res_block{k}", Block(w))
        self.conv_out = nn.Sequential(nn.Conv2d(w, bands, 3, padding=1, bias=False))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        u = self.conv_in(x)
        attention = u
        for k in range(1, BLOCKS + 1):
            gated = 4 <= k <= 3 + 3 * GROUPS
            if gated and (k - 4) % 3 == 0:
                attention = self.SAM1(u)
            change = self.get_submodule(f"res_block{k}")(u)
            u = torch.relu((change * attention if gated else change) + u)
        return attention, self.conv_out(u)


class Block(nn.Module):
    """1x1, dilated 3x3, 1x1 convolutions without bias; the sum with the input is taken outside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: dict[str, nn.Module] = {
            "conv1": nn.Conv2d(width, width, 1, bias=False),
            "relu1": nn.ReLU(),
            "conv2": nn.Conv2d(width, width, 3, padding=2, dilation=2, bias=False),
            "relu2": nn.ReLU(),
            "conv3": nn.Conv2d(width, width, 1, bias=False),
        }
        self.group1 = nn.Sequential(OrderedDict(layers))

    def forward(self, u: Tensor) -> Tensor:
        """(B, C, H, W) -> the same."""
        out: Tensor = self.group1(u)
        return out


class SpatialAttention(nn.Module):
    """A map in [0, 1] of where to change the image, from features passed along rows and columns twice."""

    def __init__(self, width: int, *, directional: bool) -> None:
        super().__init__()
        self.directional = directional
        self.conv_in = nn.Conv2d(width, width, 3, padding=1, bias=False)  # in the published state, without use
        self.conv1 = nn.Conv2d(width, width, 1)
        self.irnn1, self.irnn2 = Sweep(width), Sweep(width)
        self.conv2 = nn.Conv2d(4 * width, width, 1)
        self.conv3 = nn.Conv2d(4 * width, width, 1)
        self.attention_layer = DirectionWeights(width)
        self.conv_out = nn.Conv2d(width, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 1, H, W)."""
        weights = self.attention_layer(x) if self.directional else None
        v = self.conv2(self.irnn1(self.conv1(x), weights))
        v = torch.relu(self.conv3(self.irnn2(v, weights)))
        return torch.sigmoid(self.conv_out(v))


class Sweep(nn.Module):
    """One step of information passing in each of the four directions: relu(w(neighbour) + own), border pixels copied."""

    def __init__(self, width: int) -> None:
        super().__init__()
        for direction in DIRECTIONS:
            self.add_module(f"{direction}_weight", nn.Conv2d(width, width, 1, groups=width))

    def forward(self, v: Tensor, weights: Tensor | None) -> Tensor:
        """(B, C, H, W) -> (B, 4C, H, W): up, right, down, left; `weights` (B, 4, H, W) scales them in this order."""
        left, right, up, down = (self.get_submodule(f"{d}_weight")(v) for d in DIRECTIONS)
        maps = [
            torch.cat([v[..., :1, :], torch.relu(up[..., :-1, :] + v[..., 1:, :])], -2),
            torch.cat([torch.relu(right[..., 1:] + v[..., :-1]), v[..., -1:]], -1),
            torch.cat([torch.relu(down[..., 1:, :] + v[..., :-1, :]), v[..., -1:, :]], -2),
            torch.cat([v[..., :1], torch.relu(left[..., :-1] + v[..., 1:])], -1),
        ]
        if weights is not None:
            maps = [m * weights[:, i : i + 1] for i, m in enumerate(maps)]
        return torch.cat(maps, 1)


class DirectionWeights(nn.Module):
    """How much each direction counts at a pixel: (B, C, H, W) -> (B, 4, H, W) in [0, 1]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.conv1 = nn.Conv2d(width, half, 3, padding=1)
        self.conv2 = nn.Conv2d(half, half, 3, padding=1)
        self.conv3 = nn.Conv2d(half, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return torch.sigmoid(self.conv3(torch.relu(self.conv2(torch.relu(self.conv1(x))))))


class Discriminator(nn.Module):
    """Scores a pair of images: (B, C, H, W) cloudy and (B, C, H, W) clear or generated -> (B, 1, h, w) logits."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        bands, w = len(config.bands), config.width
        self.c0_0, self.c0_1 = Down(bands, w, norm=False), Down(bands, w, norm=False)
        self.c1, self.c2, self.c3 = (Down(2 * w * 2**k, 4 * w * 2**k) for k in range(3))
        self.c4 = nn.Conv2d(16 * w, 1, 3, padding=1)

    def forward(self, cloudy: Tensor, image: Tensor) -> Tensor:
        """See the class."""
        both = torch.cat([self.c0_0(cloudy), self.c0_1(image)], 1)
        out: Tensor = self.c4(self.c3(self.c2(self.c1(both))))
        return out


class Down(nn.Module):
    """Strided convolution, batch norm, leaky ReLU."""

    def __init__(self, c_in: int, c_out: int, *, norm: bool = True) -> None:
        super().__init__()
        self.c = nn.Conv2d(c_in, c_out, 4, 2, 1)
        self.batchnorm = nn.BatchNorm2d(c_out) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D, H/2, W/2)."""
        return nn.functional.leaky_relu(self.batchnorm(self.c(x)), 0.2)


class SpAGAN(SingleDate):
    """SpA-GAN as a CloudRemover."""

    optical_range = (0, 1)

    def __init__(self, config: Config | None = None, weights: Mapping[str, Tensor] | None = None, *, seed: int = 0) -> None:
        self.config = Config() if config is None else config
        self.needs = needs(self.config)
        self._start(partial(Network, self.config), gan_normal, weights, seed)

    @property
    def unused(self) -> tuple[str, ...]:
        """One convolution in every form; the weights of the directions as published."""
        dead = ("SAM1.conv_in.",)
        return (*dead, "SAM1.attention_layer.") if self.config.variant == "as_published" else dead

    def inputs(self, frame: Frame) -> tuple[Tensor, ...]:
        """Reflectance in [0, 1]."""
        return (self.optical(frame.s2),)

    def image(self, output: Any) -> Tensor:
        """The second of attention and image."""
        _, image = output
        return image
