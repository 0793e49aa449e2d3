"""Recipes at the size of a test: tiny networks on small simulated places."""

from __future__ import annotations

from dataclasses import asdict

from unclouded.models import zoo
from unclouded.training.recipe import Recipe, read_recipe

SIDE = 32


def tiny(name: str, *overrides: str, steps: int = 2) -> Recipe:
    """A recipe whose network has the Config for tests, but for what the recipe itself is about."""
    common = [
        "data.count=3", f"data.size={SIDE}", "data.crop=0", "data.validation=1", f"train.steps={steps}", "train.batch=2",
        "train.log_every=1", "train.validate_every=1000", "train.top=1", "loss.network=random",
    ]  # fmt: skip
    recipe = read_recipe(name, [*common, *overrides])
    if recipe.train.task == "land cover":
        return recipe.model_copy(update={"model": recipe.model.model_copy(update={"set": {"width": 4}})})
    config = asdict(zoo.tiny_config(recipe.model.name)) | zoo.network(recipe.model.name).preset
    model = recipe.model.model_copy(update={"set": {**config, **recipe.model.set}})
    return recipe.model_copy(update={"model": model})
