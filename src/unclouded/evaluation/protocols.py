"""Protocols beyond averages: samples changed in a named way before they are evaluated, and scenes put together from patches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from unclouded.errors import InputMissing, RecordError, UsageError
from unclouded.metrics.areas import bin_of
from unclouded.sample import HIDDEN_FROM, Sample

Image = NDArray[np.float32]


def shifted_radar(sample: Sample, rows: int, cols: int) -> Sample:
    """The sample with its radar moved by whole pixels; what is moved in from outside is invalid.

    Sentinel-1 and Sentinel-2 are registered within 2 pixels (Xu 2022, section 6): scores over shifts of -2 .. 2 tell how much
    a model depends on better. Raises InputMissing without radar.
    """
    if sample.s1 is None or sample.s1_valid is None:
        raise InputMissing("There is no radar to shift.", where=sample.place.id)
    height, width = sample.shape
    to_rows, from_rows = _moved(rows, height)
    to_cols, from_cols = _moved(cols, width)
    s1, valid = np.zeros_like(sample.s1), np.zeros_like(sample.s1_valid)
    s1[..., to_rows, to_cols] = sample.s1[..., from_rows, from_cols]
    valid[..., to_rows, to_cols] = sample.s1_valid[..., from_rows, from_cols]
    return replace(sample, s1=s1, s1_valid=valid)


def _moved(by: int, length: int) -> tuple[slice, slice]:
    """Where to write and where to read along one axis."""
    by = max(-length, min(length, by))
    return slice(max(by, 0), length + min(by, 0)), slice(max(-by, 0), length + min(-by, 0))


def transplanted(sample: Sample, clear: int, cloudy: int) -> Sample:
    """The clouds of one date laid over a clearer one, which becomes the target: hidden pixels whose truth is known.

    In the input the clear date's pixels are mixed with those of the cloudy date, weighted by that date's cloud, and it gets
    that cloud too. Truth is where the clear date was seen. Raises InputMissing without cloud masks, RecordError for one date.
    """
    if sample.cloud is None:
        raise InputMissing("Laying clouds over another date needs cloud masks.", where=sample.place.id)
    if clear == cloudy:
        raise RecordError(f"The clouds of a date of '{sample.place.id}' cannot be laid over itself.")
    s2, cloud, valid = sample.s2.copy(), sample.cloud.copy(), sample.s2_valid.copy()
    alpha = sample.cloud[cloudy]
    over = np.where(alpha > 0, sample.s2[cloudy], np.float32(0))  # whatever lies where that date was not measured
    s2[clear] = (1 - alpha) * sample.s2[clear] + alpha * over
    cloud[clear] = np.maximum(alpha, sample.cloud[clear])
    valid[clear] &= sample.s2_valid[cloudy] | (alpha == 0)
    seen = sample.s2_valid[clear] & (sample.cloud[clear] < HIDDEN_FROM)
    return replace(
        sample, s2=s2, cloud=cloud, s2_valid=valid, target=sample.s2[clear].copy(), target_valid=seen,
        target_date=sample.s2_dates[clear], target_index=clear,
    )  # fmt: skip


def blended(sample: Sample) -> Sample:
    """The sequence-to-sequence task of Ebel 2022 IV-D: the most cloudy date's clouds laid over the least cloudy date."""
    if sample.cloud is None:
        raise InputMissing("Blending needs cloud masks.", where=sample.place.id)
    hidden = (sample.cloud >= HIDDEN_FROM).mean((1, 2))
    if hidden.min() == hidden.max():
        raise RecordError(f"All {len(hidden)} dates of '{sample.place.id}' are equally cloudy: there is nothing to blend.")
    return transplanted(sample, int(hidden.argmin()), int(hidden.argmax()))


@dataclass(frozen=True)
class Transplants:
    """A data set of one series: every pair (clear date, cloudy date) is one image to rebuild, all other dates as they are."""

    series: Sample
    pairs: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        """The index-th pair, transplanted."""
        clear, cloudy = self.pairs[index]
        found = transplanted(self.series, clear, cloudy)
        dates = self.series.s2_dates
        return replace(found, place=replace(found.place, id=f"{found.place.id}@{dates[clear]}<{dates[cloudy]}"))


def clear_and_cloudy(sample: Sample, *, clearer: float = 0.05, count: int = 8) -> tuple[tuple[int, int], ...]:
    """Pairs for `Transplants`: clear dates (hidden at most `clearer`, never first or last), each with another cloudy date.

    The cloudy dates (5 % hidden or more) go round in the order of their cover, so that all covers occur.
    """
    if sample.cloud is None:
        raise InputMissing("Choosing dates needs cloud masks.", where=sample.place.id)
    hidden = (sample.cloud >= HIDDEN_FROM).mean((1, 2))
    clear = [k for k in range(1, len(hidden) - 1) if hidden[k] <= clearer]
    cloudy = sorted((k for k in range(len(hidden)) if hidden[k] > 0.05), key=lambda k: hidden[k])
    chosen = [clear[k] for k in np.unique(np.linspace(0, len(clear) - 1, min(count, len(clear))).astype(int))] if clear else []
    around = [cloudy[(n * len(cloudy)) // max(1, len(chosen))] for n in range(len(chosen))] if cloudy else []
    return tuple(zip(chosen, around, strict=False))


@dataclass(frozen=True)
class References:
    """One cloudy date against the clear image of another date, for every clear date: Xu 2022 Table 4 (13, 25 and 72 days).

    A data set: every sample shows the cloudy date alone (with all radar) and has one clear date as its target; results by
    interval are grouped by the days between them.
    """

    series: Sample
    cloudy: int
    clear: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.clear)

    def __getitem__(self, index: int) -> Sample:
        """The cloudy date, with the index-th clear date as the truth."""
        s, at = self.series, self.clear[index]
        only = slice(self.cloudy, self.cloudy + 1)
        seen = s.s2_valid[at] if s.cloud is None else s.s2_valid[at] & (s.cloud[at] < HIDDEN_FROM)
        return replace(
            s, place=replace(s.place, id=f"{s.place.id}@{s.s2_dates[at]}"), s2=s.s2[only], s2_valid=s.s2_valid[only],
            s2_dates=s.s2_dates[only], cloud=None if s.cloud is None else s.cloud[only],
            scl=None if s.scl is None else s.scl[only], given=None if s.given is None else s.given[only],
            target=s.s2[at], target_valid=seen, target_date=s.s2_dates[at], target_index=None,
        )  # fmt: skip


@dataclass(frozen=True)
class DrawnByCover:
    """As many patches of every bin of cover, drawn by a fixed seed: 800 of each fifth for Xu 2022, whose names are unpublished.

    `covers` (N,): the cover of every patch; a bin with too few gives all it has. `chosen` are positions, in their order.
    """

    covers: NDArray[np.floating]
    edges: tuple[float, ...]
    each: int = 800
    seed: int = 0

    @property
    def chosen(self) -> NDArray[np.intp]:
        """Positions of the drawn patches, ascending. The same seed draws the same."""
        bins = np.array([bin_of(float(c), self.edges) for c in self.covers])
        rng = np.random.default_rng(self.seed)
        drawn = [rng.permutation(np.flatnonzero(bins == b))[: self.each] for b in range(len(self.edges) - 1)]
        return np.sort(np.concatenate(drawn)) if drawn else np.empty(0, np.intp)


def stitch(patches: Sequence[Image], origins: Sequence[tuple[int, int]]) -> Image:
    """One scene (C, H, W) from overlapping patches (C, h, w) at their first rows and columns: Meraner 2020 section 4.4, Fig. 9.

    Overlaps are averaged over the patches that have a finite value; where no patch has one stands NaN. The scene starts at the
    smallest row and column. Raises UsageError for nothing to stitch or patches without a place each.
    """
    if not patches or len(patches) != len(origins):
        raise UsageError(f"stitch needs as many places as patches; got {len(origins)} and {len(patches)}.")
    rows, cols = (np.array([o[k] for o in origins]) for k in (0, 1))
    rows, cols = rows - rows.min(), cols - cols.min()
    height = max(int(r) + p.shape[1] for r, p in zip(rows, patches, strict=True))
    width = max(int(c) + p.shape[2] for c, p in zip(cols, patches, strict=True))
    total = np.zeros((patches[0].shape[0], height, width), np.float32)
    count = np.zeros((height, width), np.float32)
    for row, col, patch in zip(rows, cols, patches, strict=True):
        at = (slice(row, row + patch.shape[1]), slice(col, col + patch.shape[2]))
        seen = np.isfinite(patch).all(0)
        total[(slice(None), *at)] += np.where(seen, patch, 0)
        count[at] += seen
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)
