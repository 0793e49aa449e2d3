"""What the texts of options mean."""

from __future__ import annotations

import pytest

from unclouded import options
from unclouded.errors import RecordError, UsageError
from unclouded.sample import as_day


@pytest.mark.parametrize("text", ["2018-06-13", "20180613", " 2018-06-13 ", "2018-06-13T10:30:21Z"])
def test_a_date_in_iso_form_is_a_day(text):
    assert options.day(text) == "2018-06-13"


@pytest.mark.parametrize("text", ["garbage", "", "2018-13-01", "2018-06-31", "NaT", "13.06.2018"])
def test_what_is_no_date_is_said_to_be_none(text):
    with pytest.raises(UsageError, match="is not a date") as told:
        options.day(text)
    assert told.value.code == 2 and options.day(None) is None


def test_a_date_given_from_python_is_refused_in_words_too():
    with pytest.raises(RecordError, match="'garbage' is not a date"):
        as_day("garbage")
    with pytest.raises(ValueError):  # as it was: callers that tell a date from other text rely on it
        as_day("2018-06-31")
    assert str(as_day("2018-06-13T10:00")) == "2018-06-13"


def test_a_band_is_named_once():
    assert options.names(" B02, b3,,nir ") == ["B02", "b3", "nir"]
    assert options.names("water,B8") == ["water", "B8"]  # what is no band is refused where the bands are chosen
    for text, twice in (("B02,B02", "B02"), ("B02,b2", "B02"), ("blue,B8A,B02,b8a", "B02, B8A")):
        with pytest.raises(UsageError, match=f"--bands {text} names {twice} twice"):
            options.names(text)


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_a_limit_is_a_number_from_0_on(value):
    with pytest.raises(UsageError, match=r"--max-sigma .* is not a number from 0 on"):
        options.from_zero("--max-sigma", value)
    assert options.from_zero("--max-sigma", 0.0) == 0.0
