"""A data root as options describe it: which reader, which split, which part of it, and a detector that tells covers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unclouded.errors import InputUnsupported, UsageError
from unclouded.options import choice

if TYPE_CHECKING:
    from unclouded.datasets.index import Measure
    from unclouded.datasets.sen12mscr import SEN12MSCR
    from unclouded.datasets.sen12mscrts import SEN12MSCRTS
    from unclouded.datasets.split import Roi, Split
    from unclouded.datasets.stats import Stats
    from unclouded.sample import Level

Heard = Callable[[int, int], None]  # done, of


@dataclass(frozen=True)
class Subset:
    """Which samples to take: these regions, this hidden share, every so manieth."""

    rois: tuple[str, ...] | None = None
    cover: tuple[float, float] | None = None
    every: int = 1

    @staticmethod
    def of(texts: Sequence[str]) -> Subset:
        """Read name=value parts. Raises UsageError."""
        from unclouded.datasets.split import parse_roi

        subset = Subset()
        for text in texts:
            name, _, value = text.partition("=")
            if name == "rois":
                subset = replace(subset, rois=tuple(str(parse_roi(roi)) for roi in value.split(",")))
            elif name == "cover":
                subset = replace(subset, cover=cover_range("--subset cover", value))
            elif name == "every" and value.isdigit() and int(value) > 0:
                subset = replace(subset, every=int(value))
            else:
                raise UsageError(f"--subset {text} is not known.", do="use rois=A,B or cover=LOW-HIGH or every=N.")
        return subset


@dataclass(frozen=True)
class Opening:
    """A data root as the options ask for it."""

    root: Path
    split: str
    rule: Any
    splits: Mapping[Roi, Split] | None
    s1: bool
    detector: str | None

    def kind(self) -> str:
        """sen12mscr, sen12mscrts or sen12."""
        from unclouded.datasets.check import dataset_of

        return dataset_of(self.root)

    def part(self) -> Any:
        """The split, None for all."""
        return None if self.split == "all" else choice("--split", self.split, ("train", "val", "test", "all"))

    def measure(self) -> Measure:
        """The detector, for the bands that are stored here."""
        from unclouded.datasets.patches import described

        return measure_of(self.detector, *described(self.root, None, None))

    def triplets(self, rois: Sequence[str] | None = None, *, measured: bool = False) -> SEN12MSCR:
        """The root as SEN12MS-CR, with a detector where covers are wanted."""
        from unclouded.datasets.sen12mscr import SEN12MSCR

        return SEN12MSCR(
            self.root, split=self.part(), rule=self.rule, splits=self.splits, rois=rois, s1=self.s1,
            measure=self.measure() if measured else None,
        )  # fmt: skip

    def series(self, rois: Sequence[str] | None = None, *, measured: bool = False) -> SEN12MSCRTS:
        """The same as SEN12MS-CR-TS: whole series."""
        from unclouded.datasets.sen12mscrts import SEN12MSCRTS

        return SEN12MSCRTS(
            self.root, split=self.part(), rule=self.rule, splits=self.splits, rois=rois, s1=self.s1,
            measure=self.measure() if measured else None,
        )  # fmt: skip

    def chosen(self, subset: Subset, dates: int | None, sampler: Any, heard: Heard | None) -> tuple[Any, list[int]]:
        """A source of samples, and which of them are in the subset."""
        kind = self.kind()
        if kind != "sen12mscrts" and dates is not None:
            raise UsageError(f"--dates goes with series; {self.root} holds {kind}.")
        if kind == "sen12":
            from unclouded.datasets.sen12 import SEN12

            if subset.cover is not None:
                raise UsageError("SEN1-2 is clear: it has no cover to choose by.")
            pairs = SEN12(self.root, split=self.part(), splits=self.splits, rois=subset.rois)
            return pairs, list(range(0, len(pairs), subset.every))
        if kind == "sen12mscr":
            triplets = self.triplets(subset.rois)
            low, high = subset.cover or (0.0, 1.0)
            covers = covers_of(self.triplets(subset.rois, measured=True), heard) if subset.cover else [0.0] * len(triplets)
            return triplets, [i for i, cover in enumerate(covers) if low <= cover <= high][:: subset.every]
        return self._drawn(subset, dates, sampler, heard)

    def _drawn(self, subset: Subset, dates: int | None, sampler: Any, heard: Heard | None) -> tuple[SEN12MSCRTS, list[int]]:
        from unclouded.datasets.sen12mscrts import SEN12MSCRTS

        whole = self.series(subset.rois, measured=dates is not None)
        items = list(range(0, len(whole), subset.every))
        if dates is None:
            if subset.cover is not None:
                raise UsageError("A cover limits the dates that are drawn from a series.", do="say how many: --dates 3.")
            return whole, items
        _enough_dates(whole, items, dates, target_too=sampler == "corrected")
        covers_of(whole, heard)
        return SEN12MSCRTS(
            self.root, split=self.part(), rule=self.rule, splits=self.splits, rois=subset.rois, s1=self.s1, dates=dates,
            sampler=sampler, cover=subset.cover or (0.0, 1.0), measure=whole.measure,
        ), items  # fmt: skip

    def stats(self, heard: Heard | None) -> list[Stats]:
        """The statistics of every split that has patches here; of the whole, where no table knows its regions."""
        from unclouded.datasets.split import SPLITS, table_of
        from unclouded.datasets.stats import of_series, of_triplets

        kind = self.kind()
        if kind == "sen12":
            raise InputUnsupported("SEN1-2 has neither clouds nor dates to measure.", where=self.root)
        rows = table_of(self.root, kind) if self.splits is None else self.splits
        if kind == "sen12mscr":
            triplets = self.triplets(measured=True)
            covers_of(triplets, heard)
            parts: list[str] = [s for s in SPLITS if any(rows.get(p.roi) == s for p in triplets.patches)]
            views = [replace(self, split=s).triplets(measured=True) for s in parts or ["all"]]
            return [of_triplets(v, f"{self.root.name} {s}") for v, s in zip(views, parts or ["all"], strict=True)]
        series = self.series(measured=True)
        covers_of(series, heard)
        parts = [s for s in SPLITS if any(rows.get(x.roi) == s for x in series.series)]
        runs = [replace(self, split=s).series(measured=True) for s in parts or ["all"]]
        return [of_series(v, f"{self.root.name} {s}") for v, s in zip(runs, parts or ["all"], strict=True)]


def _enough_dates(whole: SEN12MSCRTS, items: Sequence[int], dates: int, *, target_too: bool) -> None:
    """Raises UsageError where a series has fewer dates than are to be drawn, with a target that is none of them."""
    if dates < 1:
        raise UsageError(f"--dates {dates} draws nothing.", do="write --dates 1 or more.")
    series = min((whole.series[i] for i in items), key=lambda one: len(one.s2))
    most = len(series.s2) - target_too
    if dates > most:
        raise UsageError(
            f"--dates {dates} cannot be drawn: {series} has {len(series.s2)} dates.",
            why="the target is one of them and no input." if target_too else "",
            do=f"write --dates {most} or less, or leave the region out (--subset rois=...).",
        )  # fmt: skip


def measure_of(name: str | None, bands: Sequence[str], level: Level) -> Measure:
    """A detector of the table as a measure of cover: the one named, else the first of the automatic ones that fits.

    Raises UsageError for an unknown name, InputUnsupported where none fits.
    """
    import numpy as np

    from unclouded.datasets.index import Measure
    from unclouded.masks import MASKS
    from unclouded.masks.detect import AUTO
    from unclouded.sample import HIDING, Place

    place = Place(id="data set", bands=tuple(bands), level=level)
    chosen = name or next((one for one in AUTO if MASKS[one].fits(place)), None)
    if chosen is None:
        raise InputUnsupported("No cloud detector fits these bands.", why=f"{level} with {', '.join(bands)}.")
    detect = MASKS[choice("--detector", chosen, tuple(MASKS))].detect
    return Measure(chosen, lambda sample: HIDING[detect(sample).classes].astype(np.float32))


def covers_of(data: SEN12MSCR | SEN12MSCRTS, heard: Heard | None) -> list[float]:
    """The mean cover of every item, measured where the index does not know it yet."""
    from unclouded.datasets.sen12mscrts import SEN12MSCRTS

    found = []
    for i in range(len(data)):
        each = data.covers(i) if isinstance(data, SEN12MSCRTS) else [data.cover(i)]
        found.append(sum(each) / len(each))
        if heard is not None:
            heard(i + 1, len(data))
    return found


def cover_range(option: str, text: str) -> tuple[float, float]:
    """LOW-HIGH -> two shares in [0, 1]. Raises UsageError."""
    try:
        low, high = (float(part) for part in text.split("-"))
    except ValueError:
        low, high = 1.0, 0.0
    if not 0 <= low <= high <= 1:
        raise UsageError(f"{option} {text} is no range of cover.", do="write LOW-HIGH between 0 and 1, such as 0.2-0.6.")
    return low, high
