"""The pix2pix U-Net generator (Isola et al. 2017): the generator of four of the baselines here.

`levels` strided convolutions down and as many transposed ones up, with skips; widths g, 2g, 4g, 8g, 8g, ...
Parameter names are those of the public pix2pix code, as used by SEN12MS-CR-TS.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unclouded.models.norms import Norm, has_bias, norm_layer

FIRST_DROPOUT = 5  # levels 5, 6, ... up to the one before the innermost drop features in training


class UNet(nn.Module):
    """(B, c_in, H, W) -> (B, c_out, H, W) in [-1, 1]; H and W must be multiples of 2 ** levels."""

    def __init__(
        self, c_in: int, c_out: int, *, width: int = 64, levels: int = 8, norm: Norm = "batch", dropout: float = 0.5
    ) -> None:
        super().__init__()
        widths = [c_in] + [width * min(2**k, 8) for k in range(levels)]
        inner: Level | None = None
        for k in range(levels, 1, -1):
            drop = dropout if FIRST_DROPOUT <= k < levels else 0.0
            inner = Level(widths[k - 1], widths[k], inner, norm=norm, dropout=drop)
        self.model = Outermost(c_in, c_out, width, inner, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        out: Tensor = self.model(x)
        return out


class Outermost(nn.Module):
    """The first strided convolution, everything inside, and the last transposed one with tanh."""

    def __init__(self, c_in: int, c_out: int, width: int, inner: Level | None, *, norm: Norm) -> None:
        super().__init__()
        into = width if inner is None else 2 * width
        self.model = nn.Sequential(
            nn.Conv2d(c_in, width, 4, 2, 1, bias=has_bias(norm)),
            nn.Identity() if inner is None else inner,
            nn.ReLU(),
            nn.ConvTranspose2d(into, c_out, 4, 2, 1),
            nn.Tanh(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, c_in, H, W) -> (B, c_out, H, W)."""
        out: Tensor = self.model(x)
        return out


class Level(nn.Module):
    """One step down, what is inside, one step up; the input is passed on beside the result."""

    def __init__(self, outer: int, width: int, inner: Level | None, *, norm: Norm, dropout: float) -> None:
        super().__init__()
        bias = has_bias(norm)
        down: list[nn.Module] = [nn.LeakyReLU(0.2), nn.Conv2d(outer, width, 4, 2, 1, bias=bias)]
        if inner is not None:
            down += [norm_layer(norm, width), inner]
        into = width if inner is None else 2 * width
        up = [nn.ReLU(), nn.ConvTranspose2d(into, outer, 4, 2, 1, bias=bias), norm_layer(norm, outer)]
        self.model = nn.Sequential(*down, *up, *([nn.Dropout(dropout)] if dropout else []))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, 2C, h, w)."""
        return torch.cat([x, self.model(x)], 1)
