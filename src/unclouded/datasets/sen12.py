"""SEN1-2 (Schmitt et al. 2018): pairs of 8-bit PNGs, Sentinel-1 VV and Sentinel-2 red, green, blue, 256 x 256 pixels.

The official layout: `ROIs1158_spring/s1_106/ROIs1158_spring_s1_106_p30.png` beside `s2_106/ROIs1158_spring_s2_106_p30.png`.
Its authors stretched the images to 8 bits and did not publish the stretch with them; the numbers below are what most users
assume. So reflectance and dB from here are only as good as that assumption: fit for methods that work on stretched images
(Darbaghshahi et al. 2021), not for physics. There is no VH: both radar channels are VV. There are no dates and no clouds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unclouded.datasets.index import Progress, open_index
from unclouded.datasets.sen12mscr import SEASONS
from unclouded.datasets.split import Roi, Split, table_of
from unclouded.errors import InputCorrupt, InputMissing, InputUnsupported
from unclouded.sample import Place, Sample

BANDS = ("B04", "B03", "B02")
NAME = re.compile(r"(ROIs\d{4}_[a-z]+)_s2_(\d+)_p(\d+)\.png$")
SIDE_LIMIT = 4096


class Stretch(NamedTuple):
    """What 0 and 255 stand for: reflectance for Sentinel-2, dB for Sentinel-1."""

    s2: tuple[float, float] = (0.0, 0.3)
    s1: tuple[float, float] = (-25.0, 0.0)


class Pair(NamedTuple):
    """One pair of PNGs."""

    roi: Roi
    number: int

    def path(self, sensor: str) -> str:
        """Relative to the root."""
        group, roi = self.roi
        return f"{group}/{sensor}_{roi}/{group}_{sensor}_{roi}_p{self.number}.png"

    def __str__(self) -> str:
        return f"{self.roi}/p{self.number}"


class SEN12:
    """The pairs of a root, in natural order, as clear samples with one date (the middle of the season).

    `rois`, `seasons`: only these. The data set has no official split: give one by region in `splits` or the root's splits.csv,
    and choose of it by `split` (None: all). `bands`: any of red, green, blue.
    Raises InputMissing where nothing is found.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        split: Split | None = None,
        splits: Mapping[Roi, Split] | None = None,
        bands: Sequence[str] = BANDS,
        rois: Sequence[str] | None = None,
        seasons: Sequence[str] | None = None,
        stretch: Stretch = Stretch(),  # noqa: B008 - immutable
        cache: Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.root, self.stretch, self.bands = Path(root), stretch, tuple(bands)
        if not set(self.bands) <= set(BANDS):
            raise InputUnsupported(f"SEN1-2 has no band {', '.join(set(self.bands) - set(BANDS))}.", do="it has B04, B03, B02.")
        rows = table_of(self.root, "sen12") if splits is None else splits
        self.index = open_index(self.root, 2, cache=cache, progress=progress)
        names = (NAME.search(f.path) for f in self.index.files(".png"))
        pairs = (Pair(Roi(m[1], int(m[2])), int(m[3])) for m in names if m is not None)
        self.pairs: tuple[Pair, ...] = tuple(
            p for p in pairs
            if (split is None or rows.get(p.roi) == split)
            and (rois is None or str(p.roi) in rois) and (seasons is None or p.roi.group.split("_")[1] in seasons)
        )  # fmt: skip
        if not self.pairs:
            raise InputMissing(
                f"No pair of SEN1-2, split {split or 'any'}, was found.", where=self.root,
                why="looked for ROIs<number>_<season>/s2_<roi>/*.png.", do="give the folder that holds the ROIs... folders.",
            )  # fmt: skip

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, i: int) -> Sample:
        """Pair i. Raises InputMissing (a missing partner), InputCorrupt."""
        pair = self.pairs[i]
        rgb = read_png(self.root / pair.path("s2"), 3)
        s2 = _scaled(rgb[[BANDS.index(b) for b in self.bands]], self.stretch.s2)
        vv = _scaled(read_png(self.root / pair.path("s1"), 1), self.stretch.s1)
        if s2.shape[1:] != vv.shape[1:]:
            raise InputCorrupt(f"The images of {pair} differ in size.", where=self.root / pair.path("s1"))
        day = np.array([SEASONS.get(pair.roi.group, "2018-07-01")], "datetime64[D]")
        measured = np.ones((1, *s2.shape[1:]), bool)
        return Sample(
            place=Place(id=str(pair), bands=self.bands, level="L1C"), s2=s2[None], s2_valid=measured, s2_dates=day,
            s1=np.repeat(vv, 2, 0)[None], s1_valid=measured, s1_dates=day,
        )  # fmt: skip

    def origin(self) -> dict[str, Any]:
        """See Telling."""
        return {"data": "SEN1-2", "root": str(self.root.resolve()), "stretch": [list(ends) for ends in self.stretch]}

    def told(self, i: int) -> dict[str, Any]:
        """See Telling: the files have no dates."""
        return {"id": str(self.pairs[i])}


def _scaled(values: NDArray[np.uint8], ends: tuple[float, float]) -> NDArray[np.float32]:
    low, high = ends
    return (values.astype(np.float32) * np.float32((high - low) / 255) + np.float32(low)).astype(np.float32)


def read_png(path: Path, channels: int) -> NDArray[np.uint8]:
    """A PNG as (C, H, W); nothing else is opened, whatever its name. Grey stored as RGB counts as grey."""
    from PIL import Image, UnidentifiedImageError

    if not path.is_file():
        raise InputMissing(f"The image {path.name} is not there.", where=path, why="its partner is.", do="download it.")
    try:
        with Image.open(path, formats=("PNG",)) as image:
            if max(image.size) > SIDE_LIMIT:
                raise InputCorrupt(f"{path.name} has {image.size} pixels; a patch has 256 x 256.", where=path)
            pixels = np.asarray(image.convert("RGB" if channels == 3 else "L"))
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputCorrupt(
            f"{path.name} is damaged: it cannot be decoded.", where=path, why=str(error), do="download it again."
        ) from error
    return np.ascontiguousarray(np.moveaxis(np.atleast_3d(pixels), -1, 0))
