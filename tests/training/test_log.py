"""Rows of a run: kept up to the checkpoint, whole or not at all; and how long it will take."""

from __future__ import annotations

import csv

from PIL import Image

from unclouded.datasets.offline import SimulatedTriplets
from unclouded.training import log
from unclouded.training.log import Clock, Table, preview


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_rows_after_the_checkpoint_and_cut_ones_are_dropped(tmp_path):
    path = tmp_path / "log.csv"
    table = Table(path, 0)
    for step in (10, 20, 120):
        table.add(step, {"l1": step / 8})
    path.write_text(path.read_text()[:-5] + "")  # the last row is cut within its step's number
    assert path.read_text().endswith("\n12")
    again = Table(path, 15)
    assert [row["step"] for row in read(path)] == ["10"]
    again.add(16, {"l1": 2.0, "new": 1.0})
    again.add(17, {"l1": 0.5})
    assert read(path) == [
        {"step": "10", "l1": "1.25", "new": ""},
        {"step": "16", "l1": "2", "new": "1"},
        {"step": "17", "l1": "0.5", "new": ""},
    ]


def test_the_clock_counts_only_this_session(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(log.time, "monotonic", lambda: now[0])
    clock = Clock(50, 100)
    now[0] += 20.0
    assert clock.left(60) == 80.0  # ten steps took 20 s, forty are left
    assert clock.left(100) == 0.0


def test_a_preview_shows_input_result_and_truth_alike(tmp_path):
    sample = SimulatedTriplets(count=1, size=32)[0]
    preview(tmp_path / "p.png", [(sample, sample.target), (sample, sample.s2[0])])
    with Image.open(tmp_path / "p.png") as picture:
        assert picture.size == (3 * 36, 2 * 36)
        cloudy, first, truth = (picture.crop((36 * n, 0, 36 * n + 32, 32)).tobytes() for n in range(3))
        second = picture.crop((36, 36, 68, 68)).tobytes()
    assert first == truth != cloudy == second
