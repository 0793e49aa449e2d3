"""Patches from one's own scenes, made the way the papers made theirs, in the official layouts: to train a regional model.

A scene is cut into regions, each of which belongs to one split, and regions into patches (256 pixels; stride 128 or none). Per
patch and season the least cloudy image is the target and a cloudy one the input (Ebel et al. 2020, section II); or all dates
become a series (Ebel et al. 2022). Patches that are not wholly measured, or dead in a band, are left out and counted.
`splits.csv` beside them says which region belongs where, `dataset.json` which bands they have: the readers look there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from unclouded.datasets.index import Measure, Progress
from unclouded.datasets.lattice import key
from unclouded.datasets.offline import write_image, write_triplet
from unclouded.datasets.patches import describe
from unclouded.datasets.sen12mscr import Patch
from unclouded.datasets.split import SPLITS, Roi, Split
from unclouded.errors import InputMissing, InputsContradict, OutputFailed, UsageError
from unclouded.sample import HIDDEN_FROM, Place, Sample, Window
from unclouded.units import to_counts


class Readable(Protocol):
    """A scene: something that reads windows of all its dates."""

    @property
    def place(self) -> Place:
        """Where and how."""
        ...

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        ...

    def read(self, window: Window) -> Sample:
        """All dates of a window."""
        ...


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to cut and choose. Covers are hidden shares; `shares` of regions go to train, val and test."""

    size: int = 256
    stride: int = 256
    region: int = 2560  # side of a region in pixels
    cloudy: tuple[float, float] = (0.2, 0.9)
    clear: float = 0.05
    radar_days: int = 6
    shares: tuple[float, float, float] = (0.8, 0.1, 0.1)
    group: str = "ROIs9000"
    seed: int = 0


@dataclass
class Built:
    """What was written, and what was left out and why."""

    patches: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    splits: dict[Roi, Split] = field(default_factory=dict)


def build_triplets(
    scenes: Sequence[Readable],
    root: Path,
    recipe: Recipe = Recipe(),
    *,
    measure: Measure | None = None,
    progress: Progress | None = None,
) -> Built:
    """Write triplets in the layout of SEN12MS-CR, as uint16 counts without offset.

    Clouds are those of the scenes' masks, or of `measure`. Raises UsageError without either, InputMissing where no patch
    comes about, InputsContradict for scenes of different bands, OutputFailed also where the folder already holds patches.
    """
    built = Built()
    for number, scene, windows in _planned(scenes, root, recipe, progress):
        made: Counter[str] = Counter()
        for window in windows:
            sample = _seen(scene.read(window), measure)
            for season in sorted({_season(d) for d in sample.s2_dates}):
                triplet, trouble = _triplet(sample, season, recipe)
                if triplet is None:
                    built.left_out[trouble] += 1
                    continue
                made[season] += 1
                patch = Patch(Roi(f"{recipe.group}_{season}", number), made[season])
                write_triplet(root, patch, triplet)
                built.patches.append(str(patch))
    return _finished(built, root, recipe, scenes[0].place)


def build_series(
    scenes: Sequence[Readable], root: Path, recipe: Recipe = Recipe(), *, progress: Progress | None = None
) -> Built:
    """Write series in the layout of SEN12MS-CR-TS: all dates that are wholly measured, each with its nearest radar image.

    Raises InputMissing where no patch comes about, InputsContradict for scenes of different bands, OutputFailed also where the
    folder already holds patches.
    """
    built = Built()
    for number, scene, windows in _planned(scenes, root, recipe, progress):
        roi = Roi(recipe.group, number)
        for patch, window in enumerate(windows):
            sample = scene.read(window)
            good = [t for t in range(len(sample.s2_dates)) if _trouble(sample.s2[t], sample.s2_valid[t]) == ""]
            radar = [_radar(sample, sample.s2_dates[t], recipe) for t in good]
            chosen = [(t, k) for t, k in zip(good, radar, strict=True) if k is not None]
            built.left_out["date not measured, dead, or without radar"] += len(sample.s2_dates) - len(chosen)
            if len(chosen) < 2:
                built.left_out["fewer than two dates"] += 1
                continue
            _write_series(root, roi, patch, sample, chosen)
            built.patches.append(f"{roi}/patch_{patch}")
    return _finished(built, root, recipe, scenes[0].place)


def _planned(
    scenes: Sequence[Readable], root: Path, recipe: Recipe, progress: Progress | None
) -> Iterator[tuple[int, Readable, list[Window]]]:
    """The regions of all scenes, numbered through from 1."""
    kinds = {(scene.place.bands, scene.place.level) for scene in scenes}
    if len(kinds) != 1:
        raise InputsContradict(
            f"{len(scenes)} scenes have {len(kinds)} sets of bands.",
            why="; ".join(f"{level} {', '.join(bands)}" for bands, level in kinds),
            do="build from scenes of the same bands and level.",
        )  # fmt: skip
    if any(root.glob("ROIs*")):
        raise OutputFailed("The folder already holds patches.", where=root, do="choose another folder, or remove this one.")
    plan = [(scene, windows) for scene in scenes for windows in _regions(scene.shape, recipe)]
    for number, (scene, windows) in enumerate(plan, start=1):
        yield number, scene, windows
        if progress is not None:
            progress(number, len(plan))


def _regions(shape: tuple[int, int], recipe: Recipe) -> Iterator[list[Window]]:
    """The windows of every region that holds at least one. No window crosses a border between regions."""
    if recipe.size > recipe.region or min(recipe.size, recipe.stride) < 1 or recipe.size > min(shape):
        raise UsageError(
            f"Patches of {recipe.size} pixels do not fit into regions of {recipe.region} and a scene of {shape}.",
            do="choose smaller patches or larger regions.",
        )  # fmt: skip
    for top in range(0, shape[0], recipe.region):
        for left in range(0, shape[1], recipe.region):
            bottom, right = min(top + recipe.region, shape[0]), min(left + recipe.region, shape[1])
            windows = [
                Window(row, col, recipe.size, recipe.size)
                for row in range(top, bottom - recipe.size + 1, recipe.stride)
                for col in range(left, right - recipe.size + 1, recipe.stride)
            ]
            if windows:
                yield windows


def _seen(sample: Sample, measure: Measure | None) -> Sample:
    if measure is not None:
        return replace(sample, cloud=measure.cloud(sample))
    if sample.cloud is None:
        raise UsageError("The scene has no cloud masks.", do="detect clouds first, or give a `measure`.")
    return sample


def _season(day: np.datetime64) -> str:
    month = int(day.astype("datetime64[M]").astype(int)) % 12 + 1
    return ("winter", "spring", "summer", "fall")[month % 12 // 3]


def _trouble(image: NDArray[np.float32], valid: NDArray[np.bool_]) -> str:
    """Why an image cannot be used, or nothing."""
    if not valid.all():
        return "not wholly measured"
    flat = image.reshape(len(image), -1)
    return "dead band" if (flat.max(1) == flat.min(1)).any() else ""


def _triplet(sample: Sample, season: str, recipe: Recipe) -> tuple[Sample | None, str]:
    """One date with its target and its radar, or why there is none."""
    assert sample.cloud is not None
    cover = (sample.cloud >= HIDDEN_FROM).mean((1, 2))
    of = [t for t, d in enumerate(sample.s2_dates) if _season(d) == season]
    good = [t for t in of if not _trouble(sample.s2[t], sample.s2_valid[t])]
    if not good:
        return None, "not wholly measured" if any(not sample.s2_valid[t].all() for t in of) else "dead band"
    target = min(good, key=lambda t: (cover[t], t))
    if cover[target] > recipe.clear:
        return None, "no clear image in the season"
    inputs = [t for t in good if t != target and recipe.cloudy[0] <= cover[t] <= recipe.cloudy[1]]
    if not inputs:
        return None, "no cloudy image in the season"
    t = inputs[key(recipe.seed, sample.place.id, *sample.place.origin, season) % len(inputs)]
    k = _radar(sample, sample.s2_dates[t], recipe)
    if k is None or sample.s1 is None or sample.s1_valid is None or sample.s1_dates is None:
        return None, "no radar near in time"
    return Sample(
        place=sample.place, s2=sample.s2[t : t + 1], s2_valid=sample.s2_valid[t : t + 1], s2_dates=sample.s2_dates[t : t + 1],
        s1=sample.s1[k : k + 1], s1_valid=sample.s1_valid[k : k + 1], s1_dates=sample.s1_dates[k : k + 1],
        cloud=sample.cloud[t : t + 1], target=sample.s2[target], target_valid=sample.s2_valid[target],
        target_date=sample.s2_dates[t], target_index=0,
    ), ""  # fmt: skip


def _radar(sample: Sample, day: np.datetime64, recipe: Recipe) -> int | None:
    """The wholly measured acquisition nearest to a day, if it is near enough."""
    if sample.s1 is None or sample.s1_dates is None or sample.s1_valid is None:
        return None
    gaps = np.abs((sample.s1_dates - day).astype(int))
    near = [k for k in np.argsort(gaps, kind="stable") if gaps[k] <= recipe.radar_days and sample.s1_valid[k].all()]
    return int(near[0]) if near else None


def _write_series(root: Path, roi: Roi, patch: int, sample: Sample, chosen: Sequence[tuple[int, int]]) -> None:
    assert sample.s1 is not None and sample.s1_dates is not None
    at, name = root / roi.group / str(roi.number), f"{roi.group}_{roi.number}_ImgNo"
    for time, (t, k) in enumerate(chosen):
        s2 = to_counts(sample.s2[t], dtype=np.uint16)
        write_image(at / "S2" / str(time) / f"s2_{name}_{time}_{sample.s2_dates[t]}_patch_{patch}.tif", s2, sample.place.grid)
        s1 = at / "S1" / str(time) / f"s1_{name}_{time}_{sample.s1_dates[k]}_patch_{patch}.tif"
        write_image(s1, sample.s1[k], sample.place.grid)


def _roi_of(patch: str) -> Roi:
    group, number, _ = patch.split("/")
    return Roi(group, int(number))


def _finished(built: Built, root: Path, recipe: Recipe, place: Place) -> Built:
    """Deal regions to splits, the same ground always to the same one, and write splits.csv and dataset.json."""
    rois = {_roi_of(p) for p in built.patches}
    if not rois:
        why = ", ".join(f"{reason}: {count}" for reason, count in built.left_out.most_common()) or "nothing was tried"
        raise InputMissing("No patch could be built.", where=root, why=why + ".", do="loosen the recipe, or add dates.")
    grounds = sorted({roi.ground for roi in rois}, key=lambda g: (key(recipe.seed, "deal", g[1]), g))
    ends = np.rint(np.cumsum(recipe.shares) / sum(recipe.shares) * len(grounds)).astype(int)
    dealt = {ground: SPLITS[int(np.searchsorted(ends, n, side="right"))] for n, ground in enumerate(grounds)}
    built.splits = {roi: dealt[roi.ground] for roi in sorted(rois)}
    rows = ["roi,split,source", *(f"{roi},{split},built" for roi, split in built.splits.items())]
    (root / "splits.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    describe(root, place.bands, place.level)
    return built
