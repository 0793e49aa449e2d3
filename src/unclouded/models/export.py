"""A network as a file for other programs: torch's .pt2 or ONNX, taking and giving physical units.

Inputs are s2 (B, C, H, W) reflectance, s1 (B, 2, H, W) dB and cloud (B, 1, H, W), those that the network needs, in this order,
with nothing missing in them; the output is reflectance (B, C, H, W). The size is fixed to the side it is exported with.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from unclouded.errors import OutputFailed, UsageError
from unclouded.models.several_dates import SeveralDates
from unclouded.models.single_date import Frame

if TYPE_CHECKING:
    from unclouded.models.single_date import SingleDate


class Physical(nn.Module):
    """A remover as a module of tensors in physical units."""

    def __init__(self, remover: SingleDate) -> None:
        super().__init__()
        self.remover, self.network = remover, remover.network
        self.names = tuple(k for k, v in _named(remover.example(1)).items() if v is not None)

    def forward(self, *tensors: Tensor) -> Tensor:
        """The inputs named in `names` -> reflectance (B, C, H, W)."""
        return self.remover.restore(_frame(dict(zip(self.names, tensors, strict=True))))


def _named(frame: Frame) -> dict[str, Tensor | None]:
    return {"s2": frame.s2, "s1": frame.s1, "cloud": frame.cloud}


def _frame(tensors: dict[str, Tensor]) -> Frame:
    return Frame(s2=tensors["s2"], s1=tensors.get("s1"), cloud=tensors.get("cloud"))


def export_pt2(remover: SingleDate, path: Path, side: int = 256) -> None:
    """Write a torch exported program; `torch.export.load(path).module()` runs it without this package.

    Raises UsageError for a side the network does not take and for a network of time series, OutputFailed where the file cannot
    be written.
    """
    program = torch.export.export(Physical(remover).eval(), _example(remover, side))
    try:
        torch.export.save(program, path)
    except (OSError, RuntimeError) as error:
        raise OutputFailed("The exported network could not be written.", where=path, why=str(error)) from error


def export_onnx(remover: SingleDate, path: Path, side: int = 256) -> None:
    """Write ONNX. Needs the packages onnx and onnxscript. Raises UsageError without them, OutputFailed."""
    from importlib.util import find_spec

    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if missing:
        raise UsageError(f"ONNX export needs {' and '.join(missing)}.", do=f"pip install {' '.join(missing)}, or export --pt2.")
    module = Physical(remover).eval()
    program = torch.onnx.export(
        module, _example(remover, side), input_names=list(module.names), output_names=["clear"], dynamo=True
    )
    if program is None:
        raise OutputFailed("The network could not be exported as ONNX.", where=path)
    try:
        program.save(str(path))
    except OSError as error:
        raise OutputFailed("The exported network could not be written.", where=path, why=str(error)) from error


def _example(remover: SingleDate, side: int) -> tuple[Tensor, ...]:
    if isinstance(remover, SeveralDates):
        raise UsageError("Only networks for a single date can be exported.", why="this one takes a time series.")
    multiple = remover.needs.multiple_of
    if side < remover.smallest or side % multiple:
        raise UsageError(
            f"This network takes sides that are multiples of {multiple} px, at least {remover.smallest}; got {side}."
        )
    return tuple(v for v in _named(remover.example(side)).values() if v is not None)
