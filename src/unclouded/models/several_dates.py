"""What every network for time series shares: from a Batch to its frames, through the network, to a Prediction.

Each optical date is paired per pixel with the radar acquisition nearest in time. A date that measured nothing here takes no
part; pixels that were not measured become constants first, so what lies under them cannot leak. A network for a fixed number
of dates gets the nearest or the clearest ones, in order of time, whatever order they came in.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from unclouded.models.averages import CLOUD_COST_DAYS
from unclouded.models.single_date import FILL_DB, FILL_REFLECTANCE, Frame, SingleDate, nearest_radar
from unclouded.sample import HIDING, NO_AGE, Batch, Cover, Prediction, Source, as_day

if TYPE_CHECKING:
    from unclouded.scenes.scene import Scene

Choose = Literal["nearest", "clearest"]
EXAMPLE_DATES = 3
FAR = 2**40  # days: the rank of a date that measured nothing


def masks_for(choose: Choose) -> Literal["near", "everywhere"]:
    """Where a network that chooses its dates looks at their masks: `clearest` ranks whole dates."""
    return "everywhere" if choose == "clearest" else "near"


@dataclass(frozen=True, kw_only=True)
class Frames(Frame):
    """Several dates without holes: s2 (B, T, C, H, W) reflectance; s1 (B, T, 2, H, W) dB, cloud (B, T, 1, H, W), or None."""

    days: Tensor  # (B, T) float32: mean of the optical and the radar day, since 1970-01-01
    seen: Tensor  # (B, T) bool: something was measured; frames without are constants and must not count

    def take(self, index: Tensor) -> Frames:
        """The frames `index` (B, n), in that order."""
        rows = torch.arange(len(index), device=index.device)[:, None]
        return replace(
            self, s2=self.s2[rows, index], s1=None if self.s1 is None else self.s1[rows, index],
            cloud=None if self.cloud is None else self.cloud[rows, index],
            days=self.days[rows, index], seen=self.seen[rows, index],
        )  # fmt: skip


class Under(nn.Module):
    """Layers one after the other, their parameters under a dotted name, as published state dicts have them."""

    def __init__(self, path: str, *layers: nn.Module) -> None:
        super().__init__()
        self.path = path
        *outer, last = path.split(".")
        at: nn.Module = self
        for name in outer:
            inner = nn.Module()
            at.add_module(name, inner)
            at = inner
        at.add_module(last, nn.Sequential(*layers))

    def forward(self, x: Tensor) -> Tensor:
        """The layers' result."""
        out: Tensor = self.get_submodule(self.path)(x)
        return out


def frames_of(batch: Batch, *, sar: bool) -> Frames:
    """All dates of a batch as Frames; without `sar` as if there were no radar, which else would move the days too."""
    valid = batch.s2_valid[:, :, None]
    seen = batch.s2_valid.flatten(2).any(2)
    cloud = None if batch.cloud is None else torch.where(valid, batch.cloud[:, :, None], 1.0)
    s1, days = None, batch.s2_days.double()
    if sar and batch.s1 is not None:
        pairs = [nearest_radar(batch, batch.s2_days[:, t])[0] for t in range(batch.s2.shape[1])]
        s1 = torch.where(seen[..., None, None, None], torch.stack(pairs, 1), FILL_DB)
        days = (days + _radar_days(batch)) / 2
    return Frames(s2=torch.where(valid, batch.s2, FILL_REFLECTANCE), s1=s1, cloud=cloud, days=days.float(), seen=seen)


def _radar_days(batch: Batch) -> Tensor:
    """(B, T) day of the acquisition nearest to each optical date; its own day where there is none."""
    assert batch.s1_days is not None and batch.s1_valid is not None
    gap = (batch.s1_days[:, None] - batch.s2_days[:, :, None]).abs()
    gap = torch.where(batch.s1_valid.flatten(2).any(2)[:, None], gap, FAR)
    nearest, index = gap.min(2)
    return torch.where(nearest < FAR, batch.s1_days.gather(1, index), batch.s2_days).double()


def in_time(batch: Batch) -> Tensor:
    """(B, T) the order of time of the dates; those that measured nothing come last."""
    seen = batch.s2_valid.flatten(2).any(2)
    return torch.where(seen, batch.s2_days, FAR).argsort(dim=1, stable=True)


def choose_dates(batch: Batch, n: int, by: Choose, ranked: tuple[int, ...] | None = None) -> Tensor:
    """The `n` best dates of each sample, in order of time: indices (B, n). Too few dates repeat the last ones.

    `ranked`: days since 1970-01-01, best first, decided for the whole scene; dates not among them come after.
    """
    assert batch.target_day is not None, "a remover needs Batch.target_day"
    seen = batch.s2_valid.flatten(2).any(2)
    cost = (batch.s2_days - batch.target_day[:, None]).abs().double()
    if by == "clearest":
        cost += CLOUD_COST_DAYS * (1 - batch.clear().flatten(2).double().mean(2))
    if ranked is not None:
        place = {day: i for i, day in enumerate(ranked)}
        listed = [[place.get(int(d), FAR // 2) for d in row] for row in batch.s2_days]
        cost = torch.tensor(listed, dtype=torch.float64, device=cost.device)
    count = seen.sum(1).clamp(min=1)
    best = (torch.where(seen, cost, float(FAR)) + batch.s2_days * 1e-9).argsort(dim=1, stable=True)
    at = torch.arange(n, device=best.device)[None].minimum(count[:, None] - 1)
    chosen = best.gather(1, at)
    return chosen.gather(1, batch.s2_days.gather(1, chosen).argsort(dim=1, stable=True))


class SeveralDates(SingleDate):
    """A network that restores an image from several dates. A subclass states `series_inputs`, in place of `inputs`."""

    dates: int | None = None  # how many dates the network takes; None: all there are
    choose: Choose = "nearest"
    _ranked: tuple[int, ...] | None = None  # days, best first, for a whole scene

    @abstractmethod
    def series_inputs(self, frames: Frames) -> tuple[Tensor, ...]:
        """Frames in physical units -> what the network takes, in its own ranges."""

    def inputs(self, frame: Frame) -> tuple[Tensor, ...]:
        """The same under the name that single-date networks have."""
        assert isinstance(frame, Frames), "a network for time series takes Frames"
        return self.series_inputs(frame)

    def example(self, side: int) -> Frames:
        """Frames of this network's channels, side x side, EXAMPLE_DATES of them where it takes any number."""
        one, t = super().example(side), self.dates or EXAMPLE_DATES
        s1 = None if one.s1 is None else one.s1.unsqueeze(1).expand(-1, t, -1, -1, -1)
        cloud = None if one.cloud is None else one.cloud.unsqueeze(1).expand(-1, t, -1, -1, -1)
        days = 10.0 * torch.arange(t, dtype=torch.float32)[None] + 18_000
        s2 = one.s2.unsqueeze(1).expand(-1, t, -1, -1, -1)
        return Frames(s2=s2, s1=s1, cloud=cloud, days=days, seen=torch.ones(1, t, dtype=torch.bool))

    def adapt(self, scene: Scene, date: np.datetime64) -> Self:
        """For `clearest`, rank the dates of the whole scene once, so that every tile sees the same dates."""
        if self.dates is None or self.choose == "nearest" or scene.masks is None:
            return self
        clear = np.asarray([np.mean(~HIDING[m] & (m != Cover.NODATA)) for m in scene.masks])
        days = scene.dates.astype(np.int64)
        cost = np.abs(days - as_day(date).astype(np.int64)) + CLOUD_COST_DAYS * (1 - clear)
        adapted = copy.copy(self)
        adapted._ranked = tuple(days[np.argsort(cost, kind="stable")].tolist())
        return adapted

    def chosen(self, batch: Batch) -> Batch:
        """The batch with only the dates that the network will see, in order of time."""
        index = in_time(batch) if self.dates is None else choose_dates(batch, self.dates, self.choose, self._ranked)
        return _select(batch, index)

    def __call__(self, batch: Batch) -> Prediction:
        """One clear image: every pixel, reflectance, not clipped; NaN for a sample that measured nothing on any date.

        Raises InputUnsupported where `needs` is not met.
        """
        self.needs.check_batch(batch)
        used = self.chosen(batch)
        s2, sigma = self._restored(used)
        s2 = torch.where(used.s2_valid.flatten(1).any(1)[:, None, None, None], s2, torch.nan)
        source, age, support = evidence(used, sar=self.needs.sar != "unused")
        return Prediction(s2=s2, sigma=sigma, source=source, age=age, support=support)

    def _restored(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        h, w = batch.shape
        frames = frames_of(batch, sar=self.needs.sar != "unused").mirrored(self.needs.multiple_of, self.smallest)
        assert isinstance(frames, Frames)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.network.training), self._arithmetic(batch.s2.device):
            s2, sigma = self.restore_with_sigma(frames)
        return s2[..., :h, :w], None if sigma is None else sigma[..., :h, :w]

    def restore_with_sigma(self, frames: Frames) -> tuple[Tensor, Tensor | None]:
        """Reflectance (B, C, H, W) and its standard deviation, if the network has one."""
        return self.restore(frames), None


def _select(batch: Batch, index: Tensor) -> Batch:
    rows = torch.arange(len(batch), device=index.device)[:, None]
    at = None
    if batch.target_index is not None:
        hit = index == batch.target_index[:, None]
        at = torch.where(hit.any(1), hit.float().argmax(1), -1)
    return replace(
        batch, s2=batch.s2[rows, index], s2_valid=batch.s2_valid[rows, index], s2_days=batch.s2_days[rows, index],
        cloud=None if batch.cloud is None else batch.cloud[rows, index], target_index=at,
    )  # fmt: skip


def evidence(batch: Batch, *, sar: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Where a pixel's value comes from: source (B, H, W), signed days to the nearest clear date, number of clear dates."""
    assert batch.target_day is not None
    clear = batch.clear()
    gap = (batch.s2_days - batch.target_day[:, None])[..., None, None]
    nearest = torch.where(clear, gap.abs(), FAR).argmin(1, keepdim=True)
    support = clear.sum(1)
    age = torch.where(support > 0, gap.expand(clear.shape).gather(1, nearest)[:, 0], NO_AGE)
    radar = torch.zeros_like(support, dtype=torch.bool)
    if sar and batch.s1_valid is not None:
        radar = batch.s1_valid.any(1)
    without = torch.where(radar, int(Source.SAR), int(Source.PRIOR))
    found = torch.where(radar, int(Source.DATES_SAR), int(Source.DATES))
    return torch.where(support > 0, found, without).to(torch.uint8), age.to(torch.int16), support.to(torch.int16)
