"""The table of models as plain rows, for `unclouded models`."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from unclouded.models import MODELS, entry, load, settings_of


def overview(name: str | None = None) -> list[dict[str, Any]]:
    """One row per model, or the one named, which also tells its size: what it does, needs, its settings, its source."""
    return [_row(key, sized=False) for key in MODELS] if name is None else [_row(name, sized=True)]


def _row(name: str, *, sized: bool) -> dict[str, Any]:
    from unclouded.models.zoo import needs_of, network, size

    row = entry(name)
    needs = needs_of(name) if row.trained else load(name).needs
    low, high = needs.dates
    kept = [f for f in fields(settings_of(name)) if f.name not in row.preset]
    found: dict[str, Any] = {
        "model": name,
        "summary": row.summary,
        "weights": "needed" if row.trained else "none",
        "dates": f"{low}+" if high is None else f"{low}" if low == high else f"{low}-{high}",
        "sar": needs.sar,
        "bands": "any" if needs.bands is None else str(len(needs.bands)),
        "levels": " ".join(needs.levels),
        "settings": ", ".join(f"{f.name}={f.default}" for f in kept) or "-",
        "source": row.source,
    }
    if sized and row.trained:
        found |= {
            "parameters": size(name).parameters,
            "gmac_256": round(size(name).gmac, 2),
            "assumed": network(name).assumed or "-",
        }
    return found
