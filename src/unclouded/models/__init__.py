"""Room 3: Batch -> Prediction, one file per method. Choosing is the table below; nothing is scanned or registered.

Every method is `Remover(config)` with a frozen dataclass `Config`; `load` builds one by name. Methods that need no weights
stand here; the networks stand in zoo.py, where papers, sizes and weights are told, and join the table.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unclouded.errors import InputUnsupported, UsageError
from unclouded.models.settings import checked
from unclouded.models.zoo import NETWORKS

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
    trained: bool = False  # whether it needs weights


WITHOUT_WEIGHTS: dict[str, Entry] = {
    "scene": Entry(
        "scene_engine:SceneEngine", "scene_engine:Config", {},
        "the default: learns the place from its other dates, radar and clear pixels", "docs/how-the-default-works.md", 30.0),
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
    "damped": Entry(
        "damped:Damped", "damped:Config", {},
        "random walk in time that forgets: first-difference smoother", "docs/how-the-default-works.md", 2.0),
    "whittaker": Entry(
        "whittaker:Whittaker", "whittaker:Config", {},
        "smooth curve in time: second-difference smoother", "Whittaker 1923; Eilers 2003", 4.0),
    "harmonic": Entry(
        "harmonic:Harmonic", "harmonic:Config", {},
        "two yearly waves per pixel", "Roerink et al. 2000", 3.0),
    "soft-impute": Entry(
        "softimpute:SoftImpute", "softimpute:Config", {"radar": False},
        "low-rank completion of pixels x dates", "Mazumder et al. 2010", 30.0),
    "soft-impute-radar": Entry(
        "softimpute:SoftImpute", "softimpute:Config", {"radar": True},
        "the same with radar as further columns", "Mazumder et al. 2010", 40.0),
    "similar": Entry(
        "similar:Similar", "similar:Config", {},
        "pixels of the date that were alike on other dates", "Chen et al. 2011", 20.0),
    "mosaicing": Entry(
        "averages:Average", "averages:Config", {"rule": "mosaic", "days": 100_000, "never": 0.5},
        "mean of all clear dates, 0.5 where there is none: the paper's rule", "Ebel et al. 2022, IV-B", 0.8),
    "rpcp": Entry(
        "rpca:RobustPCA", "rpca:Config", {"method": "riemannian", "sparse": 0.2},
        "low-rank ground and sparse clouds, on the manifold of low rank",
        "Hintermueller and Wu 2015; Ebel et al. 2022, Table VI", 200.0),
    "pcp": Entry(
        "rpca:RobustPCA", "rpca:Config", {"method": "pursuit", "centre": True},
        "principal component pursuit around each pixel's mean", "Candes et al. 2011", 100.0),
    "nmf": Entry(
        "nmf:NMF", "nmf:Config", {"method": "lee-seung"},
        "non-negative factors", "Lee and Seung 2000; Ebel et al. 2022, Table VI", 30.0),
    "nmf-manhattan": Entry(
        "nmf:NMF", "nmf:Config", {"method": "manhattan"},
        "the same by least absolute errors", "Guan et al. 2012; Ebel et al. 2022, Table VI", 60.0),
    "nmf-incremental": Entry(
        "nmf:NMF", "nmf:Config", {"method": "incremental"},
        "the same, date after date", "Bucak et al. 2007; Ebel et al. 2022, Table VI", 150.0),
    "online-tensor": Entry(
        "online_tensor:OnlineTensor", "online_tensor:Config", {"modes": ("dates",), "rank": 3, "passes": 10},
        "online tensor decomposition of the dates", "Sobral et al. 2015; Ebel et al. 2022, Table VI", 220.0),
    "internal-learning": Entry(
        "internal_learning:InternalLearning", "internal_learning:Config", {},
        "a network fitted to the series itself, driven by radar or noise", "Ebel et al. 2022, III-B", 50_000.0),
    "internal-learning-fast": Entry(
        "internal_learning:InternalLearning", "internal_learning:Config",
        {"passes": 4, "iterations": 50, "widths": (16, 32, 64)},
        "the same with 200 iterations", "Ebel et al. 2022, III-B", 5_000.0),
}  # fmt: skip

NETWORK_SPEED = 60.0
MODELS: dict[str, Entry] = WITHOUT_WEIGHTS | {
    name: Entry(row.remover, row.config, row.preset, row.summary, row.source, NETWORK_SPEED, trained=True)
    for name, row in NETWORKS.items()
}

DEFAULT = "scene"
WEIGHTS = "weights.safetensors"  # in the folder of a training run


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


def load(
    name: str = DEFAULT, settings: Mapping[str, Any] | None = None, weights: str | PathLike[str] | None = None
) -> CloudRemover:
    """A remover by name, its Config changed by `settings`; or a trained one, by its weights file or the folder of its run.

    `name` may itself be such a file or folder. Raises UsageError for a setting the model does not have or a network without
    weights, InputMissing, InputCorrupt, InputUnsupported for weights that are not there, damaged, or of another model.
    """
    if (file := weights_file(name, weights)) is not None:
        return _trained(file, None if weights is None else name, settings)
    row = entry(name)
    if row.trained:
        raise UsageError(
            f"The network '{name}' needs trained weights.", why="without them its output is noise.",
            do="give --weights FILE (see `unclouded models import` and `unclouded train`), or use the default model.",
        )  # fmt: skip
    remover: CloudRemover = _named(row.remover)(_config(name, settings or {}))
    return remover


def weights_file(name: str, weights: str | PathLike[str] | None = None) -> Path | None:
    """The file that `load` takes trained weights from; None where the model has none."""
    path = Path(name) if weights is None else Path(weights)
    if weights is None and (name in MODELS or not (path.is_dir() or path.suffix == ".safetensors")):
        return None
    return path / WEIGHTS if path.is_dir() else path


def _trained(file: Path, name: str | None, settings: Mapping[str, Any] | None) -> CloudRemover:
    from unclouded.models.weights import load as load_weights
    from unclouded.models.weights import read

    if settings:
        raise UsageError("The settings of trained weights are fixed.", where=file, do="leave --set out.")
    if name is not None and (found := read(file).model) != name:
        raise InputUnsupported(f"These are weights of '{found}', not of '{name}'.", where=file, do=f"use --model {found}.")
    remover: CloudRemover = load_weights(file)
    return remover


def _config(name: str, settings: Mapping[str, Any]) -> Any:
    row = entry(name)
    if not settings:
        return settings_of(name)(**row.preset)
    if fixed := [key for key in settings if key in row.preset]:
        raise UsageError(f"The setting '{fixed[0]}' makes '{name}' what it is.", do="choose another model: `unclouded models`.")
    return checked(settings_of(name), {**row.preset, **settings}, f"the model '{name}'")


def settings_of(name: str) -> Any:
    """The Config dataclass of a model."""
    return _named(entry(name).config)


def _named(path: str) -> Any:
    module, name = path.split(":")
    return getattr(import_module(f"unclouded.models.{module}"), name)
