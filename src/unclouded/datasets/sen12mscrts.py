"""SEN12MS-CR-TS (Ebel et al. 2022): 30 dates of Sentinel-1 and Sentinel-2 of 2018 over 53 regions, 256 x 256 pixels at 10 m.

The official layout: `ROIs2017/146/S2/<time index>/s2_ROIs2017_146_ImgNo_<time index>_<date>_patch_<n>.tif`, and the same with
S1. Level-1C, 13 bands, DN / 10000 without offset; sigma0 in dB, VV and VH.

Two samplers draw T input dates for sequence-to-point training, whose target is the least cloudy date:
`corrected` never puts the target among the inputs; `as_published` takes the first T dates whose cover fits, target or not, so
that copying an input can score perfectly. Reports must name the sampler.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unclouded.datasets.index import Index, Measure, Progress, open_index
from unclouded.datasets.lattice import key
from unclouded.datasets.patches import Pixels, check_same_ground, described, read_images, read_s1, read_s2
from unclouded.datasets.split import Roi, Rule, Split, selected, table_of
from unclouded.errors import InputMissing, UsageError
from unclouded.sample import Level, Place, Sample, as_day

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

Sampler = Literal["corrected", "as_published"]
NAME = re.compile(r"/(S[12])/\d+/s[12]_(ROIs\d{4})_(\d+)_ImgNo_(\d+)_(\d{4}-\d{2}-\d{2})_patch_(\d+)\.tif$")


class Shot(NamedTuple):
    """One image of a series: the time index of its folder, its day, and its path relative to the root."""

    time: int
    day: np.datetime64
    path: str


class Series(NamedTuple):
    """One patch over time."""

    roi: Roi
    patch: int
    s2: tuple[Shot, ...]  # by day
    s1: tuple[Shot, ...]

    def __str__(self) -> str:
        return f"{self.roi}/patch_{self.patch}"


class SEN12MSCRTS:
    """The series of a root as samples.

    `dates=None`: whole series, no target. `dates=T`: T input dates by the `sampler`, out of those whose cover lies in `cover`,
    and the least cloudy date as the target; this needs a `measure`, a detector that tells covers (measured once, remembered in
    the index). Where fewer than T dates fit, the ones nearest to the range fill up. `seed=None` takes the first that fit;
    a number draws them by chance (`corrected` only), another set for every epoch of `at_epoch`.
    `split`, `rule`, `splits`, `stored`, `level`, `bands`, `rois`, `s1`: as in SEN12MSCR.
    Raises InputMissing where nothing is found.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        split: Split | None = "train",
        rule: Rule = "exact",
        splits: Mapping[Roi, Split] | None = None,
        stored: Sequence[str] | None = None,
        level: Level | None = None,
        bands: Sequence[str] | None = None,
        rois: Sequence[str] | None = None,
        s1: bool = True,
        dates: int | None = None,
        sampler: Sampler = "corrected",
        cover: tuple[float, float] = (0.0, 1.0),
        measure: Measure | None = None,
        seed: int | None = None,
        cache: Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        if dates is not None and measure is None:
            raise UsageError("Drawing dates needs a `measure`: a detector that tells which date is the least cloudy.")
        if seed is not None and sampler == "as_published":
            raise UsageError("The published sampler is fixed: it takes no seed.", do="use sampler='corrected'.")
        self.root, self.with_s1, self.dates = Path(root), s1, dates
        self.stored, self.level = described(self.root, stored, level)
        self.bands = tuple(bands or self.stored)
        self.sampler, self.limits, self.measure, self.seed, self.epoch = sampler, cover, measure, seed, 0
        self.index: Index = open_index(self.root, 4, cache=cache, progress=progress)
        wanted = (
            None if split is None else selected(table_of(self.root, "sen12mscrts") if splits is None else splits, split, rule)
        )
        self.series: tuple[Series, ...] = tuple(
            s for s in found(self.index) if (wanted is None or s.roi in wanted) and (rois is None or str(s.roi) in rois)
        )  # fmt: skip
        if not self.series:
            raise InputMissing(
                f"No series of SEN12MS-CR-TS, split {split}, was found.", where=self.root,
                why="looked for ROIs<number>/<roi>/S2/<time index>/s2_*_patch_<n>.tif.",
                do="give the folder that holds the ROIs... folders, or another split.",
            )  # fmt: skip

    def __len__(self) -> int:
        return len(self.series)

    def __getitem__(self, i: int) -> Sample:
        """Series i. Raises InputMissing (a missing partner), InputCorrupt, InputsContradict (another grid)."""
        series = self.series[i]
        if self.dates is None:
            return self._seen(self._read(series, range(len(series.s2))))
        inputs, target = self.drawn(i)
        sample = self._seen(self._read(series, inputs))
        truth, grid = read_s2(self.root / series.s2[target].path, self.stored, self.bands)
        check_same_ground(str(series), (sample.place.grid, grid))
        return replace(
            sample, target=truth.values, target_valid=truth.valid, target_date=series.s2[target].day,
            target_index=list(inputs).index(target) if target in inputs else None,
        )  # fmt: skip

    def origin(self) -> dict[str, Any]:
        """See Telling."""
        found: dict[str, Any] = {"data": "SEN12MS-CR-TS", "root": str(self.root.resolve())}
        if self.dates is None:
            return found
        assert self.measure is not None
        drawn = {"sampler": self.sampler, "cover": list(self.limits), "detector": self.measure.name}
        return found | drawn | {"seed": self.seed, "epoch": self.epoch}

    def told(self, i: int) -> dict[str, Any]:
        """See Telling. Drawn dates are those of this epoch."""
        series = self.series[i]
        inputs, target = (range(len(series.s2)), None) if self.dates is None else self.drawn(i)
        truth = None if target is None else str(series.s2[target].day)
        return {"id": str(series), "dates": [str(series.s2[t].day) for t in inputs], "target": truth}

    def at_epoch(self, epoch: int) -> None:
        """From now on, seeded draws are those of this epoch."""
        self.epoch = epoch

    def covers(self, i: int) -> list[float]:
        """The hidden share of every date of series i."""
        if self.measure is None:
            raise UsageError("Covers need a `measure`: a detector that tells the cover.")
        series = self.series[i]
        whole = range(len(series.s2))
        images = [shot.path for shot in series.s2]
        return self.index.cover(str(series), self.measure, lambda: self._read(series, whole, with_s1=False), images)

    def drawn(self, i: int) -> tuple[tuple[int, ...], int]:
        """Which dates of series i are inputs, and which is the target (positions by day)."""
        covers = np.array(self.covers(i))
        count = min(self.dates or 0, len(covers) - (self.sampler == "corrected"))
        if count < 1:
            raise InputMissing(f"{self.series[i]} has only {len(covers)} dates: too few for inputs and a target.")
        target = int(covers.argmin())
        seed = None if self.seed is None else key(self.seed, self.epoch, str(self.series[i]))
        return choose(covers, count, target, self.limits, self.sampler, seed), target

    def _seen(self, sample: Sample) -> Sample:
        return sample if self.measure is None else replace(sample, cloud=self.measure.cloud(sample))

    def _read(self, series: Series, chosen: Sequence[int], *, with_s1: bool = True) -> Sample:
        paths = [self.root / series.s2[t].path for t in chosen]
        images, grid = read_images(str(series), paths, self.stored, self.bands)
        days = np.array([series.s2[t].day for t in chosen])
        shots = nearest(series.s1, days) if self.with_s1 and with_s1 else []
        if self.with_s1 and with_s1 and not shots:
            partner = series.s2[0].path.replace("/S2/", "/S1/").replace("/s2_", "/s1_")
            raise InputMissing(
                f"{series} has no Sentinel-1 images.", where=self.root / partner,
                do="download the radar data, or read without it (s1=False).",
            )  # fmt: skip
        radar = [self._radar(series, shot, grid) for shot in shots]
        return Sample(
            place=Place(id=str(series), bands=self.bands, level=self.level, grid=grid),
            s2=images.values, s2_valid=images.valid, s2_dates=days,
            s1=np.stack([p.values for p in radar]) if radar else None,
            s1_valid=np.stack([p.valid for p in radar]) if radar else None,
            s1_dates=np.array([s.day for s in shots]) if radar else None,
        )  # fmt: skip

    def _radar(self, series: Series, shot: Shot, grid: GeoBox | None) -> Pixels:
        radar, own = read_s1(self.root / shot.path)
        check_same_ground(str(series), (grid, own))
        return radar


def choose(
    covers: NDArray[np.float64], count: int, target: int, limits: tuple[float, float], sampler: Sampler, seed: int | None = None
) -> tuple[int, ...]:
    """The input dates, ascending: the first `count` whose cover lies within `limits`, or a draw of them by `seed`.

    `corrected` leaves the target out. Dates whose cover misses the limits least fill up where too few fit.
    """
    open_to = [t for t in range(len(covers)) if sampler == "as_published" or t != target]
    miss = np.maximum(np.maximum(limits[0] - covers, covers - limits[1]), 0)
    fitting = [t for t in open_to if miss[t] == 0]
    if len(fitting) < count:
        others = sorted((t for t in open_to if miss[t] > 0), key=lambda t: (miss[t], t))
        return tuple(sorted(fitting + others[: count - len(fitting)]))
    if seed is None:
        return tuple(fitting[:count])
    return tuple(sorted(int(t) for t in np.random.default_rng(seed).choice(fitting, count, replace=False)))


def nearest(shots: Sequence[Shot], days: NDArray[np.datetime64]) -> list[Shot]:
    """The radar shots nearest in time to each day, each once, by day."""
    near = {min(shots, key=lambda s: (abs(int((s.day - d).astype(int))), s.time)) for d in days} if shots else set()
    return sorted(near, key=lambda s: (s.day, s.time))


def found(index: Index) -> list[Series]:
    """The series of a root, in natural order. Two images of one day: the first time index counts."""
    shots: dict[tuple[Roi, int], dict[str, dict[np.datetime64, Shot]]] = {}
    for file in index.files(".tif"):
        m = NAME.search("/" + file.path)
        if m is not None:
            sensor, group, roi, time, day, patch = m.groups()
            dates = shots.setdefault((Roi(group, int(roi)), int(patch)), {}).setdefault(sensor, {})
            dates.setdefault(as_day(day), Shot(int(time), as_day(day), file.path))
    return [
        Series(roi, patch, *(tuple(sorted(by.get(s, {}).values(), key=lambda x: x.day)) for s in ("S2", "S1")))
        for (roi, patch), by in sorted(shots.items(), key=lambda item: item[0])
        if by.get("S2")
    ]
