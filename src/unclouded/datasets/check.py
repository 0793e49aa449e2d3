"""Is a data set whole, and do its splits share ground? Looks at names, files, georeference and pixels.

A leak is ground that one split trains on and another is judged by: the same region by name (also across data sets), patches
whose outlines overlap on the map, or equal pixels under different names.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from unclouded import raster
from unclouded.datasets import sen12, sen12mscr, sen12mscrts
from unclouded.datasets.index import Progress, natural, open_index
from unclouded.datasets.split import SPLITS, Roi, Rule, Split, selected, table
from unclouded.errors import InputCorrupt, InputMissing, InputUnsupported, LeakFound, RefusedForSafety

Box = tuple[float, float, float, float]  # west, south, east, north in degrees
SLIVER = 3e-4  # degrees, about 30 m: outlines that share less only touch
MISSES = 20  # of one kind that a report names


class Item(NamedTuple):
    """A patch as the check sees it: its data set, region, name, files, and the file whose pixels stand for the ground."""

    dataset: str
    roi: Roi
    name: str
    files: tuple[str, ...]
    ground: str


@dataclass
class Report:
    """What a check found. `leaks` name ground shared by splits; `faults` name files that are missing or broken."""

    lines: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The report as lines."""
        parts = [("", self.lines), ("faults:", self.faults or ["none"]), ("leaks:", self.leaks or ["none"])]
        return "\n".join(line for title, lines in parts for line in ([title] if title else []) + lines)

    def raise_on_leaks(self) -> None:
        """Raises LeakFound (exit code 4) where splits share ground."""
        if self.leaks:
            raise LeakFound(
                f"{len(self.leaks)} leaks: splits share ground.", why="; ".join(self.leaks[:3]) + ".",
                do="match regions exactly (split_rule 'exact'), or drop the regions named in the report.",
            )  # fmt: skip


def check(
    roots: Sequence[str | Path],
    *,
    rule: Rule = "exact",
    splits: Mapping[Roi, Split] | None = None,
    pixels: bool = True,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Report:
    """Check one or several data roots, each by itself and all against each other.

    `rule`: how a loader matches regions to splits. `splits`: a table of one's own in place of the official ones.
    `pixels`: open every file (broken files, outlines, equal pixels); else only names are compared.
    """
    report = Report()
    items: list[tuple[Path, Item]] = []
    for root in map(Path, roots):
        mine = _items(root, cache)
        items += [(root, item) for item in mine]
        _count(report, root, mine, splits)
    members = _members(items, rule, splits)
    _by_name(report, items, members)
    if pixels:
        _by_pixels(report, items, members, progress)
    return report


# -- what is there -----------------------------------------------------------------------------------------------------


def _items(root: Path, cache: Path | None) -> list[Item]:
    """The patches of a root, whichever of the three data sets it holds. Raises InputUnsupported for none of them."""
    index = open_index(root, 2, cache=cache)
    for read in (_triplets, _pairs):
        if items := read([f.path for f in index.files("")]):
            return items
    if series := sen12mscrts.found(open_index(root, 4, cache=cache)):
        return [
            Item("sen12mscrts", s.roi, str(s), tuple(shot.path for shot in (*s.s2, *s.s1)), s.s2[0].path) for s in series
        ]  # fmt: skip
    raise InputUnsupported(
        "This folder holds none of SEN12MS-CR, SEN12MS-CR-TS and SEN1-2.", where=root,
        why="looked for ROIs<number>_<season>_s2/..., ROIs<number>/<roi>/S2/... and ROIs<number>_<season>/s2_<roi>/....",
        do="give the folder that holds the ROIs... folders.",
    )  # fmt: skip


def _triplets(paths: Iterable[str]) -> list[Item]:
    by: dict[tuple[Roi, int], list[str]] = defaultdict(list)
    for path in paths:
        if (m := sen12mscr.NAME.search(path)) and path.startswith(f"{m[1]}_{m[2]}/"):
            by[Roi(m[1], int(m[3])), int(m[4])].append(path)
    patches = [(sen12mscr.Patch(*key), files) for key, files in by.items()]
    return [Item("sen12mscr", p.roi, str(p), tuple(files), p.path("s2")) for p, files in patches]


def _pairs(paths: Iterable[str]) -> list[Item]:
    by: dict[tuple[Roi, int], list[str]] = defaultdict(list)
    for path in paths:
        if m := sen12.NAME.search(path.replace("_s1_", "_s2_")):
            by[Roi(m[1], int(m[2])), int(m[3])].append(path)
    pairs = [(sen12.Pair(*key), files) for key, files in by.items()]
    return [Item("sen12", p.roi, str(p), tuple(files), p.path("s2")) for p, files in pairs]


def _count(report: Report, root: Path, items: Sequence[Item], splits: Mapping[Roi, Split] | None) -> None:
    """Patches per split against the published numbers, and partners that are missing."""
    dataset = items[0].dataset
    rows = _rows(dataset, splits)
    per_roi = Counter(item.roi for item in items)
    report.lines.append(f"{root}: {dataset}, {len(items)} patches in {len(per_roi)} regions")
    for split in SPLITS:
        count = sum(n for roi, n in per_roi.items() if rows.get(roi) == split)
        report.lines.append(f"  {split}: {count} patches in {sum(rows.get(roi) == split for roi in per_roi)} regions")
    strangers = sorted((str(roi) for roi in per_roi if roi not in rows), key=natural)
    if strangers:
        report.lines.append(f"  in no split: {', '.join(strangers[:MISSES])}")
    if dataset == "sen12mscr":
        for name, published in sen12mscr.PUBLISHED_TEST.items():
            here = per_roi.get(_roi(name), 0)
            if here not in (0, published):
                report.lines.append(f"  {name}: {here} of {published} published patches")
    want = Counter(len(item.files) for item in items).most_common(1)[0][0] if dataset == "sen12mscrts" else None
    partial = [item for item in items if not _whole(item, want)]
    report.faults += [f"{root}: {item.name} lacks partners, it has {len(item.files)} files" for item in partial[:MISSES]]
    if len(partial) > MISSES:
        report.faults.append(f"{root}: and {len(partial) - MISSES} more lack partners")


def _whole(item: Item, want: int | None) -> bool:
    if item.dataset == "sen12mscrts":
        dates = sum("/S2/" in path for path in item.files)
        return len(item.files) == want and 2 * dates == len(item.files)
    return len(item.files) == (3 if item.dataset == "sen12mscr" else 2)


def _roi(text: str) -> Roi:
    group, _, number = text.partition("/")
    return Roi(group, int(number))


# -- who belongs to which split ----------------------------------------------------------------------------------------


def _rows(dataset: str, splits: Mapping[Roi, Split] | None) -> Mapping[Roi, Split]:
    if splits is not None:
        return splits
    return {} if dataset == "sen12" else table(dataset)


def _members(items: Sequence[tuple[Path, Item]], rule: Rule, splits: Mapping[Roi, Split] | None) -> list[frozenset[Split]]:
    """The splits that load each item: one or none by the exact rule, several by the published one."""
    chosen = {
        (dataset, split): selected(_rows(dataset, splits), split, rule)
        for dataset in {item.dataset for _, item in items} for split in SPLITS
    }  # fmt: skip
    return [frozenset(s for s in SPLITS if item.roi in chosen[item.dataset, s]) for _, item in items]


def _by_name(report: Report, items: Sequence[tuple[Path, Item]], members: Sequence[frozenset[Split]]) -> None:
    """One region in several splits, within a data set or across data sets."""
    seen: dict[tuple[str, int], dict[tuple[str, Split], int]] = defaultdict(lambda: defaultdict(int))
    for (_, item), inside in zip(items, members, strict=True):
        for split in inside:
            seen[item.roi.ground][item.dataset, split] += 1
    for (group, number), where in sorted(seen.items()):
        if len({split for _, split in where}) > 1:
            parts = [f"{dataset} {split} ({count} patches)" for (dataset, split), count in sorted(where.items())]
            report.leaks.append(f"{group}/{number} by name: {', '.join(parts)}")


# -- what the files say ------------------------------------------------------------------------------------------------


def _by_pixels(
    report: Report, items: Sequence[tuple[Path, Item]], members: Sequence[frozenset[Split]], progress: Progress | None
) -> None:
    """Open every file; compare outlines and pixels of items that different splits load."""
    outlines: list[tuple[int, Box]] = []
    digests: dict[str, list[int]] = defaultdict(list)
    for n, (root, item) in enumerate(items):
        for path in item.files:
            try:
                digest, box = _look(root / path)
            except (InputCorrupt, InputMissing, InputUnsupported, RefusedForSafety) as error:
                report.faults.append(f"{root / path}: {error.what}")
                continue
            if path == item.ground:
                digests[digest].append(n)
                outlines += [] if box is None else [(n, box)]
        if progress is not None:
            progress(n + 1, len(items))
    names = [f"{item.dataset} {item.name}" for _, item in items]
    grounds = [item.roi.ground for _, item in items]

    def apart(a: int, b: int) -> bool:
        return _shared(members[a], members[b]) and grounds[a] != grounds[b]

    for same in digests.values():
        report.leaks += [
            f"equal pixels: {names[a]} and {names[b]}" for a, b in combinations(same, 2) if _shared(members[a], members[b])
        ]
    touching = Counter(tuple(sorted((items[a][1].roi, items[b][1].roi))) for a, b in _overlaps(outlines, apart))
    for (a, b), count in sorted(touching.items()):
        report.leaks.append(f"overlap on the map: {a} and {b}, {count} pairs of patches")


def _shared(a: frozenset[Split], b: frozenset[Split]) -> bool:
    """Whether one of two items is loaded by a split that does not load the other one alone."""
    return any(x != y for x in a for y in b)


def _look(path: Path) -> tuple[str, Box | None]:
    """The SHA-256 of the decoded pixels, and the outline on the map."""
    if path.suffix == ".png":
        return hashlib.sha256(sen12.read_png(path, 3).tobytes()).hexdigest(), None
    with raster.open_raster(path) as dataset:
        values = raster.read(dataset, range(1, dataset.count + 1))
        grid = raster.grid_of(dataset)
    digest = hashlib.sha256(values.tobytes()).hexdigest()
    if grid is None:
        return digest, None
    west, south, east, north = grid.geographic_extent.boundingbox.bbox
    return digest, (west, south, east, north)


def _overlaps(outlines: Sequence[tuple[int, Box]], wanted: Callable[[int, int], bool]) -> Iterable[tuple[int, int]]:
    """Pairs of items whose boxes overlap by more than a sliver: sorted by their west, each compared with those it reaches."""
    ranked = sorted(outlines, key=lambda o: o[1][0])
    for n, (a, (_, south, east, north)) in enumerate(ranked):
        for b, (west_b, south_b, _, north_b) in ranked[n + 1 :]:
            if west_b > east - SLIVER:
                break
            if south_b < north - SLIVER and north_b > south + SLIVER and wanted(a, b):
                yield a, b
