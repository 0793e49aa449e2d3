"""Adversarial training: what each discriminator is shown, what terms vanish where, and the order of the two steps."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from training.tiny import SIDE, tiny
from unclouded import losses
from unclouded.models.scaling import BOTH_25, scale_radar
from unclouded.training.adversarial import Adversarial, Pool
from unclouded.training.begin import build_remover
from unclouded.training.data import SIMULATED, Steps, open_data
from unclouded.training.games import RIVALS, CycleGame, PairedGame
from unclouded.training.terms import nll

OF_MODEL = {
    "pix2pix": "pix2pix", "sar2opt": "sar2opt", "sar-opt-cgan": "sar-opt-cgan", "simulation-fusion": "simulation-fusion",
    "drib-sar2opt": "drib-sar2opt", "drib": "drib-no-translation", "spagan": "spagan", "stgan": "stgan",
}  # fmt: skip


def shown_to(recipe, remover):
    config = remover.config
    opened = open_data(recipe.data, SIMULATED, bands=config.bands, level=config.level, seed=0, split="train")
    return Steps(opened, recipe.data, config.bands, batch=2, seed=0)[0]


def game_of(name, *overrides):
    recipe = tiny(name, *overrides)
    remover = build_remover(recipe)
    kind = CycleGame if recipe.train.task == "cycle" else None
    game = kind(remover, recipe.loss, 0) if kind else PairedGame(recipe.model.name, remover, recipe.loss, 0)
    return game, remover, shown_to(recipe, remover)


@pytest.mark.parametrize("model", sorted(RIVALS))
def test_real_and_generated_differ_only_in_the_image(model):
    game, remover, shown = game_of(OF_MODEL[model], "data.size=64")
    (duel,) = game.play(shown, shown.batch, None).duels
    c = len(remover.config.bands)
    assert torch.equal(duel.real[:, :-c], duel.generated[:, :-c])
    assert torch.equal(duel.real[:, -c:, :64, :64], remover.optical(shown.batch.target))
    assert not torch.equal(duel.real[:, -c:], duel.generated[:, -c:])
    assert game.discriminators["image"](duel.generated).shape[:2] == (2, 1)
    slope = torch.autograd.grad(duel.generated.sum(), list(game.generators.parameters()), allow_unused=True)
    assert any(g is not None and bool(g.any()) for g in slope)


def test_the_pix2pix_discriminator_sees_radar_then_the_cloudy_image():
    """Meraner et al. 2020, section 4.3."""
    game, remover, shown = game_of("pix2pix", "data.size=64")
    (duel,) = game.play(shown, shown.batch, None).duels
    assert torch.equal(duel.real[:, :2], scale_radar(shown.batch.s1[:, 0], BOTH_25, -1, 1))
    assert torch.equal(duel.real[:, 2:15], remover.optical(shown.batch.s2[:, 0]))


def test_invalid_truth_is_seen_by_nobody():
    game, _, shown = game_of("pix2pix", "data.size=64", "model.set.dropout=0")
    valid = torch.ones(2, 64, 64, dtype=torch.bool)
    valid[:, :20] = False
    found = []
    for bad in (0.3, float("nan")):
        batch = replace(shown.batch, target=torch.where(valid[:, None], shown.batch.target, bad), target_valid=valid)
        played = game.play(shown, batch, None)
        found.append((played.terms["l1"], played.duels[0].real))
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])


def test_terms_of_the_cycle_where_all_is_hidden_or_clear():
    game, _, shown = game_of("cyclegan-ours-0", "loss.l1=100")
    hidden, clear = (replace(shown.batch, cloud=torch.full_like(shown.batch.cloud, m)) for m in (1.0, 0.0))
    assert set(game.play(shown, hidden, None).terms) == {"cycle", "cloud map", "identity"}  # L1 is for paired samples
    assert game.play(shown, hidden, None).terms["cloud map"] == 0
    assert game.play(shown, clear, None).terms["identity"] == 0
    paired = shown._replace(paired=(True, False))
    played = game.play(paired, shown.batch, None)
    image = played.duels[1].generated[:1, :3]
    wanted = 100 * losses.l1(image, game.remover.optical(shown.batch.target[:1]))
    assert played.terms["l1"].item() == pytest.approx(wanted.item(), rel=1e-5)


def test_the_discriminators_of_the_cycle_see_images_and_the_map():
    game, remover, shown = game_of("cyclegan-ours-0")
    radar, optical = game.play(shown, shown.batch, None).duels
    assert radar.real.shape == (2, 3, SIDE, SIDE) and optical.real.shape == (2, 4, SIDE, SIDE)
    assert torch.equal(optical.real[:, 3:], shown.batch.cloud) and torch.equal(optical.generated[:, 3:], shown.batch.cloud)
    assert torch.equal(radar.real[:, 2], radar.real[:, :2].mean(1))
    assert torch.equal(optical.real[:, :3], remover.optical(shown.batch.target))


def test_one_step_changes_generators_by_the_discriminator_before_it(tmp_path, monkeypatch):
    recipe = tiny("pix2pix", "data.size=64", "model.set.dropout=0", "train.optimizer=sgd")
    remover = build_remover(recipe)
    task, shown = Adversarial(recipe, tmp_path, remover), shown_to(recipe, remover)
    seen = []

    def update(at, terms, names):
        seen.append(
            (at, {k: v.item() for k, v in terms.items()}, [p.requires_grad for p in task.game.discriminators.parameters()])
        )

    monkeypatch.setattr(task, "update", update)
    terms = task.step(shown)
    (first, generator, frozen), (second, discriminator, free) = seen
    assert (first, second) == (0, 1) and not any(frozen) and all(free)
    played = task.game.play(shown, shown.batch, None)
    scores = task.game.discriminators["image"](played.duels[0].generated)
    assert generator["gan"] == pytest.approx(losses.gan_loss(scores, real=True, kind="vanilla").item(), rel=1e-3)
    real = task.game.discriminators["image"](played.duels[0].real)
    assert discriminator["discriminator image"] == pytest.approx(
        losses.discriminator_loss(real, scores, "vanilla").item(), rel=1e-3
    )
    assert set(terms) == {"l1", "gan", "discriminator image"}


def test_a_pool_is_the_same_after_being_saved():
    def images(n):
        return torch.full((1, 1, 1, 1), float(n))

    pool = Pool(3, seed=1)
    for n in range(10):
        pool.query(images(n))
    saved = {k: v.clone() for k, v in pool.tensors().items()}
    fresh = Pool(3, seed=9)
    fresh.restore(saved, torch.device("cpu"))
    assert [pool.query(images(n)).item() for n in range(10, 30)] == [fresh.query(images(n)).item() for n in range(10, 30)]
    assert len(saved) == 4


@pytest.mark.parametrize("name", ["pix2pix", "cyclegan-ours-0", "uncrtaints-mono"])
def test_bfloat16_keeps_weights_in_float32(name, tmp_path):
    from unclouded.training.begin import load_run
    from unclouded.training.run import train

    made = load_run(train(tiny(name, "train.precision=bf16"), SIMULATED, tmp_path / "run").folder)
    assert all(p.dtype == torch.float32 and bool(p.isfinite().all()) for p in made.network.parameters())


def test_the_likelihood_of_a_batch_without_valid_pixels_is_nothing_and_moves_nothing():
    mean, spread = torch.full((1, 2, 4, 4), 0.5, requires_grad=True), torch.full((1, 2, 4, 4), 0.3, requires_grad=True)
    target, none = torch.full((1, 2, 4, 4), torch.nan), torch.zeros(1, 4, 4, dtype=torch.bool)
    found = nll(mean, spread, target, none, as_published=False)
    found.backward()
    assert float(found.detach()) == 0 and float(mean.grad.abs().max()) == float(spread.grad.abs().max()) == 0
    some = none.clone()
    some[0, 1, 2] = True
    alone = nll(mean, spread, target.nan_to_num(0.2), some, as_published=False)
    assert float(alone.detach()) == pytest.approx(math.log(2 * math.pi) + math.log(0.3) + 0.09 / 0.3)
