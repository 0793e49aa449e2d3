"""Where the sun stood when Sentinel-2 passed: from place and date, for products that do not say.

The satellites fly so that the sun always stands alike: they cross the equator southwards at 10:30 mean local solar time on an
orbit inclined by 98.62 degrees (ESA Sentinel-2 User Handbook), which fixes the local time at every latitude. The position of
the sun follows from the low-precision formulas of the Astronomical Almanac (0.01 degrees); the width of the swath, +-10 minutes
at the edges, is what limits the result to about 3 degrees of azimuth.
"""

from __future__ import annotations

from math import asin, atan2, cos, degrees, pi, radians, sin, sqrt, tan
from typing import NamedTuple

import numpy as np

from unclouded.sample import Place

NODE_HOURS = 10.5
INCLINATION = radians(98.62)


class Sun(NamedTuple):
    """Azimuth clockwise from north and zenith angle, in degrees."""

    azimuth: float
    zenith: float


def local_hours(latitude: float) -> float:
    """Mean local solar time in hours at which Sentinel-2 passes a latitude (degrees) southwards."""
    limit = sin(INCLINATION)  # it never comes closer to the poles
    along = asin(max(-limit, min(limit, sin(radians(latitude)))) / limit)  # from the node, northwards
    return NODE_HOURS + degrees(atan2(-cos(INCLINATION) * sin(along), cos(along))) / 15


def sun_at(latitude: float, longitude: float, date: np.datetime64) -> Sun:
    """The sun over a place (degrees) on a date, at the hour of the pass."""
    hours = local_hours(latitude)
    days = float((date - np.datetime64("2000-01-01", "D")).astype(int)) - 0.5 + (hours - longitude / 15) / 24  # since J2000
    mean = radians((357.528 + 0.9856003 * days) % 360)
    along = radians((280.460 + 0.9856474 * days) % 360) + radians(1.915) * sin(mean) + radians(0.020) * sin(2 * mean)
    tilt = radians(23.439 - 4e-7 * days)
    declination = asin(sin(tilt) * sin(along))
    right_ascension = atan2(cos(tilt) * sin(along), cos(along))
    sidereal = radians((280.46062 + 360.98564737 * days + longitude) % 360)
    angle = (sidereal - right_ascension + pi) % (2 * pi) - pi  # hour angle, afternoon positive
    phi = radians(latitude)
    up = sin(phi) * sin(declination) + cos(phi) * cos(declination) * cos(angle)
    azimuth = atan2(-sin(angle), cos(phi) * tan(declination) - sin(phi) * cos(angle))
    return Sun(degrees(azimuth) % 360, degrees(atan2(sqrt(max(0.0, 1 - up * up)), up)))


def sun_over(place: Place, date: np.datetime64) -> Sun | None:
    """The sun over the middle of a place's grid; None without a georeferenced grid."""
    if place.grid is None or place.grid.crs is None:
        return None
    middle = place.grid.extent.centroid.to_crs("EPSG:4326").coords[0]
    return sun_at(middle[1], middle[0], date)
