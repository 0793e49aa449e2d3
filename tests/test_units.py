"""Counts, reflectance, decibel: exact round trips and the traps of the field."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unclouded.bands import BY_NAME, L1C, L2A, band_name, is_band
from unclouded.errors import InputCorrupt, InputUnsupported, UncloudedError
from unclouded.units import db_to_power, gamma0_to_sigma0, power_to_db, sigma0_to_gamma0, to_counts, to_reflectance


@pytest.mark.parametrize("offset", [0.0, -1000.0])
def test_every_count_survives_the_round_trip(offset):
    counts = np.arange(1, 65_535, dtype=np.uint16)[None, None]
    reflectance, valid = to_reflectance(counts, offset=offset)
    assert valid.all()
    assert np.array_equal(to_counts(reflectance, dtype=np.uint16, offset=offset), counts)


def test_the_offset_does_not_wrap_and_nodata_stays_nodata():
    reflectance, valid = to_reflectance(np.array([[[0, 500, 1000, 11_000]]], np.uint16), offset=-1000)
    assert valid.tolist() == [[[False, True, True, True]]]
    assert reflectance[0, 0].tolist() == pytest.approx([0.0, -0.05, 0.0, 1.0])


def test_offsets_per_band():
    reflectance, _ = to_reflectance(np.full((2, 1, 1), 2000, np.uint16), offset=(-1000, 0))
    assert reflectance.ravel().tolist() == pytest.approx([0.1, 0.2])


def test_counts_never_land_on_nodata_or_saturation():
    out = to_counts(np.array([[[-0.5, 0.0, 9.0]]]), dtype=np.uint16)
    assert out.tolist() == [[[1, 1, 65_534]]]
    signed = to_counts(np.array([[[-0.9999, -4.0]]]), dtype=np.int16, nodata=-9999)
    assert signed.tolist() == [[[-9998, -32_768]]]


def test_values_that_are_not_finite_are_not_written():
    with pytest.raises(ValueError, match="not finite"):
        to_counts(np.array([[[np.nan]]]), dtype=np.uint16)


def test_no_dark_surface_comes_from_missing_power():
    db, valid = power_to_db(np.array([1.0, 0.1, 0.0, -1.0, np.nan, np.inf]))
    assert valid.tolist() == [True, True, False, False, False, False]
    assert db.tolist() == pytest.approx([0, -10, 0, 0, 0, 0])


@given(st.floats(-40, 10), st.floats(20, 47))
def test_decibel_and_calibration_round_trip(value, incidence):
    assert power_to_db(db_to_power(np.array([value])))[0][0] == pytest.approx(value, abs=1e-4)
    there = gamma0_to_sigma0(np.array([value]), incidence)
    assert sigma0_to_gamma0(there, incidence)[0] == pytest.approx(value, abs=1e-4)


@pytest.mark.parametrize(("incidence", "difference"), [(29, 0.58), (46, 1.58)])
def test_gamma_is_above_sigma_by_the_known_amount(incidence, difference):
    assert -gamma0_to_sigma0(np.zeros(1), incidence)[0] == pytest.approx(difference, abs=0.01)


@pytest.mark.parametrize(
    ("text", "name"),
    [("b2", "B02"), ("B02_10m", "B02"), ("b8a", "B8A"), ("blue", "B02"), ("B11 (swir)", "B11"), ("nir", "B08")],
)
def test_band_names_in_the_usual_ways(text, name):
    assert band_name(text) == name and is_band(text)


def test_a_name_that_is_no_band_is_refused_with_the_way_out():
    with pytest.raises(InputUnsupported, match="--bands"):
        band_name("thermal")


def test_band_order_and_ids():
    assert len(L1C) == 13 and L1C.index("B8A") == BY_NAME["B8A"].number == 8
    assert "B10" not in L2A and len(L2A) == 12


def test_errors_say_what_where_why_and_what_to_do():
    error = InputCorrupt("B04 is damaged.", where="x.jp2", why="SHA3 differs.", do="download it again.")
    assert str(error).splitlines() == ["B04 is damaged.", "  where: x.jp2", "  why: SHA3 differs.", "  do: download it again."]
    assert error.code == 11 and isinstance(error, UncloudedError)
