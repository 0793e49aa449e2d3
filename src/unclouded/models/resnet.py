"""The CycleGAN ResNet generator (Zhu et al. 2017): two steps down, residual blocks, two steps up.

Parameter names are those of the public CycleGAN code, as used by SEN12MS-CR-TS.
"""

from __future__ import annotations

from torch import Tensor, nn

from unclouded.models.norms import Norm, has_bias, norm_layer


class ResnetGenerator(nn.Module):
    """(B, c_in, H, W) -> (B, c_out, H, W), in [-1, 1] with `squash`; H and W multiples of 4 and at least 16."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        *,
        width: int = 64,
        blocks: int = 9,
        norm: Norm = "instance",
        dropout: bool = False,
        squash: bool = True,
    ) -> None:
        super().__init__()
        bias, g = has_bias(norm), width
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(c_in, g, 7, bias=bias), norm_layer(norm, g), nn.ReLU()]
        for c in (g, 2 * g):
            layers += [nn.Conv2d(c, 2 * c, 3, 2, 1, bias=bias), norm_layer(norm, 2 * c), nn.ReLU()]
        layers += [Block(4 * g, norm=norm, dropout=dropout) for _ in range(blocks)]
        for c in (4 * g, 2 * g):
            layers += [nn.ConvTranspose2d(c, c // 2, 3, 2, 1, 1, bias=bias), norm_layer(norm, c // 2), nn.ReLU()]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(g, c_out, 7)]
        self.model = nn.Sequential(*layers, *([nn.Tanh()] if squash else []))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        out: Tensor = self.model(x)
        return out


class Block(nn.Module):
    """u + conv(relu(conv(u))), each convolution normalised, borders mirrored. `relu_after`: the form of SEN12MS-CR-TS."""

    def __init__(self, channels: int, *, norm: Norm, dropout: bool = False, relu_after: bool = False) -> None:
        super().__init__()
        bias = has_bias(norm)
        half = [nn.Dropout(0.5)] if dropout else []
        last = [nn.ReLU()] if relu_after else []
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3, bias=bias), norm_layer(norm, channels), nn.ReLU(), *half,
            nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3, bias=bias), norm_layer(norm, channels), *last,
        )  # fmt: skip

    def forward(self, u: Tensor) -> Tensor:
        """(B, C, h, w) -> the same."""
        out: Tensor = u + self.conv_block(u)
        return out
