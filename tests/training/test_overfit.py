"""Every family of losses learns: on one batch, the tiny network brings its term to half of its first value or less.

For adversarial recipes the pixel, or the cloud-map, term is meant: a game has no value that must fall.
"""

from __future__ import annotations

import csv

import pytest

from training.tiny import tiny
from unclouded.training.data import SIMULATED
from unclouded.training.run import train

ALONE = ("data.count=1", "train.batch=1", "data.validation=0", "train.rate=3e-3", "train.schedule.kind=constant")

FAMILIES = {  # recipe, what is changed, term, steps
    "l1": ("dsen2cr-l1", (), "l1", 60),
    "l2": ("dsen2cr-l1", ("loss.l1=0", "loss.l2=1.0"), "l2", 60),
    "carl": ("dsen2cr-carl", (), "carl", 80),
    "ssim": ("dsen2cr-l1", ("loss.l1=0", "loss.ssim=1.0"), "ssim", 120),
    "sam": ("dsen2cr-l1", ("loss.l1=0", "loss.sam=1.0"), "sam", 80),
    "perceptual": ("dsen2cr-l1", ("loss.l1=0", "loss.perceptual=1.0"), "perceptual", 60),
    "style": ("dsen2cr-l1", ("loss.l1=0", "loss.style=1.0"), "style", 60),
    "likelihood": ("uncrtaints-mono", (), "nll", 60),
    "paired": ("pix2pix", ("model.set.dropout=0",), "l1", 60),
    "paired lsgan": ("sar2opt", ("loss.gan_kind=lsgan", "loss.pool=2", "model.set.dropout=0"), "l1", 60),
    "cycle": ("cyclegan-ours-0", ("loss.cloud_map=100", "model.set.blocks=1"), "cloud map", 120),
    "series": ("utilise", ("train.rate=1e-2", "data.dates=3"), "series", 40),
    "classes": ("vgg16-landcover", (), "cross-entropy", 40),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_one_batch_is_learned(family, tmp_path):
    name, changes, term, steps = FAMILIES[family]
    run = train(tiny(name, *ALONE, *changes, steps=steps), SIMULATED, tmp_path / "run")
    with (run.folder / "log.csv").open(newline="") as file:
        values = [float(row[term]) for row in csv.DictReader(file)]
    assert values[0] > 0
    assert min(values[-5:]) <= 0.5 * values[0], (values[0], values[-5:])
