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
from unclouded.sample import file_name
from unclouded.scenes.series import RASTERS, is_safe, kind_of

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


def items(source: str) -> Iterator[dict[str, Any]]:
    """All items from a document on: pages of a search, items of a catalogue. Each has `_home`, what its paths are relative to.

    Raises InputMissing (no file, no answer), InputCorrupt (no JSON).
    """
    todo, seen = [source if is_address(source) else str(Path(source).absolute())], set[str]()
    while todo:
        at = todo.pop(0)
        if at in seen or len(seen) >= MAX_DOCUMENTS:
            continue
        seen.add(at)
        found = _parsed(_fetched(at), at)
        features = found.get("features", []) if found.get("type") == "FeatureCollection" else [found]
        yield from ({**item, "_home": at} for item in features if item.get("type") == "Feature")
        follow = ("next",) if found.get("type") == "FeatureCollection" else ("child", "item", "items")
        links = [link for link in found.get("links", []) if isinstance(link, dict) and link.get("rel") in follow]
        named = (_beside(at, str(link["href"])) for link in links if link.get("method", "GET") == "GET" and "href" in link)
        todo += [where for where in named if is_address(where) == is_address(at)]  # neither leads to the other world


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
    except (urllib.error.URLError, HTTPException, OSError) as error:
        raise InputMissing("The STAC document cannot be read.", where=at, why=str(error), do="check the address.") from error
    if len(data) > MAX_BYTES:
        raise InputCorrupt(f"The STAC document is larger than {MAX_BYTES >> 20} MiB.", where=at, do="ask for smaller pages.")
    return data


def _parsed(data: bytes, at: str) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError as error:
        raise InputCorrupt("This is not JSON.", where=at, why=str(error)) from error
    if not isinstance(found, dict):
        raise InputCorrupt("This is not a STAC document.", where=at, why=f"it holds a {type(found).__name__}.")
    return found


def place_of(item: Mapping[str, Any]) -> str:
    """The Sentinel-2 tile of an item, else its collection as it is written, else 'place'."""
    facts = item.get("properties") or {}
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
    """One date: column of a manifest -> path. Raises InputMissing where nothing of it is on this machine."""
    facts, name = item.get("properties") or {}, str(item.get("id"))
    day = str(facts.get("datetime") or facts.get("start_datetime") or "")[:10]
    if files is not None:
        for product in (files / f"{Path(name).name}.SAFE", files / f"{Path(name).name}.zip"):
            if product.exists():
                return {"date": day, "safe": str(product.absolute())}
    row = {"date": day}
    for key, asset in (item.get("assets") or {}).items():
        found = _local(item, asset, files)
        if found is not None and is_safe(found):
            return {"date": day, "safe": str(found)}
        if found is not None and (column := _column(key, found)):
            row.setdefault(column, str(found))
    if not any(column == "s2" or is_band(column) for column in row):
        raise InputMissing(
            f"The images of {name} are not on this machine.", where=item["_home"],
            do="download them, and give the folder with --files: <item id>.SAFE or <item id>/<file name>.",
        )  # fmt: skip
    return row


def _local(item: Mapping[str, Any], asset: Mapping[str, Any], files: Path | None) -> Path | None:
    """The file of an asset, if it is here."""
    href = str(asset.get("href", ""))
    if files is not None:
        found = files / Path(str(item.get("id"))).name / Path(unquote(urlsplit(href).path)).name
        if found.exists():
            return found.absolute()
    remote = is_address(str(item["_home"])) or ("://" in href and not href.startswith("file://"))
    if not href or remote or href.startswith("/vsi"):
        return None
    path = Path(_beside(str(item["_home"]), href))
    return path if path.exists() else None


def _column(key: str, file: Path) -> str:
    """The column of a manifest for an asset: its key where that says it, else its file name; "" for others."""
    if file.suffix.lower() not in RASTERS:
        return ""
    if is_band(key) or key.lower() in ("s2", "s1", "scl", "mask"):
        return key.lower()
    kind = kind_of(file)
    return kind.lower() if kind != "s2" or file.stem.lower() == "s2" or key.lower() in ("data", "image") else ""
