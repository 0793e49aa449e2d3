"""The table of models as plain rows, for `unclouded models` and the docs."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from unclouded.models import MODELS, entry, load, settings_of


def overview(name: str | None = None) -> list[dict[str, Any]]:
    """One row per model (or the one named): what it does, what it needs, its settings with defaults, its source."""
    return [_row(key) for key in (MODELS if name is None else [name])]


def _row(name: str) -> dict[str, Any]:
    row = entry(name)
    needs = load(name).needs
    low, high = needs.dates
    return {
        "model": name,
        "summary": row.summary,
        "dates": f"{low}+" if high is None else f"{low}" if low == high else f"{low}-{high}",
        "sar": needs.sar,
        "bands": "any" if needs.bands is None else str(len(needs.bands)),
        "levels": " ".join(needs.levels),
        "settings": ", ".join(f"{f.name}={f.default}" for f in fields(settings_of(name)) if f.name not in row.preset) or "-",
        "source": row.source,
    }
