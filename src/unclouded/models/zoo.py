"""The networks by name: one literal table, from which `unclouded models` and the documentation are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, NamedTuple

from unclouded.errors import InputUnsupported


@dataclass(frozen=True, kw_only=True)
class Network:
    """One row: where class and Config live ("module:Name" below unclouded.models), its preset, its source, what was assumed."""

    remover: str
    config: str
    summary: str
    source: str
    preset: Mapping[str, Any] = field(default_factory=dict)
    assumed: str = ""  # what the paper leaves open and was decided here
    weights: str = ""  # where its authors publish weights, and under which licence
    dead: tuple[str, ...] = ()  # beginnings of parameter names that the published network never uses


NETWORKS: dict[str, Network] = {
    "dsen2cr": Network(
        remover="dsen2cr:DSen2CR", config="dsen2cr:Config",
        summary="deep residual network on image and radar",
        source="Meraner et al. 2020, Fig. 3",
    ),
    "dsen2cr-optical": Network(
        remover="dsen2cr:DSen2CR", config="dsen2cr:Config", preset={"sar": False},
        summary="the same without radar",
        source="Meraner et al. 2020, section 4.2",
    ),
    "pix2pix": Network(
        remover="pix2pix:Pix2Pix", config="pix2pix:Config",
        summary="U-Net against PatchGAN, on image and radar",
        source="Meraner et al. 2020, section 4.3; Isola et al. 2017",
        assumed="8 levels, width 64, dropout and discriminator of Isola et al. 2017",
    ),
}  # fmt: skip


def network(name: str) -> Network:
    """A row. Raises InputUnsupported with the names there are."""
    if name not in NETWORKS:
        raise InputUnsupported(f"There is no network '{name}'.", why=f"networks are: {', '.join(NETWORKS)}.")
    return NETWORKS[name]


def network_class(name: str) -> tuple[type[Any], type[Any]]:
    """The remover's class and its Config's class."""
    row = network(name)
    return _named(row.remover), _named(row.config)


def published_config(name: str) -> Any:
    """The Config of the published size."""
    return network_class(name)[1](**network(name).preset)


def tiny_config(name: str) -> Any:
    """The Config for tests, with the row's preset."""
    from dataclasses import replace

    return replace(network_class(name)[1].tiny(), **network(name).preset)


class Size(NamedTuple):
    """Learned numbers, and multiply-adds of convolutions and matrix products for one patch, in units of 1e9."""

    parameters: int
    gmac: float


def size(name: str, side: int = 256, config: Any = None) -> Size:
    """Counted on the meta device: nothing is allocated, nothing is computed."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from unclouded.bands import S1
    from unclouded.models.single_date import Frame

    settings = published_config(name) if config is None else config
    with torch.device("meta"), torch.no_grad():
        remover = network_class(name)[0](settings)
        frame = Frame(
            s2=torch.empty(1, len(remover.needs.bands), side, side),
            s1=torch.empty(1, len(S1), side, side),
            cloud=torch.empty(1, 1, side, side),
        )
        with FlopCounterMode(display=False) as counter:
            remover.restore(frame)
    return Size(sum(p.numel() for p in remover.network.parameters()), counter.get_total_flops() / 2e9)


def _named(path: str) -> Any:
    module, name = path.split(":")
    return getattr(import_module(f"unclouded.models.{module}"), name)
