"""Weights: a safetensors file that says which network it fits, how that was set up, and where the numbers come from.

The header holds one JSON text under "unclouded": the model's name, its Config, what it needs, a digest over all tensors,
licence, source and citation. Nothing in a file is ever executed. Loading is strict: what does not fit is listed by name.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unclouded.errors import InputCorrupt, InputMissing, InputUnsupported, OutputFailed, RefusedForSafety, UsageError
from unclouded.models.settings import UNBUILT, checked

if TYPE_CHECKING:
    from torch import Tensor, nn

    from unclouded.models.single_date import SingleDate

FORMAT = 1
KEY = "unclouded"
MOST = 65_536  # no number in a published Config comes near it; larger ones would only exhaust memory


@dataclass(frozen=True, kw_only=True)
class Weights:
    """What is known of trained numbers. `url` and `sha256` are of the authors' file, `digest` of the tensors as loaded here."""

    model: str  # a name of the table
    config: Mapping[str, Any] = field(default_factory=dict)
    needs: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""
    parameters: int = 0
    url: str = ""
    sha256: str = ""
    licence: str = "unknown"
    trained_on: str = "unknown"
    citation: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)  # scores its authors state


def fit(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a state dict strictly. Raises InputUnsupported with the names that are missing, unknown or of another shape."""
    own = network.state_dict()
    wrong = mismatches({k: tuple(v.shape) for k, v in own.items()}, {k: tuple(v.shape) for k, v in state.items()})
    if wrong:
        raise InputUnsupported(
            f"These weights do not fit the network: {len(wrong)} tensors differ.",
            why="; ".join(wrong[:12]) + ("; ..." if len(wrong) > 12 else "") + ".",
            do="use the Config the weights were trained with, or import them with `unclouded models import`.",
        )
    network.load_state_dict(dict(state), strict=True)


def mismatches(own: Mapping[str, tuple[int, ...]], given: Mapping[str, tuple[int, ...]]) -> list[str]:
    """One line per tensor that is missing, unknown, or of another shape."""
    missing = [f"missing {k}" for k in own if k not in given]
    unknown = [f"unknown {k}" for k in given if k not in own]
    shapes = [f"{k} is {given[k]}, expected {own[k]}" for k in own if k in given and given[k] != own[k]]
    return missing + unknown + shapes


def digest(state: Mapping[str, Tensor]) -> str:
    """sha256 over names, types, shapes and bytes of all tensors, in order of name."""
    found = hashlib.sha256()
    for name in sorted(state):
        array = state[name].detach().cpu().contiguous().numpy()
        found.update(f"{name} {array.dtype} {array.shape};".encode())
        found.update(array.tobytes())
    return found.hexdigest()


def save(path: Path, name: str, remover: SingleDate, notes: Weights | None = None) -> Weights:
    """Write a remover's weights under the model's `name`; `notes` gives licence, source and citation. Returns the record.

    The file appears complete or not at all. Raises OutputFailed.
    """
    from safetensors.torch import save as to_bytes

    state = {k: v.detach().cpu().contiguous().clone() for k, v in remover.network.state_dict().items()}  # tied ones too
    record = replace(
        Weights(model=name) if notes is None else notes,
        model=name,
        config=asdict(remover.config),
        needs=_needs(remover),
        digest=digest(state),
        parameters=sum(p.numel() for p in remover.network.parameters()),
    )
    text = json.dumps({"format": FORMAT} | asdict(record), sort_keys=True)
    _write(path, to_bytes(state, metadata={KEY: text}))
    return record


def _needs(remover: SingleDate) -> dict[str, Any]:
    """What a file tells of the needs: not what follows from the table of networks and from how a scene is worked through."""
    return {name: value for name, value in asdict(replace(remover.needs, held=0, held_per_date=0)).items() if name != "masks"}


def _write(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputFailed("The weights could not be written.", where=path, why=str(error)) from error


def read(path: Path) -> Weights:
    """The record in a file's header, without reading the tensors. Raises InputMissing, InputCorrupt, InputUnsupported."""
    return _read(path)[0]


def load(path: Path) -> SingleDate:
    """The remover that a file holds, ready to use; its needs say what memory the published size holds.

    Raises InputMissing, InputCorrupt, InputUnsupported, RefusedForSafety.
    """
    from unclouded.models.zoo import network, network_class

    record, shapes = _read(path)
    remover, config = network_class(record.model)
    settings = _config(config, record.config, path)
    _compare_on_meta(remover, settings, shapes, path)
    state = _tensors(path)
    if digest(state) != record.digest:
        raise InputCorrupt("The weights are damaged: their digest does not match the header.", where=path)
    loaded: SingleDate = remover(settings, state)
    row, dates = network(record.model), getattr(loaded, "dates", None)
    held = row.held + row.held_per_date * (dates or 0)
    loaded.needs = replace(loaded.needs, held=held * 2**20, held_per_date=0 if dates else row.held_per_date * 2**20)
    return loaded


def _read(path: Path) -> tuple[Weights, dict[str, tuple[int, ...]]]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise InputMissing(
            "There is no such weights file.", where=path, do="see `unclouded models` for where weights come from."
        )
    try:
        with safe_open(path, "np") as file:
            text = (file.metadata() or {}).get(KEY)
            shapes = {k: tuple(file.get_slice(k).get_shape()) for k in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise InputCorrupt("This is not a safetensors file, or it is damaged.", where=path, why=str(error)) from error
    if text is None:
        raise InputUnsupported(
            "This safetensors file does not say which model it is for.",
            where=path,
            do="import it with `unclouded models import`.",
        )
    return _record(text, path), shapes


def _record(text: str, path: Path) -> Weights:
    try:
        header = json.loads(text)
    except ValueError as error:
        raise InputCorrupt("The header of the weights cannot be read.", where=path, why=str(error)) from error
    names = {f.name for f in fields(Weights)}
    if not isinstance(header, dict) or header.get("format") != FORMAT or not names <= set(header):
        raise InputUnsupported("The weights are of another format version.", where=path, why=f"expected format {FORMAT}.")
    return Weights(**{k: header[k] for k in names})


def _config(kind: type[Any], values: Any, path: Path) -> Any:
    known = {f.name for f in fields(kind)}
    found = set(values) if isinstance(values, dict) else set()
    if found != known:
        raise InputUnsupported(
            "The weights were made for another set of settings.", where=path,
            why=f"differing: {', '.join(sorted(found ^ known))}.",
        )  # fmt: skip
    for name, value in values.items():
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, int | float) and not 0 <= number <= MOST:
                raise RefusedForSafety(f"The weights ask for {name} = {value}.", where=path, why=f"at most {MOST} is accepted.")
    try:
        return checked(kind, values)
    except UsageError as error:
        raise InputCorrupt(f"The header of the weights is wrong. {error.what}", where=path, why=error.why) from error


def _compare_on_meta(remover: type[Any], settings: Any, shapes: dict[str, tuple[int, ...]], path: Path) -> None:
    """Compare names and shapes before any memory is taken."""
    import torch

    try:
        with torch.device("meta"):
            own = {k: tuple(v.shape) for k, v in remover(settings).network.state_dict().items()}
    except UNBUILT as error:
        raise InputCorrupt("The header of the weights tells a network that cannot be.", where=path, why=str(error)) from error
    wrong = mismatches(own, shapes)
    if wrong:
        raise InputCorrupt("The tensors in the file do not fit its own header.", where=path, why="; ".join(wrong[:12]) + ".")


def _tensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(path)
