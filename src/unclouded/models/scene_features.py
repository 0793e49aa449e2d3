"""Features of a hidden pixel: what its other dates, its radar and its whole year say about the target day.

Every function works on `Pixels` and is elementwise over them; statistics that tie pixels together are fitted elsewhere, on a
fixed sample, so that a pixel's features never depend on how the scene was cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unclouded.models.temporal import Floats, Mask, Pixels, Sides, damped, faded, gather, share_before, sides

TAUS = (15.0, 80.0)  # days: a short and a long memory
RADAR_BANDS = ("B04", "B08", "B11")  # red, NIR, SWIR: where the VH anomaly is allowed to act in proportion to the spectrum


@dataclass(frozen=True)
class View:
    """What the other dates show of N pixels on one day."""

    candidates: Floats  # (K, B, N) straight line, short mean, long mean, damped walk
    raw: Floats  # (F, N) features, unscaled
    near: Sides
    walk: Floats  # (N,) variance of the damped walk: grows with the hole
    spread: Floats  # (B, N) disagreement of the neighbours: |a1 - b1|


def view(p: Pixels, t: int, use: Mask, bands: tuple[str, ...]) -> View:
    """Candidates and features of all pixels for date index t, from the dates `use` (T,), of which t must not be one."""
    near = sides(p.clear, p.days, t, use)
    w = share_before(p.days, t, near)
    known = near.any.astype(np.float32)  # 0: no date shows the pixel, and its neighbours in time are no dates at all
    b1, a1, b2, a2 = (gather(p.x, dates) * known for dates in (near.before[0], near.after[0], near.before[1], near.after[1]))
    line = w * b1 + (1 - w) * a1
    short, long = faded(p, t, use, TAUS)
    walk, variance = damped(p, t, use)
    slope = a1 - b1
    raw = [line, short - line, long - line, slope, b1 - b2, a2 - a1, w * slope, *_radar(p, t, near, w, line, slope, bands)]
    return View(np.stack([line, short, long, walk]), np.concatenate(raw), near, variance, np.abs(slope))


def _radar(p: Pixels, t: int, near: Sides, w: Floats, line: Floats, slope: Floats, bands: tuple[str, ...]) -> list[Floats]:
    """S1 at the day, its change against the neighbours' days, in 3 x 3 and 7 x 7 pixels, and products with the spectrum."""
    if p.radar is None or p.ground is None:
        return []
    now = p.radar[t]
    then_b, then_a = gather(p.radar, near.before[0]), gather(p.radar, near.after[0])
    known = near.any.astype(np.float32)
    change = (now - w * then_b - (1 - w) * then_a) * known
    at = [bands.index(b) for b in RADAR_BANDS if b in bands]
    vh, vh_change = now[1], change[1]
    products = [vh * line[at], vh * slope[at], vh_change * line[at]] if at else []
    return [now[:2], change, (then_a - then_b)[:2] * known, p.ground, *products]


def yearly(p: Pixels, use: Mask, epochs: NDArray[np.int64]) -> Floats:
    """(E * B (+ E * 2), N): the pixel's year, filled linearly in time at `epochs` (days), and its radar anomalies.

    Outside its first and last clear observation a pixel keeps the nearest one.
    """
    at = np.flatnonzero(use)
    last, following = _latest(p.clear, at)
    none = np.full(len(p), -1, np.int16)
    earlier: dict[int, Known] = {}  # by the number of dates up to an epoch: several epochs lie between the same two dates
    later: dict[int, Known] = {}
    parts = []
    for day in epochs:
        k = int(np.searchsorted(p.days[at], day, side="right"))
        if k not in earlier:
            earlier[k] = _known(p, last[k - 1] if k else none)
            later[k] = _known(p, following[k] if k < len(at) else none)
        w = _share(int(day), earlier[k].day, later[k].day)
        parts.append(w * earlier[k].x + (1 - w) * later[k].x)
    if p.radar is not None:
        nearest = [int(np.abs(p.days - day).argmin()) for day in epochs]
        parts += [np.float32(0.015) * p.radar[u, 2:] for u in nearest]
    return np.concatenate(parts)


class Known(NamedTuple):
    """What pixels showed on one date each, and when: reflectance (B, N), day (N,); 0 and NaN where there is none."""

    x: Floats
    day: Floats


def _known(p: Pixels, dates: NDArray[np.int16]) -> Known:
    there, dates = dates >= 0, np.maximum(dates, 0)
    x = gather(p.x, dates)
    if not there.all():
        x[:, ~there] = 0
    return Known(x, np.where(there, p.days[dates], np.nan).astype(np.float32))


def _share(day: int, earlier: Floats, later: Floats) -> Floats:
    """(N,) weight of the earlier of two days in linear interpolation; where one is missing (NaN) the other has all of it."""
    back, ahead = np.float32(day) - earlier, later - np.float32(day)
    w = ahead / np.maximum(back + ahead, np.float32(1))
    return np.where(np.isnan(later), np.float32(1), np.where(np.isnan(earlier), np.float32(0), w))


def _latest(clear: Mask, at: NDArray[np.integer]) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """For each of the dates `at` (U,): the last clear one up to it and the first from it on, (U, N); -1 where there is none."""
    dates = at.astype(np.int16)[:, None]
    last = np.maximum.accumulate(np.where(clear[at], dates, np.int16(-1)), 0)
    later = np.minimum.accumulate(np.where(clear[at], dates, np.int16(len(clear)))[::-1], 0)[::-1]
    return last, np.where(later == len(clear), np.int16(-1), later)
