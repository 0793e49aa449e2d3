"""A scene model as a file: safetensors for the arrays, JSON in its header for the rest. Nothing in it is ever executed.

The file holds what a fit found for one date of one scene (the model, and the error that the probe measured), and which scene
and date that was. A later run with the same scene takes it instead of fitting, and gives the same bits.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unclouded.errors import InputCorrupt, InputMissing, InputUnsupported, UsageError
from unclouded.models.probe import Probe
from unclouded.models.scene_engine import Config, SceneEngine
from unclouded.models.scene_gp import Sparse
from unclouded.models.scene_model import SceneModel
from unclouded.models.scene_regression import Whitening
from unclouded.models.scene_sigma import Sigma
from unclouded.models.scene_survey import looked_at
from unclouded.sample import as_day

if TYPE_CHECKING:
    from unclouded.models.needs import CloudRemover
    from unclouded.scenes.scene import Scene

FORMAT = "unclouded scene model 2"
NAME = "scene-model.safetensors"
ROWS = 512  # of a class map that are summed up at a time
WORDS = {
    "grid": "its grid", "bands": "its bands", "level": "its level", "dates": "its dates", "radar": "its radar dates",
    "date": "the date it was fitted for", "masks": "its cloud masks", "settings": "its settings",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What a fit found, the error that was measured with it, and what it is for: plain JSON, see `purpose`."""

    model: SceneModel
    probe: Probe
    purpose: dict[str, Any]


KINDS: dict[str, type] = {kind.__name__: kind for kind in (Fitted, SceneModel, Whitening, Sparse, Sigma, Probe)}


def purpose(scene: Scene, date: np.datetime64, config: Config) -> dict[str, Any]:
    """What decides a fit, as JSON: grid, bands, level, dates, radar dates, the date, a checksum of the masks, settings.

    The masks belong to it, those of the date and, where the place is studied, of the others: a model may have learned from
    pixels that other masks hide, and no error measured there would hold.
    """
    grid = scene.place.grid
    where = [] if grid is None else [str(grid.crs), *(float(v) for v in list(grid.affine)[:6])]
    radar = [] if scene.s1_dates is None else [str(day) for day in scene.s1_dates]
    return {
        "grid": [*where, *scene.place.origin, *scene.shape], "bands": list(scene.place.bands), "level": scene.place.level,
        "dates": [str(day) for day in scene.dates], "radar": radar if config.radar else [], "date": str(as_day(date)),
        "masks": _checksum(scene, date, config.seed), "settings": asdict(config),
    }  # fmt: skip


def _checksum(scene: Scene, date: np.datetime64, seed: int) -> int:
    crc, masks = 0, scene.masks
    if masks is None:
        return crc
    if as_day(date) in scene.dates:
        i = scene.index(date)
        for rows in scene.blocks(ROWS, scene.shape[1]):
            crc = zlib.crc32(masks[(i, *rows.slices)].tobytes(), crc)
    for window in looked_at(scene, seed):
        crc = zlib.crc32(masks[(slice(None), *window.slices)].tobytes(), crc)
    return crc


def packed(remover: CloudRemover, probe: Probe, scene: Scene, date: np.datetime64) -> bytes | None:
    """The file of an adapted remover, None if it is none that learns a scene model."""
    if not isinstance(remover, SceneEngine) or remover.model is None:
        return None
    return to_bytes(Fitted(model=remover.model, probe=probe, purpose=purpose(scene, date, remover.config)))


def adapted(remover: CloudRemover, path: Path, scene: Scene, date: np.datetime64) -> tuple[SceneEngine, Probe]:
    """The remover with a model from a file instead of a fit, and the error that was measured with it then.

    Raises UsageError for a remover that takes none, InputUnsupported for a model of another scene, date or settings, and
    what `load` raises.
    """
    if not isinstance(remover, SceneEngine):
        raise UsageError("Only the default model learns a scene model.", do="leave --scene-model out, or --model.")
    fitted = load(path)
    asked = purpose(scene, date, remover.config)
    if differs := [key for key in WORDS if fitted.purpose.get(key) != asked[key]]:
        raise InputUnsupported(
            "This scene model was made for something else.", where=path,
            why="; ".join(f"{WORDS[key]}: {_told(key, fitted.purpose, asked)}" for key in differs) + ".",
            do="leave --scene-model out, and it is fitted anew.",
        )  # fmt: skip
    return replace(remover, model=fitted.model), fitted.probe


def _told(key: str, fitted: dict[str, Any], asked: dict[str, Any]) -> str:
    old, new = fitted.get(key), asked[key]
    if key == "masks":
        return "other pixels are hidden now"
    if key in ("dates", "radar") and isinstance(old, list):
        gone, more = sorted(set(old) - set(new)), sorted(set(new) - set(old))
        parts = [f"{len(days)} {word}, such as {days[0]}" for days, word in ((gone, "missing now"), (more, "new")) if days]
        return ", ".join(parts)
    return f"{_flat(old)}, not {_flat(new)}"


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {item}" for name, item in value.items())
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def to_bytes(fitted: Fitted) -> bytes:
    """The file's bytes; the same fit gives the same bytes."""
    from safetensors.numpy import save

    arrays: dict[str, Any] = {}
    plan = _plan(fitted, "fitted", arrays)
    return bytes(save(arrays, {FORMAT: json.dumps(plan, sort_keys=True)}))  # one key: several would come in any order


def kept_for(path: Path, date: np.datetime64) -> Path:
    """The file itself, or that of a date in a folder of products."""
    if not path.is_dir():
        return path
    return next(iter(path.glob(f"{date}/*_{NAME}")), path / str(date))


def load(path: Path) -> Fitted:
    """Read a file back, bit for bit. Raises InputMissing, and InputCorrupt for a file that is no scene model."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise InputMissing("There is no scene model here.", where=path, do="give the scene-model file of a product.")
    try:
        with safe_open(path, "numpy") as file:
            meta = file.metadata() or {}
            if FORMAT not in meta:
                raise InputCorrupt("This is not a scene model.", where=path, why=f"expected a safetensors file '{FORMAT}'.")
            arrays = {name: np.array(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118 - not a dict
        fitted = _built(json.loads(meta[FORMAT]), arrays)
        if not isinstance(fitted, Fitted):
            raise TypeError(f"it holds a {type(fitted).__name__}.")
        _check(fitted.model)
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise InputCorrupt("This scene model cannot be read.", where=path, why=str(error)) from error
    return fitted


def _check(model: SceneModel) -> None:
    """Raises ValueError where the arrays do not fit together."""
    bands, features = len(model.bands), len(model.whiten.mean)
    components = len(model.whiten.rotate) if features else len(model.mean) - 1
    size = 1 + components + (len(model.embed.rotate) if model.embed is not None else 0)
    expected = {
        "omega": (4,), "mean": (1 + components, bands), "weights": (size, bands), "root": (size, size),
        "metric": (size - 1, 0 if model.sparse is None else model.sparse.centres.shape[1]),
        **dict.fromkeys(("low", "high", "unit", "typical", "spread"), (bands,)),
    }  # fmt: skip
    for name, shape in expected.items():
        if (found := getattr(model, name).shape) != shape:
            raise ValueError(f"{name} has the shape {found}; expected {shape}.")
    if model.alone is not None:
        _check(model.alone)


def _plan(value: Any, name: str, arrays: dict[str, Any]) -> Any:
    if isinstance(value, np.ndarray):
        arrays[name] = np.ascontiguousarray(value)
        return {"array": name}
    if is_dataclass(value):
        parts = {f.name: _plan(getattr(value, f.name), f"{name}.{f.name}", arrays) for f in fields(value)}
        return {"kind": type(value).__name__, "parts": parts}
    return {"value": value}


def _built(plan: dict[str, Any], arrays: dict[str, Any]) -> Any:
    if "array" in plan:
        return arrays[plan["array"]]
    if "kind" in plan:
        return KINDS[plan["kind"]](**{name: _built(part, arrays) for name, part in plan["parts"].items()})
    value = plan["value"]
    return tuple(value) if isinstance(value, list) else value
