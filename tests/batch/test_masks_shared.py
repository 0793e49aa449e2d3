"""Class maps made by several processes in one file: the same maps and the same record as in one."""

from __future__ import annotations

import numpy as np
import pytest

from batch.fields import write_field
from unclouded.masks.detect import detect
from unclouded.scenes.open import open_scene


@pytest.mark.parametrize("screen", [True, False])
def test_masks_do_not_depend_on_the_processes(tmp_path, screen):
    scene = open_scene(write_field(tmp_path / "field", dates=6, size=(150, 132)))
    alone = detect(scene, screen=screen, block=48)
    shared = detect(scene, screen=screen, block=48, out=tmp_path / "masks.u8", workers=2)
    assert isinstance(shared.masks, np.memmap) and np.array_equal(alone.masks, shared.masks)
    assert alone.decisions["masks"] == shared.decisions["masks"]
    assert set(np.unique(alone.masks)) >= {1, 3}
