"""`unclouded data`: check, download, pack, measure and build training data. Heavy imports live inside the commands."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unclouded.errors import OutputFailed, SomeUnitsFailed, UsageError, VerificationFailed
from unclouded.options import choice, names
from unclouded.roots import Heard, Opening, Subset, cover_range
from unclouded.text import lines

if TYPE_CHECKING:
    from unclouded.datasets.build import Built, Recipe
    from unclouded.datasets.check import Report
    from unclouded.datasets.split import Roi, Split
    from unclouded.datasets.stats import Stats
    from unclouded.scenes.scene import Scene

app = typer.Typer(
    help="Check, download, pack, measure and build training data (SEN12MS-CR, SEN12MS-CR-TS, SEN1-2, and your own).\n\n"
    "Start with `unclouded data check ROOT`. From Python: `SEN12MSCR(ROOT, split='train')[0]` is a sample.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="No progress on stderr; results and errors remain.")]
Root = Annotated[Path, typer.Argument(help="The folder that holds the ROIs... folders.")]
Roots = Annotated[list[Path], typer.Argument(help="Folders that hold ROIs... folders; several are also compared.")]
Splits = Annotated[Path | None, typer.Option(help="A csv roi,split,source instead of ROOT/splits.csv or the official table.")]
Rule = Annotated[str, typer.Option(help="exact, or as_published_substring: how the loaders in circulation match (it leaks).")]
Detector = Annotated[str | None, typer.Option(help="The cloud detector that tells covers; default: the first that fits.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of everything that draws.")]


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

    chosen = choice("--rule", rule, ("exact", "as_published_substring"))
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
    opened = Opening(root, split, choice("--rule", rule, ("exact", "as_published_substring")), _table(splits), s1, detector)
    picked = choice("--sampler", sampler, ("corrected", "as_published"))
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
    series: Annotated[list[str], typer.Argument(help="One place each: a series folder, a manifest, a .SAFE.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the new data set; must hold none yet.")],
    layout: Annotated[str, typer.Option(help="triplets as SEN12MS-CR, or series as SEN12MS-CR-TS.")] = "triplets",
    s1: Annotated[list[str] | None, typer.Option(help="Radar of a single place, where it does not lie beside it.")] = None,
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

    kind = choice("--layout", layout, ("triplets", "series"))
    recipe = _recipe(size, stride or size, region, cover_range("--cloudy", cloudy), clear, radar_days, shares, group, seed)
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
    if out.exists() and not out.is_dir():  # before hours of measuring
        raise OutputFailed("The statistics need a folder, and there is a file.", where=out, do="give another --out.")
    found: list[Stats] = []
    for root in roots:
        opened = Opening(root, "all", "exact", _table(splits), False, detector)
        with _progress(f"measuring {root.name}", quiet) as heard:
            found += opened.stats(heard)
    _write_stats(found, out)
    rows = [
        {"split": s.name, "images": len(s.covers), "mean_cover": float(s.covers.mean()), "measure": s.measure} for s in found
    ]
    if as_json:
        print(json.dumps({"csv": str(out / "stats.csv"), "picture": str(out / "stats.png"), "splits": rows}, indent=2))
        return
    for row in rows:
        print(f"{row['split']}: {row['images']} images, {row['mean_cover']:.1%} hidden on average ({row['measure']})")
    print(f"wrote {out / 'stats.csv'} and {out / 'stats.png'}")


def _write_stats(found: list[Stats], out: Path) -> None:
    """stats.csv and stats.png. Raises OutputFailed."""
    from unclouded.datasets.stats import draw_picture, write_csv

    try:
        out.mkdir(parents=True, exist_ok=True)
        write_csv(found, out / "stats.csv")
        draw_picture(found, out / "stats.png")
    except OSError as error:
        raise OutputFailed("The statistics could not be written.", where=out, why=str(error)) from error


def _scene(path: str, s1: list[str] | None, bands: str | None, kind: str, mask: str, scratch: Path) -> Scene:
    """One place, with its clouds where triplets are to be chosen by them."""
    from unclouded.masks.detect import detect
    from unclouded.scenes.open import open_scene

    scene = open_scene(path, s1 or None, bands=names(bands))
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


def _table(path: Path | None) -> Mapping[Roi, Split] | None:
    from unclouded.datasets.split import read_table_file

    return None if path is None else read_table_file(path)


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
