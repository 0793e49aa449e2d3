"""The STAC item: its structure by the specification's required fields, its numbers against the files."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest

from products.made import finish, geobox, mixed, single
from unclouded.products.stac import EXTENSIONS, footprint
from unclouded.sample import Cover, Source


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    scene = replace(mixed(60, 48), decisions={"files": ["S2A_MSIL2A.SAFE", "s1.tif"], "warnings": []})
    return finish(tmp_path_factory.mktemp("out"), scene)


def test_the_item_has_what_stac_requires(made):
    item = made.item
    assert item["type"] == "Feature" and item["stac_version"] == "1.1.0" and item["id"] == made.id
    assert item["stac_extensions"] == list(EXTENSIONS)
    assert item["properties"]["datetime"] == "2020-06-01T00:00:00Z"
    ring = item["geometry"]["coordinates"][0]
    assert ring[0] == ring[-1] and len(ring) == 5
    west, south, east, north = item["bbox"]
    assert 2.9 < west < east < 3.1 and 49.5 < south < north < 49.7
    assert item["links"] == [{"rel": "derived_from", "href": href} for href in ("S2A_MSIL2A.SAFE", "s1.tif")]
    json.dumps(item, allow_nan=False)


def test_assets_name_every_file_with_its_size_and_multihash(made):
    listed = {asset["href"].removeprefix("./") for asset in made.item["assets"].values()}
    assert listed == set(made.manifest["files"]) - {f"{made.id}.json"}
    for asset in made.item["assets"].values():
        data = (made.folder / asset["href"]).read_bytes()
        assert asset["file:size"] == len(data) and asset["file:checksum"] == "1220" + hashlib.sha256(data).hexdigest()
        assert asset["roles"] and asset["type"]


def test_bands_carry_scale_offset_and_wavelength(made):
    asset = made.item["assets"]["clear_20m"]
    assert [band["name"] for band in asset["bands"]] == ["B05", "B11"]
    assert asset["bands"][1]["eo:common_name"] == "swir16" and asset["bands"][1]["eo:center_wavelength"] == 1.6137
    assert asset["bands"][0]["raster:scale"] == 1e-4 and asset["bands"][0]["raster:offset"] == -0.1
    assert asset["raster:spatial_resolution"] == 20 and asset["proj:shape"] == [30, 24] and asset["nodata"] == 0
    classes = made.item["assets"]["source"]["classification:classes"]
    assert [c["value"] for c in classes] == [int(s) for s in Source] and all(len(c["color_hint"]) == 6 for c in classes)
    assert len(made.item["assets"]["mask"]["classification:classes"]) == len(Cover)


def test_projection_and_shares_are_those_of_the_scene(made):
    told = made.item["properties"]
    assert told["proj:code"] == "EPSG:32631" and told["proj:shape"] == [60, 48]
    assert told["proj:transform"] == [10, 0, 500_000, 0, -10, 5_500_000] and told["proj:bbox"] == [
        500_000,
        5_499_400,
        500_480,
        5_500_000,
    ]
    pixels = made.manifest["pixels"]
    held = sum(pixels.values()) - pixels["nodata"]
    assert told["unclouded:source_share"]["observed"] == pytest.approx(pixels["observed"] / held, abs=1e-6)
    assert told["eo:cloud_cover"] == pytest.approx(100 * pixels["refused"] / held, abs=1e-3)


def test_a_scene_without_a_place_on_earth_has_no_geometry():
    import numpy as np

    scene = single(np.ones((3, 4, 4), np.uint16), np.ones((4, 4), np.uint8), grid=None)
    assert footprint(scene) == (None, None)
    assert geobox(4, 4).crs.epsg == 32631
