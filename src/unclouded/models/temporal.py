"""What other dates say about one day, pixel by pixel: neighbours in time, and candidates for the hidden value.

Arrays hold pixels last, (T, B, N), so that every step is a sweep over dates of long, contiguous rows. All of it is
elementwise: a pixel's result depends on nothing but the pixel, whatever else is in the array.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
DAMPING = 10.0  # days: measurement noise over daily change of the damped smoother
NEIGHBOURS = 3
EDGE = 10  # pixels: so near to hidden ones, a clear pixel may carry cloud or shadow that the mask missed


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """N pixels over time. `x` is 0 wherever `clear` is False: nothing downstream can see an invisible value."""

    x: Floats  # (T, B, N) reflectance
    clear: Mask  # (T, N)
    days: NDArray[np.int64]  # (T,) ascending; the target day is always among them
    rows: NDArray[np.int64]  # (N,) absolute
    cols: NDArray[np.int64]  # (N,)
    edge: Floats  # (N,) pixels to the nearest hidden pixel of the target, at most EDGE
    radar: Floats | None = None  # (T, 4, N) dB: anomaly of VV, VH in 3 x 3 pixels, and in 7 x 7, at each optical day
    ground: Floats | None = None  # (4, N) dB: mean VV, VH of the year in 3 x 3 pixels, and in 7 x 7

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, at: NDArray[np.integer] | Mask) -> Pixels:
        """Some of the pixels."""
        index = np.flatnonzero(at) if at.dtype == bool else at
        return replace(
            self, x=self.x.take(index, -1), clear=self.clear.take(index, -1),
            rows=self.rows[index], cols=self.cols[index], edge=self.edge[index],
            radar=None if self.radar is None else self.radar.take(index, -1),
            ground=None if self.ground is None else self.ground.take(index, -1),
        )  # fmt: skip


def join(parts: list[Pixels]) -> Pixels:
    """Several lists of pixels of the same dates as one."""
    first = parts[0]
    return replace(
        first,
        x=np.concatenate([p.x for p in parts], -1), clear=np.concatenate([p.clear for p in parts], -1),
        rows=np.concatenate([p.rows for p in parts]), cols=np.concatenate([p.cols for p in parts]),
        edge=np.concatenate([p.edge for p in parts]),
        radar=None if first.radar is None else np.concatenate([p.radar for p in parts if p.radar is not None], -1),
        ground=None if first.ground is None else np.concatenate([p.ground for p in parts if p.ground is not None], -1),
    )  # fmt: skip


@dataclass(frozen=True)
class Sides:
    """The nearest clear observations on both sides of a day: date indices (K, N), and whether there is one (K, N).

    A missing neighbour repeats the next nearer one; a missing side repeats the other side.
    """

    before: NDArray[np.int16]
    after: NDArray[np.int16]
    has_before: Mask
    has_after: Mask

    @property
    def any(self) -> Mask:
        """(N,) some clear observation exists."""
        return self.has_before[0] | self.has_after[0]


def sides(clear: Mask, days: NDArray[np.int64], t: int, use: Mask) -> Sides:
    """The `NEIGHBOURS` nearest clear dates before and after date t, out of the dates `use` (T,)."""
    order_before = [u for u in range(t - 1, -1, -1) if use[u]]
    order_after = [u for u in range(t + 1, len(days)) if use[u]]
    before, has_before = _nearest(clear, order_before)
    after, has_after = _nearest(clear, order_after)
    before = np.where(has_before[0], before, after)
    after = np.where(has_after[0], after, before)
    return Sides(before, after, has_before, has_after)


def _nearest(clear: Mask, order: list[int]) -> tuple[NDArray[np.int16], Mask]:
    n = clear.shape[1]
    found = np.zeros((NEIGHBOURS, n), np.int16)
    count = np.zeros(n, np.int8)
    for u in order:
        here = clear[u]
        for k in range(NEIGHBOURS):
            np.copyto(found[k], np.int16(u), where=here & (count == k))
        count += here
        np.minimum(count, NEIGHBOURS, out=count)
        if (count == NEIGHBOURS).all():
            break
    has = count[None] > np.arange(NEIGHBOURS)[:, None]
    for k in range(1, NEIGHBOURS):
        np.copyto(found[k], found[k - 1], where=~has[k])
    return found, has


def gather(x: Floats, dates: NDArray[np.int16]) -> Floats:
    """x (T, B, N) at one date per pixel (N,) -> (B, N)."""
    _, bands, count = x.shape
    at, flat = dates.astype(np.intp) * (bands * count) + np.arange(count), x.reshape(-1)
    picked = np.empty((bands, count), np.float32)
    for row in picked:  # plain takes, band by band: twice as fast as an index along all three axes
        flat.take(at, out=row, mode="clip")
        at += count
    return picked


def share_before(days: NDArray[np.int64], t: int, near: Sides) -> Floats:
    """(N,) weight of the observation before in linear interpolation; 1 or 0 where a side is missing."""
    back = (days[t] - days[near.before[0]]).astype(np.float32)
    ahead = (days[near.after[0]] - days[t]).astype(np.float32)
    weight = ahead / np.maximum(back + ahead, 1)
    both = near.has_before[0] & near.has_after[0]
    return np.where(both, weight, near.has_before[0]).astype(np.float32)


def faded(p: Pixels, t: int, use: Mask, taus: tuple[float, ...]) -> list[Floats]:
    """Means of the clear observations with weight exp(-|days| / tau), one (B, N) for each tau; 0 where none is clear."""
    sums = [np.zeros(p.x.shape[1:], np.float32) for _ in taus]
    weights = [np.full(len(p), 1e-30, np.float32) for _ in taus]
    for u in np.flatnonzero(use):
        away = abs(int(p.days[u] - p.days[t]))
        for k, tau in enumerate(taus):
            w = np.float32(max(np.exp(-away / tau), 1e-25))
            sums[k] += w * p.x[u]
            weights[k] += w * p.clear[u]
    return [total / weight for total, weight in zip(sums, weights, strict=True)]


def damped(p: Pixels, t: int, use: Mask, damping: float = DAMPING) -> tuple[Floats, Floats]:
    """The random-walk smoother at date t, (B, N), and its variance (N,) in units of the measurement's.

    Minimises sum (x - z)^2 + damping * sum (dz)^2 / dt over the clear observations: a Kalman filter from each side, the two
    meeting at t (Rauch, Tung, Striebel 1965). Observations of t itself are not used.
    """
    ahead, v_ahead = _filtered(p, [u for u in range(t) if use[u]], p.days[t], damping)
    back, v_back = _filtered(p, [u for u in range(len(p.days) - 1, t, -1) if use[u]], p.days[t], damping)
    w_ahead, w_back = 1 / v_ahead, 1 / v_back
    total = w_ahead + w_back
    return np.asarray((ahead * w_ahead + back * w_back) / total, np.float32), np.asarray(1 / total, np.float32)


def _filtered(p: Pixels, order: list[int], day: np.int64, damping: float) -> tuple[Floats, Floats]:
    state = np.zeros(p.x.shape[1:], np.float32)
    variance = np.full(len(p), 1e6, np.float32)
    last = p.days[order[0]] if order else day
    for u in order:
        variance += np.float32(abs(int(p.days[u] - last)) / damping)
        gain = np.where(p.clear[u], variance / (variance + 1), np.float32(0))
        state += gain * (p.x[u] - state)
        variance = np.where(p.clear[u], gain, variance)  # v (1 - gain) = gain; 1 - gain itself would lose its digits
        last = p.days[u]
    return state, variance + np.float32(abs(int(day - last)) / damping)
