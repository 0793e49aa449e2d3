"""GLF-CR: two streams, radar guiding attention between windows and filtered into the optical features (Xu et al. 2022).

F. Xu, Y. Shi, P. Ebel, L. Yu, G.-S. Xia, W. Yang, X. X. Zhu: GLF-CR: SAR-enhanced cloud removal with global-local fusion. ISPRS
Journal of Photogrammetry and Remote Sensing 192 (2022). Sections 4.1-4.3, 5.1 and 5.4.

`variant="paper"` is the text: full resolution, gates of a convolution and a softmax, equation 6. `variant="as_published"` is
the released code, and what its checkpoints fit: the network runs on 2x2 pixels folded into channels, gates are sigmoids, the
shallow features are added before reconstruction, local fusion is 3x3, no norm before attention, an MLP of twice (not four
times) the width, and stochastic depth. Where the text is silent the paper form follows what it cites (RDN of Zhang et al.
2018, Swin of Liu et al. 2021); its softmax runs over the channels that the gate's convolution mixes (heads, for attention).

Memory is bounded: attention goes through the windows in chunks, and dynamic filters are made for a few channels at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as nf
from einops import rearrange
from torch import Tensor, nn

from unclouded.bands import L1C
from unclouded.models.needs import Needs
from unclouded.models.scaling import VV_VH, scale_radar
from unclouded.models.single_date import Frame, SingleDate, mirror_to
from unclouded.models.start import framework_default
from unclouded.sample import Level

Ablation = Literal["full", "without_sar", "concat", "without_stl", "without_gf", "without_df", "despeckled"]
Streams = tuple[Tensor, Tensor | None]  # optical and radar features

MASKED = -100.0  # added to the logits of tokens that the shift brought together from opposite borders
WINDOWS_AT_ONCE = 512  # bounds memory; on a processor fewer, so that their attention maps stay in its cache
WINDOWS_IN_CACHE = 16
FILTER_VALUES_AT_ONCE = 2**22  # float32 values of dynamic filters, 16 MiB
MEDIAN_SIDE = 5  # pixels; Table 3 does not state it


@dataclass(frozen=True, kw_only=True)
class Config:
    """Published: D = 6 blocks of 5 layers, growth 48 on 96 features, 8 heads, window 8, filters of 5x5 (section 5.1).

    `ablation`: the rows of Tables 2 and 3. `drop_path`: stochastic depth of the last layer, `as_published` only.
    """

    bands: tuple[str, ...] = L1C
    level: Level = "L1C"
    features: int = 96
    blocks: int = 6
    layers: int = 5
    growth: int = 48
    heads: int = 8
    window: int = 8
    kernel: int = 5
    drop_path: float = 0.2
    variant: Literal["paper", "as_published"] = "paper"
    ablation: Ablation = "full"

    @staticmethod
    def tiny() -> Config:
        """For tests."""
        return Config(features=8, blocks=2, layers=2, growth=8, heads=2, window=4, kernel=3)

    @property
    def published(self) -> bool:
        """The form of the released code."""
        return self.variant == "as_published"

    @property
    def two_streams(self) -> bool:
        """Whether radar has a stream of its own."""
        return self.ablation not in ("without_sar", "concat")

    @property
    def attends(self) -> bool:
        """Whether there are Swin layers."""
        return self.ablation != "without_stl"

    @property
    def guided(self) -> bool:
        """Whether radar refines the attention of the optical stream (global fusion)."""
        return self.two_streams and self.attends and self.ablation != "without_gf"

    @property
    def filters(self) -> bool:
        """Whether radar features are filtered dynamically before local fusion."""
        return self.two_streams and self.ablation not in ("without_df", "despeckled")


def needs(config: Config) -> Needs:
    """Windows lie on a lattice that starts at the tile, and pass on context in every layer: tiles only approximate."""
    return Needs(
        bands=config.bands,
        levels=(config.level,),
        sar="unused" if config.ablation == "without_sar" else "required",
        cloud=False,
        multiple_of=config.window * (2 if config.published else 1),
        tile=256,
        halo=32,
        tiling="approximate",
    )


class Network(nn.Module):
    """s2 (B, C, H, W) and s1 (B, 2, H, W), both in [0, 1] -> (B, C, H, W); sides as `needs.multiple_of` says."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        f, fold = config.features, 4 if config.published else 1
        bands = len(config.bands)
        into = bands + 2 * (config.ablation == "concat")
        first = 5 if config.published else 3
        self.SFENet1, self.SFENet2 = _conv(into * fold, f, first), _conv(f, f, 3)
        if config.two_streams:
            self.SFENet1_SAR, self.SFENet2_SAR = _conv(2 * fold, f, first), _conv(f, f, 3)
        self.RDBs = nn.ModuleList(DenseBlock(config, i) for i in range(config.blocks))
        if config.two_streams:
            self.DF = nn.ModuleList(DynamicFilter(f, config.kernel) for _ in range(config.blocks * config.filters))
            self.sar_fuse_1x1conv = nn.ModuleList(nn.Conv2d(f, f, 1) for _ in range(config.blocks))
            self.opt_distribute_1x1conv = nn.ModuleList(nn.Conv2d(f, f, 1) for _ in range(config.blocks))
        self.GFF = nn.Sequential(nn.Conv2d(config.blocks * f, f, 1), _conv(f, f, 3))
        folded = [_conv(f, 256, 3), nn.PixelShuffle(2), _conv(64, bands, 3)]
        self.UPNet = nn.Sequential(*(folded if config.published else [_conv(f, bands, 3)]))

    def forward(self, s2: Tensor, s1: Tensor | None = None) -> Tensor:
        """The cloudy image plus what is reconstructed from all optical features (equation 6)."""
        shallow, x, s = self._shallow(s2, s1)
        features = []
        for i, block in enumerate(self.RDBs):
            x, s = block(x, s)
            if s is not None:
                x, s = self._fuse(i, x, s)
            features.append(x)
        merged = self.GFF(torch.cat(features, 1))
        out: Tensor = self.UPNet(merged + shallow if self.config.published else merged) + s2
        return out

    def _shallow(self, s2: Tensor, s1: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        optical = s2 if self.config.two_streams or s1 is None else torch.cat([s2, s1], 1)
        shallow = self.SFENet1(self._folded(optical))
        if not self.config.two_streams or s1 is None:
            return shallow, self.SFENet2(shallow), None
        return shallow, self.SFENet2(shallow), self.SFENet2_SAR(self.SFENet1_SAR(self._folded(s1)))

    def _folded(self, image: Tensor) -> Tensor:
        return nf.pixel_unshuffle(image, 2) if self.config.published else image

    def _fuse(self, i: int, x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Local fusion, section 4.3: radar into optical (equation 11), and back (equation 12)."""
        filtered = self.DF[i](x, s) if self.config.filters else s
        inward = filtered - x
        x = x + inward * self._gate(self.sar_fuse_1x1conv[i](inward))
        outward = x - filtered
        return x, s + outward * self._gate(self.opt_distribute_1x1conv[i](outward))

    def _gate(self, values: Tensor) -> Tensor:
        return torch.sigmoid(values) if self.config.published else torch.softmax(values, 1)


def _conv(c_in: int, c_out: int, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2)


class DenseBlock(nn.Module):
    """SGCI, section 4.2: densely connected layers in two streams, merged and added to the input."""

    def __init__(self, config: Config, index: int) -> None:
        super().__init__()
        f, total = config.features, config.blocks * config.layers
        rates = torch.linspace(0, config.drop_path, total, device="cpu").tolist() if config.published else [0.0] * total
        self.convs = nn.ModuleList(
            DenseLayer(config, f + c * config.growth, shifted=c % 2 == 1, drop=rates[index * config.layers + c])
            for c in range(config.layers)
        )
        merge = partial(_conv, f + config.layers * config.growth, f, 3 if config.published else 1)
        self.LFF = merge()
        if config.two_streams:
            self.LFF_SAR = merge()

    def forward(self, x: Tensor, s: Tensor | None) -> Streams:
        """(B, F, h, w) twice -> the same."""
        dense, dense_sar = x, s
        for layer in self.convs:
            dense, dense_sar = layer(dense, dense_sar)
        return self.LFF(dense) + x, None if s is None else self.LFF_SAR(dense_sar) + s


class DenseLayer(nn.Module):
    """A convolution and a Swin layer per stream; the result is appended to the input's channels."""

    def __init__(self, config: Config, channels: int, *, shifted: bool, drop: float) -> None:
        super().__init__()
        g = config.growth
        self.conv = nn.Sequential(_conv(channels, g, 3))
        if config.two_streams:
            self.conv_SAR = nn.Sequential(_conv(channels, g, 3))
        self.drop = drop
        self.attends, self.norm_first = config.attends, not config.published
        if not config.attends:
            return
        self.attn = WindowAttention(config, shifted=shifted)
        hidden = g * (2 if config.published else 4)
        for tail in ("", "_SAR") if config.two_streams else ("",):
            if self.norm_first:
                self.add_module(f"norm1{tail}", nn.LayerNorm(g))
            self.add_module(f"norm2{tail}", nn.LayerNorm(g))
            self.add_module(f"mlp{tail}", MLP(g, hidden))

    def forward(self, x: Tensor, s: Tensor | None) -> Streams:
        """(B, C, h, w) twice -> (B, C + G, h, w) twice."""
        y = torch.relu(self.conv(x)).permute(0, 2, 3, 1).contiguous()
        y_sar = None if s is None else torch.relu(self.conv_SAR(s)).permute(0, 2, 3, 1).contiguous()
        if self.attends:
            a, a_sar = self.attn(self._normed(y, ""), None if y_sar is None else self._normed(y_sar, "_SAR"))
            y = self._mixed(y, a, "")
            y_sar = None if y_sar is None or a_sar is None else self._mixed(y_sar, a_sar, "_SAR")
        appended = torch.cat([x, y.permute(0, 3, 1, 2)], 1)
        return appended, None if s is None or y_sar is None else torch.cat([s, y_sar.permute(0, 3, 1, 2)], 1)

    def _normed(self, tokens: Tensor, tail: str) -> Tensor:
        normed: Tensor = self.get_submodule(f"norm1{tail}")(tokens) if self.norm_first else tokens
        return normed

    def _mixed(self, tokens: Tensor, attended: Tensor, tail: str) -> Tensor:
        z = tokens + drop_path(attended, self.drop, self.training)
        change = self.get_submodule(f"mlp{tail}")(self.get_submodule(f"norm2{tail}")(z))
        return z + drop_path(change, self.drop, self.training)


class MLP(nn.Module):
    """Two linear layers with GELU between, per token."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., G) -> (..., G)."""
        out: Tensor = self.fc2(nf.gelu(self.fc1(tokens)))
        return out


def drop_path(change: Tensor, rate: float, training: bool) -> Tensor:
    """Stochastic depth (Huang et al. 2016): the whole change of an image left out with probability `rate`, else scaled up."""
    if not training or rate == 0:
        return change
    kept = torch.rand(len(change), *[1] * (change.dim() - 1), device=change.device) >= rate
    return change * kept / (1 - rate)


class WindowAttention(nn.Module):
    """Self-attention in windows of both streams; radar's logits refine the optical ones through a gate (equations 7-9)."""

    relative: Tensor

    def __init__(self, config: Config, *, shifted: bool) -> None:
        super().__init__()
        g, self.heads, self.window = config.growth, config.heads, config.window
        self.shifted, self.sigmoid = shifted, config.published
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * self.window - 1) ** 2, self.heads))
        self.qkv, self.proj = nn.Linear(g, 3 * g), nn.Linear(g, g)
        self.guided = config.guided
        if config.two_streams:
            self.qkv_SAR, self.proj_SAR = nn.Linear(g, 3 * g), nn.Linear(g, g)
        if config.guided:
            self.attn_fuse_1x1conv = nn.Conv2d(self.heads, self.heads, 1)
        self.register_buffer("relative", relative_index(self.window), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The table of relative positions starts as a truncated normal of 0.02; the layers draw by themselves."""
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, tokens: Tensor, tokens_sar: Tensor | None) -> Streams:
        """(B, h, w, G) twice -> the same; h and w multiples of the window."""
        h, w = tokens.shape[1:3]
        shift = self.window // 2 if self.shifted and min(h, w) > self.window else 0
        mask = shift_mask(h, w, self.window, shift).to(tokens) if shift else None
        n = self.window**2
        bias = self.relative_position_bias_table[self.relative.flatten()].view(n, n, self.heads).permute(2, 0, 1)[:, None]
        x, s = self._windows(tokens, shift), None if tokens_sar is None else self._windows(tokens_sar, shift)
        step = WINDOWS_IN_CACHE if tokens.device.type == "cpu" else WINDOWS_AT_ONCE
        parts = []
        for at in range(0, len(x), step):
            added = bias if mask is None else bias + mask[torch.arange(at, min(at + step, len(x)), device=x.device) % len(mask)]
            parts.append(self._attend(x[at : at + step], None if s is None else s[at : at + step], added))
        optical = self._image([part[0] for part in parts], h, w, shift)
        return optical, None if s is None else self._image([part[1] for part in parts if part[1] is not None], h, w, shift)

    def _windows(self, tokens: Tensor, shift: int) -> Tensor:
        """(B, h, w, G) -> (windows of all images, tokens, G), after the shift."""
        rolled = torch.roll(tokens, (-shift, -shift), (1, 2)) if shift else tokens
        return rearrange(rolled, "b (y p) (x q) g -> (b y x) (p q) g", p=self.window, q=self.window)

    def _image(self, parts: list[Tensor], h: int, w: int, shift: int) -> Tensor:
        n, layout = self.window, "(b y x) (p q) g -> b (y p) (x q) g"
        tokens = rearrange(torch.cat(parts), layout, p=n, q=n, y=h // n, x=w // n)
        return torch.roll(tokens, (shift, shift), (1, 2)) if shift else tokens

    def _attend(self, x: Tensor, s: Tensor | None, added: Tensor) -> Streams:
        """Some windows (windows, tokens, G) of both streams -> the same.

        `added` (bias and mask) is the same in both streams, so it cancels in the gate's input and is added last.
        """
        q, k, v = self._heads(self.qkv(x))
        logits = _logits(q, k)
        if s is None:
            return self.proj(_weighted(logits.add_(added), v)), None
        q, k, v_sar = self._heads(self.qkv_SAR(s))
        logits_sar = _logits(q, k)
        if self.guided:
            difference = logits_sar - logits
            logits = torch.addcmul(logits, difference, self._gate(difference).to(logits.dtype))
        return self.proj(_weighted(logits.add_(added), v)), self.proj_SAR(_weighted(logits_sar.add_(added), v_sar))

    def _heads(self, qkv: Tensor) -> tuple[Tensor, ...]:
        """(windows, tokens, 3 G) -> q, k, v, each (heads, windows, tokens, G / heads)."""
        return rearrange(qkv, "w t (three n d) -> three n w t d", three=3, n=self.heads).contiguous().unbind()

    def _gate(self, difference: Tensor) -> Tensor:
        """How much of the difference to add: a convolution over the heads, which lead, is one matrix product."""
        weight, bias = self.get_parameter("attn_fuse_1x1conv.weight"), self.get_parameter("attn_fuse_1x1conv.bias")
        mixed = torch.addmm(bias[:, None], weight[:, :, 0, 0], difference.flatten(1))
        return (torch.sigmoid(mixed) if self.sigmoid else torch.softmax(mixed, 0)).view_as(difference)


def _logits(q: Tensor, k: Tensor) -> Tensor:
    """q k / sqrt(d): (heads, windows, tokens, tokens)."""
    return (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)


def _weighted(logits: Tensor, values: Tensor) -> Tensor:
    """softmax(logits) values, heads joined: (windows, tokens, G). As a transposed product, four times faster on processors."""
    out = values.transpose(-1, -2) @ torch.softmax(logits, -1).transpose(-1, -2)
    return rearrange(out, "n w d t -> w t (n d)")


def relative_index(window: int) -> Tensor:
    """(tokens, tokens) int64: the row of the bias table for every pair of tokens of a window."""
    y, x = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
    y, x = y.flatten(), x.flatten()
    rows = y[:, None] - y[None] + window - 1
    return rows * (2 * window - 1) + x[:, None] - x[None] + window - 1


def shift_mask(h: int, w: int, window: int, shift: int) -> Tensor:
    """(windows, tokens, tokens): 0 where two tokens were neighbours before the shift, MASKED where they were not."""
    label = 3 * _region(h, window, shift)[:, None] + _region(w, window, shift)[None]
    labels = rearrange(label, "(y p) (x q) -> (y x) (p q)", p=window, q=window)
    return (labels[:, :, None] != labels[:, None]).float() * MASKED


def _region(size: int, window: int, shift: int) -> Tensor:
    at = torch.arange(size)
    return (at >= size - window).long() + (at >= size - shift).long()


class DynamicFilter(nn.Module):
    """DFG and its use: a filter per pixel and channel, made from both streams, applied to radar features (equation 10)."""

    def __init__(self, features: int, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.fac_warp = nn.Sequential(
            nn.Sequential(_conv(2 * features, features, 3), nn.LeakyReLU(0.1)),
            Stem(features),
            Stem(features),
            nn.Sequential(nn.Conv2d(features, features * kernel**2, 1), nn.LeakyReLU(0.1)),
        )

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        """x, s (B, F, h, w) -> s filtered, (B, F, h, w). The last convolution is one matrix product per few channels."""
        made, taps = self.fac_warp[:3](torch.cat([x, s], 1)), self.kernel**2
        weight, bias = self.get_parameter("fac_warp.3.0.weight"), self.get_parameter("fac_warp.3.0.bias")
        b, _, h, w = made.shape
        step = max(FILTER_VALUES_AT_ONCE // (taps * b * h * w), 1)
        parts = []
        for c in range(0, s.shape[1], step):
            at = slice(c * taps, (c + step) * taps)
            filters = torch.baddbmm(bias[at, None], weight[at, :, 0, 0].expand(b, -1, -1), made.flatten(2))
            filters = nf.leaky_relu_(filters, 0.1).view(b, -1, h, w)
            parts.append(dynamic_filter(s[:, c : c + step], filters))
        return torch.cat(parts, 1)


class Stem(nn.Module):
    """u + conv(leaky relu(conv(u)))."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(_conv(features, features, 3), nn.LeakyReLU(0.1), _conv(features, features, 3))

    def forward(self, u: Tensor) -> Tensor:
        """(B, F, h, w) -> the same."""
        out: Tensor = u + self.stem(u)
        return out


def dynamic_filter(features: Tensor, filters: Tensor) -> Tensor:
    """Every pixel and channel correlated with its own k x k filter; borders repeat the edge, filters are not normalised.

    features (B, C, H, W), filters (B, C k k, H, W) ordered channel, row, column -> (B, C, H, W).
    """
    b, c, h, w = features.shape
    taps = filters.shape[1] // c
    k = round(taps**0.5)
    padded = nf.pad(features, [k // 2] * 4, mode="replicate")
    each = filters.view(b, c, taps, h, w)
    out = torch.zeros_like(features)
    for tap in range(taps):
        row, col = divmod(tap, k)
        out = torch.addcmul(out, padded[..., row : row + h, col : col + w], each[:, :, tap])
    return out


def despeckled(s1: Tensor, side: int = MEDIAN_SIDE) -> Tensor:
    """Median of side x side pixels per band (B, 2, H, W), borders mirrored: the despeckling step of Table 3."""
    margin, (h, w) = side // 2, s1.shape[-2:]
    grown = mirror_to(mirror_to(s1, h + margin, w + margin).flip(-2, -1), h + 2 * margin, w + 2 * margin).flip(-2, -1)
    return grown.unfold(-2, side, 1).unfold(-2, side, 1).flatten(-2).median(-1).values


class GLFCR(SingleDate):
    """GLF-CR as a CloudRemover."""

    optical_range = (0, 1)

    def __init__(self, config: Config | None = None, weights: Mapping[str, Tensor] | None = None, *, seed: int = 0) -> None:
        self.config = Config() if config is None else config
        self.needs = needs(self.config)
        self._start(partial(Network, self.config), framework_default, weights, seed)

    @property
    def unused(self) -> tuple[str, ...]:
        """The last radar features go nowhere."""
        return (f"opt_distribute_1x1conv.{self.config.blocks - 1}.",) if self.config.two_streams else ()

    def inputs(self, frame: Frame) -> tuple[Tensor, ...]:
        """Reflectance, and radar with VV and VH clipped at -25 and -32.5 dB, in [0, 1]."""
        s2 = self.optical(frame.s2)
        if self.config.ablation == "without_sar":
            return (s2,)
        s1 = despeckled(frame.radar) if self.config.ablation == "despeckled" else frame.radar
        return s2, scale_radar(s1, VV_VH, 0, 1)
