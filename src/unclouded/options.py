"""What the texts of options mean. Each raises UsageError with what to write instead."""

from __future__ import annotations

import json
import re
from datetime import datetime
from math import inf
from typing import Any

from unclouded.bands import band_name, is_band
from unclouded.errors import UsageError


def settings(pairs: list[str] | None) -> dict[str, Any]:
    """--set name=value, several -> a dict; values as in JSON, else text."""
    found: dict[str, Any] = {}
    for pair in pairs or []:
        name, equals, text = pair.partition("=")
        if not equals:
            raise UsageError(f"--set {pair} has no value.", do="write --set name=value.")
        try:
            found[name.strip()] = json.loads(text.lower() if text in ("True", "False") else text)
        except json.JSONDecodeError:
            found[name.strip()] = text
    return found


def names(text: str | None) -> list[str] | None:
    """B02,B03 -> ['B02', 'B03'], each once."""
    if text is None:
        return None
    found = [name.strip() for name in text.split(",") if name.strip()]
    known = [band_name(name) if is_band(name) else name for name in found]
    if twice := sorted({name for name in known if known.count(name) > 1}):
        raise UsageError(f"--bands {text} names {', '.join(twice)} twice.", do="name every band once.")
    return found


def day(text: str | None) -> str | None:
    """--date 2018-06-13 (or 20180613, or with a time) -> 2018-06-13."""
    if text is None:
        return None
    try:
        return str(datetime.fromisoformat(text.strip()).date())
    except ValueError:
        raise UsageError(f"--date {text} is not a date.", do="write --date YYYY-MM-DD.") from None


def from_zero(option: str, value: float) -> float:
    """A number from 0 on; NaN and infinity are none."""
    if not 0 <= value < inf:
        raise UsageError(f"{option} {value:g} is not a number from 0 on.", do=f"give {option} 0 or more, or leave it out.")
    return value


def box(text: str | None) -> tuple[float, float, float, float] | None:
    """--bbox west,south,east,north -> four numbers."""
    if text is None:
        return None
    try:
        west, south, east, north = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--bbox {text} is not four numbers.", do="write --bbox west,south,east,north.") from None
    return west, south, east, north


def offset(text: str) -> str | float:
    """--offset auto, none or a number."""
    if text in ("auto", "none"):
        return text
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--offset {text} is not known.", do="use auto, none or a number such as -1000.") from None


def level(text: str | None) -> Any:
    """--level in any case -> L1C or L2A."""
    return None if text is None else choice("--level", text.upper(), ("L1C", "L2A"))


def choice(option: str, value: str, choices: tuple[str, ...]) -> Any:
    """`value`, if it is one of `choices`."""
    if value not in choices:
        raise UsageError(f"{option} {value} is not known.", do=f"use {', '.join(choices)}.")
    return value


def size(text: str | None) -> int | None:
    """--memory 4GiB, 800MB, 4G (binary) -> bytes."""
    if text is None:
        return None
    found = re.fullmatch(r"\s*([0-9.]+)\s*([kmgt]?)(i?b)?\s*", text.lower())
    try:
        number = float(found[1]) if found else 0.0
    except ValueError:
        number = 0.0
    if found is None or number <= 0:
        raise UsageError(f"--memory {text} is not a size.", do="write for example --memory 4GiB.")
    step = 1000 if found[3] == "b" and found[2] else 1024
    return int(number * step ** " kmgt".index(found[2] or " "))
