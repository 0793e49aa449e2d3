"""The twelve promises of every network in the table (and that tiles fit together), at each one's tiny Config."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from typing import get_args, get_origin, get_type_hints

import numpy as np
import pytest
import torch

from models.lively import lively
from unclouded.bands import L1C, L2A
from unclouded.errors import InputUnsupported
from unclouded.models import weights, zoo
from unclouded.models.needs import CloudRemover
from unclouded.models.single_date import target_frame
from unclouded.sample import Batch, Place, Sample, Source, Window, as_days

NAMES = list(zoo.SINGLE_DATE)
DAYS = ["2021-06-01", "2021-06-06", "2021-06-11", "2021-06-16"]
RADAR_DAYS = ["2021-05-30", "2021-06-07", "2021-06-13"]


def make(name, config=None):
    kind, config = zoo.network_class(name)[0], zoo.tiny_config(name) if config is None else config
    return kind(config, lively(kind(config).network, gain=0.8))


def fresh(name, seed=0):
    return zoo.network_class(name)[0](zoo.tiny_config(name), seed=seed)


def sample(needs, h, w, *, seed=0, dates=1, index=0, radar=True):
    """Reflectance and radar with patches that were not measured, on their own time axes."""
    rng = np.random.default_rng(seed)
    bands, t1 = needs.bands or L1C, len(RADAR_DAYS)
    valid = np.ones((dates, h, w), bool)
    valid[:, : h // 5, : w // 3] = False
    s1_valid = np.ones((t1, h, w), bool)
    s1_valid[:, h // 2 :, : w // 4] = False
    return Sample(
        place=Place(id="p", bands=bands, level=needs.levels[0]),
        s2=rng.uniform(0, 0.6, (dates, len(bands), h, w)).astype(np.float32),
        s2_valid=valid,
        s2_dates=as_days(DAYS[:dates]),
        s1=rng.uniform(-28, -2, (t1, 2, h, w)).astype(np.float32) if radar else None,
        s1_valid=s1_valid if radar else None,
        s1_dates=as_days(RADAR_DAYS) if radar else None,
        cloud=(rng.uniform(0, 1, (dates, h, w)) > 0.5).astype(np.float32),
        target_date=as_days(DAYS)[index],
        target_index=index,
    )


def side(remover):
    return max(remover.needs.multiple_of, 32)


def small(remover, **more):
    n = side(remover)
    return Batch.stack([sample(remover.needs, n, n, **more)])


@pytest.mark.parametrize("name", NAMES)
def test_1_forward_on_its_tile(name):
    remover = make(name)
    assert isinstance(remover, CloudRemover)
    assert remover.adapt(None, None) is remover
    n = remover.needs.tile
    prediction = remover(Batch.stack([sample(remover.needs, n, n)]))
    check(prediction, remover, n, n)


def check(prediction, remover, h, w):
    assert prediction.s2.shape == (1, len(remover.needs.bands), h, w)
    assert prediction.s2.dtype == torch.float32
    assert not prediction.s2.requires_grad
    assert bool(torch.isfinite(prediction.s2).all())
    assert prediction.source.dtype == torch.uint8


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(37, 45), (1, 70), (5, 3)])
def test_2_odd_sizes(name, shape):
    remover = make(name)
    check(remover(Batch.stack([sample(remover.needs, *shape)])), remover, *shape)


@pytest.mark.parametrize("name", NAMES)
def test_3_a_longer_series_uses_the_target_date(name):
    remover = make(name)
    low, high = remover.needs.dates
    assert (low, high) == (1, None)
    series = sample(remover.needs, 32, 32, dates=4, index=2)
    alone = replace(
        series,
        s2=series.s2[2:3],
        s2_valid=series.s2_valid[2:3],
        s2_dates=series.s2_dates[2:3],
        cloud=series.cloud[2:3],
        target_index=0,
    )
    assert torch.equal(remover(Batch.stack([series])).s2, remover(Batch.stack([alone])).s2)
    with pytest.raises(InputUnsupported, match="not among the inputs"):
        remover(Batch.stack([replace(series, target_index=None)]))


@pytest.mark.parametrize("name", NAMES)
def test_4_reflectance_and_source(name):
    """Outputs live on the scale of reflectance: an untrained network's image is far from counts or network ranges."""
    remover = make(name)
    prediction = remover(small(remover))
    assert float(prediction.s2.min()) > -2
    assert float(prediction.s2.max()) < 3
    n = side(remover)
    measured = prediction.source[0, 0, -1]
    assert int(measured) == (Source.SAME_IMAGE if remover.needs.sar == "unused" else Source.SAR)
    assert int(prediction.source[0, n - 1, 0]) == Source.SAME_IMAGE  # radar did not measure this corner


@pytest.mark.parametrize("name", NAMES)
def test_5_every_parameter_gets_a_gradient(name):
    remover = make(name)
    remover.network.train()
    n = side(remover)
    batch = Batch.stack([sample(remover.needs, n, n, seed=s) for s in (0, 1)])
    prediction = remover(batch)
    assert prediction.s2.requires_grad
    with torch.random.fork_rng(devices=[]):
        outputs = remover.network(*remover.inputs(target_frame(batch)))
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    sum(o.square().sum() for o in outputs).backward()
    silent = {n for n, p in remover.network.named_parameters() if p.grad is None}
    expected = {n for n, _ in remover.network.named_parameters() if n.startswith(remover.unused)} if remover.unused else set()
    assert silent == expected


@pytest.mark.parametrize("name", NAMES)
def test_6_same_seed_same_bits_and_global_state_untouched(name):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = fresh(name)
    batch = small(first)
    a = first(batch).s2
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first(batch).s2, a)
    assert torch.equal(fresh(name)(batch).s2, a)
    assert not torch.equal(fresh(name, seed=1)(batch).s2, a)


@pytest.mark.parametrize("name", NAMES)
def test_7_a_batch_of_two_is_two_batches_of_one(name):
    remover = make(name)
    n = side(remover)
    one, two = (sample(remover.needs, n, n, seed=s) for s in (0, 1))
    both = remover(Batch.stack([one, two])).s2
    each = torch.cat([remover(Batch.stack([s])).s2 for s in (one, two)])
    assert torch.allclose(both, each, atol=2e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [float("nan"), 1e30, -7.0])
def test_8_invalid_pixels_do_not_leak(name, value):
    remover = make(name)
    batch = small(remover)
    spoilt = replace(
        batch,
        s2=torch.where(batch.s2_valid[:, :, None], batch.s2, value),
        s1=torch.where(batch.s1_valid[:, :, None], batch.s1, value),
        cloud=torch.where(batch.s2_valid, batch.cloud, value),
    )
    assert torch.equal(remover(spoilt).s2, remover(batch).s2)


@pytest.mark.parametrize("name", NAMES)
def test_9_wrong_inputs_are_refused_with_a_sentence(name):
    remover = make(name)
    batch = small(remover)
    place = batch.places[0]
    n, device_bands = side(remover), remover.needs.bands
    fewer = replace(remover.needs, bands=device_bands[:-1])
    with pytest.raises(InputUnsupported, match="needs the bands"):
        remover(Batch.stack([sample(fewer, n, n)]))
    with pytest.raises(InputUnsupported, match="made for level L1C"):
        remover(replace(batch, places=(replace(place, level="L2A"),)))
    if remover.needs.sar == "required":
        with pytest.raises(InputUnsupported, match="Sentinel-1"):
            remover(Batch.stack([sample(remover.needs, n, n, radar=False)]))
    if remover.needs.cloud:
        with pytest.raises(InputUnsupported, match="cloud masks"):
            remover(replace(batch, cloud=None))


@pytest.mark.parametrize("name", NAMES)
def test_every_input_it_needs_has_influence(name):
    remover = make(name)
    batch = small(remover)
    usual = remover(batch).s2
    changed = {"s1": remover.needs.sar == "required", "cloud": remover.needs.cloud, "s2": "sar2opt" not in name}
    for field, matters in changed.items():
        other = remover(replace(batch, **{field: getattr(batch, field) * 0.5})).s2
        assert torch.equal(other, usual) != matters, field


@pytest.mark.parametrize("name", NAMES)
def test_9b_another_level_when_asked_for_by_name(name):
    config = replace(zoo.tiny_config(name), bands=L2A, level="L2A")
    remover = make(name, config)
    assert remover(small(remover)).s2.shape[1] == 12


@pytest.mark.parametrize("name", NAMES)
def test_10_save_and_load_give_the_same_bits(name, tmp_path):
    remover = make(name)
    record = weights.save(tmp_path / "w.safetensors", name, remover)
    loaded = weights.load(tmp_path / "w.safetensors")
    assert loaded.config == remover.config
    assert record.parameters == sum(p.numel() for p in remover.network.parameters())
    batch = small(remover)
    assert torch.equal(loaded(batch).s2, remover(batch).s2)


@pytest.mark.parametrize("name", NAMES)
def test_11_bfloat16_stays_close(name):
    """The bound stated by `SingleDate.fast`, here forced on whatever the processor offers."""
    remover = make(name)
    batch = small(remover)
    exact = remover(batch).s2
    quick = remover.fast()
    quick.half = True
    close = quick(batch).s2
    assert close.dtype == torch.float32
    assert float((close - exact).square().mean().sqrt()) < 0.01


BASES = {  # settings under which a field has its effect
    ("drib", "levels"): {"removal": "unet"},
    ("drib-sar2opt", "levels"): {"generator": "unet"},
    ("glfcr", "drop_path"): {"variant": "as_published"},
}
OTHERS = {
    "bands": (L2A,), "sar": (False, True), "radar_mean": (False, True), "width": (8,), "features": (16,), "growth": (4,),
    "blocks": (3,), "layers": (3,), "levels": (5, 6), "heads": (4,), "window": (8,), "kernel": (5,), "residual_scale": (0.2,),
    "drop_path": (0.5,), "dropout": (0.0,), "jitter": (0.0,),
}  # fmt: skip


def trace(name, config):
    """What a Config does: needs, parameters, output in evaluation and in training."""
    remover = make(name, config)
    batch = small(remover)
    shapes = [(n, tuple(p.shape)) for n, p in remover.network.named_parameters()]
    quiet = remover(batch).s2
    remover.network.train()
    n = side(remover)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(3)
        loud = remover(Batch.stack([sample(remover.needs, n, n, seed=s) for s in range(3)])).s2
    return asdict(remover.needs), shapes, quiet.tolist(), loud.tolist()


def options(name):
    hints = get_type_hints(zoo.network_class(name)[1])
    for f in fields(zoo.network_class(name)[1]):
        kind = hints[f.name]
        if get_origin(kind) is not None and str(get_origin(kind)) == "typing.Literal":
            yield from ((f.name, v) for v in get_args(kind))
        else:
            yield from ((f.name, v) for v in OTHERS[f.name])


@pytest.mark.parametrize("name", [n for n in NAMES if not zoo.NETWORKS[n].preset or n == "glfcr"])
def test_12_every_option_changes_something(name):
    traces = {}
    for field, value in options(name):
        base = replace(zoo.tiny_config(name), **BASES.get((name, field), {}))
        if getattr(base, field) == value:
            continue
        if base not in traces:
            traces[base] = trace(name, base)
        assert trace(name, replace(base, **{field: value})) != traces[base], (field, value)


@pytest.mark.parametrize("name", NAMES)
def test_tiles_fit_the_whole(name):
    """A window with its halo gives what the whole image gives: exactly, or within the bound that is stated for the rest."""
    remover = make(name)
    needs, n = remover.needs, 128
    whole = sample(needs, n, n)
    expected = remover(Batch.stack([whole])).s2
    for window in (Window(0, 0, 48, 48), Window(40, 48, 48, 40), Window(80, 80, 48, 48)):
        outer = window.grow(needs.halo, (n, n))
        tile = remover(Batch.stack([whole.crop(outer)])).s2[..., *window.inside(outer).slices]
        error = (tile - expected[..., *window.slices]).abs()
        if needs.tiling == "exact":
            assert float(error.max()) < 1e-5
        else:
            assert float(error.square().mean().sqrt()) < (0.15 if instance_norm(remover) else 0.03)


def instance_norm(remover):
    """Such networks see the mean and spread of the tile they are given."""
    return any(isinstance(m, torch.nn.InstanceNorm2d) for m in remover.network.modules())
