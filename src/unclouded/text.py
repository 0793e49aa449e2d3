"""Text for people and file systems: plain data as indented lines, names of files."""

from __future__ import annotations

import re
from typing import Any


def file_name(text: str) -> str:
    """A name in letters that any file system takes, one part of a path and no step out of it; "" where none are left."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", text).strip("._-")[:80]


def lines(value: Any, indent: int = 0) -> str:
    """Nested dicts and lists of plain values, one line each, indented by depth."""
    pad = " " * indent
    if isinstance(value, dict):
        return "\n".join(_entry(pad, key, item, indent) for key, item in value.items())
    if isinstance(value, list):
        if all(not isinstance(item, dict | list) for item in value):
            return pad + ", ".join(flat(item) for item in value)
        inner = max(indent, 2)
        return "\n".join(" " * (inner - 2) + "- " + lines(item, inner)[inner:] for item in value)
    return pad + flat(value)


def _entry(pad: str, key: object, item: Any, indent: int) -> str:
    nested = isinstance(item, dict | list) and item
    return f"{pad}{key}:\n{lines(item, indent + 2)}" if nested else f"{pad}{key}: {flat(item)}"


def flat(value: Any) -> str:
    """One value: a dash for nothing, numbers to four digits."""
    return "-" if value is None or value in ({}, []) else f"{value:.4g}" if isinstance(value, float) else str(value)
