"""A series of GeoTIFFs: a folder of dates, files, or a CSV/JSON manifest -> what lies where.

Layout of a series folder: one subfolder per date named YYYY-MM-DD with `s2.tif` or one file per band (B02.tif,
*_B02_10m.jp2, ...), and optionally `s1.tif`, `scl.tif`, `mask.tif`. A manifest has the columns date, s2 and optionally s1,
scl, mask and one per band; its paths are relative to it. Everything else a file says of itself is in `geotiff.py`.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from unclouded.bands import is_band
from unclouded.errors import InputCorrupt, InputMissing, InputUnsupported, RefusedForSafety, UsageError

RASTERS = (".tif", ".tiff", ".jp2")
COLUMNS = ("date", "s2", "s1", "scl", "mask")  # of a manifest, beside names of bands
MAX_MANIFEST = 64 * 2**20
_DATE = re.compile(r"(?<!\d)((?:19|20)\d\d)([-_]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])(?!\d)")
_BAND = re.compile(r"(?:^|[_.-])(B(?:0?[1-9]|1[0-2]|8A|08A))(?:_\d\dm)?$", re.IGNORECASE)
_RADAR = re.compile(r"(?:^|[_.-])(s1[abc]?|vv|vh|vvvh)(?:[_.-]|$)", re.IGNORECASE)
_SCL = re.compile(r"(?:^|[_.-])scl(?:[_.-]|$)", re.IGNORECASE)
_MASK = re.compile(r"(?:^|[_.-])(?:cloud_?)?mask(?:[_.-]|$)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """The files of one date, as found. `date` None: the files must say it themselves."""

    date: np.datetime64 | None
    name: str
    s2: tuple[Path, ...] = ()  # stacks, or one file per band
    bands: Mapping[Path, str] = field(default_factory=dict)  # band of a one-band file
    s1: tuple[Path, ...] = ()
    scl: Path | None = None
    mask: Path | None = None


def date_in(text: str) -> np.datetime64 | None:
    """The first date in a name: 2018-06-13, 20180613, 2018_06_13; None without one."""
    for found in _DATE.finditer(text.replace("T", " ").replace("t", " ")):
        try:
            return np.datetime64("-".join(found.group(1, 3, 4)), "D")
        except ValueError:  # 31 February
            continue
    return None


def is_safe(path: Path) -> bool:
    """Whether a path is a Sentinel product folder or its zip file."""
    name = path.name.upper()
    if path.is_dir():
        return name.endswith(".SAFE") or any(path.glob("MTD_MSIL*.xml"))
    return name.endswith(".ZIP")


def entries(given: str | PathLike[str]) -> list[Entry | Path]:
    """`entries_of` one path."""
    return entries_of([given])


def entries_of(given: Sequence[str | PathLike[str]]) -> list[Entry | Path]:
    """What paths given by the user hold together: entries of files, and paths of SAFE products.

    Rasters named one by one are grouped as those of a folder are. Raises InputMissing, RefusedForSafety for an address (a text
    as it was given: a Path takes a slash out of it), UsageError (a mask or SCL that belongs to none of the images).
    """
    found: list[Entry | Path] = []
    loose: list[Path] = []
    for text in given:
        path = _checked(text)
        if is_safe(path):
            found.append(path)
        elif path.is_dir():
            found += _folder(path)
        elif path.suffix.lower() in (".csv", ".json"):
            found += manifest(path)
        else:
            loose.append(path)
    single = _loose(list(dict.fromkeys(loose)))
    for entry in single:
        if len(given) > 1 and not (entry.s2 or entry.s1):
            _stray(entry)
    return [*found, *single]


def _checked(given: str | PathLike[str]) -> Path:
    if "://" in str(given) or str(given).startswith("/vsi"):
        raise RefusedForSafety(
            f"'{given}' is not a local file or folder.", why="addresses and virtual paths are never opened.",
            do="download it first and give its path.",
        )  # fmt: skip
    path = Path(given)
    if not path.exists():
        raise InputMissing(f"There is no file or folder {path}.", do="check the path.")
    return path


def _stray(entry: Entry) -> NoReturn:
    file = entry.scl or entry.mask
    raise UsageError(
        f"{'' if file is None else file.name} belongs to none of the images.", where=file,
        why="no image has its date in its name, or lies alone in its folder.",
        do="name it like its image, date included, or give a manifest.",
    )  # fmt: skip


def _folder(folder: Path) -> list[Entry | Path]:
    inside = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    products: list[Entry | Path] = [p for p in inside if is_safe(p)]
    if products:
        return products
    dated = [_dated(p, day) for p in inside if p.is_dir() and (day := date_in(p.name)) is not None]
    found = [entry for entry in dated if entry.s2 or entry.s1 or entry.mask or entry.scl]
    if found:
        return list(found)
    here = [p for p in inside if p.suffix.lower() in RASTERS]
    own = date_in(folder.name)
    if here and (own is not None or _is_one_date(here)):
        return [_dated(folder, own)]
    if here:
        return list(_loose(here))
    raise InputMissing(
        f"{folder.name} holds no images.", where=folder,
        why="expected subfolders named YYYY-MM-DD with s2.tif, .SAFE products, or GeoTIFF files.",
    )  # fmt: skip


def _is_one_date(files: Sequence[Path]) -> bool:
    """Several one-band files whose names differ in the band only."""
    named = [_BAND.search(p.stem) for p in files]
    return sum(m is not None for m in named) > 1 and len({date_in(p.stem) for p in files}) == 1


def _dated(folder: Path, day: np.datetime64 | None) -> Entry:
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in RASTERS and not p.name.startswith("."))
    return _entry(files, day, folder.name)


def _entry(files: Iterable[Path], day: np.datetime64 | None, name: str) -> Entry:
    s2, bands, s1, scl, mask = [], {}, [], None, None
    for file in files:
        kind = kind_of(file)
        if kind == "s1":
            s1.append(file)
        elif kind == "scl":
            scl = scl or file
        elif kind == "mask":
            mask = mask or file
        else:
            s2.append(file)
            if kind != "s2":
                bands[file] = kind
    if stacks := [f for f in s2 if f not in bands]:  # a stack beside one-band files is the image; the rest repeats it
        s2, bands = ([f for f in stacks if f.stem.lower() == "s2"] or stacks), ({} if stacks else bands)
    return Entry(date=day, name=name, s2=tuple(s2), bands=bands, s1=tuple(s1), scl=scl, mask=mask)


def kind_of(file: Path) -> str:
    """'s1', 'scl', 'mask', a band name as written, or 's2' (a stack), by the file's name."""
    stem = file.stem
    if found := _BAND.search(stem):
        return found.group(1)
    for kind, pattern in (("scl", _SCL), ("mask", _MASK), ("s1", _RADAR)):
        if pattern.search(stem):
            return kind
    return "s2"


def stem_of(file: Path) -> str:
    """A file's name without its band or what else tells it from the other files of its image; '' if nothing is left."""
    stem = file.stem
    for pattern in (_BAND, _SCL, _MASK):
        if found := pattern.search(stem):
            return stem[: found.start()]
    return stem


def _loose(files: Sequence[Path]) -> list[Entry]:
    """Files without folders of dates: those of one date in their names belong together, the others by folder and name."""
    groups: dict[Any, list[Path]] = {}
    for file in sorted(files):
        if (day := date_in(file.stem)) is not None:
            groups.setdefault(day, []).append(file)
    undated = [file for file in sorted(files) if date_in(file.stem) is None]
    for folder in dict.fromkeys(file.parent for file in undated):
        here = [file for file in undated if file.parent == folder]
        days = [day for day, group in groups.items() if any(file.parent == folder for file in group)]
        if len(days) == 1 and all(kind_of(file) in ("scl", "mask", "s1") for file in here):
            groups[days[0]] += here  # beside the only image
        else:
            groups |= _undated(folder, here)
    return [entry for key, group in groups.items() for entry in _images(group, _day(key))]


def _undated(folder: Path, files: Sequence[Path]) -> dict[Any, list[Path]]:
    """Files of a folder whose names tell no date, by image: all of them if they can be of one, else those named alike."""
    kinds = [kind for file in files if (kind := kind_of(file)) != "s1"]
    if kinds and len(set(kinds)) == len(kinds):
        return {(folder,): list(files)}
    groups: dict[Any, list[Path]] = {}
    for file in files:
        groups.setdefault((folder, file.stem if kind_of(file) == "s1" else stem_of(file)), []).append(file)
    return groups


def _day(key: Any) -> np.datetime64 | None:
    """The date of a group of files: that of their names, else that which their folder is named."""
    if isinstance(key, np.datetime64):
        return key
    return date_in(key[0].name) if _DATE.fullmatch(key[0].name) else None


def _images(files: Sequence[Path], day: np.datetime64 | None) -> list[Entry]:
    """The images among files of one date: several stacks are one each, with the SCL and mask that are named most like it."""
    whole = _entry(files, day, files[0].stem)
    stacks = [file for file in whole.s2 if file not in whole.bands]
    if len(stacks) < 2:
        return [whole]
    scl, mask = ([file for file in files if kind_of(file) == kind] for kind in ("scl", "mask"))
    return [
        replace(whole, name=stack.stem, s2=(stack,), s1=() if n else whole.s1, scl=_like(stack, scl), mask=_like(stack, mask))
        for n, stack in enumerate(stacks)
    ]


def _like(stack: Path, files: Sequence[Path]) -> Path | None:
    """The file whose name begins most like that of a stack."""
    return max(files, key=lambda file: alike(stack.stem, file.stem), default=None)


def alike(one: str, other: str) -> int:
    """How many letters two names have in common at their beginning."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


# -- manifests -----------------------------------------------------------------------------------------------------


def manifest(path: Path) -> list[Entry]:
    """Entries of a CSV or JSON manifest, in its order. Raises InputCorrupt, InputUnsupported, InputMissing, UsageError."""
    if path.stat().st_size > MAX_MANIFEST:
        raise RefusedForSafety(f"{path.name} is larger than {MAX_MANIFEST >> 20} MiB.", where=path)
    try:
        text = path.read_text("utf-8-sig")
        rows = _json_rows(text) if path.suffix.lower() == ".json" else list(csv.DictReader(io.StringIO(text)))
    except (UnicodeDecodeError, json.JSONDecodeError, csv.Error) as error:
        raise InputCorrupt(f"{path.name} cannot be read as a manifest.", where=path, why=str(error)) from error
    if not rows or not any(_columns(row) for row in rows):
        raise InputUnsupported(
            f"{path.name} is not a manifest of a series.", where=path,
            why="expected the columns date, s2 (or one per band) and optionally s1, scl, mask.",
        )  # fmt: skip
    _refuse_misspelt(path, {str(key).strip().lower() for row in rows for key in row if key})
    return [_row(path, n, row) for n, row in enumerate(rows, 1)]


def _refuse_misspelt(path: Path, columns: set[str]) -> None:
    """Further columns may stand in a manifest, but not one that is all but the name of one that is not there."""
    absent = [name for name in COLUMNS if name not in columns]
    for column in sorted(columns - set(COLUMNS)):
        if not is_band(column) and (near := difflib.get_close_matches(column, absent, 1, 0.65)):
            raise UsageError(
                f"{path.name} has a column '{column}'; did you mean '{near[0]}'?", where=path,
                why=f"columns are {', '.join(COLUMNS)}, and bands.", do="rename it.",
            )  # fmt: skip


def _json_rows(text: str) -> list[dict[str, Any]]:
    rows = json.loads(text)
    rows = rows.get("dates", []) if isinstance(rows, dict) else rows
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _columns(row: Mapping[str, Any]) -> list[str]:
    return [key for key in row if key and (key.lower() in ("s2", "s1") or is_band(key))]


def _row(path: Path, number: int, row: Mapping[str, Any]) -> Entry:
    values = {str(k).strip().lower(): str(v).strip() for k, v in row.items() if k and v not in (None, "")}
    day = date_in(values.get("date", ""))
    if "date" in values and day is None:
        raise InputCorrupt(
            f"{path.name}, row {number}: '{values['date']}' is not a date.", where=path, do="write dates as YYYY-MM-DD."
        )

    def file(key: str) -> Path | None:
        if key not in values:
            return None
        if "://" in values[key] or values[key].startswith("/vsi"):
            raise RefusedForSafety(f"{path.name}, row {number}: '{values[key][:80]}' is not a local file.", where=path)
        named = path.parent / values[key]
        if not named.exists():
            raise InputMissing(f"{path.name}, row {number}: there is no file {values[key]}.", where=named)
        return named

    whole, radar = file("s2"), file("s1")
    single = {f: key for key in values if key not in COLUMNS and is_band(key) and (f := file(key))}
    s2 = (whole,) if whole is not None else tuple(single)
    return Entry(
        date=day, name=values.get("date", f"row {number}"), s2=s2, bands={} if whole else single,
        s1=() if radar is None else (radar,), scl=file("scl"), mask=file("mask"),
    )  # fmt: skip
