"""Learning a place for one day, from a bounded sample of its pixels: rehearsals on other dates, then the day's clear pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace

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
    posterior,
    prior,
    ridge,
    robust,
    scaling,
    whitening,
)
from unclouded.models.scene_sigma import Rehearsed
from unclouded.models.scene_study import hashed
from unclouded.models.temporal import Floats, Mask, Pixels

REHEARSALS = 30
DRESS = 6  # rehearsals of the whole engine, for sigma
COMPONENTS = 40
EMBEDDING = 20
EPOCHS = 24
INFLATION = 20.0  # residuals are correlated in space: n clear pixels count as n / 20
SEEN = 10_000  # clear pixels of the target that a fit takes at most
CENTRES = 512
FEWEST_REHEARSALS = 8  # below, what they teach harms (measured on 12 monthly dates)
FEWEST_CLEAR = 40


@dataclass(frozen=True)
class Rehearsal:
    """Another date, played as if it were the target: hidden together with a hole like the target's."""

    s: int
    others: Mask
    view: View
    truth: Floats  # (B, n)
    year: Floats
    trust: float


def fit(
    p: Pixels, day: int, bands: tuple[str, ...], causal: bool, seed: int, bounds: tuple[int, int, int, int] | None,
    centres: int = CENTRES, near: int = 256,
) -> SceneModel:  # fmt: skip
    """Learn the place from a sample of its pixels, for one day. `centres` 0: regression only; `near` 0: no local process."""
    rng = np.random.default_rng([seed, 7])
    t = int(np.searchsorted(p.days, day))
    use = usable(p.days, day, causal)
    epochs = np.linspace(p.days[0], p.days[-1], EPOCHS).astype(np.int64)
    plays = rehearse(p, t, use, epochs, bands, rng)
    seen = _some(np.flatnonzero(p.clear[t] & p.clear[use].any(0)), SEEN, rng)
    blank = _blank(p, t, use, bands, bounds, causal, epochs)
    blank = replace(blank, alone=_alone(blank, p, t, rng, centres, near))
    if len(plays) < FEWEST_REHEARSALS:
        return _guarded(blank, p, t, use, seen, rng, centres, near)
    model, lessons = _learned(blank, plays)
    final = _adjusted(model, lessons.prior(), p.take(seen), t, use, rng, centres)
    trials = [_dress(model, lessons, i, r, p, t, rng, centres, near) for i, r in _foremost(plays)]
    trials = [trial for trial in trials if trial.error.shape[-1] >= 50]
    return replace(final, sigma=scene_sigma.learned(trials)) if trials else final


def _foremost(plays: list[Rehearsal]) -> list[tuple[int, Rehearsal]]:
    order = sorted(range(len(plays)), key=lambda i: -plays[i].trust)[:DRESS]
    return [(i, plays[i]) for i in order]


def _dress(
    model: SceneModel,
    lessons: Lessons,
    i: int,
    play: Rehearsal,
    p: Pixels,
    t: int,
    rng: np.random.Generator,
    centres: int,
    near: int,
) -> Rehearsed:
    """Restore another date under the target's own cloud with the whole engine: errors where its truth is known."""
    s, others = play.s, play.others
    known = p.clear[s] & p.clear[others].any(0)
    lit = np.flatnonzero(known & p.clear[t])
    dark = _some(np.flatnonzero(known & ~p.clear[t]), 1000, rng)
    mine = replace(model, day=int(p.days[s]))
    mine = _adjusted(mine, lessons.prior(without=i), p.take(_some(lit, 4000, rng)), s, others, rng, centres)
    return _tried(mine, p, lit, dark, s, others, near, play.trust)


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
        weights=np.zeros((1, count), np.float32), root=np.zeros((1, 1), np.float32), metric=none, sparse=None,
        low=np.full(count, -0.5, np.float32), high=np.full(count, 0.5, np.float32), unit=np.zeros(count, np.float32),
        sigma=scene_sigma.plain(count, CLUES), typical=typical, spread=spread, alone=None,
        radar_rows=None if p.radar is None else (first, first + 10 + 3 * sum(b in bands for b in RADAR_BANDS)),
    )  # fmt: skip


@dataclass(frozen=True)
class Lessons:
    """What each rehearsal taught: its weights (p, B), what they left (B,), and how much it counts."""

    weights: list[Doubles]
    noises: list[Doubles]
    trust: Doubles

    def prior(self, without: int | None = None) -> Prior:
        """What they agree on, all or all but one."""
        at = [i for i in range(len(self.weights)) if i != without]
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
    return model, Lessons(fits, noises, trust)


def _alone(blank: SceneModel, p: Pixels, t: int, rng: np.random.Generator, centres: int, near: int) -> SceneModel | None:
    """The same image only, for pixels that no other date shows: radar, if there is some, and the clear pixels around."""
    seen = _some(np.flatnonzero(p.clear[t]), 2000, rng)
    if len(seen) < FEWEST_CLEAR:
        return None
    empty = replace(blank, omega=np.zeros(4, np.float32), low=blank.low - 2, high=blank.high + 2)
    return _guarded(empty, p, t, np.zeros(len(p.days), bool), seen, rng, min(centres, 256), near)


def _guarded(
    blank: SceneModel, p: Pixels, t: int, use: Mask, seen: NDArray[np.int64], rng: np.random.Generator, centres: int, near: int
) -> SceneModel:
    """Too few dates to learn from (the guard): a flat ridge on standardised features of the date's own clear pixels.

    Sigma is learned from half of them, left out in blocks. With too few clear pixels the base stands, with the spread between
    the neighbours in time as its sigma.
    """
    at = seen if len(seen) >= FEWEST_CLEAR else np.arange(len(p))
    v = view(p.take(at), t, use, blank.bands)
    whiten = scaling(v.raw)
    size, count = 1 + len(whiten.mean), len(blank.bands)
    model = replace(blank, whiten=whiten, mean=np.zeros((size, count), np.float32))
    if len(seen) < FEWEST_CLEAR:
        unit = np.sqrt((v.spread**2).mean(1)) / 2 + np.float32(0.02)
        none = np.zeros((size, size), np.float32)
        return replace(model, unit=unit, weights=model.mean, root=none, metric=none[0, 1:])
    given = Prior(np.full((size, count), 0.02**2 / 30), np.full(count, 0.02**2))
    given.variance[0] = 1.0
    final = _adjusted(model, given, p.take(seen), t, use, rng, centres)
    left_out = _blocks(p.take(seen), rng) == 0
    if min(left_out.sum(), (~left_out).sum()) < FEWEST_CLEAR:
        return replace(final, sigma=scene_sigma.plain(count, CLUES, 2.0))
    half = _adjusted(model, given, p.take(seen[~left_out]), t, use, rng, centres)
    trial = _tried(half, p, seen[~left_out], _some(seen[left_out], 1000, rng), t, use, near, 1.0)
    return replace(final, sigma=scene_sigma.learned([trial]))


def _blocks(p: Pixels, rng: np.random.Generator, side: int = 24, folds: int = 2) -> NDArray[np.int64]:
    """A fold for each pixel: whole blocks of `side` pixels, so that neighbours are left out together."""
    ids = np.unique(np.stack([p.rows // side, p.cols // side]), axis=1, return_inverse=True)[1].ravel()
    fold: NDArray[np.int64] = rng.permutation(int(ids.max()) + 1)[ids] % folds
    return fold


def _adjusted(
    model: SceneModel, given: Prior, p: Pixels, t: int, use: Mask, rng: np.random.Generator, centres: int
) -> SceneModel:
    """The regression moved by the clear pixels p of date t, and the scene-wide process on what it leaves."""
    full = model.embed is not None
    v = view(p, t, use, model.bands)
    q = inputs(model, p, v, use)
    k = len(model.mean)
    r = p.x[t] - based(model.omega, v) - model.mean.T @ q[:k]
    weight = np.ones(len(p), np.float32)
    for _ in range(2):
        post = posterior(Sums.of(q, r, weight), given, INFLATION if full else 1.0)
        left = (r - post.weights.T @ q).astype(np.float32)
        weight = robust(left) if len(p) else weight
    noise = given.noise
    if not full:
        noise = left.var(1) + 1e-6
        model = replace(model, low=(r.min(1) - 0.03).astype(np.float32), high=(r.max(1) + 0.03).astype(np.float32))
    strength = np.sqrt((given.variance / given.noise).mean(1))[1:]
    model = replace(
        model, weights=post.weights.astype(np.float32), root=post.root.astype(np.float32),
        unit=np.sqrt(noise).astype(np.float32), metric=strength.astype(np.float32),
    )  # fmt: skip
    return _with_process(model, p, q, left, rng, centres) if len(p) >= 150 and centres else model


def _with_process(model: SceneModel, p: Pixels, q: Floats, left: Floats, rng: np.random.Generator, centres: int) -> SceneModel:
    limit = 5 * np.median(np.abs(left), axis=1, keepdims=True)
    e = np.clip(left, -limit, limit)
    unit = e.std(1) + np.float32(1e-5)
    f = likeness(model, q)
    some = _some(np.arange(len(p)), centres, rng)
    return replace(model, unit=unit, sparse=scene_gp.sparse(f, np.ascontiguousarray((e / unit[:, None]).T), f[some]))


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
