"""The STAC item of a product: plain JSON, STAC 1.1 with extensions proj, eo, raster, processing, classification, file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import unclouded
from unclouded.bands import BY_NAME
from unclouded.products.cog import Plane
from unclouded.scenes.scene import Layer, Scene

EXTENSIONS = (
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/eo/v2.0.0/schema.json",
    "https://stac-extensions.github.io/raster/v2.0.0/schema.json",
    "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
    "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
)
COG = "image/tiff; application=geotiff; profile=cloud-optimized"
TITLES = {
    "source": "Where each pixel comes from",
    "mask": "Cloud mask as finally used",
    "sigma": "Standard deviation of the error, reflectance",
    "age": "Signed days from the target date to the dominant clear date",
}
OTHERS: tuple[tuple[str, str, str, str, str], ...] = (
    ("thumbnail", "_quicklook.png", "image/png", "overview", "Before, after, source and sigma"),
    ("report", ".html", "text/html", "metadata", "Report"),
    ("scene-model", "_scene-model.safetensors", "application/octet-stream", "metadata", "What was learned of the place"),
)


def stac_item(
    id: str,
    scene: Scene,
    date: np.datetime64,
    layers: Sequence[Layer],
    planes: Sequence[Plane],
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """The item of a product. Links and assets are relative to it; `facts` are those of the manifest, with its files so far."""
    geometry, bbox = footprint(scene)
    stored = {plane.name: layer for plane, layer in zip(planes, layers, strict=False)}
    rasters = {p.name: _raster(_file(f"{id}_{p.name}.tif", facts), p, stored.get(p.name)) for p in planes}
    others = {
        key: {**_file(f"{id}{end}", facts), "type": kind, "title": title, "roles": [role]}
        for key, end, kind, role, title in OTHERS
        if f"{id}{end}" in facts["files"]
    }
    item: dict[str, Any] = {
        "type": "Feature", "stac_version": "1.1.0", "stac_extensions": list(EXTENSIONS), "id": id,
        "geometry": geometry, "bbox": bbox,
        "properties": _properties(scene, date, facts),
        "links": [{"rel": "derived_from", "href": href} for href in _inputs(facts)],
        "assets": rasters | others,
    }  # fmt: skip
    if bbox is None:
        del item["bbox"]
    return item


def footprint(scene: Scene) -> tuple[dict[str, Any] | None, list[float] | None]:
    """Outline in longitude and latitude (GeoJSON polygon) and its box; None for a scene without a CRS."""
    grid = scene.place.grid
    if grid is None or grid.crs is None:
        return None, None
    outline = grid.extent.to_crs("EPSG:4326", resolution=math.inf)  # corners only: a tile is a quadrilateral to a metre or so
    ring = [[round(float(x), 7), round(float(y), 7)] for x, y in outline.exterior.points]
    box = outline.boundingbox
    return {"type": "Polygon", "coordinates": [ring]}, [round(float(v), 7) for v in box.bbox]


def _properties(scene: Scene, date: np.datetime64, facts: Mapping[str, Any]) -> dict[str, Any]:
    pixels = facts["pixels"]
    held = max(1, sum(pixels.values()) - pixels["nodata"])
    share = {name: round(n / held, 6) for name, n in pixels.items() if name != "nodata"}
    return {
        "datetime": f"{date}T00:00:00Z",
        "created": facts["created"],
        "title": f"{scene.place.id}, {date}, without clouds",
        "platform": "sentinel-2",
        "instruments": ["msi"],
        "eo:cloud_cover": round(100 * share["refused"], 4),
        "processing:level": scene.place.level,
        "processing:software": {"unclouded": unclouded.__version__},
        "processing:lineage": "Observed pixels are kept bit for bit; hidden pixels are reconstructed, see the asset 'source'.",
        "unclouded:source_share": share,
        **_projection(scene),
    }


def _projection(scene: Scene) -> dict[str, Any]:
    grid = scene.place.grid
    if grid is None or grid.crs is None:
        return {"proj:code": None, "proj:shape": list(scene.shape)}
    code = {"proj:code": f"EPSG:{grid.crs.epsg}"} if grid.crs.epsg else {"proj:code": None, "proj:wkt2": grid.crs.to_wkt()}
    return {
        **code,
        "proj:shape": list(scene.shape),
        "proj:transform": [float(v) for v in list(grid.affine)[:6]],
        "proj:bbox": [float(v) for v in grid.extent.boundingbox.bbox],
    }


def _raster(file: dict[str, Any], plane: Plane, layer: Layer | None) -> dict[str, Any]:
    asset: dict[str, Any] = {
        **file, "type": COG, "title": TITLES.get(plane.name, "Cloud-free image"),
        "roles": _roles(plane), "data_type": plane.dtype, "nodata": _nodata(plane.nodata),
        "proj:shape": list(plane.shape),
    }  # fmt: skip
    if plane.grid is not None:
        asset["proj:transform"] = [float(v) for v in list(plane.grid.affine)[:6]]
        asset["raster:spatial_resolution"] = abs(float(plane.grid.resolution.x))
    if layer is not None:
        asset["bands"] = [_band(name) | _scale(layer, n) for n, name in enumerate(layer.bands)]
    elif plane.name == "sigma":
        asset["bands"] = [_band(name) | {"raster:scale": plane.scales[0], "raster:offset": 0.0} for name in plane.descriptions]
    if plane.classes:
        asset["classification:classes"] = [
            {"value": code, "name": name.replace(" ", "_").replace(",", "").replace("+", "and"), "title": name,
             "color_hint": "{:02X}{:02X}{:02X}".format(*rgb)}
            for code, name, rgb in plane.classes
        ]  # fmt: skip
    return asset


def _roles(plane: Plane) -> list[str]:
    return (
        ["data", "reflectance"] if plane.name.startswith("clear") else ["metadata", *({"mask": ["cloud"]}.get(plane.name, []))]
    )


def _nodata(value: float | None) -> float | str | None:
    return "nan" if value is not None and np.isnan(value) else value


def _band(name: str) -> dict[str, Any]:
    band = BY_NAME[name]
    common = {"eo:common_name": band.common}
    return {"name": name, **common, "eo:center_wavelength": round(band.nanometres / 1000, 4)}


def _scale(layer: Layer, n: int) -> dict[str, float]:
    """reflectance = scale * DN + offset."""
    return {"raster:scale": 1 / layer.quantification, "raster:offset": layer.offset[n] / layer.quantification}


def _file(name: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Where a file lies, its size, and its SHA-256 as a multihash (0x12: SHA-256, 0x20: 32 bytes)."""
    file = facts["files"][name]
    return {"href": f"./{name}", "file:size": file["bytes"], "file:checksum": "1220" + file["sha256"]}


def _inputs(facts: Mapping[str, Any]) -> list[str]:
    """Addresses of the input files, as the readers recorded them."""
    return [str(file) for file in facts["decisions"].get("files") or facts["job"].get("inputs") or ()]
