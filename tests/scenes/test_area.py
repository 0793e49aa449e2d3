"""Areas of interest: what GeoJSON and WKT may hold, and what is refused in words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from unclouded.errors import InputCorrupt, InputsContradict, InputUnsupported, UncloudedError, UsageError
from unclouded.scenes.area import geometry, window_of

RING = [[3.001, 50.901], [3.002, 50.901], [3.002, 50.902], [3.001, 50.902], [3.001, 50.901]]
POLYGON: dict[str, Any] = {"type": "Polygon", "coordinates": [RING]}
NOWHERE = {"type": "Feature", "properties": {}, "geometry": None}
GRID = GeoBox((60, 60), Affine(10, 0, 500_000, 0, -10, 5_639_000), "EPSG:32631")


def feature(shape: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Feature", "properties": {}, "geometry": shape}


def together(*shapes: dict[str, Any]) -> dict[str, Any]:
    return {"type": "FeatureCollection", "features": list(shapes)}


@pytest.mark.parametrize(
    "area",
    [
        {"type": "GeometryCollection", "geometries": [POLYGON]},
        {"type": "GeometryCollection", "geometries": [POLYGON, {"type": "Point", "coordinates": RING[1]}]},
        together(NOWHERE, feature(POLYGON)),
        {"type": "Polygon", "coordinates": [[[*corner, 12.0] for corner in RING]]},
    ],
)
def test_collections_features_without_geometry_and_heights_are_taken(area: dict[str, Any]) -> None:
    found, plain = geometry(json.dumps(area), None), geometry(json.dumps(POLYGON), None)
    assert found is not None and plain is not None
    assert found.boundingbox.bbox == (3.001, 50.901, 3.002, 50.902)
    assert found.geom.area == plain.geom.area > 0
    assert window_of(found, GRID, GRID.shape, 1) == window_of(plain, GRID, GRID.shape, 1)


def test_wkt_with_heights_is_laid_over_the_grid() -> None:
    flat = geometry("POLYGON((3.001 50.901, 3.002 50.901, 3.002 50.902, 3.001 50.901))", None)
    high = geometry("POLYGON Z((3.001 50.901 5, 3.002 50.901 6, 3.002 50.902 7, 3.001 50.901 5))", None)
    assert high is not None and flat is not None
    assert window_of(high, GRID, GRID.shape, 1) == window_of(flat, GRID, GRID.shape, 1)


@pytest.mark.parametrize(
    ("area", "error", "words"),
    [
        ({**POLYGON, "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:FOO::BAR"}}}, InputUnsupported, "BAR"),
        ("SRID=abc;POINT(3 50)", InputUnsupported, "'EPSG:abc' is not known"),
        ("SRID=;POINT(3 50)", InputUnsupported, "is not known"),
        (NOWHERE, InputUnsupported, "is empty"),
        (together(NOWHERE, NOWHERE), InputUnsupported, "no feature of it has a geometry"),
        ({"type": "GeometryCollection", "geometries": []}, InputUnsupported, "is empty"),
        ({"type": "Ball"}, InputCorrupt, "is not GeoJSON"),
        ("POLYGON((500240 5639800, 500640 5639800, 500640 5639500, 500240 5639800))", UsageError, "beyond the globe"),
        ({"type": "Point", "coordinates": [500, 50]}, UsageError, r"500\.\.500 degrees of longitude"),
    ],
)
def test_areas_that_cannot_be_are_refused_in_words(area: Any, error: type[UncloudedError], words: str) -> None:
    with pytest.raises(error, match=words):
        geometry(area if isinstance(area, str) else json.dumps(area), None)


def test_a_box_in_an_unknown_crs_is_refused_in_words() -> None:
    with pytest.raises(InputUnsupported, match="'EPSG:abc' is not known"):
        geometry(None, (3, 50, 4, 51, "EPSG:abc"))


def test_an_area_without_coordinates_on_the_grid_lies_outside_the_images() -> None:
    far = geometry("SRID=32631;POINT(inf 1)", None)
    assert far is not None
    with pytest.raises(InputsContradict, match="outside the images"):
        window_of(far, GRID, GRID.shape, 1)
