"""The networks by name: one literal table, from which `unclouded models` and the documentation are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from unclouded.bands import L1C
from unclouded.errors import InputUnsupported

if TYPE_CHECKING:
    from unclouded.models.needs import Needs

RGB = ("B04", "B03", "B02")


@dataclass(frozen=True, kw_only=True)
class Network:
    """One row: where class and Config live ("module:Name" below unclouded.models), its preset, its source, what was assumed.

    `held`: MiB that a process takes at most beyond what it reads, to load the published size and restore one tile of it on a
    processor; `held_per_date`: more of them for each date of the series (benchmarks/activations.py).
    """

    remover: str
    config: str
    summary: str
    source: str
    preset: Mapping[str, Any] = field(default_factory=dict)
    assumed: str = ""  # what the paper leaves open and was decided here
    held: int
    held_per_date: int = 0


SINGLE_DATE: dict[str, Network] = {
    "dsen2cr": Network(
        remover="dsen2cr:DSen2CR", config="dsen2cr:Config", held=361,
        summary="deep residual network on image and radar",
        source="Meraner et al. 2020, Fig. 3",
    ),
    "dsen2cr-optical": Network(
        remover="dsen2cr:DSen2CR", config="dsen2cr:Config", held=356, preset={"sar": False},
        summary="the same without radar",
        source="Meraner et al. 2020, section 4.2",
    ),
    "pix2pix": Network(
        remover="pix2pix:Pix2Pix", config="pix2pix:Config", held=419,
        summary="U-Net against PatchGAN, on image and radar",
        source="Meraner et al. 2020, section 4.3; Isola et al. 2017",
        assumed="8 levels, width 64, dropout and discriminator of Isola et al. 2017",
    ),
    "glfcr": Network(
        remover="glfcr:GLFCR", config="glfcr:Config", held=810, preset={"variant": "paper"},
        summary="windows guided by radar, dynamic filters; as the paper says",
        source="Xu et al. 2022, sections 4 and 5.1",
        assumed="first convolution 3x3, local fusion 1x1, Swin's norm and MLP, softmax over the gate's channels",
    ),
    "glfcr-as-published": Network(
        remover="glfcr:GLFCR", config="glfcr:Config", held=346, preset={"variant": "as_published"},
        summary="the same as the released code has it, for its checkpoints",
        source="Xu et al. 2022; github.com/xufangchn/GLF-CR",
    ),
    "spagan": Network(
        remover="spagan:SpAGAN", config="spagan:Config", held=208,
        summary="spatial attention on red, green, blue, without radar",
        source="Pan 2020",
    ),
    "spagan-13": Network(
        remover="spagan:SpAGAN", config="spagan:Config", held=212, preset={"bands": L1C},
        summary="the same on all bands",
        source="Pan 2020; Xu et al. 2022, Table 1",
    ),
    "drib": Network(
        remover="drib:TwoGANs", config="drib:Config", held=413,
        summary="radar to optical, then removal, dilated residual inception blocks",
        source="Darbaghshahi et al. 2021, Tables 1 and 2",
        assumed="padding, dropout, skips and the end of a block (see the file's head)",
    ),
    "drib-sar2opt": Network(
        remover="drib:Translator", config="drib:TranslatorConfig", held=208,
        summary="its first stage alone: red, green, blue from radar",
        source="Darbaghshahi et al. 2021, Table 3",
        assumed="as drib",
    ),
    "cyclegan-cloudmap": Network(
        remover="cyclegan_cloudmap:CloudMapGAN", config="cyclegan_cloudmap:Config", held=145,
        summary="cycle-consistent, conditioned on the cloud map",
        source="Ebel et al. 2020, section II",
        assumed="layers of CycleGAN (the body of Table I is not at hand), artanh kept within 1 - 1e-6",
    ),
    "cyclegan-cloudmap-13": Network(
        remover="cyclegan_cloudmap:CloudMapGAN", config="cyclegan_cloudmap:Config", held=167,
        preset={"bands": L1C, "radar_mean": False},
        summary="the same on all bands",
        source="Ebel et al. 2020, section II",
        assumed="as cyclegan-cloudmap; VV and VH without their mean",
    ),
    "sar2opt": Network(
        remover="sar2opt:SAR2OPT", config="sar2opt:Config", held=418,
        summary="optical from radar alone, by a U-Net",
        source="Bermudez et al. 2018; Xu et al. 2022, Table 1",
        assumed="generator and discriminator of Isola et al. 2017",
    ),
    "sar2opt-rgb": Network(
        remover="sar2opt:SAR2OPT", config="sar2opt:Config", held=418, preset={"bands": RGB, "radar": "VV"},
        summary="red, green, blue from VV",
        source="Bermudez et al. 2018; Darbaghshahi et al. 2021, Table 3",
        assumed="as sar2opt",
    ),
    "sar-opt-cgan": Network(
        remover="sar_opt_cgan:SAROptCGAN", config="sar_opt_cgan:Config", held=418,
        summary="U-Net on image and radar",
        source="Grohnfeldt et al. 2018; Xu et al. 2022, Table 1",
        assumed="generator and discriminator of Isola et al. 2017, ranges of Xu et al. 2022",
    ),
    "simulation-fusion": Network(
        remover="simulation_fusion:SimulationFusion", config="simulation_fusion:Config", held=234,
        summary="optical simulated from radar, then fused",
        source="Gao et al. 2020; Xu et al. 2022, Table 1",
        assumed="width, norm, discriminator and ranges of the random changes (see the file's head)",
    ),
}  # fmt: skip

SERIES: dict[str, Network] = {
    "resnet-mono": Network(
        remover="seq2point:MonoResNet", config="seq2point:MonoConfig", held=361,
        summary="the single-date baseline that the trunk of seq2point comes from",
        source="Ebel et al. 2022, Table I",
    ),
    "seq2point": Network(
        remover="seq2point:Seq2Point", config="seq2point:Config", held=1460,
        summary="residual trunks per date, then convolutions over time",
        source="Ebel et al. 2022, section III-A",
    ),
    "stgan": Network(
        remover="stgan:STGAN", config="stgan:Config", held=1775,
        summary="features of three dates joined in pairs",
        source="Sarukkai et al. 2020; Ebel et al. 2022, Table I",
    ),
    "uncrtaints": Network(
        remover="uncrtaints:UnCRtainTS", config="uncrtaints:Config", held=40, held_per_date=335,
        summary="several dates weighted by attention, with a variance per pixel",
        source="Ebel et al. 2023",
    ),
    "utilise": Network(
        remover="utilise:UTilise", config="utilise:Config", held=1740, held_per_date=10,  # less below its window of ten dates
        summary="a series in, the whole series out",
        source="Stucker et al. 2023",
    ),
}  # fmt: skip

NETWORKS: dict[str, Network] = SINGLE_DATE | SERIES


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


@cache
def size(name: str, side: int = 256, config: Any = None) -> Size:
    """Counted on the meta device: nothing is allocated, nothing is computed."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    settings = published_config(name) if config is None else config
    with torch.device("meta"), torch.no_grad():
        remover = network_class(name)[0](settings)
        frame = remover.example(side)
        with FlopCounterMode(display=False) as counter:
            remover.restore(frame)
    return Size(sum(p.numel() for p in remover.network.parameters()), counter.get_total_flops() / 2e9)


def _named(path: str) -> Any:
    module, name = path.split(":")
    return getattr(import_module(f"unclouded.models.{module}"), name)


def needs_of(name: str) -> Needs:
    """What a network needs at its published size, without building it in memory."""
    import torch

    with torch.device("meta"):
        needs: Needs = network_class(name)[0](published_config(name)).needs
    return needs
