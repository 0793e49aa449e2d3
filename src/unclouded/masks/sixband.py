"""A cloud rule for any Sentinel-2 product with visible bands: brightness, haze, whiteness, snow, and cirrus where there is B10.

Cloud is bright in blue and bluer than ground of the same redness (haze-optimised transform, Zhang et al. 2002, as used in
Fmask, Zhu & Woodcock 2012); bright soil and sand are much brighter in short-wave infrared than in blue, and red against
blue; snow is dark in short-wave infrared (NDSI, limits as in Sen2Cor). Limits are for surface reflectance; at the top of
the atmosphere a typical clear sky is subtracted first. Shadows are found from geometry (`unclouded.masks.shadow`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unclouded.masks.detection import Detection, band, require, with_nodata
from unclouded.masks.morphology import closed, drop_specks, grow, opened, pixel_metres, reach
from unclouded.sample import Cover, Place, Sample

BANDS = ("B02", "B04")  # at least; B03, B08 or B8A, B11 and B10 sharpen the result
CLOUD_FROM = 0.5

# Reflectance of a clear sky over black ground at sea level, sun at 35 degrees, light aerosol: what L1C has above L2A.
SKY: dict[str, float] = {"B02": 0.065, "B03": 0.035, "B04": 0.015}
BLUE, HAZE = 0.09, 0.04  # least blue reflectance, and least blue - red / 2
BLUE_TO_RED, BLUE_TO_SWIR = 0.65, 0.35  # soil and sand lie below both
CIRRUS = 0.012  # B10: as Sen2Cor; low ground never shows there, high dry mountains do
DRY = 8.5  # B10 lets as much light through as B09 to this power; read from clear images where B09 lets 0.44 to 0.56 through
AIR_METRES = 60.0  # air is as dry beside a pixel
THICK_FROM = 0.18  # blue reflectance from which cloud is called thick
OPEN_METRES, CLOSE_METRES, SPECK = 10.0, 20.0, 2_000.0  # the last in square metres: roofs


def sixband(sample: Sample) -> Detection:
    """Cloud (THICK, THIN), snow and clear of every date. Raises InputUnsupported without B02 and B04.

    The score is 0.5 at the limit of the test that fails first, and cloud is where it reaches 0.5.
    """
    require(sample.place, "sixband", BANDS)
    pixel = pixel_metres(sample.place)
    frost = snow(sample)
    score = np.where(frost, np.float32(0), cloud_score(sample))
    if "B10" in sample.place.bands:
        score = np.maximum(score, np.clip(band(sample, "B10") * (np.float32(0.5) / cirrus_limit(sample, AIR_METRES)), 0, 1))
    bright = score >= CLOUD_FROM
    bright &= grow(opened(bright, OPEN_METRES, pixel), OPEN_METRES, pixel)  # opening takes corners too: put them back
    cloud = drop_specks(closed(bright, CLOSE_METRES, pixel), SPECK, pixel)
    classes = np.where(frost, Cover.SNOW, Cover.CLEAR).astype(np.uint8)
    classes[cloud] = thickness(sample)[cloud]
    return Detection(classes=with_nodata(classes, sample.s2_valid), probability=np.where(sample.s2_valid, score, np.float32(0)))


def halo(place: Place) -> int:
    """Pixels around a window beyond which the rule no longer changes it."""
    pixel = pixel_metres(place)
    air = reach(AIR_METRES, pixel) if "B10" in place.bands else 0
    return air + 3 * reach(OPEN_METRES, pixel) + 2 * reach(CLOSE_METRES, pixel) + int(SPECK / (pixel[0] * pixel[1])) + 1


def surface(sample: Sample, name: str) -> NDArray[np.float32]:
    """A visible band (T, H, W) as it would be without the clear sky above it."""
    return band(sample, name) - np.float32(SKY.get(name, 0.0) if sample.place.level == "L1C" else 0.0)


def cloud_score(sample: Sample) -> NDArray[np.float32]:
    """How cloud-like each pixel is (T, H, W) in [0, 1], 0.5 at the limit of the weakest test."""
    blue, red = surface(sample, "B02"), surface(sample, "B04")
    weakest = np.minimum(blue / np.float32(BLUE), (blue - red / 2) / np.float32(HAZE))
    weakest = np.minimum(weakest, blue / np.float32(BLUE_TO_RED) / np.maximum(red, np.float32(0.01)))
    if "B11" in sample.place.bands:
        swir = np.maximum(band(sample, "B11"), np.float32(0.01))
        weakest = np.minimum(weakest, blue / np.float32(BLUE_TO_SWIR) / swir)
    return np.clip(weakest / 2, 0, 1)


def cirrus_limit(sample: Sample, metres: float = 0.0) -> NDArray[np.float32]:
    """The least reflectance of cirrus in B10 (T, H, W): `CIRRUS`, and where B10 shows more, what the ground may add to it.

    Water vapour hides the ground from B10. How much of it there is tells B09 against B8A, an absorption band and its
    neighbour; without them nothing is added, and high dry mountains read as cirrus. The moistest air within `metres` counts:
    B09 is coarse, and beside clouds its pixels are mixed.
    """
    above = band(sample, "B10")
    limit, shown = np.full(above.shape, CIRRUS, np.float32), above >= np.float32(CIRRUS)
    if not shown.any() or not {"B09", "B8A", "B11"} <= set(sample.place.bands):
        return limit
    vapour, near, short = (band(sample, name) for name in ("B09", "B8A", "B11"))
    below = np.maximum(near - above, np.float32(0.01))  # what B10 shows lies above the vapour and adds as much to all bands
    through = np.clip((vapour - above) / below, 0, 1)
    sides = [2 * reach(metres, (side, side)) + 1 for side in pixel_metres(sample.place)]
    through = ndimage.minimum_filter(through, (1, *sides), mode="nearest")[shown]
    limit[shown] += through ** np.float32(DRY) * np.clip((near[shown] + short[shown]) / 2, 0, 1)
    return limit


def snow(sample: Sample) -> NDArray[np.bool_]:
    """Snow and ice (T, H, W): NDSI > 0.42, bright, dark in short-wave infrared. Without B03 or B11 none is told from cloud."""
    names = sample.place.bands
    if "B03" not in names or "B11" not in names:
        return np.zeros(sample.s2_valid.shape, bool)
    green, swir = band(sample, "B03"), band(sample, "B11")
    bright = (band(sample, "B02") > 0.18) & (green > 0.18) & (swir < 0.16)
    for name in ("B08", "B8A"):
        if name in names:
            bright &= band(sample, name) > 0.15
    if "B10" in names:
        bright &= band(sample, "B10") < cirrus_limit(sample)
    return sample.s2_valid & bright & (green - swir > 0.42 * (green + swir))


def thickness(sample: Sample) -> NDArray[np.uint8]:
    """The class (T, H, W) that a pixel has if it is cloud: THICK where blue is bright, else THIN."""
    return np.where(surface(sample, "B02") >= THICK_FROM, Cover.THICK, Cover.THIN).astype(np.uint8)
