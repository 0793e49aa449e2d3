"""A run that is killed and resumed ends in the same bits: weights, moments, pools, logs, validations, best weights."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

import pytest

from training.tiny import tiny
from unclouded.errors import UsageError
from unclouded.models import weights
from unclouded.training.checkpoint import load
from unclouded.training.data import SIMULATED
from unclouded.training.run import LAST, train


class _Stopped(Exception):
    pass


def stop_at(step):
    def progress(state):
        if state.step == step:
            raise _Stopped

    return progress


def left_behind(folder: Path) -> dict[str, object]:
    """All that must be the same: tensors of the checkpoint, its notes, digests of weights, and the text of the logs."""
    tensors, notes = load(folder / LAST)
    return {
        **{name: value.numpy().tobytes() for name, value in tensors.items()},
        "notes": notes,
        "weights": weights.read(folder / "weights.safetensors").digest,
        "top": {p.parent.name: weights.read(p).digest for p in sorted((folder / "top").glob("*/*.safetensors"))},
        "log": (folder / "log.csv").read_text(),
        "validation": (folder / "validation.csv").read_text(),
        "card": (folder / "model-card.md").read_text(),
        "pictures": {p.name: p.read_bytes() for p in sorted((folder / "previews").iterdir())},
    }


RECIPES = {
    "nadam, augmentation": ("dsen2cr-carl", ()),
    "dropout, batch norm, two optimizers": ("pix2pix", ()),
    "pools, cycle, spectral norm, unpaired": ("cyclegan-ours-50", ("loss.pool=2", "train.batch=1")),
    "running mean, synthetic clouds": ("dsen2cr-l1", ("train.ema=0.9", "data.clouds=perlin", "data.flips=true")),
}
SAVES = ("train.save_every=2", "train.validate_every=3", "train.top=2")


@pytest.mark.parametrize("case", RECIPES)
def test_stopped_anywhere_the_bits_are_the_same(case, tmp_path):
    name, changes = RECIPES[case]
    recipe = tiny(name, *changes, *SAVES, steps=7)
    train(recipe, SIMULATED, tmp_path / "whole")
    for step in (3, 5, 6):  # after a validation, after a row, after a checkpoint
        with pytest.raises(_Stopped):
            train(recipe, SIMULATED, tmp_path / "cut", resume=step != 3, progress=stop_at(step))
    train(recipe, SIMULATED, tmp_path / "cut", resume=True)
    assert left_behind(tmp_path / "cut") == left_behind(tmp_path / "whole")


def test_stopped_before_the_first_checkpoint_and_after_the_last(tmp_path):
    recipe = tiny("dsen2cr-l1", *SAVES, steps=4)
    with pytest.raises(_Stopped):
        train(recipe, SIMULATED, tmp_path / "cut", progress=stop_at(1))
    with pytest.raises(_Stopped):
        train(recipe, SIMULATED, tmp_path / "cut", resume=True, progress=stop_at(4))
    assert not (tmp_path / "cut" / "weights.safetensors").exists()
    train(recipe, SIMULATED, tmp_path / "cut", resume=True)
    train(recipe, SIMULATED, tmp_path / "whole")
    assert left_behind(tmp_path / "cut") == left_behind(tmp_path / "whole")
    train(recipe, SIMULATED, tmp_path / "whole", resume=True)  # of a finished run: nothing changes
    assert left_behind(tmp_path / "cut") == left_behind(tmp_path / "whole")


def test_workers_change_nothing(tmp_path):
    for workers in (0, 2):
        train(tiny("dsen2cr-carl", f"data.workers={workers}", *SAVES, steps=4), SIMULATED, tmp_path / str(workers))
    assert load(tmp_path / "0" / LAST)[1] == load(tmp_path / "2" / LAST)[1]
    alone, helped = (weights.read(tmp_path / n / "weights.safetensors").digest for n in ("0", "2"))
    assert alone == helped


def test_other_settings_and_other_data_are_refused(tmp_path):
    recipe = tiny("dsen2cr-l1", steps=3)
    with pytest.raises(_Stopped):
        train(recipe, SIMULATED, tmp_path / "run", progress=stop_at(1))
    with pytest.raises(UsageError, match=r"recipe\.train\.rate was 7e-05, is 0\.001"):
        train(tiny("dsen2cr-l1", "train.rate=1e-3", steps=3), SIMULATED, tmp_path / "run", resume=True)
    with pytest.raises(UsageError, match=r"data\.digest was"):
        train(tiny("dsen2cr-l1", "data.count=4", steps=3), SIMULATED, tmp_path / "run", resume=True)
    train(tiny("dsen2cr-l1", "data.workers=1", steps=3), SIMULATED, tmp_path / "run", resume=True)


def test_a_damaged_checkpoint_is_named(tmp_path):
    from unclouded.errors import InputCorrupt

    recipe = tiny("dsen2cr-l1", "train.save_every=1", "data.validation=0", steps=2)
    with pytest.raises(_Stopped):
        train(recipe, SIMULATED, tmp_path / "run", progress=stop_at(1))
    last = tmp_path / "run" / LAST
    last.write_bytes(last.read_bytes()[:-7])
    with pytest.raises(InputCorrupt, match="checkpoint of this run is damaged"):
        train(recipe, SIMULATED, tmp_path / "run", resume=True)


def in_child(recipe, folder: Path) -> int:
    """Train, or go on, in a forked process: everything is imported already. Returns its pid."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        train(recipe, SIMULATED, folder, resume=(folder / "run.json").is_file())
        code = 0
    finally:
        if code:
            traceback.print_exc(file=sys.stderr)
        os._exit(code)


def killed_and_finished(recipe, folder: Path, kills: int, longest: float, draw: random.Random) -> int:
    """Kill the run at random moments, at most `kills` times, then let it finish. Returns how many kills met a living run."""
    for met in range(kills):
        pid = in_child(recipe, folder)
        time.sleep(draw.uniform(0, longest))
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        if not os.WIFSIGNALED(status):  # it was done already
            assert os.waitstatus_to_exitcode(status) == 0
            return met
    _, status = os.waitpid(in_child(recipe, folder), 0)
    assert os.waitstatus_to_exitcode(status) == 0
    return kills


@pytest.mark.kill
@pytest.mark.parametrize("kills", [5, pytest.param(40, marks=pytest.mark.long)])
def test_killed_at_random_moments_the_bits_are_the_same(kills, tmp_path):
    recipe = tiny("dsen2cr-carl", "train.save_every=4", "train.validate_every=16", "data.count=4", steps=60)
    begun = time.monotonic()
    train(recipe, SIMULATED, tmp_path / "whole")
    took = time.monotonic() - begun
    wanted, draw, met, runs = left_behind(tmp_path / "whole"), random.Random(kills), 0, 0
    while met < kills:
        folder = tmp_path / f"killed{runs}"
        met += killed_and_finished(recipe, folder, min(kills - met, 8), took / 4, draw)
        assert left_behind(folder) == wanted
        assert not list(folder.glob(".*.part"))
        runs += 1
