"""A scene model as a file: safetensors for the arrays, JSON in its header for the rest. Nothing in it is ever executed."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unclouded.errors import InputCorrupt
from unclouded.models.scene_gp import Sparse
from unclouded.models.scene_model import SceneModel
from unclouded.models.scene_regression import Whitening
from unclouded.models.scene_sigma import Sigma

FORMAT = "unclouded scene model 1"
KINDS: dict[str, type] = {kind.__name__: kind for kind in (SceneModel, Whitening, Sparse, Sigma)}


def save(model: SceneModel, path: Path) -> None:
    """Write the model; the same model gives the same bytes."""
    from safetensors.numpy import save as to_bytes

    arrays: dict[str, Any] = {}
    plan = _plan(model, "model", arrays)
    path.write_bytes(to_bytes(arrays, {FORMAT: json.dumps(plan, sort_keys=True)}))  # one key: several would come in any order


def load(path: Path) -> SceneModel:
    """Read a model back, bit for bit. Raises InputCorrupt for a file that is none."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            meta = file.metadata() or {}
            if FORMAT not in meta:
                raise InputCorrupt("This is not a scene model.", where=path, why=f"expected a safetensors file '{FORMAT}'.")
            arrays = {name: np.array(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118 - not a dict
        model = _built(json.loads(meta[FORMAT]), arrays)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputCorrupt("This scene model cannot be read.", where=path, why=str(error)) from error
    if not isinstance(model, SceneModel):
        raise InputCorrupt("This scene model cannot be read.", where=path, why=f"it holds a {type(model).__name__}.")
    return model


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
