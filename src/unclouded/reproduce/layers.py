"""Tables that list an architecture: the layers of our networks in the notation of the paper, beside what is printed.

C convolution (or transposed convolution), B batch norm, I instance norm, L leaky ReLU, R ReLU, D dropout, T tanh; in brackets
filters, filter size and stride, and the dilation where the paper prints it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from unclouded.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

LETTERS = {"BatchNorm2d": "B", "InstanceNorm2d": "I", "LeakyReLU": "L", "ReLU": "R", "Dropout": "D", "Tanh": "T"}
CONVOLUTIONS = ("Conv2d", "ConvTranspose2d")


def written(modules: Iterable[nn.Module], *, dilation: bool = False) -> str:
    """The layers of modules in their order, e.g. 'CL(64,4,2) CBL(128,4,2)'."""
    said: list[tuple[str, str]] = []
    for module in (leaf for m in modules for leaf in m.modules() if not list(leaf.children())):
        kind = type(module).__name__
        if kind in CONVOLUTIONS:
            said.append(("C", _numbers(module, dilation)))
        elif kind in LETTERS and said:
            said[-1] = (said[-1][0] + LETTERS[kind], said[-1][1])
    return " ".join(f"{letters}{numbers}" for letters, numbers in said)


def _numbers(module: nn.Module, dilation: bool) -> str:
    kernel, stride, rate = (getattr(module, name)[0] for name in ("kernel_size", "stride", "dilation"))
    numbers = [getattr(module, "out_channels"), kernel, stride, *([rate] if dilation else [])]  # noqa: B009
    return f"({','.join(map(str, numbers))})"


def _drib(part: str) -> str:
    import torch

    from unclouded.models.drib import DRIB, Discriminator, Generator

    with torch.device("meta"):
        generator, discriminator, block = Generator(1, 3), Discriminator(4), DRIB(512)
    g = generator
    return {
        "encoder": lambda: written([g.down1, g.down2, g.down3, g.down4]),
        "decoder": lambda: written([g.up4, g.up3, g.up2, g.up1]),
        "discriminator": lambda: written([discriminator]),
        "branch 1": lambda: written([block.branches[0]], dilation=True),
        "branch 2": lambda: written([block.branches[1]], dilation=True),
        "branch 3": lambda: written([block.branches[2]], dilation=True),
        "join": lambda: written([block.join], dilation=True),
    }[part]()


def _cyclegan(part: str) -> str:
    import torch

    from unclouded.models import zoo

    with torch.device("meta"):
        remover = zoo.network_class("cyclegan-cloudmap")[0](zoo.published_config("cyclegan-cloudmap"))
    found = dict(remover.network.named_children())
    return written([found[part]] if part in found else [remover.network])


NETWORKS: Mapping[str, Callable[[str], str]] = {"drib": _drib, "cyclegan-cloudmap": _cyclegan}


def ours(network: str, part: str) -> str:
    """The layers of a part of one of our networks. Raises UsageError for a network or part without a description."""
    try:
        return NETWORKS[network](part)
    except KeyError as error:
        raise UsageError(f"There is no description of {network}, {part}.", why=f"networks: {', '.join(NETWORKS)}.") from error
