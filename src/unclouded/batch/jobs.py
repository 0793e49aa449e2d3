"""The job list: one JSON line per unit, one unit per product. Made once, read by every shard; what is done lies elsewhere."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unclouded.batch import stac
from unclouded.batch.checks import check_place, given_mask, needs_of, settled
from unclouded.errors import InputMissing, InputsContradict, UncloudedError, UsageError
from unclouded.products.journal import write_file
from unclouded.products.product import plain
from unclouded.sample import as_day
from unclouded.scenes.open import days_within, open_scene

if TYPE_CHECKING:
    from unclouded.models.needs import Needs

READING = ("aoi", "bbox", "level", "offset", "bands", "s1_unit", "s1_calibration", "max_s1_gap")  # of remove_clouds
COLUMNS = {"series", "s1", "place", "dates"}


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One product: the inputs and options of `remove_clouds`. All paths are absolute."""

    s2: tuple[str, ...]
    s1: tuple[str, ...] = ()
    date: str
    out: str
    options: Mapping[str, Any] = field(default_factory=dict)  # further arguments of remove_clouds

    @property
    def name(self) -> str:
        """Where it goes, as people know it: place/date."""
        return f"{Path(self.out).name}/{self.date}"

    @property
    def key(self) -> str:
        """What it is, as a name for files: equal units have equal keys."""
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]
        return f"{re.sub(r'[^A-Za-z0-9.-]+', '_', self.name)}-{digest}"


@dataclass(frozen=True, kw_only=True)
class Series:
    """One place to plan for: its images, its radar, its name, and the dates wanted (none: all)."""

    s2: tuple[Path, ...]
    s1: tuple[Path, ...] = ()
    place: str | None = None
    dates: tuple[str, ...] = ()


def series_of(path: Path) -> list[Series]:
    """What an argument of `plan` stands for: a series, or a CSV/JSON table of many with a column `series`.

    Further columns: s1, place, dates (several separated by blanks); paths are relative to the table.
    Raises InputMissing, UsageError.
    """
    if not path.exists():
        raise InputMissing(f"There is no file or folder {path}.", do="check the path.")
    rows = _table(path)
    if not rows or "series" not in rows[0]:
        return [Series(s2=(path.absolute(),))]
    if unknown := set().union(*rows) - COLUMNS:
        raise UsageError(
            f"The table has columns that mean nothing: {', '.join(sorted(map(str, unknown)))}.", where=path,
            do=f"use {', '.join(sorted(COLUMNS))}.",
        )  # fmt: skip
    return [_row(path.absolute().parent, row) for row in rows]


def _table(path: Path) -> list[dict[str, Any]]:
    if path.suffix.lower() not in (".csv", ".json") or not path.is_file():
        return []
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = json.loads(text) if path.suffix.lower() == ".json" else list(csv.DictReader(text.splitlines()))
    except (ValueError, RecursionError, csv.Error) as error:
        raise UsageError("The table cannot be read.", where=path, why=str(error)) from error
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _row(home: Path, row: Mapping[str, Any]) -> Series:
    texts = {name: "" if row.get(name) is None else row[name] for name in COLUMNS}
    if wrong := [name for name, text in texts.items() if not isinstance(text, str)]:
        raise UsageError(
            f"A row of the table has no text in the column {wrong[0]}.", where=home, why=str(row),
            do="write paths, names and dates as text; several paths are separated by semicolons, dates by blanks.",
        )  # fmt: skip
    paths = {name: tuple(home / part for part in texts[name].split(";") if part) for name in ("series", "s1")}
    if not paths["series"]:
        raise UsageError("A row of the table names no series.", where=home, why=str(dict(row)))
    return Series(
        s2=paths["series"], s1=paths["s1"], place=texts["place"] or None, dates=tuple(texts["dates"].replace(",", " ").split()),
    )  # fmt: skip


def units_of(
    series: Series,
    out: Path,
    options: Mapping[str, Any],
    *,
    needs: Needs,
    datetime: str | None = None,
    within: int | None = None,
) -> Iterator[Unit]:
    """The units of one place: one per date wanted. Reads metadata only. `needs`: those of the model.

    `datetime`: 'first/last' or a day, which dates are restored; `within`: days around each that its unit may read (None: all).
    Raises what `open_scene` and `check_place` raise, InputMissing for a wanted date that is not there, UsageError for one that
    is no date and for a place whose name no folder can have.
    """
    reading = {name: options[name] for name in READING if name in options} | {"given": given_mask(options), "verify": False}
    named = None if series.place is None else stac.place_name(series.place)
    scene = open_scene(series.s2, series.s1 or None, place_id=named, **reading)
    place = stac.place_name(scene.place.id)
    wanted = [scene.dates[scene.index(_day(text))] for text in series.dates] or list(scene.dates)
    days = list(filter(days_within(datetime), wanted))
    if days:
        check_place(scene, options, needs, spanned=within is not None or "datetime" in options)
    for day in days:
        span = {} if within is None else {"datetime": f"{day - within}/{day + within}"}
        yield Unit(
            s2=tuple(map(str, series.s2)), s1=tuple(map(str, series.s1)), date=str(day),
            out=str(out.absolute() / place), options=plain({**options, "place": place, **span}),
        )  # fmt: skip


def _day(text: str) -> np.datetime64:
    try:
        day = as_day(text)
    except ValueError:
        day = np.datetime64("NaT")
    if np.isnat(day):
        raise UsageError(f"'{text}' is not a date.", do="write YYYY-MM-DD in the column dates, several separated by blanks.")
    return day


def plan_units(
    sources: Sequence[Path | str],
    out: Path,
    options: Mapping[str, Any],
    *,
    datetime: str | None = None,
    within: int | None = None,
    files: Path | None = None,
    lists: Path = Path("jobs.jsonl.series"),
) -> tuple[list[Unit], list[tuple[str, UncloudedError]]]:
    """The units of many places, and the places that cannot be read: one bad tile does not stop the others.

    `sources`: what `series_of` takes, and STAC (stac.py), whose files lie below `files`; its manifests go to `lists`.
    Raises UsageError and InputMissing for options that no place can be planned with, InputsContradict where two series would
    write the same product.
    """
    days_within(datetime)
    options = settled(options)
    needs = needs_of(options)
    units: list[Unit] = []
    bad: list[tuple[str, UncloudedError]] = []
    found: list[Series] = []
    for source in map(str, sources):
        if stac.is_stac(source):
            try:
                named, missing = stac.places(source, lists.absolute(), files)
            except UncloudedError as error:
                named, missing = [], [(source, error)]
            found += [Series(s2=s2, place=place) for place, s2 in named]
            bad += missing
        else:
            found += series_of(Path(source))
    for series in found:
        try:
            units += list(units_of(series, out, options, needs=needs, datetime=datetime, within=within))
        except UncloudedError as error:
            bad.append((str(series.s2[0]), error))
    seen: dict[str, Unit] = {}
    for unit in units:
        other = seen.setdefault(unit.name, unit)
        if other is not unit:
            raise InputsContradict(
                f"Two series would write {unit.name}.", why=f"{other.s2[0]} and {unit.s2[0]}.",
                do="name the places apart in a table with the columns series and place.",
            )  # fmt: skip
    return units, bad


def write_jobs(path: Path, units: Sequence[Unit]) -> None:
    """Write a job list, in one step."""
    write_file(path, "".join(json.dumps(asdict(unit), sort_keys=True) + "\n" for unit in units).encode())


def read_jobs(path: Path) -> list[Unit]:
    """The units of a job list, in its order. Raises InputMissing, UsageError with the line that is wrong."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise InputMissing(f"There is no job list {path}.", do="make one with `unclouded plan`.") from None
    return [_unit(path, n, line) for n, line in enumerate(lines, 1) if line.strip()]


def _unit(path: Path, number: int, line: str) -> Unit:
    names = {f.name for f in fields(Unit)}
    try:
        raw = json.loads(line)
        if set(raw) - names:
            raise ValueError(f"unknown: {', '.join(sorted(set(raw) - names))}")
        return Unit(**{**raw, "s2": tuple(raw["s2"]), "s1": tuple(raw.get("s1", ()))})
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"Line {number} of the job list is no unit.", where=path, why=repr(error), do="make it again with `unclouded plan`."
        ) from error


def shard_of(units: Sequence[Unit], shard: str | None) -> list[Unit]:
    """The units of shard 'i/n', i from 1 to n: every n-th. Raises UsageError."""
    if shard is None:
        return list(units)
    i, _, n = shard.partition("/")
    if not (i.isdigit() and n.isdigit() and 1 <= int(i) <= int(n)):
        raise UsageError(f"--shard {shard} is not understood.", do="write i/n with i from 1 to n, e.g. --shard 3/20.")
    return list(units[int(i) - 1 :: int(n)])
