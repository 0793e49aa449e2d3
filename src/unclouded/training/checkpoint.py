"""A checkpoint: weights, moments, pools and counters of a run in one safetensors file that appears whole or not at all.

No pickle: what is no tensor is JSON in the header. Randomness needs no place in it, for every step draws from its own seed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from unclouded.errors import InputCorrupt, OutputFailed

KEY = "unclouded training"


def save(path: Path, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> None:
    """Write tensors and notes (JSON values). Raises OutputFailed."""
    from safetensors.torch import save as to_bytes

    plain = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    write_whole(path, to_bytes(plain, metadata={KEY: json.dumps(notes)}))


def write_whole(path: Path, content: bytes) -> None:
    """A file that is there entirely or not at all, also after a power cut. Raises OutputFailed."""
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise OutputFailed("A file of the run could not be written.", where=path, why=str(error)) from error


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and notes. Raises InputCorrupt."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            notes = json.loads((file.metadata() or {})[KEY])
            return {name: file.get_tensor(name) for name in file.keys()}, notes  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise InputCorrupt("The checkpoint of this run is damaged.", where=path, why=str(error)) from error


def moments(optimizer: Optimizer, prefix: str) -> dict[str, Tensor]:
    """What an optimizer remembers, as flat tensors."""
    state = optimizer.state_dict()["state"]
    return {f"{prefix}.{i}.{name}": value for i, kept in state.items() for name, value in kept.items()}


def remember(optimizer: Optimizer, tensors: Mapping[str, Tensor], prefix: str) -> None:
    """The inverse of `moments`. Learning rates are not part of it: they follow from the step."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith(f"{prefix}."):
            _, i, kind = name.removeprefix(prefix).split(".")
            state.setdefault(int(i), {})[kind] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
