"""From a folder, or the simulated place, to what one step sees: decided by recipe, seed and step alone.

So a run that is resumed sees exactly what it would have seen, whatever the number of workers.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unclouded.datasets import synthetic
from unclouded.datasets.augment import Augment
from unclouded.datasets.draws import SampleSource, order
from unclouded.datasets.index import pack_lines
from unclouded.datasets.lattice import key
from unclouded.datasets.offline import SimulatedTriplets
from unclouded.datasets.pack import Packed
from unclouded.datasets.patches import described
from unclouded.datasets.sen12 import SEN12
from unclouded.datasets.sen12mscr import SEN12MSCR
from unclouded.datasets.sen12mscrts import SEN12MSCRTS
from unclouded.datasets.split import Split
from unclouded.errors import InputCorrupt, InputMissing, InputUnsupported, RecordError, UsageError
from unclouded.masks import MASKS
from unclouded.sample import Batch, Level, Place, Sample
from unclouded.training.recipe import WHOLE, Data
from unclouded.training.samples import (
    AroundClearest,
    Chosen,
    DrawnFromPack,
    Remembered,
    Seen,
    SimulatedTuples,
    as_clear,
    contents,
    detector,
    measure_by,
    pack_cover,
    transplanted_or_physical,
    with_bands,
    with_cloud,
)  # fmt: skip

SIMULATED = "simulated"
TENTH = 10
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


def open_data(data: Data, root: str, *, bands: tuple[str, ...], level: Level, seed: int, split: Split) -> Opened:
    """The training or validation samples of a folder, or of `simulated`.

    Raises InputMissing where there are none, InputUnsupported where they are not what the recipe trains on.
    """
    if root == SIMULATED:
        return _simulated(data, bands=bands, level=level, seed=seed, split=split)
    folder = Path(root)
    if (folder / "pack.json").is_file() or (folder / "train" / "pack.json").is_file():
        return _listed(_packed(data, _pack(folder, split)), f"pack {folder.name}", split, "as its source")
    if data.kind == "series":
        return _listed(_series(data, folder, split), "SEN12MS-CR-TS", split, "CC-BY-4.0")
    if any(folder.glob("ROIs*_*_s2_cloudy")):
        return _listed(_triplets(data, folder, split), "SEN12MS-CR", split, "CC-BY-4.0")
    if any(folder.glob("ROIs*/s2_*/*.png")):
        _must_be_clear(data, root)
        return _listed(_pairs(folder, split), "SEN1-2", split, "see its authors")
    raise InputMissing(
        "There is no data set that can be trained on here.", where=root,
        why="looked for SEN12MS-CR, SEN12MS-CR-TS, SEN1-2 and packs.", do=f"give its folder, or `{SIMULATED}`.",
    )  # fmt: skip


def open_donors(data: Data, *, bands: tuple[str, ...], level: Level, seed: int) -> SampleSource | None:
    """The data set whose clouds are cut out, if the recipe names one. Raises what `open_data` raises."""
    if not data.donors:
        return None
    kind = "triplets" if data.kind == "clear" else data.kind
    wanted = data.model_copy(update={"cover": WHOLE, "kind": kind, "mask": "none"})  # any cover, masked when looked at
    try:
        return open_data(wanted, data.donors, bands=bands, level=level, seed=seed, split="train").source
    except InputUnsupported as error:
        raise InputUnsupported(
            "Clouds cannot be cut out of these data (data.donors).", where=data.donors, why=error.what, do="name cloudy data."
        ) from error


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
    measure = measure_by(data.mask, _stored(folder))
    if data.inside:
        _any_cover(data)
        return AroundClearest(SEN12MSCRTS(folder, split=split, measure=measure), data.dates)
    return SEN12MSCRTS(folder, split=split, dates=data.dates, cover=data.cover, measure=measure)


def _triplets(data: Data, folder: Path, split: Split) -> SEN12MSCR:
    """Those whose cloudy image has a cover that the recipe wants."""
    radar, place = any(folder.glob("ROIs*_*_s1")), _stored(folder)
    _must_fit(data, place)
    if data.cover == WHOLE:
        return SEN12MSCR(folder, split=split, s1=radar)
    found = SEN12MSCR(folder, split=split, s1=radar, measure=measure_by(data.mask, place), cover=data.cover)
    found.measure = None  # it has chosen; what is hidden is for data.mask to say
    return found


def _stored(folder: Path) -> Place:
    bands, level = described(folder, None, None)
    return Place(id=str(folder), bands=bands, level=level)


def _must_fit(data: Data, place: Place) -> None:
    """Raises InputUnsupported now, not at the first sample, where the recipe's detector does not fit."""
    if data.mask not in ("none", "ones"):
        detector(data.mask, place)


def _any_cover(data: Data) -> None:
    """Raises UsageError for a cover that nothing is chosen by."""
    if data.cover != WHOLE:
        raise UsageError(
            "The setting 'data.cover' has no effect on real series with data.inside: their dates lie around the clearest one.",
            do="leave it out.",
        )  # fmt: skip


def _must_be_clear(data: Data, root: object) -> None:
    """For images without clouds and without a truth of their own. Raises InputUnsupported."""
    if data.kind != "clear":
        raise InputUnsupported(
            "These are clear images: none is cloudy with a clear one beside it.", where=root,
            why=f"the recipe trains on {data.kind} (data.kind).",
            do="write --set data.kind=clear --set data.clouds=physical, or take other data.",
        )  # fmt: skip
    if data.clouds == "cut-out" and not data.donors:
        raise InputUnsupported(
            "These images are clear: there are no clouds to cut out (data.clouds='cut-out').", where=root,
            do="name cloudy data with --set data.donors=FOLDER, or write --set data.clouds=physical.",
        )  # fmt: skip


def _pack(folder: Path, split: Split) -> Packed:
    """A pack is for training alone; one with validation has it in a folder of its own, beside `train`."""
    whole = (folder / "pack.json").is_file()
    if whole and split != "train":
        raise InputMissing("This pack has no validation samples.", where=folder, do="pack them apart, as train and val.")
    return Packed(folder if whole else folder / split)


def _packed(data: Data, packed: Packed) -> SampleSource:
    """A pack as the recipe wants it. Raises InputUnsupported where it holds something else, InputMissing for other covers."""
    place, dates = Place(id=str(packed.folder), bands=packed.bands, level=packed.level), packed.arrays["s2"].shape[1]
    if data.kind == "series":
        return _packed_series(data, packed, place, dates)
    if dates != 1:
        raise InputUnsupported(
            f"This pack holds series of {dates} dates.", where=packed.folder,
            why=f"the recipe trains on {data.kind} (data.kind).", do="take a recipe for series, or pack triplets.",
        )  # fmt: skip
    if "target" not in packed.arrays:
        _must_be_clear(data, packed.folder)
    _must_fit(data, place)
    if data.cover == WHOLE:
        return packed
    measure, lines, (low, high) = measure_by(data.mask, place), pack_lines(packed.folder), data.cover
    covers = [pack_cover(packed, i, measure, lines)[0] for i in range(len(packed))]
    items = tuple(i for i, cover in enumerate(covers) if low <= cover <= high)
    if not items:
        raise InputMissing(
            f"No sample of the pack has a cover of {low:.0%} to {high:.0%}.", where=packed.folder, do="widen data.cover."
        )
    return Chosen(packed, items)


def _packed_series(data: Data, packed: Packed, place: Place, dates: int) -> SampleSource:
    drawn = "target" in packed.arrays
    needed = data.dates if drawn or data.inside else data.dates + 1
    if dates < needed or (drawn and data.inside):
        raise InputUnsupported(
            f"This pack holds {dates} {'drawn dates and their target' if drawn else 'dates'} per sample.", where=packed.folder,
            why=f"the recipe needs {'whole series of ' if data.inside else ''}{needed} dates (data.dates is {data.dates}).",
            do="pack more dates, or whole series (without --dates), or set data.dates.",
        )  # fmt: skip
    measure = measure_by(data.mask, place)
    if data.inside:
        _any_cover(data)
        return AroundClearest(Seen(packed, measure), data.dates)
    return DrawnFromPack(packed, data.dates, data.cover, measure, pack_lines(packed.folder))


def _pairs(folder: Path, split: Split) -> SEN12:
    """SEN1-2 has no official split: every tenth region is for validation."""
    regions = list(dict.fromkeys(str(pair.roi) for pair in SEN12(folder).pairs))
    held = regions[TENTH - 1 :: TENTH]
    return SEN12(folder, rois=[r for r in regions if (r in held) == (split != "train")] or ["none"])


def _listed(source: SampleSource, name: str, split: str, licence: str) -> Opened:
    return Opened(source, name, split, hashlib.sha256("\n".join(contents(source)).encode()).hexdigest(), licence)


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
        own = self.source[self._place(i)]
        sample = with_cloud(as_clear(own) if self.data.kind == "clear" else own, self.data.mask)
        sample = with_bands(self._clouded(sample, i, seed), self.bands)
        return self.augment(sample, seed)

    def _place(self, i: int) -> int:
        """Where sample i stands in the source: they are evenly spread over it."""
        return i * len(self.source) // self.count

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
        if self.donors is None:  # never its own
            from_where, first, others = self.source, self._place(i), len(self.source) - 1
        else:
            from_where, first, others = self.donors, i, len(self.donors)
        looked = [(first + 1 + n) % len(from_where) for n in range(min(NEXT_TRIED, others))]
        donors = [with_bands(self._seen(from_where[j]), sample.place.bands) for j in looked]
        try:
            return synthetic.cut_out(sample, donors, seed=seed, cover=cover)
        except InputMissing:
            return synthetic.physical(sample, seed=seed, cover=cover)

    def _seen(self, donor: Sample) -> Sample:
        """A donor with its clouds: by the recipe's detector; where it names none, by thresholds if they fit."""
        mask = self.data.mask
        if mask in ("none", "ones"):
            mask = "meraner2020" if MASKS["meraner2020"].fits(donor.place) else "auto"
        return with_cloud(donor, mask)


def partner(i: int, count: int, seed: int) -> int:
    """Whose truth sample i sees where it is not paired: the next one in an order drawn once, so never its own."""
    drawn = _order(count, seed, 0)
    return int(drawn[(int(np.flatnonzero(drawn == i)[0]) + 1) % count])


@lru_cache(maxsize=4)
def _order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return order(count, seed=seed, epoch=epoch)
