"""What happens after every step: rows, pictures, validations, checkpoints, and the best weights so far."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
from torch import Tensor

from unclouded.training import checkpoint
from unclouded.training.log import Board, Clock, Progress, State, Table, preview
from unclouded.training.prepare import Judge
from unclouded.training.run import LAST
from unclouded.training.task import Task


class Keeper(lightning.Callback):
    """Keeps a run. Everything it writes after the last checkpoint is written again, the same, by a resumed run."""

    def __init__(
        self, task: Task, folder: Path, first: int, total: int, tensors: Mapping[str, Tensor], notes: Mapping[str, Any],
        judge: Judge, progress: Progress,
    ) -> None:  # fmt: skip
        self.task, self.folder, self.first, self.total = task, folder, first, total
        self.tensors, self.judge, self.progress = tensors, judge, progress
        self.scores: dict[str, float] = dict(notes.get("scores", {}))
        self.best: list[tuple[float, int]] = [(float(rank), int(step)) for rank, step in notes.get("best", [])]
        self.skipped = int(notes.get("skipped", 0))
        self.clock = Clock(first, total)
        self.board: Board | None = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Put everything back as it was at the last checkpoint."""
        if self.tensors:
            self.task.restore(self.tensors)
            self.tensors = {}
        self.task.done = self.first
        if trainer.is_global_zero:
            self._drop_later_ones()
            self.rows = Table(self.folder / "log.csv", self.first)
            self.judged = Table(self.folder / "validation.csv", self.first)
            self.board = Board(self.folder, self.first)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log, validate, save, each in its turn and all of them at the end."""
        step, train = self.task.done, self.task.recipe.train
        self.skipped += len(getattr(batch, "skipped", ()))
        if not trainer.is_global_zero:
            return
        last = step == self.total
        if step % train.log_every == 0 or last:
            self._log(step)
        if self.judge is not None and (step % train.validate_every == 0 or last):
            self._validate(step)
        if step % train.save_every == 0 or last:
            self._save(step)
        self.progress(State(step, self.total, self.clock.left(step), self.task.latest))

    def _log(self, step: int) -> None:
        values = {"epoch": (step - 1) // self.task.per_epoch, **self.task.latest, "skipped": self.skipped}
        self.rows.add(step, values)
        if self.board is not None:
            self.board.add(step, values, "train")

    def _validate(self, step: int) -> None:
        assert self.judge is not None
        judged = self.judge()
        self.scores = judged.scores
        self.judged.add(step, judged.scores)
        if self.board is not None:
            self.board.add(step, judged.scores, "validation")
        if judged.pictures:
            preview(self.folder / "previews" / f"step-{step:08d}.png", judged.pictures)
        self._keep_best(step, judged.rank)

    def _keep_best(self, step: int, rank: float) -> None:
        """The `top` best so far stay as weights of their own."""
        ranked = sorted([*self.best, (rank, step)], key=lambda pair: (-pair[0], pair[1]))[: self.task.recipe.train.top]
        if (rank, step) in ranked:
            self.task.export(self._top(step), {"model": self.task.recipe.model.name, "numbers": dict(self.scores)})
        for pair in self.best:
            if pair not in ranked:
                shutil.rmtree(self._top(pair[1]), ignore_errors=True)
        self.best = ranked

    def _top(self, step: int) -> Path:
        return self.folder / "top" / f"step-{step:08d}"

    def _drop_later_ones(self) -> None:
        """Weights and pictures of steps that the last checkpoint does not know."""
        known = {self._top(step) for _, step in self.best}
        for folder in (self.folder / "top").glob("step-*"):
            if folder not in known:
                shutil.rmtree(folder, ignore_errors=True)
        for picture in (self.folder / "previews").glob("step-*.png"):
            if int(picture.stem.removeprefix("step-")) > self.first:
                picture.unlink()

    def _save(self, step: int) -> None:
        notes = {"step": step, "scores": self.scores, "best": self.best, "skipped": self.skipped}
        checkpoint.save(self.folder / LAST, self.task.tensors(), notes)

    def close(self) -> None:
        """Write what is left of the logs."""
        if self.board is not None:
            self.board.close()
