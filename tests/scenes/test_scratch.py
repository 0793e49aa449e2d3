"""Slow files decoded once: the copies read the same, and the product is the same with and without them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio

from make.safe import make_safe
from unclouded.datasets.simulated import simulate, write_series
from unclouded.raster import open_raster, opened
from unclouded.remove import remove_clouds
from unclouded.scenes import scratch
from unclouded.scenes.open import open_scene

DATES = ["2024-05-01", "2024-05-06", "2024-05-11", "2024-05-16"]


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


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """A series with radar, all in tiles."""
    folder = tmp_path_factory.mktemp("tiled") / "series"
    write_series(simulate(seed=4, size=(40, 300), dates=DATES, cover=[0.0, 0.4, 0.3, 0.0]), folder)
    return folder


def in_rows(series, folder, compress="deflate"):
    """The same files with rows as wide as the image for blocks, bands beside each other, as many programs write them."""
    for path in series.rglob("*.tif"):
        to = folder / path.relative_to(series)
        to.parent.mkdir(parents=True, exist_ok=True)
        with open_raster(path) as file:
            names = ("driver", "dtype", "nodata", "width", "height", "count", "crs", "transform")
            kept = {**{name: file.profile[name] for name in names}, "tiled": False, "interleave": "pixel"}
            with rasterio.open(to, "w", **kept, compress=compress) as out:  # noqa: TID251 - not as this package writes
                out.write(file.read())
                out.descriptions = file.descriptions
                out.update_tags(**{name: value for name, value in file.tags().items() if name != "AREA_OR_POINT"})
    return folder


def test_compressed_rows_are_unpacked_radar_included_and_the_product_is_the_same(tmp_path, series, monkeypatch):
    monkeypatch.setattr(scratch, "WIDE", 280)
    tiled = open_scene(series)
    assert scratch.unpacked(tiled, tmp_path) is tiled
    rows = in_rows(series, tmp_path / "rows")
    scene, copies = open_scene(rows), tmp_path / "copies"
    copies.mkdir()
    plain = scratch.unpacked(scene, copies)
    moved = {p.path for image in plain.source.images for part in image.parts for p in part.where}
    moved |= {p.path for radar in plain.source.radars for p in (radar.vv, radar.vh)}
    assert len(moved) == 2 * len(DATES) and all(path.startswith(str(copies)) for path in moved)
    assert all(opened(path).block_shapes[0] == (256, 256) and opened(path).compression is None for path in moved)
    mine, theirs = plain.read(), tiled.read()
    for name in ("s2", "s2_valid", "s1", "s1_valid", "scl"):
        assert np.array_equal(getattr(mine, name), getattr(theirs, name))
    made = [remove_clouds(where, tmp_path / f"out-{where.name}", date=DATES[1], place="p") for where in (series, rows)]
    assert made[0].manifest["digest"] == made[1].manifest["digest"]


def test_rows_that_are_not_compressed_or_short_are_read_in_place(tmp_path, series, monkeypatch):
    short = open_scene(in_rows(series, tmp_path / "short"))
    assert scratch.unpacked(short, tmp_path) is short  # 300 pixels wide: one block
    monkeypatch.setattr(scratch, "WIDE", 280)
    raw = open_scene(in_rows(series, tmp_path / "raw", compress=None))
    assert scratch.unpacked(raw, tmp_path) is raw


def test_as_many_files_are_unpacked_as_fit(tmp_path, series, monkeypatch):
    monkeypatch.setattr(scratch, "WIDE", 280)
    scene = open_scene(in_rows(series, tmp_path / "rows"))
    one = scratch._bytes(scene.source.images[0].parts[0].where[0].path)
    monkeypatch.setattr(scratch.shutil, "disk_usage", lambda _: SimpleNamespace(free=2.5 * one / scratch.DISK))
    moved = scratch.unpacked(scene, tmp_path)
    paths = [image.parts[0].where[0].path for image in moved.source.images]
    assert 0 < sum(path.startswith(str(tmp_path / "0")) for path in paths) < len(paths)
    assert np.array_equal(moved.read().s2, scene.read().s2)
