"""SEN12MS-CR (Ebel et al. 2020): triplets of Sentinel-1, a cloudy and a clear Sentinel-2 image, 256 x 256 pixels at 10 m.

The official layout, one folder per season and sensor: `ROIs1158_spring_s1/s1_106/ROIs1158_spring_s1_106_p30.tif`, and the same
with `_s2` (clear) and `_s2_cloudy`. Level-1C, 13 bands, DN / 10000 without offset; sigma0 in dB, VV and VH.
The files carry no dates; every image is of 2018 and gets the middle of its season.
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
from unclouded.datasets.patches import Pixels, check_same_ground, described, read_images, read_s1
from unclouded.datasets.split import Roi, Rule, Split, selected, table_of
from unclouded.errors import InputMissing, UsageError
from unclouded.sample import Level, Place, Sample

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

Kind = Literal["s1", "s2", "s2_cloudy"]
KINDS: tuple[Kind, ...] = ("s1", "s2", "s2_cloudy")
NAME = re.compile(r"(ROIs\d{4}_[a-z]+)_(s1|s2|s2_cloudy)_(\d+)_p(\d+)\.tif$")
SEASONS: dict[str, str] = {  # nominal days
    "ROIs1158_spring": "2018-04-15",
    "ROIs1868_summer": "2018-07-15",
    "ROIs1970_fall": "2018-10-15",
    "ROIs2017_winter": "2018-01-15",
}
PUBLISHED_PATCHES = 122_218  # Ebel et al. 2022, section I
PUBLISHED_TEST = {  # patches per test region, counted by their authors' release; Ebel et al. 2020 print 7,893 in all
    "ROIs1158_spring/31": 784, "ROIs1158_spring/44": 784, "ROIs1158_spring/106": 784, "ROIs1158_spring/123": 781,
    "ROIs1158_spring/140": 850, "ROIs1868_summer/73": 783, "ROIs1868_summer/119": 782, "ROIs1970_fall/139": 784,
    "ROIs2017_winter/63": 784, "ROIs2017_winter/108": 783,
}  # fmt: skip


class Patch(NamedTuple):
    """One triplet."""

    roi: Roi
    number: int

    def path(self, kind: Kind) -> str:
        """Relative to the root."""
        group, roi = self.roi
        return f"{group}_{kind}/{kind}_{roi}/{group}_{kind}_{roi}_p{self.number}.tif"

    def __str__(self) -> str:
        return f"{self.roi}/p{self.number}"


class SEN12MSCR:
    """The triplets of a root, in natural order, as samples with one date: cloudy `s2`, clear `target`, `s1`.

    `split`: train, val, test or None for all regions, by `splits`, else the root's own splits.csv, else the official table.
    `rule`: exact, or as published (leaks). `bands`: any of those `stored`, which are all 13 and of `level` L1C unless given or
    written in the root's dataset.json.
    `seasons`, `rois`: only these. `s1=False`: do not read radar. `measure` fills `cloud`; with `cover=(low, high)` only
    patches whose cloudy image has such a hidden share are kept (measured once, remembered in the index).
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
        seasons: Sequence[str] | None = None,
        rois: Sequence[str] | None = None,
        s1: bool = True,
        measure: Measure | None = None,
        cover: tuple[float, float] | None = None,
        cache: Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.root, self.with_s1, self.measure = Path(root), s1, measure
        self.stored, self.level = described(self.root, stored, level)
        self.bands = tuple(bands or self.stored)
        if cover is not None and measure is None:
            raise UsageError("A cover filter needs a `measure`: a detector that tells the cover.")
        self.index: Index = open_index(self.root, 2, cache=cache, progress=progress)
        wanted = (
            None if split is None else selected(table_of(self.root, "sen12mscr") if splits is None else splits, split, rule)
        )
        self.patches: tuple[Patch, ...] = tuple(
            p for p in found(self.index)
            if (wanted is None or p.roi in wanted)
            and (seasons is None or p.roi.group.split("_")[1] in seasons)
            and (rois is None or str(p.roi) in rois)
        )  # fmt: skip
        if cover is not None:
            self.patches = tuple(p for n, p in enumerate(self.patches) if cover[0] <= self.cover(n) <= cover[1])
        if not self.patches:
            raise InputMissing(
                f"No patch of SEN12MS-CR, split {split}, was found.", where=self.root,
                why="looked for ROIs<number>_<season>_s2_cloudy/s2_cloudy_<roi>/*.tif.",
                do="give the folder that holds the ROIs... folders, or another split, season or cover.",
            )  # fmt: skip

    def __len__(self) -> int:
        return len(self.patches)

    def __getitem__(self, i: int) -> Sample:
        """Triplet i. Raises InputMissing (a missing partner), InputCorrupt, InputsContradict (another grid)."""
        sample = self._read(self.patches[i])
        if self.measure is None:
            return sample
        return replace(sample, cloud=self.measure.cloud(sample))

    def origin(self) -> dict[str, Any]:
        """See Telling."""
        return {"data": "SEN12MS-CR", "root": str(self.root.resolve())}

    def told(self, i: int) -> dict[str, Any]:
        """See Telling: the files have no dates."""
        return {"id": str(self.patches[i])}

    def cover(self, i: int) -> float:
        """The hidden share of the cloudy image, by the data set's measure."""
        if self.measure is None:
            raise UsageError("A cover needs a `measure`: a detector that tells the cover.")
        patch = self.patches[i]
        return self.index.cover(str(patch), self.measure, lambda: self._read(patch), [patch.path("s2_cloudy")])[0]

    def _read(self, patch: Patch) -> Sample:
        pair = [self.root / patch.path("s2_cloudy"), self.root / patch.path("s2")]
        images, grid = read_images(str(patch), pair, self.stored, self.bands)
        radar = self._radar(patch, grid) if self.with_s1 else None
        day = np.array([SEASONS.get(patch.roi.group, "2018-07-01")], "datetime64[D]")
        return Sample(
            place=Place(id=str(patch), bands=self.bands, level=self.level, grid=grid),
            s2=images.values[:1], s2_valid=images.valid[:1], s2_dates=day,
            s1=None if radar is None else radar.values[None], s1_valid=None if radar is None else radar.valid[None],
            s1_dates=None if radar is None else day,
            target=images.values[1], target_valid=images.valid[1], target_date=day[0], target_index=0,
        )  # fmt: skip

    def _radar(self, patch: Patch, grid: GeoBox | None) -> Pixels:
        radar, radar_grid = read_s1(self.root / patch.path("s1"))
        check_same_ground(str(patch), (grid, radar_grid))
        return radar


def found(index: Index, kind: Kind = "s2_cloudy") -> list[Patch]:
    """The patches of a root that have a file of one kind, in natural order."""
    names = (NAME.search(f.path) for f in index.files(".tif"))
    return [Patch(Roi(m[1], int(m[3])), int(m[4])) for m in names if m is not None and m[2] == kind]


def covers(dataset: SEN12MSCR) -> NDArray[np.float32]:
    """The hidden share of every patch."""
    return np.array([dataset.cover(i) for i in range(len(dataset))], np.float32)
