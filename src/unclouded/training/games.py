"""What is played in adversarial training: which images the generators make of a batch, and what each discriminator is shown.

`PairedGame`: a generator whose image is compared with the truth, and one discriminator that also sees what the generator saw
(Isola et al. 2017). `CycleGame`: two generators between radar and optical images (Ebel et al. 2020, section II).
Everything is in the networks' range.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from unclouded import losses
from unclouded.errors import UsageError
from unclouded.models import drib
from unclouded.models.cyclegan_cloudmap import CloudMapGAN, discriminators, to_radar
from unclouded.models.scaling import unscale_optical
from unclouded.models.several_dates import SeveralDates, frames_of
from unclouded.models.single_date import Frame, SingleDate, build, mirror_to, target_frame
from unclouded.models.start import gan_normal
from unclouded.sample import Batch
from unclouded.training.data import Shown
from unclouded.training.recipe import Loss
from unclouded.training.terms import look
from unclouded.training.vgg16 import VGG16

Inputs = tuple[Tensor, ...]


class Duel(NamedTuple):
    """What one discriminator compares, with what it sees beside the image: (B, channels, H, W) each."""

    discriminator: str
    real: Tensor
    generated: Tensor


class Round(NamedTuple):
    """One batch played: the generators' other terms, and the duels."""

    terms: dict[str, Tensor]
    duels: list[Duel]


class Turn(NamedTuple):
    """What the generator was given and made."""

    config: Any
    inputs: Inputs
    output: Any


class Rival(NamedTuple):
    """A paired discriminator: how it is built from a Config, and what it sees beside the image."""

    build: Callable[[Any], nn.Module]
    beside: Callable[[Turn], Tensor]


class Halves(nn.Module):
    """A discriminator of two arguments, given both in one stack."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2C, H, W) -> scores."""
        out: Tensor = self.inner(*x.chunk(2, 1))
        return out


def _of(module: str) -> Callable[[Any], nn.Module]:
    def made(config: Any) -> nn.Module:
        found: nn.Module = import_module(f"unclouded.models.{module}").discriminator(config)
        return found

    return made


def _spagan(config: Any) -> nn.Module:
    from unclouded.models.spagan import Discriminator

    return Halves(Discriminator(config))


RIVALS: dict[str, Rival] = {
    "pix2pix": Rival(_of("pix2pix"), lambda turn: torch.cat([*turn.inputs[1:], turn.inputs[0]], 1)),
    "sar2opt": Rival(_of("sar2opt"), lambda turn: turn.inputs[0]),
    "sar-opt-cgan": Rival(_of("sar_opt_cgan"), lambda turn: turn.inputs[0][:, len(turn.config.bands) :]),
    "simulation-fusion": Rival(
        _of("simulation_fusion"), lambda turn: torch.cat([turn.output[0].detach(), turn.inputs[1], turn.inputs[0]], 1)
    ),
    "drib-sar2opt": Rival(
        lambda config: drib.Discriminator(drib.RADAR[config.radar] + len(config.bands), config.width),
        lambda turn: turn.inputs[0],
    ),
    "drib": Rival(
        lambda config: drib.discriminators(config)[1],
        lambda turn: torch.cat([turn.inputs[0], turn.output[0].detach()], 1),
    ),
    "spagan": Rival(_spagan, lambda turn: turn.inputs[0]),
    "stgan": Rival(_of("stgan"), lambda turn: turn.inputs[0].flatten(1, 2)),
}


class Game(nn.Module):
    """Generators, discriminators, and how a batch is played."""

    generators: nn.ModuleDict
    discriminators: nn.ModuleDict

    @abstractmethod
    def play(self, shown: Shown, batch: Batch, eye: VGG16 | None) -> Round:
        """Generate, and compare."""


def _frame(remover: SingleDate, batch: Batch) -> Frame:
    sar = remover.needs.sar != "unused"
    frame = frames_of(remover.chosen(batch), sar=sar) if isinstance(remover, SeveralDates) else target_frame(batch)
    return frame.mirrored(remover.needs.multiple_of, remover.smallest)


def _truth(remover: SingleDate, batch: Batch, like: Tensor) -> tuple[Tensor, Tensor]:
    """The target in the network's range and its validity, mirrored up to the size of `like`; 0 where not valid."""
    assert batch.target is not None, "training needs a target"
    h, w = like.shape[-2:]
    valid = torch.ones_like(batch.target[:, 0], dtype=torch.bool) if batch.target_valid is None else batch.target_valid
    target = remover.optical(torch.where(valid[:, None], batch.target, 0.0))
    return mirror_to(target, h, w), mirror_to(valid, h, w)


class PairedGame(Game):
    """One generator against one discriminator, with the truth at hand. Raises UsageError for a model without one."""

    def __init__(self, name: str, remover: SingleDate, loss: Loss, seed: int) -> None:
        super().__init__()
        if name not in RIVALS:
            raise UsageError(f"'{name}' has no discriminator.", why=f"these have: {', '.join(RIVALS)}.")
        self.rival, self.remover, self.loss = RIVALS[name], remover, loss
        rival = build(lambda: self.rival.build(remover.config))
        gan_normal(rival, seed + 1)
        self.generators = nn.ModuleDict({"image": remover.network})
        self.discriminators = nn.ModuleDict({"image": rival})

    def play(self, shown: Shown, batch: Batch, eye: VGG16 | None) -> Round:
        """See Game."""
        seen = self.remover.inputs(_frame(self.remover, batch))
        made = self.remover.network(*seen)
        image = self.remover.image(made).float()
        target, valid = _truth(self.remover, batch, image)
        beside = self.rival.beside(Turn(self.remover.config, seen, made))
        real = torch.where(valid[:, None], target, image.detach())
        duel = Duel("image", torch.cat([beside, real], 1), torch.cat([beside, image], 1))
        return Round(self._terms(seen, made, image, target, valid, eye), [duel])

    def _terms(
        self, seen: Inputs, made: Any, image: Tensor, target: Tensor, valid: Tensor, eye: VGG16 | None
    ) -> dict[str, Tensor]:
        loss, span = self.loss, self.remover.optical_range
        found: dict[str, Tensor] = {}
        if loss.l1:
            found["l1"] = loss.l1 * losses.l1(image, target, valid)
        if loss.ssim:
            found["ssim"] = loss.ssim * losses.ssim_loss(image, target, span[1] - span[0], valid)
        if loss.simulation:
            found["simulation"] = loss.simulation * losses.l1(made[0].float(), target, valid)
        if loss.attention:
            wanted = losses.brighter(target, seen[0])
            found["attention"] = loss.attention * losses.l2(made[0].float(), wanted, valid)
        return found | look(loss, unscale_optical(image, *span), unscale_optical(target, *span), valid, eye)


class CycleGame(Game):
    """Radar to optical and back; the discriminator of S2 is shown clear images of any place, with the cloud map.

    Identity terms need as many radar channels as bands and are left out otherwise. Samples whose truth is of the same place
    also have L1, perceptual and style terms, if the recipe gives them a weight.
    """

    def __init__(self, remover: SingleDate, loss: Loss, seed: int) -> None:
        super().__init__()
        if not isinstance(remover, CloudMapGAN):
            raise UsageError("Only cyclegan-cloudmap is trained in a cycle.", do="use train.task = 'paired' or 'regression'.")
        self.remover, self.loss, config = remover, loss, remover.config
        back = build(lambda: to_radar(config))
        self.same_channels = len(config.bands) == 2 + config.radar_mean
        self.generators = nn.ModuleDict({"optical": remover.network, "radar": back})
        with torch.random.fork_rng(devices=[]):
            of_s1, of_s2 = discriminators(config)
        self.discriminators = nn.ModuleDict({"s1": of_s1, "s2": of_s2})
        gan_normal(back, seed + 1)
        for n, rival in enumerate(self.discriminators.values()):
            _normal_under_spectral(rival, seed + 2 + n)

    def play(self, shown: Shown, batch: Batch, eye: VGG16 | None) -> Round:
        """See Game."""
        s1, s2, cloud = self.remover.inputs(_frame(self.remover, batch))
        optical, back, loss = self.remover.network, self.generators["radar"], self.loss
        clear, predicted = optical(s1, s2, cloud)
        radar = back(s2)
        terms = {
            "cycle": loss.cycle * losses.cloud_map_cycle(s1, s2, back(clear), optical(radar, s2, cloud)[0], cloud),
            "cloud map": loss.cloud_map * losses.cloud_map_regression(cloud, predicted.float()),
        }
        if self.same_channels and loss.identity:
            same = losses.cloud_map_identity(s1, s2, back(s1), optical(s2, s2, cloud)[0], cloud)
            terms["identity"] = loss.identity * same
        target, valid = _truth(self.remover, batch, clear)
        real = torch.where(valid[:, None], target, clear.detach())
        terms |= self._paired(shown, clear, target, valid, eye)
        duels = [Duel("s1", s1, radar), Duel("s2", torch.cat([real, cloud], 1), torch.cat([clear, cloud], 1))]
        return Round(terms, duels)

    def _paired(self, shown: Shown, clear: Tensor, target: Tensor, valid: Tensor, eye: VGG16 | None) -> dict[str, Tensor]:
        known = torch.tensor(shown.paired, device=clear.device)
        if not bool(known.any()):
            return {}
        image, truth, valid = clear[known].float(), target[known], valid[known]
        terms = {"l1": self.loss.l1 * losses.l1(image, truth, valid)} if self.loss.l1 else {}
        span = self.remover.optical_range
        return terms | look(self.loss, unscale_optical(image, *span), unscale_optical(truth, *span), valid, eye)


def _normal_under_spectral(network: nn.Module, seed: int) -> None:
    """N(0, 0.02) in the kernels beneath spectral normalisation, zero biases, from a seed."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in network.named_parameters():
            if name.endswith("bias"):
                value.zero_()
            else:
                value.normal_(0.0, 0.02, generator=draw)
