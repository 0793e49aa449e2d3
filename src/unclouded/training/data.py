"""From a folder, or the simulated place, to what one step sees: decided by recipe, seed and step alone.

So a run that is resumed sees exactly what it would have seen, whatever the number of workers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unclouded.datasets import synthetic
from unclouded.datasets.augment import Augment
from unclouded.datasets.draws import SampleSource, order
from unclouded.datasets.index import Measure
from unclouded.datasets.lattice import key
from unclouded.datasets.offline import SimulatedTriplets
from unclouded.datasets.pack import Packed
from unclouded.datasets.sen12 import SEN12
from unclouded.datasets.sen12mscr import SEN12MSCR
from unclouded.datasets.sen12mscrts import SEN12MSCRTS
from unclouded.datasets.simulated import simulate
from unclouded.datasets.split import Split
from unclouded.errors import InputCorrupt, InputMissing, InputUnsupported, RecordError
from unclouded.masks import MASKS
from unclouded.masks.s2cloudless import soft_map
from unclouded.sample import HIDING, Batch, Level, Sample
from unclouded.training.recipe import Data

SIMULATED = "simulated"
TENTH = 10
STEP_DAYS = 12  # between the dates of a simulated series, and its radar
KEPT_BYTES = 2**30  # of simulated samples
NEXT_TRIED = 3  # samples tried in place of a broken one


class Shown(NamedTuple):
    """What one step sees. `paired`: whether the truth of each sample is of the same place. `skipped`: names of broken ones."""

    batch: Batch
    names: tuple[str, ...]
    paired: tuple[bool, ...]
    skipped: tuple[str, ...] = ()


class Opened(NamedTuple):
    """A data set: its samples, what it is, how many there are, and a digest over what is in it."""

    source: SampleSource
    name: str
    split: str
    digest: str
    licence: str


@dataclass(frozen=True, kw_only=True)
class SimulatedTuples:
    """Several cloudy dates of a simulated place, radar for each, and the truth of one: another date, or one `inside`."""

    count: int
    seed: int
    size: int
    dates: int
    bands: tuple[str, ...]
    level: Level
    cover: tuple[float, float]
    inside: bool

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> Sample:
        """Tuple i. Raises IndexError past the end."""
        if not 0 <= i < self.count:
            raise IndexError(i)
        draw = np.random.default_rng(key(self.seed, "tuple", i))
        total = self.dates + (not self.inside)
        covers = draw.uniform(*self.cover, total)
        at = total // 2 if self.inside else int(draw.integers(total))
        covers[at] = 0.0
        place = simulate(
            seed=key(self.seed, "tuple place", i), size=(self.size, self.size), dates=total, step=STEP_DAYS,
            s1_every=STEP_DAYS, level=self.level, bands=self.bands, cover=covers.tolist(),
        )  # fmt: skip
        sample = place.target(at)
        return sample if self.inside else without_date(sample, at)


def without_date(sample: Sample, at: int) -> Sample:
    """The sample without one of its optical dates; if that was the target, it is no longer among the inputs."""
    index = None if sample.target_index in (None, at) else sample.target_index - (sample.target_index > at)
    return replace(only_dates(sample, [t for t in range(len(sample.s2_dates)) if t != at]), target_index=index)


def only_dates(sample: Sample, chosen: Sequence[int]) -> Sample:
    """Some optical dates of a sample, in order; radar stays. `target_index` is for the caller to set."""
    at = list(chosen)
    return replace(
        sample, s2=sample.s2[at], s2_valid=sample.s2_valid[at], s2_dates=sample.s2_dates[at],
        cloud=None if sample.cloud is None else sample.cloud[at], scl=None if sample.scl is None else sample.scl[at],
        given=None if sample.given is None else sample.given[at], target_index=None,
    )  # fmt: skip


class Remembered:
    """Samples that take long to make, kept in memory up to KEPT_BYTES."""

    def __init__(self, source: SampleSource) -> None:
        self.source, self.room = source, KEPT_BYTES
        self.kept: dict[int, Sample] = {}

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, i: int) -> Sample:
        """Sample i."""
        if i in self.kept:
            return self.kept[i]
        sample = self.source[i]
        size = sum(v.nbytes for v in vars(sample).values() if isinstance(v, np.ndarray))
        if size <= self.room:
            self.kept[i], self.room = sample, self.room - size
        return sample


@dataclass(frozen=True)
class AroundClearest:
    """Series, cut to `dates` dates around their clearest one, which is to be restored."""

    source: SEN12MSCRTS
    dates: int

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, i: int) -> Sample:
        """Series i. Raises what its reader raises."""
        sample = self.source[i]
        assert sample.cloud is not None
        best = int(sample.cloud.mean((1, 2)).argmin())
        first = min(max(best - self.dates // 2, 0), max(len(sample.s2_dates) - self.dates, 0))
        part = only_dates(sample, range(first, min(first + self.dates, len(sample.s2_dates))))
        return replace(part, target_index=best - first, target_date=sample.s2_dates[best])


def open_data(data: Data, root: str, *, bands: tuple[str, ...], level: Level, seed: int, split: Split) -> Opened:
    """The training or validation samples of a folder, or of `simulated`. Raises InputMissing, InputUnsupported."""
    if root == SIMULATED:
        return _simulated(data, bands=bands, level=level, seed=seed, split=split)
    folder = Path(root)
    if data.kind == "series":
        return _listed(_series(data, folder, split), "SEN12MS-CR-TS", split, "CC-BY-4.0")
    if (folder / "pack.json").is_file() or (folder / "train" / "pack.json").is_file():
        return _listed(_pack(folder, split), f"pack {folder.name}", split, "as its source")
    if any(folder.glob("ROIs*_*_s2_cloudy")):
        radar = any(folder.glob("ROIs*_*_s1"))
        return _listed(SEN12MSCR(folder, split=split, s1=radar), "SEN12MS-CR", split, "CC-BY-4.0")
    if any(folder.glob("ROIs*/s2_*/*.png")):
        return _listed(_pairs(folder, split), "SEN1-2", split, "see its authors")
    raise InputMissing(
        "There is no data set that can be trained on here.", where=root,
        why="looked for SEN12MS-CR, SEN12MS-CR-TS, SEN1-2 and packs.", do=f"give its folder, or `{SIMULATED}`.",
    )  # fmt: skip


def _simulated(data: Data, *, bands: tuple[str, ...], level: Level, seed: int, split: Split) -> Opened:
    from unclouded.bands import L1C

    own, count = key(seed, split), data.count if split == "train" else max(data.validation, 1)
    whole = L1C if level == "L1C" else bands
    source: SampleSource
    if data.kind == "series":
        source = SimulatedTuples(
            count=count, seed=own, size=data.size, dates=data.dates, bands=whole, level=level, cover=data.cover,
            inside=data.inside,
        )  # fmt: skip
    else:
        source = SimulatedTriplets(count=count, seed=own, size=data.size, level=level, bands=whole, cover=data.cover)
    return Opened(Remembered(source), "simulated place", split, hashlib.sha256(repr(source).encode()).hexdigest(), "Apache-2.0")


def _series(data: Data, folder: Path, split: Split) -> SampleSource:
    name = "tum" if data.mask in ("none", "ones") else data.mask
    measure = Measure(name, lambda sample: hidden_share(sample, name))
    if data.inside:
        return AroundClearest(SEN12MSCRTS(folder, split=split, measure=measure), data.dates)
    return SEN12MSCRTS(folder, split=split, dates=data.dates, cover=data.cover, measure=measure)


def _pack(folder: Path, split: Split) -> Packed:
    """A pack is for training alone; one with validation has it in a folder of its own, beside `train`."""
    whole = (folder / "pack.json").is_file()
    if whole and split != "train":
        raise InputMissing("This pack has no validation samples.", where=folder, do="pack them apart, as train and val.")
    return Packed(folder if whole else folder / split)


def _pairs(folder: Path, split: Split) -> SEN12:
    """SEN1-2 has no official split: every tenth region is for validation."""
    regions = list(dict.fromkeys(str(pair.roi) for pair in SEN12(folder).pairs))
    held = regions[TENTH - 1 :: TENTH]
    return SEN12(folder, rois=[r for r in regions if (r in held) == (split != "train")] or ["none"])


def _listed(source: SampleSource, name: str, split: str, licence: str) -> Opened:
    items = getattr(source, "patches", None) or getattr(source, "series", None) or getattr(source, "pairs", None)
    names = [str(item) for item in items] if items else [str(len(source))]
    return Opened(source, name, split, hashlib.sha256("\n".join(names).encode()).hexdigest(), licence)


def hidden_share(sample: Sample, mask: str) -> NDArray[np.float32]:
    """(T, H, W) in [0, 1] by a detector of the table: soft for s2cloudless (Ebel et al. 2020, II-A), else 0 or 1."""
    found = MASKS[mask].detect(sample)
    if mask == "s2cloudless" and found.probability is not None:
        return soft_map(found.probability)
    return HIDING[found.classes].astype(np.float32)


def with_cloud(sample: Sample, mask: str) -> Sample:
    """The sample with its cloud map: its own if it brings one, else by the detector `mask`; `ones`: everything is hidden."""
    if mask == "ones":
        return replace(sample, cloud=np.ones(sample.s2_valid.shape, np.float32))
    if sample.cloud is not None or mask == "none":
        return sample
    return replace(sample, cloud=hidden_share(sample, mask))


def with_bands(sample: Sample, bands: tuple[str, ...]) -> Sample:
    """Only `bands`, in this order. Raises InputUnsupported for one that is not there."""
    own = sample.place.bands
    if bands == own:
        return sample
    missing = [b for b in bands if b not in own]
    if missing:
        raise InputUnsupported(f"The data have no band {', '.join(missing)}.", where=sample.place.id, do="choose other bands.")
    at = [own.index(b) for b in bands]
    target = None if sample.target is None else sample.target[at]
    return replace(sample, place=replace(sample.place, bands=bands), s2=sample.s2[:, at], target=target)


class Steps:
    """What step s sees, for every s: a map-style data set over steps. `rank` of `ranks` processes sees its share of a batch."""

    def __init__(
        self, opened: Opened, data: Data, bands: tuple[str, ...], *, batch: int, seed: int, rank: int = 0, ranks: int = 1,
        donors: SampleSource | None = None,
    ) -> None:  # fmt: skip
        self.source, self.data, self.bands, self.seed, self.donors = opened.source, data, bands, seed, donors
        self.rank, self.ranks = rank, ranks
        self.count = min(len(self.source), data.limit or len(self.source))
        self.batch = min(batch, self.count)
        self.per_epoch = max(1, self.count // self.batch)
        self.augment = Augment(size=data.crop or None, centre=data.centre, flips=data.flips, turns=data.turns)

    def __getitem__(self, step: int) -> Shown:
        """Raises the reader's error where a sample and the next few are broken."""
        epoch, k = divmod(step, self.per_epoch)
        numbers = _order(self.count, self.seed, epoch)[k * self.batch : (k + 1) * self.batch]
        skipped: list[str] = []
        mine = [self._one(int(i), key(self.seed, "change", step, n), skipped) for n, i in enumerate(numbers)]
        mine = mine[self.rank :: self.ranks]
        samples = [sample for sample, _ in mine]
        return Shown(
            Batch.stack(samples), tuple(s.place.id for s in samples), tuple(paired for _, paired in mine), tuple(skipped)
        )

    def sample(self, i: int, seed: int) -> Sample:
        """Sample i, ready for the network: masked, clouded, cut to bands, augmented."""
        sample = with_cloud(self.source[i * len(self.source) // self.count], self.data.mask)
        sample = with_bands(self._clouded(sample, i, seed), self.bands)
        return self.augment(sample, seed)

    def _one(self, i: int, seed: int, skipped: list[str]) -> tuple[Sample, bool]:
        for tried in range(NEXT_TRIED + 1):
            at = (i + tried) % self.count
            try:
                return self._paired(at, seed)
            except (InputCorrupt, InputMissing, RecordError) as error:
                if tried == NEXT_TRIED:
                    raise
                skipped.append(f"{at}: {error.what}")
        raise AssertionError("unreachable")

    def _paired(self, i: int, seed: int) -> tuple[Sample, bool]:
        sample = self.sample(i, seed)
        share = self.data.paired
        if int((i + 1) * share) > int(i * share):  # equally spaced across the split (Ebel et al. 2020, III-D2)
            return sample, True
        other = self.sample(partner(i, self.count, key(self.seed, "unpaired")), key(seed, "other"))
        return replace(sample, target=other.target, target_valid=other.target_valid), False

    def _clouded(self, sample: Sample, i: int, seed: int) -> Sample:
        kind, (low, high) = self.data.clouds, self.data.synthetic_cover
        cover = low + (high - low) * float(np.random.default_rng(key(seed, "cover")).random())
        if kind == "perlin":
            return synthetic.perlin(sample, seed=seed, cover=cover)
        if kind == "physical":
            return synthetic.physical(sample, seed=seed, cover=cover)
        if kind == "copied":
            return synthetic.copied(sample)
        if kind == "transplanted":
            return transplanted_or_physical(sample, seed, cover=cover)
        if kind == "cut-out":
            return self._cut_out(sample, i, seed, cover)
        return sample

    def _cut_out(self, sample: Sample, i: int, seed: int, cover: float) -> Sample:
        """Clouds of other places; where none of the few looked at has a thick one, physical clouds."""
        from_where = self.source if self.donors is None else self.donors
        looked = [(i + 1 + n) % len(from_where) for n in range(NEXT_TRIED)]
        mask = "meraner2020" if self.data.mask in ("none", "ones") else self.data.mask
        donors = [with_bands(with_cloud(from_where[j], mask), sample.place.bands) for j in looked]
        try:
            return synthetic.cut_out(sample, donors, seed=seed, cover=cover)
        except InputMissing:
            return synthetic.physical(sample, seed=seed, cover=cover)


def transplanted_or_physical(sample: Sample, seed: int, *, cover: float) -> Sample:
    """Clouds of another date of the place; where no date has a fitting cloud, physical ones."""
    try:
        return synthetic.transplanted(sample, seed=seed)
    except InputMissing:
        return synthetic.physical(sample, seed=seed, cover=cover)


def partner(i: int, count: int, seed: int) -> int:
    """Whose truth sample i sees where it is not paired: the next one in an order drawn once, so never its own."""
    drawn = _order(count, seed, 0)
    return int(drawn[(int(np.flatnonzero(drawn == i)[0]) + 1) % count])


@lru_cache(maxsize=4)
def _order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return order(count, seed=seed, epoch=epoch)
