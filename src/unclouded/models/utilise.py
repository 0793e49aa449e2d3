"""U-TILISE: a series in, the whole series out, cloud-free (Stucker et al. 2023).

C. Stucker, V. Sainte Fare Garnot, K. Schindler: U-TILISE: a sequence-to-sequence model for cloud removal in optical satellite
time series (IEEE TGRS 2023). Every date is encoded by itself; at the lowest resolution every pixel's sequence attends to
itself, and the same attention weights mix the skip connections. Parameter names are those of the published code.

Longer series go through in windows of dates that overlap by half; a date's results are averaged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from unclouded.bands import L1C
from unclouded.errors import InputUnsupported
from unclouded.models.needs import Needs
from unclouded.models.scaling import BOTH_25, scale_radar, unscale_optical
from unclouded.models.several_dates import Frames, SeveralDates, Under, evidence, frames_of
from unclouded.models.uncrtaints import encode_days, start
from unclouded.sample import Batch, Level, Prediction

DROP = 0.1


@dataclass(frozen=True, kw_only=True)
class Config:
    """Published: widths 64, 64, 64, 128 in encoder and decoder, 4 heads, optical bands only.

    `window`: dates that go through together. `sar`: radar as two further input channels, after the optical ones (ours).
    """

    bands: tuple[str, ...] = L1C
    level: Level = "L1C"
    sar: bool = False
    encoder: tuple[int, ...] = (64, 64, 64, 128)
    decoder: tuple[int, ...] = (64, 64, 64, 128)
    heads: int = 4
    key_width: int = 4
    window: int = 10

    @staticmethod
    def tiny() -> Config:
        """For tests."""
        return Config(encoder=(8, 8), decoder=(8, 8), window=4)


def needs(config: Config) -> Needs:
    """A pixel's value depends on a neighbourhood of a few cells at the lowest resolution."""
    coarse = 2 ** (len(config.encoder) - 1)
    return Needs(
        bands=config.bands, levels=(config.level,), sar="required" if config.sar else "unused", dates=(2, None), cloud=False,
        multiple_of=coarse, tile=256, halo=8 * coarse, tiling="approximate",
    )  # fmt: skip


class Network(nn.Module):
    """x (B, T, C [+ 2], H, W) in [0, 1], days (B, T) from the first date, padded (B, T) -> (B, T, C, H, W) in [0, 1].

    `padded` frames take no part and come out 0; if not given, all-zero frames of day 0 are taken as such.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        bands, e, d = len(config.bands), config.encoder, config.decoder
        self.in_conv = Under("conv.conv", _conv(bands + 2 * config.sar, e[0]), nn.ReLU(), _conv(e[0], e[0]), nn.ReLU())
        self.down_blocks = nn.ModuleList(Down(e[i], e[i + 1]) for i in range(len(e) - 1))
        self.temporal_encoder = nn.ModuleList([TemporalLayer(e[-1], config.heads, config.key_width)])
        deepest_first = range(len(d) - 1, 0, -1)
        self.up_blocks = nn.ModuleList(Up(d[i], d[i - 1], e[i - 1]) for i in deepest_first)
        self.out_conv = Under("conv.conv", _conv(d[0], d[0]), nn.ReLU(), _conv(d[0], bands), nn.Sigmoid())

    def forward(self, x: Tensor, days: Tensor, padded: Tensor | None = None) -> Tensor:
        """See the class."""
        return self.with_attention(x, days, padded)[0]

    def with_attention(self, x: Tensor, days: Tensor, padded: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The same, and the attention (heads, B, T out, T in, h, w) at the lowest resolution."""
        shape = x.shape[:2]
        if padded is None:
            padded = (x == 0).flatten(2).all(2) & (days == 0)
        seen = (~padded).flatten()[:, None, None, None]
        f = self.in_conv(x.flatten(0, 1)) * seen
        skips = []
        for block in self.down_blocks:
            skips.append(f)
            f = block(f) * seen
        f, attention = self.temporal_encoder[0](torch.unflatten(f, 0, shape), days, padded)
        f = f.flatten(0, 1)
        for block, skip in zip(self.up_blocks, reversed(skips), strict=True):
            f = block(f, mix(torch.unflatten(skip, 0, shape), attention, padded).flatten(0, 1))
        out: Tensor = self.out_conv(f) * seen
        return torch.unflatten(out, 0, shape), attention


def _conv(c_in: int, c_out: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, kernel, stride, padding=1, padding_mode="reflect")


class Down(nn.Module):
    """Half the size: (N, c_in, H, W) -> (N, c_out, H/2, W/2)."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.down = Under("conv", _conv(c_in, c_in, 4, 2), nn.ReLU())
        self.conv1 = Under("conv", _conv(c_in, c_out), nn.ReLU())
        self.conv2 = Under("conv", _conv(c_out, c_out), nn.ReLU())

    def forward(self, f: Tensor) -> Tensor:
        """See the class."""
        a = self.conv1(self.down(f))
        out: Tensor = a + self.conv2(a)
        return out


class Up(nn.Module):
    """Twice the size, joined with the mixed skip connection: (N, c_in, h, w), (N, c_skip, 2h, 2w) -> (N, c_out, 2h, 2w)."""

    def __init__(self, c_in: int, c_out: int, c_skip: int) -> None:
        super().__init__()
        self.up = Under("convtrans", nn.ConvTranspose2d(c_in, c_out, 2, 2), nn.ReLU())
        self.skip_conv = Under("conv.conv", nn.Conv2d(c_skip, c_skip, 1), nn.ReLU())
        self.conv1 = Under("conv.conv", _conv(c_out + c_skip, c_out), nn.ReLU())
        self.conv2 = Under("conv.conv", _conv(c_out, c_out), nn.ReLU())

    def forward(self, f: Tensor, skip: Tensor) -> Tensor:
        """See the class."""
        a = self.conv1(torch.cat([self.up(f), self.skip_conv(skip)], 1))
        out: Tensor = a + self.conv2(a)
        return out


class TemporalLayer(nn.Module):
    """Every pixel's sequence attends to itself: (B, T, C, h, w) -> the same, and weights (heads, B, T, T, h, w)."""

    def __init__(self, width: int, heads: int, key_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_heads = QueryKey(width, heads, key_width)
        self.norm1, self.norm2 = nn.GroupNorm(heads, width), nn.GroupNorm(heads, width)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.GELU())

    def forward(self, f: Tensor, days: Tensor, padded: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        b, _, c, h, w = f.shape
        z = f.permute(0, 3, 4, 1, 2).flatten(0, 2)  # (N, T, C), N = B h w
        z = z + encode_days(days, c, self.heads).repeat_interleave(h * w, 0)
        n = _per_date(self.norm1, z)
        weights = self.attention_heads(n, padded.repeat_interleave(h * w, 0))  # (heads, N, T, T)
        dropped = functional.dropout(weights, DROP, self.training)
        mixed = torch.einsum("hnts,nshd->nthd", dropped, torch.unflatten(n, 2, (self.heads, -1))).flatten(2)
        z = z + functional.dropout(mixed, DROP, self.training)
        z = z + functional.dropout(self.mlp(_per_date(self.norm2, z)), DROP, self.training)
        attention = torch.unflatten(weights, 1, (b, h, w)).permute(0, 1, 4, 5, 2, 3)
        return torch.unflatten(z, 0, (b, h, w)).permute(0, 3, 4, 1, 2), attention


class QueryKey(nn.Module):
    """n (N, T, C), padded (N, T) -> weights (heads, N, T, T) that sum to 1 over the last axis."""

    def __init__(self, width: int, heads: int, key_width: int) -> None:
        super().__init__()
        self.shape = (heads, key_width)
        self.fc_q = nn.Linear(width, heads * key_width, bias=False)
        self.fc_k = nn.Linear(width, heads * key_width, bias=False)

    def forward(self, n: Tensor, padded: Tensor) -> Tensor:
        """See the class."""
        query, key = torch.unflatten(self.fc_q(n), 2, self.shape), torch.unflatten(self.fc_k(n), 2, self.shape)
        logits = torch.einsum("nthk,nshk->hnts", query, key) / math.sqrt(self.shape[1])
        return logits.masked_fill(padded[None, :, None, :], -1000.0).softmax(-1)


def _per_date(norm: nn.Module, z: Tensor) -> Tensor:
    out: Tensor = norm(z.flatten(0, 1)).view_as(z)
    return out


def mix(skip: Tensor, attention: Tensor, padded: Tensor) -> Tensor:
    """Skip features (B, T, C, H, W), each date a weighted sum over all dates, every head for its group of channels."""
    heads, b, t_out, t_in = attention.shape[:4]
    h, w = skip.shape[-2:]
    maps = attention.flatten(0, 1).flatten(1, 2)
    if h >= attention.shape[-2] and w >= attention.shape[-1]:
        maps = functional.interpolate(maps, (h, w), mode="bilinear", align_corners=False)
    else:
        maps = functional.adaptive_avg_pool2d(maps, (h, w))
    maps = maps.view(heads, b, t_out, t_in, h, w) * (~padded)[None, :, None, :, None, None]
    groups = torch.unflatten(skip, 2, (heads, -1))
    return torch.einsum("nbtsyx,bsncyx->btncyx", maps, groups).flatten(2, 3)


def windows(dates: int, window: int) -> list[int]:
    """The first date of every window: overlapping by half, the last one ending with the series."""
    if dates <= window:
        return [0]
    return sorted({*range(0, dates - window, max(1, window // 2)), dates - window})


class UTilise(SeveralDates):
    """U-TILISE as a CloudRemover. The target date must be among the inputs; dates that measured nothing come back NaN."""

    optical_range = (0, 1)

    def __init__(self, config: Config | None = None, weights: Mapping[str, Tensor] | None = None, *, seed: int = 0) -> None:
        self.config = Config() if config is None else config
        self.needs = needs(self.config)
        self.smallest = 2 * self.needs.multiple_of
        self._start(partial(Network, self.config), start, weights, seed)

    def series_inputs(self, frames: Frames) -> tuple[Tensor, ...]:
        """[s2, s1] per date in [0, 1]; days from the first date; what to leave out."""
        x = self.optical(frames.s2)
        if self.config.sar:
            x = torch.cat([x, scale_radar(frames.radar, BOTH_25, 0, 1)], 2)
        return x, frames.days - frames.days[:, :1], ~frames.seen

    def __call__(self, batch: Batch) -> Prediction:
        """All dates restored, in the order they came in. Raises InputUnsupported where the target is not among them."""
        self.needs.check_batch(batch)
        if batch.target_index is None or bool((batch.target_index < 0).any()):
            raise InputUnsupported("U-TILISE restores dates of its own series; the target date is not among them.")
        h, w = batch.shape
        frames = frames_of(batch, sar=self.config.sar).mirrored(self.needs.multiple_of, self.smallest)
        assert isinstance(frames, Frames)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.network.training), self._arithmetic(batch.s2.device):
            series = torch.stack([self._series(_one(frames, i), batch.s2_days[i]) for i in range(len(batch))])[..., :h, :w]
        source, age, support = evidence(batch, sar=self.config.sar)
        target = series[torch.arange(len(batch), device=series.device), batch.target_index]
        return Prediction(s2=target, series=series, source=source, age=age, support=support)

    def _series(self, frames: Frames, days: Tensor) -> Tensor:
        """One sample (B = 1), its dates in any order -> (T, C, H, W), NaN for dates that measured nothing."""
        seen = frames.seen[0]
        order = days.argsort(stable=True)
        order = order[seen[order]]
        if not len(order):
            return torch.full_like(frames.s2[0], torch.nan)
        total = torch.zeros_like(frames.s2[0])
        count = torch.zeros(len(days), device=days.device)
        for first in windows(len(order), self.config.window):
            at = order[first : first + self.config.window]
            y = self.network(*self.inputs(frames.take(at[None])))[0].float()
            total, count = total.index_add(0, at, y), count.index_add(0, at, torch.ones(len(at), device=at.device))
        return unscale_optical(total / count[:, None, None, None], *self.optical_range)


def _one(frames: Frames, i: int) -> Frames:
    part = slice(i, i + 1)
    return replace(
        frames, s2=frames.s2[part], s1=None if frames.s1 is None else frames.s1[part],
        cloud=None if frames.cloud is None else frames.cloud[part], days=frames.days[part], seen=frames.seen[part],
    )  # fmt: skip
