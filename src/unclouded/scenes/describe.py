"""What a file or folder is, for `unclouded info`: sensor, level, baseline, offset, bands, dates, cover."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from unclouded.bands import S2, is_band
from unclouded.errors import InputMissing
from unclouded.raster import grid_of, opened, read
from unclouded.sample import Window
from unclouded.scenes.geotiff import UNDATED
from unclouded.scenes.offset import settle
from unclouded.scenes.open import read_images
from unclouded.scenes.sentinel1 import radars_of
from unclouded.scenes.series import RASTERS, Entry, entries, kind_of
from unclouded.scenes.stored import Pixels, StoredImage, StoredRadar

STRIP = 1024  # rows of a class layer read at a time


def describe(path: str | PathLike[str]) -> dict[str, Any]:
    """A JSON-able description. Raises UncloudedError in words where the input cannot be read."""
    found, where = entries(path), Path(path)
    if where.is_file() and where.suffix.lower() in RASTERS and not _is_s2(where):
        return _plain(where)
    radars = radars_of([e for e in found if isinstance(e, Entry)], embedded=True)
    has_images = any(isinstance(e, Path) or e.s2 for e in found)
    if not has_images and not radars:
        raise InputMissing("There is no Sentinel-2 or Sentinel-1 image here.", where=where)
    images, offsets = settle(read_images(found, None, verify=False, need_offset=True), "auto") if has_images else ([], [])
    return {
        "path": str(where),
        "sensor": " and ".join((["Sentinel-2"] if images else []) + (["Sentinel-1"] if radars else [])),
        **(_images(images, offsets) if images else {}),
        **({"radar": [_radar(r) for r in radars]} if radars else {}),
    }


def _is_s2(file: Path) -> bool:
    kind = kind_of(file)
    if kind in ("s1", "scl", "mask"):
        return False
    dataset = opened(file)
    return kind != "s2" or dataset.count in (12, 13) or any(d and is_band(d) for d in dataset.descriptions)


def _plain(file: Path) -> dict[str, Any]:
    """A raster that is not Sentinel-2: radar, a class layer, or something else."""
    dataset = opened(file)
    grid = grid_of(dataset)
    facts = {
        "path": str(file), "bands": [d or f"band {n}" for n, d in zip(dataset.indexes, dataset.descriptions, strict=True)],
        "type": dataset.dtypes[0], "size": list(dataset.shape), "crs": None if grid is None else str(grid.crs),
        "nodata": dataset.nodata,
    }  # fmt: skip
    words = " ".join(str(d).upper() for d in dataset.descriptions)
    if kind_of(file) == "s1" or "VV" in words:
        radars = radars_of([Entry(date=UNDATED, name=file.stem, s1=(file,))], embedded=True)
        told = _radar(radars[0])
        undated: dict[str, Any] = {"date": None, "warnings": []} if told["date"] == str(UNDATED) else {}
        return {"sensor": "Sentinel-1", **facts, **told, **undated}
    if kind_of(file) == "scl" or words == "SCL":
        return {"sensor": "Sentinel-2 scene classification", **facts, "cover": _cover(Pixels(str(file), 1))}
    return {"sensor": "unknown", **facts}


def _images(images: Sequence[StoredImage], offsets: Sequence[dict[str, Any]]) -> dict[str, Any]:
    first = images[0]
    grid = first.finest.grid
    metres = {b.name: b.metres for b in S2}
    return {
        "level": first.level or "unknown",
        "level_evidence": first.level_evidence or "nothing says so",
        "baselines": sorted({i.baseline for i in images if i.baseline}),
        "bands": list(first.bands),
        "resolutions": {
            band: metres[band] if part.grid is None else part.grid.affine.a for part in first.parts for band in part.bands
        },
        "crs": None if grid is None else str(grid.crs),
        "size": list(first.finest.shape),
        "dates": [
            {
                "date": str(image.date), "name": image.name, "offset": note["offset"], "offset_evidence": note["evidence"],
                **image.facts, **({} if image.scl is None else {"cover": _cover(image.scl)}),
            }
            for image, note in zip(images, offsets, strict=True)
        ],
    }  # fmt: skip


def _radar(radar: StoredRadar) -> dict[str, Any]:
    return {
        "date": str(radar.date), "file": radar.name, "time": radar.time or None, "unit": radar.unit,
        "unit_evidence": radar.unit_evidence, "calibration": radar.calibration, "relative_orbit": radar.orbit,
        "direction": radar.direction or None, "warnings": list(radar.warnings),
    }  # fmt: skip


def _cover(where: Pixels) -> dict[str, float]:
    """Shares of Sen2Cor's classes among the classified pixels: cloud (8, 9), cirrus (10), shadow (3), snow (11)."""
    dataset = opened(where.path)
    counts = np.zeros(256, np.int64)
    for row in range(0, dataset.height, STRIP):
        strip = read(dataset, [where.band], Window(row, 0, min(STRIP, dataset.height - row), dataset.width))
        counts += np.bincount(strip.astype(np.uint8).ravel(), minlength=256)
    total = int(counts[1:].sum())
    named = {"cloud": (8, 9), "cirrus": (10,), "shadow": (3,), "snow": (11,)}
    shares = {name: round(float(counts[list(codes)].sum() / total), 4) if total else 0.0 for name, codes in named.items()}
    return shares | {"nodata": round(float(counts[0] / max(int(counts.sum()), 1)), 4)}
