"""open_scene: paths in, a Scene out. Only metadata is read (and a few small windows to check it); decisions are recorded."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from unclouded.bands import L1C, band_name
from unclouded.errors import InputMissing, InputsContradict, InputUnsupported, UsageError
from unclouded.raster import overlap
from unclouded.regrid import lattice_step
from unclouded.sample import Days, Level, Place, Window, as_day
from unclouded.scenes.area import geometry, outline_note, outline_of, window_of
from unclouded.scenes.geotiff import read_image
from unclouded.scenes.given import Masks, check_masks, mask_kinds, with_masks
from unclouded.scenes.mosaic import one_per_day
from unclouded.scenes.offset import settle
from unclouded.scenes.scene import Scene
from unclouded.scenes.sentinel1 import check_place, near, pair, radar_entries, radars_of
from unclouded.scenes.sentinel2 import read_safe
from unclouded.scenes.series import RASTERS, Entry, entries_of, stem_of
from unclouded.scenes.source import FileSource, cut
from unclouded.scenes.stored import StoredImage, StoredRadar
from unclouded.text import file_name

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

Paths = str | PathLike[str] | Sequence[str | PathLike[str]]


def open_scene(
    s2: Paths,
    s1: Paths | None = None,
    *,
    bands: Sequence[str] | None = None,
    aoi: str | PathLike[str] | None = None,
    bbox: Sequence[float | str] | None = None,
    level: Level | None = None,
    offset: str | float = "auto",
    s1_unit: Literal["auto", "db", "linear"] = "auto",
    s1_calibration: Literal["sigma0", "gamma0"] = "sigma0",
    max_s1_gap: int = 6,
    given: Masks | None = None,
    datetime: str | None = None,
    verify: bool = True,
    place_id: str | None = None,
    undated: bool = False,
    on: Any = None,
) -> Scene:
    """Open a place over time: a series folder, files, a manifest, or .SAFE products, with radar where there is some.

    `s2`, `s1`: a path or several; radar beside the images is found without `s1`. `bands`: which (or, for stacks without
    names, what they are called, in order). `aoi`: GeoJSON or WKT, a file or the text; `bbox`: west, south, east, north in
    degrees, or with a CRS as fifth part; both snap outwards to the coarsest pixels, and pixels that an `aoi` does not touch
    have no data. `given`: a mask file for all dates or {date: file}. `datetime`: 'first/last', either may be empty or '..'.
    `verify`: check the digests of SAFE products. `undated`: a single image may lack a date.
    `on`: the date whose grid is taken (None: the most common one); dates on another lattice are interpolated onto it.
    Reads metadata only, holds no pixels, and can be pickled. Raises UncloudedError in words.
    """
    found = entries_of(_paths(s2))
    stored = read_images(found, bands, verify=verify, need_offset=offset == "auto", undated=undated and len(found) == 1)
    images, dropped = one_per_day(_within(stored, datetime))
    images, chosen = _bands(images, bands)
    level, level_note = _level(images, level)
    images, offsets = settle(images, offset)
    grid, size = _grid(images, on)
    area = geometry(aoi, bbox)
    window = _window(images, grid, size, area)
    dates = np.array([image.date for image in images], "datetime64[D]")
    radars, far, embedded = _radars(found, s1, dates, s1_unit, s1_calibration, max_s1_gap, grid, size, window)
    images = with_masks(images, given)
    partly = check_masks(images, None if grid is None else cut(grid, window), size)
    place = Place(id=place_id or _name(images, s2), bands=chosen, level=level, grid=None if grid is None else cut(grid, window))
    source = FileSource(
        bands=chosen, shape=(window.height, window.width), grid=place.grid, corner=(window.row, window.col),
        images=tuple(images), radars=tuple(radars), outline=outline_of(area, grid) if bbox is None else None,
    )  # fmt: skip
    decisions = {
        "level": {"level": level, "evidence": level_note},
        "offset": offsets,
        "grid": _grid_note(images, source),
        "dates": dropped,
        "radar": [_radar_note(r) for r in radars] + far,
        "pairing": pair(dates, radars, max_s1_gap) if radars or s1 is not None or embedded else [],
        "verified": {image.name: image.verified for image in images if image.verified is not None},
        "mask_kind": mask_kinds(images),
        "files": sorted({f for i in images for f in i.files} | {p.path for r in radars for p in (r.vv, r.vh)}),
        "products": [{"date": str(i.date), "name": i.name, "baseline": i.baseline, **i.facts} for i in images],
    }
    decisions["warnings"] = _warnings(decisions, radars) + partly
    return Scene(
        place=place, shape=source.shape, dates=dates, source=source,
        s1_dates=np.array([r.date for r in radars], "datetime64[D]") if radars else None,
        s1_orbits=np.array([r.orbit for r in radars], np.int16) if radars else None,
        decisions=decisions,
    )  # fmt: skip


def _paths(paths: Paths) -> list[Path]:
    given = [paths] if isinstance(paths, str | PathLike) else list(paths)
    if not given:
        raise UsageError("No input was given.", do="give a series folder, files, a manifest or .SAFE products.")
    refused = [str(p) for p in given if "://" in str(p)]
    return [Path(p) for p in given] if not refused else [_address(refused[0])]


def _address(text: str) -> Path:
    from unclouded.errors import RefusedForSafety

    raise RefusedForSafety(
        f"'{text[:80]}' is not a local file or folder.", why="addresses are never opened.", do="download it first."
    )


def read_images(
    found: Sequence[Entry | Path], bands: Sequence[str] | None, *, verify: bool, need_offset: bool, undated: bool = False
) -> list[StoredImage]:
    """What every Sentinel-2 image says of itself, by date. Raises InputMissing if there is none."""
    images = []
    for entry in found:
        if isinstance(entry, Path):
            images.append(read_safe(entry, bands=bands, verify_digests=verify, need_offset=need_offset))
        elif entry.s2:
            images.append(read_image(entry, bands=bands, undated=undated))
    if not images:
        raise InputMissing(
            "There is no Sentinel-2 image among the inputs.", where=", ".join(str(_where(e)) for e in found[:5]),
            do="give a series folder (YYYY-MM-DD/s2.tif), GeoTIFFs, a manifest or .SAFE products.",
        )  # fmt: skip
    return sorted(images, key=lambda i: (i.date, i.name))


def _where(entry: Entry | Path) -> object:
    return entry if isinstance(entry, Path) else entry.name


def days_within(span: str | None) -> Callable[[np.datetime64], bool]:
    """Whether a day lies within 'first/last', both included; either may be empty or '..', and one day alone is that day.

    None: every day does. Raises UsageError.
    """
    parts = ("", "") if span is None else span.split("/")
    try:
        first, last = (parts[0], parts[-1]) if len(parts) <= 2 else ("?", "?")
        low = None if first in ("", "..") else as_day(first)
        high = None if last in ("", "..") else as_day(last)
    except ValueError:
        raise UsageError(
            f"--datetime {span} is not understood.", do="write 2018-05-01/2018-07-31, or 2018-05-01/.. ."
        ) from None
    return lambda day: bool((low is None or day >= low) and (high is None or day <= high))


def _within(images: list[StoredImage], span: str | None) -> list[StoredImage]:
    wanted = days_within(span)
    inside = [image for image in images if wanted(image.date)]
    if not inside:
        raise InputMissing(
            f"No Sentinel-2 image lies within {span}.", why=f"the series runs from {images[0].date} to {images[-1].date}."
        )
    return inside


def _bands(images: list[StoredImage], bands: Sequence[str] | None) -> tuple[list[StoredImage], tuple[str, ...]]:
    """The images cut to the bands asked for, else to those they all have; dates that differ are not passed over."""
    common = [b for b in L1C if all(b in image.bands for image in images)]
    chosen = tuple(band_name(b) for b in bands) if bands is not None else tuple(common)
    for image in images:
        if missing := [b for b in chosen if b not in image.bands]:
            raise InputMissing(
                f"{image.date} has no band {', '.join(missing)}.", where=image.files[0] if image.files else image.name,
                why=f"it has {', '.join(image.bands)}.", do="leave the band out of --bands, or complete the series.",
            )  # fmt: skip
    least = min(images, key=lambda image: len(image.bands))
    if bands is None and common and (extra := [b for b in L1C if any(b in i.bands for i in images) and b not in common]):
        raise InputsContradict(
            f"The dates have different bands: {least.date} has {', '.join(least.bands)}.", where=least.name,
            why=f"other dates have {', '.join(extra)} too.",
            do=f"complete the date, leave it out, or choose the common bands with --bands {','.join(common)}.",
        )  # fmt: skip
    if not chosen or len(set(chosen)) < len(chosen):
        raise InputUnsupported("The dates share no band.", why="; ".join(f"{i.date}: {','.join(i.bands)}" for i in images[:4]))
    return [
        replace(image, parts=tuple(cut_ for part in image.parts if (cut_ := part.only(chosen)) is not None)) for image in images
    ], chosen


def _level(images: Sequence[StoredImage], asked: Level | None) -> tuple[Level, str]:
    if asked is not None:
        if asked not in ("L1C", "L2A"):
            raise UsageError(f"--level {asked} is not understood.", do="use L1C or L2A.")
        return asked, f"--level {asked}"
    known = {i.level: f"{i.date}: {i.level_evidence}" for i in images if i.level is not None}
    if len(known) > 1:
        raise InputsContradict(
            "The series mixes processing levels.", why="; ".join(f"{k} ({v})" for k, v in known.items()),
            do="keep one level, or say --level L1C or --level L2A.",
        )  # fmt: skip
    for found, why in known.items():
        if found is not None:
            return found, why
    return "L2A", "nothing says so; assumed"


def _grid(images: Sequence[StoredImage], on: Any = None) -> tuple[GeoBox | None, tuple[int, int]]:
    """The grid of the finest bands of the date `on`, or that most dates share; of equally common ones the first."""
    without = [i for i in images if any(p.grid is None for p in i.parts)]
    if without:
        shapes = {i.finest.shape for i in images}
        if len(without) < len(images) or len(shapes) > 1:
            raise InputsContradict(
                f"{without[0].date} has no coordinate reference system.", where=without[0].files[0],
                why="then none may have one and all must have the same size; "
                f"sizes: {sorted(shapes)}, dates without: {len(without)} of {len(images)}.",
                do="assign one: gdal_edit.py -a_srs EPSG:n FILE",
            )  # fmt: skip
        return None, images[0].finest.shape
    grids = [i.finest.grid for i in images]
    day = None if on is None else as_day(on)
    best = max(range(len(grids)), key=lambda n: (images[n].date == day, grids.count(grids[n]), -n))
    chosen = grids[best]
    assert chosen is not None
    for image, grid in zip(images, grids, strict=True):
        assert grid is not None
        if not overlap(chosen, grid):
            raise InputsContradict(
                f"{image.date} shows another place than the other dates.", where=image.files[0] if image.files else image.name,
                why=f"its grid does not meet that of {images[best].date}.", do="keep one place per series.",
            )  # fmt: skip
    return chosen, images[best].finest.shape


def _window(images: Sequence[StoredImage], grid: GeoBox | None, size: tuple[int, int], area: Any) -> Window:
    if area is None:
        return Window(0, 0, *size)
    factors = [_factor(p.grid, grid) for image in images for p in image.parts]
    return window_of(area, grid, size, math.lcm(*factors))


def _factor(coarse: GeoBox | None, grid: GeoBox | None) -> int:
    step = None if coarse is None or grid is None else lattice_step(coarse, grid)
    return 1 if step is None else step[0]


def _radars(
    found: Sequence[Entry | Path], s1: Paths | None, dates: Days, unit: str, calibration: str, max_gap: int,
    grid: GeoBox | None, size: tuple[int, int], window: Window,
) -> tuple[list[StoredRadar], list[dict[str, Any]], bool]:  # fmt: skip
    """Acquisitions near enough in time, notes on those that are not, and whether radar lay beside the images."""
    if max_gap < 0:
        raise UsageError(f"--max-s1-gap {max_gap} must not be negative.")
    beside = [entry for entry in found if isinstance(entry, Entry) and entry.s1]
    if s1 is not None:
        radars = radars_of(radar_entries(_paths(s1)), unit=unit, calibration=calibration)
    else:
        radars = radars_of(beside, unit=unit, calibration=calibration, embedded=True)
    check_place(radars, None if grid is None else cut(grid, window), size)
    kept = near(dates, radars, max_gap)
    far = [{"date": str(r.date), "file": r.name, "left": f"more than {max_gap} days from any date"}
           for r in radars if r not in kept]  # fmt: skip
    return kept, far, bool(beside)


def _name(images: Sequence[StoredImage], s2: Paths) -> str:
    """The MGRS tile, else the name of the folder or file."""
    tiles = {i.tile for i in images if i.tile}
    if len(tiles) == 1:
        return tiles.pop()
    first = _paths(s2)[0].absolute()
    stem = first.name if first.is_dir() else first.stem
    if first.suffix.lower() in RASTERS:
        stem = stem_of(first) or first.parent.name
    return file_name(stem) or "place"


def _grid_note(images: Sequence[StoredImage], source: FileSource) -> dict[str, Any]:
    warped = [str(i.date) for n, i in enumerate(images) if source.warps(n)]
    shape = {"rows": source.shape[0], "columns": source.shape[1]}
    if source.grid is None:
        return {"crs": None, **shape, "warped": warped}
    outline = {} if source.outline is None else {"outline": outline_note(source.outline)}
    return {"crs": str(source.grid.crs), "transform": list(source.grid.affine[:6]), **shape, "warped": warped, **outline}


def _radar_note(r: StoredRadar) -> dict[str, Any]:
    converted = r.calibration == "gamma0" and r.incidence is not None
    note = {
        "date": str(r.date), "file": r.name, "unit": r.unit, "unit_evidence": r.unit_evidence, "calibration": r.calibration,
        "converted_to_sigma0": converted, "orbit": r.orbit, "direction": r.direction or None,
    }  # fmt: skip
    return note if not r.time else note | {"time": r.time}


def _warnings(decisions: Mapping[str, Any], radars: Sequence[StoredRadar]) -> list[str]:
    """Everything worth a second look, in words."""
    found = [note["warning"] for note in decisions["offset"] if "warning" in note]
    found += [f"{day['date']}: put together from {', '.join(day['mosaic'])}" for day in decisions["dates"] if "mosaic" in day]
    found += [f"radar for {row['date']}: {row['warning']}" for row in decisions["pairing"] if "warning" in row]
    found += list(dict.fromkeys(text for r in radars for text in r.warnings))
    if decisions["grid"]["warped"]:
        found.append(f"on another grid, interpolated onto the scene's: {', '.join(decisions['grid']['warped'])}")
    if decisions["level"]["evidence"].startswith("nothing"):
        found.append("nothing says whether this is L1C or L2A; taken as L2A (--level)")
    found += [
        f"{p['name']}: the metadata say baseline {p['baseline']}, the name {p['baseline_in_name']}"
        for p in decisions["products"]
        if "baseline_in_name" in p
    ]
    found += [f"{name}: digests not checked" for name, ok in decisions["verified"].items() if not ok]
    if any(r.calibration == "gamma0" and r.incidence is None for r in radars):
        found.append("radar is gamma0 and no incidence angle is known: used as it is")
    return found
