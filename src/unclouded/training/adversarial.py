"""The second task: generators against discriminators, by manual optimisation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unclouded.datasets.lattice import key
from unclouded.losses import discriminator_loss, gan_loss
from unclouded.models import weights
from unclouded.models.cyclegan_cloudmap import ImagePool
from unclouded.models.single_date import SingleDate
from unclouded.training.data import Shown
from unclouded.training.games import CycleGame, Duel, Game, PairedGame
from unclouded.training.recipe import Recipe
from unclouded.training.task import Task


class Pool(ImagePool):
    """An image pool that can be saved."""

    def tensors(self) -> dict[str, Tensor]:
        """The images and the state of the draw."""
        return {"draw": self._draw.get_state()} | {f"image{n}": image for n, image in enumerate(self._images)}

    def restore(self, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        """The inverse of `tensors`."""
        self._draw.set_state(tensors["draw"])
        self._images = [tensors[f"image{n}"].to(device) for n in range(len(tensors) - 1)]


class Adversarial(Task):
    """A game of generators and discriminators: first the generators' step, then the discriminators', on the same images."""

    def __init__(self, recipe: Recipe, folder: Path, remover: SingleDate) -> None:
        super().__init__(recipe, folder)
        loss, seed = recipe.loss, recipe.train.seed
        self.remover = remover
        cycle = recipe.train.task == "cycle"
        self.game: Game = (
            CycleGame(remover, loss, seed) if cycle else PairedGame(recipe.model.name, remover, loss, seed)
        )  # fmt: skip
        self.pools = {name: Pool(loss.pool, seed=key(seed, name)) for name in self.game.discriminators}
        self.look_with(len(remover.config.bands))

    @property
    def network(self) -> nn.Module:
        """The generator that restores images."""
        return self.remover.network

    def groups(self) -> list[nn.Module]:
        """Generators, discriminators."""
        return [self.game.generators, self.game.discriminators]

    def step(self, shown: Shown) -> dict[str, Tensor]:
        """See Task."""
        batch = shown.batch.to(self.device)
        with self.arithmetic():
            played = self.game.play(shown, batch, self.eye)
            self.game.discriminators.requires_grad_(False)
            scored = [gan_loss(self._scores(duel, duel.generated), real=True, kind=self._kind) for duel in played.duels]
        terms = played.terms | {"gan": self.recipe.loss.gan * torch.stack(scored).sum()}
        self.update(0, terms, shown.names)
        self.game.discriminators.requires_grad_(True)
        with self.arithmetic():
            lost = {f"discriminator {duel.discriminator}": self._lost(duel) for duel in played.duels}
        self.update(1, lost, shown.names)
        return terms | lost

    @property
    def _kind(self) -> Any:
        return self.recipe.loss.gan_kind

    def _scores(self, duel: Duel, images: Tensor) -> Tensor:
        scores: Tensor = self.game.discriminators[duel.discriminator](images)
        return scores.float()

    def _lost(self, duel: Duel) -> Tensor:
        generated = self.pools[duel.discriminator].query(duel.generated.detach())
        return discriminator_loss(self._scores(duel, duel.real.detach()), self._scores(duel, generated), self._kind)

    def tensors(self) -> dict[str, Tensor]:
        """See Task; and the pools."""
        pools = {f"pool {name}.{k}": v for name, pool in self.pools.items() for k, v in pool.tensors().items()}
        return super().tensors() | pools

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """See Task."""
        super().restore(tensors)
        for name, pool in self.pools.items():
            start = f"pool {name}."
            pool.restore({k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}, self.device)

    def export(self, folder: Path, notes: Mapping[str, Any]) -> Path:
        """weights.safetensors: the generator that restores images."""
        path = folder / "weights.safetensors"
        with self.as_saved():
            weights.save(path, self.recipe.model.name, self.remover, weights.Weights(**notes))
        return path
