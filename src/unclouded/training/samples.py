"""Samples on their way to a step: made, remembered, cut to some dates, masked, with other bands, or clear."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from unclouded.datasets import synthetic
from unclouded.datasets.draws import SampleSource
from unclouded.datasets.index import Lines, Measure
from unclouded.datasets.lattice import key
from unclouded.datasets.pack import Packed
from unclouded.datasets.sen12 import SEN12
from unclouded.datasets.sen12mscr import SEN12MSCR
from unclouded.datasets.sen12mscrts import SEN12MSCRTS, choose
from unclouded.datasets.simulated import simulate
from unclouded.errors import InputMissing, InputUnsupported
from unclouded.masks import MASKS
from unclouded.masks.detect import AUTO
from unclouded.masks.s2cloudless import soft_map
from unclouded.sample import HIDING, Level, Place, Sample

STEP_DAYS = 12  # between the dates of a simulated series, and its radar
KEPT_BYTES = 2**30  # of simulated samples
UNNAMED = ("auto", "none", "ones")  # what a recipe writes where it names no detector


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
    """Series with their clouds, cut to `dates` dates around their clearest one, which is to be restored."""

    source: SampleSource
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


@dataclass(frozen=True)
class Seen:
    """Samples with their clouds, as a detector tells them."""

    source: SampleSource
    measure: Measure

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, i: int) -> Sample:
        """Sample i. Raises what its reader raises."""
        sample = self.source[i]
        return replace(sample, cloud=self.measure.cloud(sample))


@dataclass(frozen=True)
class Chosen:
    """Some samples of a source."""

    source: SampleSource
    items: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> Sample:
        """The i-th of them. Raises what its reader raises."""
        return self.source[self.items[i]]


@dataclass(frozen=True)
class DrawnFromPack:
    """Series of a pack as SEN12MSCRTS draws them: `dates` inputs whose cover lies in `limits`, and the least cloudy date as the
    target, unless the pack was drawn already and brings one."""

    source: Packed
    dates: int
    limits: tuple[float, float]
    measure: Measure
    lines: Lines

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, i: int) -> Sample:
        """Series i."""
        sample = self.source[i]
        covers = np.array(pack_cover(self.source, i, self.measure, self.lines))
        target = int(covers.argmin()) if sample.target is None else -1
        inputs = choose(covers, self.dates, target, self.limits, "corrected")
        part = near_radar(only_dates(sample, inputs))
        part = replace(part, cloud=self.measure.cloud(part))
        if sample.target is None:
            return replace(
                part, target=sample.s2[target], target_valid=sample.s2_valid[target], target_date=sample.s2_dates[target],
            )  # fmt: skip
        return replace(part, target_index=inputs.index(sample.target_index) if sample.target_index in inputs else None)


def near_radar(sample: Sample) -> Sample:
    """Of the radar, only the acquisition nearest in time to each optical date."""
    if sample.s1 is None or sample.s1_dates is None or sample.s1_valid is None:
        return sample
    near = sorted({int(np.abs((sample.s1_dates - day).astype(int)).argmin()) for day in sample.s2_dates})
    orbits = None if sample.s1_orbits is None else sample.s1_orbits[near]
    return replace(sample, s1=sample.s1[near], s1_valid=sample.s1_valid[near], s1_dates=sample.s1_dates[near], s1_orbits=orbits)


def pack_cover(packed: Packed, i: int, measure: Measure, lines: Lines) -> list[float]:
    """The hidden share of every date of a packed sample, measured once per content and detector."""
    digest = str(packed.samples[i]["sha256"])
    return lines.cover(digest, measure, lambda: packed[i], digest)


def contents(source: SampleSource) -> list[str]:
    """What a source holds, a line per sample: names; of packs, all that is told of a sample, its digest included."""
    if isinstance(source, Packed):
        return [json.dumps(row, sort_keys=True) for row in source.samples]
    if isinstance(source, Chosen):
        inner = contents(source.source)
        return [inner[i] for i in source.items]
    if isinstance(source, AroundClearest | Seen | DrawnFromPack):
        return contents(source.source)
    if isinstance(source, SEN12MSCR):
        return [str(patch) for patch in source.patches]
    if isinstance(source, SEN12MSCRTS):
        return [str(series) for series in source.series]
    assert isinstance(source, SEN12), "what is read from disk tells what it holds"
    return [str(pair) for pair in source.pairs]


def detector(mask: str, place: Place) -> str:
    """The detector that a recipe's `mask` means for data of such bands: the one it names, else the first of AUTO that fits.

    Raises InputUnsupported where the one named does not fit, or none does.
    """
    against = {name: MASKS[name].lacks(place) for name in (AUTO if mask in UNNAMED else (mask,))}
    found = next((name for name, why in against.items() if not why), None)
    if found is not None:
        return found
    told = f"{place.level} with {', '.join(place.bands)}"
    why = "; ".join(f"{name}: {reason}" for name, reason in against.items())
    if mask in UNNAMED:
        raise InputUnsupported("No cloud detector fits these data.", where=place.id, why=f"they are {told}; {why}.")
    raise InputUnsupported(
        f"The recipe's cloud detector, data.mask='{mask}', does not fit these data.", where=place.id,
        why=f"they are {told}; {why}.", do="write --set data.mask=auto, which takes the first that fits.",
    )  # fmt: skip


def measure_by(mask: str, place: Place) -> Measure:
    """The same as a measure of cover: 1 where it sees cloud or shadow. Raises InputUnsupported."""
    name = detector(mask, place)
    return Measure(name, lambda sample: HIDING[MASKS[name].detect(sample).classes].astype(np.float32))


def hidden_share(sample: Sample, mask: str) -> NDArray[np.float32]:
    """(T, H, W) in [0, 1] by the detector that `mask` means here: soft for s2cloudless (Ebel et al. 2020, II-A), else 0 or 1.

    Raises InputUnsupported where none fits.
    """
    name = detector(mask, sample.place)
    found = MASKS[name].detect(sample)
    if name == "s2cloudless" and found.probability is not None:
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


def as_clear(sample: Sample) -> Sample:
    """One clear image that is its own target: the target of a pair, else the sample's only date."""
    image, valid = sample.s2[0], sample.s2_valid[0]
    if sample.target is not None:
        image = sample.target
        valid = np.ones(sample.shape, bool) if sample.target_valid is None else sample.target_valid
    return replace(
        only_dates(sample, [0]), s2=image[None], s2_valid=valid[None], target=image, target_valid=valid,
        target_date=sample.s2_dates[0], target_index=0, scl=None, given=None,
        cloud=None if sample.cloud is None else np.zeros((1, *sample.shape), np.float32),
    )  # fmt: skip


def transplanted_or_physical(sample: Sample, seed: int, *, cover: float) -> Sample:
    """Clouds of another date of the place; where no date has a fitting cloud, physical ones."""
    try:
        return synthetic.transplanted(sample, seed=seed)
    except InputMissing:
        return synthetic.physical(sample, seed=seed, cover=cover)
