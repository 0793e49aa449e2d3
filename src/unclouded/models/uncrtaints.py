"""UnCRtainTS: several dates to one clear image, with the variance of every pixel (Ebel et al. 2023).

P. Ebel, V. S. F. Garnot, M. Schmitt, J. D. Wegner, X. X. Zhu: UnCRtainTS: uncertainty quantification for cloud removal in
optical satellite time series (CVPR Workshops 2023). Inverted-bottleneck convolutions at full resolution; the dates are summed
with attention weights that a light temporal attention encoder (Garnot and Landrieu 2020) finds on a 32 x 32 grid. Parameter
names are those of the published code.

The network does not know which of its dates is the target: it gives the clear image that best explains all of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from unclouded.bands import L1C
from unclouded.models.needs import Needs
from unclouded.models.scaling import BOTH_25, scale_radar, unscale_optical
from unclouded.models.several_dates import Choose, Frames, SeveralDates, Under, masks_for
from unclouded.sample import Level

GRID = 32  # attention is found on GRID x GRID cells
PERIOD = 1000.0  # days: the longest period of the encoding of dates
S1_LAUNCH = 16163  # 2014-04-03 in days since 1970-01-01: dates count from here
LEAST_VARIANCE = 1e-8


@dataclass(frozen=True, kw_only=True)
class Config:
    """Published: width 128, one block before and five after the attention, 16 heads, diagonal covariance, values times 10.

    - `dates`: how many dates enter (None: all); 1 is the mono form without attention.
    - `covariance`: a variance per band (`diag`), one for all bands (`iso`), or none (`none`).
    - `separate_heads`: mean and variance come from two convolutions; `values`: the attention also passes features on.
    - `as_published_padding`: dates that measured nothing enter the statistics of the attention's norm, as in the original.
    """

    bands: tuple[str, ...] = L1C
    level: Level = "L1C"
    sar: bool = True
    dates: int | None = None
    choose: Choose = "nearest"
    width: int = 128
    blocks_before: int = 1
    blocks_after: int = 5
    heads: int = 16
    model_width: int = 256
    key_width: int = 4
    covariance: Literal["diag", "iso", "none"] = "diag"
    variance: Literal["softplus", "elu"] = "softplus"
    scale_by: float = 10.0
    separate_heads: bool = False
    values: bool = False
    as_published_padding: bool = False

    @property
    def variances(self) -> int:
        """Channels that hold variance."""
        return {"diag": len(self.bands), "iso": 1, "none": 0}[self.covariance]

    @staticmethod
    def tiny() -> Config:
        """For tests."""
        return Config(width=8, blocks_after=1, heads=4, model_width=16)


def needs(config: Config) -> Needs:
    """Norms and squeeze-and-excitation look at the whole image, so tiles only approximate it."""
    return Needs(
        bands=config.bands,
        levels=(config.level,),
        sar="required" if config.sar else "unused",
        dates=(1 if config.dates == 1 else config.dates or 2, None),
        cloud=False,
        masks=masks_for(config.choose),
        tile=256,
        halo=32,
        tiling="approximate",
    )


class Network(nn.Module):
    """x (B, T, [2 +] C, H, W) in [0, scale_by], radar first, days and padded (B, T) -> (B, C + V, H, W): mean, variance.

    `padded` frames take no part; if not given, frames that are zero throughout are taken as such.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        bands, e = len(config.bands), config.width
        self.in_conv = Under("conv.conv", nn.Conv2d(bands + 2 * config.sar, e, 1), nn.GroupNorm(4, e), nn.ReLU())
        self.in_block = nn.ModuleList(InvertedBottleneck(e, partial(nn.GroupNorm, 4)) for _ in range(config.blocks_before))
        if config.dates != 1:
            self.temporal_encoder = TemporalAttention(config)
            if config.values:
                self.include_v = nn.Conv2d(2 * e, e, 1)
        self.out_block = nn.ModuleList(InvertedBottleneck(e, nn.BatchNorm2d) for _ in range(config.blocks_after))
        if config.separate_heads and config.variances:
            self.out_conv_mean_1 = Under("conv.conv", nn.Conv2d(e, bands, 1))
            self.out_conv_var_1 = Under("conv.conv", nn.Conv2d(e, config.variances, 1))
        else:
            self.out_conv = Under("conv.conv", nn.Conv2d(e, bands + config.variances, 1))

    def forward(self, x: Tensor, days: Tensor, padded: Tensor | None = None) -> Tensor:
        """See the class."""
        b, t = x.shape[:2]
        if padded is None:
            padded = (x == 0).flatten(2).all(2)
        f = self.in_conv(x.flatten(0, 1))
        for block in self.in_block:
            f = block(f)
        f = torch.unflatten(f, 0, (b, t))
        out = f[:, 0] if self.config.dates == 1 else self._together(f, days, padded)
        for block in self.out_block:
            out = block(out)
        return self._head(out)

    def _together(self, f: Tensor, days: Tensor, padded: Tensor) -> Tensor:
        attention, values = self.temporal_encoder(f, days, padded)
        out = weighted_sum(f, attention, padded, drop=0.1 if self.training else 0.0)
        if values is None:
            return out
        finer = functional.interpolate(values, out.shape[-2:], mode="bilinear", align_corners=False)
        joined: Tensor = self.include_v(torch.cat([out, finer], 1))
        return joined

    def _head(self, features: Tensor) -> Tensor:
        bands, scale = len(self.config.bands), self.config.scale_by
        if self.config.separate_heads and self.config.variances:
            mean, spread = self.out_conv_mean_1(features), self.out_conv_var_1(features)
        else:
            mean, spread = self.out_conv(features).split([bands, self.config.variances], 1)
        least = 1e-9 if scale == 1 else 1e-3
        variance = functional.softplus(spread) if self.config.variance == "softplus" else functional.elu(spread) + 1
        return torch.cat([scale * torch.sigmoid(mean), variance + least], 1)


class InvertedBottleneck(nn.Module):
    """x + F(norm(x)), F: 1x1 wider, depthwise 3x3 with mirrored border, squeeze and excitation, 1x1 back."""

    def __init__(self, width: int, norm: partial[nn.GroupNorm] | type[nn.BatchNorm2d]) -> None:
        super().__init__()
        wide = 2 * width
        self.conv = nn.Module()
        self.conv.add_module("norm", norm(width))
        self.conv.add_module("fn", nn.Sequential(
            nn.Conv2d(width, wide, 1, bias=False), norm(wide), nn.GELU(),
            nn.Conv2d(wide, wide, 3, padding=1, padding_mode="reflect", groups=wide, bias=False), norm(wide), nn.GELU(),
            SqueezeExcite(wide, width // 4), nn.Conv2d(wide, width, 1, bias=False), norm(width),
        ))  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """(B, E, H, W) -> the same."""
        out: Tensor = x + self.get_submodule("conv.fn")(self.get_submodule("conv.norm")(x))
        return out


class SqueezeExcite(nn.Module):
    """Every channel times a factor in [0, 1] found from the means of all channels (Hu et al. 2018)."""

    def __init__(self, width: int, narrow: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(width, narrow, bias=False), nn.GELU(), nn.Linear(narrow, width, bias=False), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, E, H, W) -> the same."""
        out: Tensor = x * self.fc(x.mean((2, 3)))[..., None, None]
        return out


class TemporalAttention(nn.Module):
    """Features (B, T, E, H, W) -> weights (heads, B, T, 32, 32) and, with `values`, features (B, E, 32, 32).

    Light temporal attention: one learned query per head, the same for all pixels (Garnot and Landrieu 2020).
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        e, d, h = config.width, config.model_width, config.heads
        self.heads, self.joint_padding = h, config.as_published_padding
        self.in_norm = nn.GroupNorm(h, e)
        self.inconv = nn.Conv1d(e, d, 1)
        self.attention_heads = LearnedQuery(d, h, config.key_width)
        self.passes_values = config.values
        if config.values:
            self.mlp = nn.Sequential(nn.Linear(d, e), nn.BatchNorm1d(e), nn.ReLU())
            self.out_norm = nn.GroupNorm(h, e)

    def forward(self, f: Tensor, days: Tensor, padded: Tensor) -> tuple[Tensor, Tensor | None]:
        """See the class."""
        b, t = f.shape[:2]
        small = torch.unflatten(functional.adaptive_max_pool2d(f.flatten(0, 1), GRID), 0, (b, t))
        cells = small.permute(0, 3, 4, 2, 1).flatten(0, 2)  # (B * 32 * 32, E, T)
        away = padded.repeat_interleave(GRID * GRID, 0)
        z = self.inconv(self._normed(cells, away)).transpose(1, 2)  # (N, T, d)
        z = z + encode_days(days, z.shape[-1], self.heads).repeat_interleave(GRID * GRID, 0)
        attention = self.attention_heads(z, away)  # (heads, N, T)
        found = torch.unflatten(attention, 1, (b, GRID, GRID)).permute(0, 1, 4, 2, 3)
        return found, self._values(z, attention, b) if self.passes_values else None

    def _normed(self, cells: Tensor, away: Tensor) -> Tensor:
        """Group norm over a group's channels and all dates, those left out that measured nothing (or not: as published)."""
        if self.joint_padding or away.is_meta or not bool(away.any()):  # (sizes are counted on meta tensors)
            out: Tensor = self.in_norm(cells)
            return out
        counts = (~away).to(cells.dtype)[:, None, None, :]  # (N, 1, 1, T)
        groups = torch.unflatten(cells, 1, (self.heads, -1))
        size = counts.sum((2, 3), keepdim=True).clamp(min=1) * groups.shape[2]
        mean = (groups * counts).sum((2, 3), keepdim=True) / size
        var = ((groups - mean).square() * counts).sum((2, 3), keepdim=True) / size
        normed = ((groups - mean) / torch.sqrt(var + self.in_norm.eps)).flatten(1, 2)
        return normed * self.in_norm.weight[:, None] + self.in_norm.bias[:, None]

    def _values(self, z: Tensor, attention: Tensor, b: int) -> Tensor:
        mixed = torch.einsum("hnt,nthd->nhd", attention, torch.unflatten(z, 2, (self.heads, -1))).flatten(1)
        out = functional.dropout(self.mlp(mixed), 0.2, self.training)
        cells: Tensor = self.out_norm(out)
        return torch.unflatten(cells, 0, (b, GRID, GRID)).permute(0, 3, 1, 2)


class LearnedQuery(nn.Module):
    """z (N, T, d), away (N, T) -> weights (heads, N, T) that sum to 1 over T: keys from z against one query per head."""

    def __init__(self, width: int, heads: int, key_width: int) -> None:
        super().__init__()
        self.Q = nn.Parameter(torch.zeros(heads, key_width))
        self.fc1_k = nn.Linear(width, heads * key_width)

    def forward(self, z: Tensor, away: Tensor) -> Tensor:
        """See the class."""
        keys = torch.unflatten(self.fc1_k(z), 2, self.Q.shape)
        logits = torch.einsum("hk,nthk->hnt", self.Q, keys) / math.sqrt(self.Q.shape[1])
        return logits.masked_fill(away, -1000.0).softmax(-1)


def encode_days(days: Tensor, width: int, heads: int) -> Tensor:
    """days (B, T) -> (B, T, width): sines and cosines of periods up to 1000 days, the same for every head."""
    each = width // heads
    j = torch.arange(each, device=days.device)
    tau = PERIOD ** (2 * (j // 2).float() / each)
    angle = days[..., None].float() / tau
    return torch.where(j % 2 == 0, angle.sin(), angle.cos()).repeat(1, 1, heads)


def weighted_sum(f: Tensor, attention: Tensor, padded: Tensor, drop: float = 0.0) -> Tensor:
    """Features (B, T, E, H, W) summed over T with weights (heads, B, T, h, w), each head for its group of channels."""
    heads, b = attention.shape[:2]
    h, w = f.shape[-2:]
    maps = attention.flatten(0, 1)
    if max(h, w) > GRID:
        maps = functional.interpolate(maps, (h, w), mode="bilinear", align_corners=False)
        maps = functional.dropout(maps, drop, drop > 0)
    else:
        maps = functional.adaptive_avg_pool2d(maps, (h, w))
    maps = torch.unflatten(maps, 0, (heads, b)) * (~padded)[None, :, :, None, None]
    groups = torch.unflatten(f, 2, (heads, -1))  # (B, T, heads, E / heads, H, W)
    return torch.einsum("nbtyx,btncyx->bncyx", maps, groups).flatten(1, 2)


def start(network: nn.Module, seed: int) -> None:
    """The published start: Xavier normal kernels; biases, Conv1d and batch norm gains N(0, 1); queries by their width."""
    draw = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Conv1d):
            nn.init.normal_(module.weight, generator=draw)
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.xavier_normal_(module.weight, generator=draw)
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(module.weight, generator=draw)
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d | nn.Linear) and module.bias is not None:
            nn.init.normal_(module.bias, generator=draw)
        if isinstance(query := getattr(module, "Q", None), nn.Parameter):
            nn.init.normal_(query, std=math.sqrt(2 / query.shape[1]), generator=draw)


class UnCRtainTS(SeveralDates):
    """UnCRtainTS as a CloudRemover, sigma included."""

    def __init__(self, config: Config | None = None, weights: Mapping[str, Tensor] | None = None, *, seed: int = 0) -> None:
        self.config = Config() if config is None else config
        self.needs = needs(self.config)
        self.dates, self.choose = self.config.dates, self.config.choose
        self.optical_range = (0, self.config.scale_by)
        self.smallest = 2
        self._start(partial(Network, self.config), start, weights, seed)

    def series_inputs(self, frames: Frames) -> tuple[Tensor, ...]:
        """[s1, s2] times `scale_by`, both radar bands clipped at -25 dB; days since S1_LAUNCH; what to leave out."""
        x = self.optical(frames.s2)
        if self.config.sar:
            x = torch.cat([scale_radar(frames.radar, BOTH_25, 0, self.config.scale_by), x], 2)
        return x, frames.days - S1_LAUNCH, ~frames.seen

    def image(self, output: Tensor) -> Tensor:
        """The mean."""
        return output[:, : len(self.config.bands)]

    def restore_with_sigma(self, frames: Frames) -> tuple[Tensor, Tensor | None]:
        """Mean and standard deviation in reflectance; one variance for all bands is repeated."""
        mean, variance = self.network(*self.inputs(frames)).float().split([len(self.config.bands), self.config.variances], 1)
        s2 = unscale_optical(mean, *self.optical_range)
        return s2, variance.sqrt().expand_as(mean) / self.config.scale_by if self.config.variances else None


def multivariate_nll(mean: Tensor, variance: Tensor, target: Tensor, *, as_published_batch_sum: bool = False) -> Tensor:
    """Mean over batch and pixels of -log N(target; mean, diag(variance)), summed over bands. All (B, C, H, W) (variance: or 1).

    `as_published_batch_sum`: the published code adds the log-determinants of the whole batch to every sample.
    """
    variance = _at_least(variance.expand_as(mean), LEAST_VARIANCE)
    distance = ((mean - target).square() / variance).sum(1).nan_to_num(0.0).clamp(min=1e-9)
    log_det = variance.log().sum(1)
    if as_published_batch_sum:
        log_det = log_det.sum(0, keepdim=True)
    return (0.5 * mean.shape[1] * math.log(2 * math.pi) + 0.5 * log_det + 0.5 * distance).mean()


def nll(mean: Tensor, variance: Tensor, target: Tensor) -> Tensor:
    """Mean over all elements of -log N(target; mean, variance)."""
    variance = _at_least(variance.expand_as(mean), LEAST_VARIANCE)
    return (0.5 * (variance.log() + (mean - target).square() / variance)).mean() + 0.5 * math.log(2 * math.pi)


def _at_least(variance: Tensor, least: float) -> Tensor:
    """Raised in value; the gradient passes as if nothing had happened."""
    return variance + (variance.clamp(min=least) - variance).detach()
