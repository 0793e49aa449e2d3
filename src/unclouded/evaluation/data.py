"""A folder, or the simulated place, as a data set to evaluate on: the layout is recognised, the split is exact by default."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unclouded.bands import L1C
from unclouded.datasets.index import Measure
from unclouded.datasets.patches import described as stored_as
from unclouded.datasets.sen12mscr import SEN12MSCR
from unclouded.datasets.sen12mscrts import SEN12MSCRTS, Sampler
from unclouded.datasets.simulated import simulate
from unclouded.datasets.split import Rule, Split
from unclouded.errors import InputMissing, UsageError
from unclouded.evaluation.scoring import automatic, classify, known_mask
from unclouded.evaluation.views import protocol as view_of
from unclouded.sample import HIDING, Place, Sample, Window

SIMULATED = "simulated"
PLACES = 4  # simulated ones
SIMULATED_START = "2024-04-01"
SERIES_DAYS, SERIES_COVERS = (0, 13, 25, 40, 72), (0.6, 0.0, 0.0, 0.4, 0.0)  # of a simulated series


@dataclass(frozen=True)
class Opened:
    """A data set, and what only its opening knows of it: see `described`."""

    source: SEN12MSCR | SEN12MSCRTS | list[Sample]
    told: dict[str, Any]

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Sample:
        """Sample i, as the data set raises."""
        return self.source[index]


def open_data(
    root: str | Path,
    *,
    split: Split | None = "test",
    rule: Rule = "exact",
    dates: int = 3,
    sampler: Sampler = "corrected",
    mask: str | None = None,
    s1: bool | None = None,
    cover: tuple[float, float] = (0.0, 1.0),
    protocol: str = "",
) -> Opened:
    """The data set in a folder: SEN12MS-CR by its `*_s2_cloudy` folders, else SEN12MS-CR-TS; 'simulated' makes four places.

    `dates`: inputs per series, drawn by the `sampler` with covers by `mask` (None: `automatic`) in the range `cover`; 0, and
    under a protocol for series: whole series. `s1` None: radar where the folder has any.
    Raises UsageError for an unknown detector or less than no dates, InputMissing where neither layout is found.
    """
    if mask is not None:
        known_mask(mask)
    if dates < 0:
        raise UsageError(f"A series cannot have {dates} inputs.", do="say how many (--dates 3), or 0 for whole series.")
    series = bool(protocol) and view_of(protocol).series
    if str(root) == SIMULATED:
        places = simulated_places(dates=dates, protocol=protocol, cover=cover)
        return Opened(places, {"kind": SIMULATED, "root": SIMULATED, "dates": len(places[0].s2_dates), "cover": list(cover)})
    folder = Path(root)
    if not folder.is_dir():
        raise InputMissing("There is no data set here.", where=folder, do="give the folder that holds the ROIs... folders.")
    told = {"split": split or "all", "rule": None if split is None else rule}
    if any(folder.glob("ROIs*_s2_cloudy")):
        radar = any(folder.glob("ROIs*_s1")) if s1 is None else s1
        return Opened(SEN12MSCR(folder, split=split, rule=rule, s1=radar), told)
    radar = any(folder.glob("ROIs*/*/S1")) if s1 is None else s1
    bands, level = stored_as(folder, None, None)
    name = automatic(Place(id=str(folder), bands=bands, level=level)) if mask in (None, "auto") else mask
    measure = Measure(name, partial(cloud_of, mask=name))
    drawn = None if series or not dates else dates
    found = SEN12MSCRTS(
        folder, split=split, rule=rule, s1=radar, dates=drawn, sampler=sampler, cover=cover, measure=measure
    )  # fmt: skip
    return Opened(found, told)


def cloud_of(sample: Sample, mask: str) -> NDArray[np.float32]:
    """(T, H, W) 1 where a detector finds the ground hidden."""
    return HIDING[classify(replace(sample, cloud=None), mask)[1]].astype(np.float32)


def simulated_places(
    *, dates: int = 3, protocol: str = "", cover: tuple[float, float] = (0.0, 1.0), count: int = PLACES, side: int = 64
) -> list[Sample]:
    """What stands for a data set where there is none: samples of simulated places that fit a protocol.

    Under a protocol for series, dates that any of them can use; for stitching, overlapping patches of every place.
    """
    if protocol and view_of(protocol).series:
        return [simulated(seed, days=SERIES_DAYS, covers=SERIES_COVERS, side=side) for seed in range(count)]
    covers = [0.6, 0.3, 0.1, 0.0, *[0.4] * dates][:dates] if cover == (0.0, 1.0) else [sum(cover) / 2] * dates
    if protocol != "stitched":
        return [simulated(seed, days=tuple(5 * t for t in range(dates)), covers=covers, side=side) for seed in range(count)]
    step, found = side // 2, []
    for seed in range(count):
        place = simulated(seed, days=tuple(5 * t for t in range(dates)), covers=covers, side=side + step)
        for k, (row, col) in enumerate([(0, 0), (0, step), (step, 0), (step, step)]):
            patch = place.crop(Window(row, col, side, side))
            found.append(replace(patch, place=replace(patch.place, id=f"{place.place.id}_p{k}")))
    return found


def simulated(seed: int, *, days: Sequence[int], covers: Sequence[float], side: int) -> Sample:
    """A patch of the simulated place, imaged on some days; the first date is to be restored and its truth is known."""
    first = np.datetime64(SIMULATED_START, "D")
    place = simulate(
        seed=seed, size=(side, side), dates=[first + n for n in days], level="L1C", bands=L1C, cover=list(covers)
    )  # fmt: skip
    sample = place.target(0)
    return replace(sample, place=replace(sample.place, id=f"{SIMULATED}-{seed}"))
