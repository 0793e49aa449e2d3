"""What a GeoTIFF of Sentinel-2 says of itself: bands, numbers, date, level, baseline.

Numbers: scale and offset tags of the file come first (GDAL's meaning, value = DN * scale + offset; with a scale of 1 that is a
count without its offset), then a processing baseline among its tags; integers without tags are counts of 1/10000. Floats are
reflectance if they look like it, else counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from unclouded.bands import L1C, L2A, band_name, is_band
from unclouded.errors import InputMissing, InputUnsupported
from unclouded.raster import grid_of, opened
from unclouded.sample import Level
from unclouded.scenes.mosaic import laid_together
from unclouded.scenes.series import Entry, date_in
from unclouded.scenes.stored import Pixels, StoredBands, StoredImage, glimpse

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

DATE_TAGS = ("ACQUISITION_UTC", "datetime", "TIFFTAG_DATETIME", "ACQUISITION_DATE", "SENSING_TIME", "PRODUCT_START_TIME")
BASELINE_TAGS = ("s2:processing_baseline", "PROCESSING_BASELINE", "processing_baseline")
LEVEL_TAGS = ("LEVEL", "PROCESSING_LEVEL", "processing:level")
UNDATED = np.datetime64("1970-01-01", "D")  # stands in for the date of an image that has none
OFFSET_BASELINE = 4.0  # the offset of -1000 came with processing baseline 04.00


def tag(tags: Mapping[str, str], names: Sequence[str]) -> str:
    """The first of several tags that is there, whatever its case; '' without one.

    GDAL splits a name with a colon: `sat:relative_orbit` = 37 comes back as `sat` = 'relative_orbit=37'.
    """
    low = {key.lower(): str(value).strip() for key, value in tags.items()}
    for name in map(str.lower, names):
        family, _, member = name.partition(":")
        split = low.get(family, "")
        value = low.get(name, "") or (split.partition("=")[2] if member and split.lower().startswith(f"{member}=") else "")
        if value:
            return value
    return ""


def time_of(tags: Mapping[str, str]) -> str:
    """Acquisition time among tags as ISO text, '' without one. TIFF writes 2018:06:13 10:57:37."""
    text = tag(tags, DATE_TAGS)
    day = date_in(text[:10].replace(":", "-"))
    return "" if day is None else f"{day}{'T' + text[11:19] if len(text) >= 19 else ''}"


def read_image(entry: Entry, *, bands: Sequence[str] | None = None, undated: bool = False) -> StoredImage:
    """Everything but pixels of one date. `bands`: names of the bands of a stack, in its order, if it has no descriptions.
    `undated`: an image that nothing dates is taken as of `UNDATED`, and its facts say so.

    Raises InputMissing (no date, no image), InputUnsupported (bands without names, rotated grid).
    """
    parts: list[StoredBands] = []
    tags: dict[str, str] = {}
    for file in entry.s2:
        dataset = opened(file)
        tags |= dataset.tags()
        parts.append(_stored(dataset, file, _names(dataset, file, entry, bands)))
    level, why = level_of([b for p in parts for b in p.bands], tags, [entry.name, *(f.name for f in entry.s2)], entry.scl)
    baseline = tag(tags, BASELINE_TAGS)
    said = entry.date or date_in(time_of(tags))
    day = said or (UNDATED if undated else _no_day(entry))
    several = laid_together(parts)
    merged = _with_blank(merge(several))
    return StoredImage(
        date=day, name=entry.name, parts=merged, level=level, level_evidence=why, baseline=baseline,
        offset_evidence=_offset_evidence(merged, baseline), offset_final=any(map(_by_tags, merged)),
        scl=None if entry.scl is None else Pixels(str(entry.scl), 1),
        given=None if entry.mask is None else Pixels(str(entry.mask), 1),
        files=tuple(str(f) for f in (*entry.s2, *(f for f in (entry.scl, entry.mask) if f))),
        facts=({"time": time_of(tags)} if time_of(tags) else {}) | ({} if said else {"undated": True})
        | ({"no_data": "0 in every band"} if any(p.blank for p in merged) else {})
        | ({"mosaic": [f.name for f in entry.s2]} if len(several) < len(parts) else {}),
    )  # fmt: skip


def _no_day(entry: Entry) -> NoReturn:
    raise InputMissing(
        f"{entry.name} has no date.", where=entry.s2[0] if entry.s2 else "",
        why=f"neither its folder, its name nor its tags ({', '.join(DATE_TAGS[:3])}) tell one.",
        do="put it in a folder named YYYY-MM-DD, or give a manifest with the columns date,s2.",
    )  # fmt: skip


def _names(dataset: DatasetReader, file: Path, entry: Entry, bands: Sequence[str] | None) -> dict[int, str]:
    """Index -> band of a file: the file's name, descriptions, --bands, or the count of a whole product."""
    if file in entry.bands:
        return {1: band_name(entry.bands[file])}
    described = {n: band_name(d) for n, d in zip(dataset.indexes, dataset.descriptions, strict=True) if d and is_band(d)}
    if described:
        if len(set(described.values())) < len(described):
            raise InputUnsupported(f"{file.name} names a band twice.", where=file, why=str(dataset.descriptions))
        return described
    if bands is not None and len(bands) == dataset.count:
        return dict(zip(dataset.indexes, (band_name(b) for b in bands), strict=True))
    for whole in (L1C, L2A):
        if dataset.count == len(whole):
            return dict(zip(dataset.indexes, whole, strict=True))
    raise InputUnsupported(
        f"{file.name} has {dataset.count} bands without names.", where=file,
        why=f"descriptions: {[d or '-' for d in dataset.descriptions]}" + (f", --bands names {len(bands)}." if bands else "."),
        do="name them in order with --bands B02,B03,...",
    )  # fmt: skip


def _stored(dataset: DatasetReader, file: Path, names: Mapping[int, str]) -> StoredBands:
    indexes, bands = list(names), tuple(names.values())
    kind = np.dtype(dataset.dtypes[indexes[0] - 1])
    if kind.kind not in "uif" or any(np.dtype(dataset.dtypes[n - 1]) != kind for n in indexes):
        raise InputUnsupported(f"{file.name} has values of type {dataset.dtypes}; expected one numeric type.", where=file)
    nodata = dataset.nodata
    scales = tuple(float(dataset.scales[n - 1]) for n in indexes)
    offsets = tuple(float(dataset.offsets[n - 1]) for n in indexes)
    tagged = any(s != 1 for s in scales) or any(o != 0 for o in offsets)
    missing = (0.0,) if kind.kind != "f" and nodata is None else () if nodata is None else (float(nodata),)
    quantification, shift = _numbers(dataset, file, scales, offsets, tagged, missing, indexes)
    described = tuple(dataset.descriptions[n - 1] or "" for n in indexes)
    return StoredBands(
        bands=bands, where=tuple(Pixels(str(file), n) for n in indexes), shape=dataset.shape, grid=grid_of(dataset),
        dtype=kind.name, nodata=nodata, missing=missing, quantification=quantification, offset=shift,
        descriptions=tuple(d or b for d, b in zip(described, bands, strict=True)),
        scale_tags=scales if tagged else (), offset_tags=offsets if tagged else (), tags=dataset.tags(),
    )  # fmt: skip


def _numbers(
    dataset: DatasetReader, file: Path, scales: Sequence[float], offsets: Sequence[float], tagged: bool,
    missing: Sequence[float], indexes: Sequence[int],
) -> tuple[float, tuple[float, ...]]:  # fmt: skip
    """Quantification and offset per band (in DN)."""
    if tagged:
        if len(set(scales)) > 1 or not all(math.isfinite(v) for v in (*scales, *offsets)) or scales[0] <= 0:
            raise InputUnsupported(f"{file.name} has scale tags {scales}; expected one positive scale.", where=file)
        if scales[0] != 1:
            return round(1 / scales[0], 6), tuple(round(o / s, 6) for o, s in zip(offsets, scales, strict=True))
    none = (0.0,) * len(indexes)
    if np.dtype(dataset.dtypes[indexes[0] - 1]).kind == "f":
        seen = np.concatenate(glimpse(dataset, indexes, (*missing, 0.0)))  # an empty border is no evidence
        if not seen.size or float(np.median(seen)) <= 10:
            return 1.0, none
    return 10_000.0, tuple(offsets) if tagged else none  # a scale of 1: the offset is one of counts


def _by_tags(part: StoredBands) -> bool:
    """Whether the numbers of a part are those of its tags: an offset beside a scale of 1 says nothing of reflectance."""
    return bool(part.scale_tags) and (part.scale_tags[0] != 1 or part.quantification != 1)


def _offset_evidence(parts: Sequence[StoredBands], baseline: str) -> str:
    for part in parts:
        if _by_tags(part):
            return f"scale and offset tags: scale {part.scale_tags[0]:g}, offset {part.offset_tags[0]:g}"
    return f"processing baseline {baseline} among the tags" if baseline else ""


def merge(parts: Sequence[StoredBands]) -> tuple[StoredBands, ...]:
    """Parts that share grid and numbers together, finest first. Raises InputUnsupported for a band that comes twice."""
    groups: dict[tuple[object, ...], list[StoredBands]] = {}
    for p in parts:
        key = (p.grid, p.shape, p.dtype, repr(p.nodata), p.missing, p.quantification, bool(p.scale_tags), len(p.more))
        groups.setdefault(key, []).append(p)
    merged = [_joined(group) for group in groups.values()]
    names = [band for p in merged for band in p.bands]
    if twice := sorted({b for b in names if names.count(b) > 1}):
        raise InputUnsupported(
            f"Band {', '.join(twice)} comes in several files of one date.", where=parts[0].where[0].path,
            do="keep one file per band and date.",
        )  # fmt: skip
    return tuple(sorted(merged, key=lambda p: (-p.shape[0] * p.shape[1], p.bands)))


def _joined(group: Sequence[StoredBands]) -> StoredBands:
    if len(group) == 1:
        return group[0]
    ordered = sorted(group, key=lambda p: L1C.index(p.bands[0]))
    chained: dict[str, Any] = {
        name: tuple(value for p in ordered for value in getattr(p, name))
        for name in ("bands", "where", "offset", "descriptions", "scale_tags", "offset_tags")
    }
    shared = {k: v for k, v in ordered[0].tags.items() if all(p.tags.get(k) == v for p in ordered)}
    more = tuple(tuple(where for some in same for where in some) for same in zip(*(p.more for p in ordered), strict=True))
    return replace(ordered[0], tags=shared, more=more, **chained)


def _with_blank(parts: Sequence[StoredBands]) -> tuple[StoredBands, ...]:
    """Floats that declare no nodata value: where every band of the date is exactly 0, nothing was measured."""
    rasters = [(p.where, *p.more) for p in parts]
    blank = tuple(tuple(w for r in rasters if n < len(r) for w in r[n]) for n in range(max(map(len, rasters))))
    return tuple(replace(p, blank=blank[: 1 + len(p.more)]) if _undeclared(p) else p for p in parts)


def _undeclared(part: StoredBands) -> bool:
    return part.nodata is None and np.dtype(part.dtype).kind == "f"


def level_of(bands: Sequence[str], tags: Mapping[str, str], names: Sequence[str], scl: Path | None) -> tuple[Level | None, str]:
    """Processing level and what it was read from: B10, tags, names, an SCL layer; (None, '') if nothing says."""
    stated = tag(tags, LEVEL_TAGS).upper().replace("LEVEL-", "L")
    text = " ".join(names).upper()
    for sign, level, why in (
        ("B10" in bands, "L1C", "it has B10, which L2A products lack"),
        (stated in ("L1C", "1C"), "L1C", "tag says L1C"),
        (stated in ("L2A", "2A"), "L2A", "tag says L2A"),
        ("L1C" in text, "L1C", "the name says L1C"),
        ("L2A" in text, "L2A", "the name says L2A"),
        (set(bands) == set(L2A), "L2A", "it has exactly the twelve bands of L2A"),
        (scl is not None, "L2A", "it has a scene classification (SCL)"),
    ):
        if sign:
            return ("L1C" if level == "L1C" else "L2A"), why
    return None, ""
