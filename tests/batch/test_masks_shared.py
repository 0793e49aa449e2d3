"""Class maps made by several processes in one file: the same maps and the same record as in one."""

from __future__ import annotations

import numpy as np
import pytest

from batch.fields import write_field
from unclouded.masks import detect as detecting
from unclouded.masks.detect import detect
from unclouded.remove import remove_clouds
from unclouded.sample import Place, Sample, as_days
from unclouded.scenes.open import open_scene
from unclouded.scenes.scene import Scene


@pytest.mark.parametrize("screen", [True, False])
def test_masks_do_not_depend_on_the_processes(tmp_path, screen):
    scene = open_scene(write_field(tmp_path / "field", dates=6, size=(150, 132)))
    alone = detect(scene, screen=screen, block=48)
    shared = detect(scene, screen=screen, block=48, out=tmp_path / "masks.u8", workers=2)
    assert isinstance(shared.masks, np.memmap) and np.array_equal(alone.masks, shared.masks)
    assert alone.decisions["masks"] == shared.decisions["masks"]
    assert set(np.unique(alone.masks)) >= {1, 3}


def test_pages_of_a_map_in_a_file_are_let_go_and_come_back(tmp_path):
    maps = np.memmap(tmp_path / "masks.u8", np.uint8, "w+", shape=(2, 40, 50))
    maps[:] = 1
    maps.flush()
    scene = Scene.of(Sample(
        place=Place(id="p", bands=("B02",), level="L2A", grid=None), s2=np.zeros((2, 1, 40, 50), np.float32),
        s2_valid=np.ones((2, 40, 50), bool), s2_dates=as_days(["2020-01-01", "2020-01-06"]),
    )).with_masks(np.memmap(tmp_path / "masks.u8", np.uint8, "r", shape=(2, 40, 50)))  # fmt: skip
    scene.let_go()
    assert scene.masks is not None and scene.masks.sum() == 2 * 40 * 50
    scene.with_masks(np.ones((2, 40, 50), np.uint8)).let_go()  # nothing to let go of


@pytest.mark.parametrize("model", ["scene", "linear", "least-cloudy"])
def test_products_are_the_same_however_masks_are_decided(tmp_path, monkeypatch, model):
    field = write_field(tmp_path / "field", dates=6, size=(132, 300))
    how = {"date": "2020-01-16", "model": model}
    made = [remove_clouds(field, tmp_path / str(n), workers=n, **how).manifest for n in (1, 2)]
    monkeypatch.setattr(detecting, "FEW_SCREENED", -1.0)  # all at once
    made.append(remove_clouds(field, tmp_path / "at once", **how).manifest)
    assert len({m["digest"] for m in made}) == 1 and all(m["probe"] == made[0]["probe"] for m in made)
    told = [len(m["decisions"]["masks"]["dates"]["2020-01-01"]) for m in made]  # shares only where all was looked at
    assert told == ([7, 7, 7] if model == "least-cloudy" else [3, 3, 7])
