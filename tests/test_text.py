"""Plain data as lines."""

from __future__ import annotations

from unclouded.text import lines


def test_nested_data_is_indented_and_nothing_is_a_dash():
    data = {"a": 1, "b": {"c": 0.123456, "d": None}, "e": [1, 2], "f": [{"g": 1, "h": []}, {"g": 2}], "i": {}}
    assert lines(data).splitlines() == [
        "a: 1", "b:", "  c: 0.1235", "  d: -", "e:", "  1, 2", "f:", "- g: 1", "  h: -", "- g: 2", "i: -",
    ]  # fmt: skip
