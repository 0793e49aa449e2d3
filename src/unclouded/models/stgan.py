"""STGAN: three dates to one image, their features joined in pairs (Sarukkai et al. 2020).

V. Sarukkai, A. Jain, B. Uzkent, S. Ermon: Cloud removal in satellite images using spatiotemporal generative networks (WACV
2020), the "branched ResNet (IR)" and the U-Net, both against a PatchGAN; as used by Ebel et al. 2022, Table I.

The published "independent" branches hold the same module three times, so they share their weights
(`independent_as_published`); `independent` has three of each. The copy of Ebel et al. ends each residual branch in a ReLU
(`relu_after`). Parameter names are those of the published code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from unclouded.bands import L1C
from unclouded.models.needs import Needs
from unclouded.models.norms import Norm, has_bias, norm_layer
from unclouded.models.patchgan import PatchGAN
from unclouded.models.resnet import Block
from unclouded.models.scaling import BOTH_25, scale_radar
from unclouded.models.several_dates import Choose, Frames, SeveralDates, masks_for
from unclouded.models.start import gan_normal
from unclouded.sample import Level

DATES = 3
PAIRS = ((0, 1), (0, 2), (1, 2))
BLOCKS = 9

Branches = Literal["shared", "independent_as_published", "independent"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Published by Ebel et al. 2022: 13 bands and radar in, 13 bands out, width 64, batch norm, no dropout.

    Sarukkai et al. 2020: bands red, green, blue, near infrared, of which `restores` are the first three (the others come back
    NaN); no radar, no `relu_after`. `levels`: of the U-Net.
    """

    bands: tuple[str, ...] = L1C
    restores: tuple[str, ...] | None = None  # None: all bands
    level: Level = "L1C"
    sar: bool = True
    choose: Choose = "nearest"
    generator: Literal["resnet", "unet"] = "resnet"
    branches: Branches = "shared"
    width: int = 64
    levels: int = 8
    norm: Norm = "batch"
    dropout: bool = False
    relu_after: bool = True

    @property
    def channels(self) -> tuple[int, int]:
        """Per date in, and out."""
        return len(self.bands) + 2 * self.sar, len(self.restores or self.bands)

    @property
    def halvings(self) -> int:
        """How often the image is halved."""
        return self.levels if self.generator == "unet" else 3 if self.branches == "shared" else 2

    @staticmethod
    def tiny() -> Config:
        """For tests."""
        return Config(width=2, levels=5)


def needs(config: Config) -> Needs:
    """The residual blocks at the coarsest level reach beyond a tile, so tiles only approximate the whole image."""
    multiple = 2**config.halvings
    return Needs(
        bands=config.bands, levels=(config.level,), sar="required" if config.sar else "unused",
        dates=(DATES, None), cloud=False, masks=masks_for(config.choose),
        multiple_of=multiple, tile=256, halo=32, tiling="approximate",
    )  # fmt: skip


def _times(make: Callable[[], nn.Module], n: int, branches: Branches) -> list[nn.Module]:
    """n modules of their own, or the same one n times."""
    return [make() for _ in range(n)] if branches == "independent" else [make()] * n


class ResnetBranches(nn.Module):
    """x (B, 3, c_in, H, W) in [-1, 1] -> (B, c_out, H, W) in [-1, 1]; H, W multiples of 8 (independent: 4), at least 16."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        (c_in, c_out), g, steps = config.channels, config.width, config.halvings
        bias, norm = has_bias(config.norm), config.norm

        def initial() -> nn.Module:
            return nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(c_in, g, 7, bias=bias), norm_layer(norm, g), nn.ReLU())

        def intermediate() -> nn.Module:
            layers: list[nn.Module] = []
            for c in [2 * g * 2**k for k in range(steps)]:
                layers += [nn.Conv2d(c, 2 * c, 3, 2, 1, bias=bias), norm_layer(norm, 2 * c), nn.ReLU()]
            deep = 2 * g * 2**steps
            blocks = [Block(deep, norm=norm, dropout=config.dropout, relu_after=config.relu_after) for _ in range(BLOCKS)]
            return nn.Sequential(*layers, *blocks)

        self.shared = config.branches == "shared"
        if self.shared:
            self.model_initial, self.model_intermediate = initial(), intermediate()
        else:
            for i, module in enumerate(_times(initial, DATES, config.branches)):
                self.add_module(f"model_initial_{i}", module)
            for (i, j), module in zip(PAIRS, _times(intermediate, len(PAIRS), config.branches), strict=True):
                self.add_module(f"model_intermediate_{i}{j}", module)
        layers: list[nn.Module] = []
        for c in [3 * 2 * g * 2**k for k in range(steps, 0, -1)]:
            layers += [nn.ConvTranspose2d(c, c // 2, 3, 2, 1, 1, bias=bias), norm_layer(norm, c // 2), nn.ReLU()]
        self.model_final = nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(6 * g, c_out, 7), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        dates = [self._branch(f"model_initial{'' if self.shared else f'_{i}'}", x[:, i]) for i in range(DATES)]
        pairs = [
            self._branch(f"model_intermediate{'' if self.shared else f'_{i}{j}'}", torch.cat([dates[i], dates[j]], 1))
            for i, j in PAIRS
        ]
        out: Tensor = self.model_final(torch.cat(pairs, 1))
        return out

    def _branch(self, name: str, x: Tensor) -> Tensor:
        out: Tensor = self.get_submodule(name)(x)
        return out


class UNetBranches(nn.Module):
    """x (B, 3, c_in, H, W) in [-1, 1] -> (B, c_out, H, W) in [-1, 1]; H and W multiples of 2 ** levels.

    An encoder per date; the decoder sees the features of all three at every level.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        (c_in, c_out), g, n = config.channels, config.width, config.levels
        widths = [c_in] + [g * min(2**k, 8) for k in range(n)]
        self.levels = n
        self.names = ["model"] * DATES if config.branches == "shared" else [f"model_{i}" for i in range(DATES)]
        for k in range(1, n + 1):
            down = nn.Module()
            make = partial(_down, widths[k - 1], widths[k], config.norm, first=k == 1, last=k == n)
            for name, module in zip(self.names, _times(make, DATES, config.branches), strict=True):
                down.add_module(name, module)
            self.add_module(f"down{k}", down)
            up = nn.Module()
            up.model = _up((3 if k == n else 4) * widths[k], c_out if k == 1 else widths[k - 1], config.norm, outermost=k == 1)
            self.add_module(f"up{k}", up)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        skips: list[list[Tensor]] = []  # per level, per date
        dates = list(x.unbind(1))
        for k in range(1, self.levels + 1):
            dates = [self.get_submodule(f"down{k}.{name}")(d) for name, d in zip(self.names, dates, strict=True)]
            skips.append(dates)
        out = torch.cat(skips[-1], 1)
        for k in range(self.levels, 0, -1):
            out = self.get_submodule(f"up{k}.model")(out)
            if k > 1:
                out = torch.cat([*skips[k - 2], out], 1)
        return out


def _down(c_in: int, c_out: int, norm: Norm, *, first: bool, last: bool) -> nn.Module:
    before = [] if first else [nn.LeakyReLU(0.2)]
    after = [] if first or last else [norm_layer(norm, c_out)]
    return nn.Sequential(*before, nn.Conv2d(c_in, c_out, 4, 2, 1, bias=has_bias(norm)), *after)


def _up(c_in: int, c_out: int, norm: Norm, *, outermost: bool) -> nn.Module:
    last = nn.Tanh() if outermost else norm_layer(norm, c_out)
    return nn.Sequential(nn.ReLU(), nn.ConvTranspose2d(c_in, c_out, 4, 2, 1, bias=outermost or has_bias(norm)), last)


def generator(config: Config) -> ResnetBranches | UNetBranches:
    """The network of a Config."""
    return ResnetBranches(config) if config.generator == "resnet" else UNetBranches(config)


def discriminator(config: Config) -> PatchGAN:
    """Scores the three dates and the clear or generated image together: (B, 3 c_in + c_out, H, W) -> (B, 1, h, w)."""
    c_in, c_out = config.channels
    return PatchGAN(DATES * c_in + c_out, width=config.width, norm=config.norm)


class STGAN(SeveralDates):
    """STGAN as a CloudRemover. Bands that the network does not restore come back NaN."""

    optical_range = (-1, 1)
    dates = DATES

    def __init__(self, config: Config | None = None, weights: Mapping[str, Tensor] | None = None, *, seed: int = 0) -> None:
        self.config = Config() if config is None else config
        self.needs = needs(self.config)
        self.choose = self.config.choose
        self.smallest = 2 * 2**self.config.halvings
        self._start(partial(generator, self.config), gan_normal, weights, seed)

    def series_inputs(self, frames: Frames) -> tuple[Tensor, ...]:
        """[s2, s1] per date in [-1, 1], both radar bands clipped at -25 dB."""
        s2 = self.optical(frames.s2)
        return (torch.cat([s2, scale_radar(frames.radar, BOTH_25, -1, 1)], 2) if self.config.sar else s2,)

    def image(self, output: Tensor) -> Tensor:
        """The restored bands, in their places among all bands."""
        names = self.config.restores
        if names is None:
            return output
        image = output.new_full((len(output), len(self.config.bands), *output.shape[2:]), torch.nan)
        image[:, [self.config.bands.index(name) for name in names]] = output
        return image
