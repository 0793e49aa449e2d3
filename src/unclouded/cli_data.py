"""`unclouded data`: check, download, pack, measure and build training data. Heavy imports live inside the commands."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unclouded.errors import InputUnsupported, SomeUnitsFailed, UsageError, VerificationFailed
from unclouded.text import lines

if TYPE_CHECKING:
    from unclouded.datasets.build import Built, Recipe
    from unclouded.datasets.check import Report
    from unclouded.datasets.index import Measure
    from unclouded.datasets.sen12mscr import SEN12MSCR
    from unclouded.datasets.sen12mscrts import SEN12MSCRTS
    from unclouded.datasets.split import Roi, Split
    from unclouded.datasets.stats import Stats
    from unclouded.sample import Level
    from unclouded.scenes.scene import Scene

app = typer.Typer(
    help="Check, download, pack, measure and build training data (SEN12MS-CR, SEN12MS-CR-TS, SEN1-2, and your own).\n\n"
    "Start with `unclouded data check ROOT`. From Python: `SEN12MSCR(ROOT, split='train')[0]` is a sample.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="No progress, only errors.")]
Root = Annotated[Path, typer.Argument(help="The folder that holds the ROIs... folders.")]
Roots = Annotated[list[Path], typer.Argument(help="Folders that hold ROIs... folders; several are also compared.")]
Splits = Annotated[Path | None, typer.Option(help="A csv roi,split,source instead of ROOT/splits.csv or the official table.")]
Rule = Annotated[str, typer.Option(help="exact, or as_published_substring: how the loaders in circulation match (it leaks).")]
Detector = Annotated[str | None, typer.Option(help="The cloud detector that tells covers; default: the first that fits.")]
Seed = Annotated[int, typer.Option(help="Seed of everything that draws.")]


@app.command()
def check(
    roots: Roots,
    rule: Rule = "exact",
    splits: Splits = None,
    pixels: Annotated[bool, typer.Option(help="Open every file; --no-pixels compares names only, in seconds.")] = True,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Count patches, name what is missing or broken, and find ground that splits share, by name, map and pixels.

    Several roots are checked against each other too: SEN12MS-CR trains on a region that SEN12MS-CR-TS tests on.
    Exit code 0: sound; 3: missing or broken files; 4: a leak, its regions are named.
    """
    from unclouded.datasets import check as checking

    chosen = _choice("--rule", rule, ("exact", "as_published_substring"))
    with _progress("checking", quiet) as heard:
        report = checking.check(roots, rule=chosen, splits=_table(splits), pixels=pixels, progress=heard)
    _print_report(report, as_json)
    report.raise_on_leaks()
    if report.faults:
        raise SomeUnitsFailed("Files are missing or broken: see the faults above.", do="download them again.")


@app.command()
def pack(
    root: Root,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the pack.")],
    split: Annotated[str, typer.Option(help="train, val, test or all.")] = "all",
    subset: Annotated[
        list[str] | None,
        typer.Option(help="rois=ROIs1158_spring/1,... or cover=0.2-0.6 or every=10. Repeatable: all must hold."),
    ] = None,
    dates: Annotated[int | None, typer.Option(help="Series: draw so many input dates and the least cloudy target.")] = None,
    sampler: Annotated[str, typer.Option(help="Series: corrected, or as_published (may draw the target).")] = "corrected",
    s1: Annotated[bool, typer.Option(help="Pack the radar too.")] = True,
    rule: Rule = "exact",
    splits: Splits = None,
    detector: Detector = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write samples as a memory-mapped pack, which loads many times faster; then read it back and compare digests.

    The same command goes on where an interrupted one stopped. From Python: `Packed(OUT)[0]` is a sample.
    """
    from unclouded.datasets import pack as packing

    wanted = Subset.of(subset or [])
    opened = Opening(root, split, _choice("--rule", rule, ("exact", "as_published_substring")), _table(splits), s1, detector)
    picked = _choice("--sampler", sampler, ("corrected", "as_published"))
    with _progress("measuring cover", quiet) as heard:
        source, items = opened.chosen(wanted, dates, picked, heard)
    with _progress("packing", quiet) as heard:
        packed = packing.pack(source, out, items=items, progress=heard)
    if broken := packed.verify():
        raise VerificationFailed(
            f"{len(broken)} samples do not read back as packed.", where=out, why=", ".join(broken[:5]) + ".",
            do="remove the pack and pack again.",
        )  # fmt: skip
    size = sum(file.stat().st_size for file in out.glob("*.npy"))
    _print(
        {"folder": str(out), "samples": len(packed), "bands": list(packed.bands), "megabytes": round(size / 1e6, 1)}, as_json
    )


@app.command()
def download(
    dataset: Annotated[str, typer.Argument(help="sen12mscr or sen12mscrts.")],
    to: Annotated[Path, typer.Option(help="Folder for the archives and what is in them.")],
    part: Annotated[
        list[str] | None, typer.Option(help="Only archives whose name holds this, e.g. winter, s1_, _test. Repeatable.")
    ] = None,
    run: Annotated[bool, typer.Option("--run", help="Fetch and unpack now, instead of printing the commands.")] = False,
    keep: Annotated[bool, typer.Option(help="Keep the archives after unpacking.")] = True,
    mirror: Annotated[str | None, typer.Option(help="Fetch the archives, by their names, from this address instead.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Print the commands that fetch a data set from its authors' server; --run does it, goes on after a break, and checks.

    SEN12MS-CR has 12 archives, SEN12MS-CR-TS 20, hundreds of gigabytes in all: --part winter is a start.
    """
    from unclouded.datasets import check as checking
    from unclouded.datasets import download as fetching

    chosen = fetching.archives(dataset, parts=part or [])
    if mirror is not None:
        chosen = [a._replace(url=f"{mirror.rstrip('/')}/{a.name}") for a in chosen]
    if not run:
        shell = fetching.commands(chosen, to)
        print(json.dumps(shell, indent=2) if as_json else "\n".join(shell))
        return
    for archive in chosen:
        done = to / f"{archive.name}.unpacked"
        if done.is_file():
            continue
        with _progress(archive.name, quiet) as heard:
            path = fetching.download(archive, to, progress=None if heard is None else _of_one(heard))
        count = fetching.unpack(path, to)
        done.write_text(f"{count}\n", encoding="utf-8")
        if not keep:
            path.unlink()
        _say(quiet, f"{archive.name}: {count} files")
    report = checking.check([to], pixels=False)
    _print_report(report, as_json)
    if report.faults and not part:
        raise SomeUnitsFailed("Not everything arrived.", where=to, do="remove the .unpacked notes of the parts and run again.")


@app.command()
def build(
    series: Annotated[list[Path], typer.Argument(help="One place each: a series folder, a manifest, a .SAFE.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the new data set; must hold none yet.")],
    layout: Annotated[str, typer.Option(help="triplets as SEN12MS-CR, or series as SEN12MS-CR-TS.")] = "triplets",
    s1: Annotated[list[Path] | None, typer.Option(help="Radar of a single place, where it does not lie beside it.")] = None,
    size: Annotated[int, typer.Option(help="Side of a patch in pixels.")] = 256,
    stride: Annotated[int | None, typer.Option(help="Pixels from patch to patch (128: half overlap); default: none.")] = None,
    region: Annotated[int, typer.Option(help="Side of a region in pixels; a region belongs to one split.")] = 2560,
    cloudy: Annotated[str, typer.Option(help="Cover of the cloudy image, LOW-HIGH.")] = "0.2-0.9",
    clear: Annotated[float, typer.Option(help="Most cover of the clear image.")] = 0.05,
    radar_days: Annotated[int, typer.Option(help="Most days between radar and image.")] = 6,
    shares: Annotated[str, typer.Option(help="Shares of regions for train, val, test.")] = "0.8,0.1,0.1",
    group: Annotated[str, typer.Option(help="Name of the group of regions: ROIs and four digits.")] = "ROIs9000",
    mask: Annotated[str, typer.Option(help="The cloud detector; auto takes SCL, else the first that fits.")] = "auto",
    bands: Annotated[str | None, typer.Option(help="Bands to store, e.g. B02,B03,B04,B08; default: all.")] = None,
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Cut your own scenes into a training set in the official layout, split by region, and check it for leaks.

    Per patch and season the least cloudy image is the target and a cloudy one the input. Patches that are not wholly
    measured, dead in a band or without radar are left out and counted. `SEN12MSCR(OUT, split='train')` reads the result.
    """
    from tempfile import TemporaryDirectory

    from unclouded.datasets import check as checking
    from unclouded.datasets.build import build_series, build_triplets

    kind = _choice("--layout", layout, ("triplets", "series"))
    recipe = _recipe(size, stride or size, region, _range("--cloudy", cloudy), clear, radar_days, shares, group, seed)
    if s1 and len(series) > 1:
        raise UsageError("--s1 goes with one place only.", do="lay the radar beside the images of each place.")
    with TemporaryDirectory() as scratch, _progress("building", quiet) as heard:
        scenes = [_scene(path, s1, bands, kind, mask, Path(scratch) / f"masks{n}") for n, path in enumerate(series)]
        if kind == "series":
            built = build_series(scenes, out, recipe, progress=heard)
        else:
            built = build_triplets(scenes, out, recipe, progress=heard)
    report = checking.check([out])
    _print({"folder": str(out), **_summary(built)}, as_json)
    report.raise_on_leaks()


@app.command()
def stats(
    roots: Roots,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for stats.csv and stats.png.")],
    splits: Splits = None,
    detector: Detector = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure cloud cover per split and month, and days between radar and images; as csv and a picture.

    Covers are measured once per image and detector and remembered: the same command goes on after a break.
    """
    from unclouded.datasets.stats import draw_picture, write_csv

    found: list[Stats] = []
    for root in roots:
        opened = Opening(root, "all", "exact", _table(splits), False, detector)
        with _progress(f"measuring {root.name}", quiet) as heard:
            found += opened.stats(heard)
    out.mkdir(parents=True, exist_ok=True)
    write_csv(found, out / "stats.csv")
    draw_picture(found, out / "stats.png")
    rows = [
        {"split": s.name, "images": len(s.covers), "mean_cover": float(s.covers.mean()), "measure": s.measure} for s in found
    ]
    if as_json:
        print(json.dumps({"csv": str(out / "stats.csv"), "picture": str(out / "stats.png"), "splits": rows}, indent=2))
        return
    for row in rows:
        print(f"{row['split']}: {row['images']} images, {row['mean_cover']:.1%} hidden on average ({row['measure']})")
    print(f"wrote {out / 'stats.csv'} and {out / 'stats.png'}")


# -- opening a root ----------------------------------------------------------------------------------------------------


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
                subset = replace(subset, cover=_range("--subset cover", value))
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
        return None if self.split == "all" else _choice("--split", self.split, ("train", "val", "test", "all"))

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
            covers = _covers(self.triplets(subset.rois, measured=True), heard) if subset.cover else [0.0] * len(triplets)
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
        _covers(whole, heard)
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
            _covers(triplets, heard)
            parts: list[str] = [s for s in SPLITS if any(rows.get(p.roi) == s for p in triplets.patches)]
            views = [replace(self, split=s).triplets(measured=True) for s in parts or ["all"]]
            return [of_triplets(v, f"{self.root.name} {s}") for v, s in zip(views, parts or ["all"], strict=True)]
        series = self.series(measured=True)
        _covers(series, heard)
        parts = [s for s in SPLITS if any(rows.get(x.roi) == s for x in series.series)]
        runs = [replace(self, split=s).series(measured=True) for s in parts or ["all"]]
        return [of_series(v, f"{self.root.name} {s}") for v, s in zip(runs, parts or ["all"], strict=True)]


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
    detect = MASKS[_choice("--detector", chosen, tuple(MASKS))].detect
    return Measure(chosen, lambda sample: HIDING[detect(sample).classes].astype(np.float32))


def _covers(data: SEN12MSCR | SEN12MSCRTS, heard: Heard | None) -> list[float]:
    """The mean cover of every item, measured where the index does not know it yet."""
    from unclouded.datasets.sen12mscrts import SEN12MSCRTS

    found = []
    for i in range(len(data)):
        each = data.covers(i) if isinstance(data, SEN12MSCRTS) else [data.cover(i)]
        found.append(sum(each) / len(each))
        if heard is not None:
            heard(i + 1, len(data))
    return found


def _scene(path: Path, s1: list[Path] | None, bands: str | None, kind: str, mask: str, scratch: Path) -> Scene:
    """One place, with its clouds where triplets are to be chosen by them."""
    from unclouded.masks.detect import detect
    from unclouded.scenes.open import open_scene

    scene = open_scene(path, s1 or None, bands=None if bands is None else [b.strip() for b in bands.split(",")])
    return scene if kind == "series" else detect(scene, mask=mask, out=scratch)


def _recipe(
    size: int,
    stride: int,
    region: int,
    cloudy: tuple[float, float],
    clear: float,
    days: int,
    shares: str,
    group: str,
    seed: int,
) -> Recipe:
    from unclouded.datasets.build import Recipe

    try:
        train, val, test = (float(part) for part in shares.split(","))
    except ValueError:
        raise UsageError(f"--shares {shares} is not three numbers.", do="write --shares 0.8,0.1,0.1.") from None
    if min(train, val, test) < 0 or train + val + test <= 0:
        raise UsageError(f"--shares {shares} cannot be dealt.", do="write --shares 0.8,0.1,0.1.")
    if len(group) != 8 or not group.startswith("ROIs") or not group[4:].isdigit():
        raise UsageError(f"--group {group} is no name of regions.", do="write ROIs and four digits, such as ROIs9000.")
    return Recipe(
        size=size, stride=stride, region=region, cloudy=cloudy, clear=clear, radar_days=days, shares=(train, val, test),
        group=group, seed=seed,
    )  # fmt: skip


# -- in and out --------------------------------------------------------------------------------------------------------

Heard = Callable[[int, int], None]  # done, of


def _table(path: Path | None) -> Mapping[Roi, Split] | None:
    from unclouded.datasets.split import read_table
    from unclouded.errors import InputMissing

    if path is None:
        return None
    if not path.is_file():
        raise InputMissing("There is no split table here.", where=path, do="give a csv with the columns roi,split,source.")
    return read_table(path.read_text(encoding="utf-8").splitlines(), where=str(path))


def _range(option: str, text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split("-"))
    except ValueError:
        low, high = 1.0, 0.0
    if not 0 <= low <= high <= 1:
        raise UsageError(f"{option} {text} is no range of cover.", do="write LOW-HIGH between 0 and 1, such as 0.2-0.6.")
    return low, high


def _choice(option: str, value: str, choices: tuple[str, ...]) -> Any:
    if value not in choices:
        raise UsageError(f"{option} {value} is not known.", do=f"use {', '.join(choices)}.")
    return value


@contextmanager
def _progress(what: str, quiet: bool) -> Iterator[Heard | None]:
    """A bar on stderr, where someone is watching."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of or None)


def _of_one(heard: Heard) -> Callable[[str, int, int], None]:
    return lambda _, done, of: heard(done, of)


def _say(quiet: bool, text: str) -> None:
    if not quiet:
        print(text, file=sys.stderr)


def _print_report(report: Report, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"counts": report.counts, "faults": report.faults, "leaks": report.leaks}, indent=2))
    else:
        print(report.text())


def _summary(built: Built) -> dict[str, Any]:
    """Patches per split, and what was left out and why."""
    from unclouded.datasets.split import SPLITS, parse_roi

    of = [built.splits[parse_roi(patch.rpartition("/")[0])] for patch in built.patches]
    return {
        "patches": len(built.patches), "regions": len({roi.ground for roi in built.splits}),
        **{split: of.count(split) for split in SPLITS}, "left_out": dict(built.left_out),
    }  # fmt: skip


def _print(found: dict[str, Any], as_json: bool) -> None:
    print(json.dumps(found, indent=2) if as_json else lines(found))
