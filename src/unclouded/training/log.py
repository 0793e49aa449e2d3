"""What a run tells while it runs: rows of CSV, TensorBoard if it is installed, pictures, and how far it is."""

from __future__ import annotations

import csv
import io
import time
import warnings
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unclouded.sample import Sample
from unclouded.training.checkpoint import write_whole


class State(NamedTuple):
    """How far a run is. `left`: seconds, by the pace of this session."""

    step: int
    steps: int
    left: float
    values: Mapping[str, float]


Progress = Callable[[State], None]


def silent(state: State) -> None:
    """No progress."""


class Clock:
    """Seconds that are left, from steps done since it was started."""

    def __init__(self, first: int, steps: int) -> None:
        self.first, self.steps, self.begun = first, steps, time.monotonic()

    def left(self, step: int) -> float:
        """After `step` steps."""
        done = max(step - self.first, 1)
        return (time.monotonic() - self.begun) / done * (self.steps - step)


class Table:
    """A CSV file of one row per logged step; rows after `step` are of a session that was killed, and are dropped."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        self.rows: list[dict[str, str]] = []
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                whole = [row for row in csv.DictReader(file) if None not in row.values()]  # a kill may cut the last one
            self.rows = [row for row in whole if int(row["step"]) <= step]
        self.columns = list(dict.fromkeys(name for row in self.rows for name in row)) or ["step"]
        if path.is_file():
            self._rewrite()

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """One row. A new column makes the file anew. Raises OutputFailed."""
        row = {"step": str(step), **{name: f"{value:.8g}" for name, value in values.items()}}
        new = [name for name in row if name not in self.columns]
        self.rows.append(row)
        if new or not self.path.is_file():
            self.columns += new
            self._rewrite()
            return
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self.columns, restval="").writerow(row)

    def _rewrite(self) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.columns, restval="")
        writer.writeheader()
        writer.writerows(self.rows)
        write_whole(self.path, text.getvalue().encode())


class Board:
    """TensorBoard's log of a run, if it is installed."""

    def __init__(self, folder: Path, step: int) -> None:
        self.writer: Any = None
        if find_spec("tensorboard") is None:
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of TensorBoard's own imports
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def add(self, step: int, values: Mapping[str, float], where: str) -> None:
        """One value per name."""
        if self.writer is not None:
            for name, value in values.items():
                self.writer.add_scalar(f"{where}/{name}", value, step)

    def close(self) -> None:
        """Write what is left."""
        if self.writer is not None:
            self.writer.close()


def preview(path: Path, rows: list[tuple[Sample, NDArray[np.float32]]]) -> None:
    """One row per sample: the input, the restored image and the truth, all stretched alike. Raises OutputFailed."""
    from PIL import Image

    lines = [np.concatenate(_triple(sample, restored), 1) for sample, restored in rows]
    width = max(line.shape[1] for line in lines)
    padded = [np.pad(line, ((0, 4), (0, width - line.shape[1]), (0, 0))) for line in lines]
    png = io.BytesIO()
    Image.fromarray(np.concatenate(padded)).save(png, "PNG")
    write_whole(path, png.getvalue())


def _triple(sample: Sample, restored: NDArray[np.float32]) -> list[NDArray[np.uint8]]:
    bands = sample.place.bands
    rgb = [bands.index(b) for b in ("B04", "B03", "B02")] if {"B04", "B03", "B02"} <= set(bands) else [0, 0, 0]
    truth = sample.target if sample.target is not None else sample.s2[-1]
    low, high = np.percentile(truth[rgb], [1, 99])
    index = 0 if sample.target_index is None else sample.target_index
    unit = [np.clip((image[rgb] - low) / max(high - low, 1e-6), 0, 1) for image in (sample.s2[index], restored, truth)]
    return [np.pad(np.moveaxis(np.nan_to_num(u) * 255, 0, -1).round().astype(np.uint8), ((0, 0), (0, 4), (0, 0))) for u in unit]
