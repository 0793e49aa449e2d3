"""The tables behind the simulated place: spectra and backscatter of surfaces, crop calendars, climates.

Reflectance at the surface per Sentinel-2 band is typical of published spectral libraries (USGS, ECOSTRESS) seen at 10 m;
backscatter is sigma0 in dB at 38 degrees incidence, typical of C band (Ulaby and Dobson, Handbook of Radar Scattering
Statistics for Terrain, 1989). They are rounded, by hand, and meant to be plausible, not measured.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unclouded.bands import L1C


class Surface(NamedTuple):
    """One pure surface: reflectance in the 13 bands B01..B12 (L1C order), sigma0 VV and VH in dB."""

    name: str
    spectrum: tuple[float, ...]
    vv: float
    vh: float


# fmt: off
SURFACES: tuple[Surface, ...] = (
    #                        B01   B02   B03   B04   B05   B06   B07   B08   B8A   B09   B10   B11   B12
    Surface("soil",        (.070, .085, .120, .160, .178, .190, .203, .220, .234, .245, .250, .310, .265), -13.0, -21.5),
    Surface("wet soil",    (.046, .056, .077, .097, .109, .118, .126, .136, .145, .152, .150, .160, .122),  -8.5, -18.0),
    Surface("red soil",    (.050, .062, .105, .200, .232, .255, .275, .298, .315, .330, .340, .400, .350), -13.5, -22.0),
    Surface("leaf",        (.020, .027, .060, .030, .092, .320, .430, .460, .480, .485, .300, .210, .100), -11.5, -16.0),
    Surface("dark leaf",   (.018, .023, .048, .024, .078, .265, .365, .395, .415, .420, .260, .180, .082), -10.0, -15.0),
    Surface("flower",      (.030, .042, .150, .125, .175, .350, .450, .490, .500, .500, .310, .245, .125), -10.5, -15.0),
    Surface("straw",       (.072, .092, .140, .188, .215, .245, .268, .300, .318, .330, .300, .345, .255), -12.0, -19.0),
    Surface("grass",       (.026, .036, .072, .048, .115, .280, .350, .380, .400, .405, .270, .230, .120), -12.5, -18.8),
    Surface("conifer",     (.014, .017, .030, .020, .044, .125, .165, .185, .197, .200, .115, .088, .040),  -9.0, -14.5),
    Surface("broadleaf",   (.017, .021, .045, .023, .073, .260, .350, .385, .405, .408, .250, .175, .078),  -8.7, -14.0),
    Surface("bare wood",   (.034, .043, .056, .070, .092, .120, .142, .165, .182, .190, .180, .205, .145),  -9.3, -15.8),
    Surface("water",       (.024, .026, .030, .019, .015, .010, .009, .008, .007, .006, .003, .003, .002), -20.0, -27.0),
    Surface("turbid",      (.044, .054, .078, .060, .052, .030, .026, .022, .018, .012, .004, .005, .004), -19.0, -26.5),
    Surface("asphalt",     (.068, .080, .096, .108, .115, .120, .125, .132, .138, .142, .142, .160, .150), -15.0, -22.5),
    Surface("tiles",       (.058, .070, .105, .168, .200, .220, .240, .262, .275, .285, .290, .325, .292),  -4.0, -11.5),
    Surface("metal",       (.300, .340, .368, .388, .398, .405, .410, .415, .418, .420, .400, .400, .365),  -1.0,  -9.5),
    Surface("slate",       (.050, .060, .070, .080, .086, .090, .094, .100, .104, .106, .105, .122, .118),  -4.5, -12.0),
    Surface("snow",        (.900, .920, .910, .895, .885, .875, .860, .840, .815, .740, .300, .110, .085), -15.0, -22.0),
    Surface("char",        (.028, .032, .038, .046, .052, .057, .062, .070, .076, .082, .090, .135, .150), -14.0, -21.0),
)
# fmt: on

NAMES: dict[str, int] = {s.name: n for n, s in enumerate(SURFACES)}


def spectra(bands: tuple[str, ...]) -> NDArray[np.float32]:
    """Reflectance of every surface in some bands, (surfaces, C)."""
    return np.array([[s.spectrum[L1C.index(b)] for b in bands] for s in SURFACES], np.float32)


def backscatter() -> NDArray[np.float32]:
    """sigma0 of every surface in linear power, (surfaces, 2) [VV, VH]."""
    return np.array([[10 ** (s.vv / 10), 10 ** (s.vh / 10)] for s in SURFACES], np.float32)


class Crop(NamedTuple):
    """A crop's year: logistic green-up about day `start`, senescence about day `end`, harvest, all in days of the year.

    Days below 0 lie in the year before. `harvest` 0: never. `flood`: first day under water, 0 none. `again`: days until a
    second crop of the same kind, 0 none. `cuts`: days between mowings of a meadow, 0 none.
    """

    name: str
    leaf: str
    start: float
    speed: float
    peak: float
    end: float
    fading: float
    harvest: float = 0.0
    winter: float = 0.0  # green cover of an autumn-sown crop before `start`
    bloom: tuple[float, float] = (0.0, 0.0)
    flood: float = 0.0
    again: float = 0.0
    cuts: float = 0.0


CROPS: tuple[Crop, ...] = (
    Crop("winter wheat", "leaf", 92, 12, 0.95, 178, 6, 206, winter=0.30),
    Crop("winter barley", "leaf", 84, 11, 0.93, 162, 6, 188, winter=0.35),
    Crop("rapeseed", "leaf", 78, 10, 0.95, 172, 7, 198, winter=0.50, bloom=(108, 134)),
    Crop("maize", "dark leaf", 164, 8, 0.95, 258, 9, 276),
    Crop("sugar beet", "dark leaf", 152, 9, 0.97, 330, 20, 296),
    Crop("potato", "leaf", 158, 7, 0.95, 232, 8, 256),
    Crop("meadow", "grass", 82, 16, 0.92, 310, 25, winter=0.55, cuts=46),
    Crop("pasture", "grass", 80, 18, 0.86, 312, 28, winter=0.60),
    Crop("mediterranean cereal", "leaf", 42, 14, 0.85, 128, 7, 160, winter=0.25),
    Crop("vineyard", "dark leaf", 112, 13, 0.42, 292, 14),
    Crop("olives", "conifer", -200, 30, 0.42, 700, 30),
    Crop("irrigated maize", "dark leaf", 150, 8, 0.95, 242, 9, 262),
    Crop("dry grassland", "grass", -40, 22, 0.70, 132, 16),
    Crop("boreal cereal", "leaf", 152, 9, 0.90, 222, 8, 244),
    Crop("boreal ley", "grass", 132, 12, 0.88, 282, 14, winter=0.25, cuts=55),
    Crop("double rice", "leaf", 132, 8, 0.95, 188, 7, 204, flood=106, again=108),
    Crop("single rice", "leaf", 184, 9, 0.95, 256, 9, 276, flood=154),
    Crop("vegetables", "leaf", 100, 8, 0.75, 160, 9, 172, again=90),
    Crop("millet", "leaf", 196, 10, 0.62, 262, 9, 288),
    Crop("groundnut", "dark leaf", 202, 9, 0.55, 274, 10, 300),
    Crop("savanna", "grass", 186, 13, 0.60, 282, 22),
    Crop("fallow", "grass", 88, 20, 0.45, 215, 25),
)
CROP: dict[str, int] = {c.name: n for n, c in enumerate(CROPS)}


class Climate(NamedTuple):
    """A landscape and its weather. Lengths in pixels of 10 m, shares of area in [0, 1], days of year."""

    name: str
    crops: tuple[tuple[str, float], ...]  # with shares
    epsg: int
    latitude: float
    start: str  # default first day of a series
    block: float  # size of a block of parcels of one direction
    parcel: tuple[float, float]  # length and breadth of parcels
    forest: float
    conifer: float  # share of the forest
    scattered: float  # tree cover outside forests
    town: float  # share of settlement sites that are built
    lake: float
    relief: float  # standard deviation of slope
    red: float  # share of red soil
    rain: float  # probability of a rainy day in the wet season
    wet: tuple[float, float]  # wet season; the rest of the year has a tenth of its rain
    snow: tuple[float, float] = (0.0, 0.0)  # first and last day of snow, the first in the year before (negative)
    leaf_on: tuple[float, float] = (118.0, 298.0)  # broad-leaved trees


CLIMATES: dict[str, Climate] = {
    c.name: c
    for c in (
        Climate(
            "temperate",
            (("winter wheat", 0.22), ("winter barley", 0.08), ("rapeseed", 0.10), ("maize", 0.20), ("sugar beet", 0.10),
             ("potato", 0.08), ("meadow", 0.14), ("pasture", 0.08)),
            32631, 50.8, "2024-04-16", 62, (30, 14), 0.16, 0.35, 0.03, 0.75, 0.10, 0.03, 0.0, 0.40, (0, 366),
        ),
        Climate(
            "mediterranean",
            (("mediterranean cereal", 0.30), ("vineyard", 0.16), ("olives", 0.18), ("irrigated maize", 0.12),
             ("dry grassland", 0.24)),
            32630, 38.0, "2024-03-05", 52, (24, 12), 0.20, 0.7, 0.08, 0.6, 0.05, 0.20, 0.65, 0.30, (-90, 110),
        ),
        Climate(
            "snow",
            (("boreal cereal", 0.45), ("boreal ley", 0.40), ("pasture", 0.15)),
            32635, 61.5, "2024-02-20", 70, (26, 14), 0.60, 0.75, 0.05, 0.35, 0.40, 0.05, 0.0, 0.35, (0, 366),
            snow=(-45, 112), leaf_on=(136.0, 272.0),
        ),
        Climate(
            "rice",
            (("double rice", 0.50), ("single rice", 0.25), ("vegetables", 0.25)),
            32650, 30.5, "2024-04-20", 84, (22, 8), 0.06, 0.2, 0.04, 0.9, 0.20, 0.01, 0.0, 0.45, (90, 250),
            leaf_on=(90.0, 320.0),
        ),
        Climate(
            "dryland",
            (("millet", 0.34), ("groundnut", 0.16), ("savanna", 0.34), ("fallow", 0.16)),
            32630, 13.2, "2024-06-01", 66, (22, 14), 0.05, 0.0, 0.12, 0.5, 0.03, 0.04, 0.85, 0.45, (165, 275),
            leaf_on=(150.0, 330.0),
        ),
    )
}  # fmt: skip
