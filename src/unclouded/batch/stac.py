"""STAC items as places to plan for: an ItemCollection, a static catalogue on disk, or the answer of a search by URL.

Only JSON is fetched, and only from an address that the user gave (and its further pages): pixels are read from local files.
An asset lies where its address says, if that is a path; what a search on the net found is looked for below `files`, as
`<item id>.SAFE`, `<item id>.zip` or `<item id>/<file name>`.
"""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from unclouded.bands import is_band
from unclouded.errors import InputCorrupt, InputMissing, UncloudedError, UsageError
from unclouded.products.journal import write_file
from unclouded.scenes.series import RASTERS, date_in, is_safe, kind_of
from unclouded.text import file_name

KINDS = ("FeatureCollection", "Feature", "Catalog", "Collection")
MAX_BYTES = 64 * 2**20  # of one JSON document
MAX_DOCUMENTS = 10_000
TIMEOUT = 60  # seconds
_TILE = re.compile(r"(?<![A-Z0-9])T?(\d{2}[C-X][A-Z]{2})(?![A-Z0-9])")


def is_stac(source: str) -> bool:
    """Whether an argument is an address, or a JSON file that says it is STAC."""
    if is_address(source):
        return True
    path = Path(source)
    if path.suffix.lower() not in (".json", ".geojson") or not path.is_file():
        return False
    try:
        return _parsed(path.read_bytes(), source).get("type") in KINDS
    except UncloudedError:
        return False


def is_address(source: str) -> bool:
    """Whether a text is an http address."""
    return source.startswith(("http://", "https://"))


def items(source: str) -> Iterator[dict[str, Any] | InputCorrupt]:
    """All items from a document on: pages of a search, items of a catalogue. Each has `_home`, what its paths are relative to.

    What is no item where one should be comes as the error that says so.
    Raises InputMissing (no file, no answer), InputCorrupt (no JSON, no list where STAC has one).
    """
    todo, seen = [source if is_address(source) else str(Path(source).absolute())], set[str]()
    while todo:
        at = todo.pop(0)
        if at in seen or len(seen) >= MAX_DOCUMENTS:
            continue
        seen.add(at)
        found = _parsed(_fetched(at), at)
        features = _listed(found, "features", at) if found.get("type") == "FeatureCollection" else [found]
        yield from (_item(feature, n, at) for n, feature in enumerate(features, 1) if _may_be_item(feature))
        follow = ("next",) if found.get("type") == "FeatureCollection" else ("child", "item", "items")
        todo += [
            where for where in _links(found, at, follow) if is_address(where) == is_address(at)
        ]  # not into the other world


def _links(found: Mapping[str, Any], at: str, follow: tuple[str, ...]) -> list[str]:
    """Where the links of a document lead that are to be followed. Raises InputCorrupt."""
    links = [link for link in _listed(found, "links", at) if isinstance(link, dict) and link.get("rel") in follow]
    try:
        return [_beside(at, str(link["href"])) for link in links if link.get("method", "GET") == "GET" and "href" in link]
    except ValueError as error:
        raise InputCorrupt("A link of the STAC document is no address.", where=at, why=str(error)) from error


def _listed(found: Mapping[str, Any], name: str, at: str) -> list[Any]:
    """A list that STAC has in a document, empty where it is left out. Raises InputCorrupt where it is something else."""
    listed = found.get(name, [])
    if not isinstance(listed, list):
        raise InputCorrupt(f"The STAC document has no list of {name}.", where=at, why=f"it holds {_kind(listed)} there.")
    return listed


def _kind(value: Any) -> str:
    return "null" if value is None else f"a value of the type {type(value).__name__}"


def _may_be_item(feature: Any) -> bool:
    return not isinstance(feature, dict) or feature.get("type") == "Feature"


def _item(feature: Any, number: int, at: str) -> dict[str, Any] | InputCorrupt:
    if isinstance(feature, dict):
        return {**feature, "_home": at}
    return InputCorrupt(f"Number {number} of the features is no STAC item.", where=at, why=f"it is {_kind(feature)}.")


def _beside(at: str, href: str) -> str:
    """An address or path relative to a document."""
    if is_address(at) or is_address(href):
        return urljoin(at, href)
    return str((Path(at).parent / unquote(href.removeprefix("file://"))).absolute())


def _fetched(at: str) -> bytes:
    try:
        if is_address(at):
            request = urllib.request.Request(at, headers={"Accept": "application/json"})
            with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
                data: bytes = answer.read(MAX_BYTES + 1)
        else:
            with open(at, "rb") as file:
                data = file.read(MAX_BYTES + 1)
    except (urllib.error.URLError, HTTPException, OSError, ValueError) as error:
        raise InputMissing("The STAC document cannot be read.", where=at, why=str(error), do="check the address.") from error
    if len(data) > MAX_BYTES:
        raise InputCorrupt(f"The STAC document is larger than {MAX_BYTES >> 20} MiB.", where=at, do="ask for smaller pages.")
    return data


def _parsed(data: bytes, at: str) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputCorrupt("This is not JSON.", where=at, why=str(error)) from error
    if not isinstance(found, dict):
        raise InputCorrupt("This is not a STAC document.", where=at, why=f"it holds a {type(found).__name__}.")
    return found


def _object(found: Any, what: str, where: object) -> Mapping[str, Any]:
    """A JSON object, empty where it is left out. Raises InputCorrupt where it is something else."""
    if found is None or isinstance(found, dict):
        return found or {}
    raise InputCorrupt(f"{what} cannot be read.", where=where, why=f"expected a JSON object, found {_kind(found)}.")


def _part(item: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return _object(item.get(name), f"'{name}' of {item.get('id')}", item.get("_home", ""))


def place_of(item: Mapping[str, Any]) -> str:
    """The Sentinel-2 tile of an item, else its collection as it is written, else 'place'."""
    facts = _part(item, "properties")
    for text in (facts.get("grid:code"), facts.get("s2:mgrs_tile"), item.get("id")):
        if found := _TILE.search(str(text or "").upper().replace("_", " ").replace("MGRS-", "")):
            return f"T{found.group(1)}"
    return str(item.get("collection") or "place")


def place_name(text: str) -> str:
    """The folder of a place, below the one that is written to. Raises UsageError for a name without a letter to make it of."""
    if name := file_name(text):
        return name
    raise UsageError(
        f"No folder can be named after the place '{text}'.", why="names are made of A-Z, a-z, 0-9, points and dashes.",
        do="name it in a table with the columns series and place.",
    )  # fmt: skip


def places(
    source: str, folder: Path, files: Path | None = None
) -> tuple[list[tuple[str, tuple[Path, ...]]], list[tuple[str, UncloudedError]]]:
    """The places of a STAC source, each with what `open_scene` takes, and the items that are not on this machine.

    A place of .SAFE products is given by these; for others a manifest is written to `folder`. Raises what `items` raises.
    """
    rows: dict[str, list[dict[str, str]]] = {}
    bad: list[tuple[str, UncloudedError]] = []
    for item in items(source):
        if isinstance(item, InputCorrupt):
            bad.append((item.where, item))
            continue
        try:
            row, place = _row(item, files), place_of(item)
            place_name(place)
            rows.setdefault(place, []).append(row)
        except UncloudedError as error:
            bad.append((str(item.get("id")), error))
    return [(place, _written(folder / f"{place_name(place)}.json", some)) for place, some in sorted(rows.items())], bad


def _written(path: Path, rows: list[dict[str, str]]) -> tuple[Path, ...]:
    if all("safe" in row for row in rows):
        return tuple(Path(row["safe"]) for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    listed = sorted((row for row in rows if "safe" not in row), key=lambda row: row["date"])
    write_file(path, json.dumps(listed, indent=1).encode())
    return (path, *(Path(row["safe"]) for row in rows if "safe" in row))


def _row(item: Mapping[str, Any], files: Path | None) -> dict[str, str]:
    """One date: column of a manifest -> path. Raises InputMissing where nothing of it is on this machine, InputCorrupt."""
    name = str(item.get("id"))
    if files is not None:
        for product in (files / f"{Path(name).name}.SAFE", files / f"{Path(name).name}.zip"):
            if _exists(product):
                return {"safe": str(product.absolute())}
    row = {"date": _day(item)}
    for key, asset in _part(item, "assets").items():
        found = _local(item, _object(asset, f"Asset '{key}' of {name}", item["_home"]), files)
        if found is not None and is_safe(found):
            return {"safe": str(found)}
        if found is not None and (column := _column(key, found)):
            row.setdefault(column, str(found))
    if not any(column == "s2" or is_band(column) for column in row):
        raise InputMissing(
            f"The images of {name} are not on this machine.", where=item["_home"],
            do="download them, and give the folder with --files: <item id>.SAFE or <item id>/<file name>.",
        )  # fmt: skip
    return row


def _day(item: Mapping[str, Any]) -> str:
    """The date of an item, "" where it has none. Raises InputCorrupt where it is no date."""
    facts = _part(item, "properties")
    day = str(facts.get("datetime") or facts.get("start_datetime") or "")[:10]
    if day and date_in(day) is None:
        raise InputCorrupt(f"The date of {item.get('id')} cannot be read.", where=item["_home"], why=f"it is '{day}'.")
    return day


def _exists(path: Path) -> bool:
    """Whether there is such a file; no for what no file can be called."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _local(item: Mapping[str, Any], asset: Mapping[str, Any], files: Path | None) -> Path | None:
    """The file of an asset, if it is here. An address that cannot be one leads nowhere."""
    href, home = str(asset.get("href", "")), str(item["_home"])
    try:
        named, path = Path(unquote(urlsplit(href).path)).name, _beside(home, href)
    except ValueError:
        return None
    folder = Path(str(item.get("id"))).name
    if files is not None and ".." not in (folder, named) and _exists(found := files / folder / named):
        return found.absolute()
    remote = is_address(home) or ("://" in href and not href.startswith("file://"))
    if not href or remote or href.startswith("/vsi"):
        return None
    return Path(path) if _exists(Path(path)) else None


def _column(key: str, file: Path) -> str:
    """The column of a manifest for an asset: its key where that says it, else its file name; "" for others."""
    if file.suffix.lower() not in RASTERS:
        return ""
    if is_band(key) or key.lower() in ("s2", "s1", "scl", "mask"):
        return key.lower()
    kind = kind_of(file)
    return kind.lower() if kind != "s2" or file.stem.lower() == "s2" or key.lower() in ("data", "image") else ""
