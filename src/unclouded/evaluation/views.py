"""Protocols as views of a data set: `evaluate --protocol NAME` scores what a view shows instead of the samples themselves.

A view has a length and gives samples, like a data set; `variant(i)` names the group its i-th sample belongs to ('' for none),
and results are then also told by variant. Views that need to know what is hidden let a detector say it, and hand it on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from unclouded.datasets import synthetic
from unclouded.datasets.lattice import key
from unclouded.errors import InputMissing, UsageError
from unclouded.evaluation.protocols import DrawnByCover, blended, clear_and_cloudy, shifted_radar, stitch, transplanted
from unclouded.evaluation.protocols import References as OfOneSeries
from unclouded.evaluation.scoring import classify, roi_of
from unclouded.metrics.areas import FIFTHS
from unclouded.sample import HIDDEN_FROM, HIDING, Sample, Window

SHIFTS = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1), (-2, 0), (2, 0), (0, -2), (0, 2))  # rows, columns (Xu 2022, section 6)
INTERVALS = (13, 25, 72)  # days (Xu 2022, Table 4)
CLEAR_SHARE = 0.05  # a date that is hidden less is clear
EACH = 800  # patches of every fifth of cover (Xu 2022, section 5.1)
SCENE_SIDE = 1024  # pixels: patches that begin in one square of this side make one scene
SEED = 0


class Samples(Protocol):
    """A data set: how many samples, and the i-th. A list is one; a folder reader that opens files in __getitem__ another."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...


class View(NamedTuple):
    """A protocol by name: how it shows a data set, in words, and whether it wants whole series."""

    show: Callable[[Samples, str], Samples]  # the data set, and the detector that says what is hidden
    about: str
    source: str
    series: bool = False
    clouds: bool = True  # the samples bring their clouds, which then make the areas


def viewed(name: str, samples: Samples, mask: str) -> Samples:
    """A data set under a protocol. Raises UsageError for an unknown name, InputMissing where the data cannot show it."""
    shown = protocol(name).show(samples, mask)
    if not len(shown):
        raise InputMissing(
            f"The protocol '{name}' finds nothing to show in these data.", why=f"it wants {NEEDED[name]}.",
            do="give other data, or another protocol.",
        )  # fmt: skip
    return shown


def protocol(name: str) -> View:
    """A protocol by name. Raises UsageError with the names there are."""
    if name not in PROTOCOLS:
        raise UsageError(f"There is no protocol '{name}'.", why=f"protocols are: {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]


def with_cloud(sample: Sample, mask: str) -> Sample:
    """The sample with its cloud as the detector finds it (its own, where `mask` is auto or given and it has one)."""
    return replace(sample, cloud=HIDING[classify(sample, mask)[1]].astype(np.float32))


@dataclass(frozen=True)
class ShiftedRadar:
    """Every sample under every shift of its radar; variants are the lengths of the shifts in pixels."""

    source: Samples
    shifts: tuple[tuple[int, int], ...] = SHIFTS

    def __len__(self) -> int:
        return len(self.source) * len(self.shifts)

    def __getitem__(self, index: int) -> Sample:
        """The samples in their order, each under all shifts. Raises InputMissing without radar."""
        at, k = divmod(index, len(self.shifts))
        rows, cols = self.shifts[k]
        found = shifted_radar(self.source[at], rows, cols)
        return replace(found, place=replace(found.place, id=f"{found.place.id}@s1{rows:+d}{cols:+d}"))

    def variant(self, index: int) -> str:
        """'0 px', '1 px', '2 px'."""
        return f"{max(abs(n) for n in self.shifts[index % len(self.shifts)])} px"


@dataclass(frozen=True)
class Blended:
    """Every series with the clouds of its most cloudy date over its least cloudy one."""

    source: Samples
    mask: str

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Sample:
        """Series i, blended. Raises RecordError where all dates are equally cloudy."""
        return blended(with_cloud(self.source[index], self.mask))


@dataclass(frozen=True)
class Transplanted:
    """Every series, several times: each time the clouds of one date over another, clear one."""

    source: Samples
    mask: str

    @cached_property
    def pairs(self) -> list[tuple[int, int, int]]:
        """(series, clear date, cloudy date); reads every series once."""
        found = ((k, clear_and_cloudy(with_cloud(self.source[k], self.mask))) for k in range(len(self.source)))
        return [(k, clear, cloudy) for k, dates in found for clear, cloudy in dates]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        """Pair i."""
        at, clear, cloudy = self.pairs[index]
        series = with_cloud(self.source[at], self.mask)
        found, days = transplanted(series, clear, cloudy), series.s2_dates
        return replace(found, place=replace(found.place, id=f"{found.place.id}@{days[clear]}<{days[cloudy]}"))


@dataclass(frozen=True)
class References:
    """A cloudy date of every series against clear dates about `days` later; variants are the wanted intervals."""

    source: Samples
    mask: str
    days: tuple[int, ...] = INTERVALS

    @cached_property
    def chosen(self) -> list[tuple[int, int, int, int]]:
        """(series, cloudy date, clear date, days wanted); reads every series once."""
        found = []
        for k in range(len(self.source)):
            sample = with_cloud(self.source[k], self.mask)
            assert sample.cloud is not None
            hidden = (sample.cloud >= HIDDEN_FROM).mean((1, 2))
            cloudy, clear = at_intervals(sample.s2_dates, hidden, self.days)
            found += [(k, cloudy, at, wanted) for at, wanted in zip(clear, self.days, strict=False)]
        return found

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: int) -> Sample:
        """The cloudy date alone, with the clear one as its truth."""
        k, cloudy, clear, _ = self.chosen[index]
        return OfOneSeries(with_cloud(self.source[k], self.mask), cloudy, (clear,))[0]

    def variant(self, index: int) -> str:
        """'13 days', ...: the interval that was wanted; results by interval tell the one there was."""
        return f"{self.chosen[index][3]} days"


def at_intervals(
    dates: NDArray[np.datetime64], hidden: NDArray[np.floating], days: Sequence[int]
) -> tuple[int, tuple[int, ...]]:
    """The cloudy date whose later clear dates lie nearest to all wanted intervals, and those dates; none: (-1, ()).

    `hidden` (T,): the hidden share of every date. The clear dates differ from each other, or there is no choice.
    """
    clear = np.flatnonzero(hidden <= CLEAR_SHARE)
    best: tuple[float, int, tuple[int, ...]] = (np.inf, -1, ())
    for cloudy in np.flatnonzero(hidden > CLEAR_SHARE):
        later = clear[clear > cloudy]
        if len(later) < len(days):
            continue
        gaps = (dates[later] - dates[cloudy]).astype(int)
        near = [int(np.abs(gaps - wanted).argmin()) for wanted in days]
        miss = float(sum(abs(int(gaps[n]) - wanted) for n, wanted in zip(near, days, strict=True)))
        if len(set(near)) == len(days) and miss < best[0]:
            best = (miss, int(cloudy), tuple(int(later[n]) for n in near))
    return best[1], best[2]


@dataclass(frozen=True)
class Synthetic:
    """Every sample three times: as it is, and with Perlin or copied clouds over its clear image (Ebel 2020, III-D4).

    A model that was taught on one kind of clouds shows by variant what it loses on real ones. Perlin clouds hide as much as
    the real ones did.
    """

    source: Samples
    mask: str
    kinds: tuple[str, ...] = ("real", "perlin", "copied")

    def __len__(self) -> int:
        return len(self.source) * len(self.kinds)

    def __getitem__(self, index: int) -> Sample:
        """Sample i under its kind of clouds."""
        at, k = divmod(index, len(self.kinds))
        sample = with_cloud(self.source[at], self.mask)
        assert sample.cloud is not None
        date = sample.target_index or 0
        if self.kinds[k] == "perlin":
            cover = float((sample.cloud[date] >= HIDDEN_FROM).mean())
            sample = synthetic.perlin(sample, seed=key(SEED, sample.place.id), cover=cover)
        elif self.kinds[k] == "copied":
            sample = synthetic.copied(sample)
        return replace(sample, place=replace(sample.place, id=f"{sample.place.id}@{self.kinds[k]}"))

    def variant(self, index: int) -> str:
        """'real', 'perlin', 'copied'."""
        return self.kinds[index % len(self.kinds)]


@dataclass(frozen=True)
class Drawn:
    """As many patches of every fifth of cover, by a fixed seed; reads every sample once."""

    source: Samples
    mask: str
    each: int = EACH

    @cached_property
    def chosen(self) -> NDArray[np.intp]:
        """Positions in the source."""
        covers = []
        for k in range(len(self.source)):
            sample = with_cloud(self.source[k], self.mask)
            assert sample.cloud is not None
            covers.append(float((sample.cloud[sample.target_index or 0] >= HIDDEN_FROM).mean()))
        return DrawnByCover(np.array(covers), FIFTHS, self.each, SEED).chosen

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: int) -> Sample:
        """The i-th drawn sample."""
        return self.source[int(self.chosen[index])]


@dataclass(frozen=True)
class Stitched:
    """Scenes put together from the patches of a region: models see the patches, scores see the scenes (Meraner 2020, 4.4).

    Patches of one region and date that touch and begin in one square of SCENE_SIDE pixels make a scene; a patch alone is left
    out.
    """

    source: Samples
    mask: str

    @cached_property
    def scenes(self) -> list[list[int]]:
        """Positions of the patches of every scene; reads every sample once."""
        found: dict[tuple[object, ...], dict[int, Window]] = {}
        for k in range(len(self.source)):
            sample = self.source[k]
            lies = Window(*sample.place.origin, *sample.shape)
            square = (lies.row // SCENE_SIDE, lies.col // SCENE_SIDE)
            when = (tuple(sample.s2_dates.tolist()), sample.target_date)
            found.setdefault((roi_of(sample.place.id), square, when, sample.target_index), {})[k] = lies
        return [group for members in found.values() for group in touching(members) if len(group) > 1]

    def __len__(self) -> int:
        return len(self.scenes)

    def parts(self, index: int) -> list[Sample]:
        """The patches of scene i, which is what models are shown."""
        return [with_cloud(self.source[k], self.mask) for k in self.scenes[index]]

    def __getitem__(self, index: int) -> Sample:
        """Scene i as one sample, for its truth and its areas."""
        return whole(self.parts(index))


def touching(patches: Mapping[int, Window]) -> list[list[int]]:
    """The keys of patches that overlap or share an edge, directly or through others, together."""
    groups: list[list[int]] = []
    for key_of, lies in patches.items():
        near = [group for group in groups if any(_touch(lies, patches[other]) for other in group)]
        groups = [group for group in groups if group not in near] + [sorted([key_of, *(k for group in near for k in group)])]
    return sorted(groups)


def _touch(a: Window, b: Window) -> bool:
    """Overlapping, or beside each other along an edge."""
    rows = min(a.row + a.height, b.row + b.height) - max(a.row, b.row)
    cols = min(a.col + a.width, b.col + b.width) - max(a.col, b.col)
    return (rows > 0 and cols >= 0) or (rows >= 0 and cols > 0)


def whole(parts: Sequence[Sample]) -> Sample:
    """One sample from overlapping patches of the same dates; where no patch lies, nothing is valid. No grid, no radar."""
    first, origins = parts[0], [p.place.origin for p in parts]
    times = range(len(first.s2_dates))
    s2 = np.stack([stitch([np.where(p.s2_valid[t], p.s2[t], np.nan) for p in parts], origins) for t in times])
    cloud = np.concatenate([stitch([_cloud(p)[t : t + 1] for p in parts], origins) for t in times])
    target = stitch([_truth(p) for p in parts], origins)
    valid, known = np.asarray(np.isfinite(s2).all(1)), np.asarray(np.isfinite(target).all(0))
    corner = (min(r for r, _ in origins), min(c for _, c in origins))
    place = replace(first.place, id=f"{roi_of(first.place.id)}@scene{corner[0]}_{corner[1]}", grid=None, corner=corner)
    return replace(
        first, place=place, s2=np.nan_to_num(s2), s2_valid=valid, cloud=np.nan_to_num(cloud, nan=1.0), scl=None, given=None,
        s1=None, s1_valid=None, s1_dates=None, s1_orbits=None, target=np.nan_to_num(target), target_valid=known,
    )  # fmt: skip


def _cloud(part: Sample) -> NDArray[np.float32]:
    assert part.cloud is not None
    return part.cloud


def _truth(part: Sample) -> NDArray[np.float32]:
    if part.target is None:
        raise InputMissing("A sample without a target cannot be scored.", where=part.place.id)
    return part.target if part.target_valid is None else np.where(part.target_valid, part.target, np.float32(np.nan))


PROTOCOLS: dict[str, View] = {
    "shifted-radar": View(
        lambda samples, _: ShiftedRadar(samples), "radar moved by up to 2 pixels", "Xu et al. 2022, section 6", clouds=False),
    "synthetic": View(Synthetic, "real, Perlin and copied clouds over the same ground", "Ebel et al. 2020, Table IV"),
    "references": View(
        References, "a cloudy date against clear dates 13, 25 and 72 days later", "Xu et al. 2022, Table 4", series=True),
    "blended": View(
        Blended, "the clouds of the most cloudy date over the least cloudy one", "Ebel et al. 2022, IV-D", series=True),
    "transplanted": View(
        Transplanted, "clouds of other dates over clear ones, the other dates as they are", "this project", series=True),
    "drawn-by-cover": View(
        Drawn, f"{EACH} patches of every fifth of cover, by a fixed seed", "Xu et al. 2022, section 5.1", clouds=False),
    "stitched": View(Stitched, "large scenes put together from patches", "Meraner et al. 2020, section 4.4"),
}  # fmt: skip

NEEDED = {
    "shifted-radar": "samples with radar",
    "synthetic": "pairs of a cloudy and a clear image",
    "references": f"series with a cloudy date and {len(INTERVALS)} later clear ones",
    "blended": "series",
    "transplanted": "series with clear dates that are neither the first nor the last, and cloudy ones",
    "drawn-by-cover": "patches",
    "stitched": "two or more neighbouring patches of one region",
}
