"""The model that stands for a printed row: one without weights, a finished run of its recipe, or a rehearsal.

A rehearsal trains the recipe's network, at the size it has in tests, for a few steps on the simulated place: it proves that
the row can be walked from data to number. What it restores is noise, and it is never called anything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from functools import cache
from pathlib import Path
from typing import NamedTuple

from unclouded.evaluation.evaluate import Contender
from unclouded.evaluation.features import FILE as FEATURES
from unclouded.models import zoo
from unclouded.reproduce.table import Row, Table
from unclouded.training.begin import WEIGHTS, config_of
from unclouded.training.recipe import Recipe, read_recipe
from unclouded.training.run import RUN, train

SIMULATED = "simulated"
STEPS, SIDE, COUNT = 2, 32, 3  # of a rehearsal: steps, pixels on a side, samples


class StandIn(NamedTuple):
    """A contender and what to call it; or why there is none."""

    contender: Contender | None
    label: str = ""
    missing: str = ""


def stand_in(row: Row, runs: Path, data: Path | None) -> StandIn:
    """For a row: `runs` holds finished runs by recipe. Without data, recipes are rehearsed into it."""
    if row.missing:
        return StandIn(None, missing=row.missing)
    if row.model:
        settings = dict(row.settings) | (dict(row.simulated) if data is None else {})
        return StandIn(Contender(row.contender, row.model, settings), row.contender)
    if data is None:
        folder = rehearsed(row.recipe, runs, start=row.start)
        return StandIn(Contender(row.contender, str(folder)), f"{row.recipe}, a tiny network after {STEPS} steps")
    folder = runs / row.recipe
    if not (folder / WEIGHTS).is_file():
        return StandIn(None, missing=f"no trained weights: {command(row, runs, data)}")
    return StandIn(Contender(row.contender, str(folder)), f"{row.recipe}, {folder}")


def command(row: Row, runs: Path, data: Path | str) -> str:
    """What trains a row."""
    start = f" --set model.start={runs / row.start}" if row.start else ""
    return f"unclouded train {row.recipe} --data {data} --out {runs / row.recipe}{start}"


def features(table: Table, runs: Path, data: Path | None) -> str | None:
    """The network for precision and recall, rehearsed where there are no data; None where it was never trained."""
    if not table.features:
        return None
    folder = rehearsed(table.features, runs) if data is None else runs / table.features
    return str(folder) if (folder / FEATURES).is_file() else None


@cache
def rehearsed(name: str, runs: Path, start: str = "") -> Path:
    """The folder of a recipe's rehearsal; one that is there is gone on with, or found finished."""
    before = None if not start else _rehearsed_start(name, start, runs)
    return _trained(tiny(name, start=before), runs / name)


def _rehearsed_start(name: str, start: str, runs: Path) -> Path:
    """What a recipe is built upon, at the sizes of the network that is built upon it."""
    child, own = config_of(tiny(name).model), zoo.tiny_config(tiny(start).model.name)
    sizes = {f.name: n for f in fields(own) if isinstance(n := getattr(child, f.name, None), int)}
    recipe = tiny(start, sizes=sizes)
    return rehearsed(start, runs) if recipe == tiny(start) else _trained(recipe, runs / f"{start}-for-{name}")


def _trained(recipe: Recipe, folder: Path) -> Path:
    return train(recipe, SIMULATED, folder, resume=(folder / RUN).is_file()).folder


def tiny(name: str, *, start: Path | None = None, sizes: Mapping[str, int] | None = None) -> Recipe:
    """A recipe at the size of a rehearsal: its own losses and task, a network of a few thousand numbers."""
    changes = [
        f"data.count={COUNT}", f"data.size={SIDE}", "data.crop=0", "data.validation=1", f"train.steps={STEPS}", "train.batch=2",
        "train.top=1", "loss.network=random",
    ]  # fmt: skip
    if start is not None:
        changes.append(f"model.start={start}")
    recipe = read_recipe(name, changes)
    if recipe.train.task == "land cover":
        config: dict[str, object] = {"width": 4}
    else:
        small = asdict(zoo.tiny_config(recipe.model.name)) | dict(zoo.network(recipe.model.name).preset)
        config = {**small, **recipe.model.set, **(sizes or {})}
    return recipe.model_copy(update={"model": recipe.model.model_copy(update={"set": config})})
