"""The simulated place as a benchmark: triplets and series without any download, and the same written in the official layouts.

So that every training recipe, every check and every page of the documentation can run offline.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unclouded.bands import L1C
from unclouded.datasets.climates import CLIMATES
from unclouded.datasets.lattice import key
from unclouded.datasets.sen12mscr import KINDS, SEASONS, Kind, Patch
from unclouded.datasets.simulated import make_world, simulate
from unclouded.datasets.split import Roi
from unclouded.datasets.world import SimulatedSource
from unclouded.raster import create_raster
from unclouded.sample import Level, Sample, Window
from unclouded.units import to_counts

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox


@dataclass(frozen=True, kw_only=True)
class SimulatedTriplets:
    """Samples like those of SEN12MS-CR: one cloudy date, radar, and the clear ground of the same date as the target.

    `cover`: hidden shares are drawn evenly between these. Every number is another place, in one of the `climates` in turn.
    """

    count: int
    seed: int = 0
    size: int = 256
    level: Level = "L1C"
    bands: tuple[str, ...] = L1C
    climates: tuple[str, ...] = tuple(CLIMATES)
    cover: tuple[float, float] = (0.0, 1.0)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> Sample:
        """Triplet i. Raises IndexError past the end."""
        if not 0 <= i < self.count:
            raise IndexError(i)
        draw = np.random.default_rng(key(self.seed, "triplet", i))
        low, high = self.cover
        season = str(draw.choice(list(SEASONS.values())))
        place = simulate(
            seed=key(self.seed, "place", i), size=(self.size, self.size), dates=[season], level=self.level, bands=self.bands,
            climate=self.climates[i % len(self.climates)], cover=float(low + (high - low) * draw.random()), s1_every=12,
        )  # fmt: skip
        return one_radar(place.target(0))


@dataclass(frozen=True, kw_only=True)
class SimulatedSeries:
    """Samples like those of SEN12MS-CR-TS: `dates` dates over a year, cloudy as they come, with radar for each; no target."""

    count: int
    seed: int = 0
    size: int = 256
    dates: int = 30
    level: Level = "L1C"
    bands: tuple[str, ...] = L1C
    climates: tuple[str, ...] = tuple(CLIMATES)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> Sample:
        """Series i. Raises IndexError past the end."""
        if not 0 <= i < self.count:
            raise IndexError(i)
        return simulate(
            seed=key(self.seed, "series", i), size=(self.size, self.size), dates=self.dates, start="2018-01-06",
            step=max(1, 350 // self.dates), s1_every=max(1, 350 // self.dates), level=self.level, bands=self.bands,
            climate=self.climates[i % len(self.climates)],
        ).sample  # fmt: skip


def one_radar(sample: Sample) -> Sample:
    """Only the radar acquisition nearest to the target date."""
    if sample.s1 is None or sample.s1_dates is None or sample.s1_valid is None or sample.target_date is None:
        return sample
    k = int(np.abs((sample.s1_dates - sample.target_date).astype(int)).argmin())
    orbits = None if sample.s1_orbits is None else sample.s1_orbits[k : k + 1]
    one = slice(k, k + 1)
    return replace(sample, s1=sample.s1[one], s1_valid=sample.s1_valid[one], s1_dates=sample.s1_dates[one], s1_orbits=orbits)


def write_sen12mscr(
    root: Path, rois: Sequence[Roi], *, patches: int = 4, seed: int = 0, size: int = 256, stride: int | None = None
) -> list[Patch]:
    """Write regions of simulated triplets in the layout of SEN12MS-CR; each region is a landscape of its own, in a row.

    `stride`: pixels between patches (default `size`: no overlap). Raises OutputFailed.
    """
    step = size if stride is None else stride
    written = []
    for roi in rois:
        landscape = key(seed, *roi.ground)
        for number in range(1, patches + 1):
            patch = Patch(roi, number)
            row, col = _corner(roi)
            sample = _triplet(landscape, roi, (row, col + (number - 1) * step), size)
            write_triplet(root, patch, sample)
            written.append(patch)
    return written


def _corner(roi: Roi) -> tuple[int, int]:
    """Where a region lies: 10 km apart by number, 40 km by group, the same in every data set."""
    return 1000 * roi.number, 4000 * (int(roi.group[4:8]) % 5)


def _triplet(seed: int, roi: Roi, origin: tuple[int, int], size: int) -> Sample:
    climate = list(CLIMATES)[roi.number % len(CLIMATES)]
    cover = (seed + origin[1]) % 11 / 10
    place = simulate(
        seed=seed, size=(size, size), dates=[SEASONS.get(roi.group, "2018-07-01")], level="L1C", climate=climate, cover=cover,
        origin=origin, s1_every=12,
    )  # fmt: skip
    return one_radar(place.target(0))


def write_triplet(root: Path, patch: Patch, sample: Sample) -> None:
    """Write one sample (one date, 13 bands, radar, target) as the three files of a patch. Raises OutputFailed."""
    assert sample.target is not None and sample.s1 is not None
    images: dict[Kind, NDArray[Any]] = {
        "s1": sample.s1[0],
        "s2": to_counts(sample.target, dtype=np.uint16),
        "s2_cloudy": to_counts(sample.s2[0], dtype=np.uint16),
    }
    for kind in KINDS:
        write_image(root / patch.path(kind), images[kind], sample.place.grid)


def write_image(path: Path, image: NDArray[Any], grid: GeoBox | None) -> None:
    """One patch file (C, H, W). Raises OutputFailed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = image.shape
    with create_raster(path, height=height, width=width, count=count, dtype=image.dtype.name, grid=grid) as target:
        target.write(image)


def write_sen12mscrts(
    root: Path, rois: Sequence[Roi], *, patches: int = 1, dates: int = 5, seed: int = 0, size: int = 256
) -> None:
    """Write regions of simulated series in the layout of SEN12MS-CR-TS. Raises OutputFailed."""
    for roi in rois:
        climate = list(CLIMATES)[roi.number % len(CLIMATES)]
        for patch in range(patches):
            row, col = _corner(roi)
            world = make_world(
                seed=key(seed, *roi.ground), size=(size, size), dates=dates, start="2018-01-06", step=max(1, 350 // dates),
                s1_every=max(1, 350 // dates), level="L1C", climate=climate, origin=(row, col + patch * size),
            )  # fmt: skip
            source, whole = SimulatedSource(world), Window(0, 0, size, size)
            for t, day in enumerate(world.dates):
                name = f"{roi.group}_{roi.number}_ImgNo_{t}"
                at = root / roi.group / str(roi.number)
                s2 = source.counts(t, source.layers(t)[0], whole)
                write_image(at / "S2" / str(t) / f"s2_{name}_{day}_patch_{patch}.tif", s2, source.place.grid)
                radar_day = world.s1_dates[t]
                write_image(
                    at / "S1" / str(t) / f"s1_{name}_{radar_day}_patch_{patch}.tif", source.s1(t, whole)[0], source.place.grid
                )  # fmt: skip
