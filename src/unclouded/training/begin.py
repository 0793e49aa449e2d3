"""What a run begins with: the recipe's network, from its own start or from weights trained before."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from unclouded.errors import InputMissing, UsageError
from unclouded.models import weights
from unclouded.models.seq2point import load_trunk
from unclouded.models.settings import UNBUILT, checked
from unclouded.models.single_date import SingleDate
from unclouded.models.weights import fit
from unclouded.models.zoo import network, network_class
from unclouded.training.recipe import Model, Recipe

WEIGHTS = "weights.safetensors"


def load_run(folder: str | Path) -> SingleDate:
    """The remover of a finished run (or of a weights file), ready to use. Raises InputMissing, InputCorrupt."""
    return weights.load(weights_of(folder))


def weights_of(path: str | Path) -> Path:
    """The weights file of a run's folder; a file is returned as it is. Raises InputMissing."""
    found = Path(path) / WEIGHTS if Path(path).is_dir() else Path(path)
    if not found.is_file():
        raise InputMissing(
            "There are no trained weights here.", where=found, why="the run may not be finished.",
            do="run `unclouded train` with --resume, or give another folder.",
        )  # fmt: skip
    return found


def build_remover(recipe: Recipe) -> SingleDate:
    """The recipe's network in its configuration. Raises UsageError for a setting that it does not have."""
    model, train = recipe.model, recipe.train
    config = config_of(model)
    try:
        remover: SingleDate = network_class(model.name)[0](config, seed=train.seed)
    except UNBUILT as error:
        raise UsageError(f"The network '{model.name}' cannot be built with these settings.", why=str(error)) from error
    if model.start:
        start_from(remover, model.name, weights_of(model.start))
    elif train.freeze and train.freeze_steps:
        raise UsageError(
            f"The recipe '{recipe.name}' freezes {', '.join(train.freeze)}, which must have been trained before.",
            do="give --set model.start=RUN of the recipe it names, or --set train.freeze_steps=0.",
        )  # fmt: skip
    return remover


def config_of(model: Model) -> Any:
    """The Config of a model with the recipe's settings. Raises UsageError naming the nearest setting or word for a typo."""
    values = {**network(model.name).preset, **model.set}
    return checked(network_class(model.name)[1], values, f"the model '{model.name}'", "model.set.")


def start_from(remover: SingleDate, name: str, path: Path) -> None:
    """Load weights trained before: of the same model, or of the part that a model is built upon.

    Raises UsageError where the one is no start for the other, InputUnsupported where shapes differ.
    """
    trained, kind = weights.load(path), weights.read(path).model
    state = trained.network.state_dict()
    if kind == name:
        fit(remover.network, state)
    elif (start := STARTS.get((name, kind))) is not None:
        start(remover, state)
    else:
        possible = [k for n, k in STARTS if n == name]
        raise UsageError(
            f"Weights of '{kind}' are no start for '{name}'.", where=path,
            do=f"give weights of {' or '.join([name, *possible])}.",
        )  # fmt: skip


def _trunk(remover: SingleDate, state: Mapping[str, Tensor]) -> None:
    from unclouded.models.seq2point import Network

    assert isinstance(remover.network, Network)
    load_trunk(remover.network, state)


def _translation(remover: SingleDate, state: Mapping[str, Tensor]) -> None:
    own = {k: v for k, v in remover.network.state_dict().items() if not k.startswith("translate.")}
    fit(remover.network, own | dict(state))


STARTS = {
    ("seq2point", "dsen2cr"): _trunk,
    ("seq2point", "dsen2cr-optical"): _trunk,
    ("seq2point", "resnet-mono"): _trunk,
    ("drib", "drib-sar2opt"): _translation,
}
