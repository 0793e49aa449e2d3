"""The engine under masks as they are: delivered classes with errors, grown and screened; cloud edges remain unmasked.

(Lead's finding, 15:05: with the true masks the engine beats linear by 30-50 % on simulated places, but with detected masks it
LOST to linear: seed 1 0.033 against 0.025, seed 3 0.0149 against 0.0084, seed 7 likewise. The clear pixels of the target within
about 100 m of hidden ones carry residual cloud and shadow; regression and process carry it under the cloud. Masks grown by
100 m instead of 20 m for the fit alone give 0.0127 and 0.0089. Wanted: pixels near the hidden area must earn their place, e.g.
fit on those beyond 100 m first, then let near ones in only where their residual agrees in all bands (gating by a chi-square of
the prior regression), down-weighting the rest; likewise for near pixels of the donors. Clean masks must not lose.)
"""

from __future__ import annotations

import numpy as np
import pytest

from unclouded.datasets.simulated import simulate
from unclouded.masks.detect import detect
from unclouded.models import load
from unclouded.remove import guess_block
from unclouded.sample import HIDING
from unclouded.scenes.scene import Scene


@pytest.mark.parametrize("seeds", [(1, 3), pytest.param((1, 2, 3, 4, 5, 7), marks=pytest.mark.long)])
def test_unmasked_cloud_edges_do_not_spoil_the_fit(seeds):
    errors: dict[str, list[float]] = {"scene": [], "linear": []}
    for seed in seeds:
        place = simulate(seed=seed, size=(192, 192), dates=12)
        share = HIDING[place.cover].mean((1, 2))
        t = int(np.abs(share[1:-1] - 0.5).argmin()) + 1
        day = place.sample.s2_dates[t]
        scene = detect(Scene.of(place.sample), targets=[day])
        hidden = HIDING[scene.masks[t]]
        for name, found in errors.items():
            guess = guess_block(scene, day, scene.window, hidden, load(name).adapt(scene, day)).s2
            wrong = (guess - place.truth[t])[:, hidden]
            found.append(float(np.sqrt(np.nanmean(wrong**2))))
    ratio = np.asarray(errors["scene"]) / np.asarray(errors["linear"])
    assert np.exp(np.log(ratio).mean()) < 0.9, errors
