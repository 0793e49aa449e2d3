"""Room 3: Batch -> Prediction, one file per method. Choosing is the table below; nothing is scanned or registered.

Every method is `Remover(config)` with a frozen dataclass `Config`; `load` builds one by name.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib import import_module
from typing import TYPE_CHECKING, Any

from unclouded.errors import UsageError

if TYPE_CHECKING:
    from unclouded.models.needs import CloudRemover


@dataclass(frozen=True)
class Entry:
    """One row of the table: where the class and its Config live, the settings that make it this model, and its source."""

    remover: str  # "module:Class", below unclouded.models
    config: str  # "module:Config"
    preset: Mapping[str, Any]
    summary: str
    source: str
    speed: float  # seconds per Mpx of hidden pixels and date on one core, 10 bands, 12 dates; for --dry-run


MODELS: dict[str, Entry] = {
    "scene": Entry(
        "scene_engine:SceneEngine", "scene_engine:Config", {},
        "the default: learns the place from its other dates, radar and clear pixels", "ARCHITECTURE.md; no pretrained weights",
        30.0),
    "least-cloudy": Entry(
        "averages:Average", "averages:Config", {"rule": "least-cloudy", "days": 0},
        "the least cloudy near date, holes from the next best", "Ebel et al. 2022, Table I", 0.5),
    "nearest": Entry(
        "averages:Average", "averages:Config", {"rule": "nearest", "days": 0},
        "per pixel, the clear observation nearest in time", "common practice", 0.5),
    "mosaic": Entry(
        "averages:Average", "averages:Config", {"rule": "mosaic"},
        "mean of the clear observations within 60 days", "Ebel et al. 2022, Table I", 0.8),
    "median": Entry(
        "averages:Average", "averages:Config", {"rule": "median"},
        "median of the clear observations within 60 days", "common practice", 3.0),
    "linear": Entry(
        "averages:Average", "averages:Config", {"rule": "linear", "days": 0},
        "straight line in time between the nearest clear observations", "common practice", 1.0),
}  # fmt: skip

DEFAULT = "scene"


def entry(name: str) -> Entry:
    """The row of a model. Raises UsageError with the nearest names."""
    if name not in MODELS:
        near = difflib.get_close_matches(name, MODELS, n=3)
        raise UsageError(
            f"There is no model '{name}'.",
            why=f"did you mean {' or '.join(near)}?" if near else f"models are: {', '.join(MODELS)}.",
            do="see `unclouded models`.",
        )
    return MODELS[name]


def load(name: str = DEFAULT, settings: Mapping[str, Any] | None = None) -> CloudRemover:
    """A remover by name, its Config changed by `settings`. Raises UsageError for a setting the model does not have."""
    row = entry(name)
    config = settings_of(name)
    known = {f.name for f in fields(config)} - set(row.preset)
    for key in settings or {}:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            raise UsageError(
                f"The model '{name}' has no setting '{key}'.",
                why=f"did you mean {near[0]}?" if near else f"its settings are: {', '.join(sorted(known)) or 'none'}.",
            )
    remover: CloudRemover = _named(row.remover)(config(**row.preset, **(settings or {})))
    return remover


def settings_of(name: str) -> Any:
    """The Config dataclass of a model."""
    return _named(entry(name).config)


def _named(path: str) -> Any:
    module, name = path.split(":")
    return getattr(import_module(f"unclouded.models.{module}"), name)
