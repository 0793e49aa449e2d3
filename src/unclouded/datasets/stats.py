"""What a data set is like: cloud cover per split, and days between the radar and the optical images. As csv and pictures.

After Ebel et al. 2020, Fig. 5 and Appendix C (cover of SEN12MS-CR), Ebel et al. 2022, Figs. 4 and 5 (cover over the year) and
Fig. 12 (gaps between Sentinel-1 and Sentinel-2).
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unclouded.datasets.sen12mscr import SEN12MSCR
from unclouded.datasets.sen12mscrts import SEN12MSCRTS, nearest
from unclouded.errors import UsageError

EDGES = np.arange(11) / 10


@dataclass(frozen=True)
class Stats:
    """Covers of every image with its month (1..12), and gaps in days (S1 minus S2) of every pair, for one split."""

    name: str
    measure: str
    covers: NDArray[np.float64]
    months: NDArray[np.int64]
    gaps: NDArray[np.int64]

    def histogram(self) -> NDArray[np.float64]:
        """Shares of images in ten bins of cover."""
        counts = np.histogram(self.covers, EDGES)[0]
        return counts / max(counts.sum(), 1)

    def by_month(self) -> NDArray[np.float64]:
        """Mean cover per month, NaN where there is no image."""
        return np.array([self.covers[self.months == m].mean() if (self.months == m).any() else np.nan for m in range(1, 13)])


def of_triplets(data: SEN12MSCR, name: str) -> Stats:
    """Covers of the cloudy images; the files have no dates, so months are those of the seasons and there are no gaps."""
    covers = np.array([data.cover(i) for i in range(len(data))])
    month = {"spring": 4, "summer": 7, "fall": 10, "winter": 1}
    months = np.array([month.get(p.roi.group.split("_")[1], 7) for p in data.patches])
    return Stats(name, _measure(data), covers, months, np.zeros(0, np.int64))


def of_series(data: SEN12MSCRTS, name: str) -> Stats:
    """Covers of all dates of all series, and the gap of every date to its nearest radar image."""
    covers = np.concatenate([data.covers(i) for i in range(len(data))])
    days = [np.array([shot.day for shot in s.s2]) for s in data.series]
    months = np.concatenate(days).astype("datetime64[M]").astype(np.int64) % 12 + 1
    gaps = [
        int((nearest(s.s1, np.array([d]))[0].day - d).astype(int))
        for s, ds in zip(data.series, days, strict=True)
        for d in ds
        if s.s1
    ]
    return Stats(name, _measure(data), covers, months, np.array(gaps, np.int64))


def _measure(data: SEN12MSCR | SEN12MSCRTS) -> str:
    if data.measure is None:
        raise UsageError("Statistics of clouds need a `measure`: a detector that tells the cover.")
    return data.measure.name


def write_csv(stats: Sequence[Stats], path: Path) -> None:
    """One row per split: measure, images, mean cover, share per bin, mean per month, and quantiles of the absolute gap."""
    bins = [f"cover_{low:.1f}_{high:.1f}" for low, high in pairwise(EDGES)]
    months = [f"month_{m:02d}" for m in range(1, 13)]
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(["split", "measure", "images", "mean_cover", *bins, *months, "gap_median_days", "gap_max_days"])
        for s in stats:
            gaps: list[Any] = [np.median(abs(s.gaps)), abs(s.gaps).max()] if s.gaps.size else ["", ""]
            month = ["" if np.isnan(m) else f"{m:.4f}" for m in s.by_month()]
            cover = [f"{s.covers.mean():.4f}", *(f"{share:.4f}" for share in s.histogram())]
            out.writerow([s.name, s.measure, len(s.covers), *cover, *month, *gaps])


def draw_picture(stats: Sequence[Stats], path: Path) -> None:
    """Histograms of cover, mean cover per month, and gaps, side by side, as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 3.8), layout="constrained")
    cover, year, gap = figure.subplots(1, 3)
    for s in stats:
        cover.step(EDGES, np.append(s.histogram(), s.histogram()[-1]), where="post", label=f"{s.name} ({len(s.covers)})")
        year.plot(range(1, 13), s.by_month(), marker="o", label=s.name)
        if s.gaps.size:
            gap.hist(s.gaps, bins=np.arange(s.gaps.min() - 0.5, s.gaps.max() + 1.5), histtype="step", label=s.name)
    for axes, x, y in (
        (cover, "cloud cover", "share of images"),
        (year, "month", "mean cover"),
        (gap, "days, S1 - S2", "images"),
    ):
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.set_visible(bool(axes.lines or axes.patches))
        if axes.lines or axes.patches:
            axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)
