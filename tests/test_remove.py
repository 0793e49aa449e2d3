"""The flow from a scene in memory to a product: what was seen stays, kills lose nothing, what is hidden has no influence."""

from __future__ import annotations

import copy
import os
import random
import signal
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from affine import Affine
from odc.geo.geobox import GeoBox

from batch.fields import write_field
from unclouded.errors import UsageError
from unclouded.models import load
from unclouded.models.dsen2cr import Config, DSen2CR
from unclouded.models.single_date import has_bfloat16
from unclouded.products.fill import Limits
from unclouded.products.product import Product, load_product
from unclouded.raster import open_raster
from unclouded.ready import quickened
from unclouded.remove import remove_clouds, restore
from unclouded.sample import Cover, Place, Sample, Source, as_days
from unclouded.scenes.scene import Scene

DAY = np.datetime64("2020-01-11")
BANDS = ("B02", "B04", "B08")


def sample(size=(60, 72), hidden=slice(10, 40), poison=0.9, seed=0) -> Sample:
    rng = np.random.default_rng(seed)
    grid = GeoBox(size, Affine(10, 0, 500_000, 0, -10, 5_600_000), "EPSG:32631")
    ground = 0.05 + 0.3 * rng.random((1, 3, *size), dtype=np.float32)
    s2 = (ground + 0.01 * rng.normal(size=(4, 3, *size))).clip(0.001).astype(np.float32)
    cloud = np.zeros((4, *size), np.float32)
    cloud[2, hidden, 20:50] = 1
    cloud[1, :15, :30] = 1
    valid = np.ones((4, *size), bool)
    valid[2, -4:] = False
    s2[np.broadcast_to((cloud > 0)[:, None], s2.shape)] = poison
    s2[np.broadcast_to(~valid[:, None], s2.shape)] = poison
    return Sample(
        place=Place(id="field", bands=BANDS, level="L2A", grid=grid),
        s2=s2,
        s2_valid=valid,
        s2_dates=as_days(["2020-01-01", "2020-01-06", "2020-01-11", "2020-01-21"]),
        cloud=cloud,
    )


def run(out: Path, scene: Scene, model="linear", *, limits=None, block=768, resume=False, seed=0, workers=1) -> Product:
    return restore(
        scene, DAY, load(model), out, limits=limits or Limits(), resolution=None, options={"model": model}, block=block,
        resume=resume, seed=seed, workers=workers,
    )  # fmt: skip


def pixels(product: Product, role: str) -> np.ndarray:
    (path,) = product.folder.glob(f"*_{role}.tif")
    with open_raster(path) as file:
        return file.read()


def test_observed_pixels_keep_their_counts_and_hidden_ones_are_rebuilt(tmp_path):
    scene = Scene.of(sample())
    product = run(tmp_path, scene)
    counts = scene.source.counts(2, scene.source.layers(2)[0], scene.window)
    clear, mask, source = pixels(product, "clear"), pixels(product, "mask")[0], pixels(product, "source")[0]
    observed = mask == Cover.CLEAR
    assert np.array_equal(clear[:, observed], counts[:, observed])
    assert ((source == Source.OBSERVED) == observed).all()
    hidden = mask == Cover.THICK
    assert hidden.sum() == 30 * 30 and (source[hidden] == Source.DATES).all()
    truth = sample(hidden=slice(0, 0)).s2[2]
    error = clear[:, hidden] / 10_000 - truth[:, hidden]
    assert np.sqrt((error**2).mean()) < 0.02  # two dates with noise 0.01 around the target
    assert (clear[:, mask == Cover.NODATA] == 0).all() and (source[mask == Cover.NODATA] == Source.NODATA).all()


@pytest.mark.parametrize("model", ["linear", "least-cloudy", "mosaic", "median", "nearest"])
def test_what_is_hidden_or_invalid_has_no_influence(tmp_path, model):
    products = [run(tmp_path / str(n), Scene.of(_poisoned(value)), model) for n, value in enumerate((0.0, np.nan, 1e30))]
    assert len({product.manifest["digest"] for product in products}) == 1


def _poisoned(value: float) -> Sample:
    clean = sample()
    invalid = np.broadcast_to(~clean.s2_valid[:, None], clean.s2.shape)
    hidden_elsewhere = np.broadcast_to((clean.cloud > 0)[:, None], clean.s2.shape)
    return replace(clean, s2=np.where(invalid | hidden_elsewhere, np.float32(value), clean.s2))


def test_blocks_do_not_matter(tmp_path):
    digests = {run(tmp_path / str(side), Scene.of(sample()), block=side).manifest["rasters"]["clear"] for side in (768, 24, 18)}
    assert len(digests) == 1


@pytest.mark.parametrize("model", ["scene", "linear"])
def test_workers_do_not_matter(tmp_path, model):
    maps = Scene.of(sample()).masks
    shared = np.memmap(tmp_path / "masks.u8", np.uint8, "w+", shape=maps.shape)
    shared[:] = maps
    scene = Scene.of(sample()).with_masks(shared)
    made = [run(tmp_path / str(count), scene, model, block=24, workers=count).manifest for count in (1, 2, 4)]
    assert made[0]["pixels"]["dates"] + made[0]["pixels"]["dates_sar"] == 900
    assert all(m["digest"] == made[0]["digest"] and m["probe"] == made[0]["probe"] for m in made)


def test_class_maps_in_a_file_travel_as_its_name(tmp_path):
    scene = Scene.of(sample())
    shared = np.memmap(tmp_path / "masks.u8", np.uint8, "w+", shape=scene.masks.shape)
    shared[:] = scene.masks
    assert scene.with_masks(shared).__getstate__()["masks"] == (str(tmp_path / "masks.u8"), scene.masks.shape)
    again = copy.copy(scene.with_masks(shared))
    assert np.array_equal(again.masks, scene.masks) and again.masks.filename == str(tmp_path / "masks.u8")
    veiled = scene.with_masks(shared).veiled(0, [scene.window])
    assert np.array_equal(copy.copy(veiled).masks, veiled.masks) and not np.array_equal(veiled.masks, shared)


@pytest.mark.skipif(not Path("/proc/self/smaps").is_file(), reason="pages in memory are told by /proc")
def test_class_maps_are_let_go_before_blocks_are_shared(tmp_path):
    small = Scene.of(sample())
    maps = np.memmap(tmp_path / "masks.u8", np.uint8, "w+", shape=small.masks.shape)
    maps[:] = small.masks
    del maps
    scene = small.with_masks(np.memmap(tmp_path / "masks.u8", np.uint8, "r", shape=small.masks.shape))
    held = []

    def look(blocks, total, what):
        held.append(_resident("masks.u8"))
        return blocks

    assert scene.masks.any() and _resident("masks.u8") > 0
    restore(scene, DAY, load("linear"), tmp_path / "out", limits=Limits(), resolution=None, options={}, progress=look)
    assert held == [0]


def _resident(name: str) -> int:
    """KiB that this process has in memory of what it maps of a file."""
    here, total = False, 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        here = line.endswith(name) if "-" in line.split(" ")[0] else here
        total += int(line.split()[1]) if here and line.startswith("Rss:") else 0
    return total


def test_fast_is_for_those_that_have_it(tmp_path):
    network = DSen2CR(Config(features=4, blocks=1))
    assert quickened(network, "dsen2cr") is network and network.half == has_bfloat16(torch.device("cpu"))
    assert next(network.network.parameters()).is_contiguous(memory_format=torch.channels_last)
    with pytest.raises(UsageError, match="'linear' has no faster"):
        quickened(load("linear"), "linear")


def test_another_device_is_another_job(tmp_path, monkeypatch):
    field, how = write_field(tmp_path / "field"), {"date": "2020-01-06", "model": "linear", "memory": 2 << 30}

    def stopped(blocks, total, what):
        yield from islice(blocks, 1)
        raise KeyboardInterrupt

    monkeypatch.setattr("unclouded.budget.SIDES", (24,))
    with pytest.raises(KeyboardInterrupt):
        remove_clouds(field, tmp_path / "out", progress=stopped, **how)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("unclouded.models.running.computing_on", lambda remover: "card")
        with pytest.raises(UsageError, match="different: device"):
            remove_clouds(field, tmp_path / "out", resume=True, **how)
    product = remove_clouds(field, tmp_path / "out", resume=True, device="cpu", **how)
    assert product.manifest["job"]["device"] == "cpu"


def test_limits_refuse_and_leave_no_data(tmp_path):
    product = run(tmp_path, Scene.of(sample()), "nearest", limits=Limits(max_age=4))
    hidden = pixels(product, "mask")[0] == Cover.THICK
    source = pixels(product, "source")[0]
    assert (source[hidden] == Source.REFUSED).all()  # the nearest clear date is 5 or 10 days away
    assert (pixels(product, "clear")[:, hidden] == 0).all()


def test_pixels_without_data_are_rebuilt_when_asked(tmp_path):
    product = run(tmp_path, Scene.of(sample()), limits=Limits(nodata=True))
    assert (pixels(product, "source")[0][-4:] == Source.DATES).all()
    assert (pixels(product, "clear")[:, -4:] > 0).all()


def test_a_constant_sigma_comes_from_the_probe(tmp_path):
    product = run(tmp_path, Scene.of(sample(size=(96, 96))))
    assert product.manifest["sigma_source"] == "probe"
    constant = product.manifest["probe"]["conformal_sigma"]
    sigma, mask = pixels(product, "sigma"), pixels(product, "mask")[0]
    for band, value in enumerate(constant):
        assert set(np.unique(sigma[band][mask == Cover.THICK])) == {round(value * 10_000)}
        assert (sigma[band][mask == Cover.CLEAR] == 0).all()


def _kill_once(out: Path, delay: float) -> None:
    """Run the job in a forked child and SIGKILL it after `delay` seconds (or let it finish)."""
    child = os.fork()
    if child == 0:
        try:
            run(out, Scene.of(sample()), "median", block=12, resume=True)
        finally:
            os._exit(0)
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


@pytest.mark.kill
@pytest.mark.parametrize("kills", [10, pytest.param(100, marks=pytest.mark.long)])
def test_kills_lose_nothing_and_show_nothing_half_done(tmp_path, kills):
    start = time.perf_counter()
    whole = run(tmp_path / "whole", Scene.of(sample()), "median", block=12)
    took = time.perf_counter() - start
    rng = random.Random(kills)
    done = 0
    while done < kills:
        out = tmp_path / f"killed-{done}"
        for _ in range(rng.randint(1, 3)):
            _kill_once(out, rng.uniform(0, took))
            done += 1
            if (out / str(DAY)).exists():  # visible means whole
                assert load_product(out / str(DAY)).manifest["digest"] == whole.manifest["digest"]
        resumed = run(out, Scene.of(sample()), "median", block=12, resume=True)
        assert resumed.manifest["digest"] == whole.manifest["digest"]
        assert {p.name for p in out.iterdir()} == {p.name for p in (tmp_path / "whole").iterdir()}
