"""Networks on real SEN12MS-CR triplets: units, odd sizes, tiles, saved weights and fast arithmetic."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import rasterio
import torch

from models.lively import lively
from unclouded.bands import L1C
from unclouded.errors import InputUnsupported
from unclouded.models import weights
from unclouded.models.dsen2cr import Config, DSen2CR
from unclouded.models.probe import predict
from unclouded.sample import Batch, Place, Sample, Window, as_days
from unclouded.scenes.scene import Scene
from unclouded.units import to_reflectance


@pytest.fixture(scope="module")
def triplet(data):
    def read(kind):
        with rasterio.open(data / "sen12mscr" / "746" / f"{kind}.tif") as file:  # noqa: TID251 - a plain sample
            return file.read()

    cloudy, valid = to_reflectance(read("s2_cloudy"))
    clear, _ = to_reflectance(read("s2_clear"))
    day = as_days(["2018-07-01"])
    return Sample(
        place=Place(id="746", bands=L1C, level="L1C"), s2=cloudy[None], s2_valid=valid.all(0)[None], s2_dates=day,
        s1=read("s1").astype(np.float32)[None], s1_valid=np.ones((1, 256, 256), bool), s1_dates=day,
        cloud=np.ones((1, 256, 256), np.float32), target=clear, target_date=day[0], target_index=0,
    )  # fmt: skip


def lively_dsen2cr():
    config = Config(features=16, blocks=2)
    return DSen2CR(config, lively(DSen2CR(config).network, gain=0.6))


def test_without_a_correction_the_image_comes_back_in_reflectance(triplet):
    remover = DSen2CR(Config(features=16, blocks=2))
    torch.nn.init.zeros_(remover.network.model[-1].weight)
    s2 = remover(Batch.stack([triplet])).s2[0].numpy()
    assert np.abs(s2 - triplet.s2[0].clip(0, 1))[:, triplet.s2_valid[0]].max() < 1e-6


def test_odd_sizes_and_windows_of_a_scene(triplet, tmp_path):
    odd = triplet.crop(Window(3, 8, 201, 163))
    weights.save(tmp_path / "w.safetensors", "dsen2cr", lively_dsen2cr())
    remover = weights.load(tmp_path / "w.safetensors")
    scene = Scene.of(odd)
    remover.needs.check(scene)
    day = odd.s2_dates[0]
    whole, sigma = predict(remover.adapt(scene, day), scene, scene.window, day)
    assert whole.shape == (13, 201, 163)
    assert sigma is None
    assert np.isfinite(whole).all()
    for window in (Window(0, 0, 64, 64), Window(100, 99, 101, 64)):
        part, _ = predict(remover, scene, window, day)
        assert np.abs(part - whole[(..., *window.slices)]).max() < 1e-5


def test_fast_arithmetic_costs_less_than_a_hundredth_of_a_decibel(triplet):
    exact, quick = lively_dsen2cr(), lively_dsen2cr().fast()
    quick.half = True  # as on a processor that computes with it
    batch = Batch.stack([triplet])

    def psnr(remover):
        return -10 * torch.log10((remover(batch).s2 - batch.target).square().mean())

    assert abs(float(psnr(exact) - psnr(quick))) < 0.01


def test_l2a_is_refused(triplet):
    other = replace(triplet, place=replace(triplet.place, level="L2A"))
    with pytest.raises(InputUnsupported, match="made for level L1C"):
        lively_dsen2cr()(Batch.stack([other]))
