"""The PatchGAN discriminator (Isola et al. 2017): a score per overlapping patch, 70 px wide with three strided layers.

Parameter names are those of the public pix2pix code. Scores are logits; no sigmoid.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from unclouded.models.norms import Norm, has_bias, norm_layer


class PatchGAN(nn.Module):
    """(B, channels, H, W) -> (B, 1, h, w): `layers` strided convolutions, one more of stride 1, and the score.

    `spectral`: every convolution is normalised by its largest singular value (Miyato et al. 2018; Ebel et al. 2020).
    """

    def __init__(
        self, channels: int, *, width: int = 64, layers: int = 3, norm: Norm = "batch", spectral: bool = False
    ) -> None:
        super().__init__()
        widths = [width * min(2**k, 8) for k in range(layers + 1)]
        found: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for k in range(1, layers + 1):
            stride = 2 if k < layers else 1
            found += [
                nn.Conv2d(widths[k - 1], widths[k], 4, stride, 1, bias=has_bias(norm)),
                norm_layer(norm, widths[k]),
                nn.LeakyReLU(0.2),
            ]
        found.append(nn.Conv2d(widths[-1], 1, 4, 1, 1))
        self.model = nn.Sequential(*[spectral_norm(m) if spectral and isinstance(m, nn.Conv2d) else m for m in found])

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        out: Tensor = self.model(x)
        return out
