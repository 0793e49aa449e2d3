"""What a recipe says and would be ignored is refused by the setting's name, before anything is written."""

from __future__ import annotations

import pytest

from training.tiny import tiny
from unclouded.errors import UsageError
from unclouded.training.data import SIMULATED
from unclouded.training.recipe import read_recipe, recipes
from unclouded.training.run import train
from unclouded.training.sense import TERMS, check_recipe


def test_every_recipe_makes_sense():
    for recipe in recipes().values():
        check_recipe(recipe)


REFUSED = [
    *((name, f"loss.{term}=1", f"'loss.{term}' has no effect with train.task = '{task}'") for name, task, terms in (
        ("dsen2cr-carl", "regression", ("gan", "cycle", "identity", "cloud_map", "simulation", "attention")),
        ("pix2pix", "paired", ("l2", "carl", "sam", "nll", "series", "cycle")),
        ("cyclegan-ours-0", "cycle", ("l2", "ssim", "simulation")),
        ("vgg16-landcover", "land cover", ("l1", "gan")),
    ) for term in terms),
    ("pix2pix", "loss.attention=1", "'loss.attention' has no effect with the network 'pix2pix'"),
    ("spagan", "loss.simulation=1", "'loss.simulation' has no effect with the network 'spagan'"),
    ("dsen2cr-carl", "loss.carl=0", "no loss: every weight is 0"),
    ("dsen2cr-carl", "loss.nll=1", "'loss.nll' is the likelihood of a network that gives a variance"),
    ("uncrtaints-l1", "loss.nll=1", "'uncrtaints' as set here gives none"),
    ("uncrtaints", "loss.series=1", "'loss.series' is of a network that restores all dates"),
    ("dsen2cr-carl", "data.donors=somewhere", "'data.donors' has no effect with data.clouds = 'real'"),
    ("drib-sar2opt", "data.cover=[0.1,0.2]", "'data.cover' has no effect with data.kind = 'clear'"),
    ("drib-sar2opt", "data.clouds=copied", "shows clear images only"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "setting", "words"), REFUSED)
def test_what_would_be_ignored_is_refused(name, setting, words, tmp_path):
    with pytest.raises(UsageError) as error:
        train(tiny(name, setting), SIMULATED, tmp_path / "run")
    assert words in str(error.value) and not (tmp_path / "run").exists()


def test_what_the_task_knows_is_said():
    with pytest.raises(UsageError) as error:
        check_recipe(read_recipe("pix2pix", ["loss.l2=1"]))
    assert "loss.gan, loss.l1, loss.ssim" in error.value.why and "--set loss.l2=0" in error.value.do
    assert TERMS["land cover"] == ()


@pytest.mark.parametrize("setting", ["data.cover=[0.9,0.1]", "data.cover=[-0.1,0.5]", "data.synthetic_cover=[2,3]"])
def test_a_cover_is_two_shares_in_order(setting):
    with pytest.raises(UsageError) as error:
        read_recipe("dsen2cr-carl", [setting])
    assert setting.partition("=")[0] in error.value.what and error.value.why.startswith("expected two shares from 0 to 1")
