"""From a recipe and a folder to a task, its data, and a judge: what is different between restoring images and land cover."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unclouded.datasets.draws import SampleSource
from unclouded.datasets.lattice import key
from unclouded.errors import InputMissing
from unclouded.sample import Sample
from unclouded.training.begin import build_remover
from unclouded.training.data import SIMULATED, Opened, Steps, open_data, open_donors
from unclouded.training.landcover import LandCoverTask, LandSteps, SEN12MSLand, open_land
from unclouded.training.recipe import Recipe
from unclouded.training.sense import check_network, check_recipe
from unclouded.training.task import Task
from unclouded.training.validate import restored, scores

Image = NDArray[np.float32]


class Judged(NamedTuple):
    """The scores of a validation, the one that is to be high, and what to show of it."""

    scores: dict[str, float]
    rank: float
    pictures: list[tuple[Sample, Image]]


Judge = Callable[[], Judged] | None
Parts = tuple[Task, Opened, Judge, Callable[[int, int], Any]]


def restoration(recipe: Recipe, data: str, out: Path) -> Parts:
    """Of a recipe that trains a remover."""
    from unclouded.training.adversarial import Adversarial
    from unclouded.training.regression import Regression

    check_recipe(recipe)
    remover, train = build_remover(recipe), recipe.train
    check_network(recipe, remover)
    bands, level = tuple(remover.config.bands), remover.config.level
    opened = open_data(recipe.data, data, bands=bands, level=level, seed=train.seed, split="train")
    donors = open_donors(recipe.data, bands=bands, level=level, seed=train.seed)
    kind = Regression if train.task == "regression" else Adversarial
    task: Task = kind(recipe, out, remover)

    def steps(rank: int, ranks: int) -> Steps:
        return Steps(opened, recipe.data, bands, batch=train.batch, seed=train.seed, rank=rank, ranks=ranks, donors=donors)

    task.per_epoch = steps(0, 1).per_epoch
    return task, opened, _restoration_judge(recipe, data, task, remover, donors), steps


def _restoration_judge(recipe: Recipe, data: str, task: Task, remover: Any, donors: SampleSource | None) -> Judge:
    """Full-size validation samples, always the same; None where the data have no validation split."""
    if not recipe.data.validation:
        return None
    whole = recipe.data.model_copy(
        update={"crop": 0, "flips": False, "turns": False, "paired": 1.0, "limit": recipe.data.validation}
    )
    bands, level = tuple(remover.config.bands), remover.config.level
    try:
        opened = open_data(whole, data, bands=bands, level=level, seed=recipe.train.seed, split="val")
    except InputMissing:
        return None
    steps = Steps(opened, whole, bands, batch=1, seed=recipe.train.seed, donors=donors)
    samples = [steps.sample(i, key(recipe.train.seed, "validation", i)) for i in range(steps.count)]

    def judge() -> Judged:
        with task.as_saved():
            images = [restored(remover, sample, task.device) for sample in samples]
        found = scores(samples, images)
        pictures = list(zip(samples, images, strict=True))[: recipe.train.previews]
        return Judged(found, found["psnr"], pictures)

    return judge


def land_cover(recipe: Recipe, data: str, out: Path) -> Parts:
    """Of the recipe that trains a VGG16."""
    check_recipe(recipe)
    train = recipe.train
    source = open_land(recipe.data, data, train.seed, "train")
    task = LandCoverTask(recipe, out, source.classes)
    name = "simulated place" if data == SIMULATED else "SEN12MS"
    digest = source.digest() if isinstance(source, SEN12MSLand) else f"{name} {len(source)} {recipe.data.size} {train.seed}"
    opened = Opened(_NoSamples(), name, "train", digest, "Apache-2.0" if data == SIMULATED else "CC-BY-4.0")

    def steps(rank: int, ranks: int) -> LandSteps:
        return LandSteps(source, batch=train.batch, seed=train.seed, rank=rank, ranks=ranks)

    task.per_epoch = steps(0, 1).per_epoch

    def judge() -> Judged:
        right = task.accuracy(open_land(recipe.data, data, train.seed, "val"), recipe.data.validation)
        return Judged({"accuracy": right}, right, [])

    return task, opened, judge if recipe.data.validation else None, steps


class _NoSamples:
    def __len__(self) -> int:
        return 0

    def __getitem__(self, i: int) -> Sample:
        raise IndexError(i)
