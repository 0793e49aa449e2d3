"""VGG16 for images of any number of bands: the eye behind perceptual and style losses.

K. Simonyan, A. Zisserman: Very deep convolutional networks for large-scale image recognition (ICLR 2015), configuration D.
Layers are numbered as in its usual implementations (`features.0`, `features.2`, ...), so that ImageNet weights that a user
supplies fit as they are. Ebel et al. 2022 train one on 13 bands for land cover and do not publish it: the recipe
`vgg16-landcover` does the same. Images are reflectance in [0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from unclouded.errors import InputCorrupt, InputMissing, InputUnsupported, UsageError
from unclouded.models.weights import fit

BLOCKS = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))  # width in units of the first, convolutions
WIDTH = 64
RANDOM_WIDTH = 16  # random features need no more to tell textures apart
RELUS = (11, 20, 29)  # what is compared (Ebel et al. 2020, III-D2)
FILE = "vgg16.safetensors"


class VGG16(nn.Module):
    """(B, C, H, W) in [0, 1] -> features after RELUS, finest first; layers that the image is too small for are left out."""

    def __init__(self, bands: int, *, classes: int = 0, width: int = WIDTH) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        c = bands
        for times, convolutions in BLOCKS:
            for _ in range(convolutions):
                layers += [nn.Conv2d(c, times * width, 3, padding=1), nn.ReLU()]
                c = times * width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(c, classes) if classes else None

    def forward(self, x: Tensor) -> list[Tensor]:
        """See the class."""
        found = []
        for i, layer in enumerate(self.features):
            if isinstance(layer, nn.MaxPool2d) and (min(x.shape[-2:]) < 2 or i > RELUS[-1]):
                break
            x = layer(x)
            if i in RELUS:
                found.append(x)
        return found

    def classify(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> logits (B, classes): features averaged over the image, and one linear layer."""
        assert self.head is not None
        out: Tensor = self.head(self.features(x).mean((2, 3)))
        return out


def he_normal(network: nn.Module, seed: int) -> None:
    """He normal kernels from a seed, zero biases."""
    draw = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=draw)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def eye(network: str, bands: int, seed: int = 0) -> VGG16:
    """The frozen network of a perceptual loss: a run of `vgg16-landcover`, a safetensors file, or `random` features.

    Raises UsageError where none is named, InputMissing, InputCorrupt, InputUnsupported for a file that does not fit.
    """
    if not network:
        raise UsageError(
            "A perceptual loss needs a network to look with, and none is named.",
            do="run `unclouded train vgg16-landcover` and give --set loss.network=RUN; or loss.network=random, "
            "or loss.perceptual=0 and loss.style=0.",
        )  # fmt: skip
    if network == "random":
        with torch.random.fork_rng(devices=[]):
            found = VGG16(bands, width=RANDOM_WIDTH)
        he_normal(found, seed)
    else:
        found = _stored(Path(network), bands)
    return found.eval().requires_grad_(False)


def _stored(path: Path, bands: int) -> VGG16:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        raise InputMissing("There are no such VGG16 weights.", where=file, do="run `unclouded train vgg16-landcover` first.")
    try:
        state = load_file(file)
    except (SafetensorError, OSError) as error:
        raise InputCorrupt("This is not a safetensors file, or it is damaged.", where=file, why=str(error)) from error
    kept = {k: v for k, v in state.items() if k.startswith("features.")}
    first = kept.get("features.0.weight")
    if first is None or first.shape[1] != bands:
        has = "no layer features.0" if first is None else f"{first.shape[1]} bands"
        raise InputUnsupported(f"These VGG16 weights have {has}; the images have {bands} bands.", where=file)
    with torch.random.fork_rng(devices=[]):
        network = VGG16(bands, width=first.shape[0])
    fit(network, kept)
    return network


def as_encoder(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The first four blocks under the names of models.vgg.Encoder, which learns a series from itself."""
    renamed, at = {}, 0
    for block, (_, convolutions) in enumerate(BLOCKS):
        for n in range(convolutions):
            if block < 4:
                for part in ("weight", "bias"):
                    name = f"blocks.{block}.{(block > 0) + 2 * n}.{part}"
                    renamed[name] = state[f"features.{at + 2 * n}.{part}"]
        at += 2 * convolutions + 1
    return renamed
