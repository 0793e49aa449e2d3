"""Sentinel-1 backscatter in GeoTIFFs: polarisations, unit, calibration, orbit, and the pairing with Sentinel-2 dates.

Terrain-corrected backscatter is expected, sigma0 or gamma0, in dB or linear power. What is missing is a mask, never a value:
NaN, declared nodata, -9999 and the zeros of a swath's border are invalid and never become the darkest surface.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from unclouded.errors import InputMissing, InputsContradict, InputUnsupported, UsageError
from unclouded.raster import grid_of, opened, overlap
from unclouded.sample import Days
from unclouded.scenes.frames import frames, polarisations
from unclouded.scenes.geotiff import tag, time_of
from unclouded.scenes.series import Entry, date_in, entries_of
from unclouded.scenes.stored import Pixels, StoredRadar, Unit, glimpse

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox
    from odc.geo.geom import BoundingBox
    from rasterio.io import DatasetReader

MISSING = (-9999.0, -32768.0)
WARN_DAYS = 3
ENOUGH = 64  # pixels that tell a unit
_ORBIT_TAGS = ("RELATIVE_ORBIT", "relativeOrbitNumber", "relativeOrbitNumber_start", "sat:relative_orbit")
_DIRECTION_TAGS = ("ORBIT_DIRECTION", "sat:orbit_state", "orbitProperties_pass", "PASS", "ORBIT_PASS")
_CALIBRATION_TAGS = ("CALIBRATION", "BACKSCATTER", "s1:calibration")
_INCIDENCE_TAGS = ("INCIDENCE_ANGLE", "incidence_angle", "view:incidence_angle")
_PRODUCT = re.compile(r"S1([ABCD])_.*?_\d{8}T\d{6}_(?:\d{8}T\d{6}_)?(\d{6})(?:_|$)")
_FIRST_ORBIT = {"A": 73, "B": 27, "C": 172}  # relative = (absolute - first) mod 175 + 1
_PASS = re.compile(r"(?:^|[_.-])(ASC|DES)(?:C?ENDING|C)?(?:[_.-]|$)", re.IGNORECASE)


def radars_of(
    found: Sequence[Entry], *, unit: str = "auto", calibration: str = "sigma0", embedded: bool = False
) -> list[StoredRadar]:
    """Acquisitions of series entries, by date, each once. `embedded`: the entry's date is that of its Sentinel-2 image.

    Raises InputUnsupported (no VV and VH, GRD in slant range), InputMissing (no date), InputsContradict (values that cannot be
    in the `unit` given), UsageError (unknown option).
    """
    if unit not in ("auto", "db", "linear") or calibration not in ("sigma0", "gamma0"):
        raise UsageError(f"--s1-unit {unit} --s1-calibration {calibration}: expected auto|db|linear and sigma0|gamma0.")
    acquired = [frame for entry in found if entry.s1 for frame in frames(entry)]
    radars = [_radar(frame, unit, calibration, embedded) for frame in acquired]
    once: dict[tuple[Any, ...], StoredRadar] = {}
    for radar in radars:
        once.setdefault((radar.time, radar.orbit, repr(radar.grid)) if len(radar.time) > 10 else (radar.vv,), radar)
    return sorted(once.values(), key=lambda r: (r.date, r.time, r.name))


def radar_entries(paths: Sequence[Path]) -> list[Entry]:
    """Entries of the paths given as radar: files without a telling name are radar, too."""
    found: list[Entry] = []
    for entry in entries_of(paths):
        if isinstance(entry, Path):
            raise InputUnsupported(
                f"{entry.name} is a raw product, not terrain-corrected backscatter.", where=entry,
                do="make sigma0 GeoTIFFs first (SNAP terrain correction, HyP3, openEO, Earth Engine).",
            )  # fmt: skip
        files = entry.s1 or entry.s2
        if files:
            found.append(Entry(date=entry.date, name=entry.name, s1=tuple(files)))
    if not found:
        raise InputMissing("There is no Sentinel-1 image among the radar inputs.", where=", ".join(map(str, paths)))
    return found


def _radar(entry: Entry, unit: str, calibration: str, embedded: bool) -> StoredRadar:
    datasets = [opened(file) for file in entry.s1]
    tags = {k: v for d in reversed(datasets) for k, v in d.tags().items()}
    names = [entry.name, *(f.name for f in entry.s1)]
    where, warnings = _polarisations(datasets, entry.s1)
    first = datasets[0]
    time, day, dated = _day(entry, tags, embedded)
    missing = tuple(dict.fromkeys([*(float(d.nodata) for d in datasets if d.nodata not in (None, 0)), *MISSING]))
    stated = tag(tags, _CALIBRATION_TAGS).lower()
    kind: Literal["sigma0", "gamma0"] = "gamma0" if "gamma" in stated or (not stated and calibration == "gamma0") else "sigma0"
    found_unit, why = _unit(where, missing, unit, tags)
    return StoredRadar(
        date=day, time=time, vv=where["VV"], vh=where["VH"], incidence=where.get("INCIDENCE") or _angle(tags),
        grid=grid_of(first), shape=first.shape, unit=found_unit, unit_evidence=why, calibration=kind, missing=missing,
        orbit=_orbit(tags, names), direction=_direction(tags, names), warnings=tuple(warnings + dated),
    )  # fmt: skip


def _day(entry: Entry, tags: Mapping[str, str], embedded: bool) -> tuple[str, np.datetime64, list[str]]:
    """Time, day, warnings. A radar file beside a Sentinel-2 image has its own time; the folder's date is the last resort."""
    time = time_of(tags)
    named = next((d for f in entry.s1 if (d := date_in(f.stem)) is not None), None)
    day = date_in(time) if time else None
    if not embedded and entry.date is not None:
        if day is not None and day != entry.date:
            return time, day, [f"{entry.name}: its tags say {day}, which is used"]
        return time, entry.date, []
    if day is not None or named is not None:
        return time, (day if day is not None else named), []  # type: ignore[return-value]
    if entry.date is None:
        raise InputMissing(
            f"{entry.name} has no date.", where=entry.s1[0],
            do="put the date into its name (20180613), a folder named YYYY-MM-DD, or the tag ACQUISITION_UTC.",
        )  # fmt: skip
    return "", entry.date, [f"{entry.name}: no acquisition time; the date of its folder is used"]


def _polarisations(datasets: Sequence[DatasetReader], files: Sequence[Path]) -> tuple[dict[str, Pixels], list[str]]:
    """VV, VH and (if there) INCIDENCE by description or file name, else in this order with a warning."""
    where: dict[str, Pixels] = {}
    unnamed: list[Pixels] = []
    for dataset, file in zip(datasets, files, strict=True):
        for n, name in zip(dataset.indexes, polarisations(dataset, file), strict=True):
            if name:
                where.setdefault(name, Pixels(str(file), n))
            else:
                unnamed.append(Pixels(str(file), n))
    if "VV" in where and "VH" in where:
        return where, []
    if not ({"VV", "VH"} & set(where)) and len(unnamed) >= 2:
        text = f"{files[0].name}: bands without names; taken as VV, VH in this order"
        return where | {"VV": unnamed[0], "VH": unnamed[1]}, [text]
    raise InputUnsupported(
        f"{files[0].name} does not have VV and VH.", where=files[0],
        why=f"bands: {[d or '-' for dataset in datasets for d in dataset.descriptions]}.",
        do="give dual-polarised VV+VH backscatter, with the bands named.",
    )  # fmt: skip


def _unit(where: Mapping[str, Pixels], missing: Sequence[float], unit: str, tags: Mapping[str, str]) -> tuple[Unit, str]:
    """The unit of the values and why; a unit given is held against a few windows. Raises InputsContradict."""
    seen = [v for name in ("VV", "VH") for v in glimpse(opened(where[name].path), [where[name].band], missing)]
    values = np.concatenate(seen)
    values = values[values != 0]
    if unit != "auto":
        _contradicted(unit, values, where["VV"].path)
        return ("db" if unit == "db" else "linear"), f"--s1-unit {unit}"
    stated = tag(tags, ("UNITS", "UNIT", "units")).lower()
    if values.size:
        negative = bool((values < 0).any())
        return ("db", "values below 0") if negative else ("linear", "no value below 0 in the windows looked at")
    return ("db" if stated in ("db", "decibel") else "linear"), f"no valid pixel seen; tag says '{stated}'"


def _contradicted(unit: str, values: NDArray[Any], file: str) -> None:
    """Raises InputsContradict where values cannot be in the unit given: power has few values below 0 (noise taken off), and
    decibels have some, as natural ground is darker than 0 dB.
    """
    if values.size < ENOUGH:
        return
    below, middle = float((values < 0).mean()), float(np.median(values))
    other = "db" if unit == "linear" else "linear"
    if (unit == "linear" and below > 0.5) or (unit == "db" and below == 0 and middle < 1):
        raise InputsContradict(
            f"--s1-unit {unit} does not fit the values of {Path(file).name}.", where=file,
            why=f"{below:.0%} of them lie below 0, their median is {middle:.3g}: {'decibels' if other == 'db' else 'power'}.",
            do=f"leave --s1-unit out, or give {other}.",
        )  # fmt: skip


def _angle(tags: Mapping[str, str]) -> float | None:
    try:
        angle = float(tag(tags, _INCIDENCE_TAGS))
    except ValueError:
        return None
    return angle if 10 < angle < 70 else None


def _orbit(tags: Mapping[str, str], names: Sequence[str]) -> int:
    text = tag(tags, _ORBIT_TAGS)
    if text.isascii() and text.isdigit() and 1 <= int(text) <= 175:
        return int(text)
    for name in names:
        if (found := _PRODUCT.search(name)) and found.group(1) in _FIRST_ORBIT:
            return (int(found.group(2)) - _FIRST_ORBIT[found.group(1)]) % 175 + 1
    return -1


def _direction(tags: Mapping[str, str], names: Sequence[str]) -> str:
    text = tag(tags, _DIRECTION_TAGS).upper()
    if not text:
        text = next((found.group(1).upper() for name in names if (found := _PASS.search(name))), "")
    return {"ASC": "ascending", "DES": "descending"}.get(text[:3], "")


def check_place(radars: Sequence[StoredRadar], grid: GeoBox | None, shape: tuple[int, int]) -> None:
    """Radar must lie over the scene. Raises InputsContradict (another place), InputUnsupported (pixels only, other size)."""
    for radar in radars:
        if grid is None or radar.grid is None:
            if grid is not None or radar.grid is not None or radar.shape != shape:
                raise InputsContradict(
                    f"{radar.name} cannot be laid over the Sentinel-2 images.", where=radar.vv.path,
                    why=f"without coordinates on both sides sizes must agree: {radar.shape} against {shape} pixels.",
                    do="give georeferenced files.",
                )  # fmt: skip
            continue
        if not overlap(grid, radar.grid):
            raise InputsContradict(
                f"{radar.name} shows another place than the Sentinel-2 images.", where=radar.vv.path,
                why=f"it covers {extent(radar.grid.boundingbox)}; the scene {extent(grid.boundingbox)}.",
                do="give radar of this place.",
            )  # fmt: skip


def extent(box: BoundingBox) -> str:
    """A box in words."""
    return f"x {box.left:.0f}..{box.right:.0f}, y {box.bottom:.0f}..{box.top:.0f} in {box.crs}"


def pair(dates: Days, radars: Sequence[StoredRadar], max_gap: int) -> list[dict[str, Any]]:
    """Per Sentinel-2 date the acquisition nearest in time within `max_gap` days; at equal gaps the usual orbit direction."""
    known = [r.direction for r in radars if r.direction]
    usual = max(sorted(set(known)), key=known.count) if known else ""
    table = []
    for day in dates:
        gaps = [(abs(int((r.date - day).astype(int))), r.direction != usual, k) for k, r in enumerate(radars)]
        gap, _, k = min(gaps, default=(max_gap + 1, False, -1))
        if gap > max_gap:
            table.append({"date": str(day), "s1": None, "warning": f"no acquisition within {max_gap} days"})
            continue
        row: dict[str, Any] = {"date": str(day), "s1": str(radars[k].date), "days": int((radars[k].date - day).astype(int))}
        row |= {"file": radars[k].name} | ({"direction": radars[k].direction} if radars[k].direction else {})
        table.append(row | ({"warning": f"{gap} days apart"} if gap > WARN_DAYS else {}))
    return table


def near(dates: Days, radars: Sequence[StoredRadar], max_gap: int) -> list[StoredRadar]:
    """The acquisitions within `max_gap` days of any Sentinel-2 date."""
    return [r for r in radars if int(np.abs((dates - r.date).astype(int)).min()) <= max_gap]
