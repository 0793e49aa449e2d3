"""Sentinel-2 products as ESA delivers them: .SAFE folders and .SAFE.zip, L1C and L2A.

Numbers come from MTD_MSIL1C.xml / MTD_MSIL2A.xml only (ESA S2 Product Specification Document): quantification, the offset per
band id (B8A is 8) and special values. Never from the date: old dates were reprocessed with the offset.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from unclouded.bands import L1C, L2A, S2, band_name
from unclouded.errors import InputCorrupt, InputMissing, InputUnsupported
from unclouded.raster import grid_of, opened
from unclouded.sample import Level
from unclouded.scenes.geotiff import OFFSET_BASELINE, merge
from unclouded.scenes.safe import Safe, open_safe, verify
from unclouded.scenes.series import date_in
from unclouded.scenes.stored import Pixels, StoredBands, StoredImage

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element  # noqa: TID251 - the type only; parsing is defusedxml's

_TILE = re.compile(r"_T(\d{2}[A-Z]{3})(?:_|$|\.)")
_BASELINE = re.compile(r"_N(\d{2})(\d{2})_")
_IMAGE = re.compile(r"_(B(?:0[1-9]|1[0-2]|8A)|SCL)(?:_(\d\d)m)?\.jp2$")
_DTYPE = "uint16"


def read_safe(
    path: Path, *, bands: Sequence[str] | None = None, verify_digests: bool = True, need_offset: bool = True
) -> StoredImage:
    """Everything but pixels of one product, its native 10, 20 and 60 m layers; digests checked for the files used.

    `need_offset`: a product from baseline 04.00 on must state its offsets. Raises InputMissing (a band, XML), InputCorrupt
    (digest, broken XML), InputUnsupported (other levels, several granules).
    """
    safe = open_safe(path)
    level, xml = _metadata(safe)
    wanted = [band_name(b) for b in bands] if bands is not None else list(L1C if level == "L1C" else L2A)
    files = _band_files(safe, level, wanted)
    scl = next((f for f in safe.files if f.endswith("_SCL_20m.jp2") and "/IMG_DATA/" in f), None)
    granule = next((f for f in safe.files if PurePosixPath(f).name == "MTD_TL.xml"), None)
    used = [*files.values(), *([scl] if scl else []), *([granule] if granule else [])]
    unknown = verify(safe, used, {f: b for b, f in files.items()}) if verify_digests else used
    baseline, quantification, offsets, evidence = _numbers(xml, safe, level, need_offset)
    missing = tuple(sorted(_special(xml, "NODATA") or {0.0}))
    return StoredImage(
        date=_date(xml, safe), name=safe.name, level=level, level_evidence=f"{safe.name}: product metadata",
        parts=merge([_part(safe, b, f, quantification, offsets[b], missing) for b, f in files.items()]),
        offset_evidence=evidence, offset_final=True, baseline=baseline, tile=_tile(safe),
        scl=None if scl is None else Pixels(safe.raster(scl), 1), files=(str(path),), verified=not unknown,
        facts=_facts(xml, safe, granule, baseline),
    )  # fmt: skip


def _metadata(safe: Safe) -> tuple[Level, Element]:
    for level in ("L1C", "L2A"):
        if f"MTD_MSI{level}.xml" in safe.files:
            return ("L1C" if level == "L1C" else "L2A"), safe.xml(f"MTD_MSI{level}.xml")
    kind = "a Sentinel-1 product" if any("annotation/" in f for f in safe.files) else "not a Sentinel-2 L1C or L2A product"
    raise InputUnsupported(
        f"{safe.name} is {kind}.", where=safe.path, why="MTD_MSIL1C.xml or MTD_MSIL2A.xml is not there.",
        do="give Sentinel-2 L1C or L2A; Sentinel-1 as terrain-corrected GeoTIFF with --s1.",
    )  # fmt: skip


def _band_files(safe: Safe, level: Level, wanted: Sequence[str]) -> dict[str, str]:
    """Band -> file of its native resolution. Raises InputMissing, InputUnsupported (several granules)."""
    granules = {f.split("/")[1] for f in safe.files if f.startswith("GRANULE/") and f.count("/") > 1}
    if len(granules) > 1:
        raise InputUnsupported(
            f"{safe.name} holds {len(granules)} granules (a product from before December 2016).", where=safe.path,
            do="split it into single-tile products first.",
        )  # fmt: skip
    native = {band.name: str(band.metres) for band in S2}
    files: dict[str, str] = {}
    for file in safe.files:
        found = _IMAGE.search(file)
        if found and "/IMG_DATA/" in file and found.group(1) in wanted and found.group(2) in (None, native[found.group(1)]):
            files[found.group(1)] = file
    if absent := [b for b in wanted if b not in files]:
        raise InputMissing(
            f"{safe.name} has no {', '.join(absent)}.", where=safe.path,
            why="L2A products have no B10." if absent == ["B10"] and level == "L2A" else f"found {', '.join(files) or 'none'}.",
            do="download the product again, or choose others with --bands.",
        )  # fmt: skip
    return files


def _numbers(xml: Element, safe: Safe, level: Level, need_offset: bool) -> tuple[str, float, dict[str, float], str]:
    """Baseline, quantification, offset per band, evidence. Raises InputCorrupt naming the tag that is missing."""
    baseline = _text(xml, "PROCESSING_BASELINE", safe)
    quantification = _number(
        _text(xml, "QUANTIFICATION_VALUE" if level == "L1C" else "BOA_QUANTIFICATION_VALUE", safe), "QUANTIFICATION", safe
    )
    name = "RADIO_ADD_OFFSET" if level == "L1C" else "BOA_ADD_OFFSET"
    stated = {e.get("band_id", ""): _number(e.text or "", name, safe) for e in xml.iter(name)}
    if quantification <= 0:
        raise _broken(safe, "QUANTIFICATION", str(quantification))
    if stated:
        if need_offset and (
            gone := [b.name for b in S2 if str(b.number) not in stated and (level == "L1C" or b.name != "B10")]
        ):
            raise _broken(safe, f"{name} of {', '.join(gone)}", "missing")
        offsets = {b.name: stated.get(str(b.number), 0.0) for b in S2}
        values = ", ".join(f"{v:g}" for v in sorted(set(offsets.values())))
        return baseline, quantification, offsets, f"{name} in the product metadata: {values} (baseline {baseline})"
    if need_offset and _number(baseline, "PROCESSING_BASELINE", safe) >= OFFSET_BASELINE:
        raise _broken(safe, name, f"missing, although baseline {baseline} has it")
    return baseline, quantification, {b.name: 0.0 for b in S2}, f"no {name} in the product metadata (baseline {baseline})"


def _text(xml: Element, tag: str, safe: Safe) -> str:
    element = xml.find(f".//{tag}")
    if element is None or not (element.text or "").strip():
        raise _broken(safe, tag, "missing")
    return (element.text or "").strip()


def _number(text: str, tag: str, safe: Safe) -> float:
    plain = text.strip()
    try:
        value = float(plain) if plain.isascii() else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise _broken(safe, tag, f"'{plain[:40]}' is not a number")
    return value


def _broken(safe: Safe, tag: str, why: str) -> InputCorrupt:
    return InputCorrupt(
        f"The metadata of {safe.name} lack {tag}. Nothing was written.", where=safe.path, why=f"{tag}: {why}.",
        do="download the product again; for an offset that is known, give --offset.",
    )  # fmt: skip


def _special(xml: Element, name: str) -> set[float]:
    """Values with a meaning, such as NODATA."""
    found = set()
    for element in xml.iter("Special_Values"):
        text, index = element.findtext("SPECIAL_VALUE_TEXT", ""), element.findtext("SPECIAL_VALUE_INDEX", "")
        if text.strip().upper() == name and index.strip().isascii() and index.strip().isdigit():
            found.add(float(index))
    return found


def _date(xml: Element, safe: Safe) -> Any:
    for tag in ("DATATAKE_SENSING_START", "PRODUCT_START_TIME"):
        if (day := date_in((xml.findtext(f".//{tag}") or "")[:10])) is not None:
            return day
    raise _broken(safe, "PRODUCT_START_TIME", "missing or not a date")


def _tile(safe: Safe) -> str:
    images = " ".join(f for f in safe.files if "/IMG_DATA/" in f)
    for text in (safe.name, re.sub(r".*/(T\d{2}[A-Z]{3})_", r"_\1_", images)):
        if found := _TILE.search(text):
            return "T" + found.group(1)
    return ""


def _part(
    safe: Safe, band: str, file: str, quantification: float, offset: float, missing: tuple[float, ...]
) -> StoredBands:  # fmt: skip
    dataset = opened(safe.raster(file))
    if dataset.dtypes[0] != _DTYPE or dataset.count != 1:
        raise InputUnsupported(
            f"{PurePosixPath(file).name} is {dataset.count} x {dataset.dtypes[0]}; expected one band of {_DTYPE}.",
            where=safe.path,
        )
    return StoredBands(
        bands=(band,), where=(Pixels(safe.raster(file), 1),), shape=dataset.shape, grid=grid_of(dataset), dtype=_DTYPE,
        nodata=0.0, missing=missing, quantification=quantification, offset=(offset,), descriptions=(band,),
    )  # fmt: skip


def _facts(xml: Element, safe: Safe, granule: str | None, baseline: str) -> dict[str, Any]:
    """Time, platform, orbit, footprint, cloud share and sun angles, as far as the product says."""
    facts: dict[str, Any] = {}
    for key, tag in (
        ("time", "PRODUCT_START_TIME"), ("platform", "SPACECRAFT_NAME"), ("orbit", "SENSING_ORBIT_NUMBER"),
        ("cloud_percentage", "Cloud_Coverage_Assessment"), ("nodata_percentage", "NODATA_PIXEL_PERCENTAGE"),
    ):  # fmt: skip
        if text := (xml.findtext(f".//{tag}") or "").strip():
            facts[key] = text
    ring = [float(v) for v in (xml.findtext(".//EXT_POS_LIST") or "").split()]
    if len(ring) >= 6:
        step = 3 if len(ring) % 3 == 0 and len(ring) % 2 else 2
        facts["footprint"] = [[ring[i + 1], ring[i]] for i in range(0, len(ring) - 1, step)]
    if granule is not None:
        angles = safe.xml(granule).find(".//Mean_Sun_Angle")
        if angles is not None:
            facts["sun_zenith"] = float(angles.findtext("ZENITH_ANGLE", "nan"))
            facts["sun_azimuth"] = float(angles.findtext("AZIMUTH_ANGLE", "nan"))
    if (named := _BASELINE.search(safe.name)) and f"{named.group(1)}.{named.group(2)}" != baseline:
        facts["baseline_in_name"] = f"{named.group(1)}.{named.group(2)}"
    return facts
