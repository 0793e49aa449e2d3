"""Sequence to point: Siamese residual trunks, stacked in time, then 3-D convolutions (Ebel et al. 2022).

P. Ebel, Y. Xu, M. Schmitt, X. X. Zhu: SEN12MS-CR-TS: a remote-sensing data set for multimodal multitemporal cloud removal
(IEEE TGRS 2022), section III-A and Fig. 7. The trunk is that of Meraner et al. 2020; a trunk trained on single dates can be
loaded. `MonoResNet` is the single-date baseline of Table I, with the same trunk.

The published code ends in tanh and takes (y + 1) / 2 as reflectance; the baseline rescales so too, without tanh. Neither is in
the paper: `output="as_published"` does it, `output="linear"` gives the range of the inputs, [0, 5].
Parameter names are those of the published code. Batches of any size work (the published padding allows one image only).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from unclouded.bands import L1C
from unclouded.errors import InputUnsupported
from unclouded.models.dsen2cr import Block
from unclouded.models.needs import Needs
from unclouded.models.patchgan import PatchGAN
from unclouded.models.scaling import VV_VH, scale_radar, unscale_optical
from unclouded.models.several_dates import Choose, Frames, SeveralDates, Under, masks_for
from unclouded.models.single_date import Frame, SingleDate
from unclouded.models.start import gan_normal
from unclouded.models.weights import fit
from unclouded.sample import Level

BLOCKS_3D = 5
SCALE = 0.1  # of every residual branch
MIDDLE = 64  # features before the last convolution of the single-date baseline

Output = Literal["linear", "as_published"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Published: 3 dates (Table IV: also 4, 5), 256 features, 16 blocks per trunk, 13 bands top of atmosphere, with radar."""

    bands: tuple[str, ...] = L1C
    level: Level = "L1C"
    sar: bool = True
    dates: int = 3
    choose: Choose = "nearest"
    features: int = 256
    blocks: int = 16
    output: Output = "linear"

    @staticmethod
    def tiny() -> Config:
        """For tests."""
        return Config(features=8, blocks=1)


@dataclass(frozen=True, kw_only=True)
class MonoConfig:
    """Published: 256 features, 16 blocks, 13 bands top of atmosphere, with radar."""

    bands: tuple[str, ...] = L1C
    level: Level = "L1C"
    sar: bool = True
    features: int = 256
    blocks: int = 16
    output: Output = "linear"

    @staticmethod
    def tiny() -> MonoConfig:
        """For tests."""
        return MonoConfig(features=8, blocks=1)


def trunk(channels: int, features: int, blocks: int) -> list[nn.Module]:
    """(B, channels, H, W) -> (B, features, H, W): a convolution and residual blocks (Meraner et al. 2020, Fig. 3)."""
    first = nn.Conv2d(channels, features, 3, padding=1)
    return [first, nn.ReLU(), *[Block(features, SCALE) for _ in range(blocks)]]


class Network(nn.Module):
    """x (B, n, C [+ 2], H, W) in [0, 5] (radar, last, in [0, 2]) -> (B, C, H, W); n, H and W as configured and at least 2."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        bands, f = len(config.bands), config.features
        self.model_initial = nn.Sequential(*trunk(bands + 2 * config.sar, f, config.blocks))
        self.model_final = nn.Sequential(
            nn.Conv3d(f, f, 3, padding=1), nn.ReLU(), *[Block3d(f) for _ in range(BLOCKS_3D)],
            MirrorImage(), nn.Conv3d(f, bands, (config.dates, 3, 3)), *([nn.Tanh()] if config.output == "as_published" else []),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        features = torch.unflatten(self.model_initial(x.flatten(0, 1)), 0, x.shape[:2])
        out: Tensor = self.model_final(features.transpose(1, 2))
        return out.squeeze(2)


class MirrorImage(nn.Module):
    """(B, F, n, H, W) -> (B, F, n, H + 2, W + 2): borders mirrored."""

    def forward(self, u: Tensor) -> Tensor:
        """See the class."""
        return torch.unflatten(functional.pad(u.flatten(1, 2), (1, 1, 1, 1), mode="reflect"), 1, u.shape[1:3])


class RepeatAndMirror(MirrorImage):
    """(B, F, n, H, W) -> (B, F, n + 2, H + 2, W + 2): first and last date repeated, image borders mirrored."""

    def forward(self, u: Tensor) -> Tensor:
        """See the class."""
        return super().forward(torch.cat([u[:, :, :1], u, u[:, :, -1:]], 2))


class Block3d(nn.Module):
    """relu(u + scale * conv(relu(conv(u)))) over dates and image; (B, F, n, H, W) -> the same."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            RepeatAndMirror(), nn.Conv3d(features, features, 3), nn.ReLU(), RepeatAndMirror(), nn.Conv3d(features, features, 3)
        )

    def forward(self, u: Tensor) -> Tensor:
        """See the class."""
        return torch.relu(u + SCALE * self.conv_block(u))


class MonoNetwork(nn.Module):
    """x (B, C [+ 2], H, W) in [0, 5] (radar, last, in [0, 2]) -> (B, C, H, W)."""

    def __init__(self, config: MonoConfig) -> None:
        super().__init__()
        bands, f = len(config.bands), config.features
        self.model_initial = Under(
            "model",
            *trunk(bands + 2 * config.sar, f, config.blocks),
            nn.Conv2d(f, MIDDLE, 3, padding=1), nn.ReLU(), nn.Conv2d(MIDDLE, bands, 3, padding=1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        out: Tensor = self.model_initial(x)
        return out


def load_trunk(network: Network, single_date: Mapping[str, Tensor]) -> None:
    """Start every date's trunk from a trained single-date network: this baseline or DSen2-CR, of the same width and depth.

    Its last convolutions are dropped. Raises InputUnsupported with the names that do not fit.
    """
    own = network.model_initial.state_dict()
    depth = 1 + max(int(name.split(".")[0]) for name in own)
    state = {name.split("model.", 1)[-1]: value for name, value in single_date.items()}
    strange = [name for name in state if not name.split(".")[0].isdigit()]
    if strange:
        raise InputUnsupported(
            "These are not the weights of a single-date residual network.", why=f"unknown {', '.join(strange[:5])}."
        )
    fit(network.model_initial, {name: value for name, value in state.items() if int(name.split(".")[0]) < depth})


def discriminator(config: Config, *, width: int = 64) -> PatchGAN:
    """Scores all inputs and the clear or generated image together: (B, n (C + 2) + C, H, W) -> (B, 1, h, w)."""
    each = len(config.bands) + 2 * config.sar
    return PatchGAN(config.dates * each + len(config.bands), width=width, norm="batch")


def _stacked(s2: Tensor, frame: Frame, sar: bool) -> Tensor:
    return torch.cat([s2, scale_radar(frame.radar, VV_VH, 0, 2)], -3) if sar else s2


def _reflectance(y: Tensor, output: Output) -> Tensor:
    return unscale_optical(y, -1, 1) if output == "as_published" else unscale_optical(y, 0, 5)


class Seq2Point(SeveralDates):
    """Sequence to point as a CloudRemover."""

    optical_range = (0, 5)
    smallest = 2

    def __init__(self, config: Config | None = None, weights: Mapping[str, Tensor] | None = None, *, seed: int = 0) -> None:
        self.config = Config() if config is None else config
        c = self.config
        if c.dates < 2:
            raise InputUnsupported(
                f"Sequence to point takes 2 dates or more, not {c.dates}.", do="use resnet-mono for one date."
            )
        self.needs = Needs(
            bands=c.bands, levels=(c.level,), sar="required" if c.sar else "unused", dates=(c.dates, None), cloud=False,
            masks=masks_for(c.choose), tile=256, halo=1 + 2 * c.blocks + 1 + 2 * BLOCKS_3D + 1,
        )  # fmt: skip
        self.dates, self.choose = c.dates, c.choose
        self._start(partial(Network, c), gan_normal, weights, seed)

    def series_inputs(self, frames: Frames) -> tuple[Tensor, ...]:
        """[s2, s1] per date: reflectance in [0, 5]; radar, VV and VH clipped at -25 and -32.5 dB, in [0, 2]."""
        return (_stacked(self.optical(frames.s2), frames, self.config.sar),)

    def restore(self, frame: Frame) -> Tensor:
        """Frames -> reflectance (B, C, H, W)."""
        return _reflectance(self.network(*self.inputs(frame)).float(), self.config.output)


class MonoResNet(SingleDate):
    """The single-date baseline of Table I as a CloudRemover."""

    optical_range = (0, 5)

    def __init__(self, config: MonoConfig | None = None, weights: Mapping[str, Tensor] | None = None, *, seed: int = 0) -> None:
        self.config = MonoConfig() if config is None else config
        c = self.config
        self.needs = Needs(
            bands=c.bands,
            levels=(c.level,),
            sar="required" if c.sar else "unused",
            cloud=False,
            tile=256,
            halo=3 + 2 * c.blocks,
        )
        self._start(partial(MonoNetwork, c), gan_normal, weights, seed)

    def inputs(self, frame: Frame) -> tuple[Tensor, ...]:
        """[s2, s1]: reflectance in [0, 5]; radar, VV and VH clipped at -25 and -32.5 dB, in [0, 2]."""
        return (_stacked(self.optical(frame.s2), frame, self.config.sar),)

    def restore(self, frame: Frame) -> Tensor:
        """A frame -> reflectance (B, C, H, W)."""
        return _reflectance(self.network(*self.inputs(frame)).float(), self.config.output)
