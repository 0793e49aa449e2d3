"""Neighbouring windows without seams: a border's jump beyond that of the ground itself, over the local gradient."""

from __future__ import annotations

import numpy as np
import pytest

from unclouded.datasets.simulated import simulate
from unclouded.models import load
from unclouded.remove import guess_block
from unclouded.sample import HIDING, Window
from unclouded.scenes.scene import Scene
from unclouded.tiling.blend import Blender
from unclouded.tiling.grid import cut

LIMIT = 0.01
SIDE = 192


def seam(image, whole, border: int) -> float:
    """The jump between columns border - 1 and border of `image` that `whole` does not have, over the mean gradient there."""
    jump = np.diff(image - whole, axis=-1)[..., border - 1]
    near = np.diff(whole[..., border - 8 : border + 8], axis=-1)
    return float(np.nanmean(np.abs(jump)) / np.nanmean(np.abs(near)))


@pytest.fixture(scope="module")
def ground():
    return simulate(seed=5, size=(SIDE, SIDE), dates=1, cover=0.0, s1=False, bands=("B02", "B08")).truth[0]


@pytest.mark.parametrize(("halo", "visible"), [(24, False), (0, True)])
def test_tiles_that_disagree_leave_no_seam_where_they_overlap(ground, halo, visible):
    """Each tile errs by its own constant of a standard deviation of 0.002, as networks do that see other surroundings."""
    rng = np.random.default_rng(0)
    shape = (SIDE, SIDE)
    blender = Blender(Window(0, 0, *shape), shape, halo, len(ground))
    tiles = cut(shape, 96, halo)
    for tile in tiles:
        blender.add(
            tile, ground[(slice(None), *tile.slices)] + np.float32(0.002) * rng.standard_normal((len(ground), 1, 1), np.float32)
        )
    image, _ = blender.result()
    borders = sorted({edge for t in tiles for edge in (t.col, t.col + t.width)} - {0, SIDE})
    worst = max(seam(image, ground, border) for border in borders)
    assert (worst > LIMIT) == visible, worst


@pytest.mark.parametrize(("model", "settings"), [("scene", {"quality": "fast"}), ("linear", {})])
def test_blocks_of_a_scene_meet_without_a_seam(model, settings):
    place = simulate(
        seed=2, size=(96, 160), dates=4, cover=[0.2, 0.2, 1.0, 0.2], kinds="bank", bands=("B02", "B04", "B08", "B11")
    )
    scene = Scene.of(place.sample)
    assert scene.masks is not None
    wanted = HIDING[scene.masks[2]]
    remover = load(model, settings).adapt(scene, scene.dates[2])
    whole = guess_block(scene, scene.dates[2], scene.window, wanted, remover).s2
    halves = [Window(0, 0, 96, 80), Window(0, 80, 96, 80)]
    image = np.concatenate([guess_block(scene, scene.dates[2], at, wanted[at.slices], remover).s2 for at in halves], axis=-1)
    hidden = wanted & np.isfinite(whole).all(0)
    assert hidden[:, 72:88].all(1).any()
    assert seam(np.where(hidden, image, np.nan), np.where(hidden, whole, np.nan), 80) <= LIMIT
