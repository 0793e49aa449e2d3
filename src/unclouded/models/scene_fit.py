"""Learning a place for one day, from a bounded sample of its pixels: rehearsals on other dates, then the day's clear pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from unclouded.models import scene_gp, scene_sigma
from unclouded.models.scene_features import RADAR_BANDS, View, view, yearly
from unclouded.models.scene_model import CLUES, SceneModel, based, design, inputs, likeness, predict, usable
from unclouded.models.scene_regression import (
    Doubles,
    Prior,
    Sums,
    Whitening,
    add,
    agreeing,
    posterior,
    prior,
    ridge,
    robust,
    scaling,
    whitening,
)
from unclouded.models.scene_sigma import Rehearsed
from unclouded.models.scene_study import hashed
from unclouded.models.temporal import EDGE, Floats, Mask, Pixels

REHEARSALS = 30
DRESS = 6  # rehearsals of the whole engine, for sigma
COMPONENTS = 40
EMBEDDING = 20
EPOCHS = 24
INFLATION = 20.0  # residuals are correlated in space: n clear pixels count as n / 20
SEEN = 10_000  # clear pixels of the target that a fit takes at most
CENTRES = 512
FEWEST_REHEARSALS = 12  # below, what they teach harms (measured on 12 monthly dates)
DOUBT = 1.0  # few unlike dates as rehearsals must cover more than they promise, unless the date can speak for itself
FEWEST_TRIED = 50  # pixels below which a rehearsal tells nothing
FEWEST_CLEAR = 40
FEWEST_INNER = 150  # clear pixels far from hidden ones, to judge the near ones by


@dataclass(frozen=True)
class Rehearsal:
    """Another date, played as if it were the target: hidden together with a hole like the target's."""

    s: int
    others: Mask
    view: View
    truth: Floats  # (B, n)
    year: Floats
    trust: float


@dataclass(frozen=True)
class Effort:
    """What a fit may spend: centres of the scene-wide process, clear pixels of the local one; and its draw."""

    centres: int
    near: int
    rng: np.random.Generator


Adjust = Callable[[NDArray[np.int64], int, Mask], SceneModel]  # clear pixels of a date, its index, usable dates -> its model


def fit(
    p: Pixels, day: int, bands: tuple[str, ...], causal: bool, seed: int, bounds: tuple[int, int, int, int] | None,
    centres: int = CENTRES, near: int = 256,
) -> SceneModel:  # fmt: skip
    """Learn the place from a sample of its pixels, for one day. `centres` 0: regression only; `near` 0: no local process."""
    effort = Effort(centres, near, np.random.default_rng([seed, 7]))
    t = int(np.searchsorted(p.days, day))
    use = usable(p.days, day, causal)
    epochs = np.linspace(p.days[0], p.days[-1], EPOCHS).astype(np.int64)
    plays = rehearse(p, t, use, epochs, bands, effort.rng)
    seen = _some(np.flatnonzero(p.clear[t] & p.clear[use].any(0)), SEEN, effort.rng)
    blank = _blank(p, t, use, bands, bounds, causal, epochs)
    blank = replace(blank, alone=_alone(blank, p, t, effort))
    if len(plays) < FEWEST_REHEARSALS:
        flat = partial(_flat, blank, p, effort)
        trials = [_dress(flat, play, p, t, effort) for play in _foremost(plays)]
        return _with_sigma(flat(seen, t, use), trials, _halved(flat, p, seen, t, use, effort), DOUBT)
    model, lessons = _learned(blank, plays)
    given = partial(_given, model, lessons, p, effort)
    trials = [_dress(partial(given, play.s), play, p, t, effort) for play in _foremost(plays)]
    return _with_sigma(given(None, seen, t, use), trials, _halved(partial(given, None), p, seen, t, use, effort))


def _given(
    model: SceneModel,
    lessons: Lessons,
    p: Pixels,
    effort: Effort,
    without: int | None,
    lit: NDArray[np.int64],
    s: int,
    use: Mask,
) -> SceneModel:
    return _adjusted(model, lessons.prior(without), p.take(lit), s, use, effort)


def _with_sigma(model: SceneModel, trials: list[Rehearsed], own: Rehearsed | None, doubt: float = 0.0) -> SceneModel:
    """Sigma from the dress rehearsals on other dates and from halves of the date's own clear pixels; twice the unit without."""
    trials = [trial for trial in trials if trial.error.shape[-1] >= FEWEST_TRIED]
    sigma = scene_sigma.learned(trials, own, doubt) if trials or own else scene_sigma.plain(len(model.bands), CLUES, 2.0)
    return replace(model, sigma=sigma)


def _foremost(plays: list[Rehearsal]) -> list[Rehearsal]:
    return sorted(plays, key=lambda play: -play.trust)[:DRESS]


def _dress(adjust: Adjust, play: Rehearsal, p: Pixels, t: int, effort: Effort) -> Rehearsed:
    """Restore another date under the target's own cloud with the whole engine: errors where its truth is known."""
    s, others = play.s, play.others
    known = p.clear[s] & p.clear[others].any(0)
    lit = np.flatnonzero(known & p.clear[t])
    dark = _some(np.flatnonzero(known & ~p.clear[t]), 1000, effort.rng)
    model = adjust(_some(lit, 3000, effort.rng), s, others)
    return _tried(model, p, lit, dark, s, others, effort.near, play.trust)


def _halved(adjust: Adjust, p: Pixels, seen: NDArray[np.int64], t: int, use: Mask, effort: Effort) -> Rehearsed | None:
    """The date's own clear pixels, each half of them (in blocks) guessed from the other: one rehearsal; None if too few."""
    first = _blocks(p.take(seen), effort.rng) == 0 if len(seen) else np.zeros(0, bool)
    if min(first.sum(), (~first).sum()) < FEWEST_CLEAR:
        return None
    halves = []
    for out in (first, ~first):
        model = adjust(seen[~out], t, use)
        halves.append(_tried(model, p, seen[~out], _some(seen[out], 1000, effort.rng), t, use, effort.near, 1.0))
    return scene_sigma.joined(halves)


def _tried(
    model: SceneModel, p: Pixels, lit: NDArray[np.int64], dark: NDArray[np.int64], t: int, use: Mask, near: int, trust: float
) -> Rehearsed:
    """Guess the pixels `dark` of date t from `lit`, cell by cell, and compare with the truth."""
    count = len(model.bands)
    errors, clues = [np.zeros((count, 0), np.float32)], [np.zeros((CLUES, count, 0), np.float32)]
    for row, col in np.unique(np.stack([p.rows[dark] // 64, p.cols[dark] // 64]), axis=1).T:
        here = dark[(p.rows[dark] // 64 == row) & (p.cols[dark] // 64 == col)]
        around = lit[(np.abs(p.rows[lit] - row * 64 - 32) < 64) & (np.abs(p.cols[lit] - col * 64 - 32) < 64)]
        guess = predict(model, p.take(here), p.take(_nearest(p, here, around, near)), t, use)
        errors.append((guess.value - p.x[t][:, here]) / model.unit[:, None])
        clues.append(guess.clues)
    return Rehearsed(np.concatenate(errors, -1), np.concatenate(clues, -1), trust)


def _nearest(p: Pixels, here: NDArray[np.int64], around: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """`count` clear pixels of `around`, the nearer to `here` the likelier (as the engine draws them in a cell)."""
    if count == 0 or not len(around):
        return around[:0]
    from scipy.spatial import cKDTree

    distance = cKDTree(np.stack([p.rows[here], p.cols[here]], 1)).query(np.stack([p.rows[around], p.cols[around]], 1))[0]
    u = hashed(p.rows[around], p.cols[around], 0)
    return np.sort(around[np.argsort(-np.log(u) * (2 + distance), kind="stable")[:count]])


def _some(at: NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return at if len(at) <= count else np.sort(rng.choice(at, count, replace=False))


def _blank(
    p: Pixels, t: int, use: Mask, bands: tuple[str, ...], bounds: tuple[int, int, int, int] | None, causal: bool,
    epochs: NDArray[np.int64],
) -> SceneModel:  # fmt: skip
    count = len(bands)
    none = np.zeros(0, np.float32)
    clear = p.clear[t]
    shown = p.x[t][:, clear] if clear.sum() >= FEWEST_CLEAR else p.x[use].transpose(1, 0, 2)[:, p.clear[use]]
    typical = shown.mean(1) if shown.size else np.full(count, np.nan, np.float32)
    spread = shown.std(1) if shown.size else np.full(count, np.nan, np.float32)
    first = 7 * count
    return SceneModel(
        day=int(p.days[t]), days=p.days, bands=bands, bounds=bounds, causal=causal, omega=np.array([1, 0, 0, 0], np.float32),
        whiten=Whitening(none, none, none, none), mean=np.zeros((1, count), np.float32), embed=None, epochs=epochs,
        weights=np.zeros((1, count), np.float32), root=np.zeros((1, 1), np.float32), metric=np.zeros((0, 0), np.float32),
        sparse=None, low=np.full(count, -0.5, np.float32), high=np.full(count, 0.5, np.float32),
        unit=np.zeros(count, np.float32),
        sigma=scene_sigma.plain(count, CLUES), typical=typical, spread=spread, alone=None,
        radar_rows=None if p.radar is None else (first, first + 10 + 3 * sum(b in bands for b in RADAR_BANDS)),
    )  # fmt: skip


@dataclass(frozen=True)
class Lessons:
    """What each rehearsal taught: its weights (p, B), what they left (B,), and how much it counts."""

    dates: list[int]
    weights: list[Doubles]
    noises: list[Doubles]
    trust: Doubles

    def prior(self, without: int | None) -> Prior:
        """What they agree on, all or all but that of one date."""
        at = [i for i, s in enumerate(self.dates) if s != without]
        return prior([self.weights[i] for i in at], [self.noises[i] for i in at], self.trust[at])


def _learned(blank: SceneModel, plays: list[Rehearsal]) -> tuple[SceneModel, Lessons]:
    """Base weights, feature scaling, mean correction, year components and the lessons, from the rehearsals."""
    omega = stack_weights(plays)
    whiten = whitening(np.concatenate([r.view.raw for r in plays], 1), COMPONENTS)
    embed = whitening(np.concatenate([r.year for r in plays], 1), EMBEDDING)
    left = [np.clip(r.truth - based(omega, r.view), -0.25, 0.25) for r in plays]
    typical = np.array([np.median(np.abs(r)) for r in left])
    trust = np.array([r.trust for r in plays]) / np.maximum(1, typical / (2 * np.median(typical))) ** 2
    phis = [design(whiten(r.view.raw)) for r in plays]
    mean = mean_function(phis, left, trust)
    qs = [np.concatenate([phi, embed(r.year)]) for phi, r in zip(phis, plays, strict=True)]
    left = [r - (mean.T @ phi) for r, phi in zip(left, phis, strict=True)]
    fits = [ridge(Sums.of(q, r, np.ones(q.shape[1], np.float32)), 0.05) for q, r in zip(qs, left, strict=True)]
    noises = [((r - (w.T @ q)) ** 2).mean(1).astype(np.float64) for q, r, w in zip(qs, left, fits, strict=True)]
    model = replace(blank, omega=omega, whiten=whiten, mean=mean.astype(np.float32), embed=embed)
    return model, Lessons([r.s for r in plays], fits, noises, trust)


def _alone(blank: SceneModel, p: Pixels, t: int, effort: Effort) -> SceneModel | None:
    """The same image only, for pixels that no other date shows: radar, if there is some, and the clear pixels around."""
    seen = _some(np.flatnonzero(p.clear[t]), 2000, effort.rng)
    if len(seen) < FEWEST_CLEAR:
        return None
    empty = replace(blank, omega=np.zeros(4, np.float32), low=blank.low - 2, high=blank.high + 2)
    flat = partial(_flat, empty, p, replace(effort, centres=min(effort.centres, 256)))
    none = np.zeros(len(p.days), bool)
    return _with_sigma(flat(seen, t, none), [], _halved(flat, p, seen, t, none, effort))


def _flat(blank: SceneModel, p: Pixels, effort: Effort, lit: NDArray[np.int64], t: int, use: Mask) -> SceneModel:
    """Too few dates to learn from (the guard): a flat ridge on standardised features of the date's own clear pixels `lit`.

    With too few of them the base stands, with the spread between the neighbours in time as its unit of error.
    """
    at = lit if len(lit) >= FEWEST_CLEAR else np.arange(len(p))
    v = view(p.take(at), t, use, blank.bands)
    whiten = scaling(v.raw)
    size, count = 1 + len(whiten.mean), len(blank.bands)
    model = replace(blank, whiten=whiten, mean=np.zeros((size, count), np.float32))
    if len(lit) < FEWEST_CLEAR:
        unit = np.sqrt((v.spread**2).mean(1)) / 2 + np.float32(0.02)
        none = np.zeros((size, size), np.float32)
        return replace(model, unit=unit, weights=model.mean, root=none, metric=none[1:, :0])
    given = Prior(np.full((size, count), 0.02**2 / 30), np.full(count, 0.02**2))
    given.variance[0] = 1.0
    return _adjusted(model, given, p.take(lit), t, use, effort)


def _blocks(p: Pixels, rng: np.random.Generator, side: int = 24, folds: int = 2) -> NDArray[np.int64]:
    """A fold for each pixel: whole blocks of `side` pixels, so that neighbours are left out together."""
    ids = np.unique(np.stack([p.rows // side, p.cols // side]), axis=1, return_inverse=True)[1].ravel()
    fold: NDArray[np.int64] = rng.permutation(int(ids.max()) + 1)[ids] % folds
    return fold


def _adjusted(model: SceneModel, given: Prior, p: Pixels, t: int, use: Mask, effort: Effort) -> SceneModel:
    """The regression moved by the clear pixels p of date t, and the scene-wide process on what it leaves."""
    full = model.embed is not None
    v = view(p, t, use, model.bands)
    q = inputs(model, p, v, use)
    k = len(model.mean)
    r = p.x[t] - based(model.omega, v) - model.mean.T @ q[:k]
    inner = p.edge >= EDGE
    inner = inner if inner.sum() >= FEWEST_INNER else np.ones(len(p), bool)
    weight = inner.astype(np.float32)
    for _ in range(3):
        post = posterior(Sums.of(q, r, weight), given, INFLATION if full else 1.0)
        left = (r - post.weights.T @ q).astype(np.float32)
        weight = _trusted(left, p.x[t], inner) if len(p) else weight
    noise = given.noise
    if not full:
        noise = left.var(1) + 1e-6
        model = replace(model, low=(r.min(1) - 0.03).astype(np.float32), high=(r.max(1) + 0.03).astype(np.float32))
    strength = np.sqrt((given.variance / given.noise).mean(1))[1:].astype(np.float32)
    model = replace(
        model, weights=post.weights.astype(np.float32), root=post.root.astype(np.float32),
        unit=np.sqrt(noise).astype(np.float32), metric=np.zeros((len(strength), 0), np.float32),
    )  # fmt: skip
    return _with_process(model, strength, p, q, left, weight, inner, effort) if len(p) >= 150 and effort.centres else model


def _trusted(left: Floats, x: Floats, inner: Mask) -> Floats:
    """(N,) weights: robust for pixels well inside the clear area; those beside hidden ones must agree in all bands."""
    return robust(left) * np.where(inner, np.float32(1), agreeing(left, x, _unit(left[:, inner])))


def _unit(left: Floats) -> Floats:
    """(B,) standard deviation, of residuals clipped at five times their median size."""
    limit = 5 * np.median(np.abs(left), axis=1, keepdims=True)
    return np.asarray(np.clip(left, -limit, limit).std(1) + np.float32(1e-5), np.float32)


def _with_process(
    model: SceneModel, strength: Floats, p: Pixels, q: Floats, left: Floats, weight: Floats, inner: Mask, effort: Effort
) -> SceneModel:
    limit = 5 * np.median(np.abs(left[:, inner]), axis=1, keepdims=True)
    e = np.clip(left, -limit, limit)
    unit = _unit(left[:, inner])
    model = replace(model, metric=strength[:, None] * scene_gp.directions(strength[:, None] * q[1:]))
    f = likeness(model, q)
    some = _some(np.arange(len(p)), effort.centres, effort.rng)
    return replace(model, unit=unit, sparse=scene_gp.sparse(f, np.ascontiguousarray((e / unit[:, None]).T), weight, f[some]))


def stack_weights(plays: list[Rehearsal]) -> Floats:
    """Weights of the candidates: exp(-15 (MAE / least MAE - 1)) over the rehearsals."""
    mae = np.zeros(len(plays[0].view.candidates))
    for r in plays:
        mae += r.trust * np.abs(r.view.candidates - r.truth).mean((1, 2))
    omega = np.exp(-15 * (mae / mae.min() - 1))
    weights: Floats = (omega / omega.sum()).astype(np.float32)
    return weights


def mean_function(phis: list[Floats], left: list[Floats], trust: Doubles) -> Doubles:
    """Ridge of what the base leaves on the features, over all rehearsals; penalty by cross-validation over dates.

    Shrunk by n / (n + 8) for n rehearsals, and zero where it does not gain 2 %.
    """
    sums = [
        Sums.of(phi, r, np.full(phi.shape[1], w / phi.shape[1], np.float32))
        for phi, r, w in zip(phis, left, trust, strict=True)
    ]
    folds = np.arange(len(sums)) % 5
    errors = {penalty: _left_out(sums, folds, phis, left, trust, penalty) for penalty in (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)}
    best = min(errors, key=errors.__getitem__)
    none = sum(float(w * (r**2).mean()) for r, w in zip(left, trust, strict=True))
    weights = ridge(add(sums), best) * (len(sums) / (len(sums) + 8))
    return weights if errors[best] < 0.98 * none else np.zeros_like(weights)


def _left_out(
    sums: list[Sums], folds: NDArray[np.int64], phis: list[Floats], left: list[Floats], trust: Doubles, penalty: float
) -> float:
    error = 0.0
    for fold in np.unique(folds):
        w = ridge(add([s for s, f in zip(sums, folds, strict=True) if f != fold]), penalty)
        error += sum(float(trust[i] * ((left[i] - w.T @ phis[i]) ** 2).mean()) for i in np.flatnonzero(folds == fold))
    return error


def typical_gap(p: Pixels, t: int, use: Mask) -> tuple[float, float]:
    """Median days to the nearest clear observation before and after, over the hidden pixels (all, if none is hidden)."""
    hidden = ~p.clear[t] if (~p.clear[t]).any() else np.ones(len(p), bool)
    gaps = []
    for order in (range(t), range(len(p.days) - 1, t, -1)):
        away = np.full(int(hidden.sum()), 10_000)
        for u in order:
            if use[u]:
                away[p.clear[u, hidden]] = abs(int(p.days[u] - p.days[t]))
        gaps.append(float(np.median(away)))
    return gaps[0], gaps[1]


def rehearse(
    p: Pixels, t: int, use: Mask, epochs: NDArray[np.int64], bands: tuple[str, ...], rng: np.random.Generator, most: int = 1000
) -> list[Rehearsal]:
    """Up to `REHEARSALS` other dates, the nearest in season first, each with a hole like the target's around it."""
    away = np.abs(p.days - p.days[t])
    season = np.minimum(away, np.abs(away - 365) + 15)
    good = [int(s) for s in np.flatnonzero(use) if p.clear[s].mean() > 0.3]
    back, ahead = typical_gap(p, t, use)
    plays = []
    for s in sorted(sorted(good, key=lambda u: int(season[u]))[:REHEARSALS]):
        since = p.days[s] - p.days
        others = use & (since != 0) & ~((since > 0) & (since < 0.7 * back)) & ~((since < 0) & (-since < 0.7 * ahead))
        at = np.flatnonzero(p.clear[s] & p.clear[others].any(0))
        if len(at) >= 150:
            mine = p.take(_some(at, most, rng))
            trust = float(np.exp(-season[s] / 60) + 0.03)
            plays.append(Rehearsal(s, others, view(mine, s, others, bands), mine.x[s], yearly(mine, others, epochs), trust))
    return plays
