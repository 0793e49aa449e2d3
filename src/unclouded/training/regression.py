"""The first task: one network against the truth."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from unclouded.models import weights
from unclouded.models.single_date import SingleDate
from unclouded.training.data import Shown
from unclouded.training.recipe import Recipe
from unclouded.training.task import Task
from unclouded.training.terms import regression_terms


class Regression(Task):
    """A remover trained on weighted terms of its Prediction."""

    def __init__(self, recipe: Recipe, folder: Path, remover: SingleDate) -> None:
        super().__init__(recipe, folder)
        self.remover, self.trained = remover, remover.network
        remover.half = recipe.train.precision == "bf16"
        self.look_with(len(remover.config.bands))

    @property
    def network(self) -> nn.Module:
        """The remover's."""
        return self.trained

    def step(self, shown: Shown) -> dict[str, Tensor]:
        """See Task."""
        batch = shown.batch.to(self.device)
        terms = regression_terms(self.recipe.loss, self.remover(batch), batch, self.remover.optical_range, self.eye)
        self.update(0, terms, shown.names)
        return terms

    def export(self, folder: Path, notes: Mapping[str, Any]) -> Path:
        """weights.safetensors."""
        path = folder / "weights.safetensors"
        with self.as_saved():
            weights.save(path, self.recipe.model.name, self.remover, weights.Weights(**notes))
        return path
