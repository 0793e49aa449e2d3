"""The default engine on five simulated places with known ground: better than the simple methods, and honest about it."""

from __future__ import annotations

import numpy as np

from unclouded.datasets.simulated import simulate
from unclouded.models import load
from unclouded.remove import guess_block
from unclouded.sample import HIDING
from unclouded.scenes.scene import Scene

Z90 = 1.6448536
OTHERS = ("least-cloudy", "mosaic", "linear")


def test_the_engine_wins_on_every_seed_and_its_sigma_covers_what_it_says():
    sizes, halves = [], []
    for seed in range(5):
        place = simulate(seed=seed)
        t = int(np.abs(HIDING[place.cover].mean((1, 2))[1:-1] - 0.5).argmin()) + 1
        scene, day, hidden = Scene.of(place.sample, classes=place.cover), place.sample.s2_dates[t], HIDING[place.cover[t]]
        rmse = {}
        for name in ("scene", *OTHERS):
            guess = guess_block(scene, day, scene.window, hidden, load(name).adapt(scene, day))
            error = (guess.s2 - place.truth[t])[:, hidden]
            rmse[name] = float(np.sqrt(np.nanmean(error**2)))
            if name == "scene":
                assert guess.sigma is not None and np.isfinite(error).all()
                sizes.append(np.abs(error).ravel())
                halves.append(Z90 * guess.sigma[:, hidden].ravel())
        assert all(rmse["scene"] < rmse[other] for other in OTHERS), (seed, rmse)
    size, half = np.concatenate(sizes), np.concatenate(halves)
    assert 0.85 <= (size <= half).mean() <= 0.95
    assert 2 * half.mean() <= 4 * size.mean()
