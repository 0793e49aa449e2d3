"""What the engine learns of a place for one day: the fit, and the small record that can be kept and used again."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from unclouded.models import scene_gp
from unclouded.models.scene_features import View, view, yearly
from unclouded.models.scene_gp import Kernel
from unclouded.models.scene_regression import (
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
from unclouded.models.temporal import Floats, Mask, Pixels

Doubles = NDArray[np.float64]
REHEARSALS = 30
COMPONENTS = 36
EMBEDDING = 20
EPOCHS = 24
INFLATION = 40.0  # residuals are correlated in space: n clear pixels count as n / 40
SEEN = 10_000  # clear pixels of the target that a fit takes at most
FEWEST_REHEARSALS = 8  # below, what they teach harms (measured on 12 monthly dates)
FEWEST_CLEAR = 40


@dataclass(frozen=True, kw_only=True)
class SceneModel:
    """All that was learned of a place for one day. Small, and nothing in it but arrays and numbers."""

    day: int
    days: NDArray[np.int64]  # optical days in use, the target's among them
    bands: tuple[str, ...]
    bounds: tuple[int, int, int, int] | None  # absolute row, column, rows, columns of the scene; None: unknown
    causal: bool
    omega: Floats  # (4,) weights of the candidates
    whiten: Whitening
    mean: Floats  # (1 + K, B)
    embed: Whitening | None
    epochs: NDArray[np.int64]
    weights: Floats  # (p, B)
    root: Floats  # (p, p)
    noise: Floats  # (B,)
    low: Floats  # (B,) bounds of the correction
    high: Floats  # (B,)
    kernel: Kernel | None
    unit: Floats  # (B,) standard deviation of what the process is asked to explain
    scale: Floats  # (B,) calibration of sigma
    typical: Floats  # (B,) for a pixel that was never clear
    spread: Floats  # (B,) its standard deviation
    radar_rows: tuple[int, int] | None  # which raw features are radar

    def usable(self, days: NDArray[np.int64]) -> Mask:
        """(T,) dates to reconstruct from: all but the target, only earlier ones if causal."""
        return _allowed(days, self.day, self.causal)

    def regress(self, v: View, q: Floats) -> tuple[Floats, Floats]:
        """Base, mean correction and regression: the guess (B, N) and its variance (B, N)."""
        k = len(self.mean)
        correction = self.mean.T @ q[:k] + self.weights.T @ q
        guess = based(self.omega, v) + np.clip(correction, self.low[:, None], self.high[:, None])
        share = ((self.root @ q) ** 2).sum(0)
        return guess, (share + np.float32(0.5)) * self.noise[:, None]

    def radar_share(self, q: Floats, raw: Floats) -> Floats:
        """(B, N) what the radar features add to the guess."""
        assert self.radar_rows is not None
        at = slice(*self.radar_rows)
        z = np.clip((raw[at] - self.whiten.mean[at, None]) / self.whiten.scale[at, None], -5, 5)
        k = len(self.mean)
        weights = self.mean[1:] + self.weights[1:k]
        share: Floats = weights.T @ (self.whiten.rotate[:, at] @ z)
        return share


def _allowed(days: NDArray[np.int64], day: int, causal: bool) -> Mask:
    return days < day if causal else days != day


def based(omega: Floats, v: View) -> Floats:
    """The stacked base (B, N)."""
    total = omega[0] * v.candidates[0]
    for w, candidate in zip(omega[1:], v.candidates[1:], strict=True):
        total = total + w * candidate
    return total


def inputs(model: SceneModel, p: Pixels, v: View, use: Mask) -> Floats:
    """The design (p, N): 1, whitened features, components of the year."""
    phi = design(model.whiten(v.raw))
    return phi if model.embed is None else np.concatenate([phi, model.embed(yearly(p, use, model.epochs))])


def design(phi: Floats) -> Floats:
    """Features with a leading row of ones."""
    return np.concatenate([np.ones((1, phi.shape[1]), np.float32), phi])


def likeness(model: SceneModel, q: Floats) -> Floats:
    """(N, D) what the process compares: leading features by their strength, and leading components of the year."""
    k = len(model.mean)
    lead = q[1:9] * model.whiten.strength[:8, None]
    return np.ascontiguousarray(np.concatenate([lead, q[k : k + 8]]).T)


# --------------------------------------------------------------------------------------------------------------- the fit


@dataclass(frozen=True)
class Rehearsal:
    """Another date, played as if it were the target: hidden together with a hole like the target's."""

    view: View
    truth: Floats  # (B, n)
    year: Floats
    trust: float


def fit(
    p: Pixels, day: int, bands: tuple[str, ...], causal: bool, seed: int, bounds: tuple[int, int, int, int] | None
) -> SceneModel:
    """Learn the place from a sample of its pixels, for one day."""
    rng = np.random.default_rng([seed, 7])
    t = int(np.searchsorted(p.days, day))
    use = _allowed(p.days, day, causal)
    epochs = np.linspace(p.days[0], p.days[-1], EPOCHS).astype(np.int64)
    plays = rehearse(p, t, use, epochs, bands, rng)
    seen = _some(np.flatnonzero(p.clear[t] & p.clear[use].any(0)), SEEN, rng)
    blank = _blank(p, t, use, bands, bounds, causal, epochs)
    model, given = _learned(blank, plays) if len(plays) >= FEWEST_REHEARSALS else _guarded(blank, p, t, use, seen)
    return _adjusted(model, given, p.take(seen), t, use, rng)


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
        weights=np.zeros((1, count), np.float32), root=np.zeros((1, 1), np.float32), noise=np.ones(count, np.float32),
        low=np.full(count, -0.5, np.float32), high=np.full(count, 0.5, np.float32), kernel=None,
        unit=np.zeros(count, np.float32), scale=np.ones(count, np.float32), typical=typical, spread=spread,
        radar_rows=None if p.radar is None else (first, first + 8 + 3 * sum(b in bands for b in ("B04", "B08", "B11"))),
    )  # fmt: skip


def _learned(blank: SceneModel, plays: list[Rehearsal]) -> tuple[SceneModel, Prior]:
    """Base weights, feature scaling, mean correction, year components and the prior, from the rehearsals."""
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
    noises = [((r - (w.T @ q)) ** 2).mean(1) for q, r, w in zip(qs, left, fits, strict=True)]
    return replace(blank, omega=omega, whiten=whiten, mean=mean.astype(np.float32), embed=embed), prior(fits, noises, trust)


def _guarded(blank: SceneModel, p: Pixels, t: int, use: Mask, seen: NDArray[np.int64]) -> tuple[SceneModel, Prior]:
    """Too few dates to learn from: a flat ridge on standardised features of the target's clear pixels (guard)."""
    at = seen if len(seen) >= FEWEST_CLEAR else np.arange(len(p))
    whiten = scaling(view(p.take(at), t, use, blank.bands).raw)
    size = 1 + len(whiten.mean)
    count = len(blank.bands)
    noise = np.full(count, 0.02**2)
    variance = np.broadcast_to(noise / 30, (size, count)).copy()
    variance[0] = 1.0 if len(seen) >= FEWEST_CLEAR else 1e-12
    model = replace(blank, whiten=whiten, mean=np.zeros((size, count), np.float32))
    return model, Prior(variance, noise)


def _adjusted(model: SceneModel, given: Prior, p: Pixels, t: int, use: Mask, rng: np.random.Generator) -> SceneModel:
    """The regression moved by the target's clear pixels p, and the kernel of what it leaves."""
    full = model.embed is not None
    inflation = INFLATION if full else 1.0
    v = view(p, t, use, model.bands)
    q = inputs(model, p, v, use)
    k = len(model.mean)
    r = p.x[t] - based(model.omega, v) - model.mean.T @ q[:k]
    weight = np.ones(len(p), np.float32)
    for _ in range(2):
        post = posterior(Sums.of(q, r, weight), given, inflation)
        left = (r - post.weights.T @ q).astype(np.float32)
        weight = robust(left) if len(p) else weight
    noise = given.noise
    if not full:
        low, high = (r.min(1) - 0.03, r.max(1) + 0.03) if len(p) else (model.low * 0, model.high * 0)
        noise = left.var(1) if len(p) >= FEWEST_CLEAR else np.full_like(noise, 0.05**2)
        model = replace(model, low=low.astype(np.float32), high=high.astype(np.float32))
    model = replace(
        model, weights=post.weights.astype(np.float32), root=post.root.astype(np.float32), noise=noise.astype(np.float32),
        unit=np.sqrt(noise).astype(np.float32),
    )  # fmt: skip
    return _with_kernel(model, p, q, left, rng) if len(p) >= 150 else model


def _with_kernel(model: SceneModel, p: Pixels, q: Floats, left: Floats, rng: np.random.Generator) -> SceneModel:
    limit = 5 * np.median(np.abs(left), axis=1, keepdims=True)
    e = np.clip(left, -limit, limit)
    unit = e.std(1) + np.float32(1e-5)
    some = np.sort(rng.choice(len(p), min(600, len(p)), replace=False))
    f = likeness(model, q)[some]
    xy = np.stack([p.rows - p.rows[0], p.cols - p.cols[0]], 1).astype(np.float32)[some]
    folds = _blocks(xy, rng)
    kernel, error = scene_gp.chosen(
        xy, f, np.ascontiguousarray((e[:, some] / unit[:, None]).T), folds, scene_gp.median_square(f)
    )
    return replace(model, kernel=kernel, unit=unit) if error < 1 else model


def _blocks(xy: Floats, rng: np.random.Generator, side: int = 10, folds: int = 4) -> NDArray[np.int64]:
    """A fold for each point: whole blocks of `side` pixels, so that neighbours are left out together."""
    ids = np.unique(xy // side, axis=0, return_inverse=True)[1].ravel()
    fold: NDArray[np.int64] = rng.permutation(int(ids.max()) + 1)[ids] % folds
    return fold


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
            plays.append(Rehearsal(view(mine, s, others, bands), mine.x[s], yearly(mine, others, epochs), trust))
    return plays
