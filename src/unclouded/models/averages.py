"""The simple removers: what other dates saw, copied, averaged or interpolated. No fit, no weights, no radar.

Sources: least cloudy and mosaicing are the baselines of Ebel et al. 2022 (SEN12MS-CR-TS), Table I; the others are the
field's common practice. A pixel that no other date saw clearly comes back NaN (refused). The target date's own pixels are
never used, so every prediction is a true guess and can be scored.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from unclouded.models.needs import Needs
from unclouded.sample import HIDING, NO_AGE, Batch, Cover, Prediction, Source, as_day

if TYPE_CHECKING:
    from unclouded.scenes.scene import Scene

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Rule = Literal["least-cloudy", "nearest", "mosaic", "median", "linear"]

NEEDS = Needs(dates=(2, None))
EVERYWHERE = replace(NEEDS, masks="everywhere")
CLOUD_COST_DAYS = 200  # least cloudy: a fully hidden date counts as 200 days further away


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which rule, and its knobs.

    - `least-cloudy`: the whole date that minimises |days| + 200 (1 - clear share), holes from the next best.
    - `nearest`: per pixel, the clear observation nearest in time.
    - `mosaic`, `median`: mean or median of the clear observations within `days` of the target, else the nearest one.
    - `linear`: straight line in time between the nearest clear observations before and after; one side alone is copied.
    """

    rule: Rule
    days: int = 60
    causal: bool = False  # only dates before the target
    never: float | None = None  # reflectance where no date is clear (Ebel et al. 2022, mosaicing: 0.5); None: refused


@dataclass(frozen=True)
class Average:
    """A remover that copies or averages clear observations of the same pixel on other dates."""

    config: Config
    order: tuple[int, ...] | None = None  # least-cloudy: signed days from the target, best date first (set by adapt)

    @property
    def needs(self) -> Needs:
        """Two dates or more; `least-cloudy` ranks whole dates."""
        return EVERYWHERE if self.config.rule == "least-cloudy" else NEEDS

    def adapt(self, scene: Scene, date: np.datetime64) -> Average:
        """For `least-cloudy`, rank the dates of the whole scene once, so that every tile copies from the same date."""
        if self.config.rule != "least-cloudy" or scene.masks is None:
            return self
        clear = np.asarray([np.mean(~HIDING[m] & (m != Cover.NODATA)) for m in scene.masks])
        dt = (scene.dates - as_day(date)).astype(np.int64)
        return replace(self, order=tuple(dt[_rank(dt, clear)].tolist()))

    def __call__(self, batch: Batch) -> Prediction:
        """Reflectance (B, C, H, W) with age and support; NaN (or `never`) where no other date is clear."""
        import torch

        assert batch.target_day is not None, "a remover needs Batch.target_day"
        parts = [
            self._one(s2, clear, days - day)
            for s2, clear, days, day in zip(
                batch.s2.numpy(), batch.clear().numpy(), batch.s2_days.numpy(), batch.target_day.numpy(), strict=True
            )
        ]
        s2, age, support = (torch.from_numpy(np.stack(column)) for column in zip(*parts, strict=True))
        without = Source.REFUSED if self.config.never is None else Source.PRIOR
        source = torch.where(age == NO_AGE, int(without), int(Source.DATES)).to(torch.uint8)
        if self.config.never is not None:
            s2 = torch.where((age == NO_AGE)[:, None], self.config.never, s2)
        return Prediction(s2=s2, source=source, age=age.to(torch.int16), support=support.to(torch.int16))

    def _one(self, s2: Floats, clear: Bools, dt: Ints) -> tuple[Floats, Ints, Ints]:
        """One sample: s2 (T, C, H, W), clear (T, H, W), dt (T,) signed days -> values (C, H, W), age (H, W), support (H, W)."""
        usable = clear & ((dt < 0) if self.config.causal else (dt != 0))[:, None, None]
        rule = self.config.rule
        if rule == "linear":
            return linear(s2, usable, dt)
        if rule in ("mosaic", "median"):
            return self._mean(s2, usable, dt)
        if rule == "nearest":
            return first_clear(s2, usable, dt, np.argsort(np.abs(dt), kind="stable"))
        if self.order is None:
            return first_clear(s2, usable, dt, _rank(dt, usable.mean((1, 2))))
        rank = {day: n for n, day in enumerate(self.order)}
        return first_clear(s2, usable, dt, np.argsort([rank.get(int(day), len(rank)) for day in dt], kind="stable"))

    def _mean(self, s2: Floats, usable: Bools, dt: Ints) -> tuple[Floats, Ints, Ints]:
        near = usable & (np.abs(dt) <= self.config.days)[:, None, None]
        value, age, support = first_clear(s2, usable, dt, np.argsort(np.abs(dt), kind="stable"))
        count = near.sum(0)
        average = _mean_of(s2, near) if self.config.rule == "mosaic" else _median_of(s2, near)
        return np.where(count > 0, average, value), age, np.where(count > 0, count, np.minimum(support, 1))


def _rank(dt: Ints, clear_share: NDArray[np.floating]) -> NDArray[np.intp]:
    return np.argsort(np.abs(dt) + CLOUD_COST_DAYS * (1 - clear_share), kind="stable")


def first_clear(s2: Floats, usable: Bools, dt: Ints, order: NDArray[np.intp]) -> tuple[Floats, Ints, Ints]:
    """Per pixel the first usable observation in `order` (T,): values (C, H, W), its signed days (NO_AGE: none), support."""
    value = np.full(s2.shape[1:], np.nan, np.float32)
    age = np.full(usable.shape[1:], NO_AGE, np.int64)
    for t in order:
        take = usable[t] & (age == NO_AGE)
        if take.any():
            value[:, take] = s2[t][:, take]
            age[take] = dt[t]
            if (age != NO_AGE).all():
                break
    return value, age, usable.sum(0)


def linear(s2: Floats, usable: Bools, dt: Ints) -> tuple[Floats, Ints, Ints]:
    """Per pixel the straight line between the nearest usable observations before and after (one side alone is copied).

    s2 (T, C, H, W), usable (T, H, W), dt (T,) signed days -> values (C, H, W), signed days of the nearer one, support (H, W).
    """
    by_time = np.argsort(np.abs(dt), kind="stable")
    before, before_age, _ = first_clear(s2, usable & (dt < 0)[:, None, None], dt, by_time)
    after, after_age, _ = first_clear(s2, usable & (dt > 0)[:, None, None], dt, by_time)
    has_before, has_after = before_age != NO_AGE, after_age != NO_AGE
    gap = np.where(has_before & has_after, after_age - before_age, 1).astype(np.float32)
    share = np.where(has_before & has_after, -before_age / gap, np.where(has_after, 1.0, 0.0)).astype(np.float32)
    line = np.where(has_before, before, 0) * (1 - share) + np.where(has_after, after, 0) * share
    value = np.where(has_before | has_after, line, np.nan).astype(np.float32)
    age = np.where(np.abs(before_age) <= np.abs(after_age), before_age, after_age)
    return value, age, usable.sum(0)


def _mean_of(s2: Floats, near: Bools) -> Floats:
    total = np.zeros(s2.shape[1:], np.float32)
    for frame, seen in zip(s2, near, strict=True):
        total += np.where(seen, frame, np.float32(0))
    return total / np.maximum(near.sum(0), 1).astype(np.float32)


def _median_of(s2: Floats, near: Bools) -> Floats:
    """Median over the usable frames: hidden values sort to the end as +inf, so the middle of the first n is the median."""
    ordered = np.sort(np.where(near[:, None], s2, np.float32(np.inf)), axis=0)
    n = np.maximum(near.sum(0), 1)
    low = np.take_along_axis(ordered, ((n - 1) // 2)[None, None], 0)[0]
    high = np.take_along_axis(ordered, (n // 2)[None, None], 0)[0]
    both = np.isfinite(low) & np.isfinite(high)
    return np.where(both, (np.where(both, low, 0) + np.where(both, high, 0)) / 2, np.nan).astype(np.float32)
