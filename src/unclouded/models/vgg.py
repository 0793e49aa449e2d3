"""An encoder like VGG16 for images of any number of bands: features for perceptual losses.

Layers as K. Simonyan, A. Zisserman: Very deep convolutional networks for large-scale image recognition (ICLR 2015),
configuration D, up to the fourth block. Ebel et al. 2022 train one on 13 bands and do not publish it.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from unclouded.errors import InputCorrupt, InputMissing

BLOCKS = ((1, 2), (2, 2), (4, 3), (8, 3))  # width in units of the first, convolutions
WIDTH = 64
RANDOM_WIDTH = 16  # random features need no more to tell textures apart


class Encoder(nn.Module):
    """(N, C, H, W) -> features after each block: (N, width, H, W), (N, 2 width, H/2, W/2), ..."""

    def __init__(self, bands: int, *, width: int = WIDTH, blocks: int = len(BLOCKS)) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        c = bands
        for i, (times, convolutions) in enumerate(BLOCKS[:blocks]):
            layers: list[nn.Module] = [nn.MaxPool2d(2)] if i else []
            for _ in range(convolutions):
                layers += [nn.Conv2d(c, times * width, 3, padding=1), nn.ReLU()]
                c = times * width
            self.blocks.append(nn.Sequential(*layers))

    def forward(self, x: Tensor) -> list[Tensor]:
        """See the class."""
        found: list[Tensor] = []
        for block in self.blocks:
            if found and min(x.shape[-2:]) < 2:
                break
            x = block(x)
            found.append(x)
        return found


def encoder(kind: str, bands: int, seed: int) -> Encoder | None:
    """`off`: none; `random`: fixed features drawn from `seed`, He normal; else a safetensors file of an `Encoder` of width 64.

    Raises InputMissing, InputCorrupt, InputUnsupported for a file.
    """
    if kind == "off":
        return None
    with torch.random.fork_rng(devices=[]):
        found = Encoder(bands, width=RANDOM_WIDTH, blocks=3) if kind == "random" else Encoder(bands)
    if kind == "random":
        draw = torch.Generator().manual_seed(seed)
        for module in found.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=draw)
                nn.init.zeros_(module.bias)
    else:
        _load(found, Path(kind))
    return found.requires_grad_(False)


def _load(network: Encoder, path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from unclouded.models.weights import fit

    if not path.is_file():
        raise InputMissing("There is no such file of encoder weights.", where=path, do="use --set perceptual=off or random.")
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputCorrupt("This is not a safetensors file, or it is damaged.", where=path, why=str(error)) from error
    fit(network, state)
