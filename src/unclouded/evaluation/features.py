"""Features of whole images by a network that the user gives: the space in which precision and recall of a set are measured.

Ebel et al. 2020 (App. B) take the second fully connected layer of a VGG16 and find other networks "virtually identical".
Any plain VGG fits: a safetensors file, or a run of the recipe `vgg16-landcover`, whose parameters have the usual names
(`features.0.weight`, ...). With fully connected layers (`classifier.0`, `classifier.3`) the second of them is taken, without
them the mean of the last feature maps. Images are reflectance in [0, 1].
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unclouded.errors import InputCorrupt, InputMissing, InputUnsupported

if TYPE_CHECKING:
    from torch import Tensor

Vector = NDArray[np.float32]
FILE = "vgg16.safetensors"  # in the folder of a run of vgg16-landcover
CONVOLUTION = re.compile(r"features\.(\d+)\.weight")
RGB = ("B04", "B03", "B02")
POOLED = 7  # what the first fully connected layer sees, pixels on a side
FULLY_CONNECTED = ("classifier.0", "classifier.3")


@dataclass(frozen=True)
class FeatureNetwork:
    """A frozen network. `layer` and `size` say what a feature is; `digest` is the sha256 of the weights file."""

    path: str
    digest: str
    channels: int
    layer: str
    size: int
    module: Any = field(repr=False, compare=False)

    def told(self) -> dict[str, Any]:
        """What results.json says of it."""
        return {"network": self.path, "sha256": self.digest, "layer": self.layer, "features": self.size}

    def of(self, image: NDArray[np.floating], bands: tuple[str, ...]) -> Vector:
        """(C, H, W) reflectance -> (size,). Without value (NaN) is 0. Raises InputUnsupported where the bands do not fit."""
        import torch

        chosen = self._chosen(bands)
        shown = np.clip(np.nan_to_num(image[chosen].astype(np.float32), nan=0.0), 0, 1)
        with torch.inference_mode():
            found: Vector = self.module(torch.from_numpy(shown)[None])[0].numpy()
        return found

    def _chosen(self, bands: tuple[str, ...]) -> list[int]:
        if len(bands) == self.channels:
            return list(range(len(bands)))
        if self.channels == 3 and set(RGB) <= set(bands):
            return [bands.index(b) for b in RGB]
        raise InputUnsupported(
            f"The feature network takes {self.channels} bands; the images have {len(bands)}.", where=self.path,
            do="give a network of that many bands, or of three for red, green and blue.",
        )  # fmt: skip


def load(path: str | Path) -> FeatureNetwork:
    """A feature network from a safetensors file, or from the folder of a run that has one.

    Raises InputMissing, InputCorrupt (no safetensors), InputUnsupported (no plain VGG).
    """
    from safetensors import SafetensorError
    from safetensors.torch import load as parse

    given = Path(path)
    file = given / FILE if given.is_dir() else given
    if not file.is_file():
        raise InputMissing(
            "There are no weights of a feature network here.", where=file,
            do="give a safetensors file of a VGG, or the run of `unclouded train vgg16-landcover --out RUN`.",
        )  # fmt: skip
    content = file.read_bytes()
    try:
        state: Mapping[str, Tensor] = parse(content)
    except (SafetensorError, ValueError) as error:
        raise InputCorrupt("This is not a safetensors file, or it is damaged.", where=file, why=str(error)) from error
    module, layer, size = _network(state, file)
    first = state["features.0.weight"]
    return FeatureNetwork(str(path), hashlib.sha256(content).hexdigest(), int(first.shape[1]), layer, size, module)


def _network(state: Mapping[str, Tensor], file: Path) -> tuple[Any, str, int]:
    """The network, the name of the layer that is taken, and its size."""
    import torch
    from torch import nn

    with torch.random.fork_rng(devices=[]):
        layers = _convolutions(state, file)
        width = next(layer.out_channels for layer in reversed(layers) if isinstance(layer, nn.Conv2d))
        if not all(f"{name}.weight" in state for name in FULLY_CONNECTED):
            tail = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
            return nn.Sequential(*layers, *tail).eval().requires_grad_(False), "mean of the last feature maps", width
        first, second = (_linear(state, name, file) for name in FULLY_CONNECTED)
        if first.in_features != width * POOLED**2 or second.in_features != first.out_features:
            raise InputUnsupported("The fully connected layers do not fit the convolutions.", where=file)
        tail = [nn.AdaptiveAvgPool2d(POOLED), nn.Flatten(), first, nn.ReLU(), second, nn.ReLU()]
    network = nn.Sequential(*layers, *tail).eval().requires_grad_(False)
    return network, "second fully connected layer", second.out_features


def _convolutions(state: Mapping[str, Tensor], file: Path) -> list[Any]:
    """Convolution and ReLU take two numbers of a VGG's list of layers, a pooling one more: the gaps tell where they are."""
    from torch import nn

    numbers = sorted(int(m[1]) for m in (CONVOLUTION.fullmatch(key) for key in state) if m)
    following = [*numbers[1:], numbers[-1] + 3] if numbers else []
    steps = [b - a for a, b in zip(numbers, following, strict=True)]
    if not numbers or numbers[0] != 0 or not set(steps) <= {2, 3}:
        raise InputUnsupported("These are not the weights of a plain VGG.", where=file, why="wanted features.0.weight, ...")
    layers: list[Any] = []
    channels = int(state["features.0.weight"].shape[1])
    for number, step in zip(numbers, steps, strict=True):
        weight, bias = state[f"features.{number}.weight"], state.get(f"features.{number}.bias")
        if tuple(weight.shape[1:]) != (channels, 3, 3) or bias is None or tuple(bias.shape) != (weight.shape[0],):
            raise InputUnsupported(f"The layer features.{number} is not one of a plain VGG.", where=file)
        layer = nn.Conv2d(channels, weight.shape[0], 3, padding=1)
        layer.load_state_dict({"weight": weight.float(), "bias": bias.float()})
        channels = int(weight.shape[0])
        layers += [layer, nn.ReLU(), *([nn.MaxPool2d(2, ceil_mode=True)] if step == 3 else [])]
    return layers


def _linear(state: Mapping[str, Tensor], name: str, file: Path) -> Any:
    from torch import nn

    weight, bias = state[f"{name}.weight"], state.get(f"{name}.bias")
    if weight.ndim != 2 or bias is None or tuple(bias.shape) != (weight.shape[0],):
        raise InputUnsupported(f"The layer {name} is not one of a plain VGG.", where=file)
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.load_state_dict({"weight": weight.float(), "bias": bias.float()})
    return layer


def packed(truth: Vector, prediction: Vector) -> str:
    """Two vectors as text, for a line of JSON."""
    return base64.b64encode(np.stack([truth, prediction]).astype("<f4").tobytes()).decode()


def unpacked(text: str) -> NDArray[np.float32]:
    """(2, size): truth and prediction."""
    return np.frombuffer(base64.b64decode(text), "<f4").reshape(2, -1)
