"""The default remover: reconstruct a date from what the place itself teaches, without pretrained weights.

    other dates -> candidates (line, short and long mean, damped walk) -> stacked base
    rehearsals on other dates -> mean correction -> prior of a regression -> posterior by the target's clear pixels
    -> local Gaussian process on what is left -> sigma

`adapt` fits a small `SceneModel` (scene_model.py) on a bounded sample of the scene; the adapted remover then works cell by
cell on the absolute pixel grid, each with its own fixed surroundings: a pixel is the same bits however the scene is cut.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unclouded.models.needs import Needs
from unclouded.models.scene_fit import fit
from unclouded.models.scene_model import Guess, SceneModel, predict, settled, usable
from unclouded.models.scene_study import Cell, Stack, cells, hashed, stack_of_batch
from unclouded.models.scene_survey import Survey, studied, surveyed
from unclouded.models.temporal import EDGE, Floats, Mask, Pixels
from unclouded.sample import NO_AGE, Batch, Prediction, Source, as_day

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from unclouded.scenes.scene import Scene

CELL = 64  # pixels: the unit of prediction
REACH = 32  # pixels around a cell whose clear pixels its process may use
HALO = REACH + EDGE


class Level(NamedTuple):
    """What a quality level spends."""

    centres: int  # of the scene-wide process
    near: int  # clear pixels of the local process of a cell; 0: none


LEVELS: dict[str, Level] = {"fast": Level(256, 0), "default": Level(512, 256), "best": Level(1024, 768)}


@dataclass(frozen=True, kw_only=True)
class Config:
    """`quality` trades time for the local process, `causal` uses past dates only, `radar` False ignores S1."""

    quality: Literal["fast", "default", "best"] = "default"
    causal: bool = False
    radar: bool = True
    seed: int = 0


@dataclass(frozen=True)
class SceneEngine:
    """The remover. Without `model` it adapts to each batch it is given; `adapt` returns it with the model of a scene."""

    config: Config = field(default_factory=Config)
    model: SceneModel | None = None
    survey: Survey | None = None

    @property
    def needs(self) -> Needs:
        """Any bands, any level, one date or more; radar if there is some; a margin that makes tiles agree bit for bit."""
        return Needs(sar="optional", dates=(1, None), halo=HALO, lattice=CELL)

    def surveyed(self, scene: Scene, folder: Path | None = None, workers: int = 1) -> SceneEngine:
        """The remover with its sample of the scene read once, for all dates and masks that `adapt` is then called with.

        `folder`: where the sample is kept (None: in memory). Nothing changes but the time that `adapt` takes.
        """
        found = surveyed(scene, radar=self.config.radar, seed=self.config.seed, folder=folder, workers=workers)
        return replace(self, survey=found)

    def adapt(self, scene: Scene, date: np.datetime64) -> SceneEngine:
        """Study the scene for one date: a bounded sample of it, read now or by `surveyed`. Returns the one that fills it."""
        day, config, survey = int(as_day(date).astype(np.int64)), self.config, self.survey
        sample = studied(scene, day, config.radar, config.seed) if survey is None else survey.pixels(scene, day)
        bounds = (*scene.place.origin, *scene.shape)
        return replace(self, model=self._fit(sample, day, scene.place.bands, bounds), survey=None)

    def _fit(self, p: Pixels, day: int, bands: tuple[str, ...], bounds: tuple[int, int, int, int] | None) -> SceneModel:
        level = LEVELS[self.config.quality]
        model: SceneModel = settled(fit(p, day, bands, self.config.causal, self.config.seed, bounds, level.centres, level.near))
        return model

    def __call__(self, batch: Batch) -> Prediction:
        """A guess, its sigma, source, age and support for every hidden pixel of the target date (observed ones pass through).

        An adapted remover answers for the pixels whose cell lies at least `needs.halo` inside the batch, or at the scene's own
        edge; the others are NaN.
        """
        import torch

        filled = [self._fill(batch, b) for b in range(len(batch))]
        return Prediction(
            s2=torch.stack([f.s2 for f in filled]), sigma=torch.stack([f.sigma for f in filled]),
            source=torch.stack([f.source for f in filled]), age=torch.stack([f.age for f in filled]),
            support=torch.stack([f.support for f in filled]),
        )  # fmt: skip

    def _fill(self, batch: Batch, b: int) -> Filled:
        model = self.model
        stack = stack_of_batch(batch, b, None if model is None else model.days, self.config.radar)
        if model is None:
            everything = stack.pixels(np.ones(stack.shape, bool))
            model = self._fit(everything, int(stack.days[stack.t]), batch.places[b].bands, None)
        return fill(stack, model, self.config)


@dataclass(frozen=True)
class Filled:
    """One window, as tensors (C, H, W) and (H, W)."""

    s2: torch.Tensor
    sigma: torch.Tensor
    source: torch.Tensor
    age: torch.Tensor
    support: torch.Tensor


def fill(stack: Stack, model: SceneModel, config: Config) -> Filled:
    """All hidden pixels of a window that the model can answer for."""
    import torch

    hidden = ~stack.clear[stack.t]
    s2 = np.where(hidden, np.float32(np.nan), stack.measured[stack.t])
    sigma = np.where(hidden, np.float32(np.nan), np.zeros_like(s2))
    source = np.where(hidden, np.uint8(Source.REFUSED), np.uint8(Source.OBSERVED))
    age = np.where(hidden, np.int16(NO_AGE), np.int16(0))
    support = np.zeros(stack.shape, np.int16)
    for cell in cells(hidden, interior(stack, model), (stack.row, stack.col), CELL, REACH):
        part = restore(stack, cell, model, config)
        for whole, found in (
            (s2, part.guess),
            (sigma, part.sigma),
            (source, part.source),
            (age, part.age),
            (support, part.support),
        ):
            whole[(..., *cell.around)][..., cell.hidden] = found
    return Filled(*(torch.from_numpy(np.ascontiguousarray(a)) for a in (s2, sigma, source, age, support)))


def interior(stack: Stack, model: SceneModel) -> Mask:
    """(H, W) pixels of whose cell the window shows all surroundings, as far as the scene has any."""
    if model.bounds is None:
        return np.ones(stack.shape, bool)
    row, col, height, width = model.bounds
    rows, cols = _shown(stack.row, stack.shape[0], row, height), _shown(stack.col, stack.shape[1], col, width)
    return np.asarray(rows[:, None] & cols)


def _shown(first: int, size: int, low: int, span: int) -> Mask:
    """(size,) `interior` along one axis: a window from `first` on, in a scene of `span` pixels from `low` on."""
    cell = np.arange(first, first + size) // CELL * CELL
    before = (cell - HALO >= first) | (first <= low)
    after = (cell + CELL + HALO <= first + size) | (first + size >= low + span)
    return np.asarray(before & after)


@dataclass(frozen=True)
class Part:
    """The answer for the hidden pixels of one cell."""

    guess: Floats  # (B, n)
    sigma: Floats  # (B, n)
    source: NDArray[np.uint8]  # (n,)
    age: NDArray[np.int16]
    support: NDArray[np.int16]


def restore(stack: Stack, cell: Cell, model: SceneModel, config: Config) -> Part:
    """The guess for one cell, its sigma, and where each value comes from."""
    hidden = stack.pixels(cell.hidden, cell.around)
    count = LEVELS[config.quality].near if model.sparse is not None else 0
    near = stack.pixels(inducing(stack, cell, count, config.seed), cell.around)
    use = usable(stack.days, model.day, model.causal)
    guess = predict(model, hidden, near, stack.t, use)
    part = _explained(hidden, guess, model.sigma(guess.clues, model.unit), use, model, stack.t)
    return part if guess.view.near.any[: len(hidden)].all() else _unseen(part, stack, cell, hidden, model, config)


def _unseen(part: Part, stack: Stack, cell: Cell, hidden: Pixels, model: SceneModel, config: Config) -> Part:
    """The last rungs, for pixels that no other date shows: the same image, else the scene's typical colour, else nothing."""
    at = part.source == Source.PRIOR
    value, sigma, source = part.guess, part.sigma, part.source
    alone = model.alone
    if alone is not None:
        near = stack.pixels(inducing(stack, cell, LEVELS[config.quality].near, config.seed, alone=True), cell.around)
        guess = predict(alone, hidden.take(at), near, stack.t, np.zeros(len(stack.days), bool))
        value[:, at], sigma[:, at] = guess.value, alone.sigma(guess.clues, alone.unit)
        source[at] = Source.SAME_IMAGE if stack.radar is None else Source.SAR
    elif not np.isfinite(model.typical).all():
        source[at] = Source.REFUSED
    return replace(part, guess=value, sigma=sigma, source=source)


def inducing(stack: Stack, cell: Cell, count: int, seed: int, alone: bool = False) -> Mask:
    """(h, w) up to `count` clear pixels around a cell, the nearer to its hidden pixels the likelier, drawn by hash."""
    out = np.zeros(cell.hidden.shape, bool)
    if count == 0:
        return out
    seen = stack.clear[stack.t][cell.around]
    if not alone:
        seen = seen & (stack.clear[:, *cell.around].sum(0) > 1)  # other dates show it too
    rows, cols = np.nonzero(seen)
    distance = ndimage.distance_transform_edt(~cell.hidden)[rows, cols]
    u = hashed(rows + cell.around[0].start + stack.row, cols + cell.around[1].start + stack.col, seed)
    first = smallest(-np.log(u) * (2 + distance), count)
    out[rows[first], cols[first]] = True
    return out


def smallest(keys: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """Positions of the `count` smallest keys (N,), in no order; of equal ones the first."""
    if len(keys) <= count:
        return np.arange(len(keys))
    last = np.partition(keys, count - 1)[count - 1]
    below = np.flatnonzero(keys < last)
    return np.concatenate([below, np.flatnonzero(keys == last)[: count - len(below)]])


def _explained(p: Pixels, guess: Guess, sigma: Floats, use: Mask, model: SceneModel, t: int) -> Part:
    """Where each value comes from, from which day, and how many observations bear on it."""
    n, v, day = len(p), guess.view, p.days[t]
    back = np.where(v.near.has_before[0, :n], day - p.days[v.near.before[0, :n]], NO_AGE)
    ahead = np.where(v.near.has_after[0, :n], p.days[v.near.after[0, :n]] - day, NO_AGE)
    age = np.where(back <= ahead, -np.minimum(back, NO_AGE - 1), np.minimum(ahead, NO_AGE - 1))
    known = v.near.any[:n]
    by_radar = model.radar_share(v.raw[:, :n]) if model.radar_rows is not None else np.zeros_like(sigma)
    source = np.where((np.abs(by_radar) > sigma).any(0), Source.DATES_SAR, Source.DATES)
    source = np.where(known, source, Source.PRIOR).astype(np.uint8)
    age = np.where(known, age, NO_AGE).astype(np.int16)
    value = np.where(known, guess.value, model.typical[:, None])
    sigma = np.where(known, np.minimum(sigma, model.spread[:, None]), model.spread[:, None])  # no worse than knowing nothing
    return Part(value, sigma, source, age, p.clear[use].sum(0).astype(np.int16))
