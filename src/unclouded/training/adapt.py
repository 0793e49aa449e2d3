"""Fine-tuning on one's own place, without cloud-free truth: hide clear pixels under real clouds of other dates, rebuild them.

Part of the place is held out, in whole windows; training stops when the hidden clear pixels there are no longer rebuilt better,
and the best weights are kept. If nothing ever was better than at the start, the weights of the start are what comes out.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from unclouded.datasets.lattice import key
from unclouded.errors import InputMissing, InputUnsupported
from unclouded.models import weights, zoo
from unclouded.models.several_dates import SeveralDates
from unclouded.models.single_date import SingleDate
from unclouded.sample import HIDDEN_FROM, HIDING, Cover, Sample, Window
from unclouded.training.begin import WEIGHTS, config_of, weights_of
from unclouded.training.checkpoint import write_whole
from unclouded.training.data import Opened, Steps
from unclouded.training.log import Clock, Progress, State, silent
from unclouded.training.recipe import Data, Loss, Model
from unclouded.training.samples import Remembered, only_dates, transplanted_or_physical
from unclouded.training.terms import regression_terms
from unclouded.training.validate import restored

if TYPE_CHECKING:
    from unclouded.scenes.scene import Scene

HELD_OUT = 0.2  # share of the windows
CLEAR = 0.5  # least clear share of a window that is to be rebuilt
GIVING = (0.05, 0.95)  # hidden share of a window whose clouds are laid over
CLIP = 1.0  # largest gradient norm


class Adapted(NamedTuple):
    """What came out: the run's folder, steps done, and the mean error (reflectance) of held-out pixels before and after."""

    folder: Path
    steps: int
    before: float
    after: float


@dataclass(frozen=True)
class HiddenClear:
    """Windows of a scene in which clear pixels of one date are hidden under clouds of another, with what was there as truth."""

    scene: Scene
    items: tuple[tuple[Window, int], ...]  # window, date to rebuild
    alone: bool  # only the date itself is shown
    seed: int

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> Sample:
        """Item i: the clouds over it are always the same."""
        window, t = self.items[i]
        assert self.scene.masks is not None
        shares = _shares(self.scene.masks[(slice(None), *window.slices)])[1]
        giving = [u for u, share in enumerate(shares) if u != t and GIVING[0] <= share <= GIVING[1]]
        draw = np.random.default_rng(key(self.seed, "giving", i))
        shown = sorted({t, giving[int(draw.integers(len(giving)))]}) if giving else [t]
        sample = self.scene.read(window, target=self.scene.dates[t], only=shown if self.alone else None)
        covered = transplanted_or_physical(sample, key(self.seed, "cover", i), cover=0.3)
        if not self.alone:
            return covered
        assert covered.target_index is not None
        return replace(only_dates(covered, [covered.target_index]), target_index=0)


def adapt(
    model: str | Path,
    scene: Scene,
    out: str | Path,
    *,
    settings: Mapping[str, Any] | None = None,
    steps: int = 400,
    batch: int = 4,
    side: int = 64,
    rate: float = 1e-4,
    validate_every: int = 25,
    patience: int = 4,
    seed: int = 0,
    progress: Progress = silent,
) -> Adapted:
    """Fine-tune a network on a scene with masks and write it to `out`, where `unclouded remove --model OUT` finds it.

    `model`: a run, a weights file, or the name of a network, which then starts untrained with the scene's bands and level and
    with `settings`. `side`: pixels of a window. Stops after `steps`, or when `patience` validations brought nothing.
    Raises InputUnsupported where the scene is not what the network takes, InputMissing where it has too little to learn from.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        name, remover = _opened(model, scene, settings or {}, seed)
        remover.needs.check(scene)
        learned, held = split_windows(scene, side, seed)
        alone = not isinstance(remover, SeveralDates)
        shown = _steps(HiddenClear(scene, learned, alone, key(seed, "learned")), remover, batch, seed)
        judge = [Remembered(HiddenClear(scene, held, alone, key(seed, "held")))[i] for i in range(min(len(held), 16))]
        best = _learn(remover, shown, judge, steps, rate, validate_every, patience, seed, progress)
    return _written(Path(out), name, remover, scene, best, {"learned": len(learned), "held out": len(held), "seed": seed})


def _opened(model: str | Path, scene: Scene, settings: Mapping[str, Any], seed: int) -> tuple[str, SingleDate]:
    if str(model) in zoo.NETWORKS | zoo.SERIES:
        own = {"bands": scene.place.bands, "level": scene.place.level}
        config = config_of(Model(name=str(model), set={**own, **settings}))
        untrained: SingleDate = zoo.network_class(str(model))[0](config, seed=seed)
        return str(model), untrained
    if settings:
        raise InputUnsupported("Trained weights have their settings.", where=model, do="leave the settings out.")
    path = weights_of(model)
    return weights.read(path).model, weights.load(path)


def split_windows(scene: Scene, side: int, seed: int) -> tuple[tuple[tuple[Window, int], ...], tuple[tuple[Window, int], ...]]:
    """(window, date) to learn from and to hold out: whole windows, drawn by chance. Raises InputUnsupported, InputMissing."""
    if scene.masks is None:
        raise InputUnsupported("A scene without masks cannot be learned from.", do="detect clouds first (--mask auto).")
    side = min(side, scene.shape[0] // 2, scene.shape[1] // 2)  # at least four windows
    found: dict[Window, list[int]] = {}
    for window in scene.blocks(max(side, 1)):
        if (window.height, window.width) == (side, side):
            clear, _ = _shares(scene.masks[(slice(None), *window.slices)])
            found[window] = [t for t, share in enumerate(clear) if share >= CLEAR]
    ranked = sorted((w for w in found if found[w]), key=lambda w: key(seed, "held", w.row, w.col))
    if len(ranked) < 2:
        raise InputMissing(
            "The place is too cloudy, or too small, to learn from.", where=scene.place.id,
            why=f"{len(ranked)} windows of {side} x {side} pixels are half clear on some date; two are needed.",
            do="give more dates or a larger area.",
        )  # fmt: skip
    held = set(ranked[: max(1, round(HELD_OUT * len(ranked)))])
    pairs = [(w, t) for w in ranked for t in found[w]]
    return tuple(p for p in pairs if p[0] not in held), tuple(p for p in pairs if p[0] in held)


def _shares(masks: np.ndarray[Any, np.dtype[np.uint8]]) -> tuple[Sequence[float], Sequence[float]]:
    """Of every date (T, h, w): the clear and the hidden share."""
    hidden = HIDING[masks]
    return (~hidden & (masks != Cover.NODATA)).mean((1, 2)).tolist(), hidden.mean((1, 2)).tolist()


def _steps(source: HiddenClear, remover: SingleDate, batch: int, seed: int) -> Steps:
    data = Data(kind="triplets", flips=True, turns=True)
    opened = Opened(Remembered(source), source.scene.place.id, "train", "", "")
    return Steps(opened, data, tuple(remover.config.bands), batch=batch, seed=seed)


class _Best(NamedTuple):
    state: dict[str, Tensor]
    steps: int
    before: float
    after: float


def _learn(
    remover: SingleDate, shown: Steps, judge: Sequence[Sample], steps: int, rate: float, validate_every: int, patience: int,
    seed: int, progress: Progress,
) -> _Best:  # fmt: skip
    loss = Loss(nll=1) if getattr(remover.config, "covariance", "none") != "none" else Loss(l1=1)
    optimizer = torch.optim.Adam(remover.network.parameters(), lr=rate)
    before = after = held_out_error(remover, judge)
    state, clock, waited, step = copy.deepcopy(remover.network.state_dict()), Clock(0, steps), 0, 0
    while step < steps and waited < patience:
        torch.manual_seed(key(seed, "step", step))
        remover.network.train()
        batch = shown[step].batch
        total = torch.stack([*regression_terms(loss, remover(batch), batch, remover.optical_range).values()]).sum()
        optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(remover.network.parameters(), CLIP)
        optimizer.step()
        step += 1
        if step % validate_every == 0 or step == steps:
            error = held_out_error(remover, judge)
            waited = 0 if error < after else waited + 1
            if error < after:
                after, state = error, copy.deepcopy(remover.network.state_dict())
        progress(State(step, steps, clock.left(step), {"loss": float(total.detach()), "held-out error": after}))
    remover.network.load_state_dict(state)
    remover.network.eval()
    return _Best(state, step, before, after)


def held_out_error(remover: SingleDate, judge: Sequence[Sample]) -> float:
    """Mean absolute error (reflectance) of the pixels that were hidden though they are known; NaN without any."""
    remover.network.eval()
    total, count = 0.0, 0
    for sample in judge:
        assert sample.target is not None and sample.target_valid is not None and sample.cloud is not None
        assert sample.target_index is not None
        where = (sample.cloud[sample.target_index] >= HIDDEN_FROM) & sample.target_valid
        error = np.abs(restored(remover, sample) - sample.target)[:, where]
        total, count = total + float(np.nansum(error)), count + int(np.isfinite(error).sum())
    return total / count if count else float("nan")


def _written(out: Path, name: str, remover: SingleDate, scene: Scene, best: _Best, facts: Mapping[str, Any]) -> Adapted:
    numbers = {"held_out_mae_before": best.before, "held_out_mae_after": best.after}
    trained_on = f"{scene.place.id}, {len(scene.dates)} dates, {scene.dates[0]} to {scene.dates[-1]}, clear pixels"
    weights.save(out / WEIGHTS, name, remover, weights.Weights(model=name, trained_on=trained_on, numbers=numbers))
    told = {"model": name, "place": scene.place.id, "steps": best.steps, **numbers, **facts}
    write_whole(out / "adapted.json", json.dumps(told, indent=2).encode())
    return Adapted(out, best.steps, best.before, best.after)
