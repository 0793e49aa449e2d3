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
from torch import Tensor, nn

from unclouded.bands import L1C
from unclouded.models.needs import Needs
from unclouded.models.scaling import VV_VH, scale_radar
from unclouded.models.single_date import Frame, SingleDate, mirror_to
from unclouded.models.start import framework_default
from unclouded.models.window_attention import Streams, WindowAttention
from unclouded.sample import Level

Ablation = Literal["full", "without_sar", "concat", "without_stl", "without_gf", "without_df", "despeckled"]

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
        self.channels = f + config.layers * config.growth
        merge = partial(_conv, self.channels, f, 3 if config.published else 1)
        self.LFF = merge()
        if config.two_streams:
            self.LFF_SAR = merge()

    def forward(self, x: Tensor, s: Tensor | None) -> Streams:
        """(B, F, h, w) twice -> the same."""
        dense = Growing(x, self.channels)
        dense_sar = None if s is None else Growing(s, self.channels)
        for layer in self.convs:
            y, y_sar = layer(dense.all(), None if dense_sar is None else dense_sar.all())
            dense.append(y)
            if dense_sar is not None:
                dense_sar.append(y_sar)
        return self.LFF(dense.all()) + x, None if dense_sar is None else self.LFF_SAR(dense_sar.all()) + s


class Growing:
    """Features that gain channels: written into one buffer, or concatenated where gradients are kept or the layout forbids."""

    def __init__(self, first: Tensor, channels: int) -> None:
        b, self.count, h, w = first.shape
        in_place = not torch.is_grad_enabled() and b == 1 and first.is_contiguous()
        self.buffer = first.new_empty(b, channels, h, w) if in_place else first
        if in_place:
            self.buffer[:, : self.count] = first

    def append(self, more: Tensor) -> None:
        """(B, G, h, w) behind what is there."""
        end = self.count + more.shape[1]
        if self.buffer.shape[1] >= end:
            self.buffer[:, self.count : end] = more
        else:
            self.buffer = torch.cat([self.buffer, more], 1)
        self.count = end

    def all(self) -> Tensor:
        """(B, C, h, w): everything so far."""
        return self.buffer[:, : self.count]


class DenseLayer(nn.Module):
    """A convolution and a Swin layer per stream, on all features so far."""

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
        self.attn = WindowAttention(
            g, config.heads, config.window, shifted=shifted, two_streams=config.two_streams, guided=config.guided,
            sigmoid=config.published,
        )  # fmt: skip
        hidden = g * (2 if config.published else 4)
        for tail in ("", "_SAR") if config.two_streams else ("",):
            if self.norm_first:
                self.add_module(f"norm1{tail}", nn.LayerNorm(g))
            self.add_module(f"norm2{tail}", nn.LayerNorm(g))
            self.add_module(f"mlp{tail}", MLP(g, hidden))

    def forward(self, x: Tensor, s: Tensor | None) -> Streams:
        """(B, C, h, w) twice -> (B, G, h, w) twice."""
        y = torch.relu(self.conv(x)).permute(0, 2, 3, 1).contiguous()
        y_sar = None if s is None else torch.relu(self.conv_SAR(s)).permute(0, 2, 3, 1).contiguous()
        if self.attends:
            a, a_sar = self.attn(self._normed(y, ""), None if y_sar is None else self._normed(y_sar, "_SAR"))
            y = self._mixed(y, a, "")
            y_sar = None if y_sar is None or a_sar is None else self._mixed(y_sar, a_sar, "_SAR")
        return y.permute(0, 3, 1, 2), None if y_sar is None else y_sar.permute(0, 3, 1, 2)

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
