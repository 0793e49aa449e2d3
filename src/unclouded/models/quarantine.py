"""The child process that opens a foreign weights file: limited memory, time and output, tensors out or a refusal.

Run as `python -I -m unclouded.models.quarantine IN OUT`. Prints one JSON line when it refuses. HDF5 is read by h5py without
following links or storage outside the file; anything else by torch with `weights_only`, which rebuilds tensors and refuses
every other object.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError  # noqa: TID251 (names a refusal; nothing is unpickled here)
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

MEMORY = 12 * 2**30  # bytes of address space; torch alone reserves some
SECONDS = 240  # of processor time
OUTPUT = 6 * 2**30  # bytes
HDF5 = b"\x89HDF\r\n\x1a\n"
TORCH = (b"PK\x03\x04", b"\x80")  # a zip file, or a pickle of before 2020
DEEPEST = 8  # nested dictionaries in a checkpoint
REFUSED, UNREADABLE = 3, 4  # exit codes


class Refused(Exception):
    """The file holds something that is not a tensor in a dictionary, or points outside itself."""


def main(source: Path, out: Path) -> int:
    """Read `source`, write its tensors to `out`. Returns the exit code."""
    from safetensors.torch import save_file

    _limit()
    try:
        tensors = hdf5_tensors(source) if source.read_bytes()[:8] == HDF5 else _torch(source)
        if not tensors:
            raise Refused("there is no tensor in it")
        save_file(tensors, out)
    except (Refused, UnpicklingError) as error:
        return _say(error, refused=True)
    except (OSError, ValueError, KeyError, RuntimeError, EOFError, MemoryError) as error:
        return _say(error, refused=False)
    return 0


def _limit() -> None:
    for kind, most in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_CPU, SECONDS), (resource.RLIMIT_FSIZE, OUTPUT)):
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _say(error: BaseException, *, refused: bool) -> int:
    lines = str(error).splitlines() or [type(error).__name__]
    why = next((line.strip() for line in lines if "Unsupported" in line), lines[0])
    sys.stdout.write(json.dumps({"refused": refused, "why": why}) + "\n")
    return REFUSED if refused else UNREADABLE


def hdf5_tensors(path: Path) -> dict[str, Tensor]:
    """Every dataset of floats, by its path in the file. Raises Refused where one is stored outside the file."""
    import h5py
    import torch

    found: dict[str, Tensor] = {}

    def visit(name: str, node: Any) -> None:  # h5py follows no soft or external link here
        if not isinstance(node, h5py.Dataset) or node.dtype.kind != "f":
            return
        if node.external is not None or node.is_virtual:
            raise Refused(f"{name} is stored outside the file")
        found[name] = torch.from_numpy(node[...].astype("float32"))

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    return found


def _torch(path: Path) -> dict[str, Tensor]:
    import torch

    with path.open("rb") as file:
        head = file.read(8)
    if not head.startswith(TORCH):
        raise ValueError(f"it begins with {head!r}: neither HDF5 nor a file of torch (a web page saved in its place?)")
    content = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251 (this is the child process)
    if not isinstance(content, Mapping):
        raise Refused(f"it holds a {type(content).__name__}, not a dictionary of tensors")
    return dict(_flat(content))


def _flat(content: Mapping[Any, Any], before: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """Tensors by name, nested dictionaries joined by "/"; numbers and texts beside them are left out."""
    import torch

    if depth > DEEPEST:
        raise Refused("dictionaries are nested too deeply")
    for key, value in content.items():
        if isinstance(value, torch.Tensor) and isinstance(key, str):
            yield before + key, value.detach().clone().contiguous()
        elif isinstance(value, Mapping) and isinstance(key, str):
            yield from _flat(value, f"{before}{key}/", depth + 1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
