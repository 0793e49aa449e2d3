"""Fine-tuning on one's own place: it learns what it can check, never gets worse by it, and keeps the held-out part apart."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from unclouded.datasets.simulated import simulate
from unclouded.errors import InputMissing, InputUnsupported, UsageError
from unclouded.models import weights
from unclouded.sample import Cover
from unclouded.scenes.scene import Scene
from unclouded.training.adapt import HiddenClear, adapt, split_windows
from unclouded.training.begin import load_run

SMALL = {"features": 16, "blocks": 2}


@pytest.fixture(scope="module")
def scene():
    return Scene.of(simulate(seed=4, size=(96, 96), dates=6, cover=[0.2, 0.5, 0.1, 0.4, 0.3, 0.2]).sample)


@pytest.fixture(scope="module")
def adapted(scene, tmp_path_factory):
    return adapt(
        "dsen2cr", scene, tmp_path_factory.mktemp("adapted"), settings=SMALL, steps=90, side=32, rate=2e-3, validate_every=15
    )


def test_held_out_pixels_are_rebuilt_far_better_than_before(adapted):
    assert adapted.after < 0.5 * adapted.before
    told = json.loads((adapted.folder / "adapted.json").read_text())
    assert told["held_out_mae_after"] == adapted.after and told["steps"] == adapted.steps <= 90


def test_a_second_round_starts_where_the_first_ended(adapted, scene, tmp_path):
    again = adapt(adapted.folder, scene, tmp_path / "again", steps=5, side=32, rate=1e-9, validate_every=5)
    assert again.before == pytest.approx(adapted.after, rel=1e-6)
    record = weights.read(tmp_path / "again" / "weights.safetensors")
    assert record.model == "dsen2cr" and "clear pixels" in record.trained_on


def test_it_never_gets_worse(adapted, scene, tmp_path):
    worse = adapt(adapted.folder, scene, tmp_path / "worse", steps=60, side=32, rate=1.0, validate_every=2, patience=3)
    assert worse.after == worse.before and worse.steps == 6  # stopped after three validations in vain
    a, b = (load_run(folder).network.state_dict() for folder in (adapted.folder, worse.folder))
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_windows_are_held_out_whole(scene):
    learned, held = split_windows(scene, 32, 0)
    assert learned and held and not {w for w, _ in learned} & {w for w, _ in held}
    assert len({w for w, _ in held}) == round(0.2 * len({w for w, _ in learned} | {w for w, _ in held}))
    for window, t in learned:
        assert (scene.masks[(t, *window.slices)] == Cover.CLEAR).mean() >= 0.5
    assert split_windows(scene, 32, 1) != (learned, held)


def test_truth_is_what_was_seen_there(scene):
    learned, _ = split_windows(scene, 32, 0)
    source = HiddenClear(scene, learned, True, 0)
    hidden = 0
    for i in range(0, len(learned), 5):
        sample, (window, t) = source[i], learned[i]
        seen = scene.read(window, only=[t])
        clear = seen.clear()[0]
        assert np.array_equal(sample.target_valid, clear)
        assert np.array_equal(sample.target[:, clear], seen.s2[0][:, clear])
        assert sample.s2.shape[0] == 1 and sample.target_index == 0
        hidden += int(((sample.cloud[0] >= 0.5) & clear).sum())
        assert np.array_equal(source[i].s2, sample.s2)
    assert hidden > 300


def test_a_network_for_series_is_adapted_too(scene, tmp_path):
    settings = {"features": 8, "blocks": 1, "dates": 3}
    made = adapt(
        "seq2point", scene, tmp_path / "run", settings=settings, steps=20, batch=2, side=32, rate=2e-3, validate_every=10
    )
    assert made.after < made.before
    assert type(load_run(made.folder)).__name__ == "Seq2Point"


def test_the_same_seed_gives_the_same_weights(scene, tmp_path):
    chance = torch.random.get_rng_state()
    digests = []
    for n, seed in enumerate((0, 0, 1)):
        adapt("dsen2cr", scene, tmp_path / str(n), settings=SMALL, steps=4, side=32, rate=1e-3, validate_every=2, seed=seed)
        digests.append(weights.read(tmp_path / str(n) / "weights.safetensors").digest)
    assert digests[0] == digests[1] != digests[2]
    assert torch.equal(chance, torch.random.get_rng_state())


def test_what_cannot_be_learned_from_is_refused(scene, adapted, tmp_path):
    with pytest.raises(InputUnsupported, match="without masks"):
        adapt("dsen2cr-optical", replace(scene, masks=None), tmp_path, settings=SMALL)
    with pytest.raises(InputMissing, match="too cloudy, or too small"):
        adapt("dsen2cr", scene.with_masks(np.full_like(scene.masks, Cover.THICK)), tmp_path, settings=SMALL)
    with pytest.raises(UsageError, match="did you mean"):
        adapt("dsen2cr", scene, tmp_path, settings={"feature": 3})
    with pytest.raises(InputUnsupported, match="radar"):
        adapt("dsen2cr", replace(scene, s1_dates=None), tmp_path, settings=SMALL)
    with pytest.raises(InputUnsupported, match="leave the settings out"):
        adapt(adapted.folder, scene, tmp_path, settings=SMALL)
    with pytest.raises(InputMissing, match="no trained weights"):
        adapt(tmp_path / "nothing", scene, tmp_path)
