"""Faults while several processes work: the documented code, the old product intact, no process left, and --resume goes on."""

from __future__ import annotations

import errno
import multiprocessing

import pytest

from batch.fields import write_field
from unclouded.errors import InputMissing, OutputFailed
from unclouded.masks.detect import detect
from unclouded.models import load
from unclouded.products import journal
from unclouded.products.fill import Limits
from unclouded.products.journal import Lock
from unclouded.products.product import load_product
from unclouded.remove import remove_clouds, restore
from unclouded.scenes.open import open_scene

DATE = "2020-01-06"


def make(scene, out, **how):
    return restore(
        scene, scene.dates[1], load("linear"), out, limits=Limits(), resolution=None, options={}, block=30, workers=2, **how
    )


@pytest.fixture
def field(tmp_path):
    return write_field(tmp_path / "field")


@pytest.fixture
def scene(field):
    return detect(open_scene(field), screen=False)


def no_child_left(before) -> bool:
    return set(multiprocessing.active_children()) == before


def test_an_input_that_vanishes(tmp_path, scene, field):
    old = make(scene, tmp_path / "out").manifest["digest"]
    before = set(multiprocessing.active_children())
    (field / "2020-01-11" / "s2.tif").unlink()
    with pytest.raises(InputMissing) as caught:
        make(scene, tmp_path / "out", overwrite=True)
    assert caught.value.code == 10 and "s2.tif" in str(caught.value)
    assert load_product(tmp_path / "out" / DATE, verify=True).manifest["digest"] == old and no_child_left(before)


def test_a_disk_that_fills_up(tmp_path, scene, monkeypatch):
    whole = make(scene, tmp_path / "whole").manifest["digest"]
    before, true, calls = set(multiprocessing.active_children()), journal.sync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) > 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        true(descriptor)

    monkeypatch.setattr(journal, "sync", full)
    with pytest.raises(OutputFailed, match="disk is full") as caught:
        make(scene, tmp_path / "out")
    assert caught.value.code == 20 and not (tmp_path / "out" / DATE).exists() and no_child_left(before)
    monkeypatch.undo()
    assert make(scene, tmp_path / "out", resume=True).manifest["digest"] == whole


def test_two_runs_on_one_output(tmp_path, field):
    (tmp_path / "out").mkdir()
    with Lock(tmp_path / "out" / f"{DATE}.lock"), pytest.raises(OutputFailed, match="Another run") as caught:
        remove_clouds(field, tmp_path / "out", date=DATE, model="linear", screen=False, workers=2)
    assert caught.value.code == 20
    assert remove_clouds(field, tmp_path / "out", date=DATE, model="linear", screen=False).folder.name == DATE
