"""Band tables of Sentinel-2 and Sentinel-1: name, order, native resolution, wavelength.

Wavelengths: central wavelengths of Sentinel-2A in nanometres (ESA Sentinel-2 User Handbook, table 'Spectral bands').
"""

from __future__ import annotations

from typing import NamedTuple

from unclouded.errors import InputUnsupported


class Band(NamedTuple):
    """One Sentinel-2 band. `number` is ESA's band id in product metadata (B8A is 8, B09 is 9)."""

    name: str
    number: int
    metres: int
    nanometres: float
    common: str


S2: tuple[Band, ...] = (
    Band("B01", 0, 60, 442.7, "coastal"),
    Band("B02", 1, 10, 492.4, "blue"),
    Band("B03", 2, 10, 559.8, "green"),
    Band("B04", 3, 10, 664.6, "red"),
    Band("B05", 4, 20, 704.1, "rededge1"),
    Band("B06", 5, 20, 740.5, "rededge2"),
    Band("B07", 6, 20, 782.8, "rededge3"),
    Band("B08", 7, 10, 832.8, "nir"),
    Band("B8A", 8, 20, 864.7, "nir08"),
    Band("B09", 9, 60, 945.1, "nir09"),
    Band("B10", 10, 60, 1373.5, "cirrus"),
    Band("B11", 11, 20, 1613.7, "swir16"),
    Band("B12", 12, 20, 2202.4, "swir22"),
)
L1C: tuple[str, ...] = tuple(b.name for b in S2)
L2A: tuple[str, ...] = tuple(b.name for b in S2 if b.name != "B10")  # Sen2Cor does not deliver the cirrus band
S1: tuple[str, ...] = ("VV", "VH")

BY_NAME: dict[str, Band] = {b.name: b for b in S2}
_ALIASES: dict[str, str] = (
    {b.name.lower(): b.name for b in S2}
    | {b.name.lower().replace("b0", "b"): b.name for b in S2}
    | {b.common: b.name for b in S2}
    | {"b08a": "B8A"}
)


def band_name(text: str) -> str:
    """The standard name of a band written in any of the usual ways: 'b2', 'B02', 'B02_10m', 'blue' -> 'B02'.

    Raises InputUnsupported for a name that is no Sentinel-2 band.
    """
    key = text.strip().lower().split("_")[0].split(" ")[0]
    if key not in _ALIASES:
        raise InputUnsupported(
            f"'{text}' is not a Sentinel-2 band.",
            why=f"expected one of {', '.join(L1C)} (or b2, blue, B02_10m, ...).",
            do="name the bands of the file in order with --bands B02,B03,...",
        )
    return _ALIASES[key]


def is_band(text: str) -> bool:
    """Whether `text` names a Sentinel-2 band in any of the usual ways."""
    return text.strip().lower().split("_")[0].split(" ")[0] in _ALIASES
