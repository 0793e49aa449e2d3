"""Which radar files of one date make one acquisition: VV and VH in two files do, two frames of a pass do not."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from unclouded.raster import opened
from unclouded.scenes.series import Entry, alike

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

Bands = Mapping[Path, Sequence[str]]

_POLARISED = re.compile(r"(?:^|[_.-])(?:SIGMA0|GAMMA0)?[_.-]?(?:VVVH|VV|VH)(?=[_.-]|$)")


def polarisations(dataset: DatasetReader, file: Path) -> list[str]:
    """'VV', 'VH', 'HH', 'HV', 'INCIDENCE' or '' per band, by its description; of a file with one band also by its name."""
    single = dataset.count == 1
    return [_polarisation(d or "") or (_polarisation(file.stem) if single else "") for d in dataset.descriptions]


def _polarisation(text: str) -> str:
    words = re.split(r"[^A-Z0-9]+", text.upper())
    for name in ("VV", "VH", "HH", "HV"):
        if name in words or any(w in (f"SIGMA0{name}", f"GAMMA0{name}") for w in words):
            return name
    return "INCIDENCE" if any(w.startswith("INCIDENCE") or w == "ANGLE" for w in words) else ""


def frames(entry: Entry) -> list[Entry]:
    """The acquisitions among the radar files of one date, each as an entry. A file with both polarisations is one, files of
    one polarisation go together; what is left (an incidence angle) joins the one that is named most like it.
    """
    bands = {file: polarisations(opened(file), file) for file in entry.s1}
    whole = [file for file in entry.s1 if _whole(bands[file])]
    found = [[file] for file in whole] + _together([file for file in entry.s1 if file not in whole], bands, whole)
    if len(found) < 2:
        return [entry]
    taken = [file for group in found for file in group]
    for file in entry.s1:
        if file not in taken:
            max(found, key=lambda group: alike(group[0].stem, file.stem)).append(file)
    return [replace(entry, name=group[0].stem, s1=tuple(group)) for group in found]


def _whole(bands: Sequence[str]) -> bool:
    return {"VV", "VH"} <= set(bands) or (not {"VV", "VH"} & set(bands) and bands.count("") >= 2)


def _together(files: Sequence[Path], bands: Bands, whole: Sequence[Path]) -> list[list[Path]]:
    """Files of one polarisation by acquisition: one VV and one VH, or several of each that are named alike. Those named like
    a file with both repeat it.
    """
    single = [file for file in files if {"VV", "VH"} & set(bands[file])]
    groups: dict[str, list[Path]] = {}
    for file in single:
        groups.setdefault(_common(file), []).append(file)
    for file in whole:
        groups.pop(_common(file), None)
    left = [file for group in groups.values() for file in group]
    there = [name for file in left for name in bands[file]]
    if there.count("VV") <= 1 and there.count("VH") <= 1:
        return [left] if {"VV", "VH"} <= set(there) else []
    return list(groups.values())


def _common(file: Path) -> str:
    """A name without its polarisation."""
    return _POLARISED.sub("", file.stem.upper())
