"""JPEG 2000 decoded once: the copies read the same, and the product is the same with and without them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from make.safe import make_safe
from unclouded.remove import remove_clouds
from unclouded.scenes import scratch
from unclouded.scenes.open import open_scene


@pytest.fixture(scope="module")
def safe(tmp_path_factory):
    return make_safe(tmp_path_factory.mktemp("safe"), baseline="05.10", offset=-1000)


def test_the_copies_read_the_same(tmp_path, safe):
    scene = open_scene(safe)
    copy = scratch.unpacked(scene, tmp_path)
    assert len(list(tmp_path.glob("*.tif"))) >= 11
    assert all(p.path.startswith(str(tmp_path)) for part in copy.source.images[0].parts for p in part.where)
    for mine, theirs in zip(copy.source.s2(0, scene.window), scene.source.s2(0, scene.window), strict=True):
        assert np.array_equal(mine, theirs)
    assert np.array_equal(copy.source.scl(0, scene.window), scene.source.scl(0, scene.window))
    layers = scene.source.layers(0)
    assert copy.source.layers(0) == layers
    for layer in layers:
        whole = scene.window._replace(height=layer.shape[0], width=layer.shape[1])
        assert np.array_equal(copy.source.counts(0, layer, whole), scene.source.counts(0, layer, whole))
    assert copy.decisions == scene.decisions


def test_what_does_not_pay_or_fit_is_left_in_place(tmp_path, safe, monkeypatch):
    scene = open_scene(safe)
    small = replace(scene, shape=(scene.shape[0] // 4, scene.shape[1] // 4))
    assert scratch.unpacked(small, tmp_path) is small
    monkeypatch.setattr(scratch, "DISK", 1e-12)
    assert scratch.unpacked(scene, tmp_path) is scene and not list(tmp_path.iterdir())


def test_the_product_is_the_same(tmp_path, safe, monkeypatch):
    how = {"model": "scene", "verify": False}
    one = remove_clouds(safe, tmp_path / "one", **how).manifest
    monkeypatch.setattr(scratch, "WORTH", 2.0)
    assert remove_clouds(safe, tmp_path / "two", **how).manifest["digest"] == one["digest"]
