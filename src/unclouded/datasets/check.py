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
from unclouded.datasets.split import SPLITS, Roi, Rule, Split, parse_roi, selected, table_of
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
    counts: dict[str, dict[str, int]] = field(default_factory=dict)  # per root: patches, regions, and both per split
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
                f"Splits share ground: {len(self.leaks)} found.", why="; ".join(self.leaks[:MISSES]) + ".",
                do="match regions exactly (rule 'exact'), or drop the regions named in the report.",
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

    `rule`: how a loader matches regions to splits. `splits`: a table of one's own for all roots, in place of their own
    splits.csv or the official ones.
    `pixels`: open every file (broken files, outlines, equal pixels); else only names are compared.
    """
    report = Report()
    items: list[tuple[Path, Item]] = []
    members: list[frozenset[Split]] = []
    for root in map(Path, roots):
        mine = _items(root, cache)
        rows = table_of(root, mine[0].dataset) if splits is None else splits
        items += [(root, item) for item in mine]
        members += _members(mine, rows, rule)
        _count(report, root, mine, rows)
        report.faults += _lacking(root, mine)
    _by_name(report, items, members)
    if pixels:
        _by_pixels(report, items, members, progress)
    return report


# -- what is there -----------------------------------------------------------------------------------------------------


def dataset_of(root: Path, cache: Path | None = None) -> str:
    """sen12mscr, sen12mscrts or sen12, by its layout. Raises InputUnsupported for anything else."""
    return _items(root, cache)[0].dataset


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


def _count(report: Report, root: Path, items: Sequence[Item], rows: Mapping[Roi, Split]) -> None:
    """Patches and regions per split, beside the published numbers, and what matching by substring would load besides."""
    dataset = items[0].dataset
    per_roi = Counter(item.roi for item in items)
    whole = Counter(rows.values())
    counts = {"patches": len(items), "regions": len(per_roi)}
    of = f" of {sen12mscr.PUBLISHED_PATCHES}" if dataset == "sen12mscr" and not (root / "splits.csv").is_file() else ""
    report.lines.append(f"{root}: {dataset}, {len(items)}{of} patches in {len(per_roi)} regions")
    for split in SPLITS:
        here = [roi for roi in per_roi if rows.get(roi) == split]
        counts |= {f"{split}_patches": sum(per_roi[r] for r in here), f"{split}_regions": len(here)}
        patches = counts[f"{split}_patches"]
        report.lines.append(f"  {split}: {patches} patches in {len(here)} of {whole[split]} regions")
    report.counts[str(root)] = counts
    strangers = sorted((str(roi) for roi in per_roi if roi not in rows), key=natural)
    if strangers:
        more = f", and {len(strangers) - MISSES} more" if len(strangers) > MISSES else ""
        report.lines.append(f"  in no split: {', '.join(strangers[:MISSES])}{more}")
    if dataset == "sen12mscr":
        for name, published in sen12mscr.PUBLISHED_TEST.items():
            count = per_roi.get(parse_roi(name), 0)
            if count not in (0, published):
                report.lines.append(f"  {name}: {count} of {published} published patches")
        trained = selected(rows, "train", "as_published_substring")
        for split in ("test", "val"):
            found = sorted((r for r in per_roi if rows.get(r) == split and r in trained), key=lambda r: natural(str(r)))
            if found:
                count = sum(per_roi[r] for r in found)
                report.lines.append(
                    f"  a loader that matches by substring trains on {count} {split} patches: {', '.join(map(str, found))}"
                )


def _lacking(root: Path, items: Sequence[Item]) -> list[str]:
    """Patches with a missing partner, by what is missing."""
    by: dict[str, list[str]] = defaultdict(list)
    longest = max(len(item.files) for item in items)
    for item in items:
        if lacks := _lacks(item, longest):
            by[lacks].append(item.name)
    return [
        f"{root}: {len(names)} without {lacks}: {', '.join(names[:MISSES])}"
        + (f", and {len(names) - MISSES} more" if len(names) > MISSES else "")
        for lacks, names in sorted(by.items())
    ]


def _lacks(item: Item, longest: int) -> str:
    """What a patch should have and has not; nothing where it is whole."""
    if item.dataset == "sen12mscrts":
        s1, s2 = (sum(f"/{sensor}/" in path for path in item.files) for sensor in ("S1", "S2"))
        want = max(s1, s2, longest // 2)
        parts = [f"{want - have} of {want} {name} images" for name, have in (("S1", s1), ("S2", s2)) if have < want]
        return " and ".join(parts)
    kinds = sen12mscr.KINDS if item.dataset == "sen12mscr" else ("s1", "s2")
    return " and ".join(kind for kind in kinds if not any(f"/{kind}_{item.roi.number}/" in path for path in item.files))


# -- who belongs to which split ----------------------------------------------------------------------------------------


def _members(items: Sequence[Item], rows: Mapping[Roi, Split], rule: Rule) -> list[frozenset[Split]]:
    """The splits that load each item: one or none by the exact rule, several by the published one."""
    loads = {split: selected(rows, split, rule) for split in SPLITS}
    return [frozenset(s for s in SPLITS if item.roi in loads[s]) for item in items]


def _by_name(report: Report, items: Sequence[tuple[Path, Item]], members: Sequence[frozenset[Split]]) -> None:
    """One region in several splits, within a data set or across data sets."""
    seen: dict[tuple[str, int], Counter[tuple[str, Split]]] = defaultdict(Counter)
    names: dict[tuple[str, int], str] = {}
    for (_, item), inside in zip(items, members, strict=True):
        names[item.roi.ground] = max(names.get(item.roi.ground, ""), str(item.roi), key=len)
        seen[item.roi.ground].update((item.dataset, split) for split in inside)
    for ground, where in sorted(seen.items()):
        if len({split for _, split in where}) > 1:
            parts = [f"{dataset} {split} ({count} patches)" for (dataset, split), count in sorted(where.items())]
            report.leaks.append(f"{names[ground]} by name: {', '.join(parts)}")


# -- what the files say ------------------------------------------------------------------------------------------------


def _by_pixels(
    report: Report, items: Sequence[tuple[Path, Item]], members: Sequence[frozenset[Split]], progress: Progress | None
) -> None:
    """Open every file; compare outlines and pixels of items that different splits load."""
    outlines: list[tuple[int, Box]] = []
    digests: dict[str, list[int]] = defaultdict(list)
    for n, (root, item) in enumerate(items):
        boxes = set()
        for path in item.files:
            try:
                digest, box = _look(root / path)
            except (InputCorrupt, InputMissing, InputUnsupported, RefusedForSafety) as error:
                report.faults.append(f"{root / path}: {error.what}")
                continue
            boxes.add(None if box is None else tuple(round(side, 6) for side in box))
            if path == item.ground:
                digests[digest].append(n)
                outlines += [] if box is None else [(n, box)]
        if len(boxes) > 1:
            report.faults.append(f"{root}: the files of {item.name} do not show the same ground")
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
