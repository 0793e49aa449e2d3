"""`unclouded plan` and `unclouded run`: many products from a job list, on one machine, on many, or on Dask."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from unclouded import options
from unclouded.errors import SomeUnitsFailed, UncloudedError

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="No progress on stderr; results and errors remain.")]


def plan(
    sources: Annotated[
        list[str],
        typer.Argument(help="Series folders, manifests, a table with a column `series`, or STAC: a JSON file or a search URL."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write products to: OUT/<place>/<date>/.")],
    jobs: Annotated[Path, typer.Option("--jobs", help="The job list to write.")] = Path("jobs.jsonl"),
    datetime: Annotated[str | None, typer.Option(help="Restore only dates within a/b (a alone: that day).")] = None,
    within: Annotated[int | None, typer.Option(min=1, help="Days around its date that a unit may read; default: all.")] = None,
    files: Annotated[Path | None, typer.Option(help="Where the files of STAC items lie: <id>.SAFE or <id>/<file>.")] = None,
    model: Annotated[str | None, typer.Option(help="The method; see `unclouded models`.")] = None,
    setting: Annotated[list[str] | None, typer.Option("--set", help="A setting of the model, name=value. Repeatable.")] = None,
    mask: Annotated[
        str, typer.Option(help="auto, a detector (see docs), or a raster file that is final for its place.")
    ] = "auto",
    screen: Annotated[bool, typer.Option(help="Look for missed clouds by comparing the dates.")] = True,
    grow: Annotated[float, typer.Option(help="Metres by which detected clouds are widened.")] = 20.0,
    max_age: Annotated[
        int | None, typer.Option(min=0, help="Refuse pixels whose nearest clear date is further, in days.")
    ] = None,
    max_sigma: Annotated[float | None, typer.Option(help="Refuse pixels less sure than this, in reflectance.")] = None,
    fill_nodata: Annotated[bool, typer.Option("--fill-nodata", help="Also rebuild where the date has no data.")] = False,
    res: Annotated[int | None, typer.Option(help="10: one image on the 10 m grid instead of one per native size.")] = None,
    bands: Annotated[str | None, typer.Option(help="Bands to use, in order, e.g. B02,B03,B04,B08.")] = None,
    level: Annotated[str | None, typer.Option(help="L1C or L2A, where the files do not say.")] = None,
    offset: Annotated[str, typer.Option(help="auto, none, or a number added to counts.")] = "auto",
    max_s1_gap: Annotated[int, typer.Option(help="Pair radar within this many days.")] = 6,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything that draws.")] = 0,
    as_json: Json = False,
) -> None:
    """List the products to make of many places and dates, one unit per line, for `unclouded run`."""
    from unclouded.batch.jobs import plan_units, write_jobs
    from unclouded.models import DEFAULT
    from unclouded.ready import limits_of

    chosen: dict[str, Any] = {
        "model": model or DEFAULT, "settings": options.settings(setting), "mask": mask, "screen": screen,
        "grow": options.from_zero("--grow", grow),
        "max_age": max_age, "max_sigma": max_sigma, "fill_nodata": fill_nodata, "resolution": res,
        "bands": options.names(bands), "level": options.level(level), "offset": options.offset(offset),
        "max_s1_gap": max_s1_gap, "seed": seed,
    }  # fmt: skip
    limits_of(max_age, max_sigma, fill_nodata)
    lists = jobs.with_name(jobs.name + ".series")
    units, bad = plan_units(sources, out, chosen, datetime=datetime, within=within, files=files, lists=lists)
    if bad and not units:
        raise bad[0][1] if len(bad) == 1 else _nothing(bad)
    write_jobs(jobs, units)
    places = len({unit.out for unit in units})
    if as_json:
        print(json.dumps({"jobs": str(jobs), "units": len(units), "places": places, "bad": [where for where, _ in bad]}))
    else:
        print(f"wrote {jobs}: {len(units)} units of {places} places")
    if bad:
        raise SomeUnitsFailed(
            f"{len(bad)} places or items cannot be read; the others are planned.",
            why=_listed(bad),
        )


def _listed(bad: list[tuple[str, UncloudedError]]) -> str:
    return "".join(f"\n  {where}: {error.what}" for where, error in bad)


def _nothing(bad: list[tuple[str, UncloudedError]]) -> SomeUnitsFailed:
    return SomeUnitsFailed(f"None of {len(bad)} places or items can be planned; no job list was written.", why=_listed(bad))


def run(
    jobs: Annotated[Path, typer.Argument(help="A job list of `unclouded plan`.")],
    shard: Annotated[str | None, typer.Option(help="i/n: only every n-th unit, from the i-th on; for job arrays.")] = None,
    executor: Annotated[str, typer.Option(help="local or dask.")] = "local",
    scheduler: Annotated[str | None, typer.Option(help="A running Dask scheduler, tcp://host:port.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Units at a time, on this machine.")] = 1,
    again: Annotated[bool, typer.Option("--again", help="Also try the units that were put aside.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what was made with other options or from other files; implies --again.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make the products of a job list; those that are there are passed over, so it may be stopped and repeated at will."""
    from unclouded.batch.run import run_jobs

    def say(text: str) -> None:
        if not quiet:
            print(text, file=sys.stderr)

    how: dict[str, Any] = {"executor": executor, "scheduler": scheduler, "workers": workers}
    found = run_jobs(jobs, shard=shard, again=again, overwrite=overwrite, **how, say=say)
    failed = {unit.name: why for unit, why in found.failed}
    if as_json:
        print(json.dumps({"done": [u.name for u in found.done], "there": [u.name for u in found.there], "failed": failed}))
    else:
        print(f"{len(found.done)} done, {len(found.there)} were there, {len(failed)} failed")
    if failed:
        raise SomeUnitsFailed(
            f"{len(failed)} units failed and were put aside.",
            where=f"{jobs}.failed",
            why="".join(f"\n  {name}: {why.splitlines()[0]}" for name, why in failed.items()),
            do="mend what can be mended, then repeat the command with --again.",
        )
