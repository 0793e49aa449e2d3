"""Whether the product of a unit is there, made with its options and from its files; if not, what was different."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from unclouded.batch.jobs import Unit
from unclouded.errors import UncloudedError, UsageError
from unclouded.products.product import MANIFEST, load_product, plain
from unclouded.remove import fingerprints, job_options, remove_clouds
from unclouded.scenes.series import entries

DEFAULTS = {name: known.default for name, known in inspect.signature(remove_clouds).parameters.items()}
PATHS = ("mask", "model")  # options that may be a path, so that two texts can be one file


def is_there(unit: Unit) -> bool:
    """Whether the product of a unit is finished, was made with its options, and from input files as they are now."""
    try:
        return not unlike(unit)
    except UncloudedError:
        return False


def unlike(unit: Unit) -> list[str]:
    """What was different when the product of a unit was made: options by name, "s1" (radar at all), "inputs" (the files).

    An option that neither the unit nor the product names is the default of `remove_clouds`. Dates that the series has besides
    those of the product make no difference. Raises what `load_product` raises, and what is wrong with the unit.
    """
    manifest = load_product(Path(unit.out) / unit.date).manifest
    job, decided = manifest.get("job") or {}, manifest.get("decisions") or {}
    asked = plain(job_options(**{**DEFAULTS, **unit.options}))
    found = [name for name, value in asked.items() if name not in job or not _same(name, job[name], value)]
    if (device := unit.options.get("device", "auto")) != "auto" and (device == "cpu") != (job.get("device") == "cpu"):
        found.append("device")
    if unit.s1 and not decided.get("radar"):
        found.append("s1")
    return [*found, *(["inputs"] if not _from_files_of(unit, job.get("inputs") or []) else [])]


def _same(name: str, one: Any, other: Any) -> bool:
    return one == other or (name in PATHS and Path(str(one)).resolve() == Path(str(other)).resolve())


def _from_files_of(unit: Unit, inputs: list[Any]) -> bool:
    """Whether files (name below their common folder, bytes, time of change) are all among those of the unit, unchanged."""
    now: dict[tuple[Any, ...], list[str]] = {}
    for file in _files_of(unit):
        for name, *facts in plain(fingerprints([str(file)])):
            now.setdefault((name, *facts), []).append(f"/{file.resolve().as_posix()}")
    known = [now.get((Path(name).name, *facts), []) for name, *facts in inputs]
    return all(any(file.endswith(f"/{name}") for file in some) for some, (name, *_) in zip(known, inputs, strict=True))


def _files_of(unit: Unit) -> Iterator[Path]:
    """All files that a unit may read: of its series, its radar (that of the series only where it has no own), its mask."""
    for path in unit.s2:
        for entry in entries(Path(path)):
            own = (entry,) if isinstance(entry, Path) else (*entry.s2, entry.scl, entry.mask, *(() if unit.s1 else entry.s1))
            yield from (file for file in own if file is not None)
    for path in unit.s1:
        for entry in entries(Path(path)):
            yield from () if isinstance(entry, Path) else (*entry.s1, *entry.s2)
    yield Path(unit.options.get("mask", "auto"))


def refuse_to_replace(unit: Unit) -> None:
    """Raise UsageError if there is a finished product in the place of a unit's, saying what is different about it."""
    at = Path(unit.out) / unit.date
    if not (at / MANIFEST).exists():
        return
    try:
        what = f"other {', '.join(unlike(unit))}"
    except UncloudedError as error:
        what = error.what.rstrip(".")
    raise UsageError(
        f"There is another product of {unit.date} already ({what}); --overwrite replaces it.", where=at,
        do="repeat the command with --overwrite, or plan into another --out.",
    )  # fmt: skip


def arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a unit as `remove_clouds` takes them."""
    box = options.get("bbox")
    return {**options, **({"bbox": tuple(box)} if box is not None else {})}
