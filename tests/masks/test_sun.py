"""The sun against the angles that real products state."""

from __future__ import annotations

import numpy as np
import pytest
from odc.geo.geobox import GeoBox

from unclouded.masks.sun import local_hours, sun_at, sun_over
from unclouded.sample import Place


@pytest.mark.parametrize(
    ("place", "latitude", "longitude"), [("00002806639B424A", 50.82, 3.02), ("000028085BF08E7E", 51.18, 3.38)]
)
def test_a_year_and_a_half_of_real_angles(data, place, latitude, longitude):
    h5py = pytest.importorskip("h5py")
    file = next((data / "worldcereal" / place).glob("S2_L2A_20m*"))
    with h5py.File(file) as cube:
        seconds, units = cube["timestamp"][:], cube["timestamp"].attrs["units"]
        azimuth, zenith = cube["sunAzimuthAngles"][:], cube["sunZenithAngles"][:]
    start = np.datetime64((units if isinstance(units, str) else units.decode()).split("since ")[1].replace(" ", "T"))
    days = (start + seconds.astype("timedelta64[s]")).astype("datetime64[D]")
    found = np.array([sun_at(latitude, longitude, day) for day in days])
    assert np.abs(found[:, 0] - azimuth).max() < 4.0  # measured 2.8 and 3.9: the width of the swath
    assert np.abs(found[:, 1] - zenith).max() < 0.8  # measured 0.57 and 0.72


def test_it_stands_in_the_north_east_of_the_south_and_overhead_where_it_should():
    june, december = np.datetime64("2020-06-21"), np.datetime64("2020-12-21")
    assert 20 < sun_at(-35.0, 149.0, june).azimuth < 50
    assert 60 < sun_at(-35.0, 149.0, december).azimuth < 110
    assert sun_at(-35.0, 149.0, june).zenith == pytest.approx(64.6, abs=0.5)  # two hours before noon
    assert sun_at(60.0, 10.0, december).zenith == pytest.approx(60 + 23.4, abs=2)
    assert local_hours(0.0) == 10.5
    assert local_hours(45.0) > 10.5 > local_hours(-45.0)


def test_a_grid_tells_the_place():
    grid = GeoBox.from_bbox((501360, 5629040, 502000, 5629680), "EPSG:32631", resolution=10)
    place = Place(id="x", bands=("B02",), level="L2A", grid=grid)
    sun = sun_over(place, np.datetime64("2018-06-23"))
    assert sun == pytest.approx(sun_at(50.82, 3.02, np.datetime64("2018-06-23")), abs=0.05)
    assert sun_over(Place(id="x", bands=("B02",), level="L2A"), np.datetime64("2018-06-23")) is None
