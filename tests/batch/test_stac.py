"""Planning from STAC: files on disk, a catalogue, a search with pages; what is not on this machine is told."""

from __future__ import annotations

import json
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from batch.fields import write_field
from unclouded.batch.jobs import plan_units
from unclouded.batch.stac import is_stac, items, place_of
from unclouded.errors import InputCorrupt, InputMissing
from unclouded.remove import remove_clouds

DAYS = ("2020-01-01", "2020-01-06", "2020-01-11")


def item(day: str, where: str, tile: str = "31UFS") -> dict:
    name = f"S2A_{tile}_{day.replace('-', '')}_0_L2A"
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": name, "geometry": None, "links": [],
        "properties": {"datetime": f"{day}T10:40:00Z", "grid:code": f"MGRS-{tile}"},
        "assets": {"image": {"href": f"{where}/s2.tif"}, "scl": {"href": f"{where}/scl.tif"}, "look": {"href": "x.jpg"}},
    }  # fmt: skip


def collection(features: list[dict], *links: dict) -> str:
    return json.dumps({"type": "FeatureCollection", "features": features, "links": list(links)})


def planned(tmp_path, source, **how):
    return plan_units([source], tmp_path / "out", {"model": "linear"}, lists=tmp_path / "lists", **how)


def test_a_search_result_on_disk(tmp_path):
    write_field(tmp_path / "field")
    away = {"rel": "next", "href": "http://127.0.0.1:9/never"}  # a file never leads to the net
    (tmp_path / "found.json").write_text(collection([item(day, f"field/{day}") for day in DAYS], away))
    units, bad = planned(tmp_path, tmp_path / "found.json")
    assert [unit.name for unit in units] == [f"T31UFS/{day}" for day in DAYS] and bad == []
    product = remove_clouds(units[1].s2, units[1].out, date=units[1].date, model="linear", place="T31UFS")
    assert product.manifest["pixels"]["dates"] > 0


def test_a_collection_names_no_folder_elsewhere(tmp_path):
    write_field(tmp_path / "field")
    named = zip((*DAYS, *DAYS[:2]), ("../../../x", "../../../x", "..", "a", "a"), strict=True)
    found = [{**item(day, f"field/{day}", "x"), "collection": name} for day, name in named]
    for one in found:
        one["properties"].pop("grid:code")
    (tmp_path / "found.json").write_text(collection(found))
    units, bad = planned(tmp_path, tmp_path / "found.json")
    assert [unit.out for unit in units] == [str(tmp_path / "out" / name) for name in ("x", "x", "a", "a")]
    assert sorted(path.name for path in (tmp_path / "lists").iterdir()) == ["a.json", "x.json"]
    assert [(where, error.what) for where, error in bad] == [(found[2]["id"], "No folder can be named after the place '..'.")]


def test_a_catalogue_on_disk(tmp_path):
    write_field(tmp_path / "field")
    (tmp_path / "tiles").mkdir()
    for day in DAYS[:2]:
        (tmp_path / "tiles" / f"{day}.json").write_text(json.dumps(item(day, f"../field/{day}")))
    links = [{"rel": "item", "href": f"./{day}.json"} for day in DAYS[:2]] + [{"rel": "parent", "href": "../catalog.json"}]
    (tmp_path / "tiles" / "collection.json").write_text(json.dumps({"type": "Collection", "links": links}))
    (tmp_path / "catalog.json").write_text(
        json.dumps({"type": "Catalog", "links": [{"rel": "child", "href": "tiles/collection.json"}]})
    )
    units, _ = planned(tmp_path, tmp_path / "catalog.json")
    assert [unit.date for unit in units] == list(DAYS[:2])


def test_a_search_by_address_with_pages_and_files_elsewhere(tmp_path):
    found = [item(day, "https://far.away/tiles") for day in DAYS] + [item(DAYS[0], "https://far.away/tiles", "32TNT")]
    for one in found[:3]:
        write_field(tmp_path / "raw")
        (tmp_path / "files").mkdir(exist_ok=True)
        (tmp_path / "raw" / one["properties"]["datetime"][:10]).rename(tmp_path / "files" / one["id"])
        for left in (tmp_path / "raw").iterdir():
            for file in left.iterdir():
                file.unlink()
            left.rmdir()
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "search").write_text(collection(found[:2], {"rel": "next", "href": "page2"}))
    (tmp_path / "web" / "page2").write_text(collection(found[2:], {"rel": "next", "href": "search"}))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "web")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}/search"
        units, bad = planned(tmp_path, address, files=tmp_path / "files")
        nothing, all_bad = planned(tmp_path, address)
    finally:
        server.shutdown()
        server.server_close()
    assert [unit.name for unit in units] == [f"T31UFS/{day}" for day in DAYS]
    assert [where for where, _ in bad] == ["S2A_32TNT_20200101_0_L2A"] and isinstance(bad[0][1], InputMissing)
    assert nothing == [] and len(all_bad) == 4


def broken(what: str) -> dict | int:
    """An item like the others but for one thing."""
    whole = item(DAYS[1], f"field/{DAYS[1]}")
    wrong = {
        "item": 1, "assets": {**whole, "assets": [1]}, "asset": {**whole, "assets": {"image": 1}},
        "properties": {**whole, "properties": "x"}, "date": {**whole, "properties": {"datetime": "some day"}},
    }  # fmt: skip
    return wrong[what]


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("item", "Number 2 of the features is no STAC item."),
        ("assets", "'assets' of S2A_31UFS_20200106_0_L2A cannot be read."),
        ("asset", "Asset 'image' of S2A_31UFS_20200106_0_L2A cannot be read."),
        ("properties", "'properties' of S2A_31UFS_20200106_0_L2A cannot be read."),
        ("date", "The date of S2A_31UFS_20200106_0_L2A cannot be read."),
    ],
)
def test_an_item_that_cannot_be_read_is_told_and_the_others_are_planned(tmp_path, what, said):
    write_field(tmp_path / "field")
    found = [item(DAYS[0], f"field/{DAYS[0]}"), broken(what), item(DAYS[2], f"field/{DAYS[2]}")]
    (tmp_path / "found.json").write_text(collection(found))
    units, bad = planned(tmp_path, tmp_path / "found.json")
    assert [unit.date for unit in units] == [DAYS[0], DAYS[2]]
    assert [error.what for _, error in bad] == [said] and isinstance(bad[0][1], InputCorrupt)


@pytest.mark.parametrize("href", ["http://[", "x" * 5000, "a\u0000b.tif", None])
def test_an_address_that_is_none_leads_nowhere(tmp_path, href):
    one = {**item(DAYS[0], "none"), "assets": {"image": {"href": href}}}
    (tmp_path / "found.json").write_text(collection([one]))
    units, bad = planned(tmp_path, tmp_path / "found.json", files=tmp_path)
    assert units == [] and [(where, type(error)) for where, error in bad] == [(one["id"], InputMissing)]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"type": "FeatureCollection", "features": None}, "The STAC document has no list of features."),
        ({"type": "Catalog", "links": {"rel": "item"}}, "The STAC document has no list of links."),
        ({"type": "Catalog", "links": [{"rel": "item", "href": "http://["}]}, "A link of the STAC document is no address."),
    ],
)
def test_a_document_that_cannot_be_read_is_told_and_the_others_are_planned(tmp_path, document, said):
    (tmp_path / "bad.json").write_text(json.dumps(document))
    field = write_field(tmp_path / "field", dates=2)
    units, bad = plan_units([tmp_path / "bad.json", field], tmp_path / "out", {"model": "linear"}, lists=tmp_path / "lists")
    assert [unit.name for unit in units] == ["field/2020-01-01", "field/2020-01-06"]
    assert [(where, error.what) for where, error in bad] == [(str(tmp_path / "bad.json"), said)]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def test_what_is_stac_and_what_is_not(tmp_path):
    (tmp_path / "rows.json").write_text(json.dumps([{"date": "2020-01-01", "s2": "a.tif"}]))
    (tmp_path / "broken.json").write_text("{")
    assert (
        not is_stac(str(tmp_path / "rows.json")) and not is_stac(str(tmp_path / "broken.json")) and not is_stac(str(tmp_path))
    )
    assert is_stac("https://example.org/search")
    (tmp_path / "bad.json").write_text(json.dumps({"type": "Catalog", "links": [{"rel": "item", "href": "broken.json"}]}))
    with pytest.raises(InputCorrupt, match="not JSON"):
        list(items(str(tmp_path / "bad.json")))
    with pytest.raises(InputMissing, match="cannot be read"):
        list(items("http://127.0.0.1:9/search"))


@pytest.mark.parametrize(
    ("one", "place"),
    [
        ({"id": "S2B_MSIL2A_20200101T104429_R008_T31UFS_20200101T130000", "properties": {}}, "T31UFS"),
        ({"id": "x", "properties": {"s2:mgrs_tile": "32TNT"}}, "T32TNT"),
        ({"id": "x", "properties": {"grid:code": "MGRS-31UFS"}}, "T31UFS"),
        ({"id": "x", "properties": {}, "collection": "farm"}, "farm"),
    ],
)
def test_places_have_the_names_of_tiles(one, place):
    assert place_of(one) == place
