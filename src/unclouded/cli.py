"""The command line: options in, calls of the library out. Heavy imports live inside the commands.

Exit codes: 0 done, 1 error, 2 usage, 3 some units failed, 4 a leak between splits; causes from 10 on (see errors.py);
130 interrupted. Progress and messages go to stderr, results to stdout; `--json` makes the results machine-readable.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unclouded import __version__, cli_batch, cli_data, cli_models, cli_research, options
from unclouded.errors import UncloudedError
from unclouded.text import lines

if TYPE_CHECKING:
    from unclouded.products.product import Product
    from unclouded.sample import Window

app = typer.Typer(
    name="unclouded",
    help="Remove clouds from Sentinel-2 images with the help of Sentinel-1 radar.\n\n"
    "Start with `unclouded demo`, then `unclouded remove SERIES --date YYYY-MM-DD --out DIR`.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(cli_data.app, name="data")
app.add_typer(cli_models.app, name="models")

WARNINGS = 10  # printed; all are in the manifest

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="No progress on stderr; results and errors remain.")]


def main() -> None:
    """The console script: errors become a few lines on stderr and an exit code, never a traceback."""
    try:
        app(standalone_mode=False)
    except UncloudedError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.code)
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted: finished blocks are kept; the same command with --resume goes on.", file=sys.stderr)
        sys.exit(130)
    except typer.Exit as end:
        sys.exit(end.exit_code)
    except Exception as error:
        if hasattr(error, "exit_code") and hasattr(error, "format_message"):  # typer's own usage errors
            print(f"error: {error.format_message()}\n  do: see `unclouded --help`.", file=sys.stderr)
            sys.exit(error.exit_code)
        raise


def _version(wanted: bool) -> None:
    if wanted:
        print(f"unclouded {__version__}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Options before the command."""


@app.command()
def remove(
    series: Annotated[list[str], typer.Argument(help="A series folder, a manifest, GeoTIFFs, .SAFE or .SAFE.zip.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write products to: OUT/<date>/.")],
    s1: Annotated[list[str] | None, typer.Option(help="Sentinel-1: a folder, a manifest or files. Repeatable.")] = None,
    date: Annotated[str | None, typer.Option(help="The date to restore, YYYY-MM-DD.")] = None,
    all_dates: Annotated[bool, typer.Option("--all-dates", help="Restore every date of the series.")] = False,
    model: Annotated[str | None, typer.Option(help="A method (see `unclouded models`), a run's folder or weights.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Weights (.safetensors) of a network.")] = None,
    fast: Annotated[bool, typer.Option("--fast", help="Networks: faster, slightly less exact arithmetic (bfloat16).")] = False,
    device: Annotated[
        str, typer.Option(help="Networks: cpu, cuda, cuda:N (one process then rebuilds), or auto: a CUDA card if there is one.")
    ] = "auto",
    scene_model: Annotated[
        Path | None, typer.Option(help="What an earlier run learned: a product's scene-model file, or a folder of products.")
    ] = None,
    setting: Annotated[list[str] | None, typer.Option("--set", help="A setting of the model, name=value. Repeatable.")] = None,
    mask: Annotated[str, typer.Option(help="auto, a detector (see docs), or a raster file that is final.")] = "auto",
    screen: Annotated[bool, typer.Option(help="Look for missed clouds by comparing the dates.")] = True,
    grow: Annotated[float, typer.Option(help="Metres by which detected clouds are widened.")] = 20.0,
    max_age: Annotated[
        int | None, typer.Option(min=0, help="Refuse pixels whose nearest clear date is further, in days.")
    ] = None,
    max_sigma: Annotated[float | None, typer.Option(help="Refuse pixels less sure than this, in reflectance.")] = None,
    fill_nodata: Annotated[bool, typer.Option("--fill-nodata", help="Also rebuild where the date has no data.")] = False,
    res: Annotated[int | None, typer.Option(help="10: one image on the 10 m grid instead of one per native size.")] = None,
    aoi: Annotated[str | None, typer.Option(help="Restrict to an area: GeoJSON file or WKT.")] = None,
    bbox: Annotated[str | None, typer.Option(help="Restrict to west,south,east,north in degrees.")] = None,
    datetime: Annotated[str | None, typer.Option(help="Use only dates within a/b, e.g. 2018-04-01/2018-09-30.")] = None,
    bands: Annotated[
        str | None, typer.Option(help="Bands to use, e.g. B02,B03,B04,B08; names the bands of files without names.")
    ] = None,
    level: Annotated[str | None, typer.Option(help="L1C or L2A, where the files do not say.")] = None,
    offset: Annotated[str, typer.Option(help="auto, none, or a number added to counts (-1000 from baseline 04.00).")] = "auto",
    s1_unit: Annotated[str, typer.Option(help="auto, db or linear.")] = "auto",
    s1_calibration: Annotated[str, typer.Option(help="sigma0 or gamma0.")] = "sigma0",
    max_s1_gap: Annotated[int, typer.Option(help="Pair radar within this many days.")] = 6,
    verify: Annotated[bool, typer.Option(help="Check the digests of SAFE products.")] = True,
    place: Annotated[str | None, typer.Option(help="Name of the place, used in file names.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything that draws.")] = 0,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: as many as cores, if there is work.")] = None,
    memory: Annotated[str | None, typer.Option(help="What all processes together may take, e.g. 4GiB.")] = None,
    zarr: Annotated[Path | None, typer.Option(help="Also write all products as one Zarr v3 group.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing product.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a run that was stopped.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done: blocks, bytes, time, memory.")] = False,
    as_json: Json = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Print every decision that was taken.")] = False,
    quiet: Quiet = False,
) -> None:
    """Write a cloud-free product for one date (or all) of a series, with maps of what was rebuilt and how sure it is."""
    from unclouded.models import DEFAULT
    from unclouded.remove import remove_clouds
    from unclouded.workers import keep_freed

    reading: dict[str, Any] = {
        "aoi": aoi, "bbox": options.box(bbox), "datetime": datetime, "bands": options.names(bands),
        "level": options.level(level), "offset": options.offset(offset),
        "s1_unit": options.choice("--s1-unit", s1_unit, ("auto", "db", "linear")),
        "s1_calibration": options.choice("--s1-calibration", s1_calibration, ("sigma0", "gamma0")), "max_s1_gap": max_s1_gap,
    }  # fmt: skip
    name, chosen, limit = model or DEFAULT, options.settings(setting), options.size(memory)
    date, grow = options.day(date), options.from_zero("--grow", grow)
    if zarr is not None:
        from unclouded.products.series import check_zarr

        check_zarr(zarr, overwrite=overwrite)
    if dry_run:
        from unclouded.plan import estimate
        from unclouded.ready import check_work, limits_of, loaded
        from unclouded.remove import chosen_dates, given_masks
        from unclouded.scenes.open import open_scene

        limits, remover = limits_of(max_age, max_sigma, fill_nodata), loaded(name, chosen, weights, device=device, fast=fast)
        given = given_masks(mask, date, all_dates)
        on = None if all_dates else date
        scene = open_scene(series, s1 or None, **reading, verify=False, place_id=place, given=given, on=on)
        days = chosen_dates(scene, date, all_dates)
        check_work(
            remover,
            scene,
            days,
            out,
            limits=limits,
            resolution=res,
            scene_model=scene_model,
            overwrite=overwrite,
            resume=resume,
        )
        report = estimate(
            scene, days, name, chosen, weights, mask=mask if given is None else "auto", screen=screen, grow=grow, device=device,
            fill_nodata=fill_nodata, resolution=res, scene_model=scene_model, memory=limit, workers=workers,
        )  # fmt: skip
        print(json.dumps(report, indent=2) if as_json else lines(report))
        return
    if workers == 1:
        keep_freed()
    products = remove_clouds(
        series, out, s1=s1 or None, date=date, all_dates=all_dates, model=name, settings=chosen, weights=weights,
        scene_model=scene_model, fast=fast, device=device, mask=mask, screen=screen, grow=grow, max_age=max_age,
        max_sigma=max_sigma, fill_nodata=fill_nodata, resolution=res, **reading, verify=verify, place=place, seed=seed,
        overwrite=overwrite, resume=resume, workers=workers, memory=limit, progress=_bar(quiet),
    )  # fmt: skip
    made = products if isinstance(products, list) else [products]
    if zarr is not None:
        from unclouded.products.series import write_zarr

        write_zarr(made, zarr, overwrite=overwrite)
    _warn(made, quiet)
    _report(made, as_json=as_json, verbose=verbose)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write to.")] = Path("demo-out"),
    data: Annotated[str | None, typer.Option(help="A real series folder instead of the simulated place.")] = None,
    date: Annotated[str | None, typer.Option(help="The date to restore; default: one about half covered.")] = None,
    model: Annotated[str | None, typer.Option(help="The method; see `unclouded models`.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another simulated place.")] = 7,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run the main job on a simulated place (or on --data DIR) and say what was written and how to look at it."""
    from unclouded.demo import run_demo

    day = options.day(date)
    product = run_demo(out, data=data, date=day, model=model, seed=seed, progress=_bar(quiet), say=_say(quiet))
    _report([product], as_json=as_json, verbose=False)


@app.command()
def mask(
    scenes: Annotated[list[str], typer.Argument(help="A .SAFE, GeoTIFFs, or a series (then screening compares the dates).")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The GeoTIFF to write.")] = Path("mask.tif"),
    date: Annotated[str | None, typer.Option(help="The date, if there are several.")] = None,
    detector: Annotated[str, typer.Option(help="auto, or a name; a wrong one lists them.")] = "auto",
    screen: Annotated[bool, typer.Option(help="Look for missed clouds by comparing the dates.")] = True,
    grow: Annotated[float, typer.Option(help="Metres by which clouds are widened.")] = 20.0,
    bands: Annotated[str | None, typer.Option(help="Bands to use, or names of the bands of files without.")] = None,
    level: Annotated[str | None, typer.Option(help="L1C or L2A, where the files do not say.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: as many as cores, if there is work.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing mask.")] = False,
    as_json: Json = False,
) -> None:
    """Write the cloud and shadow classes of a scene, and the detector's probability where it has one, as COGs."""
    from tempfile import TemporaryDirectory

    from unclouded.budget import crew
    from unclouded.masks.detect import detect, scores
    from unclouded.products.mask import check_mask, write_mask
    from unclouded.remove import chosen_dates
    from unclouded.scenes.open import open_scene

    day, grow = options.day(date), options.from_zero("--grow", grow)
    scene = open_scene(scenes, bands=options.names(bands), level=options.level(level), undated=True)
    check_mask(out, scene, overwrite=overwrite)
    days = chosen_dates(scene, day, all_dates=False)
    i, count = scene.index(days[0]), crew(scene, workers)

    def probability(window: Window) -> Any:
        found = look(window).probability
        return None if found is None else found[0]

    with TemporaryDirectory(prefix="unclouded-") as scratch:
        maps = Path(scratch) / "masks.u8"
        scene = detect(scene, mask=detector, targets=days, screen=screen, grow=grow, out=maps, workers=count)
        look = scores(scene, i, count)
        written = write_mask(out, scene, i, probability)
    record = scene.decisions["masks"]["dates"][str(days[0])]
    if as_json:
        print(json.dumps({"files": [str(p) for p in written], **record}, indent=2))
        return
    for path in written:
        print(f"wrote {path}")
    print(lines(record, indent=2))


@app.command()
def info(path: Annotated[str, typer.Argument(help="A file, a folder, a .SAFE or a .SAFE.zip.")], as_json: Json = False) -> None:
    """Tell what a file or folder is: sensor, level, baseline, offset decision, bands, dates, cover."""
    from unclouded.scenes.describe import describe

    found = describe(path)
    print(json.dumps(found, indent=2, default=str) if as_json else lines(found))


@app.command()
def doctor(as_json: Json = False) -> None:
    """Tell versions, GDAL drivers, cores, memory, bf16 and GPU: what to send along with a question."""
    from unclouded.doctor import examine

    found = examine()
    print(json.dumps(found, indent=2) if as_json else lines(found))


app.command()(cli_research.evaluate)
app.command()(cli_research.train)
app.command()(cli_research.adapt)
app.command()(cli_batch.plan)
app.command()(cli_batch.run)


def _report(products: list[Product], *, as_json: bool, verbose: bool) -> None:
    if as_json:
        print(json.dumps([{"folder": str(p.folder), "manifest": dict(p.manifest)} for p in products], indent=2, default=str))
        return
    for product in products:
        print(f"wrote {product.folder}")
        if verbose:
            print(lines(dict(product.manifest), indent=2))
    if products:
        page = next(iter(products[-1].folder.glob("*.html")), None)
        if page is not None:
            print(f"look at {page} in a browser")


def _warn(products: list[Product], quiet: bool) -> None:
    """What is worth a second look about the inputs, once for all products, on stderr."""
    found = [str(text) for p in products for text in p.manifest.get("decisions", {}).get("warnings", ())]
    once = [] if quiet else list(dict.fromkeys(found))
    for text in once[:WARNINGS]:
        print(f"warning: {text}", file=sys.stderr)
    if len(once) > WARNINGS:
        print(f"warning: and {len(once) - WARNINGS} more: see -v or the manifest", file=sys.stderr)


def _bar(quiet: bool) -> Any:
    from unclouded.remove import silent

    return silent if quiet or not sys.stderr.isatty() else _with_bar


def _with_bar(blocks: Iterable[Window], total: int, what: str) -> Iterator[Window]:
    from rich.console import Console
    from rich.progress import track

    yield from track(blocks, description=what, total=total, console=Console(stderr=True))


def _say(quiet: bool) -> Any:
    def say(text: str) -> None:
        if not quiet:
            print(text, file=sys.stderr)

    return say


if __name__ == "__main__":
    main()
