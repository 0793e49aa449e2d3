"""A folder, or the simulated place, as a data set to evaluate on: the layout is recognised, the split is exact by default."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unclouded.bands import L1C
from unclouded.datasets.index import Measure
from unclouded.datasets.sen12mscr import SEN12MSCR
from unclouded.datasets.sen12mscrts import SEN12MSCRTS, Sampler
from unclouded.datasets.simulated import simulate
from unclouded.datasets.split import Rule, Split
from unclouded.errors import InputMissing
from unclouded.evaluation.scoring import classify
from unclouded.sample import HIDING, Sample

SIMULATED = "simulated"
DETECTOR = "meraner2020"


def open_data(
    root: str | Path,
    *,
    split: Split | None = "test",
    rule: Rule = "exact",
    dates: int = 3,
    sampler: Sampler = "corrected",
    mask: str | None = None,
    s1: bool | None = None,
) -> SEN12MSCR | SEN12MSCRTS | list[Sample]:
    """The data set in a folder: SEN12MS-CR by its `*_s2_cloudy` folders, else SEN12MS-CR-TS; 'simulated' makes four places.

    `dates`: inputs per series, drawn by the `sampler` with covers by `mask`. `s1` None: radar where the folder has any.
    Raises InputMissing where neither layout is found.
    """
    if str(root) == SIMULATED:
        return [simulated(seed, dates=dates) for seed in range(4)]
    folder = Path(root)
    if not folder.is_dir():
        raise InputMissing("There is no data set here.", where=folder, do="give the folder that holds the ROIs... folders.")
    if any(folder.glob("ROIs*_s2_cloudy")):
        radar = any(folder.glob("ROIs*_s1")) if s1 is None else s1
        return SEN12MSCR(folder, split=split, rule=rule, s1=radar)
    radar = any(folder.glob("ROIs*/*/S1")) if s1 is None else s1
    name = mask or DETECTOR
    measure = Measure(name, partial(cloud_of, mask=name))
    return SEN12MSCRTS(folder, split=split, rule=rule, s1=radar, dates=dates or None, sampler=sampler, measure=measure)


def cloud_of(sample: Sample, mask: str) -> NDArray[np.float32]:
    """(T, H, W) 1 where a detector finds the ground hidden."""
    return HIDING[classify(replace(sample, cloud=None), mask)[1]].astype(np.float32)


def simulated(seed: int, *, dates: int = 3, side: int = 64) -> Sample:
    """A patch of the simulated place: the first date, mostly hidden, is to be restored and its truth is known."""
    covers = [0.6, 0.3, 0.1, 0.0, *[0.4] * dates][:dates]
    place = simulate(seed=seed, size=(side, side), dates=dates, level="L1C", bands=L1C, cover=covers)
    sample = place.target(0)
    return replace(sample, place=replace(sample.place, id=f"{SIMULATED}-{seed}"))
