"""THE FLOW of training: a recipe and a folder in, a run out. Read this first.

read        the recipe, changed by overrides, checked by name                  recipe.py
begin       the network, from its own start or from weights                    begin.py
open        the data, as batches decided by the step's number                  data.py
fit         step after step; log, validate, save                               task.py and the two tasks
export      weights that `unclouded remove --model RUN` takes, and their card  card.py
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from unclouded.errors import InputMissing, OutputFailed, UsageError
from unclouded.training.begin import WEIGHTS
from unclouded.training.log import Progress, silent
from unclouded.training.recipe import Recipe, differences, read_recipe

if TYPE_CHECKING:
    from unclouded.training.data import Opened
    from unclouded.training.task import Task

RUN, LAST = "run.json", "last.safetensors"
FREE = {"data": {"workers"}}  # settings that do not change what a run is


class Run(NamedTuple):
    """A finished run: its folder, its weights file, and the scores of its last validation."""

    folder: Path
    weights: Path
    steps: int
    scores: dict[str, float]


def train(
    recipe: str | Path | Recipe,
    data: str | Path,
    out: str | Path,
    *,
    overrides: Sequence[str] = (),
    resume: bool = False,
    device: str = "auto",
    devices: int = 1,
    progress: Progress = silent,
) -> Run:
    """Train a recipe on a data set folder (or `simulated`) and write the run to `out`.

    `overrides`: settings like `train.batch=4`. `resume`: go on where the run in `out` stopped; the same bits come out as
    without the stop (on a CPU). `device`: auto, cpu or gpu; `devices`: how many, each seeing its share of a batch.
    Raises UsageError, InputMissing, InputUnsupported (data that the recipe cannot use), TrainingDiverged (a loss is not
    finite), OutputFailed.
    """
    _require_lightning()
    _require_device(device, devices)
    if Path(out).exists() and not Path(out).is_dir():
        raise OutputFailed("The run needs a folder, and there is a file.", where=out, do="give another --out.")
    settings = recipe if isinstance(recipe, Recipe) else read_recipe(recipe, overrides)
    if devices > settings.train.batch:
        raise UsageError(f"A batch of {settings.train.batch} cannot be shared by {devices} devices.", do="raise train.batch.")
    with _own_chance(settings.train.seed), _quiet():
        return _run(settings, str(data), Path(out), resume=resume, device=device, devices=devices, progress=progress)


def _run(recipe: Recipe, data: str, out: Path, *, resume: bool, device: str, devices: int, progress: Progress) -> Run:
    from unclouded.training import checkpoint
    from unclouded.training.card import write_card
    from unclouded.training.keeper import Keeper

    task, opened, judge, steps = _prepared(recipe, data, out)
    record = {"recipe": recipe.model_dump(mode="json"), "data": {"name": opened.name, "digest": opened.digest}}
    first_process = _rank() == 0
    if first_process:
        _claim(out, record, resume=resume)
    total = recipe.train.steps or recipe.train.epochs * task.per_epoch
    tensors, notes = checkpoint.load(out / LAST) if (out / LAST).is_file() else ({}, {"step": 0})
    first = int(notes["step"])
    keeper = Keeper(task, out, first, total, tensors, notes, judge, progress)
    if first < total:
        task.loader = lambda rank, ranks: _loader(steps(rank, ranks), range(first, total), recipe.data.workers)
        _fit(task, keeper, device, devices)
    else:
        task.restore_weights(tensors)
    if not first_process:
        return Run(out, out / WEIGHTS, total, {})
    facts = write_card(out, recipe, opened, keeper.scores, steps=total)
    return Run(out, task.export(out, facts), total, keeper.scores)


def _rank() -> int:
    """Which of several processes this is: Lightning starts the others with the same command."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")))


def _prepared(recipe: Recipe, data: str, out: Path) -> tuple[Task, Opened, Any, Any]:
    """The task, its data, how it is judged, and the steps of one of several processes."""
    from unclouded.training import prepare

    if recipe.train.task == "land cover":
        return prepare.land_cover(recipe, data, out)
    return prepare.restoration(recipe, data, out)


def _loader(steps: Any, numbers: range, workers: int) -> Any:
    from torch.utils.data import DataLoader

    return DataLoader(steps, batch_size=None, sampler=numbers, num_workers=workers)


def _fit(task: Task, keeper: Any, device: str, devices: int) -> None:
    import lightning

    trainer = lightning.Trainer(
        accelerator=device, devices=devices, strategy="auto" if devices == 1 else "ddp_find_unused_parameters_true",
        max_epochs=1, callbacks=[keeper], logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, use_distributed_sampler=False,
    )  # fmt: skip
    try:
        trainer.fit(task)
    except SystemExit as end:  # Lightning's answer to an interrupt
        raise KeyboardInterrupt from end
    finally:
        keeper.close()


def _claim(out: Path, record: dict[str, Any], *, resume: bool) -> None:
    """Make the folder this run's. Raises UsageError where it is another's, or is not to be gone on with."""
    from unclouded.training.checkpoint import write_whole

    path = out / RUN
    if not path.is_file():
        if resume:
            raise InputMissing("There is no run to go on with.", where=out, do="leave out --resume.")
        if out.is_dir() and any(not entry.name.endswith(".part") for entry in out.iterdir()):
            raise UsageError("The folder is not empty and holds no run.", where=out, do="give another --out.")
        write_whole(path, json.dumps(record, indent=2).encode())
        return
    old = json.loads(path.read_text(encoding="utf-8"))
    if not resume:
        raise UsageError("There is a run in this folder.", where=out, do="go on with --resume, or give another --out.")
    changed = differences(_fixed(old), _fixed(record))
    if changed:
        raise UsageError(
            "This run was begun with other settings.", where=out, why="; ".join(changed[:8]) + ".",
            do="resume with the same settings, or begin another run in another folder.",
        )  # fmt: skip


def _fixed(record: dict[str, Any]) -> dict[str, Any]:
    """The record as JSON gives it back, without settings that may change; of an earlier version, with what it did unsaid."""
    fixed: dict[str, Any] = json.loads(json.dumps(record))
    how = fixed["recipe"]["train"]
    how.setdefault("weight_decay", 0.01 if how.get("optimizer") == "adamw" else 0.0)
    for table, names in FREE.items():
        for name in names:
            fixed["recipe"][table].pop(name, None)
    return fixed


def _require_lightning() -> None:
    if find_spec("lightning") is None:
        raise UsageError("Training needs Lightning, which is not installed.", do="pip install 'unclouded[train]'.")


def _require_device(device: str, devices: int) -> None:
    """Raises UsageError for a word that is not known, and for cards that are not there."""
    import torch

    if device not in ("auto", "cpu", "gpu"):
        raise UsageError(f"--device {device} is not known.", do="use auto, cpu or gpu.")
    cards = torch.cuda.device_count() or int(torch.backends.mps.is_available())
    if device == "gpu" and devices > cards:
        raise UsageError(
            f"--device gpu: {devices} wanted, {cards} found.", why=f"torch {torch.__version__} sees no more.",
            do="use --device cpu; `unclouded doctor` tells which cards there are.",
        )  # fmt: skip


@contextmanager
def _own_chance(seed: int) -> Iterator[None]:
    """Inside, torch draws from `seed`; outside, nothing of it is seen."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning's advice and greetings are not for the user of a recipe."""
    names = ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")
    levels = {name: logging.getLogger(name).level for name in names}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning.*")
        for name in names:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
