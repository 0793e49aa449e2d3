"""What the Lightning tasks share: one step is one call, decided by its number; optimizers, freezing, running means."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from unclouded.datasets.lattice import key
from unclouded.errors import UncloudedError
from unclouded.training import checkpoint, vgg16
from unclouded.training.recipe import Recipe, Train
from unclouded.training.vgg16 import VGG16


class TrainingDiverged(UncloudedError):
    """A loss is not finite; the batch's ids are in the run's folder."""

    code = 24


OPTIMIZERS: dict[str, Any] = {
    "adam": torch.optim.Adam, "nadam": torch.optim.NAdam, "adamw": torch.optim.AdamW,
}  # fmt: skip


def make_optimizer(train: Train, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """The optimizer of a recipe."""
    if train.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=train.rate, momentum=train.betas[0], weight_decay=train.weight_decay)
    made: Optimizer = OPTIMIZERS[train.optimizer](
        parameters, lr=train.rate, betas=train.betas, eps=train.eps, weight_decay=train.weight_decay
    )
    return made


class Task(lightning.LightningModule):
    """One step after another. A subclass states `network`, `step` and `export`.

    Optimisation is manual: a step sets the learning rate of its epoch, and seeds every draw (dropout) from its own number, so
    that nothing but weights, moments and the count of steps must survive a kill.
    """

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.recipe, self.folder = recipe, folder
        self.done = 0  # steps
        self.per_epoch = 1  # steps; set when the data are known
        self.latest: dict[str, float] = {}
        self.loader: Callable[[int, int], Any] | None = None  # (rank, ranks) -> the batches of one of several processes
        self.ema: dict[str, Tensor] = {}
        self._eyes: list[VGG16] = []  # in a list, so that it is neither trained nor saved

    @property
    def network(self) -> nn.Module:
        """What is trained to be used."""
        raise NotImplementedError

    def step(self, shown: Any) -> dict[str, Tensor]:
        """Train on what one step sees; returns the terms. Raises TrainingDiverged."""
        raise NotImplementedError

    def look_with(self, bands: int) -> None:
        """Get the network of the perceptual terms ready, if the recipe has any."""
        loss = self.recipe.loss
        if loss.perceptual or loss.style:
            self._eyes = [vgg16.eye(loss.network, bands)]

    @property
    def eye(self) -> VGG16 | None:
        """The network of the perceptual terms."""
        return self._eyes[0].to(self.device) if self._eyes else None

    def groups(self) -> list[nn.Module]:
        """One per optimizer: the modules that it changes."""
        return [self.network]

    def export(self, folder: Path, notes: Mapping[str, Any]) -> Path:
        """Write the trained network in the form it is used in; returns the file."""
        raise NotImplementedError

    def configure_optimizers(self) -> list[Optimizer]:
        """See LightningModule."""
        return [make_optimizer(self.recipe.train, group.parameters()) for group in self.groups()]

    def train_dataloader(self) -> Any:
        """See LightningModule: asked for once it is known which of how many processes this is."""
        assert self.loader is not None, "a task is given its data before it is fitted"
        return self.loader(self.trainer.global_rank, self.trainer.world_size)

    def training_step(self, shown: Any, index: int) -> None:
        """See LightningModule."""
        train = self.recipe.train
        torch.manual_seed(key(train.seed, "step", self.done, self.global_rank))
        self._freeze()
        factor = train.schedule.factor(self.done // self.per_epoch)
        for optimizer in self.own_optimizers():
            for group in optimizer.param_groups:
                group["lr"] = train.rate * factor
        terms = self.step(shown)
        self.latest = {name: float(value.detach()) for name, value in terms.items()} | {"rate": train.rate * factor}
        self.done += 1
        self._average()

    def own_optimizers(self) -> list[Any]:
        """As a list, however many there are."""
        found = self.optimizers()
        return list(found) if isinstance(found, list) else [found]

    def arithmetic(self) -> torch.autocast:
        """bfloat16 where the recipe says so."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.train.precision == "bf16")

    def update(self, at: int, terms: Mapping[str, Tensor], names: tuple[str, ...]) -> None:
        """One step of optimizer `at` down the sum of terms. Raises TrainingDiverged before anything is changed."""
        total = torch.stack([value.float() for value in terms.values()]).sum()
        if not bool(torch.isfinite(total)):
            self._diverged(terms, names)
        optimizer, group = self.own_optimizers()[at], self.groups()[at]
        optimizer.zero_grad()
        self.manual_backward(total)
        if self.recipe.train.clip:
            torch.nn.utils.clip_grad_norm_(group.parameters(), self.recipe.train.clip)
        optimizer.step()

    def _diverged(self, terms: Mapping[str, Tensor], names: tuple[str, ...]) -> None:
        path = self.folder / "not-finite.json"
        told = {"step": self.done, "samples": names, "terms": {k: str(float(v.detach())) for k, v in terms.items()}}
        checkpoint.write_whole(path, json.dumps(told, indent=2).encode())
        bad = [name for name, value in terms.items() if not bool(torch.isfinite(value))]
        raise TrainingDiverged(
            f"Step {self.done}: the loss is not finite ({', '.join(bad) or 'their sum'}).", where=path,
            why=f"the batch was {', '.join(names)}; the last checkpoint is from before it.",
            do="look at these samples, or train with a lower train.rate or with train.clip=1.",
        )  # fmt: skip

    def _freeze(self) -> None:
        """Set what may change in this step, and what is in training mode (a frozen part keeps its statistics, too)."""
        train = self.recipe.train
        self.train()
        if not train.freeze:
            return
        frozen = train.freeze_steps < 0 or self.done < train.freeze_steps
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(not (frozen and name.startswith(train.freeze)))
        if frozen:
            for name, module in self.network.named_modules():
                if name and name.startswith(train.freeze):
                    module.eval()

    def _average(self) -> None:
        """The running mean of the weights, which is what is saved where the recipe has one."""
        decay = self.recipe.train.ema
        if not decay:
            return
        for name, value in self.network.state_dict().items():
            old = self.ema.get(name)
            mean = old is not None and value.is_floating_point()
            self.ema[name] = torch.lerp(value, old, decay) if mean and old is not None else value.detach().clone()

    @contextmanager
    def as_saved(self) -> Iterator[None]:
        """Inside, the network is as it will be saved: in evaluation mode, with averaged weights if there are any."""
        own = {name: value.clone() for name, value in self.network.state_dict().items()} if self.ema else {}
        self.network.eval()
        if self.ema:
            self.network.load_state_dict(self.ema)
        try:
            yield
        finally:
            if own:
                self.network.load_state_dict(own)
            self.network.train()

    def tensors(self) -> dict[str, Tensor]:
        """All that the rest of the run depends on."""
        found = {f"weights.{k}": v for k, v in self.state_dict().items()}
        found |= {f"ema.{k}": v for k, v in self.ema.items()}
        for i, optimizer in enumerate(self.own_optimizers()):
            found |= checkpoint.moments(_plain(optimizer), f"optimizer{i}")
        return found

    def restore_weights(self, tensors: Mapping[str, Tensor]) -> None:
        """What is needed to save or use the network."""
        self.load_state_dict({k.removeprefix("weights."): v for k, v in tensors.items() if k.startswith("weights.")})
        self.ema = {k.removeprefix("ema."): v.to(self.device) for k, v in tensors.items() if k.startswith("ema.")}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of `tensors`, once there are optimizers."""
        self.restore_weights(tensors)
        for i, optimizer in enumerate(self.own_optimizers()):
            checkpoint.remember(_plain(optimizer), tensors, f"optimizer{i}")


def _plain(optimizer: Any) -> Optimizer:
    plain: Optimizer = getattr(optimizer, "optimizer", optimizer)  # out of Lightning's wrapper
    return plain
